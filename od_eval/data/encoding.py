"""How a dataset is encoded: ids of its classes, masks or none, which keypoints; decided once for all of its records."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

from od_eval.data.annotations import Annotations, Remark
from od_eval.errors import ODEvalError
from od_eval.odapi.label_map import Category


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How a whole dataset is encoded; every record of a dataset has the same features.

    Attributes:
      class_ids: name of a class -> its id in the label map.
      with_masks: whether records hold masks.
      keypoint_labels: the name of each keypoint of a record's objects; empty where records hold no keypoints.
      keypoint_indices: class name -> index in `keypoint_labels` of each keypoint that its annotations have, or None for
        one that the label map does not have.
    """

    class_ids: Mapping[str, int]
    with_masks: bool = False
    keypoint_labels: Sequence[str] = ()
    keypoint_indices: Mapping[str, Sequence[int | None]] = dataclasses.field(default_factory=dict)


def with_keypoints(categories: Sequence[Category], keypoint_names: Mapping[str, Sequence[str]]) -> list[Category]:
    """The categories with the keypoints of each, whose indices count from 0 through all of them.

    Args:
      categories: the classes.
      keypoint_names: class name -> names of its keypoints.
    """
    times = Counter(name for names in keypoint_names.values() for name in names)
    index = itertools.count()
    return [
        dataclasses.replace(
            category,
            # The Object Detection API wants each label once in a label map.
            keypoints={
                name if times[name] == 1 else f"{category.name} {name}": next(index)
                for name in keypoint_names.get(category.name, ())
            },
        )
        for category in categories
    ]


def plan_encoding(
    annotations: Annotations, categories: Sequence[Category], label_map: str, include_masks: bool
) -> tuple[Encoding, list[Remark]]:
    """Decides how the records of a dataset are encoded.

    Args:
      annotations: the dataset.
      categories: the classes of the label map.
      label_map: where it is, for messages.
      include_masks: whether masks are written where there are any.

    Returns:
      The encoding, and a remark for each class with keypoints that the label map does not have.

    Raises:
      ODEvalError: the label map does not count its keypoints from 0.
    """
    by_name = {name: category for category in categories for name in (category.name, category.display_name) if name}
    labels = {index: label for category in categories for label, index in category.keypoints.items()}
    if sorted(labels) != list(range(sum(len(category.keypoints) for category in categories))):
        raise ODEvalError(f"label map '{label_map}': the ids of the keypoints are not 0, 1, 2, ….")
    indices: dict[str, list[int | None]] = {}
    remarks = []
    for class_name, names in annotations.keypoint_names.items():
        if class_name not in by_name:
            continue
        known = by_name[class_name].keypoints
        indices[class_name] = [known.get(name, known.get(f"{class_name} {name}")) for name in names]
        unknown = [name for name, index in zip(names, indices[class_name], strict=True) if index is None]
        if unknown:
            detail = f"{class_name}: {', '.join(unknown)}"
            remarks.append(Remark("keypoint that the label map does not have", label_map, detail, "keypoints"))
    has_masks = any(annotated.segmentation for image in annotations.images for annotated in image.objects)
    encoding = Encoding(
        {name: category.id for name, category in by_name.items()},
        include_masks and has_masks,
        [labels[index] for index in sorted(labels)],
        indices,
    )
    return encoding, remarks
