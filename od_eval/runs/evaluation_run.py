"""The run of an evaluation in a model_dir: writes an evaluation to all its files, and removes those of later steps.

    write_evaluation("runs/a/eval", result, options)
    draw_pictures("eval", "runs/a/eval", step, first_images, options)

Numbers are written first, so that none are lost if drawing fails.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from od_eval import files
from od_eval.errors import describe
from od_eval.evaluation.analyses.examples import error_examples
from od_eval.evaluation.analyses.label_suspects import label_suspects, suspects_json
from od_eval.evaluation.analysis import Analysis, attempt
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.segmentation.evaluator import SegmentationEvaluator
from od_eval.evaluation.segmentation.options import SegmentationOptions
from od_eval.figures import plots
from od_eval.figures.error_pictures import Focus, draw_errors, drawn_of_image, no_error
from od_eval.figures.first_images import FirstImages
from od_eval.figures.pictures import file_name
from od_eval.figures.segmentation_pictures import draw_segmented
from od_eval.runs import analysis_files, metrics_files, object_files, object_history, segmentation_files
from od_eval.runs.image_archive import FILE_NAME, MOST_IMAGES, ImageArchive
from od_eval.runs.segmentation_files import LabelArchive
from od_eval.tensorboard import analysis_summaries, layout, tags, writers

# Pictures of each kind of error.
_EXAMPLES = 4
# Run -> the tags of the pictures of errors that this process has written last.
_error_tags: dict[str, set[str]] = {}


def write_evaluation(
    run_dir: str,
    result: EvaluationResult,
    options: EvaluationOptions | SegmentationOptions,
    *,
    evaluator: Evaluator | None = None,
    with_layout: bool = True,
) -> None:
    """Writes the numbers of an evaluation: the files of its run, and TensorBoard's scalars.

    Args:
      run_dir: the folder of its TensorBoard run, which also holds the files.
      result: the result.
      options: the options of the evaluation.
      evaluator: with `options.save_detections`, the evaluator whose ground truth and detections are written.
      with_layout: whether to write the layout of TensorBoard's Custom Scalars; once per run is enough.

    Raises:
      ODEvalError: a file cannot be written.
    """
    if evaluator is not None and isinstance(options, EvaluationOptions) and options.save_detections:
        metrics_files.write_coco(run_dir, result.step or 0, evaluator)
    scalars = result.scalars(options.per_category)
    # Of a process that was killed before the files were written, or of an earlier evaluation of these weights.
    writers.take_back(run_dir, result.step or 0, lambda tag: tag in scalars or tag.startswith(tags.of_detections()))
    if with_layout:
        layout.write(run_dir, scalars)
    writers.write_scalars(run_dir, result.step or 0, scalars)
    writers.write_mark_of_evaluation(run_dir, result.step or 0)
    metrics_files.write(run_dir, result)  # last: once this file exists, the step counts as evaluated


def write_analysis(
    run: str,
    run_dir: str,
    step: int,
    analysis: Analysis,
    kept_steps: Collection[int],
    archive: ImageArchive | None = None,
) -> None:
    """Writes the files of an evaluation's analyses, and its images. What goes wrong is reported in a warning on stderr.

    In a training it is called before `write_evaluation`, so that a process that is killed in between evaluates the step
    again.

    Args:
      run: the run, for the warning.
      run_dir: the folder of the run.
      step: the step of the evaluation.
      analysis: its analyses.
      kept_steps: the steps whose analyses are kept, beside the first: the best so far.
      archive: the images that are kept; it is written. The tables have the masks in these images.
    """
    if archive is not None:
        with _only_reported(f"{run}: {FILE_NAME} could not be written at step {step}"):
            _write_archive(run, archive)
    with _only_reported(f"{run}: the analyses at step {step} could not be written"):
        contents: dict[str, str | bytes] = {
            object_files.FILE_NAMES[iou_type]: object_files.parquet(table, archive or ())
            for iou_type, table in analysis.tables.items()
        }
        for iou_type, table in analysis.tables.items():
            suspects = attempt("label suspects", lambda table: suspects_json(table, label_suspects(table)), table)
            if suspects is not None:
                contents[analysis_files.file_name("label_suspects", iou_type, "json")] = json.dumps(suspects)
        for name, iou_type, columns in analysis.columns():
            contents[analysis_files.file_name(name, iou_type, "csv")] = analysis_files.table_csv(columns)
        analysis_files.write(run_dir, step, contents)
        object_history.write(run_dir)
        analysis_files.thin_out(run_dir, kept_steps, analysis.options.max_megabytes)


def write_segmentation(
    run: str,
    run_dir: str,
    step: int,
    evaluator: SegmentationEvaluator,
    options: SegmentationOptions,
    kept_steps: Collection[int],
    archive: ImageArchive | None = None,
    labels: LabelArchive | None = None,
) -> None:
    """Writes the files of an evaluation of semantic segmentation. What goes wrong is reported as in `write_analysis`.

    Args:
      run, run_dir, step, kept_steps: as for `write_analysis`.
      evaluator: of the evaluation.
      options: its options.
      archive: the images that are kept; it is written.
      labels: their label images.
    """
    names = segmentation_files.class_names(options.categories)
    pictures: list[str] = []
    if archive is not None:
        with _only_reported(f"{run}: {FILE_NAME} could not be written at step {step}"):
            _write_archive(run, archive)
            pictures = archive.names()
    with _only_reported(f"{run}: the analyses at step {step} could not be written"):
        contents: dict[str, str | bytes] = {
            segmentation_files.IMAGES: segmentation_files.images_csv(evaluator.images(), names, pictures, labels or ()),
            segmentation_files.CONFUSION: segmentation_files.confusion_csv(evaluator.confusion(), names),
        }
        if pictures and labels is not None:
            contents[segmentation_files.LABELS] = labels.contents(pictures)
        analysis_files.write(run_dir, step, contents)
        analysis_files.thin_out(run_dir, kept_steps, options.max_megabytes)


def _write_archive(run: str, archive: ImageArchive) -> None:
    num_left_out = archive.write()
    if num_left_out:
        print(f"{run}: {FILE_NAME} has the first {MOST_IMAGES} images; {num_left_out} are not in it.", flush=True)


def write_analysis_summaries(run: str, run_dir: str, step: int, analysis: Analysis) -> None:
    """Writes the curves, histograms and counts of an evaluation's analyses for TensorBoard.

    What goes wrong is reported as in `draw_pictures`.

    Args:
      run, run_dir, step, analysis: as for `write_analysis`.
    """
    with _only_reported(f"{run}: the curves of the analyses at step {step} could not be written"):
        analysis_summaries.write(run_dir, step, analysis)


def draw_pictures(run: str, run_dir: str, step: int, first_images: FirstImages, options: EvaluationOptions) -> int:
    """Draws the first images of an evaluation for TensorBoard and, with `options.pictures_dir`, as PNG files.

    The numbers have been written before: whatever goes wrong here is reported in a warning on stderr, and costs nothing
    else.

    Args:
      run: the run, for the warning.
      run_dir: the folder of the TensorBoard run.
      step: the step of the evaluation.
      first_images: the first images of the evaluation.
      options: the options of the evaluation.

    Returns:
      The number of pictures; 0 if drawing failed.
    """
    with _only_reported(f"{run}: the pictures of the evaluation at step {step} could not be drawn"):
        pictures = list(first_images.pictures())
        if options.pictures_dir:
            folder = os.path.join(options.pictures_dir, f"step-{step:08d}")
            _write_files(folder, {file_name(image_id): picture for image_id, picture in pictures})
        by_tag = {tags.picture(index): picture for index, (_, picture) in enumerate(pictures)}
        writers.write_pictures(run_dir, step, by_tag)
        return len(pictures)
    return 0


def draw_plots(run: str, run_dir: str, step: int, analysis: Analysis) -> int:
    """Draws plots of the analyses for TensorBoard; returns their number, 0 if drawing failed.

    What goes wrong is reported as in `draw_pictures`.

    Args:
      run, run_dir, step: as for `draw_pictures`.
      analysis: of the evaluation.
    """
    with _only_reported(f"{run}: the plots of the evaluation at step {step} could not be drawn"):
        drawn = {}
        for iou_type, table in analysis.tables.items():
            errors = analysis.sections.get("errors", {})
            costs = (errors if iou_type == "bbox" else errors.get("segm")) or None
            for name, plot in plots.plots(table, analysis.confidence, costs=costs).items():
                drawn[tags.plot(name, iou_type)] = plot
        writers.write_pictures(run_dir, step, drawn)
        return len(drawn)
    return 0


def draw_error_examples(run: str, run_dir: str, step: int, analysis: Analysis, archive: ImageArchive) -> int:
    """Draws the worst images and examples of each kind of error for TensorBoard and, if asked for, as PNG files.

    Returns their number. What goes wrong is reported as in `draw_pictures`.

    Args:
      run, run_dir, step: as for `draw_pictures`.
      analysis: of the evaluation.
      archive: the images that there are.
    """
    with _only_reported(f"{run}: the errors of the evaluation at step {step} could not be drawn"):
        if not analysis.tables:
            return 0
        table = analysis.tables.get("segm", analysis.tables["bbox"])
        ids, sizes = list(table.images), list(table.images.values())
        images = {index for index, id in enumerate(ids) if id in archive}
        drawn = {}
        for kind, examples in error_examples(table, analysis.confidence, _EXAMPLES, images).items():
            for index, example in enumerate(examples):
                objects = drawn_of_image(table, example.image, analysis.confidence)
                focus = Focus(example.detections, example.objects) if example.detections or example.objects else None
                image = archive.image(ids[example.image])
                drawn[tags.error(kind, index)] = draw_errors(image, sizes[example.image], *objects, focus=focus)
        # TensorBoard shows the newest picture of a tag, also where a later evaluation has no such error.
        gone = _error_tags.get(run_dir, set()) - drawn.keys()
        writers.write_pictures(run_dir, step, {**drawn, **{tag: no_error(step) for tag in sorted(gone)}})
        _error_tags[run_dir] = set(drawn)
        if analysis.options.save_examples:
            folder = analysis_files.of_step(run_dir, step)
            _write_files(folder, {f"{tag}.png": picture for tag, picture in drawn.items()})
        return len(drawn)
    return 0


def draw_segmentation(
    run: str,
    run_dir: str,
    step: int,
    evaluator: SegmentationEvaluator,
    options: SegmentationOptions,
    archive: ImageArchive,
    labels: LabelArchive,
) -> int:
    """Draws the first and the worst images of an evaluation, and its confusion matrix, for TensorBoard.

    Returns the number of pictures. What goes wrong is reported as in `draw_pictures`.

    Args:
      run, run_dir, step: as for `draw_pictures`.
      evaluator, options, archive, labels: as for `write_segmentation`, after it.
    """
    with _only_reported(f"{run}: the pictures of the segmentation at step {step} could not be drawn"):
        names = segmentation_files.class_names(options.categories)
        images = evaluator.images()
        parts_right = images.pixel_accuracy
        with_picture = {row for row, id in enumerate(images.ids) if id in archive and id in labels}
        drawn = {tags.SEGMENTATION_CONFUSION: plots.pixel_confusion(evaluator.confusion(), names)}
        for tag, rows in (
            (tags.segmentation, sorted(with_picture)),
            (tags.worst_segmentation, [row for row in images.worst_first().tolist() if row in with_picture]),
        ):
            for index, row in enumerate(rows[: options.num_pictures]):
                drawn[tag(index)] = draw_segmented(
                    archive.image(images.ids[row]),
                    *labels.images(images.ids[row]),
                    names,
                    image_id=images.ids[row],
                    part_wrong=None if np.isnan(parts_right[row]) else 1 - float(parts_right[row]),
                )
        writers.write_pictures(run_dir, step, drawn)
        return len(drawn)
    return 0


def go_back(run_dir: str, step: int) -> None:
    """Prepares a run for training that continues from `step`: evaluations of later steps are set aside.

    See `writers.resume`, `metrics_files.drop_after` and `analysis_files.drop_after` for where they are kept.

    Raises:
      ODEvalError: a file cannot be moved or written, or metrics.csv is damaged.
    """
    with files.errors_as_sentences(f"'{run_dir}' cannot be prepared for training from step {step}"):
        writers.resume(run_dir, step)
        metrics_files.drop_after(run_dir, step)
        analysis_files.drop_after(run_dir, step)


@contextlib.contextmanager
def _only_reported(what: str) -> Iterator[None]:
    """Reports an error in a warning on stderr, which begins with `what`, instead of raising it."""
    try:
        yield
    except Exception as error:
        print(f"warning: {what}: {describe(error)}", file=sys.stderr, flush=True)


def _write_files(folder: str, pictures: Mapping[str, npt.NDArray[Any]]) -> None:
    for name, picture in pictures.items():
        encoded = io.BytesIO()
        Image.fromarray(picture).save(encoded, "PNG")
        files.write_whole(os.path.join(folder, name), encoded.getvalue())
