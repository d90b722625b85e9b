"""Training and evaluation by several workers on this machine, started as a user starts them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import tensorflow as tf

import od_eval
from od_eval import Detector, Pipeline
from training_program import REPOSITORY, Background, checkpointed_step, clusters, environment, steps


@pytest.fixture
def overrides(config_overrides, shapes, tmp_path):
    """Two files for training; five images for evaluation, two of one name, so that two workers have 3 and 2 of them."""
    (train,) = shapes.glob("train-*")
    for number in (0, 1):
        shutil.copy(train, tmp_path / f"train-0000{number}-of-00002")
    (validation,) = shapes.glob("validation-*")
    records = list(tf.data.TFRecordDataset(str(validation)).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(tmp_path / "five")) as writer:
        for record in [*records, records[0]]:
            writer.write(record)
    return [
        *config_overrides,
        f"train_input_reader.tf_record_input_reader.input_path={tmp_path}/train-*-of-00002",
        f"eval_input_reader.tf_record_input_reader.input_path={tmp_path}/five",
        "eval_config.batch_size=2",
        'eval_config.metrics_set=["coco_detection_metrics", "pascal_voc_detection_metrics"]',
    ]


def start(config, overrides, model_dir, *flags, num_workers=2):
    flags = (f"--num_workers={num_workers}", "--log_every_n=1", *flags)
    return [Background(config, overrides, model_dir, *flags, TF_CONFIG=one) for one in clusters(num_workers)]


@pytest.mark.parametrize("num_workers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_workers_that_train_and_evaluate_together_have_the_numbers_of_one(ssd_config, overrides, tmp_path, num_workers):
    model_dir = tmp_path / "run"
    for number in range(2, num_workers):
        shutil.copy(tmp_path / "train-00000-of-00002", tmp_path / f"train-0000{number}-of-00002")
    overrides = [*overrides, f"train_config.batch_size={2 * num_workers}"]
    flags = ("--num_train_steps=2", "--best_metric=val_total_loss", "--save_detections")
    workers = start(ssd_config, overrides, model_dir, *flags, num_workers=num_workers)
    outputs = [worker.process.communicate(timeout=500) for worker in workers]
    assert [worker.process.returncode for worker in workers] == [0] * num_workers, outputs
    assert steps(model_dir / "train") == [1, 2]
    assert [output for output, _ in outputs[1:]] == ["Loading TensorFlow …\n"] * (num_workers - 1)

    pipeline = Pipeline.load(model_dir / "pipeline.config")
    detector = Detector(pipeline)
    detector.compile()
    newest = tf.train.latest_checkpoint(str(model_dir))
    detector.checkpoint().restore(newest).expect_partial()
    alone = od_eval.evaluate(detector, pipeline.eval_dataset(), step=2)
    together = od_eval.load_metrics(model_dir)
    assert together["num_images"] == 5 == alone.num_images
    assert together["losses"] == alone.losses
    assert together["bbox"] == json.loads(json.dumps(alone.bbox))
    assert together["per_category"] == json.loads(json.dumps(alone.per_category))
    assert together["other"] == alone.other
    assert any("PascalBoxes" in name for name in alone.other)
    best = json.loads((model_dir / "best" / "best.json").read_text())
    assert (best["step"], best["value"]) == (2, alone.losses["total_loss"])
    reader = tf.train.load_checkpoint(newest)
    of_best = tf.train.load_checkpoint(str(model_dir / "best" / best["checkpoint"]))
    for name in reader.get_variable_to_shape_map():
        if name.endswith("VARIABLE_VALUE") and not name.startswith("save_counter"):
            assert (reader.get_tensor(name) == of_best.get_tensor(name)).all(), name


@pytest.mark.slow
def test_two_workers_stop_together_and_the_chief_alone_writes(ssd_config, overrides, tmp_path):
    model_dir = tmp_path / "run"
    flags = ("--checkpoint_every_n=2", "--eval_every_n=0")
    chief, other = start(ssd_config, overrides, model_dir, *flags, "--num_train_steps=100000")
    chief.wait_for(r"^step\s+1/")
    for worker, errors in ((other, other.stop(signal.SIGTERM)[2]), (chief, chief.process.communicate(timeout=60)[1])):
        assert worker.process.returncode == 143, errors
    stopped_at = checkpointed_step(tf.train.latest_checkpoint(str(model_dir)))

    last = stopped_at + 3
    workers = start(ssd_config, overrides, model_dir, *flags, f"--num_train_steps={last}")
    outputs = [worker.process.communicate(timeout=400) for worker in workers]
    assert f"step {last}/{last}" in outputs[0][0], outputs
    assert outputs[1][0] == "Loading TensorFlow …\n"
    assert steps(model_dir / "train") == list(range(1, last + 1))
    assert len(list((model_dir / "train").glob("events*"))) == 2  # a file for each of the chief's runs
    assert {path.name for path in model_dir.iterdir() if path.is_dir()} == {"train"}
    assert checkpointed_step(tf.train.latest_checkpoint(str(model_dir))) == last


class Restarted:
    """A worker that is started again whenever it ends, but for a status of 0, as a scheduler does."""

    def __init__(self, *args, **variables):
        self.statuses, self.errors = [], []
        self._args, self._variables = args, variables
        self._process = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self.statuses or self.statuses[-1] != 0:
            self._process = Background(*self._args, **self._variables).process
            _, errors = self._process.communicate()
            self.statuses.append(self._process.returncode)
            self.errors.append(errors)

    def send(self, signal_number):
        self._process.send_signal(signal_number)

    def join(self, seconds):
        self._thread.join(seconds)
        return not self._thread.is_alive()


@pytest.mark.slow
def test_a_group_that_is_started_again_goes_on_whoever_was_killed_or_stopped(ssd_config, overrides, tmp_path):
    model_dir = tmp_path / "run"
    flags = ("--num_workers=2", "--log_every_n=1", "--checkpoint_every_n=3", "--num_train_steps=40", "--noanalysis")
    group = [Restarted(ssd_config, overrides, model_dir, *flags, TF_CONFIG=one) for one in clusters(2)]

    def wait_for_step(step):
        ends = time.monotonic() + 400
        while time.monotonic() < ends:
            newest = tf.train.latest_checkpoint(str(model_dir))
            if newest is not None and checkpointed_step(newest) >= step:
                return
            time.sleep(0.3)
        pytest.fail(f"no checkpoint of step {step}: {[one.errors for one in group]}")

    wait_for_step(3)  # and the evaluation begins, or goes on
    group[1].send(signal.SIGKILL)
    wait_for_step(9)
    group[0].send(signal.SIGKILL)
    wait_for_step(15)
    group[1].send(signal.SIGSTOP)  # its heart stops; the chief ends, and starts again
    time.sleep(40)
    group[1].send(signal.SIGCONT)
    assert [one.join(600) for one in group] == [True, True], [(one.statuses, one.errors) for one in group]
    assert {status for one in group for status in one.statuses} == {0, 75, -signal.SIGKILL}
    assert any("was lost" in errors for one in group for errors in one.errors)
    assert steps(model_dir / "train") == list(range(1, 41))
    evaluated = [*range(3, 40, 3), 40]
    assert steps(model_dir / "eval") == evaluated
    assert [one["step"] for one in od_eval.load_metrics(model_dir, every=True)] == evaluated


# Who is hit by what, while what is going on.
FAULTS = [
    ("chief", signal.SIGKILL, "evaluation"),
    ("worker", signal.SIGKILL, "evaluation"),
    ("chief", signal.SIGSTOP, "evaluation"),
    ("worker", signal.SIGSTOP, "evaluation"),
    ("chief", signal.SIGKILL, "checkpoint"),
    ("worker", signal.SIGKILL, "checkpoint"),
    ("chief", signal.SIGSTOP, "checkpoint"),
    ("worker", signal.SIGSTOP, "checkpoint"),
    ("chief", signal.SIGSTOP, "training"),
]


@pytest.mark.slow
def test_faults_while_a_checkpoint_is_written_and_while_it_is_evaluated_leave_no_gap(ssd_config, overrides, tmp_path):
    model_dir = tmp_path / "run"
    last = 6 * len(FAULTS) + 6
    flags = ("--num_workers=2", "--log_every_n=1", "--checkpoint_every_n=3", f"--num_train_steps={last}")
    group = [Restarted(ssd_config, overrides, model_dir, *flags, "--noanalysis", TF_CONFIG=one) for one in clusters(2)]

    def newest_step():
        newest = tf.train.latest_checkpoint(str(model_dir))
        return 0 if newest is None else checkpointed_step(newest)

    def is_evaluated(step):
        return (model_dir / "eval" / "metrics" / f"step-{step:08}.json").exists()

    def is_going_on(what, step):
        if what == "checkpoint":  # TensorFlow's temporary files, before those of the checkpoint
            return any("temp" in name for name in os.listdir(model_dir)) and newest_step() >= step
        if what == "evaluation":
            return newest_step() >= step and not is_evaluated(newest_step())
        return newest_step() >= step and is_evaluated(newest_step())

    step = 3
    for who, signal_number, what in FAULTS:
        ends = time.monotonic() + 300
        while not is_going_on(what, step):
            assert time.monotonic() < ends, f"no {what} from step {step} on: {[one.errors for one in group]}"
            time.sleep(0.0005 if what == "checkpoint" else 0.1)
        hit = group[0 if who == "chief" else 1]
        hit.send(signal_number)
        step = newest_step() + 3
        if signal_number == signal.SIGSTOP:
            time.sleep(30)  # its heart stops; the other ends, and starts again
            hit.send(signal.SIGCONT)
    assert [one.join(600) for one in group] == [True, True], [(one.statuses, one.errors) for one in group]
    statuses = [status for one in group for status in one.statuses]
    assert statuses.count(-signal.SIGKILL) == 4, statuses
    assert set(statuses) == {0, 75, -signal.SIGKILL}, [one.errors for one in group]
    assert steps(model_dir / "train") == list(range(1, last + 1))
    evaluated = list(range(3, last + 1, 3))
    assert steps(model_dir / "eval") == evaluated
    assert [one["step"] for one in od_eval.load_metrics(model_dir, every=True)] == evaluated
    assert not [name for name in os.listdir(model_dir) if "temp" in name or name.endswith(".tmp")]


@pytest.mark.slow
def test_ray_starts_a_group_again_that_has_lost_a_worker(ssd_config, overrides, tmp_path):
    psutil = pytest.importorskip("psutil")
    model_dir = tmp_path / "run"
    flags = ("--log_every_n=1", "--checkpoint_every_n=10", "--num_train_steps=120", "--noanalysis")
    sets = [f"--set={override}" for override in overrides]
    program = [
        sys.executable,
        REPOSITORY / "examples" / "ray_train.py",
        "--num_workers=2",
        f"--storage_path={tmp_path}",
    ]
    program += [f"--pipeline_config_path={ssd_config}", f"--model_dir={model_dir}", *flags, *sets]
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(program, env=environment(RAY_ADDRESS="local"), stdout=output, stderr=output)
        try:
            killed = None
            while process.poll() is None:
                newest = tf.train.latest_checkpoint(str(model_dir))
                if killed is None and newest is not None and checkpointed_step(newest) >= 20:
                    workers = [
                        one
                        for one in psutil.Process(process.pid).children(recursive=True)
                        if f"--model_dir={model_dir}" in one.cmdline() and "-c" in one.cmdline()
                    ]
                    killed = min(worker.pid for worker in workers)
                    os.kill(killed, signal.SIGKILL)
                time.sleep(0.2)
        finally:
            process.kill()
    said = (tmp_path / "output").read_text()
    assert process.returncode == 0, said[-5000:]
    assert killed is not None
    assert "Continuing from " in said
    assert steps(model_dir / "train") == list(range(1, 121))
    assert [one["step"] for one in od_eval.load_metrics(model_dir, every=True)] == list(range(10, 121, 10))
