"""Good values of metrics, by convention."""

from od_eval.evaluation.good_values import good_values


def test_only_metrics_with_a_convention_are_named_in_the_order_given():
    assert good_values(["total_loss", "AP50", "AP", "AP75", "segm_AP"]) == "AP50 0.85–0.95, AP 0.45–0.65"
    assert good_values(["precision", "recall"]) == "precision over 0.9, recall over 0.9"
    assert good_values(["total_loss"]) == ""
