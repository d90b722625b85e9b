"""What the reader of Pascal VOC's XML makes of right and wrong files."""

from __future__ import annotations

from pathlib import Path

import pytest

from od_eval.data.annotations import Annotations
from od_eval.data.voc import read_voc
from od_eval.errors import ODEvalError
from od_eval.label_map import Category


def reasons(annotations: Annotations) -> list[tuple[str, str]]:
    return [(remark.reason, remark.left_out) for remark in annotations.remarks]


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
