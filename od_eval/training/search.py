"""Tries values of fields of a pipeline.config: one training each, of which bad ones are ended early.

trials = search(
    "pipeline.config", "runs/search", ["train_config.batch_size=4,8"], method="grid",
    train_arguments=["--pipeline_config_path=pipeline.config", "--num_train_steps=1000"],
)

search.json                what is searched
trial-0001/                a model_dir, as `od-eval train` writes it
trial-0001/trial.json      its values, state and best value
trial-0001/log.txt         what the training has printed
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
import re
import secrets
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, Literal, get_args

from od_eval import files, text
from od_eval.errors import ODEvalError
from od_eval.evaluation.better import direction, is_better, main_metric
from od_eval.evaluation.section import all_sections
from od_eval.odapi.overrides import overridden, short_names
from od_eval.runs import metrics_files
from od_eval.runs.comparison import compare
from od_eval.runs.lock import locked
from od_eval.runs.model_dir import check_model_dir
from od_eval.signals import DeferredSignals
from od_eval.tensorboard import tags
from od_eval.tensorboard.command import how_to_look
from od_eval.training.search_space import Outcome, Tried, check_method, next_values, parse

METHODS = ("grid", "random", "bayes")
NUM_TRIALS = 20
# Trials that have been completed before another one is ended, so that the median of them means something: what
# Google Vizier leaves to the user, and Optuna's MedianPruner has 5 of. The half that is worse costs the most.
MIN_COMPLETED = 4
# If none of the first trials gets to an evaluation, the cause is in what they have in common.
_MOST_FAILURES = 3
TRAIN = (sys.executable, "-c", "from od_eval.cli import main; main()", "train")

_SEARCH, _TRIAL, _LOG = "search.json", "trial.json", "log.txt"
_SECONDS_BETWEEN_LOOKS = 0.5
# A training that is asked to stop finishes its steps and saves a checkpoint, over a network perhaps.
_SECONDS_TO_STOP = 300.0
_SECONDS_TO_STOP_AT_ONCE = 20.0
_LONGEST_VALUE = 40

State = Literal["running", "finished", "ended", "failed"]


@dataclasses.dataclass
class Trial:
    """A training with some values of the fields.

    Attributes:
      folder: its model_dir.
      number: from 1.
      values: field -> value, as written in `--set`.
      state: `running`, also if it was interrupted, as the same command continues it; `finished`; `ended`, because
        others were better; `failed`.
      remark: why it failed.
      curve: step -> value of the metric, of each evaluation so far in which it is defined.
    """

    folder: str
    number: int
    values: dict[str, str]
    state: State = "running"
    remark: str = ""
    curve: dict[int, float] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """`trial-0001`."""
        return f"trial-{self.number:04d}"

    def best(self, mode: Literal["min", "max"]) -> tuple[int, float] | None:
        """(step, value) of the best evaluation, the first of equal ones; None without any."""
        best = None
        for step, value in self.curve.items():
            if best is None or is_better(value, best[1], mode):
                best = (step, value)
        return best

    def write(self) -> None:
        """Writes `trial.json`."""
        about = {"values": self.values, "state": self.state, "remark": self.remark}
        files.write_whole(os.path.join(self.folder, _TRIAL), json.dumps(about, indent=1) + "\n")


def _print(line: str) -> None:
    print(line, flush=True)


def search(
    pipeline_config_path: str,
    model_dir: str,
    tried: Sequence[str],
    *,
    overrides: Sequence[str] = (),
    method: str = "random",
    num_trials: int | None = None,
    metric: str | None = None,
    seed: int | None = None,
    end_bad_trials: bool = True,
    train_arguments: Sequence[str] = (),
    program: Sequence[str] = TRAIN,
    say: Callable[[str], None] = _print,
) -> list[Trial]:
    """Searches for good values, or continues a search in the same folder.

    Each trial is a process of its own: its memory is freed, and if it crashes, only it ends.

    Args:
      pipeline_config_path: the pipeline.config, in which fields and values are checked before the first trial.
      model_dir: the folder of the search, created if missing.
      tried: fields with values, see `search_space.parse`.
      overrides: what `train_arguments` set in the config; the values that are tried come after them.
      method: how values are chosen: `grid`, all combinations of lists; `random`; `bayes`, by Optuna.
      num_trials: how many trials there are, with those of earlier calls; by default 20, with `grid` all.
      metric: the key of `logs` that is best in the best trial: that of its best evaluation. By default the AP.
      seed: of the values that `random` and `bayes` choose; by default another one for each search.
      end_bad_trials: whether a trial is ended that does worse than others at the same step, see `stopping_bar`.
      train_arguments: the flags of `od-eval train` that all trials have in common, without `--model_dir`.
      program: the command that trains.
      say: prints.

    Returns:
      The trials, the best one first.

    Raises:
      ODEvalError: something the user can fix. A trial that fails is said, and does not raise.
      KeyboardInterrupt, SystemExit: by SIGINT and SIGTERM, after the trial under way has saved a checkpoint.
    """
    space = list(map(parse, tried))
    _check(space, method, num_trials, metric)
    runs = _check_values(pipeline_config_path, overrides, space)
    check_model_dir(model_dir)
    with locked(model_dir):
        seed = _enter(model_dir, tried, metric, train_arguments, seed)
        trials = _Search(model_dir, space, metric, runs, [*program, *train_arguments], say)
        if method == "grid":
            most = math.prod(len(one.choices()) for one in space)
            num_trials = min(num_trials or most, most)
        trials.run(method, num_trials or NUM_TRIALS, seed, end_bad_trials)
    say(trials.report())
    return trials.ranked()


def stopping_bar(step: int, completed: Sequence[Mapping[int, float]]) -> float | None:
    """The median stopping rule: a trial should be ended if its best value up to a step is worse than this.

    It is the median of the means of the completed trials up to that step (Golovin et al., Google Vizier: A Service for
    Black-Box Optimization, KDD 2017, section 3.2.2).

    Args:
      step: the step.
      completed: step -> value, of each completed trial.

    Returns:
      None with fewer than `MIN_COMPLETED` trials that have a value up to that step.
    """
    values = [[value for at, value in curve.items() if at <= step] for curve in completed]
    means = [statistics.fmean(of_trial) for of_trial in values if of_trial]
    return statistics.median(means) if len(means) >= MIN_COMPLETED else None


class _Search:
    """The trials in a folder, and what all of them have in common."""

    def __init__(
        self,
        model_dir: str,
        space: Sequence[Tried],
        metric: str | None,
        runs: Sequence[tuple[str, str]],
        command: Sequence[str],
        say: Callable[[str], None],
    ):
        self._model_dir = model_dir
        self._space = space
        self._names = short_names([one.field for one in space])
        self._run, self._prefix = next(
            ((run, prefix) for run, prefix in reversed(runs) if metric and metric.startswith(prefix)), runs[0]
        )
        self._metric = metric
        self._main = "AP"  # of masks, once there is an evaluation of masks
        self._mode = direction((metric or "AP").removeprefix(self._prefix))
        self._command = [*command, *(f"--hparam={one.field}" for one in space)]
        if metric:
            self._command.append(f"--best_metric={metric}")
        self._say = say
        self.trials = _read_trials(model_dir)
        for trial in self.trials:
            trial.curve = self._curve(trial)

    def run(self, method: str, num_trials: int, seed: int, end_bad_trials: bool) -> None:
        """Continues unfinished trials, and begins others until there are enough."""
        for trial in [trial for trial in self.trials if trial.state == "running"]:
            self._say(f"{trial.name} goes on: {self._described(trial)}")
            self._run_trial(trial, end_bad_trials)
        while len(self.trials) < num_trials:
            numbers = {trial.number for trial in self.trials}
            number = next(number for number in range(1, len(numbers) + 2) if number not in numbers)
            known = [trial.values for trial in self.trials]
            values = next_values(method, self._space, self._outcomes(), known, number, seed, self._mode)
            if values is None:
                self._say("All combinations of values have been tried.")
                return
            trial = Trial(os.path.join(self._model_dir, f"trial-{number:04d}"), number, values)
            trial.write()
            self.trials.append(trial)
            self._say(f"{trial.name} of {num_trials}: {self._described(trial)}")
            self._run_trial(trial, end_bad_trials)
            self._raise_if_all_fail()

    def _outcomes(self) -> list[Outcome]:
        outcomes = []
        for trial in sorted(self.trials, key=lambda trial: trial.number):
            if trial.state != "running":
                best = trial.best(self._mode)
                outcomes.append(Outcome(trial.values, trial.curve, best and best[1], trial.state))
        return outcomes

    def _run_trial(self, trial: Trial, end_bad_trials: bool) -> None:
        sets = [f"--set={field}={value}" for field, value in trial.values.items()]
        command = [*self._command, f"--model_dir={trial.folder}", *sets]
        with locked(trial.folder):  # a training of a search that was killed may still be there
            pass
        with (
            DeferredSignals() as signals,
            files.errors_as_sentences(f"{trial.name} cannot be started"),
            _opened_log(os.path.join(trial.folder, _LOG)) as log,
        ):
            begin = log.seek(0, os.SEEK_END)
            # In a session of its own, so that Ctrl-C reaches it once, and from here.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                self._follow(trial, process, signals, end_bad_trials)
            finally:
                _end_at_once(process)
                self._update(trial)
            if process.returncode == 0 or signals.received is None:
                self._judge(trial, process.returncode, _last_words(log, begin))
                trial.write()
            signals.raise_if_received()

    def _follow(
        self, trial: Trial, process: subprocess.Popen[bytes], signals: DeferredSignals, end_bad_trials: bool
    ) -> None:
        """Waits for the end of a trial, or of all, and says what its evaluations give."""
        seconds_to_stop = math.inf
        while seconds_to_stop > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_SECONDS_BETWEEN_LOOKS)
            is_new = self._update(trial)
            if process.returncode is not None:
                return
            if seconds_to_stop < math.inf:
                seconds_to_stop -= _SECONDS_BETWEEN_LOOKS
            elif signals.received is not None:
                self._say(f"Stopping {trial.name}, which the same command continues …")
                process.send_signal(signals.received)
                seconds_to_stop = _SECONDS_TO_STOP
            elif is_new and end_bad_trials and self._is_bad(trial):
                trial.state = "ended"
                trial.write()
                process.terminate()
                seconds_to_stop = _SECONDS_TO_STOP

    def _is_bad(self, trial: Trial) -> bool:
        completed = [other.curve for other in self.trials if other.state == "finished"]
        bar = stopping_bar(max(trial.curve), completed) if trial.curve else None
        best = trial.best(self._mode)
        if bar is None or best is None or not is_better(bar, best[1], self._mode):
            return False
        self._say(
            f"{trial.name} is ended: up to step {max(trial.curve)} its best {self._key()} is {best[1]:.4f}, and the"
            f" median of the means of {len(completed)} completed trials is {bar:.4f}."
        )
        return True

    def _update(self, trial: Trial) -> bool:
        """Reads and says new evaluations; returns whether there were any."""
        before, trial.curve = trial.curve, self._curve(trial)
        for step, value in trial.curve.items():
            if step not in before:
                best = self.ranked(with_failed=True)[0]
                self._say(
                    f"{trial.name}  step {step}  {self._key()} {value:.4f}  best {self._best_value(best)} ({best.name})"
                )
        return trial.curve.keys() != before.keys()

    def _judge(self, trial: Trial, status: int, last_words: str) -> None:
        """Decides on the state of a trial whose process has ended."""
        if trial.state == "ended" and status != 0:
            return
        if status in (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM):
            self._say(f"{trial.name} is stopped; the same command continues it.")
            return
        trial.state = "finished"
        if status < 0:
            reason = ", as where memory runs out" if -status == signal.SIGKILL else ""
            trial.remark = f"killed by signal {-status}{reason}; its last line: {last_words or 'none'}"
        elif status:
            trial.remark = last_words or f"exit status {status}"
        elif not trial.curve:
            trial.remark = f"{self._key()} is defined in none of its evaluations"
        if trial.remark:
            trial.state = "failed"
            self._say(
                f"{trial.name} failed: {trial.remark} (more in {os.path.join(trial.folder, _LOG)}; to run it again,"
                " remove its folder)"
            )

    def _raise_if_all_fail(self) -> None:
        if len(self.trials) >= _MOST_FAILURES and all(
            trial.state == "failed" and not trial.curve for trial in self.trials
        ):
            raise ODEvalError(
                f"all {len(self.trials)} trials have failed, the last with: {self.trials[-1].remark.rstrip('.')};"
                f" correct that, remove '{self._model_dir}' and start the search again."
            )

    # ---- What is shown ----------------------------------------------------------------------------------------------

    def ranked(self, with_failed: bool = False) -> list[Trial]:
        """The trials, the best first; those that failed last, unless their evaluations count."""

        def rank(trial: Trial) -> tuple[bool, bool, float]:
            best = trial.best(self._mode)
            value = 0.0 if best is None else best[1]
            return best is None, trial.state == "failed" and not with_failed, value if self._mode == "min" else -value

        return sorted(self.trials, key=rank)

    def report(self) -> str:
        """A table of the trials, what to `--set` for the best, and how certain it is that it is the best."""
        ranked = self.ranked()
        rows = [["trial", self._key(), "step", "state", *self._names.values()]]
        for trial in ranked:
            best = trial.best(self._mode)
            values = [text.printable(trial.values[field], _LONGEST_VALUE) for field in self._names]
            rows.append(
                [trial.name, self._best_value(trial), "-" if best is None else str(best[0]), trial.state, *values]
            )
        lines = ["\n" + text.table(rows, left=(0, 3, *range(4, len(rows[0])))) + "\n"]
        best_of_all = [trial for trial in ranked if trial.curve and trial.state != "failed"]
        if best_of_all:
            sets = " ".join(
                f"--set {shlex.quote(f'{field}={value}')}" for field, value in best_of_all[0].values.items()
            )
            lines.append(f"Best: {best_of_all[0].name}, {self._key()} {self._best_value(best_of_all[0])}: {sets}")
        if len(best_of_all) > 1:
            lines.append(self._certainty(*best_of_all[:2]))
        return "\n".join([*filter(None, lines), "", how_to_look(self._model_dir)])

    def _certainty(self, best: Trial, second: Trial) -> str:
        """A sentence about the difference of two trials; empty if the analyses of both do not tell it."""
        kind, _, name = self._key().rpartition("_")
        of_best, of_second = best.best(self._mode), second.best(self._mode)
        if of_best is None or of_second is None:
            return ""
        try:
            compared = compare(
                f"{os.path.join(best.folder, self._run)}@{of_best[0]}",
                f"{os.path.join(second.folder, self._run)}@{of_second[0]}",
            )
        except ODEvalError:  # there are no analyses, or not of the same images
            return ""
        comparison = {"": compared.bbox, "segm": compared.segm}.get(kind)
        score = comparison.overall.get(name) if comparison is not None else None
        if score is None or score.interval is None:
            return ""
        low, high = -score.interval.high, -score.interval.low  # the interval is of the second minus the best
        says = "more than the choice of images explains" if low > 0 else "which the choice of images may explain"
        return (
            f"It is ahead of {second.name} by {of_best[1] - of_second[1]:.4f} (95% interval {low:+.4f} to {high:+.4f}),"
            f" {says}. Another seed may change the order as well: train both with other seeds before you rely on it."
        )

    def _described(self, trial: Trial) -> str:
        return ", ".join(
            f"{name}={text.printable(trial.values[field], _LONGEST_VALUE)}" for field, name in self._names.items()
        )

    def _best_value(self, trial: Trial) -> str:
        best = trial.best(self._mode)
        return text.number(None if best is None else best[1])

    # ---- What is read -----------------------------------------------------------------------------------------------

    def _curve(self, trial: Trial) -> dict[int, float]:
        curve = {}
        run_dir = os.path.join(trial.folder, self._run)
        for step, path in metrics_files.step_paths(run_dir).items():
            try:
                values = _values(run_dir, step, files.modified(path))
            except FileNotFoundError:  # a training that goes on from an earlier step has moved it away
                continue
            value = values.get(self._name_in(values))
            if value is not None and math.isfinite(value):
                curve[step] = value
        return curve

    def _name_in(self, values: Mapping[str, float]) -> str:
        if self._metric is None and values:
            self._main = main_metric(values)
        return self._key()

    def _key(self) -> str:
        """The name of the metric, without the prefix of its run."""
        return self._main if self._metric is None else self._metric.removeprefix(self._prefix)


@functools.lru_cache(maxsize=10_000)
def _values(run_dir: str, step: int, modified: float) -> Mapping[str, float]:
    """The values of an evaluation, read once as long as its file is not written again; none if it is damaged."""
    try:
        result = metrics_files.read_step(run_dir, step)
    except ODEvalError:
        return {}
    return {} if result is None else result.log_values()


def _end_at_once(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that did not end when it was asked to, or was not asked."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_SECONDS_TO_STOP_AT_ONCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _opened_log(path: str) -> Iterator[IO[bytes]]:
    """A log for a process to write to and for this one to read; a remote one is written at the end of the context."""
    if not files.is_remote(path):
        with open(path, "a+b") as log:
            yield log
        return
    with tempfile.TemporaryFile() as log:
        try:
            yield log
        finally:  # also if a signal ends the search
            log.seek(0)
            with files.errors_as_sentences(f"the log '{path}' cannot be written"):
                files.append(path, log.read())


def _last_words(log: IO[bytes], begin: int) -> str:
    """The error in a log from a position on, or its last line."""
    log.seek(begin)
    lines = [line.strip() for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return text.printable((errors or lines or [""])[-1].removeprefix("error: "), 500)


# ---- Before the first trial ------------------------------------------------------------------------------------------


def _check(space: Sequence[Tried], method: str, num_trials: int | None, metric: str | None) -> None:
    if not space:
        raise ODEvalError("there is nothing to search: give try='FIELD=VALUE,VALUE' or try='FIELD=LOW..HIGH'.")
    fields = [one.field for one in space]
    twice = {field for field in fields if fields.count(field) > 1}
    if twice:
        raise ODEvalError(f"try={text.short(min(twice))} is given twice; give its values once, with commas.")
    if method not in METHODS:
        raise ODEvalError(f"method={text.short(method)} is none of {', '.join(METHODS)}.")
    if num_trials is not None and num_trials < 1:
        raise ODEvalError(f"num_trials={num_trials} is no number of trials; give 1 or more.")
    check_method(method, space)
    names = {name for section in all_sections().values() for name in section.log_names}
    if (
        metric
        and "/" not in metric
        and not any(re.fullmatch(rf"val_(.+_)?{re.escape(name)}", metric) for name in names)
    ):
        hint = text.did_you_mean(metric, [f"val_{name}" for name in names])
        raise ODEvalError(f"metric={text.short(metric)} is no metric; there are val_AP, val_AP50 and the like{hint}.")


def _check_values(path: str, overrides: Sequence[str], space: Sequence[Tried]) -> list[tuple[str, str]]:
    """Checks that every value fits its field; returns the runs of evaluations, and the prefix of their metrics.

    Raises:
      ODEvalError: one does not.
    """
    first = [f"{one.field}={one.examples()[0]}" for one in space]
    for index, one in enumerate(space):
        for value in one.examples():
            config = overridden(path, [*overrides, *first[:index], f"{one.field}={value}", *first[index + 1 :]])
    names = [reader.name or (str(index) if index else "") for index, reader in enumerate(config.eval_input_reader)]
    if not names:
        raise ODEvalError(f"{path} has no eval_input_reader, and a search needs evaluations; add one.")
    runs = [
        (os.path.normpath(os.path.join(tags.EVAL, name)), f"val_{name}_" if index else "val_")
        for index, name in enumerate(names)
    ]
    return [*runs, (tags.EVAL_TRAIN, "val_train_")]


def _enter(
    model_dir: str, tried: Sequence[str], metric: str | None, train_arguments: Sequence[str], seed: int | None
) -> int:
    """Writes `search.json`, or checks that it is of the same search; returns the seed of the search.

    Raises:
      ODEvalError: the folder has another search.
    """
    path = os.path.join(model_dir, _SEARCH)
    asked: dict[str, Any] = {"try": list(tried), "metric": metric, "train": list(train_arguments)}
    if files.exists(path):
        found = files.read_json(path, "file of a search")
        if not isinstance(found, dict) or not isinstance(found.get("seed"), int):
            raise ODEvalError(f"'{path}' is not of a search; remove it, or choose another model_dir.")
        for name, value in asked.items():
            if found.get(name) != value:
                raise ODEvalError(
                    f"model_dir '{model_dir}' has a search with other values of {name} ({text.as_json(found.get(name))}"
                    f" instead of {text.as_json(value)}), whose trials cannot be compared; choose another model_dir."
                )
        return found["seed"] if seed is None else seed
    seed = secrets.randbelow(2**31) if seed is None else seed
    files.write_whole(path, json.dumps({**asked, "seed": seed}, indent=1) + "\n")
    return seed


def _read_trials(model_dir: str) -> list[Trial]:
    trials = []
    for name in files.names_in(model_dir):
        match = re.fullmatch(r"trial-(\d{4,})", name)
        path = os.path.join(model_dir, name, _TRIAL)
        if match and files.exists(path):
            found = files.read_json(path, "file of a trial")
            try:
                values = {str(field): str(value) for field, value in found["values"].items()}
                trials.append(
                    Trial(os.path.join(model_dir, name), int(match[1]), values, found["state"], found["remark"])
                )
                if found["state"] not in get_args(State):
                    raise KeyError(found["state"])
            except (AttributeError, KeyError, TypeError) as error:
                raise ODEvalError(
                    f"'{path}' is damaged; remove the folder of this trial, which is then run again."
                ) from error
    return trials
