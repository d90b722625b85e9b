"""Outputs of Model Garden as batches: the metrics of its own COCO evaluator, and its difference explained."""

import copy
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from made_outputs import CATEGORIES, made_outputs
from official.vision.evaluation import coco_evaluator, segmentation_metrics
from official.vision.ops import preprocess_ops

from od_eval.evaluation import masks as coco_masks
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.segmentation.evaluator import SegmentationEvaluator
from od_eval.garden.batches import detection_batch, pixels, segmentation_batch
from od_eval.garden.records import mask_rle

# Name of a metric here -> Model Garden's.
NAMES = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "APs": "APs", "APm": "APm", "APl": "APl"} | {
    "AR1": "ARmax1",
    "AR10": "ARmax10",
    "AR100": "ARmax100",
    "ARs": "ARs",
    "ARm": "ARm",
    "ARl": "ARl",
}


def garden_metrics(outputs, masks=False):
    """What Model Garden's own evaluator makes of outputs, which it changes in place."""
    evaluator = coco_evaluator.COCOEvaluator(annotation_file=None, include_mask=masks)
    for groundtruth, predictions in copy.deepcopy(outputs):
        evaluator.update_state(*(tf.nest.map_structure(tf.constant, part) for part in (groundtruth, predictions)))
    return evaluator.result()


def batches(outputs, masks=False):
    for groundtruth, predictions in outputs:
        ids = groundtruth["source_id"].tolist()
        rles = [[mask_rle(png) for png in pngs if png] for pngs in groundtruth["masks"]] if masks else None
        yield detection_batch(groundtruth, predictions, [], ids, {}, scaled_boxes=True, object_masks=rles)


def evaluated(batches, masks=False):
    evaluator = Evaluator(CATEGORIES, masks=masks, analysis=None)
    for batch in batches:
        evaluator.update(batch)
    return evaluator.evaluate()


def assert_equal(metrics, expected, prefix="", names=NAMES):
    found = {name: metrics[name] for name in names}
    assert found == pytest.approx({name: expected[prefix + names[name]] for name in names}, abs=1e-6)


def test_boxes_have_the_metrics_of_model_gardens_own_evaluator():
    outputs = [made_outputs(seed, first_id=10 * seed) for seed in range(4)]
    expected = garden_metrics(outputs)
    assert 0.1 < expected["AP"] < 0.95
    assert -1 not in expected.values()  # every size is there
    assert_equal(evaluated(batches(outputs)).bbox, expected)


def test_masks_have_its_metrics_and_boxes_too_where_their_size_is_that_of_the_mask():
    outputs = [made_outputs(seed, first_id=10 * seed, masks=True) for seed in range(4)]
    expected = garden_metrics(outputs, masks=True)
    result = evaluated(batches(outputs, masks=True), masks=True)
    assert_equal(result.segm, expected, "mask_")
    assert_equal(result.bbox, expected, names={name: NAMES[name] for name in ("AP", "AP50", "AP75", "AR1", "AR100")})
    by_size = ("APs", "APm", "APl")
    assert [result.bbox[name] for name in by_size] != pytest.approx([expected[name] for name in by_size], abs=1e-3)

    def sized_by_masks(batch):
        areas = [coco_masks.areas(masks) for masks in batch.detections.masks]
        return dataclasses.replace(batch, detections=dataclasses.replace(batch.detections, area=areas))

    assert_equal(evaluated(map(sized_by_masks, batches(outputs, masks=True)), masks=True).bbox, expected)


def test_objects_beyond_the_padded_rows_are_no_rows():
    groundtruth, predictions = made_outputs(0, 0)
    groundtruth["num_detections"] = np.array([120, 7, 0])
    batch = detection_batch(groundtruth, predictions, [], [0, 1, 2], {}, scaled_boxes=True)
    assert [len(boxes) for boxes in batch.groundtruth.boxes] == [8, 7, 0]


@pytest.mark.parametrize("size", [(40, 64), (64, 40), (20, 30)])
def test_pictures_are_the_images_without_their_padding(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    normalized = preprocess_ops.normalize_image(tf.constant(image))
    scaled, info = preprocess_ops.resize_and_crop_image(normalized, [64, 64], [64, 64], 1.0, 1.0)
    (picture,) = pixels(scaled[np.newaxis].numpy(), info[np.newaxis].numpy(), normalized=True)
    height, width = (round(side * 64 / max(size)) for side in size)
    assert picture.shape == (height, width, 3)
    if max(size) == 64:
        np.testing.assert_array_equal(picture, image)


@pytest.mark.parametrize("rescale", [False, True])
def test_segmentation_has_model_gardens_iou(rescale):
    random = np.random.default_rng(0)
    size = (40, 60) if rescale else (64, 64)  # of the labels in their padding of 64 × 64
    masks = np.full((2, 64, 64, 1), 255, np.float32)
    masks[:, : size[0], : size[1]] = random.integers(0, 3, (2, *size, 1))
    info = np.float32([[size, (64, 64), np.full(2, 64 / max(size)), (0, 0)]] * 2)
    labels = {"masks": masks, "valid_masks": masks != 255, "image_info": info}
    logits = random.normal(0, 1, (2, 32, 32, 3)).astype(np.float32)
    metric = segmentation_metrics.PerClassIoU(num_classes=3, rescale_predictions=rescale)
    metric.update_state({name: tf.constant(value) for name, value in labels.items()}, tf.constant(logits))
    batch = segmentation_batch(labels, logits, [], [0, 1], {}, ignore_label=255, rescale=rescale, independent=False)
    evaluator = SegmentationEvaluator({0: "ground", 1: "cat", 2: "dog"}, ignore_label=255)
    evaluator.update(labels=batch.labels, scores=batch.scores, image_ids=batch.image_ids)
    per_category = evaluator.evaluate().segmentation["per_category"]
    assert [of["IoU"] for of in per_category.values()] == pytest.approx(metric.result().numpy().tolist(), abs=1e-6)
    assert np.allclose(np.sum(batch.scores, axis=-1), 1, atol=1e-5)
