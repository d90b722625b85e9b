"""Diagnoses a training of its folder: what it shows, why, and what to do.

report = od_eval.diagnose("runs/a")
print(report.to_text())
"""

from __future__ import annotations

import dataclasses
import html
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from od_eval import files, text
from od_eval.errors import ODEvalError, describe
from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.diagnosis import diagnose as findings_of
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding, findings_section, most_important_first
from od_eval.findings.shown import as_html, as_text
from od_eval.health.checking import data_differences
from od_eval.runs import metrics_files
from od_eval.runs.run_evidence import read_evidence
from od_eval.tensorboard import tags

if TYPE_CHECKING:
    from od_eval.odapi.pipeline import Pipeline

_NOTHING = "Nothing was found of what diagnoses look for."


@dataclasses.dataclass(frozen=True)
class DiagnosisReport:
    """What was found in a training. A notebook shows it as a list.

    Attributes:
      model_dir, run: what was diagnosed.
      step: the newest step of which anything is known. last_step: the one at which training is to end, if known.
      num_points: of the longest curve of the training. num_evaluations: of the run.
      findings: the most important first.
      notes: sentences about what could not be looked at.
    """

    model_dir: str
    run: str
    step: int
    last_step: int | None
    num_points: int
    num_evaluations: int
    findings: Sequence[Finding]
    notes: Sequence[str]

    def to_text(self) -> str:
        """For a terminal: what was looked at, a paragraph for each finding, and notes."""
        parts = [self._about(), as_text(self.findings) or _NOTHING]
        parts += [text.printable(f"note: {note}") for note in self.notes]
        return "\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "model_dir": self.model_dir,
            "run": self.run,
            "step": self.step,
            "last_step": self.last_step,
            "num_points": self.num_points,
            "num_evaluations": self.num_evaluations,
            "findings": findings_section(self.findings),
            "notes": list(self.notes),
        }

    def _about(self) -> str:
        step = f"step {self.step}" + (f" of {self.last_step}" if self.last_step else "")
        return text.printable(
            f"{os.path.join(self.model_dir, self.run)}: {step}; curves of {_counted(self.num_points, 'point')},"
            f" {_counted(self.num_evaluations, 'evaluation')}"
        )

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(text.printable(note))}</p>" for note in self.notes)
        return f"<p>{html.escape(self._about())}</p>{as_html(self.findings, _NOTHING)}{notes}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def diagnose(model_dir: str | os.PathLike[str], run: str = tags.EVAL) -> DiagnosisReport:
    """Says what a training shows, why, and what to do: of its curves, its evaluations and their objects.

    Where the data of its pipeline.config are still there, their first images are compared as well.

    It may be running or finished, of this package or of the Object Detection API's own program. The more there is, the
    more can be said: evaluations with analyses, `eval_train`, the pipeline.config, for which the Object Detection API
    has to be installed.

    Args:
      model_dir: the folder of the training, local or remote.
      run: the run of the evaluations: `eval`, or `eval/<name>`.

    Raises:
      ODEvalError: there is nothing to diagnose, or a file is damaged.
    """
    model_dir = os.fspath(model_dir).rstrip("/") or "/"
    if run == tags.EVAL_TRAIN:
        raise ODEvalError(f"run='{run}' is of training images, with which others are compared; give run='{tags.EVAL}'.")
    if not files.is_folder(model_dir):
        raise ODEvalError(f"there is no folder '{model_dir}'; give the model_dir of a training run.")
    notes: list[str] = []
    pipeline = _pipeline(model_dir, notes)
    evidence = read_evidence(model_dir, run, config=_config_facts(pipeline, notes))
    if not evidence.evaluations:
        if run != tags.EVAL or not evidence.curves:
            metrics_files.load_metrics(model_dir, run)  # says what is missing, and which runs there are
        notes.append(f"there is no evaluation in run '{run}': nothing is said of metrics, nor of over-fitting.")
    if not evidence.curves:
        notes.append(f"there are no curves of the training in '{os.path.join(model_dir, tags.TRAIN)}'.")
    evidence = _with_objects(evidence, notes)
    newest = evidence.newest
    if newest is not None and newest.num_analysed < newest.num_images:
        notes.append(
            f"what is said of errors, and of what chance can explain, rests on the {newest.num_analysed} of"
            f" {newest.num_images} images that were analysed (step {newest.step or 0})."
        )
    return DiagnosisReport(
        model_dir,
        run,
        evidence.step,
        evidence.last_step,
        max(map(len, evidence.curves.values()), default=0),
        len(evidence.evaluations),
        most_important_first([*findings_of(evidence), *_data_differences(pipeline, notes)]),
        notes,
    )


def _pipeline(model_dir: str, notes: list[str]) -> Pipeline | None:
    path = os.path.join(model_dir, "pipeline.config")
    if not files.exists(path):
        notes.append(f"there is no '{path}': remedies do not say which field to change.")
        return None
    try:
        from od_eval.odapi.pipeline import Pipeline

        return Pipeline.load(path, check=False)
    except Exception as error:  # the Object Detection API is missing, or it is of another version of it
        notes.append(f"'{path}' was not looked at, so remedies do not say which field to change: {describe(error)}")
        return None


def _config_facts(pipeline: Pipeline | None, notes: list[str]) -> ConfigFacts | None:
    if pipeline is None:
        return None
    from od_eval.odapi.config_facts import config_facts

    try:
        return config_facts(pipeline)
    except ODEvalError as error:
        notes.append(f"remedies do not say which field to change: {error}")
        return None


def _data_differences(pipeline: Pipeline | None, notes: list[str]) -> list[Finding]:
    if pipeline is None:
        return []
    try:
        return data_differences(pipeline)
    except ODEvalError as error:
        notes.append(f"training and evaluation data were not compared: {error}")
        return []


def _with_objects(evidence: Evidence, notes: list[str]) -> Evidence:
    """The same evidence without its objects, if these cannot be read."""
    try:
        if evidence.objects is None and evidence.evaluations:
            notes.append("no evaluation has analyses (analysis/step-…/objects.parquet): less is said of errors.")
        return evidence
    except ODEvalError as error:
        notes.append(f"the objects of the newest evaluation were not looked at: {error}")
        return dataclasses.replace(evidence, load_objects=lambda: None)
