"""What the reader of COCO's JSON makes of right and wrong files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from od_eval.data.annotations import Annotations
from od_eval.data.coco import read_coco
from od_eval.errors import ODEvalError
from od_eval.label_map import Category


def reasons(annotations: Annotations) -> list[tuple[str, str]]:
    return [(remark.reason, remark.left_out) for remark in annotations.remarks]


def coco(path: Path, images=(), annotations=(), categories=({"id": 1, "name": "cat"},)) -> Path:
    path.write_text(
        json.dumps({"images": list(images), "annotations": list(annotations), "categories": list(categories)})
    )
    return path


def test_coco_boxes_are_corners_in_pixels(tmp_path, images) -> None:
    path = coco(
        tmp_path / "a.json",
        [{"id": 7, "file_name": "1.jpg", "width": 64, "height": 48}],
        [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1.5, 2, 30, 40], "area": 900, "iscrowd": 1},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]},
        ],
    )
    annotations = read_coco(path, images)
    (image,) = annotations.images
    assert (image.filename, image.source_id, image.size) == ("1.jpg", "7", (64, 48))
    crowd, plain = image.objects
    assert (crowd.class_name, crowd.box, crowd.area, crowd.crowd) == ("cat", (1.5, 2, 31.5, 42), 900, True)
    assert (plain.area, plain.crowd, plain.segmentation, plain.keypoints) == (None, False, None, ())
    assert annotations.remarks == []


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        ([1, 2, 3], True),
        ([18, 90], True),  # a part of COCO
        (list(range(1, 366)), True),  # Objects365
        ([0, 1], False),  # Roboflow
        ([-1, 1], False),
        ([5, 1000], False),
    ],
)
def test_coco_ids_are_kept_where_they_can_be_label_map_ids(tmp_path, images, ids, kept) -> None:
    path = coco(tmp_path / "a.json", categories=[{"id": id, "name": f"class {id}"} for id in reversed(ids)])
    annotations = read_coco(path, images)
    wanted = ids if kept else range(1, len(ids) + 1)
    assert annotations.categories == [Category(new, f"class {old}") for old, new in zip(ids, wanted, strict=True)]
    assert reasons(annotations) == ([] if kept else [("category ids changed to count from 1", "")])


def test_what_is_wrong_in_a_coco_entry_is_listed_and_the_rest_read(tmp_path, images) -> None:
    good = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    path = coco(
        tmp_path / "a.json",
        [
            {"id": 1, "file_name": "1.jpg"},
            {"id": 1, "file_name": "2.jpg"},
            {"id": 2, "file_name": "missing.jpg"},
            {"file_name": "3.jpg"},
            {"id": 3},
            "nonsense",
        ],
        [
            good,
            "nonsense",
            good | {"image_id": 99},
            good | {"image_id": [1]},
            good | {"category_id": 9},
            good | {"image_id": 2},  # left out with its image
            good | {"bbox": [1, 2, 3]},
            good | {"bbox": ["a", None, True, {}]},
        ],
    )
    annotations = read_coco(path, images)
    assert reasons(annotations) == [
        ("image id given twice", "image"),
        ("image file missing", "image"),
        *[("image without id or file_name", "image")] * 3,
        ("annotation unreadable", "object"),
        *[("annotation of an image that is not listed", "object")] * 2,
        ("unknown class", "object"),
    ]
    boxes = [one.box for one in annotations.images[0].objects]
    assert boxes[0] == (1, 2, 4, 6)
    assert all(box != box for box in boxes[1:]) or len(boxes) == 3  # NaN, which the encoder lists


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [],\n "annotations": [,]}', "line 2, is not JSON"),
        ("[1]", "does not hold an object"),
        ('{"images": [], "categories": []}', "no list 'annotations'"),
        (b"\xff\xfe\x00", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "category .* no name"),
        ('{"images": [], "annotations": [], "categories": [{"id": "x", "name": "a"}]}', "no whole-number id"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "\\ud800"}]}', "not valid Unicode"),
    ],
)
def test_a_broken_coco_file_is_named(tmp_path, images, content, message) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ODEvalError, match=message) as error:
        read_coco(path, images)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(("first", "second"), [((1, "cat"), (1, "dog")), ((1, "cat"), (2, "cat"))])
def test_coco_categories_must_differ(tmp_path, images, first, second) -> None:
    path = coco(tmp_path / "a.json", categories=[{"id": id, "name": name} for id, name in (first, second)])
    with pytest.raises(ODEvalError, match="2 categories have the"):
        read_coco(path, images)
