"""The statistics of a survey are those that pandas and SciPy compute in another way, and plain data."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from made_surveys import facts, random_survey, survey
from od_eval.findings.survey_statistics import input_sizes, statistics


@pytest.fixture(scope="module")
def made():
    return random_survey(5, 300)


def described(values):
    row = pd.Series(values).describe()
    return {
        "number": int(row["count"]),
        "mean": pytest.approx(row["mean"]),
        "min": pytest.approx(row["min"]),
        "quartiles": pytest.approx([row["25%"], row["50%"], row["75%"]]),
        "max": pytest.approx(row["max"]),
    }


def test_numbers_of_images_and_objects(made):
    result = statistics(made, None)
    merged = made.objects.merge(made.images, left_on="image", right_index=True)
    assert (result["images"], result["objects"], result["crowds"]) == (300, len(merged), 0)
    assert result["objects_per_image"] == described(merged.groupby("id").size())
    assert result["images_without_objects"] == 0
    counts = pd.crosstab(made.objects["image"], made.objects["category"])
    for category, row in result["categories"].items():
        assert row == {
            "name": made.categories[category],
            "objects": counts[category].sum(),
            "images": (counts[category] > 0).sum(),
        }


def test_sizes_and_shapes_of_boxes_at_the_input_size(made):
    result = statistics(made, facts())
    boxes = made.objects
    height, width = 320 * (boxes["ymax"] - boxes["ymin"]), 320 * (boxes["xmax"] - boxes["xmin"])
    area = height * width
    assert result["box_sides"] == described(area**0.5)
    assert result["box_heights"] == described(height)
    assert result["box_widths"] == described(width)
    cut = pd.cut(area, [0, 32**2, 96**2, np.inf], labels=["small", "medium", "large"]).value_counts(normalize=True)
    assert result["size_shares"] == pytest.approx(cut.to_dict())
    own = made.images.loc[boxes["image"], ["width", "height"]].to_numpy()
    assert result["box_aspect_ratios"] == described((width.to_numpy() * own[:, 0]) / (height.to_numpy() * own[:, 1]))


def test_without_a_config_boxes_are_as_large_as_in_their_images():
    result = statistics(survey([(0, 1, 0.0, 0.0, 0.5, 0.25)]), None)
    assert result["box_heights"]["mean"] == 240
    assert result["box_widths"]["mean"] == 160


def test_positions_are_a_histogram_of_centers(made):
    boxes = made.objects
    expected = scipy.stats.binned_statistic_2d(
        (boxes["ymin"] + boxes["ymax"]) / 2,
        (boxes["xmin"] + boxes["xmax"]) / 2,
        None,
        "count",
        bins=8,
        range=[[0, 1], [0, 1]],
    ).statistic
    np.testing.assert_array_equal(statistics(made, None)["positions"], expected)


def test_a_box_in_the_upper_right_is_in_the_first_row_and_last_column():
    positions = statistics(survey([(0, 1, 0.0, 0.9, 0.1, 1.0), (0, 1, 0.0, 1.0, 0.0, 1.1)]), None)["positions"]
    assert positions[0][7] == 2


def test_resolutions_modes_and_what_images_look_like(made):
    result = statistics(made, None)
    sizes = made.images["width"].astype(str) + "x" + made.images["height"].astype(str)
    assert {f"{one['width']}x{one['height']}": one["images"] for one in result["resolutions"]} == dict(
        sizes.value_counts()
    )
    assert [one["images"] for one in result["resolutions"]] == sorted(sizes.value_counts(), reverse=True)
    assert result["num_resolutions"] == 4
    assert result["modes"] == {"RGB": 300}
    assert result["image_aspect_ratios"] == described(made.images["width"] / made.images["height"])
    for column in ("brightness", "contrast", "saturation"):
        assert result[column] == described(made.images[column])


def test_crowds_are_no_objects_and_categories_without_objects_are_counted():
    result = statistics(survey([(0, 1, 0, 0, 1, 1), (0, 1, 0, 0, 1, 1, {"crowd": True})], images=2), None)
    assert (result["objects"], result["crowds"], result["images_without_objects"]) == (1, 1, 1)
    assert result["categories"][2] == {"name": "dog", "objects": 0, "images": 0}


def test_what_is_unknown_is_left_out():
    result = statistics(
        survey([(0, 1, 0, 0, 1, 1)], images=2, width=[0, 640], height=[0, 480], brightness=np.nan, mode=""), None
    )
    assert result["box_sides"] is None
    assert result["size_shares"] is None
    assert result["brightness"] is None
    assert result["num_decoded"] == 0
    assert result["modes"] == {}
    assert result["num_resolutions"] == 1


@pytest.mark.parametrize("images", [0, 3])
def test_of_nothing_there_are_statistics_too(images):
    result = statistics(survey(images=images), facts())
    assert (result["images"], result["objects"]) == (images, 0)
    assert np.sum(result["positions"]) == 0


def test_they_are_plain_data(made):
    for config in (None, facts()):
        text = json.dumps(statistics(made, config), allow_nan=False)
        assert json.loads(text)["images"] == 300


def test_a_resizer_that_keeps_the_aspect_ratio_scales_both_sides_until_one_is_reached():
    images = survey(images=3, width=[640, 2000, 300], height=[480, 500, 600]).images
    sizes = input_sizes(images, facts(resize_range=(600, 1024)))
    # To a shorter side of 600; to a longer side of 1024, as the shorter one would need 2400; to 1024 again.
    np.testing.assert_allclose(sizes["height"], [600, 256, 1024])
    np.testing.assert_allclose(sizes["width"], [800, 1024, 512])


def test_the_share_of_a_fixed_shape_is_known_without_the_size_of_images():
    sizes = input_sizes(survey(images=2, width=0, height=0).images, facts())
    np.testing.assert_array_equal(sizes, [[320, 320], [320, 320]])
    assert input_sizes(survey(images=2, width=0, height=0).images, None).isna().all().all()
