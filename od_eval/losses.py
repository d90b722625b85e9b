"""Maps the loss names of a model to five common categories.

    categorize({"Loss/RPNLoss/objectness_loss": 0.5, "Loss/BoxClassifierLoss/classification_loss": 0.25, …})
    # {"total_loss": …, "classification_loss": 0.75, "localization_loss": …, "regularization_loss": …}

A *native* name is the model's own name for a part of its loss: the key returned by `DetectionModel.loss` of the Object
Detection API (all of these begin with `Loss/`), or the key a Keras model puts into its logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from od_eval.text import utf8

TOTAL = "total_loss"
CLASSIFICATION = "classification_loss"
LOCALIZATION = "localization_loss"
REGULARIZATION = "regularization_loss"
OTHER = "other_loss"
CATEGORIES = (TOTAL, CLASSIFICATION, LOCALIZATION, REGULARIZATION, OTHER)

NATIVE_PREFIX = "Loss/"

# Names that are not listed are OTHER. CenterNet's keypoint losses, for example, contain the name that the config gives
# the task (`Loss/<task>/keypoint/heatmap`, …/offset, …/regression, …/depth).
CATEGORY_OF_NATIVE = {
    # All meta-architectures; added by the training loop, not by `DetectionModel.loss`.
    "Loss/total_loss": TOTAL,
    "Loss/regularization_loss": REGULARIZATION,
    # SSD, RetinaNet, EfficientDet (ssd_meta_arch.py)
    "Loss/classification_loss": CLASSIFICATION,
    "Loss/localization_loss": LOCALIZATION,
    # Faster R-CNN, Mask R-CNN, Context R-CNN (faster_rcnn_meta_arch.py)
    "Loss/RPNLoss/objectness_loss": CLASSIFICATION,
    "Loss/RPNLoss/localization_loss": LOCALIZATION,
    "Loss/BoxClassifierLoss/classification_loss": CLASSIFICATION,
    "Loss/BoxClassifierLoss/localization_loss": LOCALIZATION,
    "Loss/BoxClassifierLoss/mask_loss": OTHER,
    # CenterNet and DeepMAC (center_net_meta_arch.py)
    "Loss/object_center": CLASSIFICATION,
    "Loss/box/scale": LOCALIZATION,
    "Loss/box/offset": LOCALIZATION,
    "Loss/segmentation/heatmap": OTHER,
    "Loss/densepose/heatmap": OTHER,
    "Loss/densepose/regression": OTHER,
    "Loss/track/reid": OTHER,
    "Loss/track/offset": OTHER,
    # DeepMAC (deepmac_meta_arch.py)
    "Loss/deep_mask_estimation": OTHER,
    "Loss/deep_mask_box_consistency": OTHER,
    "Loss/deep_mask_color_consistency": OTHER,
    "Loss/deep_mask_pointly_supervised": OTHER,
    "Loss/deep_mask_augmented_self_supervision": OTHER,
}

# Names used by Keras models (tf.keras's own `loss`, KerasCV, KerasHub, tf-models-official, the usual examples).
CATEGORY_OF_KERAS = {
    "loss": TOTAL,
    "class_loss": CLASSIFICATION,
    "cls_loss": CLASSIFICATION,
    "cls_logits_loss": CLASSIFICATION,
    "objectness_loss": CLASSIFICATION,
    "conf_loss": CLASSIFICATION,
    "rpn_score_loss": CLASSIFICATION,
    "frcnn_cls_loss": CLASSIFICATION,
    "box_loss": LOCALIZATION,
    "rpn_box_loss": LOCALIZATION,
    "frcnn_box_loss": LOCALIZATION,
    "bbox_loss": LOCALIZATION,
    "bbox_regression_loss": LOCALIZATION,
}

# Parts of a loss of semantic segmentation (`od_eval.segmentation_losses`) are in the total, and in no other category.
PARTS_OF_TOTAL = ("cross_entropy_loss", "focal_loss", "dice_loss")
_NO_CATEGORY = ""

_CATEGORY_OF = {
    **{name: name for name in CATEGORIES},
    **CATEGORY_OF_NATIVE,
    **CATEGORY_OF_KERAS,
    **{prefix + name: _NO_CATEGORY for name in PARTS_OF_TOTAL for prefix in ("", NATIVE_PREFIX)},
}

T = TypeVar("T")


def check_mapping(mapping: Mapping[str, str]) -> None:
    """Raises ValueError if a native name is mapped to an unknown category."""
    for name, category in mapping.items():
        if category not in CATEGORIES:
            raise ValueError(
                f"'{category}', given for the loss '{name}', is not a category of losses; it must be one of"
                f" {', '.join(CATEGORIES)}."
            )


def tag(name: str) -> str:
    """TensorBoard's tag of a loss: a category (`total_loss`) or a part by its native name (`Loss/object_center`)."""
    return utf8(name if name.startswith(NATIVE_PREFIX) else NATIVE_PREFIX + name)


def is_loss(name: str, mapping: Mapping[str, str] | None = None) -> bool:
    """Whether an entry of Keras's `logs` is a loss, judged by its name; names in the user's mapping always are."""
    return name.startswith(NATIVE_PREFIX) or name == "loss" or name.endswith("_loss") or name in (mapping or {})


def how_to_read(formulas: Mapping[str, str]) -> str:
    """A sentence that says what losses are and what they compare with.

    Args:
      formulas: native name -> formula, of a model whose formulas are known.
    """
    compare = "compare only within one architecture and input size"
    if not formulas:
        return f"losses {compare}"
    listed = ", ".join(f"{name.removeprefix(NATIVE_PREFIX)} = {formula}" for name, formula in formulas.items())
    return f"losses: {listed}; they {compare}"


def with_categories(losses: Mapping[str, T], mapping: Mapping[str, str] | None = None) -> dict[str, T]:
    """The parts of a loss and its categories (see `categorize`); Keras's `loss` is `total_loss`."""
    parts = {name: loss for name, loss in losses.items() if name != "loss"}
    return {**parts, **categorize(losses, mapping)}


def categorize(losses: Mapping[str, T], mapping: Mapping[str, str] | None = None) -> dict[str, T]:
    """Sums the parts of a model's loss into total, classification, localization, regularization and other loss.

    Values are only added, so they may be floats, arrays or tensors, inside or outside a graph.

    * The total is the given one (`Loss/total_loss`, Keras's `loss`); if there is none, the sum of all parts.
    * A part that is in no category counts as `other_loss`; those of semantic segmentation (`PARTS_OF_TOTAL`) count in
      the total alone.
    * A value with the name of a category is that category; its parts, which may also be given, are not added to it. So
      categorizing categorized losses changes nothing.
    * A model of the Object Detection API reports all its parts: classification, localization and regularization loss
      are 0.0 if it has none, and `other_loss` is left out. For other models, about which nothing is known, every
      missing category is left out.

    Args:
      losses: native name -> value.
      mapping: native name -> category, for names that this module does not know, or that you want in another category.

    Returns:
      Category -> value, in the order of `CATEGORIES`.

    Raises:
      ValueError: `mapping` names an unknown category.
    """
    mapping = mapping or {}
    check_mapping(mapping)
    category_of = {**_CATEGORY_OF, **mapping}
    given = {name for name in CATEGORIES if name in losses and category_of[name] == name}

    sums: dict[str, Any] = {}
    for name, loss in losses.items():
        category = category_of.get(name, OTHER)
        if category != TOTAL and (name in given or category not in given):
            sums[category] = sums[category] + loss if category in sums else loss
    of_total_alone = sums.pop(_NO_CATEGORY, None)
    if any(name.startswith(NATIVE_PREFIX) and category_of.get(name) not in (TOTAL, _NO_CATEGORY) for name in losses):
        for category in (CLASSIFICATION, LOCALIZATION, REGULARIZATION):
            sums.setdefault(category, 0.0)

    # All names of the total mean the same value, and are not added up: the user's first, then in the order above.
    totals = [losses[name] for name in (*mapping, *_CATEGORY_OF) if name in losses and category_of[name] == TOTAL]
    if totals:
        sums[TOTAL] = totals[0]
    elif sums or of_total_alone is not None:
        parts = [sums[category] for category in CATEGORIES if category in sums]
        parts += [] if of_total_alone is None else [of_total_alone]
        sums[TOTAL] = sum(parts[1:], start=parts[0])
    return {category: sums[category] for category in CATEGORIES if category in sums}
