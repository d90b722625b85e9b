"""DetectionEvaluation: what it finds, where it writes it, and that nothing it does disturbs the training.

The detections here are made of arrays: at each step as many of four objects are found as a test says, so the metrics
are known beforehand. Run as a program with a folder as argument (`TF_USE_LEGACY_KERAS=0`), this module trains a Keras 3
model into it.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
sys.path.append(str(Path(__file__).parents[1]))  # for read_events, where pytest has not seen to it

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import od_eval
from od_eval import cluster
from od_eval.evaluation.coco_files import read_detections, read_groundtruth
from od_eval.evaluation.options import BOX_FORMATS
from od_eval.findings import diagnosis
from od_eval.findings.finding import Finding, findings_section
from od_eval.tensorboard import writers
from read_events import curves, shown_images, shown_tensors

KERASES = pytest.mark.parametrize("keras", ["tf_keras", "keras"], indirect=True)
AP_TAG = "DetectionBoxes_Precision/mAP"
CATEGORIES = {1: "cat", 2: "dog"}
SIZE = (64, 80)  # height and width
BOX = (10.0, 12.0, 50.0, 60.0)  # yxyx: a medium object

# Found of four objects, two of each category -> AP. Of two objects, one gives a recall of 0.5: 51 of 101 points.
AP = {0: 0.0, 1: 51 / 202, 2: 0.5, 3: 0.5 + 51 / 202, 4: 1.0}


@pytest.fixture
def keras(request) -> Any:
    """tf_keras, which `tf.keras` is in this process, or the Keras it is not."""
    return importlib.import_module(getattr(request, "param", "tf_keras"))


class Detect:
    """Four images in batches of two, each with one object, which is found in the first so many.

    Args:
      found: step -> how many of the objects are found; of other steps, all.
      change: is given every batch to change.
    """

    dataset = ((0, 1), (2, 3))

    def __init__(self, found: Mapping[int, int] | None = None, change=lambda step, batch: None):
        self._found = found or {}
        self._change = change
        self.steps: list[int] = []

    def __call__(self, model, images):
        step = int(model.optimizer.iterations)
        self.steps.append(step)
        classes = [[1 + image // 2] for image in images]
        boxes = np.array([[BOX] for _ in images])
        found = [1 if image < self._found.get(step, 4) else 0 for image in images]
        batch = od_eval.EvaluationBatch(
            image_ids=[f"image-{image}" for image in images],
            image_sizes=[SIZE] * len(images),
            detections=od_eval.Detections(boxes, [[0.75]] * len(images), classes, num=found),
            groundtruth=od_eval.GroundTruth(boxes, classes),
            losses={"total_loss": float(step + images[0])},
            images=[np.full((*SIZE, 3), 60 * image, np.uint8) for image in images],
        )
        self._change(step, batch)
        return batch


def evaluation(log_dir: Path, found=None, *, change=lambda step, batch: None, options=None, **arguments):
    arguments = {"dataset": Detect.dataset, "detect": Detect(found, change), "diagnose": False, **arguments}
    options = od_eval.EvaluationOptions(CATEGORIES, **{"num_pictures": 0, **(options or {})})
    return od_eval.DetectionEvaluation(log_dir=log_dir, options=options, **arguments)


def make_model(keras: Any, steps_per_execution: int = 1, step: int = 0) -> Any:
    """The loss of an example is its label; the optimizer is at `step`, as after a checkpoint was restored."""
    model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(
        "sgd",
        loss=lambda y, prediction: y + 0 * prediction,
        steps_per_execution=steps_per_execution,
        run_eagerly=steps_per_execution == 1,  # tracing would take longer than all the steps
    )
    model.optimizer.iterations.assign(step)
    return model


def fit(model: Any, *callbacks: Any, steps: int = 2, epochs: int = 1, **options: Any) -> dict[str, list[float]]:
    x, y = np.zeros((steps, 1), np.float32), np.ones((steps, 1), np.float32)
    options = {"verbose": 0, "shuffle": False, "batch_size": 1, "callbacks": list(callbacks), **options}
    return model.fit(x, y, epochs=epochs, **options).history


def aps(*found: int) -> list[Any]:
    return [pytest.approx(AP[number]) for number in found]


def in_files(log_dir: Path, run: str = "eval") -> dict[int, float]:
    """step -> AP"""
    return {one["step"]: one["bbox"]["AP"] for one in od_eval.load_metrics(str(log_dir), run=run, every=True)}


# ---- Logs of Keras --------------------------------------------------------------------------------------------------


@KERASES
def test_callbacks_after_it_find_the_metrics_in_the_logs_of_the_epoch(tmp_path, keras):
    stop = keras.callbacks.EarlyStopping("val_AP", mode="max", patience=1)
    table = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = fit(make_model(keras), evaluation(tmp_path, {2: 1, 4: 3, 6: 3}), stop, table, epochs=5)
    assert history["val_AP"] == aps(1, 3, 3), "stopped, as the third is no better than the second"
    assert history["val_total_loss"] == [2 + 1, 4 + 1, 6 + 1], "the mean over the images of batches with 0 and 2 more"
    assert history["val_AR100"] == [pytest.approx(value) for value in (0.25, 0.75, 0.75)]
    assert "val_APm" in history
    assert "val_APs" not in history, "there is no small object"
    with (tmp_path / "log.csv").open() as file:
        assert [float(row["val_AP"]) for row in csv.DictReader(file)] == aps(1, 3, 3)


def test_a_mean_of_losses_counts_images_not_batches(tmp_path, keras):
    change = lambda step, batch: batch.losses.update(total_loss=float(len(batch.image_ids)))  # noqa: E731
    history = fit(make_model(keras), evaluation(tmp_path, dataset=[[0, 1, 2], [3]], change=change))
    assert history["val_total_loss"] == [(3 * 3 + 1) / 4]


def test_an_evaluation_may_be_every_so_many_epochs(tmp_path, keras):
    callback = evaluation(tmp_path, every_n_epochs=2)
    history = fit(make_model(keras), callback, epochs=5)
    assert [result.step for result in callback.results] == [4, 8]
    assert len(history["val_AP"]) == 2
    assert list(in_files(tmp_path)) == [4, 8]


@KERASES
@pytest.mark.parametrize(
    ("steps_per_execution", "evaluated"),
    [(1, [4, 8, 12, 16, 20]), (3, [6, 9, 13, 16, 20])],  # executions of 3, 3, 3 and 1 steps an epoch
)
def test_an_evaluation_may_be_every_so_many_steps(tmp_path, keras, steps_per_execution, evaluated):
    found = dict(zip(evaluated, (0, 1, 2, 3, 4), strict=True))
    callback = evaluation(tmp_path, found, every_n_steps=4)
    seen = {}
    look = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.update(
            {int(model.optimizer.iterations): logs["val_AP"]} if "val_AP" in logs else {}
        )
    )
    model = make_model(keras, steps_per_execution)
    history = fit(model, callback, look, steps=10, epochs=2)
    assert seen == in_files(tmp_path) == dict(zip(evaluated, aps(0, 1, 2, 3, 4), strict=True))
    assert list(curves(tmp_path / "eval")[AP_TAG]) == evaluated
    assert history["val_AP"] == aps(1, 4), "at its end, an epoch has its last evaluation in the logs"


def test_an_epoch_without_an_evaluation_has_none_in_its_logs(tmp_path, keras):
    history = fit(make_model(keras), evaluation(tmp_path, every_n_steps=5), steps=4, epochs=3)
    assert len(history["val_AP"]) == 2, "at steps 5 and 10, in the second and third epoch"


def test_the_count_of_steps_goes_on_where_a_training_goes_on(tmp_path, keras):
    callback = evaluation(tmp_path, every_n_steps=5)
    fit(make_model(keras, step=7), callback, steps=10)
    assert [result.step for result in callback.results] == [10, 15]


# ---- Beside LossLogger ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("validates", [False, True])
@pytest.mark.parametrize(("every", "steps"), [({}, [6, 12]), ({"every_n_steps": 4}, [4, 8, 12])])
def test_the_curve_of_a_loss_has_one_point_a_step_in_either_order(tmp_path, keras, order, validates, every, steps):
    validation = {"validation_data": (np.zeros((2, 1)), np.full((2, 1), 100.0))} if validates else {}
    # Under the name that Keras has for its own.
    change = lambda step, batch: batch.losses.update(loss=batch.losses.pop("total_loss"))  # noqa: E731
    callbacks = [od_eval.LossLogger(tmp_path, log_every_n_steps=3), evaluation(tmp_path, change=change, **every)]
    fit(make_model(keras), *(callbacks if order == "before" else callbacks[::-1]), steps=6, epochs=2, **validation)
    written = curves(tmp_path / "eval")  # fails where a step has two points
    evaluated = {step: step + 1 for step in steps}
    if validates:
        both = {step: 100.0 for step in (6, 12)}
        assert written["Loss/total_loss"] in ({**both, **evaluated}, {**evaluated, **both})
    else:
        assert written["Loss/total_loss"] == evaluated
    assert list(written[AP_TAG]) == steps
    assert set(curves(tmp_path / "train")) == {"Loss/total_loss", "learning_rate", "steps_per_sec"}


@pytest.mark.parametrize("order", ["before", "after"])
def test_an_evaluation_at_every_step_leaves_the_curves_of_training_alone(tmp_path, keras, order):
    callbacks = [od_eval.LossLogger(tmp_path, log_every_n_steps=1), evaluation(tmp_path, every_n_steps=1)]
    fit(make_model(keras), *(callbacks if order == "before" else callbacks[::-1]), steps=3)
    assert set(curves(tmp_path / "train")) == {"Loss/total_loss", "learning_rate", "steps_per_sec"}
    assert list(curves(tmp_path / "train")["Loss/total_loss"]) == [1, 2, 3]


@pytest.mark.parametrize("order", ["before", "after"])
def test_time_of_an_evaluation_in_the_middle_of_an_epoch_does_not_count_as_training(
    tmp_path, keras, monkeypatch, order
):
    from od_eval.callbacks import loss_logger

    now = [0.0]
    monkeypatch.setattr(loss_logger.time, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    def change(step, batch):
        wait(500.0)
        if step == 6:
            raise ValueError("no detections today")

    train = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: wait(0.5))
    callbacks = [
        od_eval.LossLogger(tmp_path, log_every_n_steps=4),
        evaluation(tmp_path, change=change, every_n_steps=2),
    ]
    fit(make_model(keras, 2), train, *(callbacks if order == "before" else callbacks[::-1]), steps=12)
    # Executions of two steps take half a second.
    assert curves(tmp_path / "train")["steps_per_sec"] == {4: 4.0, 8: 4.0, 12: 4.0}


# ---- Files and TensorBoard ------------------------------------------------------------------------------------------


def test_an_evaluation_is_in_the_files_and_in_tensorboard_at_its_step(tmp_path, keras):
    checkpoint = lambda step: f"ckpt-{step}" if step == 2 else None  # noqa: E731
    callback = evaluation(tmp_path, {2: 1, 4: 3}, checkpoint=checkpoint)
    fit(make_model(keras), callback, epochs=2)
    assert callback.run_dir == str(tmp_path / "eval")
    assert in_files(tmp_path) == dict(zip((2, 4), aps(1, 3), strict=True))
    newest = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert (newest["step"], newest["num_images"], newest["losses"]) == (4, 4, {"total_loss": 5.0})
    assert [one["checkpoint"] for one in od_eval.load_metrics(str(tmp_path), every=True)] == ["ckpt-2", None]
    with (tmp_path / "eval" / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4"]
    written = curves(tmp_path / "eval")
    assert written[AP_TAG] == {2: pytest.approx(AP[1]), 4: pytest.approx(AP[3])}
    assert written["Loss/total_loss"] == {2: 3.0, 4: 5.0}
    assert written["DetectionBoxes_PerformanceByCategory/mAP/dog"] == {2: 0.0, 4: pytest.approx(51 / 101)}
    assert callback.recorded() == callback.results
    assert "custom_scalars__config__" in shown_tensors(tmp_path / "eval")


def test_two_evaluations_beside_each_other_have_runs_and_keys_of_their_own(tmp_path, keras):
    day = evaluation(tmp_path, {2: 4, 4: 3})
    night = evaluation(tmp_path, {2: 1, 4: 2}, run="eval/night", prefix="val_night_")
    logger = od_eval.LossLogger(tmp_path)
    history = fit(make_model(keras), logger, day, night, epochs=2)
    assert history["val_AP"] == aps(4, 3)
    assert history["val_night_AP"] == aps(1, 2)
    assert list(in_files(tmp_path, "eval/night").values()) == aps(1, 2)
    assert list(in_files(tmp_path).values()) == aps(4, 3)
    assert curves(tmp_path / "eval" / "night")[AP_TAG] == {2: pytest.approx(AP[1]), 4: pytest.approx(AP[2])}
    assert not [tag for tag in curves(tmp_path / "eval") if "night" in tag]


def pictures(run_dir: Path) -> dict[str, list[int]]:
    """Tag -> steps."""
    shown = shown_images(run_dir)
    return {tag: [step for step, _ in shown[tag]] for tag in shown if tag.startswith("detections/")}


@pytest.mark.parametrize("number", [0, 3, 9])
def test_the_first_images_are_shown_over_batches(tmp_path, keras, number):
    fit(make_model(keras), evaluation(tmp_path, options={"num_pictures": number}), epochs=2)
    assert pictures(tmp_path / "eval") == {f"detections/{i}": [2, 4] for i in range(min(number, 4))}


def test_pictures_thin_out_in_a_long_run_unless_all_are_asked_for_as_files(tmp_path, keras):
    options = {"num_pictures": 1}
    fit(make_model(keras), evaluation(tmp_path / "a", options=options), steps=1, epochs=40)
    each_but_less_and_less = [*range(1, 18), *range(19, 34, 2), 36, 39]
    assert pictures(tmp_path / "a" / "eval") == {"detections/0": each_but_less_and_less}
    assert list(in_files(tmp_path / "a")) == list(range(1, 41))
    options["pictures_dir"] = str(tmp_path / "pictures")
    fit(make_model(keras), evaluation(tmp_path / "b", options=options), steps=1, epochs=19)
    assert pictures(tmp_path / "b" / "eval") == {"detections/0": list(range(1, 20))}


def test_pictures_are_files_too_where_they_are_asked_for_whatever_images_are_called(tmp_path, keras):
    names = {"image-0": "../../etc/passwd", "image-1": "a/b:c\0\n", "image-2": "", "image-3": "harmless.jpg"}

    def change(step, batch):
        batch.image_ids = [names[id] for id in batch.image_ids]

    folder = tmp_path / "pictures"
    callback = evaluation(tmp_path / "log", change=change, options={"num_pictures": 10, "pictures_dir": str(folder)})
    fit(make_model(keras), callback, epochs=2)
    assert callback.failures == []
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000002", "step-00000004"]
    files = [path for path in tmp_path.rglob("*.png") if path.is_file()]
    assert len(files) == 8
    assert {path.parent.parent for path in files} == {folder}
    assert (folder / "step-00000002" / "harmless.jpg.png").exists()
    assert all(Image.open(path).size[0] > 2 * SIZE[1] for path in files)


def test_detections_are_saved_where_it_is_asked_for_and_give_the_same_metrics(tmp_path, keras):
    fit(make_model(keras), evaluation(tmp_path, {2: 3}, options={"save_detections": True}), epochs=2)
    groundtruth = read_groundtruth(tmp_path / "eval" / "groundtruth.json")
    for step, found in ((2, 3), (4, 4)):
        evaluator = od_eval.Evaluator(groundtruth.categories, box_format="xywh")
        evaluator.update(read_detections(tmp_path / "eval" / "detections" / f"step-{step:08d}.json", groundtruth))
        assert evaluator.evaluate().bbox["AP"] == pytest.approx(AP[found])


@pytest.mark.parametrize("box_format", BOX_FORMATS)
def test_boxes_may_be_in_any_format(tmp_path, keras, box_format):
    ymin, xmin, ymax, xmax = BOX
    if box_format.startswith("rel_"):
        ymin, xmin, ymax, xmax = ymin / SIZE[0], xmin / SIZE[1], ymax / SIZE[0], xmax / SIZE[1]
    numbers = {
        "yxyx": (ymin, xmin, ymax, xmax),
        "xyxy": (xmin, ymin, xmax, ymax),
        "xywh": (xmin, ymin, xmax - xmin, ymax - ymin),
    }[box_format.removeprefix("rel_")]

    def change(step, batch):
        batch.detections.boxes = batch.groundtruth.boxes = [[numbers]] * 2

    options = {"box_format": box_format, "save_detections": True, "num_pictures": 1}
    fit(make_model(keras), evaluation(tmp_path, {2: 3}, change=change, options=options))
    assert in_files(tmp_path) == {2: pytest.approx(AP[3])}
    [first, *_] = json.loads((tmp_path / "eval" / "groundtruth.json").read_text())["annotations"]
    assert first["bbox"] == pytest.approx([12, 10, 48, 40])
    assert first["area"] == pytest.approx(48 * 40)


def test_masks_are_evaluated_where_it_is_asked_for(tmp_path, keras):
    there = np.zeros(SIZE, np.uint8)
    there[10:50, 12:60] = 1
    half = there.copy()
    half[30:] = 0

    def change(step, batch):
        batch.groundtruth.masks = [[there]] * 2
        batch.detections.masks = [[half if step == 2 else there]] * 2

    history = fit(make_model(keras), evaluation(tmp_path, change=change, options={"masks": True}), epochs=2)
    assert history["val_AP"] == [1.0, 1.0]
    assert history["val_segm_AP50"] == [1.0, 1.0]
    assert history["val_segm_AP"] == [pytest.approx(0.1), 1.0], "of IoU 0.5 the threshold of 0.50 alone is reached"
    assert curves(tmp_path / "eval")["DetectionMasks_Precision/mAP"] == {2: pytest.approx(0.1), 4: 1.0}


def test_images_of_which_nobody_knows_what_is_there_are_looked_at_only(tmp_path, keras, capsys):
    def change(step, batch):
        batch.groundtruth = None

    options = {"num_pictures": 2, "save_detections": True}
    callback = evaluation(tmp_path, change=change, options=options)
    history = fit(make_model(keras), callback)
    assert callback.failures == []
    assert {name for name in history if name.startswith("val_")} == {"val_total_loss"}
    found = od_eval.load_metrics(str(tmp_path))
    assert (found["bbox"], found["num_images"], found["losses"]) == (None, 4, {"total_loss": 3.0})
    assert len(pictures(tmp_path / "eval")) == 2
    assert not (tmp_path / "eval" / "groundtruth.json").exists()
    assert "eval at step 2: total_loss 3  (4 images in" in capsys.readouterr().out


# ---- What is printed ------------------------------------------------------------------------------------------------


def test_every_evaluation_is_a_line_that_tells_whether_it_is_the_best_so_far(tmp_path, keras, capsys):
    fit(make_model(keras), evaluation(tmp_path, {2: 2, 4: 3, 6: 3, 8: 1}), epochs=4)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("eval at ")]
    assert lines[0].startswith("eval at step 2: AP 0.5  AP50 0.5  AR100 0.5  F1 0.6667  total_loss 3  (4 images in 0.")
    assert [line.partition(")")[2] for line in lines] == [
        "",
        "; the best so far, before it was 0.5 at step 2",
        "; the best was 0.7525 at step 4",
        "; the best was 0.7525 at step 4",
    ]
    fit(make_model(keras, step=8), evaluation(tmp_path, {10: 2}))
    assert "the best was 0.7525 at step 4" in capsys.readouterr().out, "also after a restart"
    fit(make_model(keras), evaluation(tmp_path, {2: 1}))
    assert "best" not in capsys.readouterr().out, "nor after a new beginning"


def test_of_masks_and_boxes_the_masks_decide_what_is_best(tmp_path, keras, capsys):
    mask = np.ones(SIZE, np.uint8)

    def change(step, batch):
        batch.groundtruth.masks = [[mask]] * 2
        batch.detections.masks = [[mask if step == 2 else 1 - mask]] * 2

    fit(make_model(keras), evaluation(tmp_path, {2: 1}, change=change, options={"masks": True}), epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("eval at step 2: segm_AP 0.2525  AP 0.2525")
    assert lines[1].endswith("; the best was 0.2525 at step 2")


# ---- What goes wrong ------------------------------------------------------------------------------------------------


@KERASES
def test_an_evaluation_that_fails_is_reported_and_the_training_goes_on(tmp_path, keras, capsys):
    def change(step, batch):
        if step == 4:
            raise ValueError("no detections today")

    callback = evaluation(tmp_path, change=change)
    model = make_model(keras)
    history = fit(model, callback, epochs=3)
    assert int(model.optimizer.iterations) == 6
    assert len(history["val_AP"]) == 2
    assert [(step, str(error)) for step, error in callback.failures] == [(4, "no detections today")]
    expected = "warning: eval: the evaluation at step 4 failed: ValueError: no detections today\n"
    assert capsys.readouterr().err == expected
    assert [result.step for result in callback.results] == [2, 6]
    assert list(in_files(tmp_path)) == list(curves(tmp_path / "eval")[AP_TAG]) == [2, 6]


def test_an_evaluation_that_fails_ends_the_training_where_it_is_asked_for(tmp_path, keras):
    def change(step, batch):
        raise ValueError("no detections today")

    callback = evaluation(tmp_path, change=change, on_error="raise")
    with pytest.raises(ValueError, match="no detections today"):
        fit(make_model(keras), callback, epochs=3)
    assert callback.failures == []


@pytest.mark.parametrize("what", ["boxes", "scores"])
def test_a_model_that_has_diverged_is_told_with_the_image(tmp_path, keras, capsys, what):
    def change(step, batch):
        if "image-3" in batch.image_ids:
            values = np.array(getattr(batch.detections, what))
            values[1] = np.nan
            setattr(batch.detections, what, values)

    fit(make_model(keras), evaluation(tmp_path, change=change, options={"num_pictures": 4}))
    error = capsys.readouterr().err
    assert "the evaluation at step 2 failed: image 'image-3': detection 0 has the" in error
    assert "see whether training has diverged" in error
    assert not (tmp_path / "eval" / "metrics.json").exists()


def test_arrays_that_do_not_fit_together_are_told_with_the_image_before_pictures_are_drawn(tmp_path, keras, capsys):
    def change(step, batch):
        batch.detections.classes = [[], []]

    fit(make_model(keras), evaluation(tmp_path, change=change, options={"num_pictures": 4}))
    assert "image 'image-0': there are 1 boxes but 0 classes of detections" in capsys.readouterr().err


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_who_interrupts_an_evaluation_interrupts_the_training(tmp_path, keras, interruption):
    def change(step, batch):
        raise interruption

    callback = evaluation(tmp_path, change=change)
    with pytest.raises(interruption):
        fit(make_model(keras), callback)
    assert callback.failures == []


def test_a_fit_that_was_interrupted_can_be_followed_by_another(tmp_path, keras):
    def change(step, batch):
        if step == 4 and len(callback.results) == 1:
            raise KeyboardInterrupt

    callback = evaluation(tmp_path, change=change)
    model = make_model(keras)
    with pytest.raises(KeyboardInterrupt):
        fit(model, callback, epochs=2)
    fit(model, callback, epochs=2)
    assert list(in_files(tmp_path)) == list(curves(tmp_path / "eval")[AP_TAG]) == [2, 6, 8]


def test_a_model_that_nobody_knows_to_ask_for_detections_is_told_so(tmp_path, keras, capsys):
    fit(make_model(keras), od_eval.DetectionEvaluation([], tmp_path))
    assert "DetectionEvaluation does not know how Sequential detects; pass detect=" in capsys.readouterr().err


def test_a_dataset_that_is_empty_is_told(tmp_path, keras, capsys):
    fit(make_model(keras), evaluation(tmp_path, dataset=[]))
    assert "there is no image to evaluate in the dataset of eval" in capsys.readouterr().err
    fit(make_model(keras), evaluation(tmp_path, dataset=iter(Detect.dataset)), epochs=2)
    assert "the evaluation at step 4 failed: there is no image to evaluate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"log_dir": ""}, "log_dir is empty"),
        ({"every_n_epochs": 0}, "every_n_epochs must be a whole number of 1 or more, not 0"),
        ({"every_n_epochs": None}, "every_n_epochs must be"),
        ({"every_n_steps": 0}, "every_n_steps must be"),
        ({"every_n_steps": 2.5}, "every_n_steps must be"),
        ({"on_error": "ignore"}, "on_error must be 'report' or 'raise', not 'ignore'"),
        ({"options": None}, "with detect, options are needed"),
    ],
)
def test_wrong_arguments_are_refused_when_the_callback_is_made(tmp_path, arguments, message):
    options = od_eval.EvaluationOptions(CATEGORIES)
    arguments = {"dataset": [], "log_dir": tmp_path, "detect": Detect(), "options": options, **arguments}
    with pytest.raises(ValueError, match=message):
        od_eval.DetectionEvaluation(**arguments)


# ---- Diagnoses ------------------------------------------------------------------------------------------------------


def finding(kind: str, severity: str = "warning", where: str = "") -> Finding:
    return Finding(kind, severity, where, f"{kind} is <seen>", "do something", evidence={"number": np.float32("nan")})


@pytest.fixture
def finds(monkeypatch):
    """Sets what the diagnoses find at a step, and returns the evidence that they were given."""
    given = []

    def finds(of_step: Mapping[int, list[Finding]]) -> list[Any]:
        def diagnose(evidence):
            given.append(evidence)
            yield from of_step.get(evidence.newest.step, [])

        monkeypatch.setattr(diagnosis, "all_diagnoses", lambda: (diagnose,))
        return given

    return finds


def kinds(log_dir: Path, run: str = "eval") -> dict[int, list[str]]:
    """Step -> kinds of its findings in the files."""
    every = od_eval.load_metrics(str(log_dir), run=run, every=True)
    return {one["step"]: [found["kind"] for found in one.get("findings", [])] for one in every}


def findings_text(log_dir: Path) -> dict[int, str]:
    return {step: text.item().decode() for step, text in shown_tensors(log_dir / "eval", "text").get("findings", [])}


def test_every_evaluation_is_diagnosed_by_the_curves_the_evaluations_so_far_and_its_objects(tmp_path, keras, finds):
    given = finds({})
    callback = evaluation(tmp_path, {2: 1, 4: 3}, diagnose=True, known=lambda: {"last_step": 70})
    fit(make_model(keras), od_eval.LossLogger(tmp_path, log_every_n_steps=1), callback, epochs=2)
    assert [[result.step for result in evidence.evaluations] for evidence in given] == [[2], [2, 4]]
    assert [evidence.curve("Loss/total_loss").steps.tolist() for evidence in given] == [[1, 2], [1, 2, 3, 4]]
    assert [(evidence.objects.kind == "detection").sum() for evidence in given] == [1, 3]
    assert {evidence.last_step for evidence in given} == {70}


def test_findings_of_the_data_and_of_the_training_are_both_in_the_files(tmp_path, keras, finds):
    finds({2: [finding("overfitting"), finding("slow", "note")], 4: []})
    of_data = findings_section([finding("objects_dropped", where="train_input_reader")])
    callback = evaluation(tmp_path, diagnose=True, findings=lambda: of_data)
    fit(make_model(keras), callback, epochs=2)
    assert callback.failures == []
    assert kinds(tmp_path) == {2: ["objects_dropped", "overfitting", "slow"], 4: ["objects_dropped"]}
    assert od_eval.load_metrics(str(tmp_path), every=True)[0]["findings"][1]["evidence"] == {"number": None}


def test_findings_are_in_tensorboard_with_the_newest_first_and_what_is_gone_last(tmp_path, keras, finds):
    finds({2: [finding("a")], 4: [finding("a"), finding("b", "note")], 6: [finding("b", "note")]})
    fit(make_model(keras), evaluation(tmp_path, diagnose=True), epochs=3)
    lines = {step: text.splitlines() for step, text in findings_text(tmp_path).items()}
    a, b = (
        f"* **{severity}**: {kind} is &lt;seen\\>; do something."
        for kind, severity in (("a", "warning"), ("b", "note"))
    )
    assert lines == {
        2: ["**New at step 2**", "", a],
        4: ["**New at step 4**", "", b, "", "**Since step 2**", "", a],
        6: ["**Since step 4**", "", b, "", "**Not any more, last at step 4**", "", a],
    }


def test_only_new_kinds_and_those_that_got_worse_are_printed_also_after_a_restart(tmp_path, keras, finds, capsys):
    found = {
        2: [finding("a")],
        4: [finding("a"), finding("b", "note")],
        6: [finding("a", "note"), finding("b")],
        8: [finding("b"), finding("a"), finding("c", "error")],
    }
    finds(found)
    for first in (0, 4):
        fit(make_model(keras, step=first), evaluation(tmp_path, diagnose=True), epochs=2)
    printed = [
        line
        for line in capsys.readouterr().out.splitlines()
        if line.startswith(("eval at", "  warning", "  note", "  error"))
    ]
    assert [line.split(" is ")[0].split(": AP")[0] for line in printed] == [
        "eval at step 2", "  warning: a", "eval at step 4", "  note: b", "eval at step 6", "  warning: b",
        "eval at step 8", "  error: c",
    ]  # fmt: skip


def test_of_many_new_findings_the_most_important_are_printed(tmp_path, keras, finds, capsys):
    finds({2: [finding(f"kind{number}") for number in range(7)]})
    fit(make_model(keras), evaluation(tmp_path, diagnose=True))
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("  warning: kind") for line in lines) == 5
    assert "  2 more are in TensorBoard: Text, findings" in lines


def test_what_two_evaluation_sets_say_of_a_training_is_printed_once(tmp_path, keras, finds, capsys):
    finds({2: [finding("a")]})
    night = evaluation(tmp_path, run="eval/night", prefix="val_night_", diagnose=True)
    fit(make_model(keras), evaluation(tmp_path, diagnose=True), night)
    assert capsys.readouterr().out.count("a is <seen>") == 1
    assert kinds(tmp_path) == kinds(tmp_path, "eval/night") == {2: ["a"]}


def test_images_of_the_training_are_compared_with_and_not_diagnosed(tmp_path, keras, finds):
    given = finds({2: [finding("a")], 4: [finding("a")]})
    of_training = evaluation(tmp_path, {2: 4}, run="eval_train", prefix="val_train_", diagnose=True)
    fit(make_model(keras), of_training, evaluation(tmp_path, {2: 1}, diagnose=True))
    assert [result.bbox["AP"] for evidence in given for result in evidence.train_evaluations] == aps(4)
    assert kinds(tmp_path, "eval_train") == {2: []}


def test_nothing_is_diagnosed_where_it_is_not_asked_for(tmp_path, keras, finds):
    given = finds({2: [finding("a")]})
    fit(make_model(keras), evaluation(tmp_path, diagnose=False))
    assert given == []
    assert findings_text(tmp_path) == {}


def test_a_training_without_findings_has_no_text_of_them(tmp_path, keras, finds):
    finds({})
    fit(make_model(keras), evaluation(tmp_path, diagnose=True))
    assert findings_text(tmp_path) == {}


def test_diagnosing_that_fails_costs_no_metric_and_is_said(tmp_path, keras, capsys):
    def known():
        raise RuntimeError("nobody knows")

    callback = evaluation(tmp_path, {2: 1}, diagnose=True, known=known)
    fit(make_model(keras), callback)
    assert callback.failures == []
    assert in_files(tmp_path) == {2: pytest.approx(AP[1])}
    assert "the analysis 'diagnoses' failed and is left out: RuntimeError: nobody knows" in capsys.readouterr().err


def test_the_real_diagnoses_find_that_four_images_are_few(tmp_path, keras, capsys):
    fit(make_model(keras), od_eval.LossLogger(tmp_path), evaluation(tmp_path, diagnose=True))
    assert "small_evaluation_set" in kinds(tmp_path)[2]
    assert "diagnosis_failed" not in kinds(tmp_path)[2]
    assert "of the 4 evaluated images have objects" in capsys.readouterr().out
    assert "of the 4 evaluated images have objects" in findings_text(tmp_path)[2]


# ---- Resuming -------------------------------------------------------------------------------------------------------


@KERASES
def test_a_training_that_is_resumed_takes_out_the_evaluations_it_makes_again(tmp_path, keras):
    options = {"save_detections": True, "num_pictures": 1}
    fit(make_model(keras), evaluation(tmp_path, {2: 1, 4: 2, 6: 4, 8: 4}, options=options), epochs=4)
    fit(make_model(keras, step=4), evaluation(tmp_path, {6: 3, 8: 0}, options=options), epochs=1)
    expected = dict(zip((2, 4, 6), aps(1, 2, 3), strict=True))
    assert in_files(tmp_path) == expected
    assert curves(tmp_path / "eval")[AP_TAG] == expected
    assert pictures(tmp_path / "eval") == {"detections/0": [2, 4, 6]}
    assert od_eval.load_metrics(str(tmp_path))["step"] == 6
    with (tmp_path / "eval" / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4", "6"]
    detections = sorted(path.name for path in (tmp_path / "eval" / "detections").glob("*.json"))
    assert detections == ["step-00000002.json", "step-00000004.json", "step-00000006.json"]
    assert list((tmp_path / "eval" / "metrics" / "replaced-at-step-00000004").glob("*.json")), "nothing is lost"


def test_a_training_that_begins_at_step_0_begins_with_an_empty_run(tmp_path, keras):
    fit(make_model(keras), evaluation(tmp_path, {2: 1}), epochs=3)
    callback = evaluation(tmp_path, {2: 3})
    fit(make_model(keras), callback)
    assert in_files(tmp_path) == {2: pytest.approx(AP[3])}
    assert curves(tmp_path / "eval")[AP_TAG] == {2: pytest.approx(AP[3])}
    assert callback.recorded() == callback.results
    assert len(list((tmp_path / "eval" / "metrics" / "replaced-at-step-00000000").glob("*.json"))) == 3


def test_one_callback_may_look_on_at_a_training_that_begins_anew(tmp_path, keras):
    callback = evaluation(tmp_path, {2: 1, 4: 2})
    fit(make_model(keras), callback, epochs=2)
    fit(make_model(keras), callback)
    assert in_files(tmp_path) == {2: pytest.approx(AP[1])}
    assert curves(tmp_path / "eval")[AP_TAG] == {2: pytest.approx(AP[1])}


def test_a_checkpoint_that_another_callback_restores_when_training_begins_is_heeded(tmp_path, keras):
    fit(make_model(keras), evaluation(tmp_path), epochs=3)
    model = make_model(keras)
    restore = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: model.optimizer.iterations.assign(4))
    fit(model, evaluation(tmp_path, {6: 1}), restore)
    assert in_files(tmp_path) == dict(zip((2, 4, 6), aps(4, 4, 1), strict=True))


@KERASES
@pytest.mark.parametrize("same", [True, False])
def test_several_fits_in_a_row_make_one_curve(tmp_path, keras, same):
    model, callback, logger = make_model(keras), evaluation(tmp_path), od_eval.LossLogger(tmp_path)
    for _ in range(3):
        fit(model, logger, callback)
        if not same:
            callback, logger = evaluation(tmp_path), od_eval.LossLogger(tmp_path)
    assert list(in_files(tmp_path)) == list(curves(tmp_path / "eval")[AP_TAG]) == [2, 4, 6]
    assert len(list((tmp_path / "eval").glob("events*"))) == 1
    assert not list((tmp_path / "eval").rglob("*replaced*"))


def test_a_damaged_file_of_an_earlier_evaluation_is_set_aside_and_the_training_goes_on(tmp_path, keras, capsys):
    fit(make_model(keras), evaluation(tmp_path))
    (tmp_path / "eval" / "metrics" / "step-00000002.json").write_text("{")
    fit(make_model(keras, step=2), evaluation(tmp_path))
    assert list(in_files(tmp_path)) == [4]
    assert "step-00000002.json' is damaged" in capsys.readouterr().err


def test_a_killed_evaluation_whose_events_are_there_is_not_drawn_twice(tmp_path, keras):
    fit(make_model(keras), evaluation(tmp_path, {2: 1}))
    (tmp_path / "eval" / "metrics" / "step-00000002.json").unlink()
    writers._open_runs.clear()  # as another process
    again = evaluation(tmp_path, {2: 3})
    again.set_model(make_model(keras, step=2))
    again.begin()
    again.evaluate_into({}, 2)
    assert curves(tmp_path / "eval")[AP_TAG] == {2: pytest.approx(AP[3])} == in_files(tmp_path)


def test_a_training_that_changes_the_working_directory_writes_where_it_began(tmp_path, keras, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    go = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: os.chdir(tmp_path / "elsewhere"))
    callbacks = od_eval.LossLogger("run", 1), evaluation(Path("run")), od_eval.BestCheckpoint("run")
    fit(make_model(keras), go, *callbacks)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"train", "eval", "best"}
    assert not list((tmp_path / "elsewhere").iterdir())


# ---- Models that can be evaluated by themselves; workers; other Kerases ---------------------------------------------


def test_a_model_that_can_be_evaluated_by_itself_says_how(tmp_path, keras):
    class Further:
        def __init__(self):
            self.outputs = []

        def update(self, outputs):
            self.outputs.append(outputs)

        def evaluate(self):
            return {"Mine/outputs": float(sum(self.outputs))}

    class Evaluable(keras.Sequential):
        evaluation_options = od_eval.EvaluationOptions(CATEGORIES, num_pictures=0)
        has_evaluation_weights = False

        def evaluate_batches(self, dataset):
            for outputs, images in enumerate(dataset, start=1):
                assert self.has_evaluation_weights
                batch = Detect()(self, images)
                batch.outputs = outputs
                if int(self.optimizer.iterations) == 4:
                    raise ValueError("no detections today")
                yield batch

        @contextlib.contextmanager
        def evaluation_weights(self):
            self.has_evaluation_weights = True
            yield
            self.has_evaluation_weights = False

        def further_evaluator(self):
            return Further()

    model = Evaluable([keras.layers.Dense(1)])
    model.compile("sgd", loss="mse")
    callback = od_eval.DetectionEvaluation(Detect.dataset, tmp_path)
    history = fit(model, callback, epochs=3)
    assert history["val_AP"] == [1.0, 1.0]
    assert history["val_Mine/outputs"] == [3.0, 3.0], "a new evaluator for each evaluation"
    assert curves(tmp_path / "eval")["Mine/outputs"] == {2: 3.0, 6: 3.0}
    assert [step for step, _ in callback.failures] == [4]


def test_a_worker_that_is_not_the_chief_evaluates_too_has_its_metrics_and_writes_nothing(tmp_path, monkeypatch):
    class Extended:
        should_save_summary = False
        _num_workers = 2
        _id_in_cluster = 1

    class Strategy:
        extended = Extended()
        num_replicas_in_sync = 2

    class Optimizer:
        iterations = 4

    class Worker:
        distribute_strategy = Strategy()
        optimizer = Optimizer()

    monkeypatch.setattr(cluster, "gather", lambda strategy, message: [{"val_AP": 0.5}, message])
    detect = Detect()
    callback = evaluation(tmp_path, detect=detect)
    callback.set_model(Worker())
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    logs: dict[str, Any] = {}
    callback.on_train_batch_end(0, logs)
    callback.on_epoch_end(0, logs)
    callback.on_train_end()
    assert (logs, detect.steps, list(tmp_path.iterdir())) == ({"val_AP": 0.5}, [4, 4], [])


def test_importing_it_imports_no_tensorflow():
    code = "import sys; from od_eval import BestCheckpoint, DetectionEvaluation; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_in_a_process_with_keras_3_it_does_the_same(tmp_path):
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "0"}
    command = [sys.executable, __file__, tmp_path / "keras_3"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    main(tmp_path / "tf_keras")
    assert done.stdout.splitlines()[-1].startswith("keras.src")
    for run in ("epochs", "steps"):
        assert in_files(tmp_path / "keras_3" / run) == in_files(tmp_path / "tf_keras" / run)
        ours, theirs = (tmp_path / name / run for name in ("tf_keras", "keras_3"))
        assert curves(ours / "eval") == curves(theirs / "eval")
        best, best_of_keras_3 = (json.loads((folder / "best" / "best.json").read_text()) for folder in (ours, theirs))
        assert best_of_keras_3 == best | {"checkpoint": f"{best['checkpoint']}.weights.h5"}


def main(folder: Path) -> None:
    """Trains with whatever `tf.keras` is into `folder`, and prints which it is."""
    for run, every in {"epochs": {"every_n_epochs": 2}, "steps": {"every_n_steps": 4}}.items():
        found = {8: 2, 10: 3, 20: 4, 12: 1, 16: 1}
        best = od_eval.BestCheckpoint(folder / run)
        logger = od_eval.LossLogger(folder / run, log_every_n_steps=3)
        model = make_model(tf.keras, steps_per_execution=2)
        fit(model, logger, evaluation(folder / run, found, **every), best, steps=10, epochs=4)
    print(tf.keras.Model.__module__)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
