"""What TensorFlow writes when it starts: a package of that name stands in for it."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTICES = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    "I0000 00:00:1795751910.216303    2929 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will not"
    " be used.\n"
)
OTHERS = "E0000 00:00:1795751910.3 2929 cuda_platform.cc:52] failed call to cuInit\nnot \udcff UTF-8 WARNING: All\n"


def start(folder: Path, then: str, code: str = "", closed: int | None = None) -> "subprocess.CompletedProcess[str]":
    """Imports a `tensorflow` that writes notices and other lines and goes on with `then`; `code` comes afterwards."""
    (folder / "tensorflow").mkdir()
    (folder / "tensorflow" / "__init__.py").write_text(
        "import os, sys\n"
        f"if sys.stderr: os.write(2, {(NOTICES + OTHERS + NOTICES).encode(errors='surrogateescape')!r})\n{then}\n"
    )
    code = f"from od_eval import start_notices; start_notices.hide()\nimport tensorflow\n{code}"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"]
    close = functools.partial(os.close, closed) if closed else None
    return subprocess.run(
        command, capture_output=True, text=True, errors="surrogateescape", check=False, preexec_fn=close
    )


def test_all_but_the_notices_is_shown_and_afterwards_everything(tmp_path):
    done = start(tmp_path, "VALUE = 3", f"import os; os.write(2, {NOTICES.encode()!r}); print(tensorflow.VALUE)")
    assert (done.returncode, done.stdout) == (0, "3\n")
    assert done.stderr == OTHERS + NOTICES


@pytest.mark.parametrize(
    ("then", "last"),
    [("raise ImportError('no AVX')", "ImportError: no AVX\n"), ("os.write(2, b'no AVX\\n'); os.abort()", "no AVX\n")],
)
def test_the_last_words_of_one_that_cannot_start_are_shown(tmp_path, then, last):
    done = start(tmp_path, then)
    assert done.returncode != 0
    assert done.stderr.startswith(OTHERS)
    assert done.stderr.endswith(last)


def test_without_standard_error_it_starts_all_the_same(tmp_path):
    done = start(tmp_path, "", "print('started')", closed=2)
    assert done.stdout == "started\n"
