"""The driver, run as a user runs it: curves, checkpoints, interruptions, and everything that can go wrong."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from od_eval import Detector, ODEvalError, Pipeline, training
from od_eval.odapi.checkpoints import Checkpoints, check_fine_tune_checkpoint, load_fine_tune_checkpoint

REPOSITORY = Path(__file__).parents[1]
LOSSES = ["Loss/classification_loss", "Loss/localization_loss", "Loss/regularization_loss", "Loss/total_loss"]


def command(config, overrides, model_dir, *flags):
    sets = [f"--set={override}" for override in overrides]
    program = [sys.executable, REPOSITORY / "scripts" / "model_main_tf2.py"]
    return [*program, f"--pipeline_config_path={config}", f"--model_dir={model_dir}", *sets, *flags]


def environment(**variables):
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", **variables}


def run(*args, **variables):
    return subprocess.run(command(*args), env=environment(**variables), capture_output=True, text=True, check=False)


def scalars(run_dir):
    """Tag -> list of (step, value) in the order they were written, from all event files of a run."""
    found = {}
    for event_file in sorted(Path(run_dir).glob("*tfevents*")):
        for event in EventFileLoader(str(event_file)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    found.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    return found


def steps(run_dir):
    return [step for step, _ in scalars(run_dir)["Loss/total_loss"]]


def checkpointed_step(path):
    return int(tf.train.load_variable(str(path), "step/.ATTRIBUTES/VARIABLE_VALUE"))


@pytest.fixture(scope="module")
def finished(ssd_config, config_overrides, tmp_path_factory):
    """A run of 7 steps with a checkpoint every 3: (model_dir, completed process)."""
    model_dir = tmp_path_factory.mktemp("finished") / "run"
    flags = ("--num_train_steps=7", "--checkpoint_every_n=3", "--log_every_n=2", "--seed=1")
    return model_dir, run(ssd_config, config_overrides, model_dir, *flags)


def test_a_run_trains_exactly_the_steps_it_was_asked_for_and_saves_the_last(finished):
    model_dir, process = finished
    assert process.returncode == 0, process.stderr
    saved = {path.stem: checkpointed_step(path.with_suffix("")) for path in model_dir.glob("ckpt-*.index")}
    assert saved == {"ckpt-1": 0, "ckpt-2": 3, "ckpt-3": 6, "ckpt-4": 7}
    assert tf.train.latest_checkpoint(str(model_dir)) == str(model_dir / "ckpt-4")


def test_every_loss_is_in_tensorboard_at_the_steps_asked_for(finished):
    curves = scalars(finished[0] / "train")
    for tag in [*LOSSES, "learning_rate", "gradient_norm"]:
        assert [step for step, _ in curves[tag]] == [2, 4, 6, 7], tag
    assert {"steps_per_sec", "images_per_sec"} < set(curves)
    for (_, total), *parts in zip(curves["Loss/total_loss"], *(curves[tag] for tag in LOSSES[:3]), strict=True):
        assert total == pytest.approx(sum(value for _, value in parts), rel=1e-5)


def test_the_terminal_shows_progress_and_the_way_to_tensorboard_and_nothing_else(finished):
    model_dir, process = finished
    assert process.stderr == ""
    lines = process.stdout.splitlines()
    assert re.fullmatch(r"step 1/7  total_loss [\d.]+  classification_loss .* localization_loss .*", lines[3])
    assert re.search(r"^step 7/7 .* steps/s  [\d.]+ images/s  0:00:00 left$", process.stdout, re.MULTILINE)
    assert f"Checkpoint: {model_dir}/ckpt-4" in lines
    look = re.fullmatch(r"Look at the curves: (\S*tensorboard) --logdir (.*)", lines[-1])
    assert look[2] == str(model_dir)
    assert subprocess.run([look[1], "--version"], capture_output=True, check=False).returncode == 0
    assert len(lines) < 12


def test_the_config_as_run_is_in_the_model_dir(finished):
    assert Pipeline.load(finished[0] / "pipeline.config").config.train_config.batch_size == 2


def test_images_of_the_first_batch_are_in_tensorboard(finished):
    tags = {
        value.tag
        for event_file in (finished[0] / "train").glob("*tfevents*")
        for event in EventFileLoader(str(event_file)).Load()
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "images"
    }
    assert tags == {"train_input_images"}


def test_a_finished_run_started_again_does_nothing(finished, ssd_config, config_overrides, capsys):
    before = sorted((path, path.stat().st_mtime_ns) for path in finished[0].rglob("ckpt-*"))
    training.train(str(ssd_config), str(finished[0]), overrides=config_overrides, num_train_steps=7)
    assert "Nothing to do" in capsys.readouterr().out
    assert before == sorted((path, path.stat().st_mtime_ns) for path in finished[0].rglob("ckpt-*"))


class Background:
    """A driver in the background, whose output is waited for."""

    def __init__(self, *args, **variables):
        self.process = subprocess.Popen(
            command(*args), env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_for(self, pattern):
        """Reads lines until one matches, and returns the match."""
        for line in self.process.stdout:
            match = re.search(pattern, line)
            if match:
                return match
        pytest.fail(f"ended without printing {pattern!r}: {self.process.stderr.read()}")

    def stop(self, signal_number):
        self.process.send_signal(signal_number)
        output, errors = self.process.communicate(timeout=120)
        return self.process.returncode, output, errors


def test_a_run_interrupted_in_every_way_and_started_again_makes_one_unbroken_curve(
    ssd_config, config_overrides, tmp_path
):
    model_dir = tmp_path / "run"
    args = (ssd_config, config_overrides, model_dir, "--checkpoint_every_n=4", "--log_every_n=1")

    background = Background(*args, "--num_train_steps=100000")
    background.wait_for(r"^step\s+1/")
    time.sleep(2)
    status, output, errors = background.stop(signal.SIGTERM)
    assert (status, errors) == (143, "Stopping after this step …\n")
    stopped_at = checkpointed_step(tf.train.latest_checkpoint(str(model_dir)))
    assert "The same command goes on from there" in output
    assert steps(model_dir / "train") == list(range(1, stopped_at + 1))

    background = Background(*args, "--num_train_steps=100000")
    assert int(background.wait_for(r"Going on from .*, step (\d+)\.")[1]) == stopped_at
    background.wait_for(r"^step\s+\d+/")
    status, _, _ = background.stop(signal.SIGINT)
    assert status == 130
    stopped_at = checkpointed_step(tf.train.latest_checkpoint(str(model_dir)))

    background = Background(*args, "--num_train_steps=100000")
    background.wait_for(r"^step\s+\d+/")
    while steps(model_dir / "train")[-1] < stopped_at + 6:  # beyond a checkpoint
        time.sleep(0.2)
    status, _, _ = background.stop(signal.SIGKILL)
    assert status == -signal.SIGKILL
    killed_at = steps(model_dir / "train")[-1]
    newest = tf.train.latest_checkpoint(str(model_dir))
    going_on_from = checkpointed_step(newest)
    assert stopped_at < going_on_from <= killed_at
    # A checkpoint that is not whole is passed over.
    broken = Path(newest).with_name(f"ckpt-{int(newest.rpartition('-')[2]) + 1}")
    shutil.copy(f"{newest}.index", f"{broken}.index")

    last = going_on_from + 3
    process = run(*args, f"--num_train_steps={last}")
    assert process.returncode == 0, process.stderr
    assert f"Going on from {newest}, step {going_on_from}." in process.stdout
    assert f"warning: checkpoint '{broken}' is damaged and passed over" in process.stderr
    assert steps(model_dir / "train") == list(range(1, last + 1))
    optimizer_steps = tf.train.load_variable(str(model_dir), "optimizer/iter/.ATTRIBUTES/VARIABLE_VALUE")
    assert optimizer_steps == last == checkpointed_step(tf.train.latest_checkpoint(str(model_dir)))


# ---- What users get wrong: one sentence, exit status 1 ------------------------------------------------------------


def error_of(function, *args, **kwargs):
    with pytest.raises(ODEvalError) as raised:
        function(*args, **kwargs)
    return str(raised.value)


def test_a_program_ends_with_one_sentence_and_status_1_and_writes_nothing(ssd_config, tmp_path):
    process = run(ssd_config, ["train_config.batch_sise=2"], tmp_path / "run")
    assert process.returncode == 1
    assert process.stderr == (
        "error: override 'train_config.batch_sise=2': TrainConfig has no field 'batch_sise';"
        " did you mean 'batch_size'?.\n"
    )
    assert not (tmp_path / "run").exists()


def test_wrong_flags_are_status_2_and_help_is_status_0(ssd_config, tmp_path):
    assert run(ssd_config, [], tmp_path, "--num_train_stepz=3").returncode == 2
    assert run(ssd_config, [], tmp_path, "--num_train_steps=many").returncode == 2
    process = run(ssd_config, [], tmp_path, "--help")
    assert process.returncode == 0
    assert "--pipeline_config_path" in process.stdout


def test_asking_for_evaluation_says_that_it_is_not_there_yet(ssd_config, tmp_path):
    process = run(ssd_config, [], tmp_path, f"--checkpoint_dir={tmp_path}")
    assert process.returncode == 1
    assert "--checkpoint_dir asks for evaluation" in process.stderr


def test_a_model_dir_that_cannot_be_written_is_found_before_anything_else(ssd_config, config_overrides, tmp_path):
    (tmp_path / "file").write_text("")
    message = error_of(training.train, str(ssd_config), str(tmp_path / "file" / "run"), overrides=config_overrides)
    assert f"'{tmp_path}/file/run/" in message
    assert "cannot be written" in message
    message = error_of(training.train, str(ssd_config), str(tmp_path / "lr[0.1]"), overrides=config_overrides)
    assert "TensorFlow takes for a pattern" in message


def test_a_model_dir_with_another_models_checkpoint_is_refused_with_what_differs(
    finished, ssd_config, config_overrides, tmp_path
):
    shutil.copytree(finished[0], tmp_path / "run")
    config = (tmp_path / "run" / "pipeline.config").read_bytes()
    overrides = [*config_overrides, "model.ssd.num_classes=7"]
    message = error_of(training.train, str(ssd_config), str(tmp_path / "run"), overrides=overrides)
    assert "variables have another shape" in message
    assert "ClassPredictor" in message
    assert "Choose another model_dir" in message
    assert (tmp_path / "run" / "pipeline.config").read_bytes() == config


def test_going_on_with_another_optimizer_is_said(finished, ssd_config, config_overrides, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    rate = "{constant_learning_rate {learning_rate: 0.1}}"
    other = f"train_config.optimizer.momentum_optimizer.learning_rate={rate}"
    for overrides, warns in ((config_overrides, False), ([*config_overrides, other], True)):
        detector = Detector(Pipeline.load(ssd_config, overrides))
        detector.compile()
        assert Checkpoints(detector, str(folder)).restore_newest() == str(folder / "ckpt-4")
        assert ("warning: train_config.optimizer is not the one of the run" in capsys.readouterr().err) == warns


def test_a_damaged_record_is_named_with_its_file_when_training_fails_on_it(
    ssd_config, config_overrides, shapes, tmp_path
):
    (whole,) = shapes.glob("train-*")
    records = list(tf.data.TFRecordDataset(str(whole)).as_numpy_iterator())
    broken = tmp_path / "train-00000-of-00001"
    data = bytearray(whole.read_bytes())
    data[sum(len(record) + 16 for record in records[:3]) + 40] ^= 0xFF
    broken.write_bytes(data)
    overrides = [*config_overrides, f"train_input_reader.tf_record_input_reader.input_path={broken}"]
    message = error_of(training.train, str(ssd_config), str(tmp_path / "run"), overrides=overrides, num_train_steps=9)
    assert f"'{broken}' is truncated or corrupt at record 3" in message


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
    assert "variables are not in it" in message(classification, "detection")
    assert "'no_such_type'" in message(detection, "no_such_type")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variable = tf.compat.v1.get_variable("v", [1])
        session.run(variable.initializer)
        old = tf.compat.v1.train.Saver([variable]).save(session, str(tmp_path / "model.ckpt"))
    assert "was written by TF1" in message(old, "detection")
    train_config = fresh_detector(ssd_config, config_overrides, f"train_config.fine_tune_checkpoint={detection}")[1]
    assert "lies in model_dir" in error_of(check_fine_tune_checkpoint, train_config, os.path.dirname(detection))


# ---- Several replicas and workers ---------------------------------------------------------------------------------


def test_two_workers_train_and_stop_together_and_the_chief_alone_writes(ssd_config, config_overrides, shapes, tmp_path):
    (whole,) = shapes.glob("train-*")
    for number in (0, 1):
        shutil.copy(whole, tmp_path / f"train-0000{number}-of-00002")
    overrides = [*config_overrides, f"train_input_reader.tf_record_input_reader.input_path={tmp_path}/train-*-of-00002"]
    ports = [free_port(), free_port()]
    cluster = ", ".join(f'"localhost:{port}"' for port in ports)
    model_dir = tmp_path / "run"

    def start(*flags):
        return [
            Background(
                ssd_config,
                overrides,
                model_dir,
                *("--num_workers=2", "--log_every_n=1", "--checkpoint_every_n=2", *flags),
                TF_CONFIG=f'{{"cluster": {{"worker": [{cluster}]}}, "task": {{"type": "worker", "index": {index}}}}}',
            )
            for index in (0, 1)
        ]

    chief, other = start("--num_train_steps=100000")
    chief.wait_for(r"^step\s+1/")
    for worker, errors in ((other, other.stop(signal.SIGTERM)[2]), (chief, chief.process.communicate(timeout=60)[1])):
        assert worker.process.returncode == 143, errors
    stopped_at = checkpointed_step(tf.train.latest_checkpoint(str(model_dir)))

    last = stopped_at + 3
    outputs = [worker.process.communicate(timeout=400) for worker in start(f"--num_train_steps={last}")]
    assert f"step {last}/{last}" in outputs[0][0], outputs
    assert outputs[1][0] == "Loading TensorFlow …\n"
    assert steps(model_dir / "train") == list(range(1, last + 1))
    assert len(list((model_dir / "train").iterdir())) == 2  # a file for each of the chief's runs
    assert {path.name for path in model_dir.iterdir() if path.is_dir()} == {"train"}
    assert checkpointed_step(tf.train.latest_checkpoint(str(model_dir))) == last


def free_port():
    import socket

    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def test_workers_that_the_environment_does_not_list_are_missed(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert "TF_CONFIG lists 0 workers" in error_of(training.multi_worker_strategy, 2)
    monkeypatch.setenv("TF_CONFIG", "{")
    assert "TF_CONFIG is not JSON" in error_of(training.multi_worker_strategy, 2)
