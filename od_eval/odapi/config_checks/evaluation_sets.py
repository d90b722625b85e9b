"""The evaluation sets of a config: there is one, and each has a run of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

from object_detection.protos import pipeline_pb2

from od_eval.findings.finding import Finding
from od_eval.odapi.config_checks import runs_at
from od_eval.text import named


@runs_at("evaluation_sets")
def any_reader(config: pipeline_pb2.TrainEvalPipelineConfig, source: str) -> Iterator[Finding]:
    """There is an `eval_input_reader`."""
    if not config.eval_input_reader:
        yield Finding(
            "no_eval_input_reader",
            "error",
            "",
            f"{source} has no eval_input_reader",
            "add one, or train with eval_every_n=0",
            field="eval_input_reader",
        )


@runs_at("evaluation_sets")
def reader_names(config: pipeline_pb2.TrainEvalPipelineConfig, source: str) -> Iterator[Finding]:
    """The names of readers are the names of their runs: folders below `eval`, different from each other."""
    folders: set[str] = set()
    for index, reader in enumerate(config.eval_input_reader):
        field = f"eval_input_reader[{index}].name"
        folder = os.path.normpath(run_name(index, reader.name) or os.curdir)
        if os.path.isabs(folder) or folder.split(os.sep)[0] == os.pardir:
            yield Finding(
                "name_outside_of_the_run",
                "error",
                source,
                f"{field} '{named(reader.name)}' is not the name of a folder below the run eval",
                "choose another",
                field=field,
            )
        if folder in folders:
            yield Finding(
                "two_readers_with_one_name",
                "error",
                source,
                f"two eval_input_readers are called '{named(reader.name)}' and would write to the same run",
                "give one another name",
                field=field,
            )
        if index and folder == "train":
            yield Finding(
                "reader_called_train",
                "error",
                source,
                f"eval_input_reader[{index}] is called 'train', and so is the sample of the training data",
                "choose another name",
                field=field,
            )
        folders.add(folder)


def run_name(index: int, name: str) -> str:
    """The folder of an evaluation set below the run eval; "" for that run itself.

    Args:
      index: of its `eval_input_reader`.
      name: of the reader; without one, all but the first are called by their index.
    """
    return name or (str(index) if index else "")
