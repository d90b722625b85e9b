"""Reads COCO's JSON: boxes, polygon and RLE masks, crowds, keypoints."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection
from typing import Any

from od_eval import files
from od_eval.coco_ids import Id, find_id, groups_only, read_id
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
from od_eval.data.json_lists import list_entries
from od_eval.errors import ODEvalError
from od_eval.text import as_json, named, short, utf8

# COCO numbers its 80 classes from 1 to 90. Ids up to 90 are kept, as in the Object Detection API's own converter, so
# that the classes of a subset of COCO keep their ids.
HIGHEST_SPARSE_ID = 90
LISTS = ("images", "annotations", "categories")


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
    listed = _ListedImages(path, images)
    category_entries = []
    used = set()
    for key, entry in list_entries(path, LISTS):
        if key == "images":
            listed.add(entry)
        elif key == "categories":
            category_entries.append(entry)
        elif isinstance(entry, dict):
            used.add(read_id(entry.get("category_id")))
    entries, groups = _without_groups(path, category_entries, used - {None})
    remarks = [Remark("category that only groups others is no class", path, name) for name in groups]
    names, categories, keypoint_names = _read_categories(path, entries)
    changed_ids = [
        f"{name}: {category.id} instead of {old_id}"
        for (old_id, name), category in zip(names.items(), categories, strict=True)
        if old_id != category.id
    ]
    if changed_ids:
        remarks.append(Remark("category ids changed to count from 1", path, ", ".join(changed_ids)))
    remarks += listed.remarks

    by_id, lost = listed.by_id, Counter[str]()
    # Read again, because only now it is known what the ids mean; so no annotation is kept as it stands in the file.
    for key, entry in list_entries(path, LISTS):
        if key != "annotations":
            continue
        if not isinstance(entry, dict):
            remarks.append(Remark("annotation unreadable", path, short(entry), "object"))
            continue
        where = f"{path}: annotation {short(entry.get('id'))}"
        image_id, category_id = find_id(entry.get("image_id"), listed.ids), find_id(entry.get("category_id"), names)
        if image_id is None:
            detail = f"image {as_json(entry.get('image_id'))}"
            remarks.append(Remark("annotation of an image that is not listed", where, detail, "object"))
        elif category_id is None:
            detail = f"category {as_json(entry.get('category_id'))}"
            remarks.append(Remark("unknown class", where, detail, "object"))
            if image_id in by_id:
                by_id[image_id].num_unreadable += 1
        elif image_id in by_id:
            by_id[image_id].objects.append(_read_object(entry, names[category_id], where))
        else:
            lost[names[category_id]] += 1
    return Annotations(list(by_id.values()), categories, keypoint_names, remarks, lost)


class _ListedImages:
    """The images of a file.

    Args:
      path: the file.
      folder: the folder of the image files.

    Attributes:
      ids: of all images.
      by_id: those whose files were found.
      remarks: about the others.
    """

    def __init__(self, path: str, folder: ImageFolder):
        self._path = path
        self._folder = folder
        self.ids: set[Id] = set()
        self.by_id: dict[Id, AnnotatedImage] = {}
        self.remarks: list[Remark] = []

    def add(self, entry: Any) -> None:
        """Adds an entry of the list of images."""
        where = f"{self._path}: image {short(entry.get('id') if isinstance(entry, dict) else entry)}"
        image_id = read_id(entry.get("id")) if isinstance(entry, dict) else None
        if image_id is None or not isinstance(entry.get("file_name"), str):
            self.remarks.append(Remark("image without id or file_name", where, as_json(entry), "image"))
            return
        if image_id in self.ids:
            self.remarks.append(Remark("image id given twice", where, entry["file_name"], "image"))
            return
        self.ids.add(image_id)
        try:
            filename = self._folder.find(entry["file_name"])
        except ImageNotFound as error:
            self.remarks.append(Remark(error.reason, where, str(error), "image"))
            return
        self.by_id[image_id] = AnnotatedImage(
            self._folder.path(filename),
            filename,
            entry["file_name"],
            utf8(str(image_id)),
            size_or_none(entry.get("width"), entry.get("height")),
            [],
            where,
        )


def _without_groups(path: str, entries: list[Any], used: Collection[Any]) -> tuple[list[Any], list[str]]:
    """The categories but those that only group others, and the names of these."""
    for entry in entries:
        named = isinstance(entry, dict) and isinstance(entry.get("name"), str) and entry["name"].strip()
        if not named or not isinstance(read_id(entry.get("id")), int):
            raise ODEvalError(f"annotation file '{path}': category {as_json(entry)} has no whole-number id or no name.")
    groups = groups_only(entries, used)
    return [entry | {"id": read_id(entry["id"])} for entry in entries if not any(entry is group for group in groups)], [
        group["name"] for group in groups
    ]


def _read_categories(path: str, entries: list[Any]) -> tuple[dict[Any, str], list[Category], dict[str, list[str]]]:
    """Reads the list of categories.

    Returns:
      Id in the file -> name; the categories with the ids to write, in the same order; class name -> names of its
      keypoints.
    """
    for key in ("id", "name"):
        value, times = Counter(entry[key] for entry in entries).most_common(1)[0] if entries else (None, 0)
        if times > 1:
            raise ODEvalError(f"annotation file '{path}': {times} categories have the {key} '{named(str(value))}'.")
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
        crowd=read_id(entry.get("iscrowd")) == 1 or entry.get("iscrowd") is True,
        segmentation=entry.get("segmentation") or None,
        keypoints=list(map(number, keypoints)) if isinstance(keypoints, list) else (),
    )
