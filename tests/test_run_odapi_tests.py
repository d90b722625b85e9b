"""scripts/run_odapi_tests.py: a part of the Object Detection API's own tests, and that it says so when one fails."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]

PACKAGE = {
    "__init__.py": "",
    "core/__init__.py": "",
    "nets/__init__.py": "",
    "core/good_test.py": """
        class GoodTest(unittest.TestCase):
            def test_passes(self):
                import tensorflow as tf
                assert tf.keras.layers.Layer.__module__.startswith("tf_keras.")
            @unittest.skip("of TF1")
            def test_skipped(self):
                raise AssertionError
    """,
    "core/bad_test.py": """
        class BadTest(unittest.TestCase):
            def test_passes(self):
                pass
            def test_fails(self):
                with self.subTest("part"):
                    self.assertEqual(1, 2)
    """,
    "core/crash_test.py": "os._exit(3)",
    "core/old_tf1_test.py": "os._exit(4)",
    "nets/net_test.py": "os._exit(5)",
}


def run(*flags, package_dir=""):
    return subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "run_odapi_tests.py", *flags],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(package_dir), str(REPOSITORY)])},
        capture_output=True,
        text=True,
        check=False,
    )


def test_failures_and_crashes_are_told_by_name_and_in_the_table(tmp_path):
    for name, code in PACKAGE.items():
        path = tmp_path / "object_detection" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import os, unittest\n" + textwrap.dedent(code))
    table = tmp_path / "table.md"
    table.write_text("# Before\n<!-- odapi tests -->\n<!-- end -->\nafter\n")
    process = run(f"--write_table={table}", package_dir=tmp_path)
    assert process.returncode == 1, process.stderr
    assert "FAILED core/bad_test.py: BadTest.test_fails\n    AssertionError: 1 != 2\n    not known" in process.stdout
    assert "the process ended with status 3" in process.stdout
    assert process.stdout.splitlines()[-1] == "3 files: 2 passed, 2 failed (2 unexpected), 1 skipped"
    lines = table.read_text().splitlines()
    assert lines[0] == "# Before"
    assert lines[-1] == "after"
    assert {"| `core/bad_test.py` | 1 | 0 | 1 |", "| `core/good_test.py` | 1 | 1 | 0 |"} < set(lines)
    assert "| **3 files** | **2** | **1** | **2** |" in lines
    before = table.read_text()
    assert run(f"--write_table={table}", package_dir=tmp_path).returncode == 1
    assert table.read_text() == before

    assert run("--only=core/good_test.py", package_dir=tmp_path).returncode == 0
    assert run("--only=core/no_such_test.py", package_dir=tmp_path).returncode == 2


def test_a_part_of_the_object_detection_apis_own_tests_passes(excerpt):
    files = (
        *("builders/dataset_builder_test.py", "builders/optimizer_builder_tf2_test.py", "core/losses_test.py"),
        *("inputs_test.py", "metrics/coco_*", "metrics/lvis_*", "utils/visualization_utils_test.py"),
    )
    process = run(f"--data_dir={excerpt / 'odapi_files'}", *(f"--only={file}" for file in files))
    assert process.returncode == 0, process.stdout
    passed, failed = re.search(r"(\d+) passed, (\d+) failed \(0 unexpected\)", process.stdout).groups()
    assert int(passed) > 100
    assert int(failed) == 2
