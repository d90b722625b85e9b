"""The page "Detections" as one HTML file, which opens from disk, without a server or a network.

od_eval.report("runs/a", "report.html")
od_eval.report(["groundtruth.json", "detections.json"])

It has the newest evaluation of each run, with its table of objects, suspected labels, and the images in which most is
wrong; what became of each object through the evaluations of its run; and the comparisons of runs with each other. Of
semantic segmentation it has the confusions of pixels, and the images in which most pixels are wrong.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import html
import itertools
import json
import operator
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.evaluation.analyses.label_suspects import label_suspects, suspects_json
from od_eval.evaluation.analyses.operating_point import DEFAULT_CONFIDENCE
from od_eval.evaluation.analyses.per_image import per_image, worst
from od_eval.evaluation.coco_files import BoxPlausibility, LeftOut, has_masks, read_groundtruth, stream_detections
from od_eval.evaluation.detection_tables import has_tables
from od_eval.evaluation.object_table import IouType
from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation.streamed_evaluator import evaluator_for
from od_eval.plugin import page_data, segmentation_data
from od_eval.plugin.one_script import one_script
from od_eval.runs import analysis_files, metrics_files, object_files
from od_eval.text import printable

MAX_IMAGES = 200
# One in so many is for suspected labels.
_SHARE_OF_SUSPECTS = 3
# Each takes seconds for a large evaluation set.
MAX_COMPARISONS = 6
_STATIC = os.path.join(os.path.dirname(page_data.__file__), "static")
_ENTRY = """\
import { start } from "./app.js";
import { EmbeddedSource } from "./source.js";
start(document.getElementById("page"), new EmbeddedSource(document));
"""
# The name of the run of two files.
_RUN_OF_FILES = "detections"


@dataclasses.dataclass(frozen=True)
class Report:
    """A report that was written.

    path: of the file.
    runs: the names of its runs.
    num_images, num_pictures: how many images the evaluations have, and of how many a picture is in the report.
    num_bytes: the size of the file.
    """

    path: str
    runs: list[str]
    num_images: int
    num_pictures: int
    num_bytes: int


def report(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] = "report.html",
    *,
    max_images: int = MAX_IMAGES,
) -> Report:
    """Writes evaluations into one HTML file, to look at and to share.

    Args:
      sources: a folder with evaluations (a model_dir, a run in it, or a folder of several), or several folders; or two
        JSON files in COCO's formats, of ground truth and of detections, for which there are no pictures; detections may
        also be a table (`od_eval.evaluation.detection_tables`).
      output: the file. It is replaced if there is one.
      max_images: the number of images whose pictures are in the file, at most, divided among the runs: up to a third
        with labels that are suspected, and those in which most is wrong. Small ones, as the runs keep them; each takes
        about 10 kB.

    Raises:
      ODEvalError: there is no evaluation, a file is damaged, or the report cannot be written.
    """
    if max_images < 0:
        raise ODEvalError(f"max_images={max_images} must be 0 or more.")
    paths = [os.fspath(source) for source in ([sources] if isinstance(sources, str | os.PathLike) else sources)]
    if not paths:
        raise ODEvalError("there is nothing to report; give a folder with evaluations, or two files.")
    with files.errors_as_sentences("what is to be reported cannot be looked up"):
        has_detections = len(paths) == 2 and (paths[1].endswith(".json") or has_tables(paths[1]))
    if has_detections and paths[0].endswith(".json"):
        groundtruth, detections = paths
        with files.temporary_folder() as folder:
            _evaluate(groundtruth, detections, folder)
            return _write({_RUN_OF_FILES: folder}, os.fspath(output), max_images)
    return _write(_runs_in(paths), os.fspath(output), max_images)


def _evaluate(groundtruth: str, detections: str, run_dir: str) -> None:
    """Evaluates two files into the folder of a run."""
    masks = has_masks(detections) and has_masks(groundtruth)
    left_out = LeftOut()
    truth = read_groundtruth(groundtruth, masks, left_out)
    num_detections, batches = stream_detections(detections, truth, left_out)
    options = EvaluationOptions(truth.categories, box_format="xywh", masks=masks)
    evaluator = evaluator_for(options, truth.images, num_detections)
    plausibility = BoxPlausibility()
    for batch in batches:
        plausibility.update(batch)
        evaluator.update(batch)
    result = evaluator.evaluate(step=0)
    warnings = [f"left out: {number} {what}; the first: {first}." for number, what, first in left_out.cases()]
    if implausible := plausibility.problem():
        warnings.append(f"'{detections}': {implausible}.")
    if result.num_analysed < result.num_images:
        warnings.append(
            f"'{detections}' has {num_detections} detections; all but the COCO metrics rests on"
            f" {result.num_analysed} of {result.num_images} images, chosen by a hash of their ids."
        )
    for warning in warnings:
        print(printable(f"warning: {warning}"), file=sys.stderr, flush=True)
    assert evaluator.analysis is not None
    metrics_files.write(run_dir, result)
    names = object_files.FILE_NAMES
    try:
        contents: dict[str, bytes | str] = {
            names[iou_type]: object_files.parquet(table) for iou_type, table in evaluator.analysis.tables.items()
        }
    except UnicodeEncodeError as error:  # JSON allows "\ud800", half a character
        raise ODEvalError(
            f"'{groundtruth}': {error.object!r} is no name of a category or id of an image, as it is not Unicode."
        ) from error
    for iou_type, table in evaluator.analysis.tables.items():
        suspects = json.dumps(suspects_json(table, label_suspects(table)))
        contents[analysis_files.file_name("label_suspects", iou_type, "json")] = suspects
    analysis_files.write(run_dir, 0, contents)


def _runs_in(folders: Sequence[str]) -> dict[str, str]:
    """Name -> folder of all runs with evaluations in folders: `a/eval` for a folder `runs/a`.

    Raises:
      ODEvalError: in one of them there is none.
    """
    # Names begin where the folders differ.
    parents = [files.absolute(folder).rstrip("/").split("/")[:-1] for folder in folders]
    num_shared = sum(itertools.accumulate((len({*names}) == 1 for names in zip(*parents, strict=False)), operator.and_))
    runs: dict[str, str] = {}
    for folder in folders:
        found = [below for below, _ in files.walk(folder) if metrics_files.step_paths(below)]
        if not found:
            advice = "evaluate a checkpoint first" if files.is_folder(folder) else "there is no such folder"
            raise ODEvalError(f"there is no evaluation in '{folder}': {advice}.")
        runs |= {"/".join(files.absolute(run_dir).split("/")[num_shared:]): run_dir for run_dir in found}
    return runs


def _write(runs: Mapping[str, str], output: str, max_images: int) -> Report:
    listed = page_data.index(runs)["runs"]
    if not listed:
        raise ODEvalError(f"the evaluations in {', '.join(runs.values())} are damaged; evaluate the checkpoints again.")
    for run in listed:
        with_files = [entry for entry in run["evaluations"] if entry["has_objects"] or entry["has_pixels"]]
        run["evaluations"] = (with_files or run["evaluations"])[-1:]
    elements = [_element("index", _as_json({"runs": listed}))]
    num_images = num_pictures = 0
    for position, run in enumerate(listed):
        run_dir, (entry,) = runs[run["name"]], run["evaluations"]
        step = entry["step"]
        sections = page_data.evaluation(run_dir, step)
        if sections.get("checkpoint"):
            # Others have no such folder, and need not know its name.
            sections["checkpoint"] = os.path.basename(str(sections["checkpoint"]))
        elements.append(_element(f"evaluation-{position}-{step}", _as_json(sections)))
        num_images += sections.get("num_images") or 0
        # What a run does not need, those after it have.
        share = (max_images - num_pictures) // (len(listed) - position)
        if entry["has_objects"]:
            suspects = _suspects(run_dir, step, entry["iou_types"])
            pictures = _pictures(run_dir, step, entry["iou_types"], sections, suspects, share)
            num_pictures += len(pictures)
            elements += _of_objects(f"{position}-{step}", run_dir, step, entry["iou_types"], pictures)
            elements += [
                _element(f"suspects-{position}-{step}-{iou_type}", _as_json(of)) for iou_type, of in suspects.items()
            ]
            elements += _histories(position, run_dir, entry["iou_types"])
        elif entry["has_pixels"]:
            worst, of_pixels = _of_pixels(f"{position}-{step}", run_dir, step, share)
            num_pictures += len(worst)
            elements += of_pixels
    elements += _comparisons(runs, listed)
    contents = _page(", ".join(run["name"] for run in listed), elements).encode()
    files.write_whole(output, contents)
    return Report(output, [run["name"] for run in listed], num_images, num_pictures, len(contents))


def _of_objects(
    name: str, run_dir: str, step: int, iou_types: Sequence[IouType], pictures: Mapping[int, bytes]
) -> Iterator[str]:
    for iou_type in iou_types:
        try:
            table = page_data.objects(run_dir, step, iou_type, pictures.keys())
        except ODEvalError as error:
            print(printable(f"warning: {error}"), file=sys.stderr, flush=True)
            continue
        yield _element(f"objects-{name}-{iou_type}", _base64(gzip.compress(table, mtime=0)))
    for index, jpeg in pictures.items():
        yield _element(f"image-{name}-{index}", _base64(jpeg))


def _of_pixels(name: str, run_dir: str, step: int, most: int) -> tuple[list[int], list[str]]:
    """The indices of the images whose pictures are in the report, and the elements of a semantic segmentation."""
    try:
        shown = segmentation_data.worst_images(segmentation_data.segmentation(run_dir, step))[:most]
        text = json.dumps(segmentation_data.segmentation(run_dir, step, {*shown}), allow_nan=False)
        elements = [_element(f"segmentation-{name}", _base64(gzip.compress(text.encode(), mtime=0)))]
        for index in shown:
            picture, labels = (of(run_dir, step, index) for of in (segmentation_data.image, segmentation_data.labels))
            elements.append(_element(f"segmentation-image-{name}-{index}", _base64(picture or b"")))
            elements.append(_element(f"labels-{name}-{index}", _base64(gzip.compress(labels or b"", mtime=0))))
    except ODEvalError as error:
        print(printable(f"warning: {error}"), file=sys.stderr, flush=True)
        return [], []
    return shown, elements


def _suspects(run_dir: str, step: int, iou_types: Sequence[IouType]) -> dict[IouType, dict[str, Any]]:
    """The suspected labels, by each kind of matches that has some."""
    suspects: dict[IouType, dict[str, Any]] = {}
    for iou_type in iou_types:
        try:
            suspects[iou_type] = page_data.suspects(run_dir, step, iou_type)
        except ODEvalError as error:
            print(printable(f"warning: {error}"), file=sys.stderr, flush=True)
    return suspects


def _histories(position: int, run_dir: str, iou_types: Sequence[IouType]) -> Iterator[str]:
    for iou_type in iou_types:
        try:
            history = page_data.history(run_dir, iou_type)
        except ODEvalError as error:
            print(printable(f"warning: {error}"), file=sys.stderr, flush=True)
            continue
        text = json.dumps(history, allow_nan=False)
        yield _element(f"history-{position}-{iou_type}", _base64(gzip.compress(text.encode(), mtime=0)))


def _comparisons(runs: Mapping[str, str], listed: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of every pair of runs; of more than `MAX_COMPARISONS` pairs, those with the first run, as many as may be."""
    pairs = list(itertools.combinations(range(len(listed)), 2))
    if len(pairs) > MAX_COMPARISONS:
        pairs = pairs[: min(len(listed) - 1, MAX_COMPARISONS)]
    for a, b in pairs:
        (of_a,), (of_b,) = (listed[position]["evaluations"] for position in (a, b))
        if not (of_a["has_objects"] and of_b["has_objects"]):
            continue
        sides = {position: (runs[listed[position]["name"]], of["step"]) for position, of in ((a, of_a), (b, of_b))}
        for iou_type in (iou_type for iou_type in of_a["iou_types"] if iou_type in of_b["iou_types"]):
            # The page turns one direction round, but not the sentence that there is if the two cannot be compared.
            for one, other in ((a, b), (b, a)):
                try:
                    compared = page_data.comparison(*sides[one], *sides[other], iou_type)
                except ODEvalError as error:
                    compared = {"problem": str(error)}
                yield _element(f"comparison-{one}-{other}-{iou_type}", _as_json(compared))
                if "problem" not in compared:
                    break


def _pictures(
    run_dir: str,
    step: int,
    iou_types: Sequence[IouType],
    sections: Mapping[str, Any],
    suspects: Mapping[IouType, Mapping[str, Any]],
    most: int,
) -> dict[int, bytes]:
    """Index -> JPEG of images that the run keeps: up to a third with the most suspicious labels, then the worst."""
    path = os.path.join(analysis_files.of_step(run_dir, step), object_files.FILE_NAMES[iou_types[0]])
    point = sections.get("operating_point")
    confidence = point.get("confidence") if isinstance(point, dict) else None
    table = object_files.read_object_table(path)
    images = per_image(table, DEFAULT_CONFIDENCE if confidence is None else float(confidence))
    pictures: dict[int, bytes] = {}
    for indices, enough in (
        (_images_of_suspects(suspects), most // _SHARE_OF_SUSPECTS),
        (worst(images, len(table.images)).tolist(), most),
    ):
        for index in indices:
            if len(pictures) >= enough:
                break
            jpeg = None if index in pictures else page_data.image(run_dir, step, index)
            if jpeg is not None:
                pictures[index] = jpeg
    return pictures


def _images_of_suspects(suspects: Mapping[IouType, Mapping[str, Any]]) -> Iterator[int]:
    """The indices of the images with suspected labels, of the most suspicious one first."""
    for of in suspects.values():
        indices = dict(zip((image["id"] for image in of["images"]), of["image_indices"], strict=True))
        yield from (indices[annotation["image_id"]] for annotation in of["annotations"])


# ---- HTML -----------------------------------------------------------------------------------------------------------


def _page(title: str, elements: Collection[str]) -> str:
    script = one_script(_ENTRY, _static)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none';"
        " form-action 'none'"
    )
    page = re.sub(
        r'<link rel="stylesheet" href="static/(\w+\.css)" />',
        lambda link: f"<style>\n{_static(link[1])}</style>",
        _static("index.html"),
    )
    # The data stands before the script that reads it.
    for old, new in {
        '<html lang="en" data-host="tensorboard">': '<html lang="en" data-host="report">',
        '<meta charset="utf-8" />': '<meta charset="utf-8" />\n    '
        f'<meta http-equiv="Content-Security-Policy" content="{policy}" />',
        "<title>Detections</title>": f"<title>{html.escape(printable(f'Detections: {title}', 100))}</title>",
        '<script type="module" src="static/main.js"></script>': "",
        "  </body>": "\n".join((*elements, f"<script>{script}</script>", "  </body>")),
    }.items():
        assert page.count(old) == 1, old
        page = page.replace(old, new)
    return page


def _static(name: str) -> str:
    return files.read_text(os.path.join(_STATIC, name)).replace("\r\n", "\n")


def _element(id: str, text: str) -> str:
    """An element that a browser neither shows nor runs. The text has no `<`."""
    return f'<script type="text/plain" id="{id}">{text}</script>'


def _as_json(value: Any) -> str:
    """JSON that stays what it is in HTML, whatever names are in it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _base64(contents: bytes) -> str:
    return base64.b64encode(contents).decode()
