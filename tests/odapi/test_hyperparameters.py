"""Hyperparameters of a pipeline.config."""

from __future__ import annotations

from pathlib import Path

import pytest

from od_eval.odapi.hyperparameters import hyperparameters
from od_eval.odapi.pipeline import Pipeline

OWN_CONFIGS = sorted((Path(__file__).parents[2] / "pipeline_configs").glob("*.config"))


def test_the_values_are_those_of_the_config(ssd_config):
    assert hyperparameters(Pipeline.load(ssd_config).config) == {
        "architecture": "ssd_mobilenet_v2_keras",
        "input_size": "96x96",
        "batch_size": 8,
        "learning_rate": 0.001,
        "augmentations": "random_horizontal_flip",
        "optimizer": "adam",
        "schedule": "cosine decay",
        "warmup_steps": 20,
        "moving_average": False,
        "num_steps": 200,
        "num_classes": 4,
        "fine_tune_checkpoint": "none",
        "bfloat16": False,
    }


def test_every_config_has_the_same_names_and_types(ssd_config, excerpt):
    def types(path):
        return {name: type(value) for name, value in hyperparameters(Pipeline.load(path).config).items()}

    configs = [*OWN_CONFIGS, *sorted((excerpt / "zoo_configs").glob("*.config"))]
    assert len(configs) > 15
    assert {path.name: types(path) for path in configs} == dict.fromkeys(
        [path.name for path in configs], types(ssd_config)
    )


@pytest.mark.parametrize(
    ("name", "architecture", "input_size"),
    [
        ("centernet_resnet18_fpn_128x128", "center_net resnet_v1_18_fpn", "keep aspect 128..128 padded to 128x128"),
        ("mask_rcnn_resnet50_128x128", "faster_rcnn_resnet50_keras with masks", "128x128"),
    ],
)
def test_every_family_says_what_it_is(ssd_config, name, architecture, input_size):
    found = hyperparameters(Pipeline.load(ssd_config.with_name(f"{name}.config")).config)
    assert (found["architecture"], found["input_size"]) == (architecture, input_size)


@pytest.mark.parametrize(
    ("resizer", "input_size"),
    [
        ("keep_aspect_ratio_resizer { min_dimension: 600 max_dimension: 1024 }", "keep aspect 600..1024"),
        ("fixed_shape_resizer { height: 300 width: 400 }", "300x400"),
        ("identity_resizer {}", "as it is"),
        ("conditional_shape_resizer { condition: GREATER size_threshold: 500 }", "at most 500"),
        ("conditional_shape_resizer { condition: SMALLER size_threshold: 500 }", "at least 500"),
        ("pad_to_multiple_resizer { multiple: 32 }", "multiple of 32"),
    ],
)
def test_every_way_to_resize_an_image_has_words(ssd_config, resizer, input_size):
    pipeline = Pipeline.load(ssd_config, overrides=f"model.ssd.image_resizer={{ {resizer} }}")
    assert hyperparameters(pipeline.config)["input_size"] == input_size


@pytest.mark.parametrize(
    ("learning_rate", "schedule"),
    [
        ("constant_learning_rate { learning_rate: 0.08 }", ("constant", 0.08, 0)),
        ("exponential_decay_learning_rate { initial_learning_rate: 0.04 }", ("exponential decay", 0.04, 0)),
        (
            "exponential_decay_learning_rate { initial_learning_rate: 0.04 burnin_steps: 10 }",
            ("exponential decay", 0.04, 10),
        ),
        (
            "manual_step_learning_rate { initial_learning_rate: 0.5 schedule { step: 9 learning_rate: 0.25 } }",
            ("steps", 0.5, 0),
        ),
        (
            "manual_step_learning_rate { initial_learning_rate: 0 warmup: true"
            " schedule { step: 9 learning_rate: 0.25 } schedule { step: 90 learning_rate: 0.1 } }",
            ("steps", 0.25, 9),
        ),
        ("cosine_decay_learning_rate { learning_rate_base: 0.8 warmup_steps: 30 }", ("cosine decay", 0.8, 30)),
        ("", ("none", 0.0, 0)),
    ],
)
def test_every_schedule_has_its_highest_rate_and_the_steps_to_it(ssd_config, learning_rate, schedule):
    override = f"train_config.optimizer={{ momentum_optimizer {{ learning_rate {{ {learning_rate} }} }} }}"
    found = hyperparameters(Pipeline.load(ssd_config, overrides=override).config)
    assert (found["schedule"], found["learning_rate"], found["warmup_steps"]) == schedule
    assert found["optimizer"] == "momentum"
    assert found["moving_average"] is True  # the Object Detection API's default


def test_what_is_taken_over_of_a_checkpoint_is_named(ssd_config):
    overrides = ["train_config.fine_tune_checkpoint=/somewhere/ckpt-0", "train_config.fine_tune_checkpoint_type=full"]
    assert hyperparameters(Pipeline.load(ssd_config, overrides).config)["fine_tune_checkpoint"] == "full"


def test_augmentations_are_listed_in_their_order(ssd_config):
    overrides = ["train_config { data_augmentation_options { ssd_random_crop {} } }"]
    found = hyperparameters(Pipeline.load(ssd_config, overrides).config)
    assert found["augmentations"] == "random_horizontal_flip, ssd_random_crop"
    none = hyperparameters(Pipeline.load(ssd_config, "train_config.data_augmentation_options=[]").config)
    assert none["augmentations"] == "none"
