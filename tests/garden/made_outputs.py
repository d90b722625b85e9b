"""What a task of Model Garden returns for batches of images, made up: objects, and detections near them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = {1: "cat", 2: "dog", 3: "bird"}
_MOST = 8  # rows, of which not all are valid
Arrays = dict[str, np.ndarray]


def made_outputs(seed: int, first_id: int, masks: bool = False) -> tuple[Arrays, Arrays]:
    """Ground truth and predictions of three images, of which the last has no object."""
    random = np.random.default_rng(seed)
    sizes = np.array([[240, 320], [300, 200], [256, 256]])
    scale = np.float32([0.5, 0.75, 1.25])
    num_objects, num_detections = np.array([5, 7, 0]), np.array([8, 6, 2])
    objects = np.full((3, _MOST, 4), -1, np.float32)
    detected = np.zeros((3, _MOST, 4), np.float32)
    classes, found_classes = np.full((3, _MOST), -1), np.zeros((3, _MOST), np.int32)
    crowds, scores = np.zeros((3, _MOST), bool), np.zeros((3, _MOST), np.float32)
    crowds[1, 0] = True
    pngs: Any = np.full((3, _MOST), b"", object)
    for image, (height, width) in enumerate(sizes):
        sides = random.choice([20, 60, 130], _MOST)  # small, medium and large ones
        corners = random.uniform(0, np.array([[height, width]]) - sides[:, np.newaxis] - 1)
        boxes = np.concatenate([corners, corners + sides[:, np.newaxis]], axis=1)
        valid = num_objects[image]
        objects[image, :valid] = boxes[:valid]
        classes[image, :valid] = random.integers(1, 4, valid)
        shown = num_detections[image]
        noise = random.normal(0, 2, (shown, 4)) * (random.random((shown, 1)) < 0.7)
        detected[image, :shown] = (boxes[:shown] + noise) * scale[image]
        found_classes[image, :shown] = np.where(classes[image, :shown] > 0, classes[image, :shown], 1)
        found_classes[image, 1] = random.integers(1, 4)
        scores[image, :shown] = -np.sort(-random.random(shown))
        for row in range(valid):
            y, x, y_end, x_end = objects[image, row].round().astype(int)
            mask = np.zeros((height, width), np.uint8)
            mask[y:y_end, x + (x_end - x) // 2 : x_end] = 255
            png = io.BytesIO()
            Image.fromarray(mask).save(png, "PNG")
            pngs[image, row] = png.getvalue()
    areas = (objects[..., 2] - objects[..., 0]) * (objects[..., 3] - objects[..., 1])
    groundtruth = {
        "source_id": np.arange(first_id, first_id + 3),
        "height": sizes[:, 0],
        "width": sizes[:, 1],
        "num_detections": num_objects,
        "boxes": objects,
        "classes": classes,
        "is_crowds": crowds,
        "areas": areas,
    }
    offset = np.zeros((3, 2), np.float32)
    scales = np.stack([scale, scale], axis=1)
    predictions = {
        "source_id": groundtruth["source_id"],
        "image_info": np.stack([sizes, sizes * scales, scales, offset], axis=1).astype(np.float32),
        "num_detections": num_detections,
        "detection_boxes": detected,
        "detection_classes": found_classes,
        "detection_scores": scores,
    }
    if masks:
        groundtruth["masks"] = pngs
        blobs = random.random((3, _MOST, 28, 28)).astype(np.float32) * 0.3
        blobs[..., 14:] += 0.6  # the object fills the right half of its box
        predictions["detection_masks"] = blobs
    return groundtruth, predictions
