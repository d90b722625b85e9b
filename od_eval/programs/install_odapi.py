"""Adds the Object Detection API to this environment, and keeps the TensorFlow that it has.

    od-eval install_odapi

`pip install od_eval` brings the Object Detection API on Python 3.10 to 3.12, and TensorFlow 2.20 with it: its packages
pin that version, and want tensorflow_io, which does not exist for Python 3.13. It needs neither. This program installs
those packages without what they require, and with what they import: for Python 3.13, and for an environment whose
TensorFlow 2.21 has to stay:

    pip install --no-deps od_eval && od-eval install_odapi

`pip check` complains about these packages from then on. docs/installation.md says which command is for whom.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
import sys

from od_eval.errors import ODEvalError

# Installed without what they require.
_WITHOUT_REQUIREMENTS = ("tf-models-official", "tf-models-research-object-detection", "lvis")
# What od_eval's use of them imports, beside the requirements of od_eval itself.
_IMPORTED = (
    "gin-config>=0.5,<1",
    "opencv-python-headless>=4.8",
    "pyyaml>=6,<7",
    "scipy>=1.10,<2",
    "six>=1.16,<2",
    "tf-slim>=1.1,<2",
)


def main() -> int:
    """Installs the packages; returns the exit status."""
    if importlib.util.find_spec("pip") is None:
        raise ODEvalError(
            f"the environment of {sys.executable} has no pip; add it, for example by `uv pip install pip`."
        )
    own = [one for one in importlib.metadata.requires("od_eval") or () if "extra ==" not in one]
    without_requirements = [one.partition(";")[0].strip() for one in own if _package(one) in _WITHOUT_REQUIREMENTS]
    own = [one for one in own if _package(one) not in _WITHOUT_REQUIREMENTS]
    try:
        kept = f"tensorflow=={importlib.metadata.version('tensorflow')}"
    except importlib.metadata.PackageNotFoundError:
        kept = "tensorflow"
    print(f"Installing what the Object Detection API imports, beside {kept.replace('==', ' ')} …", flush=True)
    # --no-warn-conflicts: that these packages pin another TensorFlow is known.
    _pip_install("--no-warn-conflicts", kept, *own, *_IMPORTED)
    print("Installing the Object Detection API …", flush=True)
    _pip_install("--no-deps", *without_requirements, "lvis>=0.5.3,<0.6")
    print("Done; `od-eval train` is ready.")
    return 0


def _pip_install(*arguments: str) -> None:
    if subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *arguments], check=False).returncode:
        raise ODEvalError("pip could not install the packages of the Object Detection API; its message stands above.")


def _package(requirement: str) -> str:
    return re.split(r"[^\w.\-]", requirement, maxsplit=1)[0].lower().replace("_", "-")
