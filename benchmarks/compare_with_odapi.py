#!/usr/bin/env python3
"""od_eval against the Object Detection API's own loops: the same work, in turn, in one run.

    od-eval convert --images=../shared/data/raccoon/images --annotations=../shared/data/raccoon/annotations \
        --output_dir=/tmp/raccoon --validation_fraction=0.2
    python benchmarks/compare_with_odapi.py --data_dir=/tmp/raccoon --json=/tmp/compare.json

The Object Detection API's `model_lib_v2` is not changed; `od_eval.odapi` makes it run on current TensorFlow. It is
given `num_steps_per_iteration=10`, so that it logs every 10 steps as od_eval does by default: with the 100 that its
driver model_main_tf2.py leaves it at, the first point would come 90 steps later. The two sides alternate, each in
processes of its own, and take turns in who begins. A figure is the median over the rounds, with the smallest and the
largest.

The first training step is logged when its losses can be read: od_eval prints them, the Object Detection API's loop
writes its first point to TensorBoard at step 10. The first point of the curves is that of step 10 on both sides.

The speed of this machine changes within minutes by more than the two sides differ. So once both programs have written
their first point, they train in turns of some seconds, the one stopped (SIGSTOP) while the other trains; training over
its step alone takes turns, too, within one process. These figures are over the turns of all rounds.

What od_eval evaluates is read once and kept in memory, if it takes no more than 500 MB, as in `od-eval train`: the few
images are in memory when the clock runs, the many are not.
"""

from __future__ import annotations

import argparse
import functools
import glob
import json
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import psutil
import training

import od_eval
from od_eval.odapi import compat

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

ROOT = pathlib.Path(__file__).resolve().parent.parent
SAMPLE_SECONDS = 1.0
RESULT = "result:"  # what a worker's line begins with
FEW_IMAGES = 40  # in the validation records
MANY_IMAGES = 520
CHECKPOINT_EVERY_N = 1000  # the default of both sides
WHOLE_RUN_STEPS = 200
EVAL_EVERY_N = 50  # in the whole run, and as often a checkpoint
TURNS = 6  # of what is measured in turn in each round
SECONDS_OF_A_TURN = 15  # of the programs that train
STEPS_OF_A_TURN = 10  # with input and logging, and of the step alone
MORE_STEPS_THAN_TURNS_TAKE = 100_000

CASES = {  # name -> config and overrides
    "ssd": (
        "ssd_mobilenet_v2_raccoon_224x224.config",
        [
            "model.ssd.image_resizer.fixed_shape_resizer.height=320",
            "model.ssd.image_resizer.fixed_shape_resizer.width=320",
            "train_config.batch_size=8",
        ],
    ),
    "faster_rcnn": ("faster_rcnn_resnet50_128x128.config", ["model.faster_rcnn.num_classes=1"]),
}

# figure -> (unit, goal for od_eval divided by the other, whether less is better)
GOALS: dict[str, tuple[str, float | None, bool]] = {
    "first logged training step": ("s", 0.40, True),
    "first point of the curves": ("s", 0.40, True),
    "training": ("steps/s", 1.05, False),
    "CPU of a training step": ("s", None, True),  # which a machine shared with others does not slow down
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
    for flag in ("--few", "--many", "--model_dir"):
        parser.add_argument(flag, help=argparse.SUPPRESS)
    for flag in ("--steps", "--checkpoint_every_n"):
        parser.add_argument(flag, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        WORKERS[args.worker](args)
        return
    measured: dict[str, dict[str, dict[str, list[float]]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.only or CASES:
            figures = measured.setdefault(name, {})
            few, many = write_configs(*CASES[name], args.data_dir.resolve(), pathlib.Path(scratch, name))
            for round_ in range(args.rounds):
                folder = pathlib.Path(scratch, name, str(round_))
                order = ("OD API", "od_eval") if round_ % 2 == 0 else ("od_eval", "OD API")
                for figure, sides in one_round(few, many, folder, order).items():
                    for side, values in sides.items():
                        figures.setdefault(figure, {}).setdefault(side, []).extend(values)
                print(f"\n{name}, {round_ + 1} of {args.rounds} rounds\n\n{table(figures)}", flush=True)
                if args.json:
                    about = {"python": platform.python_version(), "cores": os.cpu_count(), "time": time.ctime()}
                    args.json.write_text(json.dumps({"about": about, "measured": measured}, indent=1))


def one_round(few: str, many: str, folder: pathlib.Path, order: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Figure -> side -> what was measured, once or several times; the sides in turn, in this order."""
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in GOALS}

    def note(figure: str, side: str, *values: float) -> None:
        figures[figure][side] = list(values)
        print(f"  {side:>17}: {figure}: {' '.join(f'{value:.4g}' for value in values)} {GOALS[figure][0]}", flush=True)

    model_dirs = {side: str(folder / side / "train") for side in order}
    flags = {"steps": MORE_STEPS_THAN_TURNS_TAKE, "checkpoint_every_n": CHECKPOINT_EVERY_N}
    trainings = {
        "OD API": odapi_training(few, model_dirs["OD API"], **flags),
        "od_eval": od_eval_training(few, model_dirs["od_eval"], **flags, eval_every_n=0),
    }
    runs, turns = train_in_turn({side: (trainings[side], model_dirs[side]) for side in order})
    for side, run in runs.items():
        points = logged_steps(model_dirs[side])
        first, last = min(points), max(points)
        note("first point of the curves", side, points[first] - run.started)
        printed = [when for when, line in run.lines if line.startswith("step ")]
        note("first logged training step", side, min([points[first], *printed]) - run.started)
        ran = [run.seconds_run(when) for when in points.values()]
        note("training", side, *(np.ptp(np.interp(turn, ran, list(points))) / np.ptp(turn) for turn in turns[side]))
        note("CPU of a training step", side, run.cpu_seconds(points[first], points[last]) / (last - first))
    logged, alone = result_of(worker("steps_in_turn", few=few))
    note("training over its step alone", "od_eval", *logged)
    note("training over its step alone", "the step alone", *alone)

    evaluations = {"OD API": "odapi_evaluations", "od_eval": "od_eval_evaluations"}
    for side in order:
        # The same weights; what they find is the same, too.
        seconds, warm = result_of(worker(evaluations[side], few=few, many=many, model_dir=model_dirs["od_eval"]))
        note(f"evaluation of {FEW_IMAGES} images", side, seconds)
        note(f"evaluation of {MANY_IMAGES} images, warm", side, warm)

    steps, model_dirs = WHOLE_RUN_STEPS, {side: str(folder / side / "whole") for side in order}
    odapi_evaluation = worker("odapi_continuous_evaluation", few=few, model_dir=model_dirs["OD API"], steps=steps)
    whole_runs = {
        "OD API": [odapi_training(few, model_dirs["OD API"], steps, EVAL_EVERY_N), odapi_evaluation],
        "od_eval": [od_eval_training(few, model_dirs["od_eval"], steps, EVAL_EVERY_N, EVAL_EVERY_N)],
    }
    for side in order:
        run = Processes(whole_runs[side])
        run.wait()
        note("whole run", side, run.seconds)
        note("memory of the whole run", side, run.peak_megabytes)
    return figures


def train_in_turn(
    sides: dict[str, tuple[list[str], str]],
) -> tuple[dict[str, Processes], dict[str, list[tuple[float, float]]]]:
    """Starts one program after the other, each alone up to its first point, and then lets them train in turns.

    Args:
      sides: side -> its command and model_dir.

    Returns:
      side -> its processes, which have ended; side -> when its turns began and ended, in seconds that it had run.
    """
    runs: dict[str, Processes] = {}
    turns: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}

    def wait_for_a_point_after(step: int, side: str) -> None:
        while max(logged_steps(sides[side][1]), default=0) <= step:
            if not runs[side].are_running():
                runs[side].wait()
            time.sleep(SAMPLE_SECONDS)

    try:
        for side, (command, _) in sides.items():
            runs[side] = Processes([command])
            wait_for_a_point_after(0, side)
            runs[side].pause()
        for turn in range(TURNS):
            for side in list(sides) if turn % 2 == 0 else reversed(sides):
                run = runs[side]
                run.resume()
                since = run.seconds_run(time.time())
                time.sleep(SECONDS_OF_A_TURN)
                turns[side].append((since, run.seconds_run(time.time())))
                run.pause()
        for side, run in runs.items():
            run.resume()
            wait_for_a_point_after(max(logged_steps(sides[side][1])), side)  # its last turn lies between two points
            run.stop()
    except BaseException:  # Ctrl-C, too: nobody else would end a program that is stopped
        for run in runs.values():
            run.kill()
        raise
    return runs, turns


def write_configs(
    config: str, case_overrides: Sequence[str], data_dir: pathlib.Path, folder: pathlib.Path
) -> tuple[str, str]:
    """The config with few images to evaluate, and with many."""
    (folder / "many").mkdir(parents=True)
    label_map, few = data_dir / "label_map.pbtxt", data_dir / "validation-?????-of-?????"
    paths = []
    for name, records in (("few", few), ("many", folder / "many.record")):
        overrides = [
            *case_overrides,
            f"train_input_reader.tf_record_input_reader.input_path={data_dir / 'train-?????-of-?????'}",
            f"train_input_reader.label_map_path={label_map}",
            f"eval_input_reader.tf_record_input_reader.input_path={records}",
            f"eval_input_reader.label_map_path={label_map}",
        ]
        if name == "many":
            repeat_records(glob.glob(str(few)), str(records))
        path = folder / name
        path.mkdir(exist_ok=True)
        od_eval.Pipeline.load(ROOT / "pipeline_configs" / config, overrides).save(path)
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
    """Markdown: median, smallest and largest of both sides, and of their ratio in each round or turn."""
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
            f"{'≤' if less_is_better else '≥'} {goal:.2f}" if goal else "",
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


def odapi_training(config: str, model_dir: str, steps: int, checkpoint_every_n: int) -> list[str]:
    flags = {"model_dir": model_dir, "steps": steps, "checkpoint_every_n": checkpoint_every_n}
    return worker("odapi_training", few=config, **flags)


def worker(name: str, **flags: str | int) -> list[str]:
    """A command that runs one of `WORKERS`."""
    given = [f"--{flag}={value}" for flag, value in flags.items()]
    return [sys.executable, __file__, "--data_dir=.", f"--worker={name}", *given]


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
        self._pauses: list[list[float]] = []  # when they began and, where it is over, when they ended
        self._cpu: list[tuple[float, float]] = []  # when, as `time.time()`, and the seconds until then
        self._processes = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for command in commands
        ]
        self._threads = [threading.Thread(target=self._watch)]
        self._threads += [threading.Thread(target=self._read, args=(process,)) for process in self._processes]
        for thread in self._threads:
            thread.start()

    def are_running(self) -> bool:
        return any(process.poll() is None for process in self._processes)

    def wait(self) -> None:
        """Until all have ended."""
        self._join()
        if any(process.returncode for process in self._processes):
            for process in self._processes:
                print(" ".join(process.args), file=sys.stderr)
            sys.exit("".join(line for _, line in self.lines[-30:]) + "a process that was to be measured has failed")

    def stop(self) -> None:
        """Asks all to end, and waits until they have."""
        for process in self._processes:
            process.terminate()
        self._join()

    def kill(self) -> None:
        """Ends all at once, paused ones, too."""
        for process in self._processes:
            process.kill()
        self._join()

    def pause(self) -> None:
        self._pauses.append([time.time()])
        for process in self._processes:
            process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGCONT)
        self._pauses[-1].append(time.time())

    def seconds_run(self, when: float) -> float:
        """How long they had run, without pauses, at a point of time as `time.time()`."""
        return when - self.started - sum(max(0.0, min(when, until) - since) for since, until in self._pauses)

    def cpu_seconds(self, since: float, until: float) -> float:
        """How long cores were at work, between two points of time as `time.time()`."""
        before, after = np.interp([since, until], *zip(*self._cpu, strict=True))
        return after - before

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()
        self.seconds = time.time() - self.started

    def _read(self, process: subprocess.Popen) -> None:
        for line in process.stdout:
            self.lines.append((time.time(), line))
        process.wait()

    def _watch(self) -> None:
        watched = [psutil.Process(process.pid) for process in self._processes]
        while self.are_running():
            memory = cpu = 0
            complete = True
            for process in watched:
                try:
                    for one in (process, *process.children(recursive=True)):
                        memory += one.memory_full_info().pss
                        cpu += sum(one.cpu_times()[:2])  # of the user and the system
                except psutil.Error:  # it has just ended
                    complete = False
            self.peak_megabytes = max(self.peak_megabytes, memory / 1e6)
            if complete:
                self._cpu.append((time.time(), cpu))
            time.sleep(SAMPLE_SECONDS)


def result_of(command: Sequence[str]) -> list:
    """What a worker prints as its result."""
    process = Processes([command])
    process.wait()
    return json.loads(next(line for _, line in process.lines if line.startswith(RESULT)).removeprefix(RESULT))


def logged_steps(model_dir: str) -> dict[int, float]:
    """Step -> when its total loss was written, as `time.time()`, in order."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    points = {
        event.step: event.wall_time
        for path in glob.glob(os.path.join(model_dir, "train", "events.out.tfevents.*"))
        for event in EventFileLoader(path).Load()
        for value in event.summary.value
        if value.tag == "Loss/total_loss"
    }
    return dict(sorted(points.items()))


# ---- What runs in processes of their own ----------------------------------------------------------------------------


def train_with_odapi(args: argparse.Namespace) -> None:
    compat.install()
    import tensorflow as tf
    from object_detection import model_lib_v2

    # Points can be seen when they are written, not two minutes later.
    summary = tf.compat.v2.summary
    summary.create_file_writer = functools.partial(summary.create_file_writer, flush_millis=0)
    model_lib_v2.train_loop(
        *(args.few, args.model_dir),
        train_steps=args.steps,
        checkpoint_every_n=args.checkpoint_every_n,
        num_steps_per_iteration=10,
        save_final_config=True,
    )


def evaluate_continuously_with_odapi(args: argparse.Namespace) -> None:
    """Ends when the last checkpoint of the training is evaluated."""
    compat.install()
    from object_detection import model_lib_v2

    evaluate = model_lib_v2.eager_eval_loop

    def evaluate_and_end(*positional: object, **named: object) -> dict:
        metrics = evaluate(*positional, **named)
        if int(named["global_step"].numpy()) >= args.steps:
            sys.exit(0)
        return metrics

    model_lib_v2.eager_eval_loop = evaluate_and_end
    model_lib_v2.eval_continuously(args.few, model_dir=args.model_dir, checkpoint_dir=args.model_dir, wait_interval=1)


def evaluate_with_odapi(args: argparse.Namespace) -> None:
    """Evaluates the newest checkpoint as `eval_continuously` does."""
    compat.install()
    import tensorflow as tf
    from object_detection import inputs, model_lib_v2
    from object_detection.builders import model_builder
    from object_detection.utils import config_util

    configs = {path: config_util.get_configs_from_pipeline_file(path) for path in (args.few, args.many)}
    model = model_builder.build(configs[args.few]["model"], is_training=True)
    step = tf.Variable(0, dtype=tf.int64)

    def dataset(path: str) -> tf.data.Dataset:
        config = configs[path]
        return inputs.eval_input(config["eval_config"], config["eval_input_configs"][0], config["model"], model=model)

    def evaluate(dataset: Watched, path: str) -> None:
        tf.train.Checkpoint(step=step, model=model).restore(tf.train.latest_checkpoint(args.model_dir)).expect_partial()
        with tempfile.TemporaryDirectory() as run, tf.summary.create_file_writer(run).as_default():
            model_lib_v2.eager_eval_loop(model, configs[path], dataset, global_step=step)

    print_evaluations(args, dataset, evaluate)


def evaluate_with_od_eval(args: argparse.Namespace) -> None:
    import tensorflow as tf

    from od_eval.odapi.kept_in_memory import KeptInMemory

    detector = od_eval.Detector(od_eval.Pipeline.load(args.few))
    detector.compile()
    detector.checkpoint().restore(tf.train.latest_checkpoint(args.model_dir)).expect_partial()

    def evaluate(dataset: Watched, path: str) -> None:
        with tempfile.TemporaryDirectory() as log_dir:
            evaluation = od_eval.DetectionEvaluation(dataset, log_dir)
            evaluation.set_model(detector)
            evaluation.evaluate(step=0)

    # As `od-eval train` does.
    print_evaluations(args, lambda path: KeptInMemory(od_eval.Pipeline.load(path).eval_dataset()), evaluate)


def print_evaluations(
    args: argparse.Namespace, dataset: Callable[[str], Iterable], evaluate: Callable[[Watched, str], None]
) -> None:
    """Prints the seconds of the second evaluation of few images, and of many the images a second once it is warm."""
    few, many = Watched(dataset(args.few)), Watched(dataset(args.many))
    evaluate(few, args.few)
    started = time.perf_counter()
    evaluate(few, args.few)
    seconds = time.perf_counter() - started
    evaluate(many, args.many)
    print(RESULT, json.dumps([seconds, many.images / (time.perf_counter() - many.since)]))


class Watched:
    """A dataset of evaluation that counts its images, and looks at the clock, once the first few are evaluated."""

    def __init__(self, dataset: Iterable):
        self._dataset = dataset

    def __iter__(self) -> Iterator:
        self.images = before = 0
        for features, labels in self._dataset:
            if before >= FEW_IMAGES:
                if not self.images:
                    self.since = time.perf_counter()
                self.images += len(features["image"])
            before += len(features["image"])
            yield features, labels


def steps_in_turn(args: argparse.Namespace) -> None:
    """Prints steps a second with input and logging, and of the step alone, turn by turn."""
    speeds = training.steps_in_turn(od_eval.Pipeline.load(args.few), TURNS, STEPS_OF_A_TURN)
    print(RESULT, json.dumps(list(speeds.values())))


WORKERS: dict[str, Callable[[argparse.Namespace], None]] = {
    "odapi_training": train_with_odapi,
    "odapi_continuous_evaluation": evaluate_continuously_with_odapi,
    "odapi_evaluations": evaluate_with_odapi,
    "od_eval_evaluations": evaluate_with_od_eval,
    "steps_in_turn": steps_in_turn,
}


if __name__ == "__main__":
    main()
