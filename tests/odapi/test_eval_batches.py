"""Batches of an evaluation as arrays, made up; of a model: test_evaluation.py."""

import pickle

import numpy as np
import pytest
import tensorflow as tf

import od_eval.odapi  # noqa: F401
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation.unique_names import UniqueNames
from od_eval.odapi.eval_batches import (
    evaluation_batch,
    has_masks,
    parts_of,
    to_be_sent,
    without_padding,
)


@pytest.fixture
def features():
    return {
        "image": tf.zeros([2, 8, 8, 3]),
        "true_image_shape": tf.constant([(8, 8, 3), (4, 8, 3)]),
        "original_image": tf.zeros([2, 8, 8, 3], tf.uint8),
        "source_id": tf.constant(["a", "b"]),
    }


@pytest.fixture
def eval_dict():
    """What the Object Detection API makes of two images of 8 x 8 pixels: three detections and two objects each."""
    return {
        "original_image_spatial_shape": tf.constant([(8, 8), (8, 8)]),
        "detection_boxes": tf.reshape(tf.range(24, dtype=tf.float32), [2, 3, 4]),
        "detection_scores": tf.constant([[0.9, 0.8, 0.7], [0.6, 0.5, 0.0]]),
        "detection_classes": tf.constant([[1, 2, 3], [2, 1, 1]]),
        "detection_keypoints": tf.ones([2, 3, 1, 2]),
        "detection_masks": tf.ones([2, 3, 8, 8], tf.uint8),
        "num_detections": tf.constant([3, 2]),
        "groundtruth_boxes": tf.zeros([2, 2, 4]),
        "groundtruth_classes": tf.ones([2, 2], tf.int32),
        "groundtruth_instance_masks": tf.ones([2, 2, 8, 8], tf.uint8),
        "num_groundtruth_boxes": tf.constant([2, 1]),
    }


def evaluated(features, eval_dict, categories=(1, 2, 3), masks=False, **eval_config):
    from object_detection.protos import eval_pb2

    options = EvaluationOptions(categories={id: str(id) for id in categories}, masks=masks)
    return evaluation_batch(features, eval_dict, {"total_loss": 1.0}, eval_pb2.EvalConfig(**eval_config), options)


def test_detections_of_categories_that_the_label_map_does_not_have_are_left_out(features, eval_dict):
    batch = evaluated(features, eval_dict, categories=(1, 3), masks=True)
    detections = batch.detections
    assert [classes.tolist() for classes in detections.classes] == [[1, 3], [1]]
    np.testing.assert_allclose(np.concatenate(detections.scores), [0.9, 0.7, 0.5])
    assert [boxes[:, 0].tolist() for boxes in detections.boxes] == [[0, 8], [16]]
    assert [len(masks) for masks in detections.masks] == [2, 1]
    assert [len(keypoints) for keypoints in batch.keypoints] == [2, 1]


def test_masks_are_handed_over_where_the_options_say_so(features, eval_dict):
    batch = evaluated(features, eval_dict)
    assert (batch.detections.masks, batch.groundtruth.masks) == (None, None)
    batch = evaluated(features, eval_dict, masks=True)
    assert (batch.detections.masks.shape, batch.groundtruth.masks.shape) == ((2, 3, 8, 8), (2, 2, 8, 8))


def test_there_are_masks_where_both_detections_and_groundtruth_have_some(eval_dict):
    assert has_masks(eval_dict)
    for name in ("detection_masks", "groundtruth_instance_masks"):
        assert not has_masks({other: value for other, value in eval_dict.items() if other != name})


def test_images_and_keypoints_are_for_pictures(features, eval_dict):
    batch = evaluated(features, eval_dict)
    assert [image.shape for image in batch.images] == [(8, 8, 3), (4, 8, 3)]
    np.testing.assert_array_equal(batch.keypoints, np.full([2, 3, 1, 2], 1 / 8))
    del features["original_image"]
    assert evaluated(features, eval_dict).images == []


def test_what_is_sent_to_another_worker_has_the_same_metrics_and_no_tensors(features, eval_dict):
    random = np.random.default_rng(0)
    for name in ("detection_masks", "groundtruth_instance_masks"):
        eval_dict[name] = tf.constant(random.integers(0, 2, eval_dict[name].shape), tf.uint8)
    eval_dict["groundtruth_boxes"] = tf.constant([[[0.0, 0, 4, 4], [1, 1, 5, 6]]] * 2)
    results = []
    for is_sent in (False, True):
        batch = evaluated(features, eval_dict, masks=True)
        if is_sent:
            batch = pickle.loads(pickle.dumps(to_be_sent(batch, 2, with_outputs=True)))
        evaluator = Evaluator({1: "a", 2: "b", 3: "c"}, masks=True)
        evaluator.update(batch)
        results.append(evaluator.evaluate())
    assert repr(results[0].segm) == repr(results[1].segm)
    assert repr(results[0].bbox) == repr(results[1].bbox)
    assert results[0].segm["AP"] is not None
    assert len(batch.images) == 2
    np.testing.assert_array_equal(batch.outputs["detection_scores"], eval_dict["detection_scores"].numpy())
    many = to_be_sent(evaluated(features, eval_dict), 10_000, with_outputs=False)
    assert (many.outputs, len(many.images)) == (None, 0)


def test_groundtruth_is_ignored_where_the_config_says_so(features, eval_dict):
    assert evaluated(features, eval_dict, ignore_groundtruth=True).groundtruth is None


def test_a_batch_that_is_not_full_is_taken_apart(features):
    labels = {"num_groundtruth_boxes": tf.constant([2, 1])}
    strategy = tf.distribute.get_strategy()
    for batch_size, sizes in ((2, [2]), (3, [1, 1])):
        parts = list(parts_of((features, labels), strategy, batch_size))
        assert [part[0]["image"].shape[0] for part in parts] == sizes
        assert b"".join(name for part in parts for name in part[0]["source_id"].numpy()) == b"ab"


def test_labels_lose_their_padding_and_those_of_whole_images_stay(features):
    labels = {
        "num_groundtruth_boxes": tf.constant([2, 1]),
        "groundtruth_boxes": tf.zeros([2, 5, 4]),
        "groundtruth_image_classes": tf.zeros([2, 5]),
    }
    images = without_padding(labels)
    assert [boxes.shape[0] for boxes in images["groundtruth_boxes"]] == [2, 1]
    assert [classes.shape[0] for classes in images["groundtruth_image_classes"]] == [5, 5]


def test_images_of_one_name_are_told_apart():
    names = UniqueNames()
    assert [names.unique(name) for name in ("a", "b", "a", "a (2)", "a")] == ["a", "b", "a (2)", "a (2) (2)", "a (3)"]
    assert (names.repeated, names.example) == (3, "a")
