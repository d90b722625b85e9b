"""A checkpoint and what is exported of it in several formats, side by side: AP, size, latency, memory.

rows = benchmark("runs/a", "runs/a/benchmark", ["saved_model", "int8"], num_images=500)
print(text.table(table_rows(rows)))

Each format is exported and evaluated in processes of their own: the peak of the memory of one is not that of another.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import multiprocessing
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from od_eval import files, start_notices
from od_eval.deployed.loading import load_model
from od_eval.deployed.sample import Evaluated, evaluate_sample, sample_of_pipeline
from od_eval.errors import ODEvalError
from od_eval.evaluation.analyses.comparison import ComparedScore, compare
from od_eval.evaluation.analyses.intervals import Interval, intervals
from od_eval.evaluation.coco_files import LeftOut
from od_eval.findings.shown import escaped
from od_eval.runs.analysis_files import table_csv
from od_eval.runs.model_dir import best_or_newest
from od_eval.streams import make_unfailing
from od_eval.text import number, printable

# Format -> the flags of `od-eval export` that make it.
FORMATS: dict[str, list[str]] = {
    "saved_model": ["--format=saved_model"],
    "float32": ["--format=tflite", "--quantize=none"],
    "float16": ["--format=tflite", "--quantize=float16"],
    "dynamic": ["--format=tflite", "--quantize=dynamic"],
    "int8": ["--format=tflite", "--quantize=int8"],
    "full_int8": ["--format=tflite", "--quantize=full_int8"],
}
DEFAULT_FORMATS = ("saved_model", "float32", "float16", "dynamic", "int8")
_CHECKPOINT = "checkpoint"
_PROBLEM = 10  # the column of a table that has it
_SECONDS_TO_END = 30.0  # of a process that has sent its result
_EXPORT = (sys.executable, "-c", "from od_eval.cli import main; main()", "export")


@dataclasses.dataclass(frozen=True)
class BenchmarkRow:
    """A format in the benchmark.

    Attributes:
      format: `checkpoint`, or a key of `FORMATS`.
      problem: why it cannot be made or run, a sentence; then all else is None.
      num_images: that it was evaluated on.
      ap: COCO's AP of boxes, None if it is not defined.
      ap_interval: its 95% interval.
      ap50: at an IoU of 0.50.
      compared: AP against that of the checkpoint; None for the checkpoint.
      deployment: the section of that name: latency, size, memory.
    """

    format: str
    problem: str = ""
    num_images: int | None = None
    ap: float | None = None
    ap_interval: Interval | None = None
    ap50: float | None = None
    compared: ComparedScore | None = None
    deployment: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Flat plain data, the columns of the CSV."""
        deployment = self.deployment or {}
        latency = deployment.get("latency_ms", {})
        difference = None if self.compared is None else self.compared.interval
        return {
            "format": self.format,
            "problem": self.problem,
            "num_images": self.num_images,
            "AP": self.ap,
            "AP_low": self.ap_interval and self.ap_interval.low,
            "AP_high": self.ap_interval and self.ap_interval.high,
            "AP_difference": self.compared and self.compared.difference,
            "AP_difference_low": difference and difference.low,
            "AP_difference_high": difference and difference.high,
            "AP50": self.ap50,
            "file_size": deployment.get("file_size"),
            "latency_ms_median": latency.get("median"),
            "latency_ms_percentile_95": latency.get("percentile_95"),
            "peak_memory_mb": deployment.get("peak_memory_mb"),
            "runtime": deployment.get("runtime"),
        }


def benchmark(
    model_dir: str,
    output: str,
    formats: Sequence[str] = DEFAULT_FORMATS,
    *,
    num_images: int = 500,
    num_threads: int | None = None,
    max_detections: int = 100,
    use_regular_nms: bool = True,
    num_calibration_images: int = 100,
) -> list[BenchmarkRow]:
    """Exports and evaluates formats, and writes the tables; writes progress to stdout.

    Args:
      model_dir: of the training, whose best checkpoint is taken, or else its newest.
      output: a new folder for `benchmark.csv`, `benchmark.json`, `benchmark.md`, and a folder for each exported format;
        it is written completely or not at all.
      formats: keys of `FORMATS`.
      num_images: of the first `eval_input_reader`, spread evenly over it.
      num_threads: of those that run a model; None: as many as the runtime chooses.
      max_detections, use_regular_nms: of the models for TensorFlow Lite. The defaults are as the checkpoint has it, so
        that formats differ by nothing else.
      num_calibration_images: for int8.

    Returns:
      The checkpoint, and each format. One that cannot be made or run has the reason.

    Raises:
      ODEvalError: the checkpoint cannot be evaluated, or the output cannot be written.
    """
    output = output.rstrip("/")
    with files.errors_as_sentences("output cannot be looked up"):
        if not output or files.exists(output):
            raise ODEvalError(f"output '{output}' already exists; remove it or choose another one.")
        checkpoint = best_or_newest(model_dir)
    config = os.path.join(model_dir, "pipeline.config")
    of_tflite = [f"--max_detections={max_detections}", f"--ssd_use_regular_nms={str(use_regular_nms).lower()}"]
    with (
        files.errors_as_sentences(f"'{output}' cannot be written"),
        files.new_folder(output, last=("benchmark.json", "benchmark.md", "benchmark.csv")) as temporary,
    ):
        reference = _in_its_own_process(checkpoint, config, num_images, num_threads, _CHECKPOINT)
        rows = [_row(_CHECKPOINT, reference, None)]
        for name in formats:
            folder = os.path.join(temporary, name)
            flags = [
                f"--model_dir={model_dir}",
                f"--trained_checkpoint_dir={checkpoint}",
                f"--output_directory={folder}",
            ]
            flags += FORMATS[name]
            flags += of_tflite if "--format=tflite" in flags else []
            flags += [f"--num_calibration_images={num_calibration_images}"] if name.endswith("int8") else []
            try:
                print(f"Exporting {name} …", flush=True)
                _export(flags)
                evaluated = _in_its_own_process(folder, config, num_images, num_threads, name)
                rows.append(_row(name, evaluated, reference))
            except ODEvalError as error:
                print(printable(f"{name}: {error}"), flush=True)
                rows.append(BenchmarkRow(name, str(error)))
        about = {
            "model_dir": model_dir,
            "checkpoint": reference.result.checkpoint,
            "step": reference.result.step,
            "num_threads": num_threads,
            "max_detections": max_detections,
            "regular_nms": use_regular_nms,
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        }
        _write(temporary, rows, about)
    return rows


def table_rows(rows: Sequence[BenchmarkRow]) -> list[list[str]]:
    """The benchmark as rows of cells, the first with names."""
    header = ["format", "AP", "95% interval", "AP − checkpoint", "95% interval", "AP50", "MB", "median ms", "95% ms"]
    cells = [[*header, "peak MB", "problem"]]
    for row in rows:
        flat = row.to_dict()
        size = flat["file_size"]
        difference = None if row.compared is None else row.compared.interval
        cells.append(
            [
                row.format,
                number(row.ap),
                _interval(row.ap_interval),
                "-" if flat["AP_difference"] is None else f"{flat['AP_difference']:+.4f}",
                _interval(difference, "+"),
                number(row.ap50),
                "-" if size is None else f"{size / 1e6:.2f}",
                *(
                    "-" if flat[name] is None else f"{flat[name]:.1f}"
                    for name in ("latency_ms_median", "latency_ms_percentile_95")
                ),
                "-" if flat["peak_memory_mb"] is None else f"{flat['peak_memory_mb']:.0f}",
                printable(row.problem),
            ]
        )
    return cells if any(row.problem for row in rows) else [row[:-1] for row in cells]


def what_it_rests_on(rows: Sequence[BenchmarkRow]) -> str:
    """What the numbers of a benchmark rest on, in two sentences."""
    return (
        f"AP of boxes on {rows[0].num_images} images, with 95% intervals from a bootstrap over images. Latency is from"
        " an image in memory to its detections, one at a time, on this machine; memory the peak of the process, with"
        " Python and all libraries."
    )


def _interval(interval: Interval | None, sign: str = "") -> str:
    return "-" if interval is None else f"{interval.low:{sign}.3f} to {interval.high:{sign}.3f}"


def _row(name: str, evaluated: Evaluated, reference: Evaluated | None) -> BenchmarkRow:
    metrics, table = evaluated.result.bbox or {}, evaluated.tables["bbox"]
    return BenchmarkRow(
        name,
        num_images=evaluated.result.num_images,
        ap=metrics.get("AP"),
        ap_interval=intervals(table, evaluated.confidence).overall["AP"],
        ap50=metrics.get("AP50"),
        compared=None
        if reference is None
        else compare(reference.tables["bbox"], table, reference.confidence, evaluated.confidence).overall["AP"],
        deployment=dict(evaluated.result.deployment),
    )


def _write(folder: str, rows: Sequence[BenchmarkRow], about: dict[str, Any]) -> None:
    flat = [row.to_dict() for row in rows]
    columns = [(name, [row[name] for row in flat]) for name in flat[0]]
    files.write_whole(os.path.join(folder, "benchmark.csv"), table_csv(columns))
    content = json.dumps({**about, "rows": flat}, indent=1, allow_nan=False) + "\n"
    files.write_whole(os.path.join(folder, "benchmark.json"), content)
    text = f"{_markdown_table(table_rows(rows))}\n\n{what_it_rests_on(rows)}\n"
    files.write_whole(os.path.join(folder, "benchmark.md"), text)


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a table in Markdown whose columns are aligned in the text, too."""
    cells = [[*row[:_PROBLEM], *map(escaped, row[_PROBLEM:])] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


# ---- Processes ------------------------------------------------------------------------------------------------------


def _export(flags: Sequence[str]) -> None:
    """Runs `od-eval export`; its progress is shown.

    Raises:
      ODEvalError: with its last words.
    """
    command = [*_EXPORT, *flags, "--check=false"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["it was killed"]
        raise ODEvalError(words[0].removeprefix("error: "))


def _in_its_own_process(path: str, config: str, num_images: int, num_threads: int | None, name: str) -> Evaluated:
    """Loads a model and evaluates it.

    Raises:
      ODEvalError: as `load_model` and `evaluate_sample`, or the process ended early.
    """
    print(f"Evaluating {name} …", flush=True)
    context = multiprocessing.get_context("spawn")  # not forked: nothing of this process is in its memory
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_evaluate, args=(sender, path, config, num_images, num_threads, name), daemon=True)
    try:
        process.start()
        sender.close()
        outcome = receiver.recv()
        process.join(_SECONDS_TO_END)
    except (EOFError, ConnectionResetError):
        raise ODEvalError(
            f"the process that evaluates {name} ended early, as happens when memory runs out; see above."
        ) from None
    finally:  # also if a signal interrupts
        process.kill()
        process.join()
    if isinstance(outcome, str):
        raise ODEvalError(outcome)
    evaluated: Evaluated = outcome
    return evaluated


def _evaluate(sender: Connection, path: str, config: str, num_images: int, num_threads: int | None, name: str) -> None:
    """What the process does: sends the evaluation, or the sentence of an error."""
    from absl import logging as absl_logging

    make_unfailing()
    start_notices.hide()
    absl_logging.set_verbosity(absl_logging.ERROR)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        model = load_model(path, num_threads=num_threads)
        left_out = LeftOut()
        sender.send(evaluate_sample(model, sample_of_pipeline(config, num_images, left_out), left_out, name))
    except ODEvalError as error:
        sender.send(str(error))
