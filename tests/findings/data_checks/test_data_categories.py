"""Categories that are missing, rare or inseparable are found, in training data and between it and evaluation data."""

import numpy as np
import pytest

from made_surveys import survey
from od_eval.findings.data_checks import categories

BOX = (0.2, 0.2, 0.6, 0.6)
EVAL = "eval_input_reader[0]"


def found(check, *surveys):
    return list(check(*surveys, None))


def counted(cats, dogs, **columns):
    """So many images with a cat, and then so many with a dog."""
    return survey([(row, 1 if row < cats else 2, *BOX) for row in range(cats + dogs)], **columns)


def test_a_category_without_objects_is_found_in_training_data_only():
    (finding,) = found(categories.categories_without_objects, counted(50, 0))
    assert str(finding).startswith("train_input_reader: 1 of 2 categories has no object in 50 images ('dog')")
    assert finding.severity == "warning"
    (finding,) = found(categories.categories_without_objects, counted(50, 0, is_complete=False))
    assert (finding.severity, finding.sureness) == ("note", "possible")
    assert not found(categories.categories_without_objects, counted(50, 1))
    assert not found(categories.categories_without_objects, counted(50, 0, name=EVAL))


def test_a_category_in_ten_images_is_rare_and_in_eleven_is_not():
    (finding,) = found(categories.rare_categories, counted(50, 10))
    assert "'dog' in 10" in str(finding)
    assert not found(categories.rare_categories, counted(50, 11))
    assert not found(categories.rare_categories, counted(50, 10, is_complete=False))


def test_one_category_is_spoken_of_as_one():
    (finding,) = found(categories.rare_categories, survey([(0, 1, *BOX)], categories={1: "cat"}))
    assert str(finding) == (
        "train_input_reader: the only category is in 10 images or fewer ('cat' in 1), from which a model hardly learns"
        " to recognize others; add images of it (100 make a difference)."
    )
    (finding,) = found(categories.rare_categories, counted(50, 10))
    assert "add images of it (100 make a difference), or merge it with a similar category" in str(finding)
    (finding,) = found(categories.rare_categories, counted(5, 5))
    assert "2 of 2 categories are" in str(finding)
    assert "or merge them" in str(finding)


def test_many_objects_in_few_images_are_rare_too():
    boxes = [(row % 5, 1, *BOX) for row in range(100)] + [(row, 2, *BOX) for row in range(50)]
    (finding,) = found(categories.rare_categories, survey(boxes))
    assert finding.evidence == {"cat": 5}


@pytest.mark.parametrize(("cats", "dogs", "severity"), [(1500, 15, "warning"), (400, 20, "note"), (380, 20, None)])
def test_imbalance_is_found_by_how_many_times_more_objects_there_are(cats, dogs, severity):
    severities = [finding.severity for finding in found(categories.imbalanced_categories, counted(cats, dogs))]
    assert severities == ([severity] if severity else [])


def test_categories_in_the_same_images_are_found():
    together = [(row, category, *BOX) for row in range(30) for category in (1, 2)]
    others = [(row, 3, *BOX) for row in range(30, 60)]
    names = {1: "cup", 2: "saucer", 3: "pot"}
    (finding,) = found(categories.categories_always_together, survey([*together, *others], categories=names))
    assert finding.evidence == {"pairs": [["cup", "saucer"]]}
    assert "'cup' and 'saucer' are in the same 30 images of 30 with one of them" in str(finding)
    apart = [(row, 1, *BOX) for row in range(60, 63)]
    assert not found(categories.categories_always_together, survey([*together, *others, *apart], categories=names))


def test_categories_that_are_in_all_images_are_not_found():
    together = [(row, category, *BOX) for row in range(30) for category in (1, 2)]
    assert not found(categories.categories_always_together, survey(together))


def test_categories_that_are_drawn_by_chance_are_not_found_together():
    rng = np.random.default_rng(0)
    names = {category: str(category) for category in range(1, 41)}
    boxes = [(row, category, *BOX) for row in range(40) for category in names if rng.random() < 0.6]
    assert not found(categories.categories_always_together, survey(boxes, categories=names))


def test_a_category_that_is_evaluated_but_not_trained_is_an_error():
    (finding,) = found(categories.categories_missing_in_training, counted(50, 0), counted(5, 3, name=EVAL))
    assert finding.severity == "error"
    assert str(finding).startswith(
        f"{EVAL}: 1 of 2 categories with objects has none in 50 images of train_input_reader ('dog')"
    )
    assert finding.images == [f"{EVAL} image {row}" for row in (5, 6, 7)]
    (finding,) = found(
        categories.categories_missing_in_training, counted(50, 0, is_complete=False), counted(5, 3, name=EVAL)
    )
    assert (finding.severity, finding.sureness) == ("warning", "possible")


def test_categories_that_both_have_or_both_lack_are_not_missing():
    assert not found(categories.categories_missing_in_training, counted(50, 1), counted(5, 3, name=EVAL))
    assert not found(categories.categories_missing_in_training, counted(50, 0), counted(5, 0, name=EVAL))
    without_labels = survey(images=5, categories={}, name="deployment_images")
    for check in (value for value in vars(categories).values() if getattr(value, "looks_at", "") == "pair"):
        assert not found(check, counted(50, 0), without_labels)


def test_a_category_that_is_mostly_in_the_evaluation_data_is_found():
    (finding,) = found(categories.categories_rare_in_training, counted(50, 4), counted(50, 5, name=EVAL))
    assert finding.evidence == {"dog": [5, 4]}
    assert not found(categories.categories_rare_in_training, counted(50, 5), counted(50, 5, name=EVAL))
    assert not found(categories.categories_rare_in_training, counted(50, 11), counted(50, 15, name=EVAL))


def test_a_category_that_is_trained_but_not_evaluated_is_a_note():
    (finding,) = found(categories.categories_not_evaluated, counted(50, 20), counted(50, 0, name=EVAL))
    assert finding.severity == "note"
    assert "1 of 2 categories of train_input_reader has no object here ('dog')" in str(finding)
    assert not found(categories.categories_not_evaluated, counted(50, 20), counted(50, 1, name=EVAL))


def test_names_of_categories_are_shown_escaped():
    (finding,) = found(categories.rare_categories, survey([(0, 1, *BOX)], categories={1: "cat\n\x1b[31m"}))
    assert str(finding).isprintable()
