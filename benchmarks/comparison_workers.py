#!/usr/bin/env python3
"""What `compare_with_odapi.py` runs in processes of its own: a command for each, what it does, and what it reports.

    with_input, alone = result_of(worker("steps_in_turn", config="pipeline.config", turns=6, steps=10))

is the same as `python benchmarks/comparison_workers.py steps_in_turn --config=pipeline.config --turns=6 --steps=10`,
whose last line is the result. Only the training with od_eval is not here: that is the program that users start.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import training
from processes import Processes

import od_eval
from od_eval.odapi import compat

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

RESULT = "result:"  # what a worker's line begins with


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worker", choices=WORKERS)
    parser.add_argument("--config", help="pipeline config of what is trained, or evaluated while it trains")
    parser.add_argument("--few", help="the config with few images to evaluate")
    parser.add_argument("--many", help="the config with many")
    parser.add_argument("--model_dir")
    for flag in ("--few_images", "--steps", "--turns", "--checkpoint_every_n"):
        parser.add_argument(flag, type=int)
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    WORKERS[given.pop("worker")](**given)


def worker(name: str, **flags: str | int) -> list[str]:
    """A command that runs one of `WORKERS`."""
    return [sys.executable, __file__, name, *(f"--{flag}={value}" for flag, value in flags.items())]


def result_of(command: Sequence[str]) -> list:
    """Runs a worker to its end.

    Returns:
      What it reports by `print_result`.
    """
    process = Processes([command])
    process.wait()
    return json.loads(next(line for _, line in process.lines if line.startswith(RESULT)).removeprefix(RESULT))


def print_result(result: list) -> None:
    print(RESULT, json.dumps(result))


def train_with_odapi(config: str, model_dir: str, steps: int, checkpoint_every_n: int) -> None:
    compat.install()
    import tensorflow as tf
    from object_detection import model_lib_v2

    # Points can be seen when they are written, not two minutes later.
    summary = tf.compat.v2.summary
    summary.create_file_writer = functools.partial(summary.create_file_writer, flush_millis=0)
    model_lib_v2.train_loop(
        *(config, model_dir),
        train_steps=steps,
        checkpoint_every_n=checkpoint_every_n,
        num_steps_per_iteration=10,
        save_final_config=True,
    )


def evaluate_continuously_with_odapi(config: str, model_dir: str, steps: int) -> None:
    """Ends when the last checkpoint of the training is evaluated."""
    compat.install()
    from object_detection import model_lib_v2

    evaluate = model_lib_v2.eager_eval_loop

    def evaluate_and_end(*positional: object, **named: object) -> dict:
        metrics = evaluate(*positional, **named)
        if int(named["global_step"].numpy()) >= steps:
            sys.exit(0)
        return metrics

    model_lib_v2.eager_eval_loop = evaluate_and_end
    model_lib_v2.eval_continuously(config, model_dir=model_dir, checkpoint_dir=model_dir, wait_interval=1)


def evaluate_with_odapi(few: str, many: str, few_images: int, model_dir: str) -> None:
    """Evaluates the newest checkpoint as `eval_continuously` does."""
    compat.install()
    import tensorflow as tf
    from object_detection import inputs, model_lib_v2
    from object_detection.builders import model_builder
    from object_detection.utils import config_util

    configs = {path: config_util.get_configs_from_pipeline_file(path) for path in (few, many)}
    model = model_builder.build(configs[few]["model"], is_training=True)
    step = tf.Variable(0, dtype=tf.int64)

    def dataset(path: str) -> tf.data.Dataset:
        config = configs[path]
        return inputs.eval_input(config["eval_config"], config["eval_input_configs"][0], config["model"], model=model)

    def evaluate(dataset: Watched, path: str) -> None:
        tf.train.Checkpoint(step=step, model=model).restore(tf.train.latest_checkpoint(model_dir)).expect_partial()
        with tempfile.TemporaryDirectory() as run, tf.summary.create_file_writer(run).as_default():
            model_lib_v2.eager_eval_loop(model, configs[path], dataset, global_step=step)

    print_evaluations(few, many, few_images, dataset, evaluate)


def evaluate_with_od_eval(few: str, many: str, few_images: int, model_dir: str) -> None:
    import tensorflow as tf

    from od_eval.callbacks.evaluation_set import EvaluationSet
    from od_eval.odapi.kept_in_memory import KeptInMemory

    detector = od_eval.Detector(od_eval.Pipeline.load(few))
    detector.compile()
    detector.checkpoint().restore(tf.train.latest_checkpoint(model_dir)).expect_partial()

    def evaluate(dataset: Watched, path: str) -> None:
        with tempfile.TemporaryDirectory() as log_dir:
            EvaluationSet(dataset, log_dir).evaluate(detector, step=0)

    def dataset(path: str) -> KeptInMemory:  # as `od-eval train` does
        return KeptInMemory(od_eval.Pipeline.load(path).eval_dataset())

    print_evaluations(few, many, few_images, dataset, evaluate)


def print_evaluations(
    few: str,
    many: str,
    few_images: int,
    dataset: Callable[[str], Iterable],
    evaluate: Callable[[Watched, str], None],
) -> None:
    """Prints the seconds of the second evaluation of few images, and of many the images a second once it is warm.

    Args:
      few: the config with few images to evaluate.
      many: the config with many.
      few_images: how many they are, and after how many of the many it is warm.
      dataset: makes the dataset of evaluation of a config.
      evaluate: evaluates the dataset of a config.
    """
    few_watched, many_watched = Watched(dataset(few), few_images), Watched(dataset(many), few_images)
    evaluate(few_watched, few)
    started = time.perf_counter()
    evaluate(few_watched, few)
    seconds = time.perf_counter() - started
    evaluate(many_watched, many)
    print_result([seconds, many_watched.images / (time.perf_counter() - many_watched.since)])


class Watched:
    """A dataset of evaluation that counts its images, and looks at the clock, once the first few are evaluated."""

    def __init__(self, dataset: Iterable, few_images: int):
        self._dataset = dataset
        self._few_images = few_images

    def __iter__(self) -> Iterator:
        self.images = before = 0
        for features, labels in self._dataset:
            if before >= self._few_images:
                if not self.images:
                    self.since = time.perf_counter()
                self.images += len(features["image"])
            before += len(features["image"])
            yield features, labels


def steps_in_turn(config: str, turns: int, steps: int) -> None:
    """Prints steps a second with input and logging, and of the step alone, turn by turn."""
    print_result(list(training.steps_in_turn(od_eval.Pipeline.load(config), turns, steps).values()))


WORKERS: dict[str, Callable[..., None]] = {
    "odapi_training": train_with_odapi,
    "odapi_continuous_evaluation": evaluate_continuously_with_odapi,
    "odapi_evaluations": evaluate_with_odapi,
    "od_eval_evaluations": evaluate_with_od_eval,
    "steps_in_turn": steps_in_turn,
}


if __name__ == "__main__":
    main()
