#!/usr/bin/env python3
"""od_eval against the Object Detection API's own loops: the same work, in turn, in one run.

    od-eval convert --images=../shared/data/raccoon/images --annotations=../shared/data/raccoon/annotations \
        --output_dir=/tmp/raccoon --validation_fraction=0.2
    python benchmarks/compare_with_odapi.py --data_dir=/tmp/raccoon --json=/tmp/compare.json

The Object Detection API's `model_lib_v2` is not changed; `od_eval.odapi` makes it run on current TensorFlow. It is
given `num_steps_per_iteration=10`, so that it logs every 10 steps as od_eval does by default: with the 100 that its
driver model_main_tf2.py leaves it at, the first point would come 90 steps later. Each measurement is made in processes
of its own, and the two sides alternate. A figure is the median over the rounds, with the smallest and the largest.

The first training step is logged when its losses can be read: od_eval prints them, the Object Detection API's loop
writes its first point to TensorBoard at step 10. The first point of the curves is that of step 10 on both sides.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import glob
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence

import psutil

import od_eval
from od_eval.odapi import compat

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

ROOT = pathlib.Path(__file__).resolve().parent.parent
SAMPLE_SECONDS = 1.0
RESULT = "result:"  # what a worker's line begins with
FEW_IMAGES = 40  # in the validation records
MANY_IMAGES = 520
CHECKPOINT_EVERY_N = 1000  # the default of both sides
EVAL_EVERY_N = 50  # in the whole run, and as often a checkpoint
EVALUATIONS = 2  # of the few images; the first is not counted


@dataclasses.dataclass(frozen=True)
class Case:
    """A config and how long it is trained."""

    config: str
    overrides: tuple[str, ...]
    steps: int  # for the speed of training
    whole_run_steps: int  # with four evaluations; 0: not measured


CASES = {
    "ssd": Case(
        "ssd_mobilenet_v2_raccoon_224x224.config",
        (
            "model.ssd.image_resizer.fixed_shape_resizer.height=320",
            "model.ssd.image_resizer.fixed_shape_resizer.width=320",
            "train_config.batch_size=8",
        ),
        steps=60,
        whole_run_steps=200,
    ),
    "faster_rcnn": Case(
        "faster_rcnn_resnet50_128x128.config",
        ("model.faster_rcnn.num_classes=1",),
        steps=40,
        whole_run_steps=0,
    ),
}

# figure -> (unit, goal for od_eval divided by the other, whether less is better)
GOALS = {
    "first logged training step": ("s", 0.40, True),
    "first point of the curves": ("s", 0.40, True),
    "training": ("steps/s", 1.05, False),
    "training over its step alone": ("steps/s", 0.97, False),
    f"evaluation of {FEW_IMAGES} images": ("s", 0.25, True),
    f"evaluation of {MANY_IMAGES} images, warm": ("images/s", 2.0, False),
    "whole run": ("s", 0.60, True),
    "memory of the whole run": ("MB", 0.70, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=pathlib.Path, required=True, help="what od-eval convert wrote")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=CASES, action="append", help="default: all")
    parser.add_argument("--json", type=pathlib.Path, help="file for all measurements, written after each round")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    parser.add_argument("--config", help=argparse.SUPPRESS)
    parser.add_argument("--model_dir", help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        WORKERS[args.worker](args.config, args.model_dir, args.steps)
        return
    measured: dict[str, dict[str, dict[str, list[float]]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.only or CASES:
            figures = measured.setdefault(name, {})
            few, many = write_configs(CASES[name], args.data_dir.resolve(), pathlib.Path(scratch, name))
            for round_ in range(args.rounds):
                folder = pathlib.Path(scratch, name, str(round_))
                for figure, sides in one_round(CASES[name], few, many, folder).items():
                    for side, value in sides.items():
                        figures.setdefault(figure, {}).setdefault(side, []).append(value)
                print(f"\n{name}, {round_ + 1} of {args.rounds} rounds\n\n{table(figures)}", flush=True)
                if args.json:
                    about = {"python": platform.python_version(), "cores": os.cpu_count(), "time": time.ctime()}
                    args.json.write_text(json.dumps({"about": about, "measured": measured}, indent=1))


def one_round(case: Case, few: str, many: str, folder: pathlib.Path) -> dict[str, dict[str, float]]:
    """Figure -> side -> value."""
    figures: dict[str, dict[str, float]] = {name: {} for name in GOALS}

    def note(figure: str, side: str, value: float) -> None:
        figures[figure][side] = value
        print(f"  {side:>17}: {figure}: {value:.4g} {GOALS[figure][0]}", flush=True)

    trainings = {
        "OD API": worker("odapi_training", few, str(folder / "OD API" / "train"), case.steps),
        "od_eval": od_eval_training(
            few, str(folder / "od_eval" / "train"), case.steps, CHECKPOINT_EVERY_N, eval_every_n=0
        ),
    }
    for side, training in trainings.items():
        run = Processes([training])
        run.wait()
        points = logged_steps(folder / side / "train")
        first, last = min(points), max(points)
        note("first point of the curves", side, points[first] - run.started)
        printed = [when for when, line in run.lines if line.startswith("step ")]
        note("first logged training step", side, min([points[first], *printed]) - run.started)
        note("training", side, (last - first) / (points[last] - points[first]))
    figures["training over its step alone"]["od_eval"] = figures["training"]["od_eval"]
    note("training over its step alone", "the step alone", result_of(worker("step_alone", few, "", case.steps)))

    for side, name in (("od_eval", "od_eval_evaluations"), ("OD API", "odapi_evaluations")):
        # The same weights; what they find is the same, too.
        seconds_of_few = result_of(worker(name, few, str(folder / "od_eval" / "train"), EVALUATIONS))
        seconds_of_many = result_of(worker(name, many, str(folder / "od_eval" / "train"), 1))
        note(f"evaluation of {FEW_IMAGES} images", side, statistics.median(seconds_of_few[1:]))
        # Without what an evaluation takes however many images there are: both are the first of their process.
        seconds = seconds_of_many[0] - seconds_of_few[0]
        note(f"evaluation of {MANY_IMAGES} images, warm", side, (MANY_IMAGES - FEW_IMAGES) / seconds)

    if case.whole_run_steps:
        programs = ("odapi_training_to_be_evaluated", "odapi_continuous_evaluation")
        whole_runs = {
            "od_eval": [
                od_eval_training(
                    few, str(folder / "od_eval" / "whole"), case.whole_run_steps, EVAL_EVERY_N, EVAL_EVERY_N
                )
            ],
            "OD API": [worker(name, few, str(folder / "OD API" / "whole"), case.whole_run_steps) for name in programs],
        }
        for side, commands in whole_runs.items():
            run = Processes(commands)
            run.wait()
            note("whole run", side, run.seconds)
            note("memory of the whole run", side, run.peak_megabytes)
    return {figure: sides for figure, sides in figures.items() if sides}


def write_configs(case: Case, data_dir: pathlib.Path, folder: pathlib.Path) -> tuple[str, str]:
    """The config with few images to evaluate, and with many."""
    (folder / "many").mkdir(parents=True)
    label_map, few = data_dir / "label_map.pbtxt", data_dir / "validation-?????-of-?????"
    paths = []
    for name, records in (("few", few), ("many", folder / "many.record")):
        overrides = [
            *case.overrides,
            f"train_input_reader.tf_record_input_reader.input_path={data_dir / 'train-?????-of-?????'}",
            f"train_input_reader.label_map_path={label_map}",
            f"eval_input_reader.tf_record_input_reader.input_path={records}",
            f"eval_input_reader.label_map_path={label_map}",
        ]
        if name == "many":
            repeat_records(glob.glob(str(few)), str(records))
        path = folder / name
        path.mkdir(exist_ok=True)
        od_eval.Pipeline.load(ROOT / "pipeline_configs" / case.config, overrides).save(path)
        paths.append(str(path / "pipeline.config"))
    return paths[0], paths[1]


def repeat_records(files: Sequence[str], path: str) -> None:
    """Writes the images of some record files again and again, each under a name of its own."""
    import tensorflow as tf

    records = [record.numpy() for record in tf.data.TFRecordDataset(sorted(files))]
    if len(records) != FEW_IMAGES:
        sys.exit(f"there are {len(records)} validation images, not {FEW_IMAGES}; convert as the help says")
    with tf.io.TFRecordWriter(path) as writer:
        for number in range(MANY_IMAGES):
            example = tf.train.Example.FromString(records[number % len(records)])
            example.features.feature["image/source_id"].bytes_list.value[:] = [f"{number}.jpg".encode()]
            writer.write(example.SerializeToString())


def table(figures: dict[str, dict[str, list[float]]]) -> str:
    """Markdown: the median over the rounds, smallest and largest, of both sides and of their ratio in each round."""
    lines = ["| figure | od_eval | against | ratio | goal |", "| --- | ---: | ---: | ---: | ---: |"]
    for figure, sides in figures.items():
        unit, goal, less_is_better = GOALS[figure]
        ours, (theirs_name, theirs) = sides["od_eval"], next(item for item in sides.items() if item[0] != "od_eval")
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        cells = [
            f"{figure}, {unit}",
            spread(ours),
            f"{theirs_name}: {spread(theirs)}",
            spread(ratios),
            f"{'≤' if less_is_better else '≥'} {goal:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g}–{max(values):.3g})"


# ---- Processes ------------------------------------------------------------------------------------------------------


def od_eval_training(config: str, model_dir: str, steps: int, checkpoint_every_n: int, eval_every_n: int) -> list[str]:
    """The program that users start, with everything that it logs by default."""
    program = [sys.executable, str(ROOT / "scripts" / "model_main_tf2.py")]
    flags = [f"--pipeline_config_path={config}", f"--model_dir={model_dir}", f"--num_train_steps={steps}"]
    return [*program, *flags, f"--checkpoint_every_n={checkpoint_every_n}", f"--eval_every_n={eval_every_n}"]


def worker(name: str, config: str, model_dir: str, number: int) -> list[str]:
    flags = [f"--worker={name}", f"--config={config}", f"--model_dir={model_dir}", f"--steps={number}"]
    return [sys.executable, __file__, "--data_dir=.", *flags]


class Processes:
    """Commands that run at the same time.

    Attributes:
      started: when, as `time.time()`.
      seconds: until all have ended.
      peak_megabytes: the most memory that they had together at any time, what they share counted once.
      lines: what they printed, with the time.
    """

    def __init__(self, commands: Sequence[Sequence[str]]):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.started = time.time()
        self.peak_megabytes = 0.0
        self.seconds = 0.0
        self.lines: list[tuple[float, str]] = []
        self._processes = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for command in commands
        ]

    def wait(self) -> None:
        """Until all have ended."""
        watching = threading.Thread(target=self._watch)
        watching.start()
        readers = [threading.Thread(target=self._read, args=(process,)) for process in self._processes]
        for thread in readers:
            thread.start()
        for thread in (*readers, watching):
            thread.join()
        self.seconds = time.time() - self.started
        if any(process.returncode for process in self._processes):
            sys.exit("a process that was to be measured has failed")

    def _read(self, process: subprocess.Popen) -> None:
        for line in process.stdout:
            self.lines.append((time.time(), line))
        if process.wait():
            print(" ".join(process.args), "".join(line for _, line in self.lines[-30:]), sep="\n", file=sys.stderr)

    def _watch(self) -> None:
        watched = [psutil.Process(process.pid) for process in self._processes]
        while any(process.poll() is None for process in self._processes):
            total = 0
            for process in watched:
                try:
                    total += sum(one.memory_full_info().pss for one in (process, *process.children(recursive=True)))
                except psutil.Error:  # it has just ended
                    continue
            self.peak_megabytes = max(self.peak_megabytes, total / 1e6)
            time.sleep(SAMPLE_SECONDS)


def result_of(command: Sequence[str]) -> float | list[float]:
    """What a worker measures."""
    process = Processes([command])
    process.wait()
    return json.loads(next(line for _, line in process.lines if line.startswith(RESULT)).removeprefix(RESULT))


def logged_steps(model_dir: pathlib.Path) -> dict[int, float]:
    """Step -> when its total loss was written, as `time.time()`."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    return {
        event.step: event.wall_time
        for path in model_dir.glob("train/events.out.tfevents.*")
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.tag == "Loss/total_loss"
    }


# ---- What runs in processes of their own ----------------------------------------------------------------------------


def odapi_training_loop(config: str, model_dir: str, steps: int, checkpoint_every_n: int) -> None:
    compat.install()
    from object_detection import model_lib_v2

    model_lib_v2.train_loop(
        *(config, model_dir),
        train_steps=steps,
        checkpoint_every_n=checkpoint_every_n,
        num_steps_per_iteration=10,
        save_final_config=True,
    )


def odapi_continuous_evaluation(config: str, model_dir: str, steps: int) -> None:
    """Ends when the last checkpoint of the training is evaluated."""
    compat.install()
    from object_detection import model_lib_v2

    evaluate = model_lib_v2.eager_eval_loop

    def evaluate_and_end(*args: object, **kwargs: object) -> dict:
        metrics = evaluate(*args, **kwargs)
        if int(kwargs["global_step"].numpy()) >= steps:
            sys.exit(0)
        return metrics

    model_lib_v2.eager_eval_loop = evaluate_and_end
    model_lib_v2.eval_continuously(config, model_dir=model_dir, checkpoint_dir=model_dir, wait_interval=1)


def odapi_evaluations(config: str, model_dir: str, times: int) -> None:
    """Evaluates the newest checkpoint again and again, as `eval_continuously` does; prints the seconds of each."""
    compat.install()
    import tensorflow as tf
    from object_detection import inputs, model_lib_v2
    from object_detection.builders import model_builder
    from object_detection.utils import config_util

    configs = config_util.get_configs_from_pipeline_file(config)
    model = model_builder.build(configs["model"], is_training=True)
    # From here on as in `eval_continuously`; its input is made once, too.
    dataset = tf.distribute.get_strategy().experimental_distribute_dataset(
        inputs.eval_input(configs["eval_config"], configs["eval_input_configs"][0], configs["model"], model=model)
    )
    step = tf.Variable(0, dtype=tf.int64)
    seconds = []
    for _ in range(times):
        tf.train.Checkpoint(step=step, model=model).restore(tf.train.latest_checkpoint(model_dir)).expect_partial()
        with tempfile.TemporaryDirectory() as run, tf.summary.create_file_writer(run).as_default():
            started = time.perf_counter()
            model_lib_v2.eager_eval_loop(model, configs, dataset, global_step=step)
            seconds.append(time.perf_counter() - started)
    print(RESULT, json.dumps(seconds))


def compiled_detector(config: str) -> tuple[od_eval.Pipeline, od_eval.Detector]:
    pipeline = od_eval.Pipeline.load(config)
    detector = od_eval.Detector(pipeline)
    detector.compile()
    return pipeline, detector


def od_eval_evaluations(config: str, model_dir: str, times: int) -> None:
    import tensorflow as tf

    pipeline, detector = compiled_detector(config)
    detector.checkpoint().restore(tf.train.latest_checkpoint(model_dir)).expect_partial()
    seconds = []
    with tempfile.TemporaryDirectory() as log_dir:
        evaluation = od_eval.DetectionEvaluation(pipeline.eval_dataset(), log_dir)
        evaluation.set_model(detector)
        for step in range(times):
            started = time.perf_counter()
            evaluation.evaluate(step)
            seconds.append(time.perf_counter() - started)
    print(RESULT, json.dumps(seconds))


def step_alone(config: str, model_dir: str, steps: int) -> None:
    """Prints the steps a second on one batch that is in memory, with nothing logged."""
    import tensorflow as tf

    from od_eval.odapi import datasets

    pipeline, detector = compiled_detector(config)
    batch = next(iter(pipeline.train_dataset()))
    dataset = datasets.without_autotuning(tf.data.Dataset.from_tensors(batch).repeat())
    detector.fit(dataset, steps_per_epoch=10, verbose=0)  # traces
    started = time.perf_counter()
    detector.fit(dataset, steps_per_epoch=steps - 10, verbose=0)
    print(RESULT, (steps - 10) / (time.perf_counter() - started))


WORKERS: dict[str, Callable[[str, str, int], None]] = {
    "odapi_training": functools.partial(odapi_training_loop, checkpoint_every_n=CHECKPOINT_EVERY_N),
    "odapi_training_to_be_evaluated": functools.partial(odapi_training_loop, checkpoint_every_n=EVAL_EVERY_N),
    "odapi_continuous_evaluation": odapi_continuous_evaluation,
    "odapi_evaluations": odapi_evaluations,
    "od_eval_evaluations": od_eval_evaluations,
    "step_alone": step_alone,
}


if __name__ == "__main__":
    main()
