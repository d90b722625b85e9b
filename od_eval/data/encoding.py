"""The encoding of a dataset: class ids, masks, keypoints; decided once for all its records."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

from od_eval.data.annotations import Annotations, Remark
from od_eval.errors import ODEvalError
from od_eval.label_map import Category


@dataclasses.dataclass(frozen=True)
class Encoding:
    """The encoding of a dataset; all records of a dataset have the same features.

    Attributes:
      class_ids: name of a class -> its id in the label map.
      with_masks: whether records have masks.
      keypoint_labels: the names of the keypoints of each object in the records; empty if records have no keypoints.
      keep_emptied_images: whether an image is kept, as one without objects, whose objects all had to be left out.
      keypoint_indices: class name -> index in `keypoint_labels` of each of its annotated keypoints, or None for a
        keypoint that is not in the label map.
    """

    class_ids: Mapping[str, int]
    with_masks: bool = False
    keep_emptied_images: bool = False
    keypoint_labels: Sequence[str] = ()
    keypoint_indices: Mapping[str, Sequence[int | None]] = dataclasses.field(default_factory=dict)


def with_keypoints(categories: Sequence[Category], keypoint_names: Mapping[str, Sequence[str]]) -> list[Category]:
    """Adds keypoints to categories; their indices count from 0 over all categories.

    Args:
      categories: the classes.
      keypoint_names: class name -> names of its keypoints.
    """
    times = Counter(name for names in keypoint_names.values() for name in names)
    index = itertools.count()
    return [
        dataclasses.replace(
            category,
            # The Object Detection API requires unique keypoint labels in a label map.
            keypoints={
                name if times[name] == 1 else f"{category.name} {name}": next(index)
                for name in keypoint_names.get(category.name, ())
            },
        )
        for category in categories
    ]


def plan_encoding(
    annotations: Annotations,
    categories: Sequence[Category],
    label_map: str,
    include_masks: bool,
    keep_emptied_images: bool,
) -> tuple[Encoding, list[Remark]]:
    """Decides how the records of a dataset are encoded.

    Args:
      annotations: the dataset.
      categories: the classes of the label map.
      label_map: the path of the label map, for messages.
      include_masks: whether to write masks if there are any.
      keep_emptied_images: as in `Encoding`.

    Returns:
      The encoding, and a remark for each class with keypoints that are not in the label map.

    Raises:
      ODEvalError: the keypoint ids of the label map are not 0, 1, 2, ….
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
        keep_emptied_images,
        [labels[index] for index in sorted(labels)],
        indices,
    )
    return encoding, remarks
