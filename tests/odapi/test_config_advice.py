"""What is advised about a config before training, each piece beside a config that nearly needs it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import tensorflow as tf

from od_eval import Pipeline
from od_eval.odapi import config_checks
from od_eval.odapi.config_checks import check_pipeline
from od_eval.odapi.config_facts import config_facts

# Importable since od_eval.odapi was imported.
from object_detection.utils import learning_schedules  # isort: skip

CONFIGS = Path(__file__).parents[2] / "pipeline_configs"
ZOO = Path(__file__).parents[1] / "data" / "zoo_configs"
SSD = ZOO / "ssd_mobilenet_v2_fpnlite_320x320_coco17_tpu-8.config"
FASTER_RCNN = ZOO / "faster_rcnn_resnet101_v1_800x1333_coco17_gpu-8.config"
CENTER_NET = ZOO / "centernet_hourglass104_512x512_coco17_tpu-8.config"
CENTER_NET_OF_ADAM = CONFIGS / "centernet_resnet18_fpn_128x128.config"
RATE = "train_config.optimizer.momentum_optimizer.learning_rate.cosine_decay_learning_rate"
ADAM = "train_config.optimizer.adam_optimizer.learning_rate.cosine_decay_learning_rate"
NMS = "model.ssd.post_processing.batch_non_max_suppression"
BIAS = "model.ssd.box_predictor.weight_shared_convolutional_box_predictor.class_prediction_bias_init"
GRID = "model.faster_rcnn.first_stage_anchor_generator.grid_anchor_generator"
FOCAL = "model.center_net.object_center_params.classification_loss.penalty_reduced_logistic_focal_loss"


def advice(path, *overrides):
    pipeline = Pipeline.load(path, overrides)
    return list(config_checks.findings("advice", pipeline.config, pipeline.source, config_facts(pipeline)))


def kinds(path, *overrides):
    return [finding.kind for finding in advice(path, *overrides)]


def the_only(path, *overrides):
    [finding] = advice(path, *overrides)
    return finding


@pytest.mark.parametrize("path", sorted(ZOO.glob("*.config")), ids=lambda path: path.stem)
def test_the_configs_of_the_model_zoo_need_no_advice_but_on_bfloat16(path):
    assert kinds(path, "train_config.use_bfloat16=false") == []
    has_accelerator = bool(tf.config.list_physical_devices("GPU"))
    expected = Pipeline.load(path).config.train_config.use_bfloat16 and not has_accelerator
    assert kinds(path) == ["bfloat16_on_cpu"] * expected


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.config")), ids=lambda path: path.stem)
def test_the_configs_of_this_repository_get_no_warning(path):
    """Their Faster R-CNNs train batch normalization with 2 images, for which they have their reasons."""
    expected = ["batch_normalization_of_few_images"] if "rcnn" in path.stem else []
    found = advice(path)
    assert [finding.kind for finding in found] == expected
    assert {finding.severity for finding in found} <= {"note"}


# One line per piece of advice: a config that needs it, and one that nearly does.
@pytest.mark.parametrize(
    ("kind", "path", "needs_it", "nearly"),
    [
        ("long_warmup", SSD, [f"{RATE}.warmup_steps=25001"], [f"{RATE}.warmup_steps=25000"]),
        ("decay_ends_early", SSD, [f"{RATE}.total_steps=49000"], [f"{RATE}.total_steps=49600"]),
        ("decay_not_finished", SSD, [f"{RATE}.total_steps=80000"], [f"{RATE}.total_steps=60000"]),
        (
            "decay_not_finished",
            CENTER_NET,
            ["train_config.num_steps=120000"],
            ["train_config.num_steps=120001"],
        ),
        (
            "decay_within_warmup",
            SSD,
            [f"{RATE}.total_steps=1000", "train_config.num_steps=5000"],
            [f"{RATE}.total_steps=1001", "train_config.num_steps=1002", f"{RATE}.warmup_steps=500"],
        ),
        ("warmup_above_highest_rate", SSD, [f"{RATE}.learning_rate_base=0.02"], [f"{RATE}.learning_rate_base=0.03"]),
        ("learning_rate_of_larger_batch", SSD, ["train_config.batch_size=8"], ["train_config.batch_size=32"]),
        (
            "high_learning_rate_without_clipping",
            SSD,
            ["train_config.batch_size=16"],
            ["train_config.batch_size=16", "train_config.gradient_clipping_by_norm=10"],
        ),
        (
            "high_learning_rate_of_adam",
            CENTER_NET_OF_ADAM,
            [f"{ADAM}.learning_rate_base=0.01"],
            [f"{ADAM}.learning_rate_base=0.005"],
        ),
        (
            "low_learning_rate_of_adam",
            CENTER_NET_OF_ADAM,
            [f"{ADAM}.learning_rate_base=1e-7", f"{ADAM}.warmup_learning_rate=0"],
            [f"{ADAM}.learning_rate_base=1e-5", f"{ADAM}.warmup_learning_rate=0"],
        ),
        (
            "no_learning_rate",
            SSD,
            [f"{RATE}.learning_rate_base=0", f"{RATE}.warmup_learning_rate=0"],
            [f"{RATE}.warmup_learning_rate=0"],
        ),
        (
            "no_augmentation",
            SSD,
            ["train_config.data_augmentation_options=[]"],
            ["train_config.data_augmentation_options=[{random_adjust_hue {}}]"],
        ),
        ("no_background_bias", SSD, [f"{BIAS}=0"], [f"{BIAS}=-2"]),
        (
            "background_outweighs_objects",
            SSD,
            ["model.ssd.loss.classification_loss={weighted_sigmoid {}}"],
            [
                "model.ssd.loss.classification_loss={weighted_sigmoid {}}",
                "model.ssd.loss.hard_example_miner={max_negatives_per_positive: 3}",
            ],
        ),
        (
            "loss_without_weight",
            SSD,
            ["model.ssd.loss.localization_weight=0"],
            ["model.ssd.loss.localization_weight=0.5"],
        ),
        (
            "unequal_loss_weights",
            FASTER_RCNN,
            ["model.faster_rcnn.second_stage_localization_loss_weight=10"],
            ["model.faster_rcnn.second_stage_localization_loss_weight=9"],
        ),
        ("high_score_threshold", SSD, [f"{NMS}.score_threshold=0.3"], [f"{NMS}.score_threshold=0.05"]),
        ("extreme_suppression", SSD, [f"{NMS}.iou_threshold=0.95"], [f"{NMS}.iou_threshold=0.8"]),
        ("extreme_suppression", SSD, [f"{NMS}.iou_threshold=0.1"], [f"{NMS}.iou_threshold=0.3"]),
        (
            "extreme_suppression",
            SSD,
            [f"{NMS}.iou_threshold=1.0"],
            [f"{NMS}.iou_threshold=1.0", f"{NMS}.soft_nms_sigma=0.5"],
        ),
        (
            "contradictory_limits_of_detections",
            SSD,
            [f"{NMS}.max_detections_per_class=200"],
            [f"{NMS}.max_total_detections=300"],
        ),
        (
            "contradictory_limits_of_detections",
            SSD,
            ["model.ssd.num_classes=1", f"{NMS}.max_total_detections=300"],
            ["model.ssd.num_classes=3", f"{NMS}.max_total_detections=300"],
        ),
        ("anchors_beside_features", FASTER_RCNN, [f"{GRID}.height_stride=8"], [f"{GRID}.height_stride=16"]),
        ("focal_loss_without_exponent", CENTER_NET, [f"{FOCAL}.beta=0"], [f"{FOCAL}.beta=3"]),
        (
            "batch_normalization_of_few_images",
            SSD,
            ["train_config.batch_size=2", *config_facts(Pipeline.load(SSD)).setting(learning_rate=0.002)],
            [
                "train_config.batch_size=2",
                *config_facts(Pipeline.load(SSD)).setting(learning_rate=0.002),
                "model.ssd.freeze_batchnorm=true",
            ],
        ),
    ],
)
def test_advice_is_given_where_it_is_needed_and_followed_it_is_not_given_again(kind, path, needs_it, nearly):
    finding = the_only(path, *needs_it)
    assert finding.kind == kind
    assert kinds(path, *nearly) == []
    assert finding.field
    if finding.settings:
        assert kinds(path, *needs_it, *finding.settings) == []
    assert "\n" not in str(finding)
    assert str(finding).endswith(".")
    assert not str(finding).endswith("..")


def test_what_is_said_has_the_numbers_and_the_consequence():
    assert str(the_only(SSD, f"{RATE}.total_steps=20000")) == (
        f"{SSD}: total_steps of the cosine decay is 20000 and num_steps 50000, so that the rate is 0 in the last 30000"
        f" steps, which change nothing; set {RATE}.total_steps to num_steps, 50000."
    )


def test_a_rate_for_a_larger_batch_is_lowered_in_proportion_with_its_warmup():
    finding = the_only(SSD, "train_config.batch_size=4")
    assert "12.8 times the highest that the model zoo trains with" in str(finding)  # 0.08 / (0.8 / 512 * 4)
    facts = config_facts(Pipeline.load(SSD, ["train_config.batch_size=4", *finding.settings]))
    assert (facts.learning_rate, facts.gradient_clipping) == (0.0025, 10.0)  # 0.08 / 128 * 4
    assert next(iter(facts.rates.values())) == pytest.approx(0.0025 / 3, rel=1e-3)


def test_what_is_called_impossible_of_a_cosine_is_refused_or_not_a_number():
    schedule = {"global_step": tf.constant(10, tf.int64), "learning_rate_base": 0.1, "warmup_learning_rate": 0.01}
    with pytest.raises(ValueError, match="total_steps must be larger"):
        learning_schedules.cosine_decay_with_warmup(**schedule, total_steps=9, warmup_steps=10)
    rate = learning_schedules.cosine_decay_with_warmup(**schedule, total_steps=10, warmup_steps=10)
    assert math.isnan(rate() if callable(rate) else rate)
    rate = learning_schedules.cosine_decay_with_warmup(**schedule, total_steps=11, warmup_steps=10)
    assert float(rate() if callable(rate) else rate) == pytest.approx(0.1)


def test_the_last_rate_of_a_cosine_is_what_the_object_detection_api_computes():
    finding = the_only(SSD, f"{RATE}.total_steps=90000", f"{RATE}.hold_base_rate_steps=5000")
    rate = learning_schedules.cosine_decay_with_warmup(
        tf.constant(50000, tf.int64), 0.08, 90000, 0.026666, 1000, hold_base_rate_steps=5000
    )
    rate = float(rate() if callable(rate) else rate)
    assert finding.evidence["last_rate_of_highest"] == pytest.approx(rate / 0.08, abs=1e-3)


def test_a_decay_by_powers_that_hardly_decays_is_noted():
    decay = (
        "train_config.optimizer={momentum_optimizer: {learning_rate: {exponential_decay_learning_rate:"
        " {initial_learning_rate: 0.01 decay_factor: 0.95 decay_steps: %d}}}}"
    )
    finding = the_only(SSD, decay % 800720)
    assert (finding.kind, finding.severity, finding.evidence["last_rate_of_first"]) == ("decay_not_finished", "note", 1)
    assert kinds(SSD, decay % 2000) == []  # 0.95 ** 25 = 0.28


# ---- Augmentations against categories -------------------------------------------------------------------------------


def with_categories(tmp_path, names):
    path = tmp_path / "label_map.pbtxt"
    path.write_text("".join(f"item {{ id: {number} name: '{name}' }}\n" for number, name in enumerate(names, 1)))
    return f"train_input_reader.label_map_path={path}"


@pytest.mark.parametrize(
    ("augmentation", "names", "pair"),
    [
        ("random_horizontal_flip", ["left_hand", "right_hand"], "'left_hand' and 'right_hand'"),
        ("random_horizontal_flip", ["turnRight", "stop", "turnLeft"], "'turnRight' and 'turnLeft'"),
        ("random_vertical_flip", ["arrow up", "arrow down"], "'arrow up' and 'arrow down'"),
        ("random_rotation90", ["arrow-left", "arrow-up"], "'arrow-left' and 'arrow-up'"),
    ],
)
def test_an_augmentation_that_makes_one_category_of_another_is_a_fault(tmp_path, augmentation, names, pair):
    overrides = [
        f"train_config.data_augmentation_options=[{{{augmentation} {{}}}}, {{random_crop_image {{max_area: 0.5}}}}]",
        with_categories(tmp_path, names),
    ]
    finding = the_only(SSD, *overrides)
    assert f"has {augmentation}, and there are categories {pair}" in str(finding)
    pipeline = Pipeline.load(SSD, [*overrides, *finding.settings])
    [kept] = pipeline.config.train_config.data_augmentation_options
    assert kept.random_crop_image.max_area == 0.5
    assert kinds(SSD, *overrides, *finding.settings) == []


@pytest.mark.parametrize(
    ("augmentation", "names"),
    [
        ("random_horizontal_flip", ["arrow up", "arrow down"]),
        ("random_horizontal_flip", ["left_hand", "right_foot"]),  # no pair
        ("random_horizontal_flip", ["copyright", "copyleft"]),  # parts of words
        ("random_vertical_flip", ["left_hand", "right_hand"]),
        ("random_horizontal_flip", ["1", "2", "3"]),  # numbers for kinds of things
        ("random_adjust_hue", list("0123456789")),
    ],
)
def test_an_augmentation_that_leaves_categories_what_they_are_is_none(tmp_path, augmentation, names):
    assert (
        kinds(
            SSD,
            f"train_config.data_augmentation_options=[{{{augmentation} {{}}}}]",
            with_categories(tmp_path, names),
        )
        == []
    )


def test_characters_are_not_to_be_mirrored(tmp_path):
    finding = the_only(SSD, with_categories(tmp_path, "0123456789"))
    assert "10 of 10 categories are single characters (0, 1, 2, 3, 4, …)" in str(finding)
    assert finding.sureness == "possible"


@pytest.mark.parametrize("text", ["item {", None])
def test_a_label_map_that_cannot_be_read_is_a_finding_of_another_stage(tmp_path, text):
    path = tmp_path / "label_map.pbtxt"
    if text:
        path.write_text(text)
    assert kinds(SSD, f"train_input_reader.label_map_path={path}") == []


# ---- The checkpoint -------------------------------------------------------------------------------------------------


def checkpoint(tmp_path, root):
    weights = tf.train.Checkpoint(layer=tf.Variable(1.0))
    return tf.train.Checkpoint(**{root: weights}).write(str(tmp_path / "ckpt-0"))


@pytest.mark.parametrize(
    ("root", "said", "right"),
    [
        ("model", "classification", "detection"),
        ("feature_extractor", "detection", "classification"),
        ("feature_extractor", "full", "classification"),
    ],
)
def test_a_checkpoint_of_another_kind_than_its_type_is_an_error(tmp_path, root, said, right):
    overrides = [
        f"train_config.fine_tune_checkpoint={checkpoint(tmp_path, root)}",
        f"train_config.fine_tune_checkpoint_type={said}",
    ]
    finding = the_only(SSD, *overrides)
    assert (finding.kind, finding.severity) == ("fine_tune_checkpoint_of_another_type", "error")
    assert finding.settings == (f"train_config.fine_tune_checkpoint_type={right}",)
    assert kinds(SSD, *overrides, *finding.settings) == []


@pytest.mark.parametrize("said", ["classification", "detection"])
def test_a_checkpoint_of_whatever_else_is_none_of_its_business(tmp_path, said):
    path = checkpoint(tmp_path, "network")
    assert (
        kinds(SSD, f"train_config.fine_tune_checkpoint={path}", f"train_config.fine_tune_checkpoint_type={said}") == []
    )


def test_advice_is_listed_with_the_findings_of_the_other_stages():
    pipeline = Pipeline.load(SSD, [f"{RATE}.total_steps=20000"], check=False)
    found = list(check_pipeline(pipeline))
    assert [finding.kind for finding in found if finding.severity == "warning"] == ["decay_ends_early"]
    assert "placeholder" in {finding.kind for finding in found}
