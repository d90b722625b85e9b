"""Keeps off the terminal what TensorFlow 2.21 writes at every start on a machine without a GPU."""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType

# Written through absl before absl knows a log level, so that TF_CPP_MIN_LOG_LEVEL changes nothing:
# https://github.com/tensorflow/tensorflow/issues/100442
_NOTICES = (
    r"^WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR$"
    r"|^I0000 .* cudart_stub\.cc:[0-9]+\] Could not find cuda drivers on your machine, GPU will not be used\.$"
)


def hide() -> None:
    """Leaves these notices out when TensorFlow is imported later in this process; all else it writes is shown."""
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _TensorFlowFinder())


class _TensorFlowFinder:
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            sys.meta_path.remove(self)  # type: ignore[arg-type]  # a finder needs no more than this method
            with _without_notices():
                execute(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@contextlib.contextmanager
def _without_notices() -> Iterator[None]:
    """Passes standard error through a grep: a process of its own shows the last words of one that is aborted."""
    try:
        terminal = os.dup(2)
        grep = subprocess.Popen(
            ["grep", "--line-buffered", "--text", "-Ev", _NOTICES],
            stdin=subprocess.PIPE,
            stdout=terminal,
            start_new_session=True,  # not ended by Ctrl-C before what it passes through
        )
    except OSError:  # no grep, or no standard error
        yield
        return
    assert grep.stdin is not None
    os.dup2(grep.stdin.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        grep.stdin.close()
        grep.wait()
