"""Compares two evaluations of the same images, of files and object by object.

compared = od_eval.compare("runs/a", "runs/b@2000")
compared.bbox.overall["AP"].difference, compared.bbox.changes["fixed"]
od_eval.compare("runs/a", what_if=["nms=0.5"])
"""

from __future__ import annotations

import dataclasses
import html
import math
import os
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from od_eval import files, text
from od_eval.errors import ODEvalError
from od_eval.evaluation.analyses.comparison import CHANGES, ComparedCategory, ComparedScore, Comparison, common_part
from od_eval.evaluation.analyses.comparison import compare as compare_tables
from od_eval.evaluation.analyses.intervals import METRICS, MIN_IMAGES
from od_eval.evaluation.analyses.label_suspects import label_suspects
from od_eval.evaluation.analyses.operating_point import choose, cuts
from od_eval.evaluation.analyses.what_if import (
    can_match_anew,
    check_category,
    matched_anew,
    with_confidence,
    with_merged_categories,
    with_stricter_nms,
    without_suspects,
)
from od_eval.evaluation.coco_files import BoxPlausibility, LeftOut, has_masks, read_groundtruth, stream_detections
from od_eval.evaluation.detection_tables import has_tables
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.object_table import IouType, ObjectTable
from od_eval.evaluation.options import AnalysisOptions
from od_eval.evaluation.streamed_evaluator import analysed_part, analysed_share
from od_eval.runs import analysis_files, metrics_files, object_files

LOSSES_NOTE = (
    "losses are not compared: between models of different architectures or input sizes they measure different things."
)


@dataclasses.dataclass(frozen=True)
class RunComparison:
    """Two evaluations, compared. A notebook shows it as tables.

    a, b: what is compared: `runs/a/eval@1000`, or a file of detections.
    bbox: by boxes.
    segm: by masks; None if not both have them.
    warnings: sentences about what is not as it should be, such as different evaluation sets.
    notes: sentences worth knowing.
    """

    a: str
    b: str
    bbox: Comparison
    segm: Comparison | None
    warnings: list[str]
    notes: list[str]

    @property
    def comparisons(self) -> dict[str, Comparison]:
        """`boxes`, and `masks` if both have them."""
        return {"boxes": self.bbox} | ({} if self.segm is None else {"masks": self.segm})

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; without the rows of objects and images."""
        return {
            "a": self.a,
            "b": self.b,
            "bbox": self.bbox.to_dict(),
            "segm": None if self.segm is None else self.segm.to_dict(),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }

    def write(self, folder: str) -> list[str]:
        """Writes `objects.csv`, `images.csv` and `categories.csv`, and `…_segm.csv` of masks; returns their paths.

        Raises:
          ODEvalError: a file cannot be written.
        """
        paths = []
        for of in self.comparisons.values():
            suffix = "_segm" if of.iou_type == "segm" else ""
            tables = {"objects": of.objects, "images": of.images, "categories": _category_columns(of)}
            for name, columns in tables.items():
                paths.append(os.path.join(folder, f"{name}{suffix}.csv"))
                files.write_whole(paths[-1], analysis_files.table_csv(list(columns.items())))
        return paths

    def _repr_html_(self) -> str:
        parts = [f"<p>A: {html.escape(self.a)}<br>B: {html.escape(self.b)}</p>"]
        parts += [f"<p><b>{html.escape(sentence)}</b></p>" for sentence in self.warnings]
        for name, of in self.comparisons.items():
            parts.append(f"<h4>{name.capitalize()}</h4>{text.html_table(score_rows(of))}")
            parts += [f"<p>{html.escape(sentence)}</p>" for sentence in sentences(of)]
            parts += [text.html_table(category_rows(of)), text.html_table(image_rows(of))]
        parts += [f"<p>{html.escape(sentence)}</p>" for sentence in self.notes]
        return "\n".join(parts)


def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str] | None = None,
    *,
    groundtruth: str | os.PathLike[str] | None = None,
    confidence: float | None = None,
    what_if: Sequence[str] = (),
) -> RunComparison:
    """Compares two evaluations of the same images, or one with what it would be if something were different.

    Args:
      a, b: each one of
        * a model_dir: the newest analysed step of its run `eval`;
        * `RUN@STEP`: a model_dir, or the folder of a run in it, and a step: `runs/a@1000`, `runs/a/eval/night@1000`;
        * detections: a JSON file in COCO's results format, or a table (`od_eval.evaluation.detection_tables`).
      groundtruth: COCO's ground truth, for files of detections.
      confidence: from which detections are used, in both; by default that with the highest F1, in each.
      what_if: instead of `b`, changes of `a` in this order: `nms=0.5`, `merge=vehicle:car,truck`, `confidence=0.4`,
        `confidence=cat:0.3`, `forgive_suspects`; see `od_eval.evaluation.analyses.what_if`.

    Raises:
      ODEvalError: an evaluation cannot be read, the two have nothing in common, or an argument makes no sense.
    """
    if (b is None) == (not what_if):
        raise ODEvalError("give either B or what_if=…: A is compared with B, or with A changed.")
    options = AnalysisOptions(confidence=confidence)
    changes = list(map(_parsed, what_if))  # before anything is read, which may take a while
    side_a = _load(os.fspath(a), groundtruth)
    side_b = _changed(side_a, changes) if b is None else _load(os.fspath(b), groundtruth)
    warnings = [*side_a.warnings, *side_b.warnings]
    notes = [*side_a.notes, *side_b.notes]
    if groundtruth is not None and not (side_a.is_detections or side_b.is_detections):
        warnings.append("groundtruth is not used, as no file of detections is compared.")
    if b is not None and side_a.has_losses and side_b.has_losses:
        notes.append(LOSSES_NOTE)
    compared: dict[IouType, Comparison] = {}
    confidences: list[float] = []
    for iou_type, table_a in side_a.tables.items():
        if iou_type not in side_b.tables:
            continue
        table_b = side_b.tables[iou_type]
        if b is not None:
            table_a, table_b, difference = common_part(table_a, table_b)
            warnings += difference.sentences()
        # Boxes come first: as in the section `operating_point`, they choose the confidence of masks, too.
        confidences = confidences or [choose(cuts(table), options).confidence for table in (table_a, table_b)]
        compared[iou_type] = compare_tables(
            table_a, table_b, confidences[0], confidences[1], _renamed(table_a, changes)
        )
    return RunComparison(
        side_a.name, side_b.name, compared["bbox"], compared.get("segm"), list(dict.fromkeys(warnings)), notes
    )


# ---- What is compared -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Side:
    """One of the two evaluations."""

    name: str
    tables: Mapping[IouType, ObjectTable]
    is_detections: bool = False
    has_losses: bool = False
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()


def _load(path: str, groundtruth: str | os.PathLike[str] | None) -> _Side:
    with files.errors_as_sentences(f"'{path}' cannot be read"):
        is_run = any(files.is_folder(os.path.join(path, name)) for name in (analysis_files.FOLDER, "eval"))
        if not is_run and (has_tables(path) or (files.exists(path) and not files.is_folder(path))):
            return _of_detections(path, groundtruth)
        return _of_run(path)


def _of_run(path: str) -> _Side:
    step = None
    at_step = re.fullmatch(r"(.+)@(\d+)", path, re.DOTALL)
    if at_step and not files.exists(path):
        path, step = at_step[1], int(at_step[2])
    if not files.is_folder(path):
        raise ODEvalError(
            f"'{path}' is neither a folder nor a file; give a model_dir, RUN@STEP, or a file of detections."
        )
    if files.is_folder(os.path.join(path, analysis_files.FOLDER)):
        path = path.rstrip("/")
        has_parent = os.path.dirname(path) and os.path.basename(path) not in (".", "..")
        model_dir, run = os.path.split(path if has_parent else files.absolute(path))
    else:
        model_dir, run = path, "eval"
    found = analysis_files.find(model_dir, run, step, object_files.FILE_NAMES["bbox"])
    folder = os.path.dirname(found)
    paths = {iou_type: os.path.join(folder, name) for iou_type, name in object_files.FILE_NAMES.items()}
    tables = {iou_type: object_files.read_object_table(path) for iou_type, path in paths.items() if files.exists(path)}
    of_step = int(os.path.basename(folder).removeprefix("step-"))
    name = f"{os.path.join(model_dir, run)}@{of_step}"
    notes = _analysed_in_part(name, len(tables["bbox"].images), _num_images(model_dir, run, of_step))
    return _Side(name, tables, has_losses=_has_losses(model_dir, run), notes=notes)


def _num_images(model_dir: str, run: str, step: int) -> int:
    """Of an evaluation, if that is known."""
    try:
        result = metrics_files.read_step(os.path.join(model_dir, run), step)
    except ODEvalError:  # nothing here depends on it
        return 0
    return 0 if result is None else result.num_images


def _analysed_in_part(name: str, num_analysed: int, num_images: int) -> list[str]:
    if num_analysed >= num_images:
        return []
    return [
        f"of {name}, which has millions of detections, {num_analysed} of {num_images} images are compared, chosen by a"
        " hash of their ids; so its metrics are not those of all images."
    ]


def _has_losses(model_dir: str, run: str) -> bool:
    try:
        metrics = metrics_files.load_metrics(model_dir, run)
    except ODEvalError:  # nothing here depends on it
        return False
    return isinstance(metrics, dict) and bool(metrics.get("losses"))


def _of_detections(path: str, groundtruth: str | os.PathLike[str] | None) -> _Side:
    if groundtruth is None:
        raise ODEvalError(f"'{path}' is a file of detections, for which ground truth is needed: groundtruth=val.json.")
    masks = has_masks(path) and has_masks(groundtruth)
    left_out = LeftOut()
    truth = read_groundtruth(groundtruth, masks, left_out)
    evaluator = Evaluator(truth.categories, box_format="xywh", masks=masks)
    num_detections, batches = stream_detections(path, truth, left_out)
    plausibility = BoxPlausibility()
    num_analysed = 0
    for batch in batches:
        plausibility.update(batch)
        part = analysed_part(batch, analysed_share(num_detections))
        if part is not None:
            evaluator.update(part)
            num_analysed += len(part.image_ids)
    warnings = [f"left out: {number} {what}; the first: {first}." for number, what, first in left_out.cases()]
    if implausible := plausibility.problem():
        warnings.append(f"'{path}': {implausible}.")
    notes = _analysed_in_part(path, num_analysed, len(truth.images))
    return _Side(path, evaluator.object_tables(), is_detections=True, warnings=warnings, notes=notes)


# ---- What if --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Change:
    """A change of an evaluation.

    text: as it was given.
    kind: `nms`, `merge`, `confidence` or `forgive_suspects`.
    value: the IoU of `nms`, or the confidence.
    name: the new category of `merge`; the category of `confidence`, "" for all.
    members: the categories that are merged.
    """

    text: str
    kind: str
    value: float = math.nan
    name: str = ""
    members: tuple[str, ...] = ()

    def applied(self, table: ObjectTable) -> ObjectTable:
        try:
            if self.kind == "nms":
                return with_stricter_nms(table, self.value)
            if self.kind == "merge":
                return with_merged_categories(table, {self.name: self.members})
            if self.kind == "confidence":
                if not self.name:
                    return with_confidence(table, self.value)
                check_category(table, self.name)
                names = table.categories.values()
                return with_confidence(
                    table, np.array([self.value if name == self.name else -np.inf for name in names])
                )
            table = matched_anew(table)  # suspects are found by all pairs
            return without_suspects(table, label_suspects(table))
        except ODEvalError as error:
            raise ODEvalError(f"what_if={text.printable(repr(self.text))}: {error}") from error


def _parsed(change: str) -> _Change:
    kind, _, value = change.partition("=")
    try:
        if kind == "nms" and 0 < float(value) <= 1:
            return _Change(change, kind, float(value))
        if kind == "confidence":
            name, _, number = value.rpartition(":")
            if math.isfinite(float(number)):
                return _Change(change, kind, float(number), name)
        if kind == "merge":
            name, _, members = value.partition(":")
            if name and all(members.split(",")):
                return _Change(change, kind, name=name, members=tuple(members.split(",")))
    except ValueError:
        pass
    if change == "forgive_suspects":
        return _Change(change, change)
    raise ODEvalError(
        f"what_if={text.printable(repr(change))} is none of nms=IOU (above 0, up to 1), merge=NAME:CATEGORY,CATEGORY,"
        " confidence=SCORE, confidence=CATEGORY:SCORE and forgive_suspects."
    )


def _changed(side: _Side, changes: Sequence[_Change]) -> _Side:
    only_filters = all(change.kind == "confidence" for change in changes)
    tables: dict[IouType, ObjectTable] = {}
    notes = []
    for iou_type, table in side.tables.items():
        if not only_filters and not can_match_anew(table):
            notes.append("masks are not compared: they would have to be matched anew, and their file has no masks.")
            continue
        for change in changes:
            table = change.applied(table)
        tables[iou_type] = table
    return _Side(f"A with {', '.join(change.text for change in changes)}", tables, notes=notes)


def _renamed(table: ObjectTable, changes: Iterable[_Change]) -> dict[str, str]:
    """Name of each category -> its name after the changes."""
    names = {name: name for name in table.categories.values()}
    for change in changes:
        if change.kind == "merge":
            names = {old: change.name if new in change.members else new for old, new in names.items()}
    return names


# ---- How it is told -------------------------------------------------------------------------------------------------


def sentences(of: Comparison) -> list[str]:
    """What a comparison says, in plain words."""
    said = [_conclusion(metric, of.overall[metric]) for metric in METRICS]
    said.append(
        f"Of {of.num_groundtruth} objects, B fixed {of.num_fixed} and broke {of.num_broken}: these only B, and only A,"
        f" finds; both find {of.num_both}, neither finds {of.num_neither}."
    )
    said.append(f"False positives: {of.changes['fp_came']} came, {of.changes['fp_went']} went.")
    tested = [category.scores["AP"] for category in of.per_category.values()]
    num_tested = sum(score.is_distinguishable is not None for score in tested)
    num_distinct = sum(score.is_distinguishable is True for score in tested)
    if num_tested > 1:
        said.append(
            f"In {num_distinct} of {num_tested} categories AP differs more than chance explains (*); if A and B were"
            " equally good, it would still seem so in about one of 20."
        )
    return said


def _conclusion(metric: str, score: ComparedScore) -> str:
    if score.difference is None:
        return f"{metric} cannot be compared: it is not defined in both."
    if score.difference == 0:
        return f"{metric} is the same."
    higher = f"{metric} is {abs(score.difference):.4f} {'higher' if score.difference > 0 else 'lower'} in B"
    if score.interval is None:
        return f"{higher}; with less than {MIN_IMAGES} images with objects, it cannot be told whether by chance."
    if score.is_distinguishable:
        return f"{higher}, more than chance explains."
    return f"{higher}, which cannot be told from chance."


def as_text(of: Comparison, width: int = 100) -> str:
    """A comparison for a terminal: its tables, and what they say, in lines of a width."""
    parts = [text.table(score_rows(of)), *(textwrap.fill(text.printable(said), width) for said in sentences(of))]
    parts += ["", text.table(category_rows(of))]
    images = image_rows(of)
    if len(images) > 1:
        num_images = len(of.images["image_id"])
        parts += [f"\nImages that changed most, of {num_images} that changed", text.table(images)]
    return "\n".join(parts)


def score_rows(of: Comparison) -> list[list[str]]:
    """The metrics over all categories as rows of cells, the first with names."""
    rows = [["", "A", "B", "B − A", "95% interval"]]
    for metric, score in of.overall.items():
        difference = _signed(score.difference, 4) + _star(score)
        rows.append([metric, text.number(score.a), text.number(score.b), difference, _interval(score)])
    rows.append(["confidence", f"{of.confidence_a:.4f}", f"{of.confidence_b:.4f}", "", ""])
    return rows


def category_rows(of: Comparison) -> list[list[str]]:
    """The categories as rows of cells, those whose AP differs most first; without those that are nowhere."""
    rows = [["category", "objects", "AP A", "AP B", "B − A", "95% interval", "AP50", "F1", "fixed", "broke"]]

    def by_difference(item: tuple[str, ComparedCategory]) -> float:
        return -abs(item[1].scores["AP"].difference or 0)

    for name, category in sorted(of.per_category.items(), key=by_difference):
        ap = category.scores["AP"]
        if ap.a is None and ap.b is None and not any(category.changes.values()):
            continue
        rows.append(
            [
                text.printable(name, 18),
                str(category.num_groundtruth),
                *(text.number(value)[:5] for value in (ap.a, ap.b)),
                *(_signed(ap.difference) + _star(ap), _interval(ap)),
                *(
                    _signed(score.difference) + _star(score)
                    for score in (category.scores["AP50"], category.scores["F1"])
                ),
                *(str(category.changes[change]) for change in ("fixed", "broke")),
            ]
        )
    return rows


def image_rows(of: Comparison, most: int = 10) -> list[list[str]]:
    """The images that changed most as rows of cells."""
    columns = {
        "image": "image_id", "objects": "num_groundtruth", "found A": "tp_a", "found B": "tp_b", "false A": "fp_a",
        "false B": "fp_b", "fixed": "fixed", "broke": "broke", "FP came": "fp_came", "FP went": "fp_went",
    }  # fmt: skip
    cells = ([text.printable(str(value), 23) for value in of.images[name][:most]] for name in columns.values())
    return [[*columns], *map(list, zip(*cells, strict=True))]


def _category_columns(of: Comparison) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        "category": list(of.per_category),
        "num_groundtruth": [category.num_groundtruth for category in of.per_category.values()],
    }
    for metric in METRICS:
        scores = [category.scores[metric] for category in of.per_category.values()]
        columns |= {
            f"{metric}_a": [score.a for score in scores],
            f"{metric}_b": [score.b for score in scores],
            f"{metric}_difference": [score.difference for score in scores],
            f"{metric}_low": [None if score.interval is None else score.interval.low for score in scores],
            f"{metric}_high": [None if score.interval is None else score.interval.high for score in scores],
        }
    for change in CHANGES:
        columns[change] = [category.changes[change] for category in of.per_category.values()]
    return columns


def _signed(value: float | None, decimals: int = 3) -> str:
    return "-" if value is None else f"{value:+.{decimals}f}"


def _star(score: ComparedScore) -> str:
    """Marks a difference that can be told from chance; a blank keeps columns aligned."""
    return "*" if score.is_distinguishable else " "


def _interval(score: ComparedScore) -> str:
    interval = score.interval
    return "-" if interval is None else f"{_signed(interval.low)} to {_signed(interval.high)}"
