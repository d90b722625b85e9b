"""What is known of a config, and that what is recommended can be passed to `--set`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from od_eval import ODEvalError, Pipeline
from od_eval.odapi.config_facts import config_facts

CONFIGS = Path(__file__).parents[2] / "pipeline_configs"
ZOO = sorted((Path(__file__).parents[1] / "data" / "zoo_configs").glob("*.config"))
SSD = CONFIGS / "ssd_mobilenet_v2_fpnlite_128x128.config"
FASTER_RCNN = CONFIGS / "faster_rcnn_resnet50_128x128.config"
CENTER_NET = CONFIGS / "centernet_resnet18_fpn_128x128.config"


def facts_of(path, *overrides):
    return config_facts(Pipeline.load(path, overrides))


def test_the_facts_of_an_ssd_are_those_of_its_config():
    facts = facts_of(SSD)
    assert (facts.architecture, facts.meta_architecture) == ("ssd_mobilenet_v2_fpn_keras", "ssd")
    assert (facts.input_height, facts.input_width, facts.num_classes) == (128, 128, 4)
    assert (facts.batch_size, facts.num_steps, facts.gradient_clipping) == (8, 500, 10.0)
    assert (facts.schedule, facts.learning_rate, facts.warmup_steps, facts.decay_steps) == (
        "cosine decay",
        0.02,
        100,
        500,
    )
    assert (facts.augmentations, facts.fine_tune_checkpoint) == (("random_horizontal_flip",), "")
    assert (facts.dropout, facts.l2_weight) == (False, 4e-5)
    assert (facts.max_detections_per_class, facts.max_total_detections) == (100, 100)
    assert (facts.score_threshold, facts.nms_iou_threshold) == (1e-8, 0.6)
    assert (facts.localization_weight, facts.classification_weight, facts.max_number_of_boxes) == (1.0, 1.0, 100)


def test_the_weights_of_a_faster_rcnn_are_those_of_its_second_stage():
    facts = facts_of(FASTER_RCNN)
    assert facts.meta_architecture == "faster_rcnn"
    assert (facts.localization_weight, facts.classification_weight) == (2.0, 1.0)
    assert facts.fields["score_threshold"].startswith("model.faster_rcnn.second_stage_post_processing.")


def test_a_center_net_has_no_suppression_unless_it_is_configured():
    facts = facts_of(CENTER_NET)
    assert (facts.nms_iou_threshold, facts.max_detections_per_class, facts.dropout) == (None, None, None)
    assert facts.setting(nms_iou_threshold=0.5, max_total_detections=300) == (
        "model.center_net.object_center_params.max_box_predictions=300",
    )
    nms = "model.center_net.post_processing.batch_non_max_suppression.iou_threshold"
    facts = facts_of(CENTER_NET, f"{nms}=0.45")
    assert facts.nms_iou_threshold == 0.45
    assert facts.fields["nms_iou_threshold"] == nms


@pytest.mark.parametrize("path", [*sorted(CONFIGS.glob("*.config")), *ZOO], ids=lambda path: path.stem)
def test_every_field_holds_the_fact_that_it_is_named_for(path):
    """What a fact says, written to its field, changes nothing; another number there is another fact."""
    pipeline = Pipeline.load(path)
    facts = config_facts(pipeline)
    numbers = {
        name: value
        for name, value in dataclasses.asdict(facts).items()
        if name in facts.fields and isinstance(value, int | float) and not isinstance(value, bool)
    }
    numbers = {name: value for name, value in numbers.items() if not name.startswith("input_")}
    assert {"num_classes", "batch_size", "learning_rate", "max_total_detections", "num_steps"} <= set(numbers)
    assert config_facts(Pipeline.load(path, facts.setting(**numbers))) == facts
    for name, value in numbers.items():
        if name == "learning_rate":
            continue
        changed = config_facts(Pipeline.load(path, [f"{facts.fields[name]}={value + 1}"]))
        assert getattr(changed, name) == pytest.approx(value + 1), name


def test_all_rates_change_with_the_highest():
    facts = facts_of(SSD)
    settings = facts.setting(learning_rate=0.002)
    assert len(settings) == 2
    changed = facts_of(SSD, *settings)
    assert changed.learning_rate == 0.002
    assert list(changed.rates.values()) == [pytest.approx(0.0006667), 0.002]


def test_the_highest_of_several_steps_is_the_rate_and_the_last_is_the_end_of_its_changes():
    steps = "train_config.optimizer={adam_optimizer: {learning_rate: {manual_step_learning_rate: {"
    steps += "initial_learning_rate: 0.0001 schedule {step: 50 learning_rate: 0.01} schedule {step: 300 learning_rate:"
    steps += " 0.001}}}}}"
    facts = facts_of(SSD, steps)
    assert (facts.schedule, facts.learning_rate, facts.warmup_steps, facts.decay_steps) == ("steps", 0.01, 50, 300)
    changed = facts_of(SSD, steps, *facts.setting(learning_rate=0.001, warmup_steps=20))
    assert (changed.learning_rate, changed.warmup_steps) == (0.001, 20)
    assert list(changed.rates.values()) == pytest.approx([0.00001, 0.001, 0.0001])


@pytest.mark.parametrize(
    ("resizer", "size"),
    [
        ("{fixed_shape_resizer {height: 96 width: 160}}", (96, 160)),
        ("{keep_aspect_ratio_resizer {min_dimension: 60 max_dimension: 90 pad_to_max_dimension: true}}", (90, 90)),
        ("{keep_aspect_ratio_resizer {min_dimension: 60 max_dimension: 90}}", (None, None)),
        ("{identity_resizer {}}", (None, None)),
    ],
)
def test_the_input_has_a_size_if_all_images_do(resizer, size):
    facts = facts_of(SSD, f"model.ssd.image_resizer={resizer}")
    assert (facts.input_height, facts.input_width) == size


def test_a_larger_input_can_be_set_for_both_ways_to_resize():
    facts = facts_of(CENTER_NET)
    changed = facts_of(CENTER_NET, *facts.setting(input_height=256, input_width=256))
    assert (changed.input_height, changed.input_width) == (256, 256)
    assert "min_dimension: 256" in Pipeline.load(CENTER_NET, facts.setting(input_height=256)).text()


def test_a_config_without_optimizer_and_box_predictor_has_facts(folder):
    facts = facts_of(folder / "pipeline.config")
    assert (facts.schedule, facts.learning_rate, facts.dropout, facts.l2_weight) == ("none", 0.0, None, None)
    assert facts.setting(learning_rate=0.1, dropout=True) == ()


def test_a_config_without_a_known_model_is_refused(folder):
    (folder / "pipeline.config").write_text("train_config { batch_size: 1 }")
    with pytest.raises(ODEvalError, match="none of ssd, faster_rcnn, center_net"):
        config_facts(Pipeline.load(folder / "pipeline.config", check=False))
