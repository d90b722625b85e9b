"""What the reader of CSV files makes of right and wrong ones."""

from __future__ import annotations

import pytest

from od_eval.data.csv_boxes import read_csv
from od_eval.errors import ODEvalError


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
    assert [(len(image.objects), image.num_unreadable) for image in annotations.images] == [(1, 2)]


def test_an_image_whose_only_row_is_incomplete_is_no_image_without_objects(tmp_path, images) -> None:
    path = tmp_path / "a.csv"
    path.write_text("filename,class,xmin,ymin,xmax,ymax\n2.jpg,cat,1,2\n1.jpg,cat,1,2,3,4\n8.jpg,cat\n")
    annotations = read_csv(path, images)
    assert [(image.filename, len(image.objects), image.num_unreadable) for image in annotations.images] == [
        ("2.jpg", 0, 1),
        ("1.jpg", 1, 0),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: no column filename"),
        (b"filename,label,xmin,ymin,xmax,ymax\n", "line 1: no column class; found"),
        (b"filename;class;xmin;ymin;xmax;ymax\n", "no column filename"),
        (b"x" * 10_000, "found 'x{198}…"),
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
