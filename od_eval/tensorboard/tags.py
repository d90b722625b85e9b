"""The tags this package writes to TensorBoard, and the runs it writes them to.

The tags of losses are in `od_eval.losses`, those of metrics in the modules of `od_eval.evaluation.sections`.
"""

from __future__ import annotations

from od_eval.evaluation.section import all_sections

# Runs: folders under a log_dir or model_dir.
TRAIN = "train"
EVAL = "eval"
EVAL_TRAIN = "eval_train"  # evaluation on training images
CHECK = "check"  # of config and data, before training

# Scalars. `learning_rate` and `steps_per_sec` are the Object Detection API's tags.
LEARNING_RATE = "learning_rate"
GRADIENT_NORM = "gradient_norm"
STEPS_PER_SEC = "steps_per_sec"
IMAGES_PER_SEC = "images_per_sec"
INPUT_WAIT = "input_wait"  # the part of the time that training waits for its input
EPOCH = "Epoch"  # passes over the training images

# Texts.
SUMMARY = "summary"
PIPELINE_CONFIG = "pipeline_config"
LABEL_MAP = "label_map"
FINDINGS = "findings"
STATISTICS = "statistics"  # of the data

# The page "Detections": its plugin, and the summary by which TensorBoard knows that a run has evaluations for it.
PLUGIN = "od_eval"
EVALUATION = "evaluation"

_PICTURE = "detections/"
_ERROR = "errors/"
_SEGMENTATION = "segmentation/"
_WORST_SEGMENTATION = "segmentation_worst/"
SEGMENTATION_CONFUSION = "plots/segmentation_confusion"
_COUNTS = {"bbox": "counts", "segm": "counts of masks"}
_PLOT = {"bbox": "plots/", "segm": "plots of masks/"}
_SURVEY = "data/"
# Not with the prefixes of metrics, or histograms would come first in TensorBoard.
_DISTRIBUTION = {"bbox": "Distributions/", "segm": "Distributions of masks/"}


def of_detections() -> tuple[str, ...]:
    """How the tags of metrics and pictures of detections, or of segmentation, and of what is found in them, begin."""
    return (
        *(prefix for section in all_sections().values() for prefix in section.tag_prefixes),
        *(
            _PICTURE,
            _ERROR,
            _SEGMENTATION,
            _WORST_SEGMENTATION,
            *_PLOT.values(),
            *_DISTRIBUTION.values(),
            *_COUNTS.values(),
            FINDINGS,
            EVALUATION,
        ),
    )


def picture(index: int) -> str:
    """The tag of the picture of detections and ground truth for the image with this index, from 0.

    Not the Object Detection API's, of which each is a section of its own in TensorBoard.
    """
    return f"{_PICTURE}{index}"


def error(kind: str, index: int) -> str:
    """The tag of the picture of an example of a kind of error, from 0."""
    return f"{_ERROR}{kind}/{index}"


def segmentation(index: int) -> str:
    """The tag of the picture of the segmentation of the image with this index, from 0."""
    return f"{_SEGMENTATION}{index}"


def worst_segmentation(index: int) -> str:
    """The tag of the picture of one of the images with the most wrong pixels, from 0."""
    return f"{_WORST_SEGMENTATION}{index}"


def distribution(name: str, iou_type: str) -> str:
    """The tag of a histogram of an analysis of boxes or of masks."""
    return _DISTRIBUTION[iou_type] + name


def counts(iou_type: str) -> str:
    """The tag of the text with the counts at the operating point, of boxes or of masks."""
    return _COUNTS[iou_type]


def plot(name: str, iou_type: str) -> str:
    """The tag of a plot of an analysis of boxes or of masks."""
    return _PLOT[iou_type] + name


def survey(name: str) -> str:
    """The tag of a plot of what datasets are like."""
    return _SURVEY + name
