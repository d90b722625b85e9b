"""The images of an evaluation that are kept to be drawn."""

import numpy as np

from od_eval.evaluation.batch import Detections, EvaluationBatch
from od_eval.evaluation.options import EvaluationOptions
from od_eval.figures.first_images import FirstImages


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


def drawn(first_images):
    return [image_id for image_id, _ in first_images.pictures(EvaluationOptions({1: "cat"}))]


def test_the_first_so_many_are_kept_over_batches():
    first_images = FirstImages(3)
    for names in (("a", "b"), ("c", "d"), ("e",)):
        first_images.update(batch(*names))
    assert drawn(first_images) == ["a", "b", "c"]
    assert dict(first_images.evaluate()) == {}


def test_none_are_kept_where_none_are_asked_for_or_there_are_no_pixels():
    first_images = FirstImages(0)
    first_images.update(batch("a"))
    assert drawn(first_images) == []
    without_pixels = batch("a")
    without_pixels.images = ()
    first_images = FirstImages(2)
    first_images.update(without_pixels)
    assert drawn(first_images) == []


def test_merged_ones_are_still_as_many_as_asked_for():
    first, second = FirstImages(2), FirstImages(2)
    first.update(batch("a"))
    second.update(batch("b", "c"))
    first.merge(second)
    assert drawn(first) == ["a", "b"]
