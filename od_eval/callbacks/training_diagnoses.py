"""Diagnoses of a training while it runs: after every evaluation, in TensorBoard, and what is new on the terminal."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from od_eval.callbacks.base import config_facts, num_train_images
from od_eval.evaluation.analysis import Analysis
from od_eval.evaluation.object_columns import as_pandas
from od_eval.evaluation.result import EvaluationResult
from od_eval.findings.diagnosis import diagnose
from od_eval.findings.finding import SEVERITIES, Finding, findings_in, findings_section
from od_eval.findings.shown import as_markdown, as_text
from od_eval.runs.run_evidence import EvidenceReader
from od_eval.tensorboard import tags

# Of one evaluation; all are in TensorBoard.
_MOST_PRINTED = 5


class TrainingDiagnoses:
    """Diagnoses a training by what it has logged, its evaluations so far, and the objects of the newest.

    Args:
      model_dir: the folder of the training.
      run: the run of the evaluations.
      known: returns what is known of the training beside its files, as keyword arguments of `read_evidence`; what the
        model reports itself need not be in it.
    """

    def __init__(self, model_dir: str, run: str, known: Callable[[], Mapping[str, Any]] = dict):
        self._model_dir = model_dir
        self._known = known
        self._reader = EvidenceReader(model_dir, run)
        self._before: Sequence[EvaluationResult] = ()
        self._found: list[Finding] = []

    def add(self, model: Any, result: EvaluationResult, analysis: Analysis | None) -> EvaluationResult:
        """The evaluation of a model with the findings of all diagnoses added to its section `findings`.

        Args:
          model: it may report `num_train_images` and `config_facts`.
          result: the evaluation, which need not be in files yet.
          analysis: its analyses, if there are any.

        Raises:
          ODEvalError: a file of the training is damaged.
        """
        table = None if analysis is None else analysis.tables.get("bbox")
        evidence = self._reader.read(
            newest=result,
            load_objects=lambda: None if table is None else as_pandas(table),
            **{"config": config_facts(model), "num_train_images": num_train_images(model), **self._known()},
        )
        self._before = evidence.evaluations[:-1]
        self._found = diagnose(evidence)
        return result.with_section("findings", [*result.findings, *findings_section(self._found)])

    def write(self, run_dir: str, result: EvaluationResult) -> None:
        """Writes the findings of an evaluation to TensorBoard's Text, unless there has never been one.

        Args:
          run_dir: the folder of the run.
          result: the evaluation, after `add`.
        """
        text = _history([*self._before, result])
        if text:
            from od_eval.tensorboard import writers  # here for the reason given in `callbacks.base`

            writers.write_markdown(run_dir, tags.FINDINGS, text, result.step or 0)

    def print_new(self) -> None:
        """Prints the findings of a kind that no evaluation before had, or had less severe; each sentence once."""
        severest: dict[str, int] = {}
        for result in self._before:
            for finding in findings_in(result.findings):
                severity = SEVERITIES.index(finding.severity)
                severest[finding.kind] = min(severity, severest.get(finding.kind, severity))
        new = [one for one in self._found if SEVERITIES.index(one.severity) < severest.get(one.kind, len(SEVERITIES))]
        for finding in new[:_MOST_PRINTED]:
            _print_once(self._model_dir, "\n".join(f"  {line}" for line in as_text([finding]).split("\n")))
        if len(new) > _MOST_PRINTED:
            print(f"  {len(new) - _MOST_PRINTED} more are in TensorBoard: Text, {tags.FINDINGS}", flush=True)


@functools.cache
def _print_once(model_dir: str, text: str) -> None:
    """Prints a text once for a training in this process: of two evaluation sets, both say what is wrong with it."""
    print(text, flush=True)


def _history(results: Sequence[EvaluationResult]) -> str:
    """What was found in a training, the newest first, in Markdown; empty if nothing ever was.

    Args:
      results: its evaluations by ascending step, each with its findings.
    """
    first_seen: dict[str, int] = {}
    last_seen: dict[str, tuple[int, list[Finding]]] = {}
    for result in results:
        of_kinds: dict[str, list[Finding]] = {}
        for finding in findings_in(result.findings):
            of_kinds.setdefault(finding.kind, []).append(finding)
        step = result.step or 0
        # A kind that was away begins anew.
        first_seen = {kind: first_seen.get(kind, step) for kind in of_kinds}
        last_seen |= {kind: (step, findings) for kind, findings in of_kinds.items()}
    now = results[-1].step or 0
    parts = [
        (
            f"New at step {now}" if since == now else f"Since step {since}",
            [one for one in first_seen if first_seen[one] == since],
        )
        for since in sorted(set(first_seen.values()), reverse=True)
    ]
    gone = {kind: step for kind, (step, _) in last_seen.items() if kind not in first_seen}
    parts += [
        (f"Not any more, last at step {at}", [kind for kind in gone if gone[kind] == at])
        for at in sorted(set(gone.values()), reverse=True)
    ]
    return "\n\n".join(
        f"**{title}**\n\n{as_markdown([finding for kind in kinds for finding in last_seen[kind][1]])}"
        for title, kinds in parts
    )
