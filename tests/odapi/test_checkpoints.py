"""Checkpoints of a detector: saved whole or not at all, and what training may begin from."""

import os
import re
import resource
import shutil

import numpy as np
import pytest
import tensorflow as tf

from od_eval import Detector, ODEvalError, Pipeline, checkpoint_files
from od_eval.odapi.checkpoints import (
    Checkpoints,
    DamagedCheckpoint,
    check_fine_tune_checkpoint,
    existing_checkpoint,
    load_fine_tune_checkpoint,
)


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


# ---- Damage -------------------------------------------------------------------------------------------------------

INDEX, DATA = "ckpt-2.index", "ckpt-2.data-00000-of-00001"


@pytest.fixture(scope="module")
def saved(ssd_config, config_overrides, tmp_path_factory):
    """A detector, and a folder with its checkpoints of steps 1 and 2."""
    folder = tmp_path_factory.mktemp("saved")
    detector = Detector(Pipeline.load(ssd_config, config_overrides))
    detector.compile()
    checkpoints = Checkpoints(detector, str(folder))
    for _ in range(2):
        detector.step.assign_add(1)
        checkpoints.save()
    return detector, folder


@pytest.fixture
def damaged(saved, tmp_path):
    """Copies the folder, cuts files of the newest checkpoint to a part of their length, and gives the copy."""
    detector, folder = saved
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    detector.step.assign(0)

    def damaged(**lengths):
        for name, part in lengths.items():
            path = copy / {"index": INDEX, "data": DATA}[name]
            path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
        return detector, copy

    return damaged


@pytest.mark.parametrize("lengths", [{"index": 0}, {"index": 0.5}, {"data": 0}, {"data": 0.5}, {"data": 0.9999}])
def test_a_truncated_checkpoint_is_passed_over_and_nothing_of_it_is_restored(damaged, capsys, lengths):
    detector, folder = damaged(**lengths)
    before = [variable.numpy() for variable in detector.model.variables]
    with pytest.raises(DamagedCheckpoint, match=re.escape(f"checkpoint '{folder}/ckpt-2' is damaged: ")):
        Checkpoints(detector, str(folder)).restore(str(folder / "ckpt-2"))
    for variable, value in zip(detector.model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    checkpoints = Checkpoints(detector, str(folder))
    assert checkpoints.restore_newest() == str(folder / "ckpt-1")
    assert detector.steps_done == 1
    assert f"warning: checkpoint '{folder}/ckpt-2' is damaged and was skipped: " in capsys.readouterr().err
    assert existing_checkpoint(str(folder), "checkpoint", "correct it") == str(folder / "ckpt-1")
    assert f"warning: checkpoint '{folder}/ckpt-2' is damaged and was skipped: " in capsys.readouterr().err
    assert checkpoints.save() == str(folder / "ckpt-2"), "the damaged one is written again"
    assert existing_checkpoint(str(folder / "ckpt-2"), "checkpoint", "correct it")


@pytest.mark.parametrize("state", [b"", b"\xff\xfe\x00garbage", b"model_checkpoint_path: ", b"\0" * 100])
def test_a_damaged_list_of_checkpoints_is_written_anew(damaged, capsys, state):
    detector, folder = damaged()
    (folder / "checkpoint").write_bytes(state)
    assert existing_checkpoint(str(folder), "checkpoint", "correct it") == str(folder / "ckpt-2")
    checkpoints = Checkpoints(detector, str(folder), max_to_keep=2)
    assert checkpoints.restore_newest() == str(folder / "ckpt-2")
    assert checkpoints.save() == str(folder / "ckpt-3")
    assert f"warning: '{folder}/checkpoint' is damaged and is written anew" in capsys.readouterr().err
    assert tf.train.latest_checkpoint(folder) == str(folder / "ckpt-3")
    assert checkpoint_files.numbers_in(str(folder)) == [2, 3], "and it knows what is old"


def test_a_checkpoint_that_a_killed_process_did_not_list_is_kept_as_others_are(damaged, capsys):
    detector, folder = damaged()
    (folder / "checkpoint").write_text('model_checkpoint_path: "ckpt-1"\nall_model_checkpoint_paths: "ckpt-1"\n')
    (folder / "ckpt-3_temp").mkdir()
    (folder / "ckpt-4.data-00000-of-00001").write_bytes(b"half")
    checkpoint_files.remove_interrupted(str(folder))
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["checkpoint", *(f"ckpt-{number}.{end}" for number in (1, 2) for end in ("index", "data-00000-of-00001"))]
    )
    checkpoints = Checkpoints(detector, str(folder), max_to_keep=2)
    assert checkpoints.restore_newest() == str(folder / "ckpt-2")
    checkpoints.save()
    assert checkpoint_files.numbers_in(str(folder)) == [2, 3]
    assert capsys.readouterr().err == ""


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
