"""What the readers of COCO, Pascal VOC and CSV make of right and wrong annotation files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from od_eval.data.annotations import Annotations
from od_eval.data.coco import read_coco
from od_eval.data.csv_boxes import read_csv
from od_eval.data.images import ImageFolder
from od_eval.data.voc import read_voc
from od_eval.errors import ODEvalError
from od_eval.odapi.label_map import Category


@pytest.fixture
def images(tmp_path) -> ImageFolder:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        (folder / name).touch()
    return ImageFolder(folder)


def reasons(annotations: Annotations) -> list[tuple[str, str]]:
    return [(remark.reason, remark.left_out) for remark in annotations.remarks]


# ---- COCO -----------------------------------------------------------------------------------------------------------


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
    assert (plain.area, plain.crowd, plain.segmentation, plain.keypoints) == (None, False, None, [])
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
        ("[1]", "holds a list"),
        ('{"images": [], "categories": []}', "no list 'annotations'"),
        (b"\xff\xfe\x00", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "category .* no name"),
        ('{"images": [], "annotations": [], "categories": [{"id": "x", "name": "a"}]}', "no whole-number id"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "\\ud800"}]}', "no valid Unicode"),
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


# ---- Pascal VOC -----------------------------------------------------------------------------------------------------

OBJECT = """<object><name>{name}</name><pose>Left</pose><truncated>1</truncated><difficult>1</difficult>
<part><name>head</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>1</xmax><ymax>1</ymax></bndbox></part>
<bndbox><xmax>31</xmax><xmin> 1 </xmin><ymin>2.5</ymin><ymax>42</ymax></bndbox></object>"""


def voc(path: Path, filename: str = "", *names: str, size: str = "<width>64</width><height>48</height>") -> Path:
    path.parent.mkdir(exist_ok=True)
    objects = "".join(OBJECT.format(name=name) for name in names)
    path.write_text(
        f"<annotation><folder>x</folder><filename>{filename}</filename><path>C:\\x\\9.jpg</path>"
        f"<size>{size}</size>{objects}</annotation>"
    )
    return path


def test_voc_objects_are_read_without_their_parts(tmp_path, images) -> None:
    voc(tmp_path / "xml" / "1.xml", "1.jpg", "dog", " cat\n")
    voc(tmp_path / "xml" / "2.xml", "2.jpg", size="<width>0</width>")
    annotations = read_voc(tmp_path / "xml", images)
    assert annotations.categories == [Category(1, "cat"), Category(2, "dog")]
    first, second = annotations.images
    assert (first.filename, first.source_id, first.size) == ("1.jpg", "1.jpg", (64, 48))
    assert (second.filename, second.size, second.objects) == ("2.jpg", None, [])
    dog, cat = first.objects
    assert (dog.class_name, dog.box, dog.difficult, dog.truncated, dog.pose) == (
        "dog",
        (1, 2.5, 31, 42),
        True,
        True,
        "Left",
    )
    assert cat.class_name == "cat"


@pytest.mark.parametrize(
    ("xml", "filename", "found"),
    [
        ("1.xml", "1.jpg", "1.jpg"),
        ("1.xml", "1", "1.jpg"),
        ("1.xml", "", "1.jpg"),
        ("1.xml", "IMG_0815.JPG", "1.jpg"),
        ("1.xml", "2.jpg", "1.jpg"),  # a template that was copied: the name of the XML counts
        ("cat.xml", "2.JPG", "2.jpg"),
    ],
)
def test_voc_images_are_found_by_the_xml_name_then_by_what_it_says(tmp_path, images, xml, filename, found) -> None:
    voc(tmp_path / "xml" / xml, filename)
    assert [image.filename for image in read_voc(tmp_path / "xml", images).images] == [found]


def test_one_bad_xml_does_not_end_the_reading(tmp_path, images) -> None:
    voc(tmp_path / "xml" / "1.xml", "1.jpg", "cat")
    voc(tmp_path / "xml" / "missing.xml", "missing.jpg", "cat")
    (tmp_path / "xml" / "2.xml").write_text("<annotation><object>")
    (tmp_path / "xml" / "3.xml").write_text("<html/>")
    (tmp_path / "xml" / "4.xml").write_bytes(b"<?xml version='1.0' encoding='nonsense'?><annotation/>")
    (tmp_path / "xml" / "5.xml").write_bytes(b"")
    annotations = read_voc(tmp_path / "xml", images)
    assert len(annotations.images) == 1
    assert reasons(annotations) == [*[("XML unreadable", "image")] * 4, ("image file missing", "image")]


def test_an_xml_object_with_holes_is_left_to_the_encoder_to_list(tmp_path, images) -> None:
    path = voc(tmp_path / "xml" / "1.xml", "1.jpg")
    path.write_text("<annotation><object><name>cat</name></object></annotation>")
    (one,) = read_voc(tmp_path / "xml", images).images[0].objects
    assert one.box[0] != one.box[0]  # NaN


def test_a_voc_root_is_read_from_its_annotations(tmp_path, images) -> None:
    voc(tmp_path / "Annotations" / "1.xml", "1.jpg", "cat")
    (tmp_path / "other.xml").write_text("<x/>")
    assert len(read_voc(tmp_path, images).images) == 1


def test_a_folder_without_xml_is_said_so(tmp_path, images) -> None:
    with pytest.raises(ODEvalError, match="no XML file"):
        read_voc(tmp_path, images)


# ---- CSV ------------------------------------------------------------------------------------------------------------


def test_csv_rows_of_a_file_are_one_image(tmp_path, images) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "\ufeffclass, filename,xmin,ymin,xmax,ymax,width,height,source\r\n"
        "dog,1.jpg,1,2,3,4,64,48,x\r\n"
        'cat,2.jpg,1,2,3,4,64,48,"a\nb"\r\n'
        "\r\n"
        '"a, b",1.jpg,1.5,2,3,4,64,48,x\r\n'
        ",3.jpg,,,,,64,48,\r\n",
        encoding="utf-8",
    )
    annotations = read_csv(path, images)
    assert [(image.filename, len(image.objects)) for image in annotations.images] == [
        ("1.jpg", 2),
        ("2.jpg", 1),
        ("3.jpg", 0),
    ]
    assert [one.name for one in annotations.categories] == ["a, b", "cat", "dog"]
    assert annotations.images[0].objects[1].box == (1.5, 2, 3, 4)
    assert annotations.images[0].objects[1].where == f"{path}: line 6"
    assert annotations.images[0].size == (64, 48)
    assert annotations.remarks == []


def test_what_is_wrong_in_a_csv_row_is_listed_with_its_line(tmp_path, images) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "filename,width,height,class,xmin,ymin,xmax,ymax\n"
        "1.jpg,64,48,cat,1,2,3,4\n"
        "1.jpg,64,48,cat\n"
        "1.jpg,48,64,cat,1,2,3,4\n"
        "9.jpg,64,48,dog,1,2,3,4\n"
        "9.jpg,64,48,dog,1,2,3,4\n"
        ",64,48,dog,1,2,3,4\n"
    )
    annotations = read_csv(path, images)
    assert [(remark.reason, remark.where) for remark in annotations.remarks] == [
        ("row incomplete", f"{path}: line 3"),
        ("row with another width and height", f"{path}: line 4"),
        ("image file missing", f"{path}: line 5"),
        ("row incomplete", f"{path}: line 7"),
    ]
    assert len(annotations.images[0].objects) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: no column filename"),
        (b"filename,label,xmin,ymin,xmax,ymax\n", "line 1: no column class; found"),
        (b"filename;class;xmin;ymin;xmax;ymax\n", "no column filename"),
        (b"filename,class,xmin,ymin,xmax,ymax\n1.jpg,caf\xe9,1,2,3,4\n", "is not CSV in UTF-8"),
        (b"filename,class,xmin,ymin,xmax,ymax\n" + b"x" * 200_000, "after line 1, is not CSV"),
    ],
)
def test_a_broken_csv_file_is_named(tmp_path, images, content, message) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(ODEvalError, match=message) as error:
        read_csv(path, images)
    assert str(path) in str(error.value)
