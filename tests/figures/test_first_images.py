"""The images of an evaluation that are kept to be drawn."""

import numpy as np
import pytest

from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.options import EvaluationOptions
from od_eval.figures.first_images import FirstImages
from od_eval.figures.pictures import pictures_of


def batch(*names):
    number = len(names)
    return EvaluationBatch(
        image_ids=list(names),
        image_sizes=[[32, 32]] * number,
        detections=Detections([[]] * number, [[]] * number, [[]] * number),
        groundtruth=None,
        images=[np.zeros((32, 32, 3), np.uint8)] * number,
        outputs=object(),
    )


OPTIONS = EvaluationOptions({1: "cat"})


def drawn(first_images):
    return [image_id for image_id, _ in first_images.pictures()]


def test_the_first_so_many_are_kept_over_batches():
    first_images = FirstImages(OPTIONS, 3)
    for names in (("a", "b"), ("c", "d"), ("e",)):
        first_images.update(batch(*names))
    assert drawn(first_images) == ["a", "b", "c"]
    assert dict(first_images.evaluate()) == {}


def test_none_are_kept_where_none_are_asked_for_or_there_are_no_pixels():
    first_images = FirstImages(OPTIONS, 0)
    first_images.update(batch("a"))
    assert drawn(first_images) == []
    without_pixels = batch("a")
    without_pixels.images = ()
    first_images = FirstImages(OPTIONS, 2)
    first_images.update(without_pixels)
    assert drawn(first_images) == []


def test_merged_ones_are_still_as_many_as_asked_for():
    first, second = FirstImages(OPTIONS, 2), FirstImages(OPTIONS, 2)
    first.update(batch("a"))
    second.update(batch("b", "c"))
    first.merge(second)
    assert drawn(first) == ["a", "b"]


def test_a_picture_is_the_same_as_of_the_whole_batch_and_little_of_it_is_kept():
    random = np.random.default_rng(0)
    corners = np.sort(random.uniform(0, 300, (2, 40, 2, 2)), axis=2)
    boxes = corners.reshape(2, 40, 4)
    masks = random.integers(0, 2, (2, 40, 300, 320)).astype(np.uint8)
    whole = EvaluationBatch(
        image_ids=["a", "b"],
        image_sizes=[[300, 300], [290, 310]],
        detections=Detections(
            boxes, random.random((2, 40)), np.ones((2, 40), int), masks=[list(masks[0]), list(masks[1])], num=[40, 30]
        ),
        groundtruth=GroundTruth(boxes[:, :3], np.ones((2, 3), int), masks=[masks[0, :3], masks[1, :3]]),
        images=[random.integers(0, 255, (300, 300, 3), np.uint8), random.integers(0, 255, (290, 310, 3), np.uint8)],
        keypoints=random.random((2, 40, 5, 2)),
    )
    options = EvaluationOptions({1: "cat"}, max_boxes=4, min_score=0.3, keypoint_edges=[(0, 1)])
    first_images = FirstImages(options)
    first_images.update(whole)
    for (image_id, picture), (expected_id, expected) in zip(
        first_images.pictures(), pictures_of(whole, options), strict=True
    ):
        assert image_id == expected_id
        np.testing.assert_array_equal(picture, expected)
    for image in first_images._images:
        assert len(image.detections.masks[0]) == 4
        assert all(isinstance(mask, dict) for mask in (*image.detections.masks[0], *image.groundtruth.masks[0]))


def test_a_batch_that_cannot_be_drawn_is_an_error_when_pictures_are_asked_for_and_not_before():
    broken = batch("a")
    broken.detections.scores = None
    first_images = FirstImages(OPTIONS)
    first_images.update(broken)
    assert dict(first_images.evaluate()) == {}
    with pytest.raises(TypeError):
        drawn(first_images)
