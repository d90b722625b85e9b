"""The scores of a trained model in images from where it is to be used, against those in evaluation images."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import od_eval
from od_eval.evaluation.batch import Detections
from od_eval.health import deployment_scores
from od_eval.odapi import image_scores
from od_eval.odapi.checkpoints import Checkpoints
from od_eval.odapi.records import input_files, serialized_records

EVAL = "eval_input_reader[0]"


@pytest.fixture(scope="module")
def trained(ssd_config, config_overrides, tmp_path_factory):
    """A model as a training would leave it, though its weights are random: pipeline, detector and model_dir."""
    model_dir = tmp_path_factory.mktemp("run")
    pipeline = od_eval.Pipeline.load(ssd_config, config_overrides)
    detector = od_eval.Detector(pipeline)
    detector.compile()
    rng = np.random.default_rng(0)
    for variable in detector.model.trainable_variables:
        if "ClassPredictor" in variable.name:  # else all scores are the same
            variable.assign(rng.normal(0, 1, variable.shape))
    Checkpoints(detector, str(model_dir)).save()
    return pipeline, detector, model_dir


@pytest.fixture
def photos(shapes, tmp_path):
    """The evaluation images, and as many that are black, as files: two folders."""
    for path in sorted(shapes.glob("validation-*")):
        for number, record in enumerate(serialized_records(str(path))):
            example = tf.train.Example.FromString(record)
            (tmp_path / "same").mkdir(exist_ok=True)
            content = example.features.feature["image/encoded"].bytes_list.value[0]
            (tmp_path / "same" / f"{number}.jpg").write_bytes(content)
    (tmp_path / "dark").mkdir()
    for number in range(20):
        Image.fromarray(np.full((90, 120, 3), number, np.uint8)).save(tmp_path / "dark" / f"{number}.png")
    return tmp_path / "same", tmp_path / "dark"


def test_scores_are_those_of_the_detections_of_each_image(trained, photos):
    pipeline, detector, _ = trained
    reader = pipeline.config.eval_input_reader[0]
    encoded = list(image_scores.sampled_images(reader, range(4)))
    assert encoded == [path.read_bytes() for path in sorted(photos[0].iterdir())]
    scores = [
        detector.detect(tf.io.decode_image(one, channels=3, expand_animations=False).numpy()[None]).scores[0]
        for one in encoded
    ]
    confidence = float(np.median(scores[0]))
    found = image_scores.image_scores(detector, [encoded[0], b"no image", *encoded[1:]], confidence)
    np.testing.assert_allclose(found.best, [one.max() for one in scores], rtol=1e-5)
    assert found.num_used.tolist() == [int((one >= confidence).sum()) for one in scores]
    assert 0 < found.num_used[0] < len(scores[0])


def test_the_weights_are_those_of_the_checkpoint(trained):
    pipeline, detector, model_dir = trained
    restored = image_scores.trained_detector(pipeline, deployment_scores.checkpoint_of(str(model_dir)))
    for one, other in zip(detector.model.variables, restored.model.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


class FakeDetector:
    """One detection in each image, whose score is its brightness."""

    @contextlib.contextmanager
    def evaluation_weights(self):
        yield

    def detect(self, images):
        score = images.mean() / 255
        return Detections(np.zeros((1, 2, 4)), np.array([[score, 0.99]]), np.ones((1, 2)), num=np.array([1]))


def kinds(report) -> list[str]:
    return [finding.kind for finding in report.findings if "scores" in finding.kind]


def test_a_check_compares_scores_with_those_in_evaluation_images(
    ssd_config, config_overrides, trained, photos, shapes, monkeypatch
):
    _, _, model_dir = trained
    monkeypatch.setattr(image_scores, "trained_detector", lambda *arguments: FakeDetector())
    # The training images stand for an evaluation set that is large enough.
    overrides = [*config_overrides, f"eval_input_reader.tf_record_input_reader.input_path={shapes}/train-*"]
    dark = od_eval.check(ssd_config, overrides=overrides, deployment_images=photos[1], model_dir=model_dir)
    assert kinds(dark) == ["different_scores"]
    (finding,) = (one for one in dark.findings if one.kind == "different_scores")
    assert finding.where == "deployment_images"
    assert finding.evidence["median_best_score"][1] == pytest.approx(9.5 / 255, abs=1e-3)
    assert "20 images here and 16 there" in str(finding)
    same = od_eval.check(ssd_config, overrides=overrides, deployment_images=photos[0], model_dir=model_dir)
    assert kinds(same) == []


def test_a_checkpoint_of_another_model_is_said_with_everything_else(
    ssd_config, config_overrides, trained, photos, monkeypatch
):
    _, _, model_dir = trained

    def fails(*arguments):
        raise od_eval.ODEvalError("the checkpoint does not fit this model.")

    monkeypatch.setattr(image_scores, "trained_detector", fails)
    report = od_eval.check(ssd_config, overrides=config_overrides, deployment_images=photos[0], model_dir=model_dir)
    assert kinds(report) == ["scores_not_compared"]
    (finding,) = (one for one in report.findings if one.kind == "scores_not_compared")
    assert str(finding) == (
        f"deployment_images: the scores of '{model_dir}/ckpt-1' were not compared: the checkpoint does not fit this"
        " model."
    )


def test_without_evaluation_images_scores_are_not_compared(ssd_config, config_overrides, trained, photos, tmp_path):
    overrides = [*config_overrides, f"eval_input_reader.tf_record_input_reader.input_path={tmp_path}/none"]
    report = od_eval.check(ssd_config, overrides=overrides, deployment_images=photos[0], model_dir=trained[2])
    assert kinds(report) == ["scores_not_compared"]


def test_a_folder_without_a_checkpoint_is_a_sentence(ssd_config, config_overrides, photos, tmp_path):
    with pytest.raises(od_eval.ODEvalError, match=r"model_dir .* does not exist.*; pass the model_dir of a training"):
        od_eval.check(ssd_config, overrides=config_overrides, deployment_images=photos[0], model_dir=tmp_path)


def test_the_best_checkpoint_comes_before_the_newest(trained, tmp_path):
    detector = trained[1]
    saved = Checkpoints(detector, str(tmp_path)).save()
    best = tmp_path / "best"
    best.mkdir()
    for path in tmp_path.glob("ckpt-1.*"):
        (best / path.name.replace("ckpt-1", "ckpt-0")).write_bytes(path.read_bytes())
    assert deployment_scores.checkpoint_of(str(tmp_path)) == saved
    record = '{"metric": "AP", "mode": "max", "value": 0.5, "step": 0, "checkpoint": "ckpt-0"}'
    (best / "best.json").write_text(record)
    assert deployment_scores.checkpoint_of(str(tmp_path)) == str(best / "ckpt-0")


def test_images_are_taken_evenly_and_no_more_than_asked_for():
    assert deployment_scores._evenly(0) == []
    assert deployment_scores._evenly(3) == [0, 1, 2]
    many = deployment_scores._evenly(1001)
    assert (len(many), many[0], many[-1]) == (200, 0, 1000)
    assert set(np.diff(many)) <= {5, 6}


def test_positions_count_over_all_files_of_a_reader(trained, shapes):
    reader = trained[0].config.train_input_reader
    every = [record for path in input_files(reader) for record in serialized_records(path)]
    for one, position in zip(image_scores.sampled_images(reader, [2, 15, 40]), (2, 15), strict=True):
        example = tf.train.Example.FromString(every[position])
        assert one == example.features.feature["image/encoded"].bytes_list.value[0]
