"""One set of images that a model is evaluated on: numbers first, pictures if they can be drawn."""

import uuid

import numpy as np
import pytest

import od_eval
from od_eval import files
from od_eval.callbacks.evaluation_set import EvaluationSet
from od_eval.callbacks.recorded_evaluations import _say_once
from od_eval.errors import ODEvalError
from read_events import shown_images


def evaluation_set(folder, **options):
    boxes = [[[2.0, 2, 30, 30]]]

    def detect(model, image):
        return od_eval.EvaluationBatch(
            image_ids=[image],
            image_sizes=[[40, 40]],
            detections=od_eval.Detections(boxes, [[model]], [[1]]),
            groundtruth=od_eval.GroundTruth(boxes, [[1]]),
            losses={"total_loss": 0.5},
            images=[np.zeros((40, 40, 3), np.uint8)],
        )

    return EvaluationSet([1, 2], folder, detect=detect, options=od_eval.EvaluationOptions({1: "cat"}, **options))


def many_images(folder, **arguments):
    """30 images with an object each; a model finds it in the images below its number."""
    boxes = [[[2.0, 2, 30, 30]]]

    def detect(model, image):
        found = image < model
        return od_eval.EvaluationBatch(
            image_ids=[image],
            image_sizes=[[40, 40]],
            detections=od_eval.Detections(boxes if found else [np.zeros((0, 4))], [[0.9] * found], [[1] * found]),
            groundtruth=od_eval.GroundTruth(boxes, [[1]]),
            images=[np.full((40, 40, 3), image, np.uint8)],
        )

    options = od_eval.EvaluationOptions({1: "cat"}, num_pictures=1)
    return EvaluationSet(range(30), folder, detect=detect, options=options, **arguments)


def test_what_goes_wrong_is_in_the_files_and_in_tensorboard(tmp_path, capsys):
    extra_metrics = {"highest": lambda objects: objects.score.max()}
    evaluations = many_images(tmp_path, extra_metrics=extra_metrics)
    result = evaluations.evaluate(10, step=5)
    assert capsys.readouterr().err == ""
    assert result.operating_point["bbox"]["fn"] == 20
    assert evaluations.logs(result)["val_highest"] == 0.9
    objects = od_eval.load_objects(tmp_path)
    assert (objects.error == "missed").sum() == 20
    assert (tmp_path / "eval" / "images.zip").exists()
    images = shown_images(tmp_path / "eval")
    assert {f"errors/missed/{index}" for index in range(4)} | {"plots/confusion", "detections/0"} <= images.keys()
    evaluations.evaluate(30, step=6)
    ((_, missed), (step, none_left)) = shown_images(tmp_path / "eval")["errors/missed/0"]
    assert step == 6
    assert none_left[0].height < missed[0].height, "it says that there is none any more"


def test_an_improvement_that_may_be_chance_is_said_to_be_and_does_not_count_as_certain(tmp_path, capsys):
    evaluations = many_images(tmp_path)
    for step, num_found in enumerate((15, 16, 28), start=1):
        evaluations.evaluate(num_found, step=step)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("eval at")]
    assert " (0." in lines[0].partition("AP50")[0], "the interval of AP"
    assert "not distinguishable" not in lines[0] + lines[2]
    assert "the best so far" in lines[1]
    assert ", not distinguishable from this one: the difference is " in lines[1]
    certain = [evaluations.logs(result)["val_AP_certain"] for result in evaluations.results]
    ap = [result.bbox["AP"] for result in evaluations.results]
    assert ap[0] < ap[1] < ap[2]
    assert certain == [ap[0], ap[0], ap[2]]
    # Also in another process.
    again = many_images(tmp_path).evaluate(29, step=4)
    assert again.certainty["step"] == 3


@pytest.mark.parametrize("broken", ["drawing", "writing"])
def test_a_picture_that_fails_is_reported_and_costs_no_number(tmp_path, capsys, broken):
    (tmp_path / "file").write_text("")
    options = {
        "drawing": {"show_groundtruth_boxes": True, "groundtruth_color": "no such colour"},
        "writing": {"pictures_dir": str(tmp_path / "file" / "pictures")},
    }[broken]
    evaluations = evaluation_set(tmp_path, **options)
    result = evaluations.evaluate(0.9, step=5, checkpoint="ckpt-5")
    assert od_eval.load_metrics(tmp_path) == result.to_json_dict()
    assert od_eval.load_metrics(tmp_path)["bbox"]["AP"] == 1.0
    curves = od_eval.load_history(tmp_path)
    assert set(curves[curves.tag == "DetectionBoxes_Precision/mAP"].step) == {5}
    printed = capsys.readouterr()
    assert printed.out.startswith("eval at step 5: AP 1")
    assert "warning: eval: the pictures of the evaluation at step 5 could not be drawn: " in printed.err
    assert ("no such colour" if broken == "drawing" else "cannot be written") in printed.err
    assert evaluations.results == [result]


def test_numbers_that_cannot_be_written_are_an_error_and_nothing_is_drawn(tmp_path):
    (tmp_path / "eval").write_text("a file in the place of the run")
    with pytest.raises(ODEvalError, match=r"/eval' cannot be written: Not a directory\.$"):
        evaluation_set(tmp_path, pictures_dir=str(tmp_path / "pictures")).evaluate(0.9, step=5)
    assert not (tmp_path / "pictures").exists()


def test_a_model_is_no_part_of_it(tmp_path, capsys):
    evaluations = evaluation_set(tmp_path, num_pictures=0)
    evaluations.evaluate(0.9, step=5)
    evaluations.evaluate(0.8, step=6)
    assert [result.step for result in evaluations.recorded()] == [5, 6]
    assert capsys.readouterr().out.splitlines()[-1].endswith("; the best was 1 at step 5")
    evaluations.go_back(5)
    assert [result.step for result in evaluations.recorded()] == [5]


def test_what_values_are_good_and_how_losses_are_computed_is_said_once(tmp_path, capsys):
    _say_once.cache_clear()
    formulas = {"Loss/classification_loss": "weighted_sigmoid", "Loss/localization_loss": "2 × weighted_l2"}
    for folder in ("a", "b"):
        evaluations = evaluation_set(tmp_path / folder, num_pictures=0, loss_formulas=formulas)
        for step in (5, 6):
            evaluations.evaluate(0.9, step=step)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("eval at step 5: AP 1  AP50 1  AR100 1  F1 1  total_loss 0.5  (2 images in ")
    assert lines[1:3] == [
        "  good by convention, on images not trained with: AP 0.45–0.65, AP50 0.85–0.95",
        "  losses: classification_loss = weighted_sigmoid, localization_loss = 2 × weighted_l2; they compare only"
        " within one architecture and input size",
    ]
    assert [line.partition(":")[0] for line in lines[3:]] == ["eval at step 6", "eval at step 5", "eval at step 6"]


def test_who_asks_is_named_where_a_model_cannot_be_evaluated(tmp_path):
    with pytest.raises(ODEvalError, match="EvaluationSet does not know how float detects"):
        EvaluationSet([1], tmp_path).evaluate(0.5, step=1)


def test_all_of_it_may_be_on_a_remote_filesystem():
    root = f"ram://{uuid.uuid4().hex}"
    evaluations = evaluation_set(f"{root}/run", save_detections=True, pictures_dir=f"{root}/pictures")
    for step in (5, 6):
        evaluations.evaluate(0.9, step=step)
    assert files.names_in(f"{root}/pictures/step-00000006") == ["1.png", "2.png"]
    assert files.names_in(f"{root}/run/eval/detections") == ["step-00000005.json", "step-00000006.json"]
    assert od_eval.load_metrics(f"{root}/run")["step"] == 6
    evaluations.go_back(5)
    assert [result.step for result in evaluations.recorded()] == [5]
    assert set(od_eval.load_history(f"{root}/run").step) == {5}
