"""Evaluates detections against ground truth, both files in COCO format; or a model, as it is deployed.

    od-eval evaluate --groundtruth=instances_val.json --detections=detections.json --model_dir=runs/a
    od-eval evaluate --model=runs/a/exported --pipeline_config_path=runs/a/pipeline.config --model_dir=runs/a

Prints the COCO metrics of boxes, and of masks if both files have them, over all categories and for each, and writes the
same files as an evaluation during training: metrics.json, metrics/, metrics.csv and a TensorBoard run, into
<model_dir>/eval. The numbers are the same as pycocotools' for these files.

Detections of several checkpoints are evaluated one by one, each with its step; together they form a curve:

    for step in 1000 2000 3000; do
      od-eval evaluate --groundtruth=val.json --detections=detections-$step.json --step=$step --model_dir=runs/a
    done

An existing evaluation of the same step is replaced; so do not train into that run at the same time. With --images,
TensorBoard shows the first images with detections and ground truth. With --ledger, a table shows what each choice of
COCO's protocol does to AP; it is also in ledger.csv, beside the other files of the analyses.

Detections may also be a table, .parquet, .arrow or .feather, a folder of such files or a pattern: image_id,
category_id, score, and x, y, width, height or bbox. One of more than ten million rows is read a part at a time, for
which the rows of an image must stand together. Of more than two million detections of boxes, analyses are made of some
images, and that is said; the COCO metrics always rest on all.

With --model it runs a model: the folder of an export, a SavedModel, a .tflite file, a checkpoint or a model_dir, whose
best checkpoint it takes. The images are those of a pipeline.config, of TFRecords (--record, --label_map), or of COCO's
ground truth (--groundtruth, --images). It writes to <model_dir>/eval/<name of the model>, and tells also how long the
model takes for an image, how large it is, and mistakes in its use: classes one off, input that is normalised twice.

With --ray it runs the model on the machines of a Ray cluster: auto is the one that was begun here by `ray start
--head`, local one for this evaluation alone, else HOST:PORT. All its machines have this package (pip install
"od_eval[ray]"), and see the model and the images under the same paths. A record file is one task, or 500 images of
--groundtruth; a task takes --num_threads processors, by default one, and a GPU if there are any. It is repeated if its
worker or machine is lost. The numbers are the same, however many there are. If it is interrupted, the same command goes
on with what is not finished, or has changed (of images in a bucket, that is not looked for).
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tqdm
from absl import flags

from od_eval import files, text
from od_eval.data.images import ImageFolder, ImageNotFound, ImageUnusable
from od_eval.deployed.evaluating import evaluate_model, findings_of, options_for
from od_eval.deployed.labeled_set import LabeledSet, of_coco, of_pipeline, of_records, read_coco_image
from od_eval.deployed.loading import load_model
from od_eval.deployed.measurements import measurement_lines
from od_eval.deployed.model import DeployedModel
from od_eval.deployed.parts import DetectedParts, detect_in_parts
from od_eval.errors import ODEvalError
from od_eval.evaluation.analyses.calibration import CONFIDENT_SCORE
from od_eval.evaluation.analyses.protocol_ledger import SIZE_METRICS, LedgerRow, ledger_columns, protocol_ledger
from od_eval.evaluation.analysis import Analysis, attempt
from od_eval.evaluation.batch import EvaluationBatch, of_image
from od_eval.evaluation.better import best_of
from od_eval.evaluation.coco_files import (
    BoxPlausibility,
    CocoGroundTruth,
    LeftOut,
    has_masks,
    read_groundtruth,
    stream_detections,
)
from od_eval.evaluation.coco_metrics import BACKENDS
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.good_values import GOOD_VALUES
from od_eval.evaluation.loop import FoundInData, evaluate
from od_eval.evaluation.object_table import ERROR_KINDS
from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.streamed_evaluator import MOST_ANALYSED, StreamedEvaluator, evaluator_for
from od_eval.figures.first_images import FirstImages
from od_eval.findings.finding import Finding, findings_in, findings_section
from od_eval.programs import analysis_flags
from od_eval.runs import analysis_files, metrics_files
from od_eval.runs.image_archive import MOST_IMAGES, ImageArchive

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(analysis_flags)  # so that --help shows them

flags.DEFINE_string("groundtruth", None, "COCO JSON file with images, annotations and categories.")
flags.DEFINE_string(
    "detections",
    None,
    "File in COCO's results format, JSON, or such a table: .parquet, .arrow, .feather, a folder or pattern of these.",
)
flags.DEFINE_string("model", None, "Instead of --detections: a model to run; a folder, a .tflite file or a checkpoint.")
flags.DEFINE_string("pipeline_config_path", None, "With --model: the config whose first eval_input_reader is read.")
flags.DEFINE_string("record", None, "With --model: TFRecord files, a pattern such as data/val-?????-of-00004.")
flags.DEFINE_string("label_map", None, "With --model: the label map that it was trained with; that of --record, too.")
flags.DEFINE_integer("num_threads", None, "With --model: the number of threads; default: the runtime's.", lower_bound=1)
flags.DEFINE_string("ray", None, "With --model: run it on a Ray cluster: auto, local, or its address HOST:PORT.")
flags.DEFINE_string("model_dir", None, "Folder that contains the run; that of the training, if any.", required=True)
flags.DEFINE_string(
    "run",
    None,
    "Folder of the run below model_dir, e.g. eval/night for a second set of images; default: eval, with --model eval/"
    " and its name.",
)
flags.DEFINE_integer(
    "step",
    None,
    "The training step of the weights that produced the detections; default: what the model tells, or 0.",
    lower_bound=0,
    upper_bound=np.iinfo(np.int64).max,
)
flags.DEFINE_bool("masks", None, "Whether to evaluate masks as well. By default if both sides have masks.")
flags.DEFINE_string(
    "images", None, "Folder of the image files. With --detections it is for pictures; by default none are drawn."
)
flags.DEFINE_integer("num_pictures", 10, "With --images or --model, the number of images to draw.", lower_bound=0)
flags.DEFINE_bool("strict", False, "Whether entries that would be left out, and boxes that cannot be, are an error.")
flags.DEFINE_bool("ledger", False, "Whether to show what each choice of COCO's protocol does to AP.")
flags.DEFINE_enum("backend", "hotcoco", BACKENDS, "What matches the boxes; the numbers are the same, not the speed.")

flags.register_validator(
    "run",
    lambda run: run is None or (bool(run) and not os.path.isabs(run) and ".." not in re.split(r"[/\\]", run)),
    message="it must be the name of a folder below model_dir",
)
for _flag in ("model_dir", "run"):
    flags.register_validator(
        _flag,
        lambda path: path is None or text.utf8(path) == path,
        message="TensorFlow only writes to folders whose names are UTF-8; choose another",
    )
flags.register_multi_flags_validator(
    ["ledger", "analysis"],
    lambda given: given["analysis"] or not given["ledger"],
    message="--ledger is computed from the analyses; leave out --noanalysis",
)
flags.register_validator("model_dir", bool, message="it must be the name of a folder; . is the working directory")
flags.register_multi_flags_validator(
    ["detections", "model"],
    lambda given: bool(given["detections"]) != bool(given["model"]),
    message="pass --detections or --model, one of the two",
)
flags.register_multi_flags_validator(
    ["detections", "groundtruth"],
    lambda given: given["groundtruth"] or not given["detections"],
    message="with --detections, pass --groundtruth",
)
flags.register_multi_flags_validator(
    ["model", "pipeline_config_path", "record", "label_map", "num_threads", "ray"],
    lambda given: given.pop("model") or all(value is None for value in given.values()),
    message="--pipeline_config_path, --record, --label_map, --num_threads and --ray are for --model",
)
flags.register_multi_flags_validator(
    ["model", "pipeline_config_path", "record", "groundtruth"],
    lambda given: not given.pop("model") or sum(map(bool, given.values())) == 1,
    message="with --model, pass --pipeline_config_path, --record or --groundtruth, one of the three",
)
flags.register_multi_flags_validator(
    ["record", "label_map"],
    lambda given: given["label_map"] or not given["record"],
    message="with --record, pass --label_map",
)
flags.register_multi_flags_validator(
    ["model", "groundtruth", "images"],
    lambda given: not given["model"] or bool(given["groundtruth"]) == bool(given["images"]),
    message="with --model, --groundtruth and --images belong together",
)

_CHOSEN_BY = {"F1": "the highest F1", "cost": "the lowest cost", "default": "no detection is right"}
_MEANINGS = {
    "AP": "mean over IoU 0.50 to 0.95",
    "AP50": "IoU of 0.50 or more",
    "AP75": "IoU of 0.75 or more",
    "APs": "small: area up to 32²",
    "APm": "medium: up to 96²",
    "APl": "large: over 96²",
    "AR1": "recall with 1 detection per image",
    "AR10": "recall with 10",
    "AR100": "recall with 100",
    "ARs": "small",
    "ARm": "medium",
    "ARl": "large",
}


def main() -> int:
    """Runs the evaluation given by the flags; returns the exit status."""
    if FLAGS.model:
        _evaluate_model()
    else:
        _evaluate_detections()
    return 0


def _evaluate_detections() -> None:
    masks = FLAGS.masks
    if masks is None:
        masks = has_masks(FLAGS.detections) and has_masks(FLAGS.groundtruth)
    print(text.printable(f"Reading {FLAGS.groundtruth} and {FLAGS.detections} …"), flush=True)
    folder = ImageFolder(FLAGS.images) if FLAGS.images else None
    left_out = LeftOut(FLAGS.strict)
    groundtruth = read_groundtruth(FLAGS.groundtruth, masks, left_out)
    num_detections, batches = stream_detections(FLAGS.detections, groundtruth, left_out)
    first_batch = next(batches)
    options = EvaluationOptions(
        groundtruth.categories,
        box_format="xywh",
        masks=masks,
        num_pictures=FLAGS.num_pictures if FLAGS.images else 0,
        analysis=analysis_flags.analysis_options(),
    )
    evaluator = evaluator_for(options, groundtruth.images, num_detections, FLAGS.backend)
    print(f"Evaluating the {_what(options)} of {len(groundtruth.images)} images with {_backend()} …", flush=True)
    plausibility = BoxPlausibility()

    def plausible(batches: Iterable[EvaluationBatch]) -> Iterator[EvaluationBatch]:
        for batch in batches:
            plausibility.update(batch)
            yield batch
        if FLAGS.strict and (problem := plausibility.problem()):
            raise ODEvalError(f"{problem}.")

    def findings() -> list[Finding]:
        found = findings_of(left_out)
        if problem := plausibility.problem():
            found.append(Finding("implausible_boxes", "warning", where="", symptom=problem, remedy=""))
        return found + _analysed_in_part(evaluator, len(groundtruth.images), num_detections)

    run = FLAGS.run or "eval"
    result = evaluate(
        None,
        plausible(itertools.chain([first_batch], batches)),
        [evaluator, FoundInData(lambda: findings_section(findings()))],
        detect=lambda _, batch: batch,
        options=options,
        step=FLAGS.step or 0,
        name=run,
    )
    archive = ImageArchive(os.path.join(FLAGS.model_dir, run))
    first_images = _read_images(groundtruth, first_batch, folder, options, archive)
    _write(run, result, options, evaluator, first_images, archive if options.num_pictures else None)
    _tell(run, result, evaluator)


def _analysed_in_part(evaluator: Evaluator, num_images: int, num_detections: int) -> list[Finding]:
    """That the analyses do not rest on all images, if that is so."""
    if not isinstance(evaluator, StreamedEvaluator) or FLAGS.analysis is False:
        return []
    return [
        Finding(
            "analysed_in_part",
            "note",
            where="",
            symptom=f"the analyses rest on {evaluator.num_analysed:,} of {num_images:,} images, chosen by a hash of"
            f" their ids, as there are {num_detections:,} detections and at most about {MOST_ANALYSED:,} are analysed;"
            " the COCO metrics rest on all",
            remedy="",
            evidence={"images": evaluator.num_analysed},
        )
    ]


def _evaluate_model() -> None:
    print("Loading the model …", flush=True)
    # On Ray a task takes one processor, if nothing else is said.
    num_threads = 1 if FLAGS.ray and FLAGS.num_threads is None else FLAGS.num_threads
    model = load_model(FLAGS.model, num_threads=num_threads, label_map=FLAGS.label_map)
    left_out = LeftOut(FLAGS.strict)
    labeled = _labeled_set(left_out)
    options = options_for(model, labeled, num_pictures=FLAGS.num_pictures, analysis=analysis_flags.analysis_options())
    if FLAGS.masks and not options.masks:
        raise ODEvalError(f"'{model.path}' predicts no masks; leave out --masks.")
    run = FLAGS.run or f"eval/{_run_name(model.name)}"
    run_dir = os.path.join(FLAGS.model_dir, run)
    images = f"{labeled.num_images} images" if labeled.num_images is not None else "the images"
    what = f"Evaluating the {_what(options)} of {model.path} on {images} of {labeled.source} with {_backend()} …"
    print(text.printable(what), flush=True)
    unfinished = os.path.join(run_dir, ".unfinished")
    detected = _detected_on_ray(model, labeled, left_out, unfinished) if FLAGS.ray else None
    sizes, num_detections = ({}, 0) if detected is None else (detected.sizes, detected.num_detections)
    evaluator = evaluator_for(options, sizes, num_detections, FLAGS.backend)
    first_images = FirstImages(options)
    archive = ImageArchive(run_dir)
    of_analyses = FoundInData(lambda: findings_section(_analysed_in_part(evaluator, len(sizes), num_detections)))
    result = evaluate_model(
        model,
        labeled,
        left_out,
        detected=detected,
        options=options,
        evaluators=[evaluator, first_images, of_analyses, *([archive] if options.num_pictures else [])],
        step=(model.step or 0) if FLAGS.step is None else FLAGS.step,
        name=run,
    )
    _write(run, result, options, evaluator, first_images, archive if options.num_pictures else None)
    if detected is not None:
        files.remove(unfinished)
    _tell(run, result, evaluator)


def _detected_on_ray(model: DeployedModel, labeled: LabeledSet, left_out: LeftOut, unfinished: str) -> DetectedParts:
    return detect_in_parts(
        model,
        labeled,
        left_out,
        ray=FLAGS.ray,
        folder=unfinished,
        label_map=FLAGS.label_map,
        num_pictured=MOST_IMAGES,
    )


def _labeled_set(left_out: LeftOut) -> LabeledSet:
    if FLAGS.pipeline_config_path:
        return of_pipeline(FLAGS.pipeline_config_path, FLAGS.masks, left_out)
    if FLAGS.record:
        return of_records(FLAGS.record, FLAGS.label_map, FLAGS.masks, left_out)
    return of_coco(FLAGS.groundtruth, FLAGS.images, FLAGS.masks, left_out)


def _what(options: EvaluationOptions) -> str:
    return "boxes and masks" if options.masks else "boxes"


def _backend() -> str:
    slow = ", which takes a hundred times as long as hotcoco" if FLAGS.backend == "pycocotools" else ""
    return f"{FLAGS.backend}{slow}"


def _run_name(name: str) -> str:
    """The name of a model as that of a folder that TensorFlow can write to."""
    return re.sub(r"[^\w.-]+", "_", name).lstrip(".") or "model"


def _tell(run: str, result: EvaluationResult, evaluator: Evaluator) -> None:
    """Prints the tables, where the files are, and what was found."""
    run_dir = os.path.join(FLAGS.model_dir, run)
    print(_metrics_table(result), _category_table(result), sep="\n\n", end="\n\n")
    print(*_analysis_lines(result), sep="\n", end="\n\n" if result.operating_point else "")
    if result.deployment:
        print(*measurement_lines(result.deployment, is_on_cluster=bool(FLAGS.ray)), sep="\n", end="\n\n")
    if FLAGS.ledger and evaluator.analysis is not None:
        for ledger in _ledgers(run_dir, result.step or 0, evaluator.analysis):
            print(ledger, end="\n\n")

    from od_eval.tensorboard.command import how_to_look

    print(text.printable(f"Files: {os.path.join(run_dir, 'metrics.json')}, metrics.csv next to it"))
    print(*map(text.printable, how_to_look(FLAGS.model_dir).split("\n")), sep="\n")
    for finding in findings_in(result.findings):
        print(text.printable(f"{finding.severity}: {finding}"), file=sys.stderr)


def _write(
    run: str,
    result: EvaluationResult,
    options: EvaluationOptions,
    evaluator: Evaluator,
    first_images: FirstImages,
    archive: ImageArchive | None,
) -> None:
    import tensorflow as tf

    from od_eval.runs.evaluation_run import (
        draw_error_examples,
        draw_pictures,
        draw_plots,
        write_analysis,
        write_analysis_summaries,
        write_evaluation,
    )

    run_dir, step = os.path.join(FLAGS.model_dir, run), result.step or 0
    print(text.printable(f"Writing to {run_dir} …"), flush=True)
    try:
        write_evaluation(run_dir, result, options)
    except (tf.errors.OpError, OSError) as error:
        raise ODEvalError(f"'{run_dir}' cannot be written: {files.reason(error)}.") from error
    if evaluator.analysis is not None:
        best = best_of(metrics_files.read_all(run_dir))
        kept_steps = [] if best is None else [best.step or 0]
        write_analysis(run, run_dir, step, evaluator.analysis, kept_steps, archive)
        write_analysis_summaries(run, run_dir, step, evaluator.analysis)
        draw_plots(run, run_dir, step, evaluator.analysis)
        if archive is not None:
            draw_error_examples(run, run_dir, step, evaluator.analysis, archive)
    draw_pictures(run, run_dir, step, first_images, options)


def _ledgers(run_dir: str, step: int, analysis: Analysis) -> Iterator[str]:
    """Writes the ledgers of boxes and of masks into the folder of the analyses, and returns them as texts."""
    for iou_type in analysis.tables:
        rows = attempt("ledger", protocol_ledger, analysis.tables, iou_type, analysis.confidence)
        if rows is not None:
            name = analysis_files.file_name("ledger", iou_type, "csv")
            path = os.path.join(analysis_files.of_step(run_dir, step), name)
            files.write_whole(path, analysis_files.table_csv(ledger_columns(rows)))
            yield _ledger_text(rows, "masks" if iou_type == "segm" else "boxes")


def _read_images(
    groundtruth: CocoGroundTruth,
    batch: EvaluationBatch,
    folder: ImageFolder | None,
    options: EvaluationOptions,
    archive: ImageArchive,
) -> FirstImages:
    """Reads the images, if there is a folder: the first ones to be drawn, and more of them for the archive."""
    first_images = FirstImages(options)
    if folder is not None and options.num_pictures:
        number = MOST_IMAGES if options.analysis else options.num_pictures
        images = _images(groundtruth, batch, folder, number)
        total = min(len(groundtruth.images), number)
        for image in tqdm.tqdm(images, "images", total, leave=False, unit=" images", delay=2):
            first_images.update(image)
            archive.update(image)
    return first_images


def _images(
    groundtruth: CocoGroundTruth, batch: EvaluationBatch, folder: ImageFolder, number: int
) -> Iterator[EvaluationBatch]:
    """The first images that can be read, one at a time, with their pixels."""
    problems = []
    num_read = 0
    for index, id in enumerate(batch.image_ids):
        if num_read == number:
            break
        try:
            image = read_coco_image(groundtruth, id, folder)
        except (ImageNotFound, ImageUnusable) as error:
            problems.append(str(error))
            continue
        num_read += 1
        yield EvaluationBatch(
            image_ids=[id],
            image_sizes=[image.annotated_size[::-1]],
            detections=of_image(batch.detections, index),
            groundtruth=None if batch.groundtruth is None else of_image(batch.groundtruth, index),
            images=[image.pixels],
        )
    if not num_read:
        raise ODEvalError(
            f"--images has none of the images of '{groundtruth.path}': {text.printable(problems[0], 500)}."
        )
    if problems:
        print(
            f"warning: {len(problems)} images cannot be read and are not drawn; the first:"
            f" {text.printable(problems[0], 500)}.",
            file=sys.stderr,
        )


# ---- Tables ---------------------------------------------------------------------------------------------------------


def _metrics_table(result: EvaluationResult) -> str:
    columns = {"boxes": result.bbox} | ({"masks": result.segm} if result.segm else {})
    rows = [["", *columns, ""]]
    for name, meaning in _MEANINGS.items():
        good = f"; good by convention, for boxes: {GOOD_VALUES[name]}" if name in GOOD_VALUES else ""
        rows.append([name, *(text.number(metrics[name]) for metrics in columns.values()), f"  {meaning}{good}"])
    return text.table(rows, left=(0, len(columns) + 1))


def _category_table(result: EvaluationResult) -> str:
    shown = ["AP", "AP50", "AR100"]
    rows = [["category", "objects", "found", *shown, *(f"mask {name}" for name in (shown if result.segm else ()))]]
    for name, metrics in result.per_category.items():
        values = [metrics[each] for each in shown] + [metrics["segm"][each] for each in (shown if result.segm else ())]
        counts = [str(metrics["num_groundtruth"]), str(metrics["num_detections"])]
        rows.append([text.named(name), *counts, *map(text.number, values)])
    return text.table(rows, left=(0,))


def _analysis_lines(result: EvaluationResult) -> Iterator[str]:
    """What the analyses say in short: how sure AP is, what holds at the operating point, and what costs most."""
    point = result.operating_point
    chosen_by = _CHOSEN_BY.get(point.get("chosen_by"), point.get("chosen_by"))
    for iou_type, what in (("bbox", "boxes"), ("segm", "masks")):
        if not point.get(iou_type):
            continue
        intervals, errors = (
            section if iou_type == "bbox" else section.get("segm", {}) for section in (result.intervals, result.errors)
        )
        if intervals.get("AP"):
            low, high = intervals["AP"]
            based_on = f"{result.num_analysed} images with {point[iou_type]['num_groundtruth']} objects"
            yield f"AP of {what}: {low:.3f} to {high:.3f} with 95% confidence, from {based_on}"
        counts = point[iou_type]
        ratios = ", ".join(f"{name} {text.number(counts[name])}" for name in ("precision", "recall", "f1"))
        yield (
            f"From a confidence of {point['confidence']:.4g} on ({chosen_by}), at IoU 0.50: {ratios};"
            f" {counts['tp']} right, {counts['fp']} wrong, {counts['fn']} missed"
        )
        calibration = result.calibration if iou_type == "bbox" else result.calibration.get("segm", {})
        if found := calibration.get("overconfidence"):
            yield (
                f"Confident even when wrong: of {found['num']} detections with a score of {CONFIDENT_SCORE} or more"
                f" only {found['num_right']} are right; do not take scores for probabilities"
            )
        costs = {kind: errors[kind] for kind in ERROR_KINDS if kind and errors.get(kind)}
        if costs:
            worst = sorted(costs, key=lambda kind: -costs[kind])
            yield f"AP50 lost to errors: {', '.join(f'{kind} {costs[kind]:.3f}' for kind in worst)}"


def _ledger_text(rows: Sequence[LedgerRow], what: str) -> str:
    return "\n\n".join(
        (
            f"COCO's protocol for {what}, choice by choice: the metrics under another choice, the change, and how many"
            "\nobjects and detections the choice concerns. The metrics above are COCO's own.",
            _ledger_table(rows, ("AP", "AP50")),
            _ledger_table(rows, tuple(SIZE_METRICS)),
        )
    )


def _ledger_table(rows: Sequence[LedgerRow], names: Sequence[str]) -> str:
    """The choices that concern some metrics; above the other ways, what COCO does and what changes it."""
    rows = [row for row in rows if not row.metrics.keys().isdisjoint(names)]
    cells = [["", *(title for name in names for title in (name, "change")), "objects", "detections"]]
    for row in rows:
        numbers: list[str] = []
        for name in names:
            is_concerned = name in row.metrics
            numbers.append(text.number(row.metrics[name]) if is_concerned else "")
            numbers.append(_change(row.differences[name]) if is_concerned and row.choice else "")
        counts = ["" if num is None else f"{num:,}" for num in (row.num_groundtruth, row.num_detections)]
        cells.append([f"  {row.instead}" if row.choice else row.instead, *numbers, *counts])
    header, *lines = text.table(cells).split("\n")
    shown, choice = [header], ""
    for row, line in zip(rows, lines, strict=True):
        if row.choice != choice:
            choice = row.choice
            shown.append(f"{choice}. Changed by: {row.changed_by}")
        shown.append(line)
    return "\n".join(shown)


def _change(difference: float | None) -> str:
    return "-" if difference is None else f"{round(difference, 4) + 0.0:+.4f}"  # + 0.0: no minus before 0
