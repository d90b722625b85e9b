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
import glob
import json
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np
from comparison_workers import result_of, worker
from processes import ROOT, Processes, logged_steps, train_in_turn

import od_eval

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

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
    args = parser.parse_args()
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
    sides = {side: (trainings[side], model_dirs[side]) for side in order}
    runs, turns = train_in_turn(sides, TURNS, SECONDS_OF_A_TURN)
    for side, run in runs.items():
        points = logged_steps(model_dirs[side])
        first, last = min(points), max(points)
        note("first point of the curves", side, points[first] - run.started)
        printed = [when for when, line in run.lines if line.startswith("step ")]
        note("first logged training step", side, min([points[first], *printed]) - run.started)
        ran = [run.seconds_run(when) for when in points.values()]
        note("training", side, *(np.ptp(np.interp(turn, ran, list(points))) / np.ptp(turn) for turn in turns[side]))
        note("CPU of a training step", side, run.cpu_seconds(points[first], points[last]) / (last - first))
    logged, alone = result_of(worker("steps_in_turn", config=few, turns=TURNS, steps=STEPS_OF_A_TURN))
    note("training over its step alone", "od_eval", *logged)
    note("training over its step alone", "the step alone", *alone)

    evaluations = {"OD API": "odapi_evaluations", "od_eval": "od_eval_evaluations"}
    # The same weights; what they find is the same, too.
    evaluated = {"few": few, "many": many, "few_images": FEW_IMAGES, "model_dir": model_dirs["od_eval"]}
    for side in order:
        seconds, warm = result_of(worker(evaluations[side], **evaluated))
        note(f"evaluation of {FEW_IMAGES} images", side, seconds)
        note(f"evaluation of {MANY_IMAGES} images, warm", side, warm)

    steps, model_dirs = WHOLE_RUN_STEPS, {side: str(folder / side / "whole") for side in order}
    odapi_evaluation = worker("odapi_continuous_evaluation", config=few, model_dir=model_dirs["OD API"], steps=steps)
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


def od_eval_training(config: str, model_dir: str, steps: int, checkpoint_every_n: int, eval_every_n: int) -> list[str]:
    """The program that users start, with everything that it logs by default."""
    program = [sys.executable, str(ROOT / "scripts" / "model_main_tf2.py")]
    flags = [f"--pipeline_config_path={config}", f"--model_dir={model_dir}", f"--num_train_steps={steps}"]
    return [*program, *flags, f"--checkpoint_every_n={checkpoint_every_n}", f"--eval_every_n={eval_every_n}"]


def odapi_training(config: str, model_dir: str, steps: int, checkpoint_every_n: int) -> list[str]:
    flags = {"model_dir": model_dir, "steps": steps, "checkpoint_every_n": checkpoint_every_n}
    return worker("odapi_training", config=config, **flags)


if __name__ == "__main__":
    main()
