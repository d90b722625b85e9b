"""Converts ground truth and detections of an evaluation to COCO JSON, for other tools; `coco_files` reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from od_eval.evaluation.columns import Columns, ImageId, Size


def groundtruth_json(images: Mapping[ImageId, Size], categories: Mapping[int, str], columns: Columns) -> dict[str, Any]:
    """Ground truth in COCO format, for `json.dump`.

    Images keep their own ids if all of these are ints. Otherwise they are numbered from 1 in the order of their ids
    (not in the order of arrival), so that pycocotools ranks them as an `Evaluator` does. Either way `file_name` is
    their own id. Difficult objects have `"difficult": 1`.

    Args:
      images: id -> height and width, in COCO's ranking order.
      categories: id -> name.
      columns: as returned by `columns.read_groundtruth`; `image` is the index in `images`.
    """
    annotations = []
    for index, common in enumerate(_annotations(images, categories, columns)):
        annotation = {"id": index + 1, **common, "area": columns["area"][index].item()}
        annotation["iscrowd"] = int(columns["crowd"][index])
        if columns["difficult"][index]:
            annotation["difficult"] = 1
        annotations.append(annotation)
    return {
        "images": [
            {"id": number, "file_name": str(id), "height": height, "width": width}
            for number, (id, (height, width)) in zip(_json_ids(images), images.items(), strict=True)
        ],
        "annotations": annotations,
        "categories": [{"id": id, "name": name} for id, name in categories.items()],
    }


def detections_json(
    images: Mapping[ImageId, Size], categories: Mapping[int, str], columns: Columns
) -> list[dict[str, Any]]:
    """Detections in COCO's results format, for `json.dump`, with image ids as in `groundtruth_json`.

    With masks, each detection has `bbox` and `segmentation`. pycocotools then uses the box area for masks, too; leave
    out `bbox` to get the mask metrics of an `Evaluator`.

    Args:
      images, categories: as for `groundtruth_json`.
      columns: as returned by `columns.read_detections`; `image` is the index in `images`.
    """
    annotations = _annotations(images, categories, columns)
    return [
        {**annotation, "score": score} for annotation, score in zip(annotations, columns["score"].tolist(), strict=True)
    ]


def _json_ids(images: Mapping[ImageId, Size]) -> Sequence[int]:
    ids = [id for id in images if isinstance(id, int)]
    return ids if len(ids) == len(images) else range(1, len(images) + 1)


def _annotations(
    images: Mapping[ImageId, Size], categories: Mapping[int, str], columns: Columns
) -> Iterator[dict[str, Any]]:
    """The fields that annotations and detections share."""
    image_ids, category_ids, sizes = _json_ids(images), list(categories), list(images.values())
    rows = zip(columns["image"], columns["category"], columns["box"].tolist(), strict=True)
    for index, (image, category, box) in enumerate(rows):
        annotation = {"image_id": image_ids[image], "category_id": category_ids[category], "bbox": box}
        if "mask" in columns:
            counts = columns["mask"][index].decode("ascii")
            annotation["segmentation"] = {"size": list(sizes[image]), "counts": counts}
        yield annotation
