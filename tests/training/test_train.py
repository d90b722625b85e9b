"""The driver, run as a user runs it: curves, checkpoints, interruptions, and everything that can go wrong."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import od_eval
from od_eval import Detector, ODEvalError, Pipeline
from od_eval.odapi.checkpoints import Checkpoints
from od_eval.training import strategies
from od_eval.training import train as training
from od_eval.training.checkpoint_evaluation import evaluate_checkpoints
from od_eval.training.evaluation_plan import EvaluationPlan
from read_events import shown_images, shown_tensors, written_scalars
from training_program import Background, checkpointed_step, run, steps

LOSSES = ["Loss/classification_loss", "Loss/localization_loss", "Loss/regularization_loss", "Loss/total_loss"]


def weights(checkpoint):
    """Key -> value of all variables, but for the counter of saves."""
    reader = tf.train.load_checkpoint(str(checkpoint))
    keys = [key for key in reader.get_variable_to_shape_map() if key.endswith("VARIABLE_VALUE")]
    return {key: reader.get_tensor(key) for key in keys if not key.startswith("save_counter")}


@pytest.fixture(scope="module")
def finished(ssd_config, config_overrides, tmp_path_factory):
    """A run of 7 steps with a checkpoint and an evaluation every 3: (model_dir, completed process)."""
    model_dir = tmp_path_factory.mktemp("finished") / "run"
    flags = ("--num_train_steps=7", "--checkpoint_every_n=3", "--log_every_n=2", "--seed=1", "--save_detections")
    return model_dir, run(ssd_config, config_overrides, model_dir, *flags)


def test_a_run_trains_exactly_the_steps_it_was_asked_for_and_saves_the_last(finished):
    model_dir, process = finished
    assert process.returncode == 0, process.stderr
    saved = {path.stem: checkpointed_step(path.with_suffix("")) for path in model_dir.glob("ckpt-*.index")}
    assert saved == {"ckpt-1": 0, "ckpt-2": 3, "ckpt-3": 6, "ckpt-4": 7}
    assert tf.train.latest_checkpoint(str(model_dir)) == str(model_dir / "ckpt-4")


def test_every_loss_is_in_tensorboard_at_the_steps_asked_for(finished):
    curves = written_scalars(finished[0] / "train")
    for tag in [*LOSSES, "learning_rate", "gradient_norm"]:
        assert [step for step, _ in curves[tag]] == [2, 4, 6, 7], tag
    assert {"steps_per_sec", "images_per_sec"} < set(curves)
    for (_, total), *parts in zip(curves["Loss/total_loss"], *(curves[tag] for tag in LOSSES[:3]), strict=True):
        assert total == pytest.approx(sum(value for _, value in parts), rel=1e-5)


def test_a_run_with_the_same_seed_has_the_same_curves_to_the_bit(finished, ssd_config, config_overrides, tmp_path):
    flags = ("--num_train_steps=7", "--checkpoint_every_n=3", "--log_every_n=2", "--seed=1")
    process = run(ssd_config, config_overrides, tmp_path, *flags)
    assert process.returncode == 0, process.stderr
    for run_name, tags in (("train", [*LOSSES, "gradient_norm"]), ("eval", [*LOSSES, "DetectionBoxes_Recall/AR@100"])):
        again, before = written_scalars(tmp_path / run_name), written_scalars(finished[0] / run_name)
        for tag in tags:
            assert len(again[tag]) >= 3
            assert again[tag] == before[tag]
    np.testing.assert_equal(weights(tmp_path / "ckpt-4"), weights(finished[0] / "ckpt-4"))


def test_the_terminal_shows_progress_and_the_way_to_tensorboard_and_nothing_else(finished):
    model_dir, process = finished
    assert not re.search("warning|error", process.stderr, re.IGNORECASE)  # nothing but the bars of evaluations
    lines = process.stdout.splitlines()
    assert re.fullmatch(r"step 1/7  total_loss [\d.]+  classification_loss .* localization_loss .*", lines[3])
    assert re.search(r"^step 7/7 .* steps/s  [\d.]+ images/s  0:00:00 left$", process.stdout, re.MULTILINE)
    assert f"Checkpoint: {model_dir}/ckpt-4" in lines
    look = re.fullmatch(r"Look at the results: (\S*tensorboard) --logdir (.*)", lines[-3])
    assert look[2] == str(model_dir)
    assert subprocess.run([look[1], "--version"], capture_output=True, check=False).returncode == 0
    findings = [line for line in lines if re.match(r"  (error|warning|note)|    (--set|images:) ", line)]
    assert len(lines) - len(findings) < 35


def test_a_summary_of_the_run_is_in_tensorboard(finished):
    model_dir, _ = finished
    (first_step, _), (last_step, text) = shown_tensors(model_dir / "train")["summary"]
    assert (first_step, last_step) == (0, 7)
    lines = dict(
        line.split(maxsplit=1) for line in text.item().decode().splitlines() if not line.lstrip().startswith("eval")
    )
    kept = json.loads((model_dir / "best" / "best.json").read_text())
    assert lines["best"] == f"step {kept['step']}: {kept['metric']} {kept['value']:.4g}"
    assert lines["step"] == "7 of 7"
    assert f"tensorflow {tf.__version__}" in lines["versions"]
    assert f"--model_dir={model_dir}" in lines["command"]


def test_the_config_as_run_is_in_the_model_dir(finished):
    assert Pipeline.load(finished[0] / "pipeline.config").config.train_config.batch_size == 2


def test_images_of_the_first_batch_are_in_tensorboard(finished):
    shown = shown_images(finished[0] / "train")
    assert set(shown) == {"train_input_images"}
    for step, images in shown["train_input_images"]:
        assert [np.asarray(image).shape for image in images] == [(96, 96, 3)] * 2, step


def test_losses_of_training_and_evaluation_are_in_the_same_charts(finished):
    curves = written_scalars(finished[0] / "eval")
    assert set(LOSSES) <= set(curves) & set(written_scalars(finished[0] / "train"))
    assert {"DetectionBoxes_Precision/mAP", "DetectionBoxes_Recall/AR@100"} < set(curves)
    assert any(tag.startswith("DetectionBoxes_PerformanceByCategory/mAP/") for tag in curves)
    for tag, points in curves.items():
        assert [step for step, _ in points] == [3, 6, 7], tag


def test_every_evaluation_is_in_files_with_the_checkpoint_it_is_of(finished):
    found = od_eval.load_metrics(finished[0], every=True)
    assert [one["step"] for one in found] == [3, 6, 7]
    assert [one["checkpoint"] for one in found] == [str(finished[0] / f"ckpt-{number}") for number in (2, 3, 4)]
    assert od_eval.load_metrics(finished[0]) == found[-1]
    curves = written_scalars(finished[0] / "eval")
    for one, (_, ap), (_, loss) in zip(
        found, curves["DetectionBoxes_Precision/mAP"], curves["Loss/total_loss"], strict=True
    ):
        assert one["num_images"] == 4
        assert ap == pytest.approx(one["bbox"]["AP"], rel=1e-6)
        assert loss == pytest.approx(one["losses"]["total_loss"], rel=1e-6)
    rows = (finished[0] / "eval" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 4


def test_pycocotools_finds_the_same_in_the_saved_detections(finished):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    for step in (3, 7):
        run = finished[0] / "eval"
        groundtruth = COCO(str(run / "groundtruth.json"))
        evaluation = COCOeval(groundtruth, groundtruth.loadRes(str(run / f"detections/step-{step:08d}.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        metrics = json.loads((run / f"metrics/step-{step:08d}.json").read_text())["bbox"]
        ours = [-1 if value is None else value for value in metrics.values()]
        assert ours == pytest.approx(list(evaluation.stats), abs=1e-9)


def test_the_best_checkpoint_is_the_one_with_the_highest_ap(finished):
    found = od_eval.load_metrics(finished[0], every=True)
    best = json.loads((finished[0] / "best" / "best.json").read_text())
    highest = max(found, key=lambda one: one["bbox"]["AP"])
    assert (best["metric"], best["value"], best["step"]) == ("val_AP", highest["bbox"]["AP"], highest["step"])
    newest = tf.train.latest_checkpoint(str(finished[0] / "best"))
    assert newest == str(finished[0] / "best" / f"ckpt-{highest['step']}")
    reader, original = tf.train.load_checkpoint(newest), tf.train.load_checkpoint(highest["checkpoint"])
    for name in original.get_variable_to_shape_map():
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH" and not name.startswith("save_counter"):
            np.testing.assert_array_equal(reader.get_tensor(name), original.get_tensor(name), err_msg=name)
    assert len(list((finished[0] / "best").glob("ckpt-*.index"))) == 1


def test_the_table_at_the_end_has_the_first_the_best_and_the_last_evaluation(finished):
    table = [[cell for cell in line.split() if "–" not in cell] for line in finished[1].stdout.splitlines()]
    assert ["first", "best", "last", "good", "by", "convention"] in table
    rows = {" ".join(cells[:-3]): cells[-3:] for cells in table if len(cells) > 3}
    assert (rows["step"][0], rows["step"][2]) == ("3", "7")
    training = dict(written_scalars(finished[0] / "train")["Loss/total_loss"])
    assert rows["train total_loss"][2] == f"{training[7]:.4f}"
    last = od_eval.load_metrics(finished[0])
    assert rows["eval total_loss"][2] == f"{last['losses']['total_loss']:.4f}"
    assert rows["eval AP"][2] == f"{last['bbox']['AP']:.4f}"


def test_good_values_and_loss_formulas_are_said_after_the_first_evaluation_and_at_the_end(finished):
    output = finished[1].stdout
    lines = output.splitlines()
    losses = (
        "losses: classification_loss = weighted_sigmoid_focal (alpha 0.25, gamma 2), localization_loss = "
        "weighted_smooth_l1 (delta 1); they compare only within one architecture and input size"
    )
    [first, *_] = [number for number, line in enumerate(lines) if line.startswith("eval at ")]
    assert lines[first + 1].endswith(": AP 0.45–0.65, AP50 0.85–0.95")
    assert lines[first + 2] == f"  {losses}"
    assert lines.count(f"  {losses}") == lines.count(losses) == 1
    assert re.search(r"^eval AP +\S+ +\S+ +\S+  0\.45–0\.65$", output, re.MULTILINE)
    assert re.search(r"^eval AP75 +\S+ +\S+ +\S+$", output, re.MULTILINE)
    assert lines[lines.index(losses) - 1].startswith("eval F1 ")


def test_a_training_is_diagnosed_after_every_evaluation_and_what_is_new_is_printed(finished):
    model_dir, process = finished
    kinds = [{finding["kind"] for finding in one["findings"]} for one in od_eval.load_metrics(model_dir, every=True)]
    assert all("small_evaluation_set" in of_step and "diagnosis_failed" not in of_step for of_step in kinds)
    printed = re.findall(
        r"^  \S+.*: fewer than \d+ of the 4 evaluated images have objects", process.stdout, re.MULTILINE
    )
    assert len(printed) == 1
    assert [step for step, _ in shown_tensors(model_dir / "eval", "text")["findings"]] == [3, 6, 7]
    report = od_eval.diagnose(model_dir)
    assert (report.step, report.last_step, report.num_points, report.num_evaluations) == (7, 7, 4, 3)
    assert report.notes == []
    assert "small_evaluation_set" in {finding.kind for finding in report.findings}


def test_a_finished_run_started_again_does_nothing(finished, ssd_config, config_overrides, capsys):
    before = sorted((path, path.stat().st_mtime_ns) for path in finished[0].rglob("ckpt-*"))
    training.train(str(ssd_config), str(finished[0]), overrides=config_overrides, num_train_steps=7)
    assert "Nothing to train" in capsys.readouterr().out
    assert before == sorted((path, path.stat().st_mtime_ns) for path in finished[0].rglob("ckpt-*"))


def test_a_run_interrupted_in_every_way_and_started_again_makes_one_unbroken_curve(
    ssd_config, config_overrides, tmp_path
):
    model_dir = tmp_path / "run"
    flags = ("--checkpoint_every_n=8", "--eval_every_n=4", "--log_every_n=1")
    learning_rate = "--learning_rate=cyclical:low=0.001,high=0.005,period=6"
    args = (ssd_config, config_overrides, model_dir, *flags, learning_rate)

    background = Background(*args, "--num_train_steps=100000")
    background.wait_for(r"^step\s+1/")
    time.sleep(2)
    status, output, errors = background.stop(signal.SIGTERM)
    assert status == 143
    assert "Stopping after the steps under way …\n" in errors
    stopped_at = checkpointed_step(tf.train.latest_checkpoint(str(model_dir)))
    assert "The same command continues from there" in output
    assert steps(model_dir / "train") == list(range(1, stopped_at + 1))

    background = Background(*args, "--num_train_steps=100000")
    assert int(background.wait_for(r"Continuing from .*, step (\d+)\.")[1]) == stopped_at
    background.wait_for(r"^step\s+\d+/")
    status, _, _ = background.stop(signal.SIGINT)
    assert status == 130
    stopped_at = checkpointed_step(tf.train.latest_checkpoint(str(model_dir)))

    background = Background(*args, "--num_train_steps=100000")
    background.wait_for(r"^step\s+\d+/")
    while steps(model_dir / "train")[-1] < stopped_at + 10:  # beyond a checkpoint
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
    assert f"Continuing from {newest}, step {going_on_from}." in process.stdout
    assert f"warning: checkpoint '{broken}' is damaged and was skipped" in process.stderr
    assert steps(model_dir / "train") == list(range(1, last + 1))
    optimizer_steps = tf.train.load_variable(str(model_dir), "optimizer/iter/.ATTRIBUTES/VARIABLE_VALUE")
    assert optimizer_steps == last == checkpointed_step(tf.train.latest_checkpoint(str(model_dir)))
    _, summary = shown_tensors(model_dir / "train")["summary"][-1]
    assert "learning_rate 0.005," in str(summary)
    assert "schedule cyclical," in str(summary)
    cycle = np.array([0.001, 0.007 / 3, 0.011 / 3, 0.005, 0.011 / 3, 0.007 / 3])
    rates = [rate for _, rate in written_scalars(model_dir / "train")["learning_rate"]]
    np.testing.assert_allclose(rates, np.resize(cycle, last), rtol=1e-5)
    evaluated = sorted({*range(4, last + 1, 4), last})
    assert steps(model_dir / "eval") == evaluated
    assert [one["step"] for one in od_eval.load_metrics(model_dir, every=True)] == evaluated


# ---- Several evaluation sets, early stopping, evaluations that fail ------------------------------------------------


def with_a_broken_record(whole, folder):
    """A copy of a record file whose record 3 is damaged within its image, which only its checksum tells."""
    records = list(tf.data.TFRecordDataset(str(whole)).as_numpy_iterator())
    (image,) = tf.train.Example.FromString(records[3]).features.feature["image/encoded"].bytes_list.value
    data = bytearray(whole.read_bytes())
    data[sum(len(record) + 16 for record in records[:3]) + 12 + records[3].index(image) + len(image) // 2] ^= 0xFF
    (folder / "broken.tfrecord").write_bytes(data)
    return folder / "broken.tfrecord"


def test_each_reader_has_its_run_a_failing_one_is_reported_and_early_stopping_is_remembered(
    ssd_config, config_overrides, shapes, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(strategies, "has_accelerator", lambda: True)  # so that an execution has two steps
    (validation,) = shapes.glob("validation-*")
    broken = with_a_broken_record(validation, tmp_path)
    night = f"eval_input_reader[1].tf_record_input_reader.input_path={broken}"
    args = (str(ssd_config), str(tmp_path / "run"))
    kwargs = dict(
        overrides=[*config_overrides, night, "eval_input_reader[1].name=night"],
        num_train_steps=100,
        checkpoint_every_n=4,
        eval_every_n=2,
        evaluation=EvaluationPlan(
            on_train_data=True,
            sample_1_of_n_train_examples=4,
            early_stopping_metric="val_total_loss",
            early_stopping_patience=2,
            early_stopping_min_delta=1e6,
        ),
    )
    message = error_of(training.train, *args, **kwargs)
    assert message.startswith(f"eval/night: the evaluation at step 6 failed: '{broken}' is truncated or corrupt")
    printed = capsys.readouterr()
    assert re.search(r"^step +2/100 ", printed.out, re.MULTILINE)
    assert not re.search(r"^step +1/100 ", printed.out, re.MULTILINE)
    warnings = [line for line in printed.err.splitlines() if line.startswith("warning")]
    assert [
        f"warning: eval/night: the evaluation at step {step} failed" in line
        for step, line in zip((2, 4, 6), warnings, strict=True)
    ]
    assert steps(tmp_path / "run" / "eval") == [2, 4, 6]  # the first is an improvement, the next two are not
    assert steps(tmp_path / "run" / "eval_train") == [2, 4, 6]
    assert od_eval.load_metrics(tmp_path / "run", "eval_train")["num_images"] == 4
    saved = [checkpointed_step(path.with_suffix("")) for path in sorted((tmp_path / "run").glob("ckpt-*.index"))]
    assert saved == [0, 4, 6]
    with pytest.raises(ODEvalError, match="no evaluation"):
        od_eval.load_metrics(tmp_path / "run", "eval/night")

    kwargs["overrides"] = config_overrides
    training.train(*args, **kwargs)
    assert "early stopping has ended this run" in capsys.readouterr().out
    assert steps(tmp_path / "run" / "train") == [6]


def test_a_range_test_ends_with_a_suggestion_instead_of_an_evaluation(ssd_config, config_overrides, tmp_path, capsys):
    training.train(
        str(ssd_config),
        str(tmp_path / "run"),
        overrides=config_overrides,
        num_train_steps=40,
        learning_rate="range_test:low=1e-4,high=1e4",
        log_every_n=1,
    )
    rates = [rate for _, rate in written_scalars(tmp_path / "run" / "train")["learning_rate"]]
    assert 10 < len(rates) < 40  # a rate of thousands ends it
    np.testing.assert_allclose(rates, np.geomspace(1e-4, 1e4, 40)[: len(rates)], rtol=1e-5)
    assert re.search(r"as the highest rate\.$|suggests no learning rate", capsys.readouterr().out, re.MULTILINE)
    assert not (tmp_path / "run" / "eval").exists()


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"early_stopping_metric": "AP"}, "early_stopping_metric is 'AP', but there is no such metric"),
        ({"best_metric": "val_mAP"}, "best_metric is 'val_mAP'"),
        ({"best_needs_certainty": True, "analysis": None}, "best_needs_certainty needs the analyses of errors"),
        (
            {"best_needs_certainty": True, "best_metric": "val_AP50"},
            "best_needs_certainty is about val_AP, and best_metric is 'val_AP50'",
        ),
    ],
)
def test_a_metric_that_there_is_not_is_refused_before_training(ssd_config, config_overrides, tmp_path, plan, words):
    plan = EvaluationPlan(**plan)
    message = error_of(
        training.train, str(ssd_config), str(tmp_path / "run"), overrides=config_overrides, evaluation=plan
    )
    assert words in message
    assert not (tmp_path / "run" / "train").exists()


def test_an_evaluation_input_that_is_not_there_is_refused_before_training(ssd_config, config_overrides, tmp_path):
    overrides = [*config_overrides, "eval_input_reader.tf_record_input_reader.input_path=/nowhere"]
    message = error_of(training.train, str(ssd_config), str(tmp_path / "run"), overrides=overrides)
    assert "eval_input_reader[0].tf_record_input_reader.input_path '/nowhere' matches no file" in message
    assert "eval_every_n=0" in message


# ---- Checkpoints of another process ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluated(finished, ssd_config, config_overrides, tmp_path_factory):
    """The model_dir of an evaluation of the finished run's checkpoints, and the arguments that made it."""
    model_dir = tmp_path_factory.mktemp("evaluated") / "run"
    args = (str(ssd_config), str(model_dir), str(finished[0]))
    kwargs = dict(overrides=config_overrides, num_train_steps=8, timeout=2)
    evaluate_checkpoints(*args, **kwargs)
    return model_dir, args, kwargs


def test_every_checkpoint_is_evaluated_in_order_with_the_same_result_as_in_training(finished, evaluated):
    found = od_eval.load_metrics(evaluated[0], every=True)
    assert [(one["step"], os.path.basename(one["checkpoint"])) for one in found] == [
        (0, "ckpt-1"),
        (3, "ckpt-2"),
        (6, "ckpt-3"),
        (7, "ckpt-4"),
    ]
    for ours, in_training in zip(found[1:], od_eval.load_metrics(finished[0], every=True), strict=True):
        assert ours["losses"] == pytest.approx(in_training["losses"], rel=1e-5)
        assert ours["bbox"] == pytest.approx(in_training["bbox"], abs=1e-6)
    assert steps(evaluated[0] / "eval") == [0, 3, 6, 7]
    best = max(found, key=lambda one: one["bbox"]["AP"])
    assert json.loads((evaluated[0] / "best" / "best.json").read_text())["step"] == best["step"]
    assert sorted(path.name for path in evaluated[0].iterdir()) == ["best", "eval"]


def test_no_checkpoint_is_evaluated_twice_unless_it_is_named(finished, evaluated, capsys):
    model_dir, args, kwargs = evaluated
    before = {path: path.stat().st_mtime_ns for path in model_dir.rglob("step-*.json")}
    evaluate_checkpoints(*args, **kwargs)
    assert "No new checkpoint came within 2 seconds." in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in model_dir.rglob("step-*.json")}
    evaluate_checkpoints(*args[:2], str(finished[0] / "ckpt-2"), **kwargs)
    changed = {path.name for path, time_ns in before.items() if path.stat().st_mtime_ns != time_ns}
    assert changed == {"step-00000003.json"}


def test_a_checkpoint_dir_that_stays_empty_is_an_error(ssd_config, config_overrides, tmp_path):
    arguments = (str(ssd_config), str(tmp_path / "run"))
    message = error_of(evaluate_checkpoints, *arguments, str(tmp_path / "none"), overrides=config_overrides, timeout=1)
    assert f"no checkpoint came to '{tmp_path}/none' within 1 seconds" in message
    message = error_of(evaluate_checkpoints, *arguments, str(tmp_path / "ckpt-3"), overrides=config_overrides)
    assert f"'{tmp_path}/ckpt-3' does not exist" in message


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


def test_a_model_dir_that_cannot_be_written_is_found_before_anything_else(ssd_config, config_overrides, tmp_path):
    (tmp_path / "file").write_text("")
    message = error_of(training.train, str(ssd_config), str(tmp_path / "file" / "run"), overrides=config_overrides)
    assert f"model_dir '{tmp_path}/file/run' cannot be written to: " in message
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
    assert "Only outputs differ: num_classes or the anchors are different." in message
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
        assert ("warning: train_config.optimizer differs from that of the run" in capsys.readouterr().err) == warns


def test_a_damaged_record_is_named_with_its_file_when_training_fails_on_it(
    ssd_config, config_overrides, shapes, tmp_path
):
    (whole,) = shapes.glob("train-*")
    broken = with_a_broken_record(whole, tmp_path)
    overrides = [*config_overrides, f"train_input_reader.tf_record_input_reader.input_path={broken}"]
    message = error_of(training.train, str(ssd_config), str(tmp_path / "run"), overrides=overrides, num_train_steps=9)
    assert f"'{broken}' is truncated or corrupt at record 3" in message
    assert not tf.summary.should_record_summaries(), "nothing writes to a run of it any more"
