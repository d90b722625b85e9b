import numpy as np
import pytest

from made_evaluations import Detector, evidence_of, facts, simulate
from od_eval.findings.diagnoses.small_objects import small_objects_missed

BLIND = Detector(0.95, found_small=0.1)


def test_small_objects_that_are_missed_are_told_with_the_pixels_that_remain():
    evidence = evidence_of(simulate(BLIND), config=facts(input_height=200, input_width=200))
    (finding,) = small_objects_missed(evidence)
    objects = evidence.objects.query("kind == 'groundtruth'")
    small = objects[objects["area"] < objects["area"].quantile(0.25)]
    found = evidence.objects["score"].reindex(small["match_50"]) >= evidence.newest.operating_point["confidence"]
    assert finding.evidence["recall_small"] == pytest.approx(found.mean())
    side = np.sqrt(small["area"].median())
    # Images are 640 × 480.
    assert finding.evidence["side_at_input"] == pytest.approx(side * 200 / np.sqrt(640 * 480), rel=0.05)
    assert "larger input" in finding.remedy
    assert "anchor" in finding.remedy
    assert finding.sureness == "likely"
    assert [setting.rpartition("=")[2] for setting in finding.settings] == ["384", "384"]


def test_tiles_are_recommended_where_no_input_is_large_enough():
    evidence = evidence_of(simulate(BLIND), config=facts(input_height=64, input_width=64))
    (finding,) = small_objects_missed(evidence)
    assert "tiles" in finding.remedy
    assert finding.settings[0].endswith("height=128")


def test_with_enough_pixels_anchors_and_examples_are_what_is_missing():
    evidence = evidence_of(simulate(BLIND), config=facts(input_height=640, input_width=640))
    (finding,) = small_objects_missed(evidence)
    assert "anchors or examples" in finding.cause
    assert not finding.settings
    assert finding.sureness == "possible"


def test_small_objects_that_are_found_somewhat_less_often_are_no_finding():
    evidence = evidence_of(simulate(Detector(0.95, found_small=0.55)))
    sizes = evidence.newest.sizes
    assert sizes["small"]["AP"] < sizes["large"]["AP"] - 0.1
    assert not list(small_objects_missed(evidence))


def test_few_objects_prove_nothing():
    assert not list(small_objects_missed(evidence_of(simulate(BLIND, images=8, per_image=2))))
