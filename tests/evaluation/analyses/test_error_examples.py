"""Which images are shown for which errors."""

from __future__ import annotations

import numpy as np

from made_images import evaluated, one_image, random_images
from od_eval.evaluation.analyses.examples import Example, error_examples
from od_eval.evaluation.object_table import ERROR_KINDS


def image(id: str, scores: list[float], classes: list[int], gt_classes: list[int]):
    boxes = [[20.0 * row, 0, 20 * row + 10, 10] for row in range(5)]
    return one_image(
        image_ids=[id], boxes=[boxes[: len(scores)]], scores=[scores], classes=[classes],
        gt_boxes=[boxes[5 - len(gt_classes) :]], gt_classes=[gt_classes],
    )  # fmt: skip


def test_each_kind_has_its_worst_images_and_the_rows_that_are_wrong() -> None:
    table = evaluated(
        [
            image("a", [0.9], [1], [1, 1, 1, 1, 1]),  # four dogs are missed
            image("b", [0.8], [3], [1, 1, 1, 1, 1]),  # a dog taken for a cat, and four missed
            image("c", [0.95, 0.7], [1, 1], []),  # two dogs in the background
            image("d", [0.9], [3], [1, 1, 1, 1, 1]),  # the same as in b, more confident
        ]
    ).object_tables()["bbox"]
    examples = error_examples(table, 0.5, num=2)
    assert set(examples) == {"worst", "confused", "class", "background", "missed"}
    assert examples["worst"] == [Example(3), Example(1)]
    d = table.detections.image.tolist().index(3)
    first_of_d = table.groundtruth.image.tolist().index(3)
    assert examples["confused"] == [Example(3, (d,), (first_of_d,))]  # a pair of categories is shown once
    assert [example.image for example in examples["class"]] == [3, 1]
    assert [(example.image, example.detections) for example in examples["background"]] == [(2, (2,))]
    assert [example.image for example in examples["missed"]] == [0, 1]
    # Only of the images that there are; and at a higher confidence there is less to be confused.
    assert [example.image for example in error_examples(table, 0.5, num=2, images={1})["worst"]] == [1]
    assert [example.image for example in error_examples(table, 0.85, num=2)["class"]] == [3]


def test_rows_are_of_their_image_and_kind_and_no_image_comes_twice() -> None:
    for iou_type, table in evaluated(random_images(2, masks=True), masks=True).object_tables().items():
        for kind, of_kind in error_examples(table, 0.3, num=3).items():
            assert 0 < len(of_kind) <= 3, iou_type
            assert len({example.image for example in of_kind}) == len(of_kind)
            for example in of_kind:
                assert set(table.detections.image[list(example.detections)]) <= {example.image}
                assert set(table.groundtruth.image[list(example.objects)]) <= {example.image}
                if kind in ERROR_KINDS and example.detections:
                    assert ERROR_KINDS[table.errors[0][example.detections[0]]] == kind


def test_where_nothing_is_wrong_or_nothing_there_is_no_example() -> None:
    assert error_examples(evaluated([one_image()]).object_tables()["bbox"], 0.5, num=3) == {}
    nothing = one_image(
        boxes=[np.zeros((0, 4))], scores=[[]], classes=[[]], gt_boxes=[np.zeros((0, 4))], gt_classes=[[]]
    )
    assert error_examples(evaluated([nothing]).object_tables()["bbox"], 0.5, num=3) == {}
