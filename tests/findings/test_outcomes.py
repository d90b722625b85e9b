import dataclasses

import pytest

from made_evaluations import Detector, evidence_of, simulate
from made_images import CATEGORIES, evaluated, random_images
from od_eval.evaluation.object_columns import as_pandas
from od_eval.findings.evidence import Evidence
from od_eval.findings.outcomes import is_early, most_first, percent


def test_counts_are_those_of_the_operating_point_also_with_crowds():
    evaluator = evaluated(random_images(3), CATEGORIES)
    result = evaluator.evaluate()
    table = as_pandas(evaluator.analysis.tables["bbox"])
    assert table["crowd"].any()
    judged = Evidence(evaluations=(result,), load_objects=lambda: table).outcomes
    expected = result.operating_point["bbox"]
    assert len(judged.right) == expected["tp"] == judged.objects["found"].sum()
    assert len(judged.wrong) == expected["fp"]
    assert len(judged.objects) == expected["num_groundtruth"]
    assert (judged.precision, judged.recall) == pytest.approx((expected["precision"], expected["recall"]))


def test_without_an_operating_point_the_confidence_is_the_one_that_the_evaluation_would_choose():
    evidence = evidence_of(simulate(Detector(0.6), images=40))
    chosen = evidence.newest.operating_point["confidence"]
    bare = dataclasses.replace(evidence, evaluations=())
    assert bare.outcomes.confidence == pytest.approx(chosen)
    assert Evidence().outcomes is None


def test_images_come_by_their_number_of_rows_as_plain_values():
    judged = evidence_of(simulate(Detector(0.6), images=10)).outcomes
    images = most_first(judged.detections)
    counts = judged.detections["image_id"].value_counts()
    assert [counts[image] for image in images] == sorted(counts, reverse=True)
    assert all(type(image) is int for image in images)


def test_only_the_first_half_of_a_training_is_early():
    evidence = evidence_of(simulate(Detector(), images=5), last_step=1999)
    assert not is_early(evidence)  # step 1000
    assert is_early(dataclasses.replace(evidence, last_step=2001))
    assert not is_early(dataclasses.replace(evidence, last_step=None))
    assert not is_early(dataclasses.replace(evidence, last_step=9999, stopped_early=True))


def test_percent_has_a_decimal_only_below_ten():
    assert [percent(share) for share in (0.0, 0.042, 0.0996, 0.374, 1.0)] == ["0%", "4.2%", "10%", "37%", "100%"]
