"""What holds for annotations of every format."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from od_eval.data.conversion import convert_dataset
from od_eval.data.reading import read_annotations
from od_eval.errors import ODEvalError

from .helpers import polygon_annotation, reasons


def test_one_file_for_two_names_is_not_guessed(tmp_path, write_image) -> None:
    write_image(tmp_path / "1.jpg")
    write_image(tmp_path / "2.jpg")
    rows = ["a/1.jpg,cat,1,2,3,4", "b/1.jpg,cat,5,6,7,8", "2.jpg,cat,1,2,3,4"]
    path = tmp_path / "boxes.csv"
    path.write_text("\n".join(["filename,class,xmin,ymin,xmax,ymax", *rows]))
    conversion = convert_dataset(path, tmp_path / "out", validation=0.0)
    assert reasons(conversion) == {("one image file for different annotated images", "image"): 2}


def test_an_image_annotated_twice_is_one_record(tmp_path, coco) -> None:
    coco([], num_images=1)
    path = tmp_path / "annotations.json"
    content = json.loads(path.read_text())
    content["images"].append(content["images"][0] | {"id": 2})
    content["annotations"] = [
        polygon_annotation(),
        polygon_annotation(id=2, image_id=2),
        polygon_annotation(id=3, image_id=2, bbox=[1, 2, 3, 4]),
    ]
    path.write_text(json.dumps(content))
    conversion = convert_dataset(path, tmp_path / "out", images_dir=tmp_path / "images", validation=0.0, overwrite=True)
    assert reasons(conversion) == {("image annotated twice, objects joined", ""): 1}
    assert conversion.splits["train"].num_images == 1
    assert conversion.splits["train"].objects == {"cat": 2}


def test_relative_boxes_are_taken_where_the_size_says_so(tmp_path, write_image, read_records, decode) -> None:
    write_image(tmp_path / "1.jpg")
    path = tmp_path / "boxes.csv"
    path.write_text("filename,width,height,class,xmin,ymin,xmax,ymax\n1.jpg,1,1,cat,0.25,0.5,0.75,1\n")
    convert_dataset(path, tmp_path / "out", validation=0.0)
    (record,) = read_records(tmp_path / "out", "train")
    np.testing.assert_allclose(decode(record)["groundtruth_boxes"], [[0.5, 0.25, 1, 0.75]])


def test_a_format_that_there_is_not_is_answered_with_those_that_are(tmp_path) -> None:
    with pytest.raises(ODEvalError, match="set format to coco, voc or csv"):
        read_annotations(tmp_path, annotation_format="yolo")


def test_the_three_formats_of_the_same_boxes_give_the_same_records(tmp_path, excerpt, read_records, decode) -> None:
    raccoon = excerpt / "raccoon"
    import xml.etree.ElementTree as ElementTree

    rows, images, annotations = [], [], []
    (tmp_path / "xml").mkdir()
    for id, path in enumerate(sorted((raccoon / "annotations").glob("*.xml"))):
        (tmp_path / "xml" / path.name).write_bytes(path.read_bytes())
        root = ElementTree.parse(path).getroot()
        name, width, height = root.findtext("filename"), root.findtext("size/width"), root.findtext("size/height")
        images.append({"id": id, "file_name": name, "width": int(width), "height": int(height)})
        for one in root.findall("object"):
            box = [int(one.findtext(f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax")]
            rows.append([name, width, height, "raccoon", *box])
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            annotations.append({"id": len(rows), "image_id": id, "category_id": 1, "bbox": bbox})
    with (tmp_path / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"], *rows])
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "raccoon"}]}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    results = []
    for source in ("xml", "boxes.csv", "boxes.json"):
        out = tmp_path / f"out-{source}"
        convert_dataset(tmp_path / source, out, images_dir=raccoon / "images", validation=0.0)
        decoded = [decode(record) for record in read_records(out, "train")]
        results.append({one["filename"]: one for one in decoded})
    for name, one in results[0].items():
        for other in results[1:]:
            for key in ("groundtruth_boxes", "groundtruth_classes", "groundtruth_area", "key"):
                np.testing.assert_array_equal(other[name][key], one[key])
