"""Checks a pipeline.config and its data before training, or annotations before they are converted.

report = od_eval.check("pipeline.config")
print(report.to_text())
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.figures import survey_plots
from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.data_checks import check_data, compare_data
from od_eval.findings.finding import Finding, most_important_first
from od_eval.findings.survey import Progress, Survey
from od_eval.findings.survey_statistics import (
    LARGE_SIDE,
    SMALL_SIDE,
    box_sides,
    input_sizes,
    per_category,
    ratios,
    single_objects,
    statistics,
)
from od_eval.health.check_report import CheckReport
from od_eval.health.deployment_scores import checkpoint_of, not_compared, score_findings

if TYPE_CHECKING:
    from od_eval.odapi.pipeline import Pipeline

_SECONDS_WITHOUT_PROGRESS = 2
# Enough to see a difference that matters, in about two seconds.
_IMAGES_TO_COMPARE = 500


def check(
    pipeline_config_path: str | os.PathLike[str] | None = None,
    *,
    zoo: str | None = None,
    overrides: str | Sequence[str] = (),
    annotations: str | os.PathLike[str] | None = None,
    images: str | os.PathLike[str] | None = None,
    annotation_format: str | None = None,
    label_map: str | os.PathLike[str] | None = None,
    deployment_images: str | os.PathLike[str] | None = None,
    model_dir: str | os.PathLike[str] | None = None,
    max_examples: int | None = None,
    build: bool = False,
    log_dir: str | os.PathLike[str] | None = None,
) -> CheckReport:
    """Finds what is wrong with a config and its data, or with annotations, before anything is trained.

    Everything that can be checked is, whatever else is wrong: where the files of one input reader are missing, those of
    the others are read. What takes long shows its progress on stderr, if that is a terminal.

    Args:
      pipeline_config_path, zoo, overrides: as for `Pipeline.load`. Not with `annotations`.
      annotations: instead of a config, COCO's JSON file, a folder of VOC's XML files, or a CSV file.
      images: the folder of their images, as for `od_eval.data.conversion.convert_dataset`.
      annotation_format: "coco", "voc" or "csv"; by default inferred from `annotations`.
      label_map: with `annotations`, an existing label map, whose ids are used; classes that are not in it are told.
      deployment_images: a folder or a pattern of images from where the model is to be used, to compare with.
      model_dir: the folder of a training with this config: the scores of its best checkpoint, or of its newest, in up
        to 200 `deployment_images` are compared with those in as many images of the first `eval_input_reader`.
      max_examples: of each dataset, no more than its first so many images are read.
      build: whether to build the model, load its checkpoint, and take one step of training. It is left undone where
        there are errors without that.
      log_dir: where TensorBoard's run `check` is written, with the findings, the statistics and plots of them.

    Returns:
      What was found, and what the datasets are like.

    Raises:
      ODEvalError: the config cannot be read or parsed, the annotations cannot be read, there are no deployment images,
        `model_dir` has no checkpoint, arguments contradict each other, or `log_dir` cannot be written.
    """
    if (annotations is not None) == (pipeline_config_path is not None or zoo is not None):
        raise ODEvalError("give either a config, pipeline_config_path=PATH or zoo=NAME, or annotations=PATH.")
    for name, value in (("images", images), ("annotation_format", annotation_format), ("label_map", label_map)):
        if value is not None and annotations is None:
            raise ODEvalError(
                f"{name}={os.fspath(value)} belongs to annotations; give annotations=PATH, or leave it out."
            )
    if model_dir is not None and (annotations is not None or deployment_images is None):
        raise ODEvalError(
            f"model_dir={os.fspath(model_dir)} is for the scores of a model in deployment_images; give a config and"
            " deployment_images=PATH with it, or leave it out."
        )
    if build and annotations is not None:
        raise ODEvalError("build=True builds the model of a config; leave it out, or give pipeline_config_path=PATH.")
    if max_examples is not None and max_examples < 1:
        raise ODEvalError(f"max_examples={max_examples} leaves nothing to check; give a number above 0.")
    deployment = [] if deployment_images is None else [_survey_deployment(deployment_images, max_examples)]
    if annotations is not None:
        train = _survey_annotations(annotations, images, annotation_format, label_map, max_examples)
        surveys, facts, source = [train, *deployment], None, os.fspath(annotations)
        found = check_data(train, deployment, None)
    else:
        from od_eval.odapi.pipeline import Pipeline

        pipeline = Pipeline.load(pipeline_config_path, overrides, zoo=zoo, check=False)
        checkpoint = None if model_dir is None else checkpoint_of(os.fspath(model_dir))
        surveys, facts, found = _check_config(pipeline, deployment, max_examples)
        source = pipeline.source
        if build:
            found += _built(pipeline, found)
        if checkpoint is not None:
            found += _scores(pipeline, os.fspath(model_dir or ""), checkpoint, surveys)
    found += [fault for survey in surveys for fault in survey.faults]
    report = CheckReport(
        source,
        most_important_first(_once_for_the_same_images(found)),
        {survey.name: statistics(survey, facts) for survey in surveys},
        _input_size(facts),
    )
    if log_dir is not None:
        _write(os.fspath(log_dir), report, surveys, facts)
    return report


def _once_for_the_same_images(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Leaves out what is said of the same images again, for another reader of the same files."""
    told = set()
    for finding in findings:
        said = (finding.kind, finding.symptom, tuple(finding.images))
        if not finding.images or said not in told:
            yield finding
        told.add(said)


# ---- A config -------------------------------------------------------------------------------------------------------


def _check_config(
    pipeline: Pipeline, deployment: Sequence[Survey], max_examples: int | None
) -> tuple[list[Survey], ConfigFacts | None, list[Finding]]:
    """Surveys what can be read of a config's data; and what is known of the config, and the findings so far."""
    from od_eval.odapi import config_checks
    from od_eval.odapi.config_facts import config_facts

    config, source = pipeline.config, pipeline.source
    found = list(config_checks.check_pipeline(pipeline))
    facts = None
    with contextlib.suppress(ODEvalError):  # `check_pipeline` says what is wrong with the model
        facts = config_facts(pipeline)
    readable = {field: one for field, one in _readers(pipeline).items() if _is_readable(pipeline, field, one)}
    surveys = {field: _survey_records(field, one, pipeline, max_examples) for field, one in readable.items()}
    train = surveys.get("train_input_reader")
    evaluation = [survey for field, survey in surveys.items() if field != "train_input_reader"]
    if train is not None:
        found += check_data(train, [*evaluation, *deployment], facts)
        if facts is not None:
            data = config_checks.SurveyedData(config, source, facts, train, evaluation)
            found += config_checks.findings("data", data)
    else:
        found += [finding for survey in (*evaluation, *deployment) for finding in check_data(survey, (), facts)]
    return [*surveys.values(), *deployment], facts, found


def data_differences(pipeline: Pipeline) -> list[Finding]:
    """How the evaluation sets of a config differ from its training data, and which images they have in common.

    Of each, the first images are read; nothing is said of data that are not there any more.
    """
    from od_eval.odapi.config_facts import config_facts

    readers = _readers(pipeline)
    surveys = [
        _survey_records(field, one, pipeline, _IMAGES_TO_COMPARE)
        for field, one in readers.items()
        if _is_readable(pipeline, field, one)
    ]
    if not surveys or surveys[0].name != "train_input_reader":
        return []
    return compare_data(surveys[0], surveys[1:], config_facts(pipeline))


def _readers(pipeline: Pipeline) -> dict[str, Any]:
    """Name in messages -> input reader; that of the training data first."""
    config = pipeline.config
    readers = {"train_input_reader": config.train_input_reader}
    return readers | {f"eval_input_reader[{index}]": one for index, one in enumerate(config.eval_input_reader)}


def _is_readable(pipeline: Pipeline, field: str, reader: Any) -> bool:
    """Whether the records of an input reader and its label map are there."""
    from od_eval.odapi import config_checks

    if not reader.tf_record_input_reader.input_path:
        return False
    try:
        checked = config_checks.findings("input", config_checks.Reader(pipeline.config, pipeline.source, field, reader))
        return not any(finding.severity == "error" for finding in checked)
    except ODEvalError:
        return False


def _survey_records(field: str, reader: Any, pipeline: Pipeline, max_examples: int | None) -> Survey:
    from od_eval.label_map import read_label_map
    from od_eval.odapi.config_checks import has_num_classes
    from od_eval.odapi.eval_config import category_names
    from od_eval.odapi.record_survey import survey_records

    num_classes = pipeline.num_classes if has_num_classes(pipeline.config.model) else None
    if reader.label_map_path:
        categories = category_names(read_label_map(reader.label_map_path))
    else:
        categories = {number: str(number) for number in range(1, (num_classes or 0) + 1)}
    with _progress(field) as progress:
        return survey_records(
            reader, field, categories, num_classes=num_classes, max_examples=max_examples, progress=progress
        )


def _built(pipeline: Pipeline, found: Sequence[Finding]) -> list[Finding]:
    """What goes wrong when the model is built, its checkpoint loaded, and one step taken."""
    if any(finding.severity == "error" for finding in found):
        return [
            Finding(
                "not_built",
                "note",
                pipeline.source,
                "the model was not built",
                "correct them, and check again",
                cause="because of the errors found without it",
            )
        ]
    from od_eval.odapi.trial_step import take_one_step

    try:
        take_one_step(pipeline)
    except ODEvalError as error:
        return [Finding("cannot_be_trained", "error", "", str(error).rstrip("."), "")]
    return []


def _scores(pipeline: Pipeline, model_dir: str, checkpoint: str, surveys: Sequence[Survey]) -> list[Finding]:
    """What differs in the scores of a trained model between evaluation images and those of deployment."""
    by_name = {survey.name: survey for survey in surveys}
    evaluation, deployment = by_name.get("eval_input_reader[0]"), by_name["deployment_images"]
    if evaluation is None or not len(evaluation.images):
        return [not_compared(checkpoint, deployment, "there are no evaluation images to compare with")]
    with _progress("scores of the model") as progress:
        return score_findings(pipeline, model_dir, checkpoint, evaluation, deployment, progress)


def _input_size(facts: ConfigFacts | None) -> str:
    if facts is None:
        return ""
    if facts.input_width and facts.input_height:
        return f"{facts.input_width} × {facts.input_height} pixels"
    if facts.resize_range is not None:
        shortest, longest = facts.resize_range
        return f"shorter side {shortest} pixels, longer side at most {longest}"
    return ""


# ---- Other data -----------------------------------------------------------------------------------------------------


def _survey_annotations(
    annotations: str | os.PathLike[str],
    images: str | os.PathLike[str] | None,
    annotation_format: str | None,
    label_map: str | os.PathLike[str] | None,
    max_examples: int | None,
) -> Survey:
    from od_eval.data.annotation_survey import survey_annotations

    with _progress("annotations") as progress:
        return survey_annotations(
            annotations, images, annotation_format, label_map=label_map, max_examples=max_examples, progress=progress
        )


def _survey_deployment(where: str | os.PathLike[str], max_examples: int | None) -> Survey:
    from od_eval.data.annotation_survey import survey_images

    with _progress("deployment_images") as progress:
        return survey_images(where, "deployment_images", max_examples=max_examples, progress=progress)


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Progress]:
    """A progress bar in a terminal, for what takes longer than two seconds."""
    with tqdm(desc=what, unit="image", disable=None, delay=_SECONDS_WITHOUT_PROGRESS, leave=False) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


# ---- TensorBoard ----------------------------------------------------------------------------------------------------


def survey_figures(surveys: Sequence[Survey], facts: ConfigFacts | None) -> dict[str, Any]:
    """Plots of what datasets are like, side by side: name -> uint8 `[height, 700, 3]`.

    Args:
      surveys: the datasets; the first `survey_plots.MAX_DATASETS` are drawn.
      facts: of the config, for the size at which the model sees boxes.
    """
    objects = {survey.name: single_objects(survey) for survey in surveys if survey.categories or len(survey.objects)}
    images = {survey.name: survey.images for survey in surveys}
    counts, sides, aspect_ratios, centers = {}, {}, {}, {}
    categories: dict[int, str] = {}
    for survey in surveys:
        if survey.name not in objects:
            continue
        of = objects[survey.name]
        categories = {**survey.categories, **categories}
        counts[survey.name] = {int(id): int(number) for id, number in per_category(survey)["objects"].items()}
        seen = box_sides(of, input_sizes(survey.images, facts)).clip(lower=0)
        sides[survey.name] = np.sqrt(seen["height"] * seen["width"]).to_numpy(np.float64)
        own = box_sides(of, input_sizes(survey.images, None))
        aspect_ratios[survey.name] = ratios(own["width"], own["height"])
        middle = [(of["xmin"] + of["xmax"]) / 2, (of["ymin"] + of["ymax"]) / 2]
        centers[survey.name] = np.stack([one.to_numpy(np.float64) for one in middle], axis=1)
    where = "at the input size, " if facts is not None else ""
    draw = survey_plots.histograms
    marks = (SMALL_SIDE, LARGE_SIDE)
    return {
        "objects_per_category": survey_plots.objects_per_category(counts, categories),
        "box_sides": draw(sides, f"Side of box (√area) {where}pixels", "objects", log=True, marks=marks),
        "box_aspect_ratios": draw(aspect_ratios, "Width / height of box", "objects", log=True, marks=(1,)),
        "box_positions": survey_plots.positions(centers),
        "image_sizes": survey_plots.image_sizes(
            {name: of[["width", "height"]].to_numpy() for name, of in images.items()}
        ),
        **{
            name: draw(_column(images, name), f"{words} of image, 0 to 1", "images", limits=(0, limit))
            for name, words, limit in (("brightness", "Brightness", 1), ("contrast", "Contrast", 0.5))
        },
    }


def _column(images: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {dataset: of[name].to_numpy(np.float64) for dataset, of in images.items()}


def _write(log_dir: str, report: CheckReport, surveys: Sequence[Survey], facts: ConfigFacts | None) -> None:
    """Writes the run `check`, in place of what another process has written there."""
    from od_eval.tensorboard import tags, writers

    run_dir = os.path.join(log_dir, tags.CHECK)
    with files.errors_as_sentences(f"log_dir '{log_dir}' cannot be written"):
        writers.take_back(run_dir, 0, lambda tag: True)
        writers.write_markdown(run_dir, tags.FINDINGS, report.findings_markdown())
        if surveys:
            writers.write_markdown(run_dir, tags.STATISTICS, report.statistics_markdown())
            figures = survey_figures(surveys, facts)
            writers.write_pictures(run_dir, 0, {tags.survey(name): figure for name, figure in figures.items()})
