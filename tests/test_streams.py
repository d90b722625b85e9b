"""Output that never ends a program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PROGRAM = """
import os, sys
from od_eval.streams import make_unfailing
make_unfailing()
make_unfailing()
for index in range(20000):
    print("step", index, "…\\ud800\\x1b[2J", flush=index % 1000 == 0)
print("warning …", file=sys.stderr)
os.write(3, b"came to the end")
"""


@pytest.mark.parametrize(
    "shell",
    ["{} | head -n 1", "{} > /dev/full", "{} > /dev/full 2>&1", "{} >&-", "PYTHONIOENCODING=ascii {}", "{} 2>&-"],
)
def test_a_program_comes_to_its_end_whatever_becomes_of_its_output(tmp_path, shell):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    command = shell.format(f"{sys.executable} {script} 3> {tmp_path}/end")
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        timeout=60,
    )
    assert (tmp_path / "end").read_text() == "came to the end"
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert "BrokenPipe" not in result.stderr
    assert "\x1b" not in result.stdout
    if "ascii" in shell:
        assert result.stdout.startswith("step 0 \\u2026\\ud800\\x1b[2J\n")
