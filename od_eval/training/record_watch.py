"""Says what a training or evaluation loses of its data: before the first step, while it is read, and at the end."""

from __future__ import annotations

import sys
from typing import Any

from od_eval.callbacks.base import Callback
from od_eval.errors import ODEvalError
from od_eval.findings.finding import Finding, findings_section, raise_first_error
from od_eval.odapi.pipeline import Pipeline
from od_eval.odapi.record_scan import RecordScan


class RecordWatch:
    """A context in which the records of input readers are read beside the training.

        with RecordWatch(pipeline, training=True, evaluation=True, strict=False) as watch:
            detector.fit(…, callbacks=[watch.callback()])
            watch.report()

    Args:
      pipeline: the config; the files and label maps of its readers were checked.
      training, evaluation: whether to read the records of `train_input_reader`, of each `eval_input_reader`.
      strict: whether a warning is an error.

    Raises:
      ODEvalError: on entering, what the first records show: a record that cannot be read, objects that would be taken
        for another class, no object that can be used.
    """

    def __init__(self, pipeline: Pipeline, *, training: bool, evaluation: bool, strict: bool):
        config = pipeline.config
        readers = {"train_input_reader": config.train_input_reader} if training else {}
        if evaluation:
            readers |= {f"eval_input_reader[{index}]": one for index, one in enumerate(config.eval_input_reader)}
        self._scan = RecordScan(pipeline, readers)
        self._pipeline = pipeline
        self._strict = strict

    def __enter__(self) -> RecordWatch:
        self._scan.begin()
        try:
            self.report()
        except BaseException:
            self._scan.finish()
            raise
        return self

    def __exit__(self, *unused: Any) -> None:
        self._scan.finish()

    def report(self) -> None:
        """Prints what was found so far.

        Raises:
          ODEvalError: an error was found, or anything where that is strict.
        """
        findings = self._scan.findings()
        raise_first_error(findings)
        if findings and self._strict:
            raise ODEvalError(f"{findings[0]} With strict=True that is an error.")
        for finding in findings:
            print(f"warning: {finding}", file=sys.stderr, flush=True)

    def warnings(self) -> list[Finding]:
        """What was found so far and does not end the training."""
        return [finding for finding in self._scan.findings() if finding.severity == "warning"]

    def train_objects(self) -> dict[str, int] | None:
        """Name of a category -> its number of objects in the training data; None as long as that is unknown."""
        return self._scan.objects_of_categories("train_input_reader", self._pipeline.evaluation.categories)

    def section(self) -> list[dict[str, Any]]:
        """The same for the section `findings` of an evaluation."""
        return findings_section(self.warnings())

    def callback(self) -> Callback:
        """The callback that ends a training on data that are found to be wrong while it goes on."""
        return _StopAtError(self._scan)


class _StopAtError(Callback):
    def __init__(self, scan: RecordScan):
        super().__init__()
        self._scan = scan

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._scan.has_error():
            raise_first_error(self._scan.findings())
