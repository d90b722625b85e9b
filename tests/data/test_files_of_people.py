"""Annotations as other programs and people's computers leave them: what is read, and what is lost and said."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable

import numpy as np
import pytest

from od_eval.data.conversion import Conversion, convert_dataset
from od_eval.data.images import ImageFolder, ImageNotFound
from od_eval.errors import ODEvalError

from .helpers import polygon_annotation, reasons


def objects(conversion: Conversion) -> dict[str, int]:
    return conversion.splits["train"].objects


# ---- Ids of COCO ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("category_id", "annotated"), [(1, "1"), (1, 1.0), ("1", 1), (7, "7")])
@pytest.mark.parametrize("image_id", [1, 1.0, "1", "000000000001"])
def test_ids_that_mean_the_same_number_are_the_same(coco, category_id, annotated, image_id):
    annotation = polygon_annotation(category_id=annotated, image_id=image_id, iscrowd=0.0, segmentation=None)
    conversion = coco([annotation], categories=[{"id": category_id, "name": "cat"}])
    assert objects(conversion) == {"cat": 1}
    assert conversion.left_out == []


def test_an_image_of_another_spelling_is_another_image(tmp_path, write_image):
    for name in ("a.jpg", "b.jpg"):
        write_image(tmp_path / name)
    images = [{"id": "007", "file_name": "a.jpg"}, {"id": "7", "file_name": "b.jpg"}]
    annotations = [polygon_annotation(id=id, image_id=image) for id, image in enumerate(("007", "7", 7))]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    conversion = convert_dataset(tmp_path / "a.json", tmp_path / "out", validation=0.0)
    assert conversion.left_out == []
    assert objects(conversion) == {"cat": 3}


@pytest.mark.parametrize("category_id", [None, 1.5, True, [1], "cat", "9" * 5000, 2])
def test_a_conversion_that_loses_all_objects_is_an_error_that_shows_the_id_as_it_stands(coco, tmp_path, category_id):
    with pytest.raises(ODEvalError) as error:
        coco([polygon_annotation(id=id, category_id=category_id) for id in (1, 2)])
    assert "none of the 2 objects of" in str(error.value)
    assert f"unknown class (2 times), first in {tmp_path}/annotations.json: annotation 1" in str(error.value)
    assert f"category {json.dumps(category_id)}"[:50] in str(error.value)
    assert not (tmp_path / "out").exists()


def test_so_is_one_that_loses_all_objects_of_a_class(coco, tmp_path):
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "never annotated"}]
    annotations = [polygon_annotation(), polygon_annotation(id=2, category_id=2, bbox=[4, 8, 0, 0])]
    with pytest.raises(ODEvalError, match=r"none of the 1 objects of class 'dog' .* box without area .* label_map"):
        coco(annotations, categories=categories)
    label_map = tmp_path / "cats.pbtxt"
    label_map.write_text("item { id: 1 name: 'cat' }")
    assert objects(coco(annotations, categories=categories, label_map_path=label_map)) == {"cat": 1}


def test_a_class_whose_images_are_all_missing_is_lost_too(coco, tmp_path):
    annotations = [polygon_annotation(), polygon_annotation(id=2, image_id=2, category_id=2)]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    coco(annotations, num_images=2, categories=categories)
    content = json.loads((tmp_path / "annotations.json").read_text())
    content["images"][1]["file_name"] = "gone.jpg"
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(ODEvalError, match=r"none of the 1 objects of class 'dog' .* image file missing \(1 times\)"):
        convert_dataset(tmp_path / "annotations.json", tmp_path / "again", images_dir=tmp_path / "images")


# ---- Categories that only group others -----------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["traffic", "car"])
def test_a_category_that_only_groups_others_is_no_class(coco, root):
    categories = [
        {"id": 0, "name": root, "supercategory": "none"},
        {"id": 1, "name": "car", "supercategory": root},
        {"id": 2, "name": "bus", "supercategory": root},
    ]
    conversion = coco([polygon_annotation(), polygon_annotation(id=2, category_id=2)], categories=categories)
    assert [(one.id, one.name) for one in conversion.categories] == [(1, "car"), (2, "bus")]
    assert reasons(conversion) == {("category that only groups others is no class", ""): 1}


def test_a_class_without_annotations_that_groups_none_stays_one(coco):
    categories = [{"id": 1, "name": "person", "supercategory": "person"}, {"id": 2, "name": "cat"}]
    conversion = coco([polygon_annotation(category_id=2)], categories=categories)
    assert [(one.id, one.name) for one in conversion.categories] == [(1, "person"), (2, "cat")]


def test_two_classes_of_one_name_that_are_both_used_are_an_error(coco):
    categories = [{"id": 0, "name": "a", "supercategory": "none"}, {"id": 1, "name": "a", "supercategory": "a"}]
    with pytest.raises(ODEvalError, match="2 categories have the name 'a'"):
        coco([polygon_annotation(category_id=0), polygon_annotation(id=2)], categories=categories)


# ---- Image files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_disk", "annotated"),
    [
        (unicodedata.normalize("NFD", "Möhre é.jpg"), unicodedata.normalize("NFC", "Möhre é.jpg")),
        (unicodedata.normalize("NFC", "Möhre é.jpg"), unicodedata.normalize("NFD", "möhre É.jpg")),
        ("my photo.jpg", "my%20photo.jpg"),
        ("100%.jpg", "100%.jpg"),
        ("my%20photo.jpg", "my%20photo.jpg"),
        ("a.jfif", "a.jfif"),
        ("a.JPE", "a.jpe"),
        ("photo", "photo"),
        ("photos/photo", "C:\\data\\photo"),
    ],
)
def test_an_image_file_is_found_however_its_name_is_written(tmp_path, on_disk, annotated):
    path = tmp_path / on_disk
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert ImageFolder(tmp_path).find(annotated) == on_disk


def test_files_without_ending_are_not_counted_as_images(tmp_path):
    for name in ("LICENSE", "a.jpg"):
        (tmp_path / name).touch()
    assert len(ImageFolder(tmp_path)) == 1


@pytest.mark.parametrize("leftover", ["__MACOSX/._a.jpg", ".ipynb_checkpoints/a-checkpoint.jpg", ".hidden.jpg"])
def test_hidden_files_and_leftovers_are_no_images(tmp_path, leftover):
    for name in ("b.jpg", leftover):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    images = ImageFolder(tmp_path)
    assert len(images) == 1
    with pytest.raises(ImageNotFound):
        images.find(leftover)


def test_a_name_that_may_be_several_files_is_not_called_missing(tmp_path):
    for name in ("a/1.jpg", "b/1.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(ImageNotFound) as error:
        ImageFolder(tmp_path).find("1.jpg")
    assert error.value.reason == "image file ambiguous"


# ---- Pascal VOC ----------------------------------------------------------------------------------------------------


@pytest.fixture
def voc(tmp_path, write_image) -> Callable[..., Conversion]:
    def convert(*xmls: bytes | str, **options) -> Conversion:
        for number, xml in enumerate(xmls):
            write_image(tmp_path / "data" / f"{number}.jpg")
            content = xml if isinstance(xml, bytes) else xml.encode()
            (tmp_path / "data" / f"{number}.xml").write_bytes(content)
        return convert_dataset(tmp_path / "data", tmp_path / "out", validation=0.0, **options)

    return convert


def annotation(name: str = "cat", box: tuple[int, ...] = (4, 8, 24, 24)) -> str:
    edges = "".join(
        f"<{edge}>{value}</{edge}>" for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<annotation><object><name>{name}</name><bndbox>{edges}</bndbox></object></annotation>"


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        *(
            ("gb2312", "螺母"),
            ("GBK", "镕"),
            ("gb2312", "镕"),
            ("big5", "螺絲"),
            ("Shift_JIS", "ねじ"),
            ("EUC-KR", "나사"),
        ),
        *(("utf-16", "螺母"), ("windows-1251", "гайка"), ("utf-8", "螺母"), ("iso-8859-1", "Möhre")),
    ],
)
def test_xml_is_read_in_the_encoding_that_it_declares(voc, encoding, name):
    codec = "gbk" if encoding == "gb2312" else encoding
    xml = f"<?xml version='1.0' encoding='{encoding}'?>\n{annotation(name)}".encode(codec)
    assert objects(voc(xml)) == {name: 1}


def test_xml_of_an_unknown_encoding_or_with_other_bytes_is_listed(voc):
    unknown = f"<?xml version='1.0' encoding='klingon'?>{annotation()}"
    wrong = b"<?xml version='1.0' encoding='shift_jis'?>" + annotation("\xff").encode("latin-1")
    assert reasons(voc(annotation(), unknown, wrong)) == {("XML unreadable", "image"): 2}


def test_leftovers_of_macos_and_jupyter_are_no_annotations(voc, tmp_path):
    for name in ("__MACOSX/._0.xml", ".ipynb_checkpoints/0-checkpoint.xml"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        (tmp_path / "data" / name).write_text(annotation(box=(5, 8, 24, 24)))
    conversion = voc(annotation())
    assert objects(conversion) == {"cat": 1}
    assert conversion.remarks == []


# ---- Boxes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [(24, 24, 4, 8), (4, 24, 24, 8), (24, 8, 4, 24)])
def test_reversed_corners_are_put_in_order_and_listed(voc, tmp_path, read_records, decode, box):
    conversion = voc(annotation(box=box))
    assert reasons(conversion) == {("corners of the box put in order", ""): 1}
    (record,) = read_records(tmp_path / "out", "train")
    np.testing.assert_allclose(decode(record)["groundtruth_boxes"], [[8 / 48, 4 / 64, 24 / 48, 24 / 64]], rtol=1e-6)


def test_an_image_that_loses_all_its_objects_is_left_out_or_kept_as_one_is_told(voc, tmp_path):
    xmls = (annotation(), annotation(box=(4, 8, 4, 8)), "<annotation/>")
    conversion = voc(*xmls)
    assert (conversion.splits["train"].num_images, conversion.splits["train"].num_empty) == (2, 1)
    assert reasons(conversion) == {("box without area", "object"): 1, ("image lost all its objects", "image"): 1}
    conversion = voc(*xmls, keep_emptied_images=True, overwrite=True)
    assert (conversion.splits["train"].num_images, conversion.splits["train"].num_empty) == (3, 2)
    assert reasons(conversion) == {("box without area", "object"): 1}


def test_an_image_of_classes_that_are_left_out_on_purpose_is_one_without_objects(voc, tmp_path):
    (tmp_path / "cats.pbtxt").write_text("item { id: 1 name: 'cat' }")
    conversion = voc(annotation(), annotation("dog"), label_map_path=tmp_path / "cats.pbtxt")
    assert (conversion.splits["train"].num_images, conversion.splits["train"].num_empty) == (2, 1)


def test_an_image_whose_rows_cannot_be_read_is_left_out(tmp_path, write_image):
    for name in ("1.jpg", "2.jpg"):
        write_image(tmp_path / name)
    rows = ["filename,class,xmin,ymin,xmax,ymax", "1.jpg,cat,1,2,30,40", "2.jpg,cat,a,2,30,40"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    conversion = convert_dataset(tmp_path / "boxes.csv", tmp_path / "out", validation=0.0)
    assert conversion.splits["train"].num_images == 1
    assert reasons(conversion)[("image lost all its objects", "image")] == 1
