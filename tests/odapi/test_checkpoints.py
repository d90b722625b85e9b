"""Checkpoints of a detector: saved whole or not at all, and what training may begin from."""

import os
import re
import resource

import pytest
import tensorflow as tf

from od_eval import Detector, ODEvalError, Pipeline
from od_eval.odapi.checkpoints import Checkpoints, check_fine_tune_checkpoint, load_fine_tune_checkpoint


def error_of(function, *args, **kwargs):
    with pytest.raises(ODEvalError) as raised:
        function(*args, **kwargs)
    return str(raised.value)


def test_a_full_disk_leaves_the_older_checkpoints_and_no_half_written_one(ssd_config, config_overrides, tmp_path):
    detector = Detector(Pipeline.load(ssd_config, config_overrides))
    detector.compile()
    checkpoints = Checkpoints(detector, str(tmp_path))
    checkpoints.save()
    before = sorted(path.name for path in tmp_path.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        message = error_of(checkpoints.save)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"'{tmp_path}/ckpt-2' of step 0 could not be written" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert checkpoints.restore_newest() == str(tmp_path / "ckpt-1")


def test_weights_that_are_not_finite_are_not_saved(ssd_config, config_overrides, tmp_path):
    detector = Detector(Pipeline.load(ssd_config, config_overrides))
    detector.compile()
    variable = detector.model.trainable_variables[0]
    variable.assign(tf.fill(variable.shape, float("nan")))
    assert variable.name in error_of(Checkpoints(detector, str(tmp_path)).save)
    assert not list(tmp_path.iterdir())


# ---- Fine-tuning --------------------------------------------------------------------------------------------------


def fresh_detector(ssd_config, config_overrides, *overrides):
    pipeline = Pipeline.load(ssd_config, [*config_overrides, *overrides])
    return Detector(pipeline), pipeline.config.train_config


def equal_variables(detector, other):
    return {
        ours.name
        for ours, theirs in zip(detector.model.variables, other.model.variables, strict=True)
        if ours.shape == theirs.shape and bool(tf.reduce_all(ours == theirs))
    }


@pytest.fixture(scope="module")
def pretrained(ssd_config, config_overrides, tmp_path_factory):
    """A detector with weights like no other, its detection checkpoint, and one of its backbone for classification."""
    folder = tmp_path_factory.mktemp("pretrained")
    detector, _ = fresh_detector(ssd_config, config_overrides)
    for number, variable in enumerate(detector.model.variables):
        variable.assign(tf.fill(variable.shape, tf.cast(number + 1, variable.dtype)))
    detection = tf.train.Checkpoint(model=detector.model).save(str(folder / "ckpt"))
    backbone = detector.model._feature_extractor.classification_backbone
    classification = tf.train.Checkpoint(feature_extractor=backbone).save(str(folder / "classification"))
    return detector, detection, classification


@pytest.mark.parametrize(
    ("kind", "num_classes", "restored"),
    [("full", 4, "all"), ("detection", 7, "feature extractor"), ("fine_tune", 7, "feature extractor")],
)
def test_fine_tuning_takes_what_its_type_says(ssd_config, config_overrides, pretrained, kind, num_classes, restored):
    donor, checkpoint, _ = pretrained
    detector, train_config = fresh_detector(
        ssd_config,
        config_overrides,
        f"model.ssd.num_classes={num_classes}",
        f"train_config.fine_tune_checkpoint={checkpoint}",
        f"train_config.fine_tune_checkpoint_type={kind}",
    )
    load_fine_tune_checkpoint(detector, train_config)
    names = {variable.name for variable in detector.model.variables}
    predictor = {name for name in names if "BoxPredictor" in name}
    assert predictor
    assert equal_variables(detector, donor) == (names if restored == "all" else names - predictor)


def test_fine_tuning_from_a_classification_checkpoint_takes_the_backbone(ssd_config, config_overrides, pretrained):
    donor, _, checkpoint = pretrained
    detector, train_config = fresh_detector(
        ssd_config,
        config_overrides,
        f"train_config.fine_tune_checkpoint={checkpoint}",
        "train_config.fine_tune_checkpoint_type=classification",
    )
    load_fine_tune_checkpoint(detector, train_config)
    backbone = {variable.name for variable in detector.model._feature_extractor.classification_backbone.variables}
    assert backbone
    assert equal_variables(detector, donor) == backbone


def test_a_checkpoint_that_cannot_be_fine_tuned_from_is_explained(ssd_config, config_overrides, pretrained, tmp_path):
    _, detection, classification = pretrained

    def message(path, kind, *overrides):
        detector, train_config = fresh_detector(
            ssd_config,
            config_overrides,
            *overrides,
            f"train_config.fine_tune_checkpoint={path}",
            f"train_config.fine_tune_checkpoint_type={kind}",
        )
        return error_of(load_fine_tune_checkpoint, detector, train_config)

    missing = message(f"{detection}-no", "detection")
    assert "does not exist" in missing
    assert f"there is {detection.rpartition('/')[0]}" in missing
    assert re.search(
        r"\d+ of \d+ variables have another shape: .*is \[.*\] there and",
        message(detection, "full", "model.ssd.num_classes=7"),
    )
    other = message(classification, "detection")
    assert "variables are not in it" in other
    assert "Most of the model is not in it: it belongs to another architecture, or is incomplete." in other
    assert "'no_such_type'" in message(detection, "no_such_type")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variable = tf.compat.v1.get_variable("v", [1])
        session.run(variable.initializer)
        old = tf.compat.v1.train.Saver([variable]).save(session, str(tmp_path / "model.ckpt"))
    assert "was written by TF1" in message(old, "detection")
    train_config = fresh_detector(ssd_config, config_overrides, f"train_config.fine_tune_checkpoint={detection}")[1]
    assert "is in model_dir" in error_of(check_fine_tune_checkpoint, train_config, os.path.dirname(detection))
