"""Datasets that differ are found, by what differs and most different first; samples of the same world are not."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

from made_surveys import facts, random_survey, survey
from od_eval.findings.data_checks import check_data
from od_eval.findings.data_checks.differences import (
    ALPHA,
    LARGE,
    MEDIUM,
    PERMUTATIONS,
    STATISTICS,
    Values,
    difference,
    differences,
)

EVAL = "eval_input_reader[0]"


def changed(of, images=None, objects=None):
    return dataclasses.replace(of, images=of.images.assign(**images or {}), objects=of.objects.assign(**objects or {}))


def kinds(*pair, config=None):
    return [finding.kind for finding in differences(*pair, config)]


@pytest.fixture(scope="module")
def pair():
    return random_survey(1, 500), random_survey(2, 200, name=EVAL)


@pytest.mark.parametrize("seed", range(10))
def test_samples_of_the_same_world_differ_in_nothing(seed):
    sizes = np.random.default_rng(seed).integers(30, 2000, 2)
    pair = random_survey(100 + seed, sizes[0]), random_survey(200 + seed, sizes[1], name=EVAL)
    assert kinds(*pair, config=facts()) == []


def test_halved_resolution_is_found_and_named_first(pair):
    train, other = pair
    halved = changed(other, {"width": other.images["width"] // 2, "height": other.images["height"] // 2})
    darker = changed(halved, {"brightness": other.images["brightness"] - 0.05})
    first = check_data(train, [darker], facts())[0]
    assert (first.kind, first.severity, first.sureness) == ("different_image_resolution", "warning", "certain")
    assert "the median is 277 pixels" in str(first)
    assert "instead of 554 pixels" in str(first)
    # The shape remains, but for rounding: 375 / 2 is 187.
    assert kinds(train, halved) == ["different_image_resolution"]


def test_images_of_one_size_that_differ_by_a_pixel_are_the_same():
    boxes = [(row, 1, 0.1, 0.1, 0.5, 0.5) for row in range(100)]
    assert kinds(survey(boxes, width=640), survey(boxes, width=641, name=EVAL)) == []
    assert kinds(survey(boxes, width=640), survey(boxes, width=960, name=EVAL))[:1] == ["different_image_resolution"]


@pytest.mark.parametrize(("by", "severity"), [(0.3, "warning"), (0.02, None)])
@pytest.mark.parametrize("column", ["brightness", "contrast", "saturation"])
def test_images_that_look_different_are_found(pair, column, by, severity):
    train, other = pair
    found = list(differences(train, changed(other, {column: other.images[column] + by}), facts()))
    assert [(one.kind, one.severity) for one in found] == ([(f"different_{column}", severity)] if severity else [])
    if found:
        setting = f"train_config {{ data_augmentation_options {{ random_adjust_{column} {{}} }} }}"
        assert found[0].settings == (setting,)
        done = facts(augmentations=(f"random_adjust_{column}",))
        distorted = facts(augmentations=("random_distort_color",))
        for config in (None, done, distorted):
            (again,) = differences(train, changed(other, {column: other.images[column] + by}), config)
            assert not again.settings


def test_a_spread_that_differs_is_found_though_the_median_does_not(pair):
    train, other = pair
    wide = changed(other, {"brightness": 0.5 + 3 * (other.images["brightness"] - 0.5)})
    assert kinds(train, wide) == ["different_brightness"]


def test_smaller_objects_are_found_with_and_without_an_input_size(pair):
    train, other = pair
    boxes = other.objects
    smaller = changed(
        other,
        objects={
            "ymax": boxes["ymin"] + 0.5 * (boxes["ymax"] - boxes["ymin"]),
            "xmax": boxes["xmin"] + 0.5 * (boxes["xmax"] - boxes["xmin"]),
        },
    )
    for config in (None, facts(), facts(resize_range=(320, 640)), facts(input_height=None, input_width=None)):
        assert kinds(train, smaller, config=config)[0] == "different_box_size"
    first = next(iter(differences(train, smaller, facts())))
    assert first.settings == ("train_config { data_augmentation_options { random_pad_image {} } }",)


def test_objects_elsewhere_are_found(pair):
    train, other = pair
    boxes = other.objects
    height = boxes["ymax"] - boxes["ymin"]
    lower = changed(other, objects={"ymin": 1 - height, "ymax": 1.0})
    assert kinds(train, lower) == ["different_box_y"]


def test_other_shares_of_categories_are_found_with_the_one_that_differs_most(pair):
    train, other = pair
    renamed = other.objects["category"].replace({1: 5})
    (finding,) = differences(train, changed(other, objects={"category": renamed}), None)
    assert finding.kind == "different_categories"
    assert "most for 'sheep'" in str(finding) or "most for 'cat'" in str(finding)
    shares = [(one.objects["category"] == 1).mean() for one in (train, other)]
    assert finding.evidence["shares"][0] == pytest.approx(
        shares[0] if finding.evidence["category"] == "cat" else (train.objects["category"] == 5).mean()
    )


def test_images_without_objects_and_crowded_ones_are_found(pair):
    train, other = pair
    few = dataclasses.replace(other, objects=other.objects[other.objects["image"] % 2 == 0])
    assert {"different_images_without_objects", "different_objects_per_image"} <= set(kinds(train, few))
    sentence = next(str(one) for one in differences(train, few, None) if one.kind == "different_images_without_objects")
    assert "50% of the images have no objects, and 0% in train_input_reader" in sentence


def test_images_without_labels_are_compared_by_what_they_have(pair):
    train, other = pair
    dark = changed(other, {"brightness": 0.1})
    unlabelled = dataclasses.replace(dark, name="deployment_images", categories={}, objects=other.objects[:0])
    assert kinds(train, unlabelled) == ["different_brightness"]


def test_images_that_were_not_decoded_are_not_compared(pair):
    train, other = pair
    blank = changed(other, dict.fromkeys(("brightness", "contrast", "saturation"), np.nan))
    assert kinds(train, blank) == []
    assert kinds(train, survey(images=0, name=EVAL)) == []


def test_most_different_first_and_with_their_effect(pair):
    train, other = pair
    worse = changed(
        other, {"brightness": other.images["brightness"] + 0.2, "saturation": other.images["saturation"] + 0.6}
    )
    found = list(differences(train, worse, None))
    assert [one.kind for one in found] == ["different_saturation", "different_brightness"]
    assert found[0].impact > found[1].impact > LARGE
    assert found[0].evidence["effect"] == found[0].impact


@pytest.mark.parametrize("seed", range(3))
def test_the_distance_is_that_of_scipy(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 50, 300).astype(float), rng.integers(20, 60, 80).astype(float)
    result = difference(Values(np.arange(300), first), Values(np.arange(80), second))
    expected = scipy.stats.ks_2samp(first, second)
    assert result.effect == pytest.approx(expected.statistic, abs=1e-6)
    assert result.p_value <= 0.001
    assert expected.pvalue < 0.001


def test_of_many_numbers_the_distance_is_nearly_that_of_scipy():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 1, 900), rng.normal(0.7, 1, 900)
    result = difference(Values(np.arange(900), first), Values(np.arange(900), second))
    assert result.effect == pytest.approx(scipy.stats.ks_2samp(first, second).statistic, abs=1 / 64)


def test_the_p_value_is_that_of_scipy_where_each_image_has_one_value():
    rng = np.random.default_rng(4)
    first, second = rng.normal(0, 1, 40), rng.normal(0.4, 1, 40)
    result = difference(Values(np.arange(40), first), Values(np.arange(40), second))
    expected = scipy.stats.ks_2samp(first, second, method="exact")
    assert result.effect >= MEDIUM
    assert 0.005 < expected.pvalue < 0.5
    assert result.p_value == pytest.approx(expected.pvalue, abs=4 * np.sqrt(expected.pvalue / PERMUTATIONS))


def test_objects_that_are_alike_within_images_count_as_one_image():
    rng = np.random.default_rng(0)
    # 12 images with 50 objects each, which all have the value of their image.
    first, second = (Values(np.repeat(np.arange(12), 50), np.repeat(rng.normal(0, 1, 12), 50)) for _ in range(2))
    of_images = scipy.stats.ks_2samp(first.value[::50], second.value[::50], method="exact").pvalue
    of_objects = scipy.stats.ks_2samp(first.value, second.value).pvalue
    assert difference(first, second).p_value == pytest.approx(of_images, abs=0.05)
    assert of_images > 0.1
    assert of_objects < 0.001


def test_the_distance_of_categories_is_half_the_sum_of_differences():
    first, second = np.repeat([1.0, 2, 3], [50, 30, 20]), np.repeat([1.0, 3, 4], [10, 60, 30])
    result = difference(Values(np.arange(100), first), Values(np.arange(100), second), is_category=True)
    assert result.effect == pytest.approx((0.4 + 0.3 + 0.4 + 0.3) / 2)
    assert result.p_value == 1 / (PERMUTATIONS + 1)


def test_false_alarms_of_a_single_test_are_as_rare_as_its_p_value_says():
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(60):
        # Small samples, so that effects are not small.
        first, second = (Values(np.repeat(np.arange(8), 3), rng.normal(size=24)) for _ in range(2))
        p_values.append(difference(first, second).p_value)
    # Of 60 with a probability of 0.1 each 14 or more are less than 1% probable.
    assert (np.array(p_values) <= 0.1).sum() < 14


def test_the_lowest_p_value_is_low_enough_for_all_tests_and_bounds_are_those_of_cohen():
    assert len(STATISTICS) / (PERMUTATIONS + 1) < ALPHA
    for bound, d in ((MEDIUM, 0.5), (LARGE, 0.8)):
        assert bound == pytest.approx(2 * scipy.stats.norm.cdf(d / 2) - 1, abs=1e-3)
