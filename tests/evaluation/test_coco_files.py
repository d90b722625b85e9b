"""Evaluating COCO's files: the numbers of pycocotools for the same files, and what is wrong with wrong ones."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hotcoco import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from od_eval.errors import ODEvalError
from od_eval.evaluation.coco_files import read_detections, read_groundtruth
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.sections.coco import COCO_METRICS

CATEGORIES = [{"id": 5, "name": "dog", "supercategory": "animal"}, {"id": 2, "name": "cat"}, {"id": 9, "name": "bird"}]
NAN = float("nan")


def write(path: Path, content) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def evaluate(groundtruth: Path, detections: Path, masks: bool = False) -> EvaluationResult:
    there = read_groundtruth(groundtruth, masks=masks)
    evaluator = Evaluator(there.categories, box_format="xywh", masks=masks)
    evaluator.update(read_detections(detections, there))
    return evaluator.evaluate()


def pycocotools_metrics(groundtruth: Path, detections: Path, iou_type: str) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        there = COCO(str(groundtruth))
        evaluation = COCOeval(there, there.loadRes(str(detections)), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(COCO_METRICS, evaluation.stats.tolist(), strict=True))


def assert_same(metrics, reference) -> None:
    got = {name: -1.0 if value is None else value for name, value in metrics.items()}
    assert got == pytest.approx(reference, abs=1e-9, rel=0)


def polygon(box) -> list[float]:
    """An octagon in a box."""
    x, y, width, height = box
    angles = np.arange(8) * np.pi / 4
    return np.stack((x + width * (1 + np.cos(angles)) / 2, y + height * (1 + np.sin(angles)) / 2), 1).ravel().tolist()


def compressed(box) -> dict:
    rle = coco_mask.frPyObjects([polygon(box)], 96, 128)[0]
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def uncompressed(box) -> dict:
    flat = np.concatenate(([0], coco_mask.decode(compressed(box)).ravel(order="F").astype(int)))
    return {"size": [96, 128], "counts": np.diff(np.flatnonzero(np.diff(flat)), prepend=0, append=96 * 128).tolist()}


def random_files(folder: Path, seed: int, bbox: bool = True, segmentation: bool = False) -> tuple[Path, Path]:
    random = np.random.default_rng(seed)
    images = [
        {"id": id, "file_name": f"{id}.jpg", "height": 96, "width": 128} for id in random.permutation(12).tolist()
    ]
    annotations, detections = [], []
    for image in images:
        for _ in range(random.integers(0, 6)):
            begin, extent = random.uniform(0, 50, 2), random.uniform(2, 45, 2)
            box = [*begin.tolist(), *extent.tolist()]
            crowd = bool(random.random() < 0.15)
            form = uncompressed if crowd else [lambda box: [polygon(box)], compressed][random.integers(2)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": int(random.choice([2, 5])),
                    "bbox": box,
                    "area": float(random.choice([0.5, 1.0]) * extent.prod()),
                    "iscrowd": int(crowd),
                    "segmentation": form(box),
                }
            )
            found = (np.array(box) + random.normal(0, 2, 4)).clip(1, 60).tolist()
            for box, category in ((found, annotations[-1]["category_id"]), ([30.0, 20.0, *found[:1:-1]], 5)):
                detection = {"image_id": image["id"], "category_id": category, "score": random.integers(1, 9) / 8}
                detection.update({"bbox": box} if bbox else {})
                detection.update({"segmentation": compressed(box)} if segmentation else {})
                detections.append(detection)
    random.shuffle(annotations)
    random.shuffle(detections)
    groundtruth = {"info": {}, "images": images, "annotations": annotations, "categories": CATEGORIES}
    return write(folder / "groundtruth.json", groundtruth), write(folder / "detections.json", detections)


@pytest.mark.parametrize("seed", range(4))
def test_boxes_get_the_numbers_of_pycocotools_for_the_same_files(tmp_path, seed) -> None:
    files = random_files(tmp_path, seed)
    result = evaluate(*files)
    assert 0 < result.bbox["AP"] < 1
    assert_same(result.bbox, pycocotools_metrics(*files, "bbox"))
    assert result.num_images == 12


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bbox", [True, False])
def test_masks_get_the_numbers_of_pycocotools_for_the_same_files(tmp_path, seed, bbox) -> None:
    files = random_files(tmp_path, seed, bbox=bbox, segmentation=True)
    result = evaluate(*files, masks=True)
    assert 0 < result.segm["AP"] < 1
    assert_same(result.segm, pycocotools_metrics(*files, "segm"))
    assert_same(result.bbox, pycocotools_metrics(*files, "bbox"))
    assert evaluate(*files).bbox == result.bbox


GROUNDTRUTH = {
    "images": [{"id": 1, "height": 96, "width": 128}, {"id": 2, "height": 96, "width": 128}],
    "annotations": [
        {"id": 7, "image_id": 1, "category_id": 2, "bbox": [10, 10, 40, 40], "area": 900, "iscrowd": 0},
        {"id": 8, "image_id": 2, "category_id": 5, "bbox": [10, 10, 40, 40], "area": 900, "iscrowd": 0},
    ],
    "categories": CATEGORIES,
}
DETECTIONS = [
    {"image_id": 1, "category_id": 2, "bbox": [10, 10, 40, 40], "score": 0.9},
    {"image_id": 2, "category_id": 5, "bbox": [10, 10, 40, 40], "score": 0.8},
]
SEGMENTATION = {"segmentation": [[10, 10, 50, 10, 50, 50, 10, 50]]}


def changed(entries: list[dict], place: int, **changes) -> list[dict]:
    """The entries with one changed; a value of `...` takes the key away."""
    entry = {key: value for key, value in {**entries[place], **changes}.items() if value is not ...}
    return [*entries[:place], entry, *entries[place + 1 :]]


def changed_files(folder: Path, key: str, place: int, **changes) -> tuple[Path, Path]:
    groundtruth, detections = GROUNDTRUTH, DETECTIONS
    if key == "detections":
        detections = changed(DETECTIONS, place, **changes)
    else:
        groundtruth = {**GROUNDTRUTH, key: changed(GROUNDTRUTH[key], place, **changes)}
    return write(folder / "gt.json", groundtruth), write(folder / "dt.json", detections)


def test_no_detections_are_fine(tmp_path) -> None:
    result = evaluate(write(tmp_path / "gt.json", GROUNDTRUTH), write(tmp_path / "dt.json", []))
    assert result.bbox["AP"] == 0.0


def test_no_annotations_leave_the_metrics_undefined(tmp_path) -> None:
    groundtruth = write(tmp_path / "gt.json", {**GROUNDTRUTH, "annotations": []})
    assert evaluate(groundtruth, write(tmp_path / "dt.json", DETECTIONS)).bbox == dict.fromkeys(COCO_METRICS)


@pytest.mark.parametrize(("area", "size"), [(..., "m"), (None, "m"), (900, "s"), (0, "s"), (10_000, "l")])
def test_the_area_of_the_file_decides_the_size_and_the_box_where_there_is_none(tmp_path, area, size) -> None:
    groundtruth = {**GROUNDTRUTH, "annotations": changed(GROUNDTRUTH["annotations"], 0, area=area)[:1]}
    metrics = evaluate(write(tmp_path / "gt.json", groundtruth), write(tmp_path / "dt.json", DETECTIONS)).bbox
    assert [one for one in "sml" if metrics[f"AR{one}"] is not None] == [size]


@pytest.mark.parametrize("iscrowd", [..., None, False, True, 1])
def test_iscrowd_may_be_missing_or_a_bool(tmp_path, iscrowd) -> None:
    result = evaluate(*changed_files(tmp_path, "annotations", 0, iscrowd=iscrowd))
    assert result.per_category["cat"]["num_groundtruth"] == (0 if iscrowd in (True, 1) else 1)


def test_images_need_a_size_for_masks_only(tmp_path) -> None:
    files = changed_files(tmp_path, "images", 0, height=..., width=...)
    assert evaluate(*files).bbox["AR100"] == 1.0
    with pytest.raises(ODEvalError, match=r"gt\.json', images\[0\] \(id 1\): 'height'"):
        evaluate(*files, masks=True)


def test_image_ids_may_be_strings_and_whole_floats(tmp_path) -> None:
    images = [{"id": "one"}, {"id": 2.0}]
    groundtruth = {
        **GROUNDTRUTH,
        "images": images,
        "annotations": changed(GROUNDTRUTH["annotations"], 0, image_id="one"),
    }
    detections = changed(changed(DETECTIONS, 0, image_id="one"), 1, image_id=2.0, category_id=5.0)
    assert (
        evaluate(write(tmp_path / "gt.json", groundtruth), write(tmp_path / "dt.json", detections)).bbox["AR1"] == 1.0
    )


def test_polygons_of_fewer_than_three_points_are_passed_over(tmp_path) -> None:
    polygons = {"segmentation": [[1, 1, 2, 2], *SEGMENTATION["segmentation"]]}
    groundtruth = {**GROUNDTRUTH, "annotations": [{**one, **polygons} for one in GROUNDTRUTH["annotations"]]}
    detections = [{**one, **SEGMENTATION} for one in DETECTIONS]
    files = write(tmp_path / "gt.json", groundtruth), write(tmp_path / "dt.json", detections)
    assert evaluate(*files, masks=True).segm["AR1"] == 1.0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"images": [\n{"id": }]}', ["line 2", "not JSON"]),
        ("", ["line 1", "not JSON"]),
        (DETECTIONS, ["detections", "'annotations'"]),
        ({"images": [], "categories": CATEGORIES}, ["no list 'annotations'", "test images"]),
        ({**GROUNDTRUTH, "annotations": {}}, ["no list 'annotations'"]),
        ({"annotations": []}, ["no list 'images'"]),
        (3, ["no list 'images'"]),
        ({**GROUNDTRUTH, "images": []}, ["no images"]),
        ({**GROUNDTRUTH, "categories": []}, ["no categories"]),
        ({**GROUNDTRUTH, "annotations": [3]}, ["annotations[0]", "3"]),
        ({**GROUNDTRUTH, "images": [{"id": 1}, {"id": 1}]}, ["images[1]", "same id"]),
        ({**GROUNDTRUTH, "images": [{"file_name": "a"}]}, ["images[0]", "'id'"]),
        ({**GROUNDTRUTH, "images": [{"id": [1]}]}, ["images[0]", "'id'", "[1]"]),
        ({**GROUNDTRUTH, "images": [{"id": 1, "width": 5}]}, ["images[0]", "'height'"]),
        ({**GROUNDTRUTH, "images": [{"id": 1, "width": 5, "height": 2**31}]}, ["images[0]", "no image is that large"]),
        ({**GROUNDTRUTH, "images": [{"id": 1, "width": 1e19, "height": 5}]}, ["images[0]", "no image is that large"]),
        ({**GROUNDTRUTH, "images": [{"id": 1, "width": 1e308, "height": 5}]}, ["images[0]", "'width'"]),
        ({**GROUNDTRUTH, "categories": [*CATEGORIES, {"id": 2, "name": "cow"}]}, ["categories[3]", "same id"]),
        ({**GROUNDTRUTH, "categories": [*CATEGORIES, {"id": 3, "name": "cat"}]}, ["categories[3]", "'cat'"]),
        ({**GROUNDTRUTH, "categories": [{"id": 2}]}, ["categories[0]", "'name'"]),
        ({**GROUNDTRUTH, "categories": [{"id": "2", "name": "cat"}]}, ["categories[0]", "whole number"]),
    ],
)
def test_a_file_that_is_no_ground_truth_is_named(tmp_path, content, words) -> None:
    with pytest.raises(ODEvalError) as error:
        read_groundtruth(write(tmp_path / "gt.json", content))
    for word in ("gt.json'", *words):
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_id": 3}, ["image_id 3"]),
        ({"image_id": ...}, ["'image_id'", "missing in"]),
        ({"image_id": True}, ["'image_id'", "True"]),
        ({"category_id": 1}, ["category_id 1", "5, 2, 9"]),
        ({"category_id": [2]}, ["'category_id'", "[2]"]),
        ({"bbox": ...}, ["'bbox'", "missing in"]),
        ({"bbox": [1, 2, 3]}, ["'bbox'", "[1, 2, 3]"]),
        ({"bbox": [1, 2, 3, "4"]}, ["'bbox'", "'4'"]),
        ({"bbox": [1, 2, 3, NAN]}, ["'bbox'", "nan"]),
        ({"bbox": [1, 2, -3, 4]}, ["-3", "negative"]),
        ({"bbox": [10**400, 2, 3, 4]}, ["'bbox'"]),
        ({"bbox": [1, 2, 1e308, 1e308]}, ["'bbox'", "1e+308"]),
        ({"area": "big"}, ["'area'", "'big'"]),
        ({"area": NAN}, ["'area'", "nan"]),
        ({"area": -1}, ["area", "-1"]),
        ({"iscrowd": 2}, ["iscrowd", "2"]),
    ],
)
def test_an_annotation_that_cannot_be_right_is_named(tmp_path, changes, words) -> None:
    groundtruth, _ = changed_files(tmp_path, "annotations", 1, **changes)
    with pytest.raises(ODEvalError) as error:
        read_groundtruth(groundtruth)
    for word in ("gt.json', annotations[1] (id 8): ", *words):
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_id": 3}, ["image_id 3", "not an image"]),
        ({"category_id": 1}, ["category_id 1", "not a category"]),
        ({"score": ...}, ["'score'", "missing in"]),
        ({"score": NAN}, ["'score'", "nan"]),
        ({"score": "high"}, ["'score'", "'high'"]),
        ({"bbox": [1, 2, 3]}, ["'bbox'", "[1, 2, 3]"]),
        ({"bbox": [1, 2, 3, NAN]}, ["'bbox'", "nan"]),
        ({"bbox": ...}, ["neither 'bbox' nor 'segmentation'"]),
        ({"bbox": [], "segmentation": []}, ["neither 'bbox' nor 'segmentation'"]),
    ],
)
def test_a_detection_that_cannot_be_right_is_named(tmp_path, changes, words) -> None:
    groundtruth, detections = changed_files(tmp_path, "detections", 1, **changes)
    with pytest.raises(ODEvalError) as error:
        read_detections(detections, read_groundtruth(groundtruth))
    for word in ("dt.json', entry 1: ", *words):
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GROUNDTRUTH, ["ground truth", "image_id"]),
        ({"1": DETECTIONS}, ["list of detections"]),
        ([DETECTIONS], ["entry 0", "not an object"]),
        ("[\n\n{]", ["line 3", "not JSON"]),
    ],
)
def test_a_file_that_has_no_detections_is_named(tmp_path, content, words) -> None:
    groundtruth = read_groundtruth(write(tmp_path / "gt.json", GROUNDTRUTH))
    with pytest.raises(ODEvalError) as error:
        read_detections(write(tmp_path / "dt.json", content), groundtruth)
    for word in ("dt.json'", *words):
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        (..., ["no 'segmentation'"]),
        ([], ["no 'segmentation'"]),
        ([[1, 2, 3, 4]], ["three points"]),
        ([[1, 2, 3, 4, 5, 6, 7]], ["polygon 0"]),
        ([[1, 2, 3, 4, 5, "6"]], ["polygon 0", "numbers"]),
        ([1, 2, 3, 4, 5, 6], ["polygon 0"]),
        ([[1, 2, 3, 4, 5, NAN]], ["polygon 0"]),
        ([[1, 2, 3, 4, 5, 10**400]], ["polygon 0"]),
        ({"size": [60_000, 60_000], "counts": [1, 1]}, ["[60000, 60000]", "[96, 128]"]),
        ({"size": [128] * 10_000, "counts": [1]}, ["[128, 128, ", "…", "[96, 128]"]),
        ({"size": [128, 96], "counts": "0"}, ["[128, 96]", "[96, 128]"]),
        ({"size": [96, 128], "counts": [99999]}, ["RLE"]),
        ({"size": [96, 128], "counts": [1, 1.5]}, ["RLE"]),
        ({"counts": "0"}, ["size"]),
        ("0", ["RLE"]),
    ],
)
@pytest.mark.parametrize("key", ["annotations", "detections"])
def test_a_mask_that_cannot_be_right_is_named(tmp_path, key, segmentation, words) -> None:
    groundtruth = {**GROUNDTRUTH, "annotations": [{**one, **SEGMENTATION} for one in GROUNDTRUTH["annotations"]]}
    detections = [{**one, **SEGMENTATION} for one in DETECTIONS]
    if key == "annotations":
        groundtruth["annotations"] = changed(groundtruth["annotations"], 1, segmentation=segmentation)
    else:
        detections = changed(detections, 1, segmentation=segmentation)
    files = write(tmp_path / "gt.json", groundtruth), write(tmp_path / "dt.json", detections)
    with pytest.raises(ODEvalError) as error:
        evaluate(*files, masks=True)
    for word in ("gt.json', annotations[1]" if key == "annotations" else "dt.json', entry 1", *words):
        assert word in str(error.value)
    assert evaluate(*files).bbox["AR1"] == 1.0


def test_a_file_that_cannot_be_read_is_named(tmp_path) -> None:
    with pytest.raises(ODEvalError, match=r"missing\.json' cannot be read: No such file"):
        read_groundtruth(tmp_path / "missing.json")
    with pytest.raises(ODEvalError, match="cannot be read: Is a directory"):
        read_groundtruth(tmp_path)
    (tmp_path / "gt.json").write_bytes(b'{"images": "\xff"}')
    with pytest.raises(ODEvalError, match=r"gt\.json' is not JSON"):
        read_groundtruth(tmp_path / "gt.json")


def test_a_long_name_is_shortened(tmp_path) -> None:
    twice = [{"id": id, "name": "a\nb" * 10_000} for id in (1, 2)]
    with pytest.raises(ODEvalError) as error:
        read_groundtruth(write(tmp_path / "gt.json", {**GROUNDTRUTH, "categories": twice}))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500
