#!/usr/bin/env python3
"""Runs the Object Detection API's own unit tests on this machine's TensorFlow, through `od_eval.odapi`.

    python scripts/run_odapi_tests.py --data_dir=../shared/data/odapi_files
    python scripts/run_odapi_tests.py --only='core/*' --only='utils/np_*'

The tests are those that the installed package holds for TF2, unedited: all `*_test.py` but `*_tf1_test.py` and `nets/`.
They run in a copy of the package with the data files beside it, each file in a process of its own; four files of
dataset_tools/context_rcnn need Apache Beam (`pip install 'apache-beam[tfrecord]'`). A table by file goes
to stdout and, with --write_table, into a Markdown file, between the lines `<!-- odapi tests -->` and `<!-- end -->`.

Exit status: 0 if no test failed but those that `KNOWN_FAILURES` explains; 1 otherwise.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import fnmatch
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Sequence

# `file: test`, or several by a pattern of the shell -> why it cannot pass, which is not for od_eval to mend.
KNOWN_FAILURES: dict[str, str] = {
    **dict.fromkeys(
        (
            "builders/model_builder_test.py: ModelBuilderTest.test_create_*_from_config*",
            "builders/model_builder_test.py: ModelBuilderTest.test_invalid_f*",
            "builders/model_builder_test.py: ModelBuilderTest.test_invalid_second_stage_batch_size",
            "builders/model_builder_test.py: ModelBuilderTest.test_unknown_*_feature_extractor",
        ),
        "of an abstract base class; run for themselves in model_builder_tf2_test.py",
    ),
    "core/densepose_ops_test.py: DensePoseOpsTest.test_horizontal_flip": (
        "opens dataset_tools/densepose/UV_symmetry_transforms.mat, which neither the package nor --data_dir has"
    ),
    "core/target_assigner_test.py: CenterNetIOUTargetAssignerTest.test_exponent": (
        "asks for 7 decimal places of a float32, and is off by one in its last bit on this processor (6e-8)"
    ),
    **dict.fromkeys(
        (
            "dataset_tools/create_coco_tf_record_test.py: *.test_create_sharded_tf_record",
            "dataset_tools/create_coco_tf_record_test.py: *.test_create_tf_example",
            "dataset_tools/create_coco_tf_record_test.py: *.test_create_tf_example_with_instance_masks",
            "dataset_tools/create_kitti_tf_record_test.py: *.test_dict_to_tf_example",
            "dataset_tools/create_pascal_tf_record_test.py: *.test_dict_to_tf_example",
        ),
        "the test makes an image of random float64 numbers, which Pillow no longer takes for RGB",
    ),
    "deployment/model_deploy_test.py: *": "a test of slim, for TF1; imports slim's packages from a path of their own",
    "meta_architectures/center_net_meta_arch_tf2_test.py: *.test_non_max_suppression*": (
        "the test says int() of an array of one element, which NumPy no longer converts"
    ),
    "meta_architectures/deepmac_meta_arch_test.py: DeepMACMaskHeadTest.test_mask_network[012] *": (
        "TensorFlow's Conv2D of an empty batch has the wrong shape on processors where it uses oneDNN; passes with"
        " TF_ENABLE_ONEDNN_OPTS=0"
    ),
    "metrics/oid_vrd_challenge_evaluation_utils_test.py: *": (
        "the test compares structured arrays with assertAllEqual, which TensorFlow's no longer takes"
    ),
    "models/center_net_mobilenet_v2*_test.py: *": "downloads ImageNet weights, and there is no network",
    "models/keras_models/inception_resnet_v2_tf2_test.py: InceptionResnetV2Test.test_variable_count": (
        "the test's images of 40 pixels are too small for the network; Keras's own refuses them as well"
    ),
    **dict.fromkeys(
        (
            "utils/visualization_utils_test.py: *.test_draw_bounding_boxes_on_image_tensors",
            "utils/visualization_utils_test.py: *.test_draw_bounding_boxes_on_image_tensors_with_track_ids",
        ),
        "opens test_images/image1.jpg, which neither the package nor --data_dir has",
    ),
}

SECONDS_FOR_ONE_FILE = 3600
BEGIN, END = "<!-- odapi tests -->", "<!-- end -->"
TABLE = re.compile(f"({BEGIN}\n).*?({END})", re.DOTALL)


@dataclasses.dataclass
class FileResult:
    """What the tests of one file did; `failed` maps their names to the last line of the error."""

    file: str
    passed: list[str] = dataclasses.field(default_factory=list)
    skipped: list[str] = dataclasses.field(default_factory=list)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data_dir", type=pathlib.Path, help="folder with data/, test_data/ and samples/ of the model repository"
    )
    parser.add_argument("--only", action="append", default=[], help="files to run, like 'core/*'; default: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time")
    parser.add_argument("--write_table", type=pathlib.Path, help="Markdown file that holds the table")
    parser.add_argument("--module", help=argparse.SUPPRESS)  # what a process of its own runs
    parser.add_argument("--result", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.module:
        args.result.write_text(json.dumps(dataclasses.asdict(run_module(args.module))))
        return 0
    if args.data_dir and not (args.data_dir / "test_data").is_dir():
        parser.error(f"--data_dir={args.data_dir} holds no test_data/")
    if args.write_table and args.only:
        parser.error("--write_table is for all files; leave out --only")
    if args.write_table and not (args.write_table.is_file() and TABLE.search(args.write_table.read_text("utf-8"))):
        parser.error(f"{args.write_table} has no lines '{BEGIN}' and '{END}' to put the table between")
    with tempfile.TemporaryDirectory() as folder:
        overlay = make_overlay(pathlib.Path(folder), args.data_dir)
        files = test_files(overlay / "object_detection", args.only)
        if not files:
            parser.error(f"no test file matches {', '.join(args.only)}")
        results = run_files(files, overlay, args.jobs)
    unexpected = report(results)
    if args.write_table:
        write_table(results, args.write_table)
    return 1 if unexpected else 0


def make_overlay(folder: pathlib.Path, data_dir: pathlib.Path | None) -> pathlib.Path:
    """Copies the installed package, with the data files where its tests look for them: beside the code."""
    installed = importlib.util.find_spec("object_detection")
    if installed is None:
        sys.exit("error: the Object Detection API is not installed: pip install tf-models-research-object-detection")
    package = folder / "object_detection"
    shutil.copytree(installed.submodule_search_locations[0], package, ignore=shutil.ignore_patterns("__pycache__"))
    if data_dir:
        shutil.copytree(data_dir, package, dirs_exist_ok=True)
    return folder


def test_files(package: pathlib.Path, patterns: Sequence[str]) -> list[str]:
    """Paths in the package, the largest first, as they are likely to take longest."""
    paths = sorted(package.rglob("*_test.py"), key=lambda path: -path.stat().st_size)
    names = [path.relative_to(package).as_posix() for path in paths]
    return [
        name
        for name in names
        if not name.endswith("_tf1_test.py")
        and not name.startswith("nets/")
        and (not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns))
    ]


def run_files(files: Sequence[str], overlay: pathlib.Path, jobs: int) -> list[FileResult]:
    """Runs test files, each in its own process, and says how it goes."""
    results = []
    pool = concurrent.futures.ThreadPoolExecutor(jobs)
    try:
        running = [pool.submit(run_file, file, overlay) for file in files]
        for number, future in enumerate(concurrent.futures.as_completed(running), 1):
            result = future.result()
            results.append(result)
            print(
                f"[{number}/{len(files)}] {result.file}: {len(result.passed)} passed, {len(result.failed)} failed,"
                f" {len(result.skipped)} skipped, {result.seconds:.0f} s",
                flush=True,
            )
    finally:
        pool.shutdown(cancel_futures=True)
    return sorted(results, key=lambda result: result.file)


def run_file(file: str, overlay: pathlib.Path) -> FileResult:
    """Runs one test file in a process of its own."""
    module = "object_detection." + file.removesuffix(".py").replace("/", ".")
    result_file = overlay / f"{module}.json"
    repository = pathlib.Path(__file__).resolve().parents[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, [overlay, repository, os.environ.get("PYTHONPATH", "")])),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, __file__, f"--module={module}", f"--result={result_file}"]
    started = time.monotonic()
    try:
        process = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=SECONDS_FOR_ONE_FILE, cwd=overlay
        )
        ended = f"the process ended with status {process.returncode}: {process.stderr[-300:]}"
    except subprocess.TimeoutExpired:
        ended = f"not done after {SECONDS_FOR_ONE_FILE} s"
    if result_file.exists():
        result = FileResult(**json.loads(result_file.read_text()))
    else:
        result = FileResult(module, failed={module: ended})
    return dataclasses.replace(result, file=file, seconds=time.monotonic() - started)


def run_module(module: str) -> FileResult:
    """Runs the tests of a module in this process."""
    import tensorflow as tf
    from absl import flags

    import od_eval.odapi  # noqa: F401  makes the Object Detection API importable

    # Some tests train on /cpu:0 and /cpu:1 at once.
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    flags.FLAGS(sys.argv[:1])
    recorder = _Recorder(module)
    unittest.defaultTestLoader.loadTestsFromName(module).run(recorder)
    return recorder.file_result


class _Recorder(unittest.TestResult):
    """Keeps what each test did, under its class and method."""

    def __init__(self, module: str):
        super().__init__()
        self.file_result = FileResult(module)
        self._prefix = f"{module}."

    def _name(self, test: unittest.TestCase) -> str:
        return test.id().removeprefix(self._prefix)

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        name = self._name(test)
        if name not in self.file_result.failed and name not in self.file_result.skipped and not _is_no_test(name):
            self.file_result.passed.append(name)

    def addFailure(self, test: unittest.TestCase, err: tuple) -> None:
        kind, error, _ = err
        lines = str(error).strip().splitlines() or [""]
        self.file_result.failed[self._name(test)] = f"{kind.__name__}: {lines[-1][:200]}"

    addError = addFailure

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: tuple | None) -> None:
        if err:
            self.addFailure(test, err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        if not _is_no_test(self._name(test)):
            self.file_result.skipped.append(self._name(test))


def _is_no_test(name: str) -> bool:
    """`tf.test.TestCase.test_session` is a context manager, which skips itself when it is taken for a test."""
    return name.endswith(".test_session")


def known_reason(file: str, test: str) -> str | None:
    """Why a test cannot pass, if that is known."""
    name = f"{file}: {test}"
    return next((why for pattern, why in KNOWN_FAILURES.items() if fnmatch.fnmatchcase(name, pattern)), None)


def report(results: Sequence[FileResult]) -> list[str]:
    """Prints sums and failures; returns the tests that failed without a known reason."""
    unexpected = []
    for result in results:
        for test, error in result.failed.items():
            reason = known_reason(result.file, test)
            print(f"FAILED {result.file}: {test}\n    {error}\n    {'known: ' + reason if reason else 'not known'}")
            if reason is None:
                unexpected.append(test)
        for test in result.passed:
            if known_reason(result.file, test):
                print(f"PASSED {result.file}: {test}\n    though it is known to fail")
    passed, failed, skipped = (
        sum(len(getattr(result, of)) for result in results) for of in ("passed", "failed", "skipped")
    )
    print(f"{len(results)} files: {passed} passed, {failed} failed ({len(unexpected)} unexpected), {skipped} skipped")
    return unexpected


def write_table(results: Sequence[FileResult], path: pathlib.Path) -> None:
    """Puts the table by file into a Markdown file, in place of the one that is there."""
    rows = ["| file | passed | skipped | failed |", "| --- | ---: | ---: | ---: |"]
    columns = ("passed", "skipped", "failed")
    for result in results:
        rows.append(f"| `{result.file}` | " + " | ".join(str(len(getattr(result, of))) for of in columns) + " |")
    sums = [sum(len(getattr(result, of)) for result in results) for of in columns]
    rows.append(f"| **{len(results)} files** | " + " | ".join(f"**{number}**" for number in sums) + " |")
    reasons: dict[str, list[str]] = {}
    for result in results:
        for test in result.failed:
            reasons.setdefault(known_reason(result.file, test) or "not known", []).append(
                f"`{result.file}`: `{test.replace('|', chr(92) + '|')}`"
            )
    if reasons:
        rows += ["", "| reason | tests that fail |", "| --- | --- |"]
        rows += [f"| {reason} | {'<br>'.join(tests)} |" for reason, tests in sorted(reasons.items())]
    table = "\n".join(rows)
    text = path.read_text(encoding="utf-8")
    path.write_text(TABLE.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
