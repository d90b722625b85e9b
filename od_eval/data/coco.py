"""Reads COCO's JSON: boxes, polygon and RLE masks, crowds, keypoints."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import Any

from od_eval import files
from od_eval.data.annotations import (
    AnnotatedImage,
    AnnotatedObject,
    Annotations,
    Category,
    Remark,
    number,
    size_or_none,
)
from od_eval.data.images import ImageFolder, ImageNotFound
from od_eval.errors import ODEvalError
from od_eval.text import short

# COCO numbers its 80 classes from 1 to 90. Ids up to 90 are kept, as in the Object Detection API's own converter, so
# that the classes of a subset of COCO keep their ids.
HIGHEST_SPARSE_ID = 90


def read_coco(path: files.Path, images: ImageFolder) -> Annotations:
    """Reads one COCO JSON file.

    The file's category ids are kept if they can be label map ids: at least 1, and either at most 90 or with few gaps
    (at most twice the number of categories). Otherwise the categories get ids from 1, in the order of their old ids.

    Args:
      path: the JSON file, on any file system.
      images: the folder of the image files.

    Returns:
      The annotations.

    Raises:
      ODEvalError: the file cannot be read, is not COCO JSON, or two categories have the same name or id.
    """
    path = os.fspath(path)
    content = _read_lists(path)
    remarks: list[Remark] = []
    names, categories, keypoint_names = _read_categories(path, content["categories"])
    changed_ids = [
        f"{name}: {category.id} instead of {old_id}"
        for (old_id, name), category in zip(names.items(), categories, strict=True)
        if old_id != category.id
    ]
    if changed_ids:
        remarks.append(Remark("category ids changed to count from 1", path, ", ".join(changed_ids)))

    by_id: dict[Any, AnnotatedImage] = {}
    known_ids = set()
    for entry in content["images"]:
        where = f"{path}: image {short(entry.get('id') if isinstance(entry, dict) else entry)}"
        if not isinstance(entry, dict) or not _is_id(entry.get("id")) or not isinstance(entry.get("file_name"), str):
            remarks.append(Remark("image without id or file_name", where, short(entry), "image"))
            continue
        if entry["id"] in known_ids:
            remarks.append(Remark("image id given twice", where, entry["file_name"], "image"))
            continue
        known_ids.add(entry["id"])
        try:
            filename = images.find(entry["file_name"])
        except ImageNotFound as error:
            remarks.append(Remark("image file missing", where, str(error), "image"))
            continue
        by_id[entry["id"]] = AnnotatedImage(
            images.path(filename),
            filename,
            entry["file_name"],
            str(entry["id"]),
            size_or_none(entry.get("width"), entry.get("height")),
            [],
            where,
        )
    for entry in content["annotations"]:
        if not isinstance(entry, dict):
            remarks.append(Remark("annotation unreadable", path, short(entry), "object"))
            continue
        where = f"{path}: annotation {short(entry.get('id'))}"
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        if not _is_id(image_id) or image_id not in known_ids:
            remarks.append(Remark("annotation of an image that is not listed", where, f"image {image_id}", "object"))
        elif not _is_id(category_id) or category_id not in names:
            remarks.append(Remark("unknown class", where, f"category {category_id}", "object"))
        elif image_id in by_id:  # otherwise the image was left out
            by_id[image_id].objects.append(_read_object(entry, names[category_id], where))
    return Annotations(list(by_id.values()), categories, keypoint_names, remarks)


def _read_lists(path: str) -> dict[str, list[Any]]:
    content = files.read_json(path, "annotation file")
    if not isinstance(content, dict):
        raise ODEvalError(f"annotation file '{path}' is not COCO JSON: it does not hold an object.")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise ODEvalError(f"annotation file '{path}' is not COCO ground truth: it has no list '{key}'.")
    return content


def _read_categories(path: str, entries: list[Any]) -> tuple[dict[Any, str], list[Category], dict[str, list[str]]]:
    """Reads the list of categories.

    Returns:
      Id in the file -> name; the categories with the ids to write, in the same order; class name -> names of its
      keypoints.
    """
    for entry in entries:
        named = isinstance(entry, dict) and isinstance(entry.get("name"), str) and entry["name"].strip()
        if not named or not isinstance(entry.get("id"), int) or isinstance(entry["id"], bool):
            raise ODEvalError(f"annotation file '{path}': category {short(entry)} has no whole-number id or no name.")
    for key in ("id", "name"):
        value, times = Counter(entry[key] for entry in entries).most_common(1)[0] if entries else (None, 0)
        if times > 1:
            raise ODEvalError(f"annotation file '{path}': {times} categories have the {key} '{value}'.")
    try:
        json.dumps(entries, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ODEvalError(f"annotation file '{path}': a category has a name that is not valid Unicode.") from error
    names = {entry["id"]: entry["name"] for entry in sorted(entries, key=lambda entry: entry["id"])}
    keep = names and min(names) >= 1 and max(names) <= max(HIGHEST_SPARSE_ID, 2 * len(names))
    categories = [
        Category(old_id if keep else new_id, name) for new_id, (old_id, name) in enumerate(names.items(), start=1)
    ]
    keypoint_names = {
        entry["name"]: [str(name) for name in entry["keypoints"]]
        for entry in entries
        if isinstance(entry.get("keypoints"), list) and entry["keypoints"]
    }
    return names, categories, keypoint_names


def _read_object(entry: dict[str, Any], class_name: str, where: str) -> AnnotatedObject:
    box = entry.get("bbox")
    left, top, width, height = map(number, box if isinstance(box, list) and len(box) == 4 else [None] * 4)
    keypoints = entry.get("keypoints")
    return AnnotatedObject(
        class_name,
        (left, top, left + width, top + height),
        where,
        area=number(entry["area"]) if entry.get("area") is not None else None,
        crowd=entry.get("iscrowd") in (1, True, "1"),
        segmentation=entry.get("segmentation") or None,
        keypoints=list(map(number, keypoints)) if isinstance(keypoints, list) else [],
    )


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str)
