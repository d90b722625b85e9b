"""SegmentationEvaluator: its numbers against hand computations, hotcoco's, scikit-learn's, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
from hotcoco.semantic import SemanticEval
from scipy import ndimage

from od_eval.errors import ODEvalError
from od_eval.evaluation.segmentation.evaluator import SegmentationEvaluator

NAMES = {3: "road", 7: "car", 9: "person"}


def one_hot(predicted, classes=3):
    return np.eye(classes, dtype=np.float32)[np.asarray(predicted)]


def random_image(rng, classes, size=(48, 64), sure=2.0, ignored=None):
    """Labels in blocks, and probabilities that mostly agree with them."""
    blocks = rng.integers(0, classes, (size[0] // 8, size[1] // 8))
    labels = np.kron(blocks, np.ones((8, 8), np.int64))
    logits = rng.normal(0, 1, (*size, classes)) + sure * (labels[..., None] == np.arange(classes))
    if ignored is not None:
        labels[:5] = ignored
    return labels, scipy.special.softmax(logits, axis=-1).astype(np.float32)


def evaluated(images, classes, ignore_label=None):
    evaluator = SegmentationEvaluator({index: f"class {index}" for index in range(classes)}, ignore_label)
    for labels, scores in images:
        evaluator.update(labels=labels[None], scores=scores[None])
    return evaluator


def test_a_case_worked_out_by_hand():
    evaluator = SegmentationEvaluator(NAMES, ignore_label=0)
    labels = np.array([[3, 3, 7, 0], [3, 7, 7, 3]])
    predicted = [[0, 1, 1, 2], [0, 1, 0, 0]]
    evaluator.update(labels=[labels], scores=[one_hot(predicted)], image_ids=["a"])
    assert evaluator.confusion().tolist() == [[3, 1, 0], [1, 2, 0], [0, 0, 0]]
    result = evaluator.evaluate(losses={"loss": 1.5}, step=10)
    section = result.segmentation
    road, car, person = (section["per_category"][name] for name in NAMES.values())
    assert road["IoU"] == 3 / 5
    assert car["IoU"] == 2 / 4
    assert road["accuracy"] == 3 / 4
    assert road["F1"] == 6 / 8
    assert road["AR"] == 3 / 4  # the mean score of its pixels
    assert road["AP"] == 3 / 4 * 3 / 4 + 1 / 4 * 4 / 7  # of 4 pixels with a score of 1, 3 are right; then all 7
    assert (car["num_groundtruth_pixels"], car["num_predicted_pixels"]) == (3, 3)
    assert person == {
        **dict.fromkeys(("IoU", "AP", "AR", "F1", "accuracy", "boundary_IoU")),
        "num_groundtruth_pixels": 0,
        "num_predicted_pixels": 0,
    }
    assert section["absent_classes"] == ["person"]
    assert section["IoU"] == (3 / 5 + 2 / 4) / 2
    assert section["pixel_accuracy"] == 5 / 7
    assert section["mean_class_accuracy"] == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert (section["num_pixels"], section["num_ignored"]) == (7, 1)
    assert section["boundary_IoU"] == section["IoU"]  # all pixels are near a border
    assert (result.num_images, result.step, result.losses["loss"]) == (1, 10, 1.5)
    images = evaluator.images()
    assert (images.ids, images.pixels.tolist(), images.wrong.tolist()) == (["a"], [7], [2])
    assert images.worst_class.tolist() == [0]
    assert images.iou.tolist() == [section["IoU"]]


@pytest.mark.parametrize("classes", [2, 5])
def test_iou_accuracy_and_confusion_are_those_of_hotcoco(classes):
    rng = np.random.default_rng(classes)
    images = [random_image(rng, classes, ignored=255) for _ in range(5)]
    theirs = SemanticEval(classes, ignore_index=255)
    for labels, scores in images:
        theirs.update(labels.astype(np.uint8), scores.argmax(-1).astype(np.uint8))
    ours = evaluated(images, classes, 255)
    section, results = ours.evaluate().segmentation, theirs.results()
    assert ours.confusion().tolist() == theirs.confusion().tolist()
    assert section["IoU"] == pytest.approx(results["mIoU"], abs=1e-12)
    assert section["mean_class_accuracy"] == pytest.approx(results["mAcc"], abs=1e-12)
    assert section["pixel_accuracy"] == pytest.approx(results["aAcc"], abs=1e-12)


def as_is(scores):
    return scores


@pytest.mark.parametrize(
    ("sure", "change"),
    [
        pytest.param(2.0, as_is, id="usual"),
        pytest.param(0.0, as_is, id="nothing learned"),
        pytest.param(25.0, as_is, id="saturated"),
        pytest.param(2.0, lambda scores: scores * 1e-5, id="low"),
        pytest.param(2.0, lambda scores: np.round(scores * 255) / 256, id="int8"),
        pytest.param(2.0, lambda scores: np.full_like(scores, 1 / 3), id="all equal"),
    ],
)
def test_ap_and_f1_are_those_of_scikit_learn(sure, change):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    images = [random_image(rng, 3, sure=sure * rng.uniform(0, 1), ignored=9) for _ in range(4)]
    images = [(labels, change(scores)) for labels, scores in images]
    section = evaluated(images, 3, 9).evaluate().segmentation
    labels = np.concatenate([labels.ravel() for labels, _ in images])
    scores = np.concatenate([scores.reshape(-1, 3) for _, scores in images])
    labels, scores = labels[labels != 9], scores[labels != 9]
    expected = [metrics.average_precision_score(labels == index, scores[:, index]) for index in range(3)]
    assert [of["AP"] for of in section["per_category"].values()] == pytest.approx(expected, abs=8e-4)
    assert section["AP"] == pytest.approx(np.mean(expected), abs=8e-4)
    assert section["F1"] == pytest.approx(metrics.f1_score(labels, scores.argmax(1), average="macro"))
    assert section["AR"] == pytest.approx(np.mean([scores[labels == index, index].mean() for index in range(3)]))


def test_ar_is_the_recall_averaged_over_thresholds():
    labels, scores = random_image(np.random.default_rng(2), 3)
    thresholds = np.linspace(0, 1, 10_001)[1:]
    recalls = [np.mean(scores[labels == 1, 1] >= threshold) for threshold in thresholds]
    section = evaluated([(labels, scores)], 3).evaluate().segmentation
    assert section["per_category"]["class 1"]["AR"] == pytest.approx(np.mean(recalls), abs=1e-3)


def eroded(mask, times):
    """As in the code of the paper: a border of zeros, and an erosion by 3 × 3 again and again."""
    return ndimage.binary_erosion(np.pad(mask, 1), np.ones((3, 3)), iterations=times)[1:-1, 1:-1]


@pytest.mark.parametrize("ignored", [None, 255])
def test_boundary_iou_is_that_of_masks_without_their_inside(ignored):
    rng = np.random.default_rng(3)
    labels, scores = random_image(rng, 3, size=(104, 160), sure=3, ignored=ignored)
    predicted = scores.argmax(-1)
    counts = labels != 255
    distance = round(0.02 * np.hypot(*labels.shape))
    assert distance == 4
    both, either = np.zeros(3), np.zeros(3)
    for index in range(3):
        actual, found = (labels == index) & counts, (predicted == index) & counts
        actual_border, found_border = (mask & ~eroded(mask, distance) for mask in (actual, found))
        both[index] = (actual_border & found_border).sum()
        either[index] = (actual_border | found_border).sum()
    section = evaluated([(labels, scores)], 3, ignored).evaluate().segmentation
    assert [of["boundary_IoU"] for of in section["per_category"].values()] == pytest.approx(both / either)
    assert section["boundary_IoU"] != section["IoU"]


def test_a_class_that_is_only_predicted_is_absent_and_costs_the_others():
    evaluator = SegmentationEvaluator(NAMES)
    evaluator.update(labels=[[[3, 3, 7, 7]]], scores=[one_hot([[0, 2, 1, 1]])])
    section = evaluator.evaluate().segmentation
    assert section["absent_classes"] == ["person"]
    assert section["per_category"]["person"]["IoU"] is None
    assert section["per_category"]["person"]["num_predicted_pixels"] == 1
    assert section["IoU"] == (1 / 2 + 1) / 2


def test_images_of_ignored_pixels_count_nowhere():
    evaluator = SegmentationEvaluator(NAMES, ignore_label=-1)
    evaluator.update(labels=np.full((1, 2, 2), -1), scores=one_hot(np.zeros((1, 2, 2), int)))
    section = evaluator.evaluate().segmentation
    assert section["IoU"] is section["AP"] is section["pixel_accuracy"] is None
    assert (section["num_pixels"], section["num_ignored"]) == (0, 4)
    assert section["absent_classes"] == list(NAMES.values())
    assert evaluator.evaluate().log_values() == {}
    images = evaluator.images()
    assert np.isnan(images.pixel_accuracy).all()
    assert np.isnan(images.iou).all()
    assert images.worst_class.tolist() == [-1]


def test_one_class_is_always_right():
    evaluator = SegmentationEvaluator({1: "all"})
    evaluator.update(labels=np.ones((1, 4, 4), np.uint8), scores=np.full((1, 4, 4, 1), 0.25))
    section = evaluator.evaluate().segmentation
    assert section["IoU"] == section["AP"] == section["boundary_IoU"] == 1
    assert section["AR"] == 0.25


def test_batches_parts_and_orders_give_the_same():
    rng = np.random.default_rng(4)
    images = [random_image(rng, 4, ignored=255) for _ in range(5)]
    whole = SegmentationEvaluator(dict(enumerate("abcd")), 255)
    whole.update(
        labels=np.stack([labels for labels, _ in images]).astype(np.uint8),
        scores=np.stack([scores for _, scores in images]),
    )
    first, second = (SegmentationEvaluator(dict(enumerate("abcd")), 255) for _ in range(2))
    for number, (labels, scores) in reversed(list(enumerate(images))):
        part = first if number < 2 else second
        part.update(labels=[labels], scores=[scores], image_ids=[number])
    alone = second.evaluate()
    first.merge(second)
    assert second.evaluate() == alone
    merged, expected = first.evaluate(), whole.evaluate()
    assert merged.segmentation.pop("AR") == pytest.approx(expected.segmentation.pop("AR"))  # a sum of floats
    for name, of_category in expected.segmentation["per_category"].items():
        assert merged.segmentation["per_category"][name].pop("AR") == pytest.approx(of_category.pop("AR"))
    assert merged == expected
    assert sorted(first.images().ids) == whole.images().ids
    assert first.images().wrong.sum() == whole.images().wrong.sum()


def test_images_may_differ_in_size_and_the_worst_come_first():
    rng = np.random.default_rng(5)
    images = [random_image(rng, 3, size, sure) for size, sure in (((8, 16), 9), ((24, 8), 1), ((16, 16), 3))]
    evaluator = SegmentationEvaluator(NAMES)
    ids = np.array(list(NAMES))
    evaluator.update(
        labels=[ids[labels] for labels, _ in images],
        scores=[scores for _, scores in images],
        image_ids=["right", "bad", "good"],
    )
    of_images = evaluator.images()
    assert [of_images.ids[index] for index in of_images.worst_first()] == ["bad", "good", "right"]
    assert of_images.pixels.tolist() == [128, 192, 256]
    assert of_images.pixel_accuracy.tolist() == (1 - of_images.wrong / of_images.pixels).tolist()


SCORES = one_hot(np.zeros((2, 3), int))
LABELS = np.full((2, 3), 3)


def changed(array, at, value):
    array = array.copy()
    array[at] = value
    return array


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        pytest.param(changed(LABELS, (1, 2), 8), SCORES, "'b' has the label 8 in row 1, column 2", id="label"),
        pytest.param(LABELS, SCORES * 7, "'b' has the score 7 for 'road' in row 0, column 0, .*softmax", id="logits"),
        pytest.param(
            LABELS,
            changed(SCORES, (1, 0, 2), np.nan),
            "'b' has the score nan for 'person' in row 1, column 0, .*diverged",
            id="nan",
        ),
        pytest.param(
            LABELS, SCORES[..., :2], r"scores of image 'b' are of shape \[2, 3, 2\].* 3 categories", id="classes"
        ),
        pytest.param(LABELS, SCORES[:1], r"scores of image 'b' are of shape \[1, 3, 3\].*\[2, 3, 3\]", id="size"),
        pytest.param(LABELS / 2, SCORES, "labels of image 'b' are float64", id="floats"),
        pytest.param(LABELS[..., None], SCORES, r"labels of image 'b' are int64 of shape \[2, 3, 1\]", id="rank"),
    ],
)
def test_a_wrong_image_is_named_and_nothing_of_its_batch_is_added(labels, scores, message):
    evaluator = SegmentationEvaluator(NAMES)
    with pytest.raises(ODEvalError, match=message):
        evaluator.update(labels=[LABELS, labels], scores=[SCORES, scores], image_ids=["a", "b"])
    assert len(evaluator.images().ids) == 0
    with pytest.raises(ODEvalError, match="no images to evaluate"):
        evaluator.evaluate()


def test_an_image_is_evaluated_once():
    evaluator = SegmentationEvaluator(NAMES)
    evaluator.update(labels=[LABELS], scores=[SCORES], image_ids=["a"])
    other = SegmentationEvaluator(NAMES)
    other.update(labels=[LABELS], scores=[SCORES], image_ids=["a"])
    for add in (
        lambda: evaluator.update(labels=[LABELS], scores=[SCORES], image_ids=["a"]),
        lambda: evaluator.update(labels=[LABELS] * 2, scores=[SCORES] * 2, image_ids=["b", "b"]),
        lambda: evaluator.merge(other),
    ):
        with pytest.raises(ODEvalError, match="has already been evaluated"):
            add()
    with pytest.raises(ODEvalError, match="1 image ids, labels of 2 images"):
        evaluator.update(labels=[LABELS] * 2, scores=[SCORES], image_ids=["c"])
    assert evaluator.images().ids == ["a"]


def test_what_cannot_be_merged_or_made_is_said():
    with pytest.raises(ODEvalError, match="different ignore_label cannot be merged: None and 255"):
        SegmentationEvaluator(NAMES).merge(SegmentationEvaluator(NAMES, 255))
    with pytest.raises(ODEvalError, match="different categories"):
        SegmentationEvaluator(NAMES).merge(SegmentationEvaluator({3: "road"}))
    with pytest.raises(ODEvalError, match="no categories"):
        SegmentationEvaluator({})
    with pytest.raises(ODEvalError, match="same name 'a'"):
        SegmentationEvaluator({0: "a", 1: "a"})
    with pytest.raises(ODEvalError, match="ignore_label 3 is the id of the category 'road'"):
        SegmentationEvaluator(NAMES, 3)


def test_the_section_says_what_tensorboard_keras_and_the_files_get():
    evaluator = evaluated([random_image(np.random.default_rng(6), 3)], 3)
    result = evaluator.evaluate()
    section = result.segmentation
    assert set(result.log_values()) == {
        "IoU",
        "segmentation_AP",
        "segmentation_AR",
        "segmentation_F1",
        "pixel_accuracy",
        "mean_class_accuracy",
        "boundary_IoU",
    }
    assert result.log_values()["segmentation_AP"] == section["AP"]
    scalars = result.scalars("IoU")
    assert scalars["Segmentation/IoU"] == section["IoU"]
    assert scalars["Segmentation_PerformanceByCategory/IoU/class 2"] == section["per_category"]["class 2"]["IoU"]
    assert len(scalars) == 7 + 3
    assert result.scalars("AP") == scalars  # as `EvaluationOptions` name the one metric of each category
    assert len(result.scalars("all")) == 7 + 3 * 6
    assert len(result.scalars("none")) == 7
    assert type(result).from_json_dict(result.to_json_dict()) == result
