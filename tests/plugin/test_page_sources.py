"""The page's modules: their types (JSDoc) and their style, checked by npm packages that users never need."""

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CHECKS = "tests/plugin"
MODULES = "od_eval/plugin/static"


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder of the checks with the packages, beside a copy of the modules."""
    if shutil.which("npm") is None:
        pytest.skip("npm is absent: apt-get install npm")
    copy = tmp_path_factory.mktemp("page_sources")
    for folder in (CHECKS, MODULES):
        shutil.copytree(REPOSITORY / folder, copy / folder, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline"]
    installed = subprocess.run(install, cwd=copy / CHECKS, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"npm cannot install the packages: {installed.stderr.strip().splitlines()[0]}")
    return copy / CHECKS


@pytest.mark.parametrize("check", ["lint", "types"])
def test_the_modules_pass(checks, check):
    run = subprocess.run(["npm", "run", check], cwd=checks, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_checks_can_fail(checks):
    """A wrong type and a forbidden property are found."""
    module = checks.parents[1] / MODULES / "wrong.js"
    module.write_text("/** @type {number} */\nexport const wrong = document.body.innerHTML;\n")
    try:
        for check, message in (
            ("lint", "Text of others is never markup"),
            ("types", "is not assignable to type 'number'"),
        ):
            run = subprocess.run(["npm", "run", check], cwd=checks, capture_output=True, text=True)
            assert run.returncode != 0
            assert message in run.stdout + run.stderr
    finally:
        module.unlink()
