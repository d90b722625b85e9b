"""Under-fitting: the model does not even learn the training images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.trends import ap_name, finite, from_share, share_done, trend

# Low on images that the model was trained on: the smallest models of the zoo have 0.2 to 0.3 on new images of COCO,
# with its 80 categories, and more on those they know.
_LOW_AP = 0.3
# Without AP of training images it is not known that they are learned badly; AP this low of new images is, though.
_LOW_EVAL_AP = 0.2
# Nothing is learned at all then, which has other causes (`flat`).
_ZERO_AP = 0.005
# Before so much of the training, a loss that is level for a while is no result.
_SHARE_DONE = 2 / 3
# The part of the loss that must be level, and by how much it may still fall there.
_LAST_PART = 2 / 3
_STILL_FALLS = 0.03
# A loss that has not fallen by this much at all is another matter (`flat`).
_HAS_FALLEN = 0.05


@dataclasses.dataclass(frozen=True)
class Zoo:
    """A model of the TF2 model zoo: the name and feature extractor of its config, its input, and its AP on COCO."""

    name: str
    architecture: str
    pixels: int
    ap: float


# By family and AP, from the zoo's table (tf2_detection_zoo.md); without those that are larger and no better.
ZOO_FAMILIES = (
    (
        Zoo("ssd_mobilenet_v2_320x320", "ssd_mobilenet_v2_keras", 300, 20.2),
        Zoo("ssd_mobilenet_v2_fpnlite_320x320", "ssd_mobilenet_v2_fpn_keras", 320, 22.2),
        Zoo("ssd_mobilenet_v2_fpnlite_640x640", "ssd_mobilenet_v2_fpn_keras", 640, 28.2),
        Zoo("ssd_mobilenet_v1_fpn_640x640", "ssd_mobilenet_v1_fpn_keras", 640, 29.1),
        Zoo("ssd_resnet50_v1_fpn_640x640", "ssd_resnet50_v1_fpn_keras", 640, 34.3),
        Zoo("ssd_resnet101_v1_fpn_640x640", "ssd_resnet101_v1_fpn_keras", 640, 35.6),
        Zoo("ssd_resnet50_v1_fpn_1024x1024", "ssd_resnet50_v1_fpn_keras", 1024, 38.3),
        Zoo("ssd_resnet101_v1_fpn_1024x1024", "ssd_resnet101_v1_fpn_keras", 1024, 39.5),
        Zoo("ssd_resnet152_v1_fpn_1024x1024", "ssd_resnet152_v1_fpn_keras", 1024, 39.6),
    ),
    (
        Zoo("efficientdet_d0", "ssd_efficientnet-b0_bifpn_keras", 512, 33.6),
        Zoo("efficientdet_d1", "ssd_efficientnet-b1_bifpn_keras", 640, 38.4),
        Zoo("efficientdet_d2", "ssd_efficientnet-b2_bifpn_keras", 768, 41.8),
        Zoo("efficientdet_d3", "ssd_efficientnet-b3_bifpn_keras", 896, 45.4),
        Zoo("efficientdet_d4", "ssd_efficientnet-b4_bifpn_keras", 1024, 48.5),
        Zoo("efficientdet_d5", "ssd_efficientnet-b5_bifpn_keras", 1280, 49.7),
        Zoo("efficientdet_d6", "ssd_efficientnet-b6_bifpn_keras", 1408, 50.5),
        Zoo("efficientdet_d7", "ssd_efficientnet-b6_bifpn_keras", 1536, 51.2),
    ),
    (
        Zoo("faster_rcnn_resnet50_v1_640x640", "faster_rcnn_resnet50_keras", 640, 29.3),
        Zoo("faster_rcnn_resnet101_v1_640x640", "faster_rcnn_resnet101_keras", 640, 31.8),
        Zoo("faster_rcnn_resnet152_v1_640x640", "faster_rcnn_resnet152_keras", 640, 32.4),
        Zoo("faster_rcnn_resnet101_v1_1024x1024", "faster_rcnn_resnet101_keras", 1024, 37.1),
        Zoo("faster_rcnn_resnet152_v1_1024x1024", "faster_rcnn_resnet152_keras", 1024, 37.6),
        Zoo("faster_rcnn_inception_resnet_v2_640x640", "faster_rcnn_inception_resnet_v2_keras", 640, 37.7),
        Zoo("faster_rcnn_inception_resnet_v2_1024x1024", "faster_rcnn_inception_resnet_v2_keras", 1024, 38.7),
    ),
    (
        Zoo("centernet_mobilenetv2fpn_512x512", "center_net mobilenet_v2_fpn", 512, 23.4),
        Zoo("centernet_resnet50_v2_512x512", "center_net resnet_v2_50", 512, 29.5),
        Zoo("centernet_resnet50_v1_fpn_512x512", "center_net resnet_v1_50_fpn", 512, 31.2),
        Zoo("centernet_resnet101_v1_fpn_512x512", "center_net resnet_v1_101_fpn", 512, 34.2),
        Zoo("centernet_hg104_512x512", "center_net hourglass_104", 512, 41.9),
        Zoo("centernet_hg104_1024x1024", "center_net hourglass_104", 1024, 44.5),
    ),
)


def next_larger(facts: ConfigFacts) -> Zoo | None:
    """The next better model of the zoo's family of a config: of another feature extractor, or a larger input.

    None if its feature extractor is not in the zoo, or if it is the best of its family.
    """
    pixels = max(facts.input_height or 0, facts.input_width or 0)
    architecture = facts.architecture.removesuffix("_sep_conv")  # a variant of CenterNet's MobileNet
    for family in ZOO_FAMILIES:
        own = [at for at, model in enumerate(family) if model.architecture == architecture]
        if own:
            nearest = min(own, key=lambda at: abs(family[at].pixels - pixels))
            return family[nearest + 1] if nearest + 1 < len(family) else None
    return None


@diagnosis
def underfitting(evidence: Evidence) -> Iterator[Finding]:
    """The losses are level, and AP is low also on the images that the model was trained on."""
    name = ap_name(evidence)
    of_eval, of_train = finite(evidence.metric(name)), finite(evidence.metric(name, of_training_images=True))
    if share_done(evidence) < _SHARE_DONE or not len(of_eval) or not _is_level(evidence):
        return
    if of_eval.values[-1] < _ZERO_AP:
        return
    if len(of_train):
        if max(of_train.values[-1], of_eval.values[-1]) >= _LOW_AP:
            return
    elif of_eval.values[-1] >= _LOW_EVAL_AP:
        return
    last = trend(from_share(of_eval, 1 - _LAST_PART))
    if last is not None and last.rises:
        return  # it learns
    loss = finite(evidence.curve("Loss/total_loss"))
    on_train = (
        f"{of_train.values[-1]:.3f} on training images" if len(of_train) else "that of training images is not known"
    )
    step = int(loss.steps[-1])
    yield Finding(
        "underfitting",
        "warning",
        "",
        f"the training loss is level at {loss.values[-1]:.3g} since step {int(from_share(loss, _LAST_PART).steps[0])},"
        f" and {name} is {of_eval.values[-1]:.3f} on evaluation images ({on_train})",
        _remedy(evidence),
        cause="which is under-fitting: the model does not learn even what it is shown",
        field="train_config.num_steps",
        evidence={
            "loss": float(loss.values[-1]),
            "eval_AP": float(of_eval.values[-1]),
            "train_AP": float(of_train.values[-1]) if len(of_train) else None,
            "step": step,
        },
        sureness="likely" if len(of_train) else "possible",
        settings=_settings(evidence.config),
        impact=_LOW_AP - float(of_eval.values[-1]),
    )


def _is_level(evidence: Evidence) -> bool:
    """Whether the training loss has fallen, and falls no more; nor does the loss of the evaluation images."""
    loss = finite(evidence.curve("Loss/total_loss"))
    whole, last = trend(loss), trend(from_share(loss, _LAST_PART))
    if whole is None or last is None or last.level <= 0:
        return False
    has_fallen = whole.falls or last.level < (1 - _HAS_FALLEN) * loss.values[0]
    still_falls = last.falls and -last.change > _STILL_FALLS * last.level
    rises = last.rises and last.change > _STILL_FALLS * last.level
    of_eval = trend(from_share(finite(evidence.metric("total_loss")), 1 - _LAST_PART))
    return has_fallen and not still_falls and not rises and not (of_eval is not None and of_eval.falls)


def _remedy(evidence: Evidence) -> str:
    facts = evidence.config
    if facts is None:
        return "train longer or with a higher learning rate, on larger input images, or with a larger model"
    larger = next_larger(facts)
    size = (
        f" than {facts.input_width} × {facts.input_height} pixels" if facts.input_width and facts.input_height else ""
    )
    model = f", such as --zoo={larger.name} ({larger.ap} AP on COCO)" if larger is not None else ""
    return (
        f"train longer than {facts.num_steps} steps or with a higher learning rate than {facts.learning_rate:g}, on"
        f" larger input images{size}, or with a larger model{model}; look at the labels, too, if that does not help"
    )


def _settings(facts: ConfigFacts | None) -> tuple[str, ...]:
    """Twice the steps, with a cosine decay that ends with them."""
    if facts is None or not facts.num_steps:
        return ()
    steps = 2 * facts.num_steps
    return facts.setting(num_steps=steps, **({"decay_steps": steps} if facts.schedule == "cosine decay" else {}))
