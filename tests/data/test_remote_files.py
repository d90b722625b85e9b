"""Files on a remote filesystem give what local ones give; `ram://` is TensorFlow's filesystem in memory."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest

from od_eval import files
from od_eval.data.conversion import convert_dataset
from od_eval.data.images import ImageFolder, ImageNotFound, ImageUnusable, read_image
from od_eval.data.voc import read_voc
from od_eval.errors import ODEvalError
from od_eval.evaluation.coco_files import read_detections, read_groundtruth

REPOSITORY = Path(__file__).parents[2]
NAMES = ["1.jpg", "2.jpg", "sub/3.png"]
BOX = [4, 8, 24, 40]  # of every image: xmin, ymin, xmax, ymax
ANNOTATIONS = {"coco": "boxes.json", "voc": "voc", "csv": "boxes.csv"}


@pytest.fixture
def local(tmp_path, write_image) -> Path:
    """A folder with three images and the same boxes in each format."""
    folder = tmp_path / "local"
    images, annotations = [], []
    rows = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    (folder / "voc" / "Annotations").mkdir(parents=True)
    corners = "".join(f"<{edge}>{at}</{edge}>" for edge, at in zip(("xmin", "ymin", "xmax", "ymax"), BOX, strict=True))
    for id, name in enumerate(NAMES, start=1):
        write_image(folder / "images" / name)
        images.append({"id": id, "file_name": name, "width": 64, "height": 48})
        bbox = [BOX[0], BOX[1], BOX[2] - BOX[0], BOX[3] - BOX[1]]
        annotations.append({"id": id, "image_id": id, "category_id": 1, "bbox": bbox})
        rows.append(f"{name},64,48,cat,{','.join(map(str, BOX))}")
        (folder / "voc" / "Annotations" / f"{Path(name).stem}.xml").write_text(
            f"<annotation><filename>{name}</filename><size><width>64</width><height>48</height></size>"
            f"<object><name>cat</name><bndbox>{corners}</bndbox></object></annotation>"
        )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (folder / "boxes.json").write_text(json.dumps(content))
    (folder / "boxes.csv").write_text("\n".join(rows))
    (folder / "val.txt").write_text("sub/3\n")
    (folder / "mine.pbtxt").write_text("item { id: 7 name: 'cat' }")
    return folder


@pytest.fixture
def remote(local) -> str:
    """The same on a remote filesystem."""
    folder = f"ram://{uuid.uuid4().hex}"
    for name in files.files_below(local):
        files.write_whole(f"{folder}/{name}", (local / name).read_bytes())
    return folder


@pytest.mark.parametrize("annotation_format", ANNOTATIONS)
def test_remote_annotations_and_images_give_the_records_of_local_ones(
    tmp_path, local, remote, annotation_format
) -> None:
    for folder, out in ((local, tmp_path / "a"), (remote, tmp_path / "b")):
        conversion = convert_dataset(
            f"{folder}/{ANNOTATIONS[annotation_format]}",
            out,
            images_dir=f"{folder}/images",
            label_map_path=f"{folder}/mine.pbtxt",
            validation=f"{folder}/val.txt",
        )
        assert conversion.label_map_path == f"{folder}/mine.pbtxt"
        assert {name: split.objects for name, split in conversion.splits.items()} == {
            "train": {"cat": 2},
            "validation": {"cat": 1},
        }
    written = [{path.name: path.read_bytes() for path in (tmp_path / name).glob("*-of-*")} for name in "ab"]
    assert len(written[0]) == 2
    assert written[0] == written[1]


def test_remote_images_are_looked_for_where_the_annotations_are(tmp_path, remote) -> None:
    conversion = convert_dataset(f"{remote}/boxes.csv", tmp_path / "a", validation=0.0)
    assert conversion.splits["train"].num_images == 3
    files.write_whole(f"{remote}/voc/JPEGImages/1.jpg", files.read_bytes(f"{remote}/images/1.jpg"))
    for folder in ("voc", "voc/", "voc/Annotations", "voc/Annotations/"):
        conversion = convert_dataset(f"{remote}/{folder}", tmp_path / "b", validation=0.0, overwrite=True)
        assert conversion.splits["train"].num_images == 1
        assert [remark.where for remark in conversion.left_out] == [
            f"{remote}/voc/Annotations/{id}.xml" for id in (2, 3)
        ]


def test_a_dataset_in_a_remote_folder_is_the_one_in_a_local_folder(tmp_path, local, remote) -> None:
    for out in (tmp_path / "out", f"{remote}/out"):
        conversion = convert_dataset(local / "boxes.json", out, images_dir=local / "images", validation=0.3)
        with pytest.raises(ODEvalError, match="already contains"):
            convert_dataset(local / "boxes.json", out, images_dir=local / "images", validation=0.3)
        convert_dataset(local / "boxes.json", out, images_dir=local / "images", validation=0.3, overwrite=True)
    assert conversion.report_path == f"{remote}/out/conversion_report.json"
    names = files.names_in(f"{remote}/out")
    assert names == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        "conversion_report.json",
        "label_map.pbtxt",
        "train-00000-of-00001",
        "validation-00000-of-00001",
    ]
    for name in names:
        assert files.read_bytes(f"{remote}/out/{name}") == (tmp_path / "out" / name).read_bytes()


def test_a_name_in_remote_annotations_leads_to_no_file_outside_of_the_image_folder(tmp_path, local, remote) -> None:
    files.write_whole(f"{remote}/secret.jpg", files.read_bytes(f"{remote}/images/1.jpg"))
    for folder in (ImageFolder(f"{remote}/images"), ImageFolder(f"{remote}/images/"), ImageFolder(local / "images")):
        assert len(folder) == 3
        assert files.exists(folder.path(folder.find("C:\\photos\\sub\\3.png")))
        for name in ("../secret.jpg", f"{remote}/secret.jpg", "images/../../secret.jpg", str(local / "boxes.csv")):
            with pytest.raises(ImageNotFound):
                folder.find(name)


def test_what_is_wrong_with_remote_files_is_a_sentence(tmp_path, remote) -> None:
    files.write_whole(f"{remote}/empty/notes.txt", "")
    folder = ImageFolder(f"{remote}/images")
    for call, message in (
        (lambda: ImageFolder(f"{remote}/nowhere"), f"image folder '{remote}/nowhere' does not exist; set images to"),
        (
            lambda: ImageFolder("nosuch://bucket/images"),
            "image folder 'nosuch://bucket/images' cannot be read: this TensorFlow has no",
        ),
        (lambda: ImageFolder(f"{remote}/empty"), "has no image in it"),
        (lambda: read_voc(f"{remote}/empty", folder), f"no XML file in '{remote}/empty'; set annotations to"),
        (lambda: convert_dataset(f"{remote}/no.json", tmp_path / "out"), f"'{remote}/no.json' does not exist"),
        (
            lambda: convert_dataset("nosuch://a/b.json", tmp_path / "out"),
            "'nosuch://a/b.json' cannot be read: this TensorFlow has no",
        ),
        (lambda: convert_dataset(f"{remote}/val.txt", tmp_path / "out"), "set format to coco, voc or csv"),
        (lambda: convert_dataset(f"{remote}/boxes.csv", "nosuch://a/out"), "cannot be written to 'nosuch://a/out'"),
        (  # each process has a ram:// of its own
            lambda: convert_dataset(f"{remote}/boxes.csv", f"{remote}/out", num_workers=2),
            f"'{remote}' is not there on machine ",
        ),
        (
            lambda: convert_dataset(f"{remote}/boxes.csv", tmp_path / "out", validation=f"{remote}/no.txt"),
            f"validation list '{remote}/no.txt' cannot be read",
        ),
        (lambda: read_groundtruth(f"{remote}/no.json"), f"'{remote}/no.json' cannot be read"),
    ):
        with pytest.raises(ODEvalError) as error:
            call()
        assert message in str(error.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ImageUnusable, match=f"{remote}/images/9.jpg") as unusable:
        read_image(f"{remote}/images/9.jpg", None)
    assert unusable.value.reason == "image file missing"


def test_remote_ground_truth_and_detections_are_read(local, remote) -> None:
    detections = [{"image_id": id, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5} for id in (1, 3)]
    files.write_whole(f"{remote}/detections.json", json.dumps(detections))
    groundtruth = read_groundtruth(f"{remote}/boxes.json")
    assert groundtruth.path == f"{remote}/boxes.json"
    expected = read_groundtruth(local / "boxes.json")
    assert groundtruth.images == expected.images
    for name in ("boxes", "classes"):
        of_local, of_remote = (getattr(one.objects, name) for one in (expected, groundtruth))
        assert [np.asarray(rows).tolist() for rows in of_remote] == [np.asarray(rows).tolist() for rows in of_local]
    batch = read_detections(f"{remote}/detections.json", groundtruth)
    assert [np.shape(boxes) for boxes in batch.detections.boxes] == [(1, 4), (0, 4), (1, 4)]


def test_local_files_need_no_tensorflow(local) -> None:
    code = f"""if True:
        import sys
        from od_eval.data.images import read_image
        from od_eval.data.reading import read_annotations
        from od_eval.data.splits import split_images
        from od_eval.evaluation.coco_files import read_groundtruth
        for name in ("boxes.json", "voc", "boxes.csv"):
            annotations, images = read_annotations(f"{local}/{{name}}", "{local}/images")
            assert len(split_images(annotations.images, "{local}/val.txt", 0, images)[1]) == 1
            read_image(annotations.images[0].path, None)
        read_groundtruth("{local}/boxes.json")
        print("tensorflow" in sys.modules)
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert result.stdout.strip() == "False"
