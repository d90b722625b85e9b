"""The objects of a run over all its evaluations, read from their object tables and kept up to date.

objects = od_eval.load_object_history("runs/a")
objects[objects.status == "lost"]

analysis/objects_over_time.csv         a row an object: when it was learnt and lost
analysis/label_suspects.json           the labels that most evaluations disagree with, in COCO format
analysis/objects_over_time.parquet     what is known of each object and evaluation, also of those whose object tables
                                       are removed; it is written anew if it is damaged, and may be deleted

Of masks, the tables are objects_over_time_segm.…
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.evaluation import matching
from od_eval.evaluation.analyses import over_time
from od_eval.evaluation.analyses.label_suspects import suspects_json
from od_eval.evaluation.analyses.over_time import ObjectHistory
from od_eval.evaluation.matching import Pairs
from od_eval.evaluation.object_table import MIN_IOU, IouType, ObjectTable
from od_eval.runs import analysis_files, object_files

_NAMES: Mapping[IouType, str] = {"bbox": "objects_over_time", "segm": "objects_over_time_segm"}
_SUSPECTS = "label_suspects.json"
_ABOUT = b"od_eval"
_VERSION = 1
# More than a person looks through; the file of all would have thousands, most of them objects that are hard to find.
MAX_SUSPECTS = 1000
_MATRICES = ("found", "score", "iou")

# Length and time of change of a file.
_Stamp = tuple[int, float]


@dataclasses.dataclass
class _State:
    """A history, and of which files it is.

    Attributes:
      history: of the evaluations.
      read: step -> stamp of the object table that was read; also of those that are damaged.
    """

    history: ObjectHistory
    read: dict[int, _Stamp]


def load_object_history(model_dir: str | os.PathLike[str], run: str = "eval", masks: bool = False) -> pd.DataFrame:
    """When each ground truth object of a run was learnt, lost, and how often it came and went.

    Args:
      model_dir: the folder of the training run.
      run: the run of the evaluations: `eval`, `eval/<name>` or `eval_train`.
      masks: whether objects are found by their masks, and not by their boxes.

    Returns:
      A row for each object. `od_eval.evaluation.analyses.over_time.objects_over_time` describes the columns and
      `attrs`. If the evaluation set has changed, stderr says so.

    Raises:
      ODEvalError: there is no evaluation with an object table.
    """
    iou_type: IouType = "segm" if masks else "bbox"
    run_dir = os.path.join(os.fspath(model_dir), run)
    analysis_files.find(os.fspath(model_dir), run, None, object_files.FILE_NAMES[iou_type])
    state, _ = _up_to_date(run_dir, iou_type)
    objects = over_time.objects_over_time(state.history)
    if objects.attrs["num_evaluation_sets"] > 1:
        _say_changed(run_dir, objects)
    return objects


def write(run_dir: str) -> None:
    """Writes the files of this module, after an evaluation has been written; nothing if there are no object tables.

    Only what is new is read. An evaluation whose object table was removed stays known as long as its metrics are there.

    Args:
      run_dir: the folder of the eval run.

    Raises:
      ODEvalError: a file cannot be read or written.
    """
    folder = os.path.join(run_dir, analysis_files.FOLDER)
    for iou_type, name in _NAMES.items():
        state, table = _up_to_date(run_dir, iou_type)
        history = state.history
        if not history.steps:
            continue
        files.write_whole(os.path.join(folder, f"{name}.parquet"), _parquet(state))
        objects = over_time.objects_over_time(history)
        rows = objects.round(dict.fromkeys(over_time.BOX, 2))
        columns = [(column, _values(rows[column])) for column in rows]
        files.write_whole(os.path.join(folder, f"{name}.csv"), analysis_files.table_csv(columns))
        if iou_type != "bbox":  # object tables of files have no masks to propose
            continue
        if len(history.steps) > 1 and history.fingerprints[-1] != history.fingerprints[-2]:
            _say_changed(run_dir, objects)
        newest = history.steps[-1]
        if table is None or table[0] != newest:
            if not files.exists(_table_path(run_dir, newest, iou_type)):  # removed, and those after it are damaged
                continue
            table = newest, _read_table(run_dir, newest, iou_type)
        suspects = over_time.persistent_suspects(history, table[1])[:MAX_SUSPECTS]
        content = json.dumps(suspects_json(table[1], suspects), allow_nan=False)
        files.write_whole(os.path.join(folder, _SUSPECTS), content)


def _up_to_date(run_dir: str, iou_type: IouType) -> tuple[_State, tuple[int, ObjectTable] | None]:
    """The state with what has changed since it was written, and the newest of the tables that were read for it."""
    state = _read_state(run_dir, iou_type)
    stamps = {
        step: (files.size(path), files.modified(path))
        for step in analysis_files.steps(run_dir)
        if files.exists(path := _table_path(run_dir, step, iou_type))
    }
    evaluated = files.names_in(os.path.join(run_dir, "metrics"))
    # Steps that training went back behind are in neither folder any more.
    gone = {step for step in state.read if step not in stamps and f"step-{step:08d}.json" not in evaluated}
    changed = [step for step, stamp in stamps.items() if state.read.get(step) != stamp]
    history = over_time.without(state.history, gone.union(changed))
    read = {step: stamp for step, stamp in state.read.items() if step not in gone} | stamps
    newest = None
    for step in changed:
        try:
            table = _read_table(run_dir, step, iou_type)
        except ODEvalError as error:
            print(f"warning: step {step} is left out of the objects over time: {error}", file=sys.stderr, flush=True)
            continue
        newest = step, table
        history = over_time.add(history, step, table)
    return _State(history, read), newest


def _table_path(run_dir: str, step: int, iou_type: IouType) -> str:
    return os.path.join(analysis_files.of_step(run_dir, step), object_files.FILE_NAMES[iou_type])


def _read_table(run_dir: str, step: int, iou_type: IouType) -> ObjectTable:
    """The object table of a step; that of boxes with all pairs with ignored objects, which the file does not have.

    Without them, what is found inside a crowd would be suspected of being an object without a label.
    """
    table = object_files.read_object_table(_table_path(run_dir, step, iou_type))
    ignored = np.flatnonzero(table.ignored)
    if iou_type == "segm" or not len(ignored):
        return table
    others = table.pairs.where(~table.ignored[table.pairs.groundtruth])
    of_ignored = matching.find_pairs(iou_type, table.groundtruth.rows(ignored), table.detections, MIN_IOU)
    detection = np.concatenate((others.detection, of_ignored.detection))
    groundtruth = np.concatenate((others.groundtruth, ignored[of_ignored.groundtruth].astype(np.int32)))
    order = np.lexsort((groundtruth, detection))
    iou = np.concatenate((others.iou, of_ignored.iou))
    return dataclasses.replace(table, pairs=Pairs(detection[order], groundtruth[order], iou[order]))


def _say_changed(run_dir: str, objects: pd.DataFrame) -> None:
    print(
        f"warning: the evaluation set of '{run_dir}' has changed between evaluations"
        f" ({objects.attrs['num_evaluation_sets']} sets): {objects.attrs['num_not_in_all']} of {len(objects)} objects"
        " are not in all of them, and are followed only over those in which they are.",
        file=sys.stderr,
        flush=True,
    )


def _values(column: pd.Series[Any]) -> list[Any]:
    """The values as Python's own; None for what is not there."""
    return [None if value is pd.NA else value for value in column.tolist()]


def _parquet(state: _State) -> bytes:
    """The state as a Parquet file: first a row for each object, then for each unexplained detection.

    What an evaluation says of the objects are three columns.
    """
    history = state.history
    num_objects, num_unexplained = len(history.objects), len(history.unexplained)
    columns: dict[str, Any] = {}
    for name in dict.fromkeys([*history.objects, *history.unexplained]):
        parts = [
            rows[name].to_numpy() if name in rows else np.zeros(len(rows), np.int64)
            for rows in (history.objects, history.unexplained)
        ]
        columns[name] = np.concatenate(parts)
    for name in _MATRICES:
        for step, values in zip(history.steps, getattr(history, name).T, strict=True):
            columns[f"{name}_{step}"] = np.concatenate((values, np.zeros(num_unexplained, values.dtype)))
    about = {
        "version": _VERSION,
        "num_objects": num_objects,
        "steps": history.steps,
        "fingerprints": history.fingerprints,
        "confidences": history.confidences,
        "images": history.images,
        "categories": history.categories,
        "read": state.read,
    }
    arrow = pa.table(columns).replace_schema_metadata({_ABOUT: json.dumps(about)})
    contents = io.BytesIO()
    floats = [field.name for field in arrow.schema if pa.types.is_floating(field.type)]
    # As in `object_files.parquet`; dictionaries of floats take three times as long to write.
    others = [name for name in arrow.column_names if name not in floats]
    pq.write_table(arrow, contents, compression="zstd", use_dictionary=others, use_byte_stream_split=floats)
    return contents.getvalue()


def _read_state(run_dir: str, iou_type: IouType) -> _State:
    """What was written last; nothing if it is missing or damaged."""
    path = os.path.join(run_dir, analysis_files.FOLDER, f"{_NAMES[iou_type]}.parquet")
    empty = ObjectHistory.empty()
    if not files.exists(path):
        return _State(empty, {})
    try:
        arrow = pq.read_table(pa.BufferReader(files.read_bytes(path)))
        about = json.loads(arrow.schema.metadata[_ABOUT])
        if about["version"] != _VERSION:
            return _State(empty, {})
        num = about["num_objects"]
        names = dict.fromkeys([*empty.objects, *empty.unexplained])
        rows = pd.DataFrame({name: arrow[name].to_numpy() for name in names})
        history = dataclasses.replace(
            empty,
            steps=about["steps"],
            fingerprints=about["fingerprints"],
            confidences=about["confidences"],
            images=about["images"],
            categories={int(id): name for id, name in about["categories"].items()},
            objects=rows[[*empty.objects]][:num].reset_index(drop=True),
            unexplained=rows[[*empty.unexplained]][num:].reset_index(drop=True),
            **{
                name: np.stack([arrow[f"{name}_{step}"].to_numpy()[:num] for step in about["steps"]], axis=1)
                for name in _MATRICES
            },
        )
        return _State(history, {int(step): (size, modified) for step, (size, modified) in about["read"].items()})
    except OSError as error:
        raise ODEvalError(f"'{path}' cannot be read: {files.reason(error)}.") from error
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        print(
            f"warning: '{path}' is damaged ({type(error).__name__}); it is made anew from the evaluations whose object"
            " tables are there.",
            file=sys.stderr,
            flush=True,
        )
        return _State(empty, {})
