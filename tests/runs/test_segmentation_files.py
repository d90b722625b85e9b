"""Files of an evaluation of semantic segmentation: what is written is what is read, and damage is said."""

import csv
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from od_eval.errors import ODEvalError
from od_eval.evaluation.segmentation.batch import SegmentationBatch
from od_eval.evaluation.segmentation.evaluator import SegmentationEvaluator
from od_eval.evaluation.segmentation.options import SegmentationOptions
from od_eval.runs import segmentation_files
from od_eval.runs.evaluation_run import write_segmentation
from od_eval.runs.image_archive import ImageArchive
from od_eval.runs.segmentation_files import LabelArchive

CATEGORIES = {7: "cat, tame", 0: "background", 3: "=1+1"}
IGNORE = 99
IMAGES = ["b", "../a", "=c"]


def write(folder, labels, prediction, *, size=None, most=2, with_images=True):
    """Writes images with these labels (ids) and predictions (indices of classes) `[images, height, width]`."""
    labels, prediction = np.asarray(labels), np.asarray(prediction)
    ids = IMAGES[: len(labels)]
    scores = np.eye(len(CATEGORIES), dtype=np.float32)[prediction]
    evaluator = SegmentationEvaluator(CATEGORIES, IGNORE)
    evaluator.update(labels=labels, scores=scores, image_ids=ids)
    archive, label_images = ImageArchive(str(folder), most=most), LabelArchive(CATEGORIES)
    images = np.zeros((len(labels), *(size or labels.shape[1:]), 3), np.uint8)
    archive.update(SegmentationBatch(ids, labels, scores, images=images if with_images else ()))
    for id, of_image, predicted in zip(ids, labels, prediction, strict=True):
        if archive.size(id):
            label_images.add(id, archive.size(id), of_image, predicted)
    options = SegmentationOptions(CATEGORIES, IGNORE)
    write_segmentation("eval", str(folder), 5, evaluator, options, [], archive, label_images)


def test_images_are_read_as_they_were_evaluated_the_worst_first(tmp_path):
    write(
        tmp_path,
        labels=[[[0, 0, 3, IGNORE]], [[7, 7, 7, 0]], [[IGNORE] * 4]],
        prediction=[[[0, 1, 1, 2]], [[0, 0, 2, 0]], [[0, 0, 0, 0]]],
    )
    assert segmentation_files.has_segmentation(str(tmp_path), 5)
    assert not segmentation_files.has_segmentation(str(tmp_path), 6)
    worst, second, ignored = segmentation_files.read_images(str(tmp_path), 5)
    assert worst.pop("picture").startswith("_a")
    assert worst == {
        "image_id": "../a",
        "pixels": 4,
        "wrong": 2,
        "pixel_accuracy": 0.5,
        "IoU": pytest.approx((1 / 3 + 1 / 3) / 2),
        "worst_class": "cat, tame",
        "index": 1,
    }
    assert second == {
        "image_id": "b",
        "pixels": 3,
        "wrong": 1,
        "pixel_accuracy": pytest.approx(2 / 3),
        "IoU": 0.5,
        "worst_class": "background",
        "picture": "b.jpg",
        "index": 0,
    }
    nothing = dict.fromkeys(("pixel_accuracy", "IoU", "worst_class", "picture", "index"))
    assert ignored == {"image_id": "=c", "pixels": 0, "wrong": 0, **nothing}, "no room for its picture"


def test_the_confusion_matrix_has_actual_classes_in_rows(tmp_path):
    write(tmp_path, labels=[[[0, 0, 3, IGNORE]]], prediction=[[[0, 1, 2, 2]]])
    names, counts = segmentation_files.read_confusion(str(tmp_path), 5)
    assert names == ["background", "=1+1", "cat, tame"], "by ascending id"
    assert counts.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    path = tmp_path / "analysis" / "step-00000005" / "segmentation_confusion.csv"
    header = next(csv.reader(io.StringIO(path.read_text())))
    assert header == ["actual", "background", "'=1+1", "cat, tame"], "no spreadsheet runs it as a formula"


def test_label_images_are_as_large_as_the_picture_and_hold_indices_of_classes(tmp_path):
    labels = np.zeros((1, 480, 640), int)
    labels[:, :, 320:], labels[:, 240:] = 7, IGNORE
    write(tmp_path, labels, np.where(labels == 7, 2, 1), size=(480, 640))
    with zipfile.ZipFile(tmp_path / "images.zip") as pictures:
        size = Image.open(io.BytesIO(pictures.read("b.jpg"))).size
    groundtruth, prediction = segmentation_files.read_labels(str(tmp_path), 5, 0)
    assert groundtruth.shape == prediction.shape == size[::-1] == (240, 320)
    assert groundtruth.dtype == np.uint8
    assert [groundtruth[10, x] for x in (0, 159, 160, 319)] == [0, 0, 2, 2]
    assert segmentation_files.ignored(3) == 255
    assert (groundtruth[120:] == 255).all()
    assert set(np.unique(prediction)) == {1, 2}
    with zipfile.ZipFile(tmp_path / "analysis" / "step-00000005" / "segmentation_labels.zip") as archive:
        assert archive.namelist() == ["000000.groundtruth.png", "000000.prediction.png"]
        assert Image.open(archive.open("000000.groundtruth.png")).mode == "L"


def test_label_images_of_many_classes_have_16_bits():
    archive = LabelArchive({id: str(id) for id in range(1, 301)})
    archive.add("a", (1, 3), np.array([[1, 300, 0]]), np.array([[299, 0, 1]]))
    groundtruth, prediction = archive.images("a")
    assert groundtruth.tolist() == [[0, 299, -1]]
    assert prediction.tolist() == [[299, 0, 1]]
    with zipfile.ZipFile(io.BytesIO(archive.contents(["gone.jpg", "a.jpg"]))) as contents:
        pixels = np.asarray(Image.open(contents.open("000001.groundtruth.png")))
    assert pixels.tolist() == [[0, 299, segmentation_files.ignored(300)]] == [[0, 299, 65535]]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (segmentation_files.IMAGES, segmentation_files.read_images),
        (segmentation_files.CONFUSION, segmentation_files.read_confusion),
        (segmentation_files.LABELS, lambda run_dir, step: segmentation_files.read_labels(run_dir, step, 0)),
    ],
    ids=["images", "confusion", "labels"],
)
def test_what_is_missing_or_damaged_is_said_in_a_sentence(tmp_path, name, read):
    with pytest.raises(ODEvalError, match=f"there is no .*{name}.*evaluate"):
        read(str(tmp_path), 5)
    write(tmp_path, labels=[[[0, 3]]], prediction=[[[0, 1]]])
    (tmp_path / "analysis" / "step-00000005" / name).write_text("actual,a\nx,y\n")
    with pytest.raises(ODEvalError, match=f"{name}' is damaged"):
        read(str(tmp_path), 5)


def test_a_label_image_that_is_not_there_is_said(tmp_path):
    write(tmp_path, labels=[[[0, 3]]], prediction=[[[0, 1]]])
    with pytest.raises(ODEvalError, match="damaged"):
        segmentation_files.read_labels(str(tmp_path), 5, 1)


def test_colors_of_classes_are_those_of_pictures_and_more_classes_do_not_change_them():
    assert segmentation_files.class_colors(3) == ["#3c3c3c", "#e69f00", "#56b4e9"]
    assert segmentation_files.class_colors(30)[:3] == segmentation_files.class_colors(3)


def test_an_evaluation_without_images_has_no_label_images_of_the_one_before(tmp_path):
    labels, prediction = [[[0, 0, 3, 7]]], [[[0, 1, 1, 2]]]
    write(tmp_path, labels, prediction)
    assert segmentation_files.read_images(str(tmp_path), 5)[0]["index"] == 0
    write(tmp_path, labels, prediction, with_images=False)
    assert segmentation_files.read_images(str(tmp_path), 5)[0]["index"] is None
