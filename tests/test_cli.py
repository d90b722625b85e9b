"""The console command: what its programs have in common."""

import subprocess
import sys

import pytest

from od_eval.cli import PROGRAMS, _with_flags

FLAGS = ["eval_every_n", "seed", "overwrite"]


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("add one, or train with eval_every_n=0.", "add one, or train with --eval_every_n=0."),
        ("choose another folder, or set overwrite=True.", "choose another folder, or set --overwrite=True."),
        ("pass --set eval_config.seed=3.", "pass --set eval_config.seed=3."),
        ("'runs/seed=3' and 'seed=4/a' cannot be written", "'runs/seed=3' and 'seed=4/a' cannot be written"),
        ("the seed is missing", "the seed is missing"),
        ("--seed=1", "--seed=1"),
    ],
)
def test_arguments_in_an_error_are_printed_as_flags(message, printed):
    assert _with_flags(message, FLAGS) == printed


def test_without_a_program_the_programs_are_listed():
    command = [sys.executable, "-c", "from od_eval.cli import main; main()"]
    for arguments, status in ((["--help"], 0), ([], 2), (["nothing"], 2)):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == status
        assert all(f"  {program} " in done.stdout + done.stderr for program in PROGRAMS)
