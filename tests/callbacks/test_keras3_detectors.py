"""KerasHub's and torchvision's detectors in evaluations, and the example that trains one; skipped without them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import keras
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import od_eval
from od_eval.errors import ODEvalError

REPOSITORY = Path(__file__).parents[2]
SIZE = 64
CATEGORIES = {0: "cat", 1: "dog"}
ANALYSIS_OFF = od_eval.EvaluationOptions(CATEGORIES, analysis=None, num_pictures=0)


class Detector:
    """Stands for a detector of KerasHub: predicts what it is given, whatever the images."""

    preprocessor = None

    def __init__(self, bounding_box_format: str, **found: np.ndarray):
        self.bounding_box_format = bounding_box_format
        self.found = found

    def predict(self, images: Any, batch_size: int, verbose: int) -> dict[str, np.ndarray]:
        assert batch_size == len(images)
        return self.found


@pytest.fixture
def detect() -> Any:
    pytest.importorskip("keras_hub")
    from od_eval.keras_hub import detect

    return detect


def one_found(box: list[float]) -> dict[str, np.ndarray]:
    """Of two images; the second row of each is no detection."""
    return {
        "boxes": np.array([[box, [-1] * 4]] * 2, np.float32),
        "confidence": np.array([[0.5, -1]] * 2, np.float32),
        "labels": np.array([[1, -1]] * 2),
        "num_detections": np.array([1, 1]),
    }


@pytest.mark.parametrize(
    ("box_format", "box"),
    [
        ("yxyx", [8, 4, 40, 20]),
        ("xyxy", [4, 8, 20, 40]),
        ("xywh", [4, 8, 16, 32]),
        ("center_xywh", [12, 24, 16, 32]),
        ("rel_yxyx", [0.125, 0.0625, 0.625, 0.3125]),
        ("rel_xywh", [0.0625, 0.125, 0.25, 0.5]),
    ],
)
def test_boxes_of_every_format_become_yxyx_in_pixels_and_rows_of_no_object_are_left_out(detect, box_format, box):
    images = np.random.default_rng(0).random((2, SIZE, SIZE, 3)).astype(np.float32)
    objects = {"boxes": np.array([[box, [-1] * 4]] * 2, np.float32), "labels": np.array([[1, -1], [-1, -1]])}
    batch = detect(Detector(box_format, **one_found(box)), (images, objects))
    assert batch.detections.boxes[0, 0] == pytest.approx([8, 4, 40, 20])
    assert [len(rows) for rows in batch.groundtruth.boxes] == [1, 0]
    assert batch.groundtruth.boxes[0][0] == pytest.approx([8, 4, 40, 20])
    assert [rows.tolist() for rows in batch.groundtruth.classes] == [[1], []]
    assert np.asarray(batch.image_sizes).tolist() == [[SIZE, SIZE]] * 2
    assert len({*batch.image_ids}) == 2
    assert batch.image_ids == detect(Detector(box_format, **one_found(box)), (images, objects)).image_ids
    assert batch.images[0].dtype == np.uint8
    objects["image_id"] = np.array([7, 9])
    assert detect(Detector(box_format, **one_found(box)), (images, objects)).image_ids == [7, 9]


def test_objects_of_dfine_are_relative_and_its_detections_are_yxyx_whatever_its_format_says(detect, monkeypatch):
    import keras_hub

    monkeypatch.setattr(keras_hub.models, "DFineObjectDetector", Detector)
    objects = {"boxes": np.array([[[0.1875, 0.375, 0.25, 0.5]]] * 2, np.float32), "labels": np.ones((2, 1))}
    images = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    batch = detect(Detector("xyxy", **one_found([8, 4, 40, 20])), (images, objects))
    assert batch.detections.boxes[0, 0] == pytest.approx([8, 4, 40, 20])
    assert batch.groundtruth.boxes[0][0] == pytest.approx([8, 4, 40, 20])


def test_infinite_boxes_end_at_the_border_and_are_counted(detect, capsys):
    found = one_found([4, -np.inf, 20, np.inf])
    found["boxes"][:, 1] = np.inf  # no detection
    objects = {"boxes": np.zeros((2, 0, 4)), "labels": np.zeros((2, 0)), "image_id": np.array(["a", "b"])}
    batch = detect(Detector("xyxy", **found), (np.zeros((2, SIZE, SIZE, 3), np.uint8), objects))
    assert batch.detections.boxes[0, 0].tolist() == [0, 4, SIZE, 20]
    assert "note: 2 detections so far have an infinite box" in capsys.readouterr().err


def test_a_batch_of_another_form_is_refused(detect):
    with pytest.raises(ODEvalError, match="a batch of the dataset is not"):
        detect(Detector("xyxy"), {"images": np.zeros((1, SIZE, SIZE, 3))})


# ---- Real detectors -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def retinanet() -> Any:
    """Untrained; it returns what it finds, however low the score."""
    keras_hub = pytest.importorskip("keras_hub")
    sys.path.append(str(REPOSITORY / "examples"))
    import keras_hub_retinanet

    keras.utils.set_random_seed(0)
    model = keras_hub_retinanet.retinanet(SIZE)
    model.prediction_decoder = keras_hub.layers.NonMaxSuppression("xyxy", True, confidence_threshold=0.0)
    return model


def test_metrics_of_retinanet_are_those_of_pycocotools(detect, retinanet):
    rng = np.random.default_rng(0)
    images = rng.random((4, SIZE, SIZE, 3)).astype(np.float32)
    found = retinanet.predict(images, batch_size=2, verbose=0)
    # Objects where something was found, a little beside it, so that there is something to measure.
    boxes = found["boxes"][:, 2:20:3] + rng.normal(0, 2, (4, 6, 4)).astype(np.float32)
    boxes[..., 2:] = np.maximum(boxes[..., 2:], boxes[..., :2] + 1)
    objects = {"boxes": boxes, "labels": found["labels"][:, 2:20:3].astype(np.float32)}
    batches = [
        (images[rows], {name: of_all[rows] for name, of_all in objects.items()}) for rows in np.split(np.arange(4), 2)
    ]
    result = od_eval.evaluate(retinanet, batches, detect=detect, options=ANALYSIS_OFF)

    def xywh(box):
        x, y, right, bottom = (float(value) for value in box)
        return [x, y, right - x, bottom - y]

    annotations = [
        {"image_id": image, "category_id": int(label), "bbox": xywh(box), "area": np.prod(xywh(box)[2:]), "iscrowd": 0}
        for image in range(4)
        for box, label in zip(objects["boxes"][image], objects["labels"][image], strict=True)
    ]
    detections = [
        {"image_id": image, "category_id": int(label), "bbox": xywh(box), "score": float(score)}
        for image in range(4)
        for box, label, score in list(
            zip(found["boxes"][image], found["labels"][image], found["confidence"][image], strict=True)
        )[: found["num_detections"][image]]
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image, "height": SIZE, "width": SIZE} for image in range(4)],
            "categories": [{"id": one} for one in CATEGORIES],
            "annotations": [{**annotation, "id": number} for number, annotation in enumerate(annotations, 1)],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert 0.05 < evaluation.stats[0] < 0.999
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    expected = {name: value for name, value in zip(names, evaluation.stats, strict=True) if value >= 0}
    assert {name: result.bbox[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_detectors_of_torchvision_are_evaluated():
    torch = pytest.importorskip("torch")
    from od_eval.torchvision import detect

    box = torch.tensor([[4.0, 8.0, 20.0, 40.0]])

    def model(images):
        return [{"boxes": box, "labels": torch.tensor([1]), "scores": torch.tensor([0.5])} for _ in images]

    target = {"boxes": box, "labels": torch.tensor([1])}
    batch = ([torch.rand(3, SIZE, SIZE)] * 2, [{**target, "image_id": 1}, {**target, "image_id": torch.tensor(2)}])
    options = od_eval.EvaluationOptions({1: "cat"}, "xyxy")
    assert od_eval.evaluate(model, [batch], detect=detect, options=options).bbox["AP"] == pytest.approx(1.0)


@pytest.mark.slow
def test_the_example_trains_retinanet_with_all_callbacks(tmp_path):
    pytest.importorskip("keras_hub")
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "0", "KERAS_BACKEND": keras.config.backend()}
    arguments = [f"--log_dir={tmp_path}", "--num_images=16", "--epochs=2", f"--size={SIZE}"]
    done = subprocess.run(
        [sys.executable, REPOSITORY / "examples" / "keras_hub_retinanet.py", *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    metrics = od_eval.load_metrics(tmp_path)
    losses = {"total_loss", "classification_loss", "localization_loss", "bbox_regression_loss", "cls_logits_loss"}
    assert metrics["step"] == 8
    assert metrics["losses"].keys() == losses
    history = od_eval.load_history(tmp_path)
    assert {f"Loss/{name}" for name in losses} <= set(history[history.run == "train"].tag)
    best = json.loads((tmp_path / "best" / "best.json").read_text())
    assert (tmp_path / "best" / best["checkpoint"]).exists()
