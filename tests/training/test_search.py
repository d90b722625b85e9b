"""A search with a program in the place of training, that writes metrics as it does; and once with trainings."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from made_images import evaluated, random_images
from od_eval.errors import ODEvalError
from od_eval.evaluation.analyses.intervals import difference_intervals
from od_eval.evaluation.result import EvaluationResult
from od_eval.runs import analysis_files, metrics_files, object_files
from od_eval.runs.lock import locked
from od_eval.training import search as searching
from od_eval.training.search import search, stopping_bar

REPOSITORY = Path(__file__).parents[2]
FIELD = "train_config.batch_size"

# Its batch size says what it does: PLAN has, for each, the values of its evaluations and how it ends.
TRAINER = """
import json, os, signal, sys, time
sets = dict(argument[6:].split("=", 1) for argument in sys.argv[1:] if argument.startswith("--set="))
named = dict(argument[2:].split("=", 1) for argument in sys.argv[1:] if not argument.startswith("--set="))
plan = json.loads(os.environ["PLAN"])[sets["train_config.batch_size"]]
folder = os.path.join(named["model_dir"], "eval", "metrics")
os.makedirs(folder, exist_ok=True)
with open(os.path.join(named["model_dir"], "arguments"), "a") as file:
    print(*sys.argv[1:], file=file)

def stop(number, frame):
    with open(os.path.join(named["model_dir"], "stopped"), "w") as file:
        file.write(signal.Signals(number).name)
    sys.exit(128 + number)

signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
print("Loading …", flush=True)
for index, value in enumerate(plan["values"], start=1):
    path = os.path.join(folder, f"step-{100 * index:08d}.json")
    if not os.path.exists(path):
        with open(path + ".tmp", "w") as file:
            file.write(os.environ["RESULT"].replace("0.123456", json.dumps(value)).replace("999", str(100 * index)))
        os.rename(path + ".tmp", path)
        time.sleep(plan.get("pause", 0))
if plan.get("end") == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
elif plan.get("end") == "wait":
    time.sleep(60)
elif plan.get("end"):
    print("a warning", file=sys.stderr)
    sys.exit(plan["end"])
"""

RESULT = json.dumps(
    EvaluationResult(4, step=999, bbox={"AP": 0.123456}, losses={"total_loss": 0.123456}).to_json_dict()
)


@pytest.fixture
def made(tmp_path, ssd_config, monkeypatch):
    monkeypatch.setattr(searching, "_SECONDS_BETWEEN_LOOKS", 0.02)
    return Made(tmp_path, ssd_config, monkeypatch)


class Made:
    """A search in a folder, whose trainer does what is planned."""

    def __init__(self, folder, config, monkeypatch):
        self.folder = folder / "search"
        self.config = config
        self.trainer = folder / "trainer.py"
        self.trainer.write_text(TRAINER)
        self.said = []
        self._monkeypatch = monkeypatch

    def plan(self, **plans):
        """`b4={"values": […]}` is what happens with a batch size of 4."""
        self._monkeypatch.setenv("PLAN", json.dumps({size[1:]: plan for size, plan in plans.items()}))
        self._monkeypatch.setenv("RESULT", RESULT)
        return ",".join(size[1:] for size in plans)

    def run(self, sizes, **arguments):
        self.said = []
        program = (sys.executable, "-S", str(self.trainer))
        arguments = {"method": "grid", **arguments}
        return search(
            str(self.config), str(self.folder), [f"{FIELD}={sizes}"], program=program, say=self.said.append, **arguments
        )

    def text(self):
        return "\n".join(self.said)

    def file(self, trial, name):
        return (self.folder / f"trial-{trial:04d}" / name).read_text()


def sizes_of(trials):
    return [trial.values[FIELD] for trial in trials]


def test_each_trial_is_a_training_with_its_values_and_the_best_one_comes_first(made):
    sizes = made.plan(b4={"values": [0.1, 0.4]}, b8={"values": [0.5, 0.3]}, b2={"values": [0.2]})
    trials = made.run(sizes, train_arguments=["--num_train_steps=200", "--set=train_config.num_steps=7"])
    assert sizes_of(trials) == ["8", "4", "2"]
    assert [trial.state for trial in trials] == ["finished"] * 3
    assert trials[0].curve == {100: 0.5, 200: 0.3}
    assert json.loads(made.file(2, "trial.json")) == {"values": {FIELD: "8"}, "state": "finished", "remark": ""}
    assert made.file(1, "arguments").split() == [
        "--num_train_steps=200",
        "--set=train_config.num_steps=7",
        f"--hparam={FIELD}",
        f"--model_dir={made.folder}/trial-0001",
        f"--set={FIELD}=4",
    ]
    assert "Loading …" in made.file(1, "log.txt")


def test_evaluations_are_said_and_a_table_ends_with_what_to_set(made):
    made.run(made.plan(b4={"values": [0.1, 0.4]}, b8={"values": [0.5]}))
    assert "trial-0001 of 2: batch_size=4" in made.said
    assert "trial-0001  step 200  AP 0.4000  best 0.4000 (trial-0001)" in made.said
    assert "trial-0002  step 100  AP 0.5000  best 0.5000 (trial-0002)" in made.said
    table = made.said[-1].strip().splitlines()
    assert table[0].split() == ["trial", "AP", "step", "state", "batch_size"]
    assert table[1].split() == ["trial-0002", "0.5000", "100", "finished", "8"]
    assert f"Best: trial-0002, AP 0.5000: --set {FIELD}=8" in table


def test_of_a_loss_the_lowest_is_the_best(made):
    sizes = made.plan(b4={"values": [0.1, 0.4]}, b8={"values": [0.5, 0.3]})
    trials = made.run(sizes, metric="val_total_loss")
    assert sizes_of(trials) == ["4", "8"]
    assert "Best: trial-0001, total_loss 0.1000" in made.text()
    assert "--best_metric=val_total_loss" in made.file(1, "arguments").split()


def shifted(batches, by):
    """The same images, their detections moved to the right by pixels."""
    for batch in batches:
        batch.detections.boxes = [boxes + np.float32([0, by, 0, by]) for boxes in batch.detections.boxes]
    return batches


@pytest.mark.parametrize(("by", "words"), [(3, "more than the choice of images explains"), (0.05, "may explain")])
def test_how_certain_the_lead_of_the_best_is_comes_from_the_images_both_were_evaluated_on(made, by, words):
    sizes = made.plan(b4=good(0.1), b8=good(0.2))
    made.run(sizes)
    evaluators = {1: evaluated(random_images(0, num=40)), 2: evaluated(shifted(random_images(0, num=40), by))}
    for trial, evaluator in evaluators.items():
        run_dir = made.folder / f"trial-{trial:04d}" / "eval"
        shutil.rmtree(run_dir)
        table = evaluator.object_tables()["bbox"]
        analysis_files.write(str(run_dir), 100, {object_files.FILE_NAMES["bbox"]: object_files.parquet(table)})
        metrics_files.write(str(run_dir), evaluator.evaluate(step=100))
    trials = made.run(sizes)
    best, second = (evaluators[trial.number] for trial in trials)
    lead = best.evaluate().bbox["AP"] - second.evaluate().bbox["AP"]
    tables = [evaluator.object_tables()["bbox"] for evaluator in (second, best)]
    interval = difference_intervals(*tables, 0.5, 0.5).overall["AP"]  # of AP, so whatever the confidence
    said = re.search(r"ahead of (\S+) by (\S+) \(95% interval (\S+) to (\S+)\), (.*?)\.", made.said[-1])
    assert said[1] == trials[1].name
    assert [float(number) for number in said.groups()[1:4]] == pytest.approx(
        [lead, interval.low, interval.high], abs=1e-4
    )
    assert words in said[5]


# ---- Ending bad trials -----------------------------------------------------------------------------------------------


def test_the_bar_is_the_median_of_the_means_up_to_a_step():
    curves = [{1: 0.1, 2: 0.3, 3: 9.0}, {1: 0.4}, {2: 0.6, 3: 9.0}, {1: 0.8, 2: 0.9}, {3: 9.0}]
    assert stopping_bar(2, curves) == pytest.approx((0.4 + 0.6) / 2)  # of 0.2, 0.4, 0.6, 0.85
    assert stopping_bar(1, curves) is None  # three
    assert stopping_bar(2, curves[:3]) is None


def good(*values):
    return {"values": values}


def test_a_trial_that_does_worse_than_the_median_of_four_is_ended(made):
    sizes = made.plan(
        b1=good(0.2, 0.4),
        b2=good(0.3, 0.5),
        b3=good(0.4, 0.6),
        b4=good(0.5, 0.7),
        b5={"values": [0.1, 0.3], "end": "wait"},
        b6={"values": [0.36, 0.46], "pause": 0.2},  # just above 0.35, the median of 0.2, …; and 0.45, of the means
    )
    trials = made.run(sizes)
    assert [(trial.values[FIELD], trial.state) for trial in trials][-1] == ("5", "ended")
    assert [trial.state for trial in trials].count("finished") == 5
    assert made.file(5, "stopped") == "SIGTERM"
    assert json.loads(made.file(5, "trial.json"))["state"] == "ended"
    (said,) = [line for line in made.said if "is ended" in line]
    assert "the median of the means of 4 completed trials is 0." in said


def test_without_four_completed_trials_or_if_it_is_not_wanted_none_is_ended(made):
    plans = {f"b{size}": good(0.5, 0.6) for size in range(1, 4)}
    bad = {"values": [0.01, 0.02], "pause": 0.2}
    trials = made.run(made.plan(**plans, b9=bad))
    assert {trial.state for trial in trials} == {"finished"}
    made.folder = made.folder.with_name("another")
    trials = made.run(made.plan(**plans, b4=good(0.5, 0.6), b9=bad), end_bad_trials=False)
    assert {trial.state for trial in trials} == {"finished"}


# ---- Trials that fail ------------------------------------------------------------------------------------------------


def test_a_trial_that_crashes_ends_alone_and_its_last_words_are_said(made):
    sizes = made.plan(
        b1={"values": [], "end": "error: no memory; set batch_size=1."},
        b2=good(0.3),
        b3={"values": [0.9], "end": 1},
        b4={"values": [], "end": "kill"},
        b5=good(),
    )
    trials = made.run(sizes)
    assert sizes_of(trials)[:2] == ["2", "3"]
    assert {trial.number: (trial.state, trial.remark) for trial in trials} == {
        1: ("failed", "no memory; set batch_size=1."),
        2: ("finished", ""),
        3: ("failed", "a warning"),
        4: ("failed", "killed by signal 9, as where memory runs out; its last line: Loading …"),
        5: ("failed", "AP is defined in none of its evaluations"),
    }
    assert re.search(r"trial-0001 failed: no memory; set batch_size=1\. \(more in .*trial-0001/log\.txt;", made.text())
    assert "Best: trial-0002" in made.text()


def test_if_the_first_three_fail_the_search_ends(made):
    failing = {"values": [], "end": "error: there is no such file."}
    with pytest.raises(ODEvalError, match="all 3 trials have failed, the last with: there is no such file; correct"):
        made.run(made.plan(b1=failing, b2=failing, b3=failing, b4=good(0.1)))
    assert not (made.folder / "trial-0004").exists()


# ---- Going on --------------------------------------------------------------------------------------------------------


def test_the_same_command_continues_what_is_unfinished_and_skips_what_is_finished(made):
    sizes = made.plan(b4=good(0.1), b8={"values": [0.2], "end": 143}, b2=good(0.3))
    trials = made.run(sizes)
    assert [(trial.number, trial.state) for trial in trials] == [(3, "finished"), (2, "running"), (1, "finished")]
    assert "trial-0002 is stopped; the same command continues it." in made.said
    made.plan(b4=good(0.1), b8=good(0.2, 0.4), b2=good(0.3))
    trials = made.run(sizes)
    assert made.said[0] == "trial-0002 goes on: batch_size=8"
    assert "trial-0002  step 200  AP 0.4000  best 0.4000 (trial-0002)" in made.said
    assert not any("step 100" in line for line in made.said)  # it was said before
    assert trials[0].curve == {100: 0.2, 200: 0.4}
    assert len(made.file(2, "arguments").splitlines()) == 2
    assert len(made.file(1, "arguments").splitlines()) == 1


def test_a_trial_whose_folder_was_removed_is_run_again_with_the_same_values(made):
    made.plan(**{f"b{size}": good(size / 100) for size in range(1, 51)})
    arguments = {"method": "random", "seed": 3, "num_trials": 3}
    before = {trial.number: trial.values for trial in made.run("1..50", **arguments)}
    (made.folder / "trial-0002" / "trial.json").unlink()
    after = {trial.number: trial.values for trial in made.run("1..50", **arguments)}
    assert before == after
    assert [line for line in made.said if " of 3:" in line] == [f"trial-0002 of 3: batch_size={before[2][FIELD]}"]


def test_more_trials_may_be_asked_for_and_random_goes_on_as_if_it_had_not_stopped(made):
    made.plan(**{f"b{size}": good(size / 100) for size in range(1, 51)})
    made.run("1..50", method="random", seed=3, num_trials=2)
    continued = made.run("1..50", method="random", seed=3, num_trials=4)
    made.folder = made.folder.with_name("another")
    assert sizes_of(made.run("1..50", method="random", seed=3, num_trials=4)) == sizes_of(continued)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sizes": "4,16"}, r"has a search with other values of try \(\[\"train_config.batch_size=4,8\"\] instead of"),
        ({"train_arguments": ["--num_train_steps=9"]}, "with other values of train"),
        ({"metric": "val_AP50"}, "with other values of metric"),
    ],
)
def test_another_search_in_the_same_folder_is_refused(made, changed, words):
    made.run(made.plan(b4=good(0.1), b8=good(0.2)))
    with pytest.raises(ODEvalError, match=words):
        made.run(**{"sizes": "4,8", **changed})


def test_an_evaluation_that_is_moved_away_while_it_is_looked_for_does_not_count(made):
    sizes = made.plan(b4=good(0.1), b8=good(0.2))
    made.run(sizes)
    gone = made.folder / "trial-0001" / "eval" / "metrics" / "step-00000200.json"
    gone.symlink_to(made.folder / "nowhere")  # it has a name, and then it is not there
    assert [trial.curve for trial in made.run(sizes)] == [{100: 0.2}, {100: 0.1}]


def test_a_trial_that_a_killed_search_has_left_behind_is_not_trained_twice(made):
    made.run(made.plan(b4={"values": [0.1], "end": 143}))
    with (
        locked(str(made.folder / "trial-0001")),
        pytest.raises(ODEvalError, match=r"trial-0001' is in use by a training"),
    ):
        made.run("4")


def test_bayes_is_told_the_trials_of_before(made, monkeypatch):
    pytest.importorskip("optuna")
    made.plan(**{f"b{size}": good(size / 100) for size in range(1, 51)})
    made.run("1..50", method="bayes", seed=3, num_trials=2)
    told = []
    choose = searching.next_values
    monkeypatch.setattr(searching, "next_values", lambda *given: told.append(given[2]) or choose(*given))
    trials = made.run("1..50", method="bayes", seed=3, num_trials=3)
    ((first, second),) = told
    assert {first.values[FIELD], second.values[FIELD]} < set(sizes_of(trials))
    assert (first.best, first.state) == (int(first.values[FIELD]) / 100, "finished")


# ---- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tried", "arguments", "words"),
    [
        (["train_config.batch_siz=4"], {}, "has no field 'batch_siz'; did you mean 'batch_size'"),
        (["train_config.batch_size=4,x"], {}, "override 'train_config.batch_size=x'"),
        (["train_config.batch_size=0.5..4"], {}, "override 'train_config.batch_size=0.5'"),
        (["train_config.batch_size=4", "train_config.batch_size=8"], {}, "given twice"),
        ([], {}, "nothing to search"),
        (["train_config.batch_size=4..8"], {"method": "grid"}, "needs a list"),
        (["train_config.batch_size=4"], {"method": "gird"}, "none of grid, random, bayes"),
        (["train_config.batch_size=4"], {"num_trials": 0}, "num_trials=0"),
        (["train_config.batch_size=4"], {"metric": "val_APP"}, "did you mean 'val_AP'"),
        (["train_config.batch_size=4"], {"overrides": ["train_config.batch=3"]}, "no field 'batch'"),
    ],
)
def test_a_mistake_is_an_error_before_the_first_trial(ssd_config, tmp_path, tried, arguments, words):
    with pytest.raises(ODEvalError, match=words):
        search(str(ssd_config), str(tmp_path / "search"), tried, **{"method": "random", **arguments})
    assert not (tmp_path / "search").exists()


# ---- The program -----------------------------------------------------------------------------------------------------

PROGRAM = """
import sys
from od_eval import cli
from od_eval.training import search
search.search.__kwdefaults__["program"] = [sys.executable, "-S", sys.argv.pop(1)]
sys.exit(cli.run("search", ["od-eval search", *sys.argv[1:]]))
"""


def program(made, *arguments):
    command = [sys.executable, "-c", PROGRAM, str(made.trainer), f"--pipeline_config_path={made.config}"]
    return subprocess.Popen(
        [*command, f"--model_dir={made.folder}", *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # What a shell starts in the background ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_search_and_its_training(made, sent):
    made.plan(b4={"values": [0.1], "end": "wait"})
    process = program(made, "--try=train_config.batch_size=4", "--noanalysis", "--set=train_config.num_steps=7")
    for line in process.stdout:
        if "step 100" in line:
            break
    process.send_signal(sent)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + sent, output
    assert made.file(1, "stopped") == (sent.name if sent != signal.SIGHUP else "SIGTERM")
    assert json.loads(made.file(1, "trial.json"))["state"] == "running"
    given = made.file(1, "arguments").split()
    assert given[:2] == [f"--pipeline_config_path={made.config}", "--set=train_config.num_steps=7"]
    assert "--noanalysis" in given or "--analysis=false" in given


def test_a_second_signal_does_not_wait_for_a_training_that_does_not_end(made):
    made.trainer.write_text(
        TRAINER.replace("    sys.exit(128 + number)", "    stops.append(number)\n    len(stops) > 1 and sys.exit(9)")
        .replace("def stop", "stops = []\ndef stop")
        .replace("time.sleep(60)", "[time.sleep(0.1) for _ in range(600)]")
    )
    made.plan(b4={"values": [0.1], "end": "wait"})
    process = program(made, "--try=train_config.batch_size=4")
    for line in process.stdout:
        if "step 100" in line:
            break
    process.send_signal(signal.SIGINT)
    for line in process.stdout:
        if "Stopping" in line:
            break
    time.sleep(0.7)  # the first has reached the training
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=15)
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--best_metric=val_AP50"], "--best_metric=val_AP50 is not for a search: give metric instead"),
        (["--eval_every_n=0"], "a search needs evaluations"),
    ],
)
def test_flags_of_a_training_that_make_no_sense_for_a_search_are_refused(made, arguments, words):
    process = program(made, "--try=train_config.batch_size=4", *arguments)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert words in output


@pytest.mark.slow
def test_two_trainings_are_rows_of_hparams_with_a_column_for_the_field(ssd_config, config_overrides, tmp_path):
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams import metadata

    folder = tmp_path / "search"
    field = "train_config.optimizer.momentum_optimizer.learning_rate.cosine_decay_learning_rate.learning_rate_base"
    command = [sys.executable, REPOSITORY / "scripts" / "search.py", f"--pipeline_config_path={ssd_config}"]
    command += [f"--set={override}" for override in config_overrides]
    command += [f"--model_dir={folder}", f"--try={field}=0.01,0.02", "--method=grid", "--num_train_steps=4"]
    command += ["--eval_every_n=2", "--seed=1"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Best: trial-000" in done.stdout
    assert f"--set {field}=0.0" in done.stdout
    runs = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    columns = []
    for trial, rate in (("trial-0001", 0.01), ("trial-0002", 0.02)):
        contents = runs.SummaryMetadata(f"{trial}/eval", metadata.SESSION_START_INFO_TAG).plugin_data.content
        start = metadata.parse_session_start_info_plugin_data(contents)
        assert start.hparams["learning_rate_base"].number_value == rate
        contents = runs.SummaryMetadata(f"{trial}/eval", metadata.EXPERIMENT_TAG).plugin_data.content
        columns.append([info.name for info in metadata.parse_experiment_plugin_data(contents).hparam_infos])
    assert columns[0] == columns[1]
    assert columns[0][0] == "learning_rate_base"
