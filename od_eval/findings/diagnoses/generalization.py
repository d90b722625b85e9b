"""AP of the evaluation images against AP of training images: a gap, or none where one is to be expected."""

from __future__ import annotations

from collections.abc import Iterator

from od_eval.evaluation.result import EvaluationResult
from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.trends import ap_name, differs

# Every model has more AP on images it was trained on. A gap is reported if it is wider than the differences between the
# neighbouring sizes of a model of the zoo (0.02 to 0.05 AP on COCO) several times over, and a quarter of AP and more.
_GAP = 0.15
_SHARE_LEFT = 0.75
# People who draw the boxes of the same objects again agree to IoU of 0.8 to 0.9 (Papadopoulos et al., Extreme clicking,
# 2017: 0.88), so that AP up to IoU 0.95 of new images hardly gets here without knowing them.
_NEAR_ONE = 0.95
# Decimals of AP that two different sets of images do not share by chance.
_SAME = 1e-6


@diagnosis
def generalization_gap(evidence: Evidence) -> Iterator[Finding]:
    """AP of the evaluation images is far below that of training images."""
    pair = _pair(evidence)
    if pair is None:
        return
    of_train, of_eval, train_ap, eval_ap, name = pair
    gap = train_ap - eval_ap
    limit = differs(of_train, of_eval) or 0.0
    if gap < _GAP or eval_ap > _SHARE_LEFT * train_ap or gap <= limit:
        return
    images = f"{of_eval.num_images} evaluation images"
    trained_on = f" than {evidence.num_train_images} images" if evidence.num_train_images else ""
    yield Finding(
        "generalization_gap",
        "warning",
        "",
        f"{name} is {eval_ap:.3f} on {images}, but {train_ap:.3f} on {of_train.num_images} training images (step"
        f" {of_eval.step})",
        f"train on more, and more varied, data{trained_on}, add to train_config.data_augmentation_options, and compare"
        " training and evaluation data with od-eval check",
        cause="so what was learned does not hold for new images: too little data, or data of another kind",
        field="train_config.data_augmentation_options",
        evidence={"train_AP": train_ap, "eval_AP": eval_ap, "gap": gap, "chance": limit, "step": of_eval.step},
        sureness="likely",
        impact=gap,
    )


@diagnosis
def same_images(evidence: Evidence) -> Iterator[Finding]:
    """Training and evaluation images give exactly the same numbers."""
    pair = _pair(evidence)
    if pair is None:
        return
    of_train, of_eval, train_ap, eval_ap, name = pair
    losses = of_train.losses.get("total_loss"), of_eval.losses.get("total_loss")
    same_loss = None in losses or abs(losses[0] - losses[1]) <= _SAME * abs(losses[0])
    if not 0 < eval_ap < 1 or abs(train_ap - eval_ap) > _SAME or not same_loss:
        return
    yield Finding(
        "same_images",
        "warning",
        "",
        f"{name} of the evaluation images and of the training images is the same to six decimals, {eval_ap:.6f} (step"
        f" {of_eval.step})",
        "evaluate images that are not in training: look at input_path of eval_input_reader, and let od-eval check"
        " compare the images",
        cause="so both are probably the same images, and the score says nothing of new ones",
        field="eval_input_reader.tf_record_input_reader.input_path",
        evidence={"train_AP": train_ap, "eval_AP": eval_ap, "step": of_eval.step},
        sureness="likely",
    )


@diagnosis
def suspiciously_good(evidence: Evidence) -> Iterator[Finding]:
    """AP of the evaluation images is near 1."""
    name = ap_name(evidence)
    newest = evidence.newest
    value = newest.log_values().get(name) if newest is not None else None
    if newest is None or value is None or value < _NEAR_ONE:
        return
    yield Finding(
        "suspiciously_good",
        "note",
        "",
        f"{name} is {value:.3f} on {newest.num_images} evaluation images (step {newest.step})",
        "let od-eval check look for images that training and evaluation have in common",
        cause="more than people reach who draw the boxes again, so the evaluation images may be among the training"
        " images, unless the data is made by a program",
        field="eval_input_reader.tf_record_input_reader.input_path",
        evidence={"AP": value, "num_images": newest.num_images, "step": newest.step},
        sureness="possible",
    )


def _pair(evidence: Evidence) -> tuple[EvaluationResult, EvaluationResult, float, float, str] | None:
    """The newest evaluations of the same step, of training and evaluation images, with their AP and its name."""
    name = ap_name(evidence)
    at = {result.step: result for result in evidence.train_evaluations if name in result.log_values()}
    both = [result for result in evidence.evaluations if result.step in at and name in result.log_values()]
    if not both:
        return None
    of_eval = both[-1]
    of_train = at[of_eval.step]
    return of_train, of_eval, of_train.log_values()[name], of_eval.log_values()[name], name
