"""What is found in a config once its data are known, each beside data that nearly have it."""

from __future__ import annotations

from pathlib import Path

import pytest
from surveyed import in_every_image, survey

from od_eval import Pipeline
from od_eval.odapi import config_checks
from od_eval.odapi.config_checks import SurveyedData
from od_eval.odapi.config_facts import config_facts

ZOO = Path(__file__).parents[1] / "data" / "zoo_configs"
SSD = ZOO / "ssd_mobilenet_v1_fpn_640x640_coco17_tpu-8.config"
FASTER_RCNN = ZOO / "faster_rcnn_resnet101_v1_800x1333_coco17_gpu-8.config"
CENTER_NET = ZOO / "centernet_hourglass104_512x512_coco17_tpu-8.config"
NMS = "model.ssd.post_processing.batch_non_max_suppression"
# 100 images, a batch of 4 and 1,000 steps: 40 epochs.
SETTINGS = ["train_config.batch_size=4", "train_config.num_steps=1000"]
TRAIN = survey(in_every_image(2, 100))


def found(train=TRAIN, evaluation=(), *overrides, path=SSD):
    kind = Pipeline.load(path).meta_architecture
    pipeline = Pipeline.load(path, [f"model.{kind}.num_classes=1", *SETTINGS, *overrides])
    data = SurveyedData(pipeline.config, pipeline.source, config_facts(pipeline), train, evaluation)
    return list(config_checks.findings("data", data))


def kinds(*args, **kwargs):
    return [finding.kind for finding in found(*args, **kwargs)]


@pytest.mark.parametrize("path", [SSD, FASTER_RCNN, CENTER_NET])
def test_a_config_that_fits_its_data_has_no_findings(path):
    assert kinds(path=path) == []
    assert kinds(TRAIN, [survey(in_every_image(2, 100), name="eval_input_reader[0]")], path=path) == []


def test_nothing_is_said_of_no_data():
    assert kinds(survey([]), [survey([])]) == []


def test_a_model_with_more_classes_than_the_label_map_is_told_how_many_there_are():
    [finding] = found(TRAIN, [], "model.ssd.num_classes=90")
    assert str(finding) == (
        f"{SSD}: model.ssd.num_classes is 90, and the highest id of the label map is 1, so that 89 outputs"
        " learn nothing but to be silent; set it to 1."
    )
    assert finding.settings == ("model.ssd.num_classes=1",)


def test_boxes_beyond_the_limit_of_training_are_counted():
    crowded = [*in_every_image(2, 100), *[(7, 1, 0.2, 0.2, 0.6, 0.6)] * 110]  # 112 in image 7
    [finding] = found(survey(crowded))
    assert (finding.kind, finding.evidence) == (
        "boxes_cut_in_training",
        {"images": 1, "boxes_lost": 12, "most_boxes": 112},
    )
    assert "1 of 100 images have more than 100 boxes, the most 112" in str(finding)
    assert finding.images == ("record 7",)
    assert found(survey(crowded), [], *finding.settings) == []
    assert kinds(survey([*in_every_image(2, 100), *[(7, 1, 0.2, 0.2, 0.6, 0.6)] * 98])) == []  # exactly 100


def test_a_batch_larger_than_the_dataset_is_found():
    batch = "train_config.batch_size=128"
    assert "batch_larger_than_dataset" in kinds(TRAIN, [], batch, "train_config.num_steps=10")
    assert kinds(TRAIN, [], "train_config.batch_size=100", "train_config.num_steps=100") == []


@pytest.mark.parametrize(
    ("num_steps", "kind"),
    [(10, "few_epochs"), (99, "few_epochs"), (100, None), (25000, None), (25001, "many_epochs")],
)
def test_epochs_are_neither_few_nor_endless(num_steps, kind):
    steps = f"train_config.num_steps={num_steps}"
    [*findings] = found(TRAIN, [], steps)
    assert [finding.kind for finding in findings] == ([kind] if kind else [])
    for finding in findings:
        assert finding.evidence["epochs"] == pytest.approx(num_steps * 4 / 100)
        assert found(TRAIN, [], steps, *finding.settings) == []
        assert any(setting.endswith("total_steps=" + finding.settings[0].split("=")[1]) for setting in finding.settings)


def test_a_schedule_of_steps_is_shortened_with_the_training():
    train = survey(in_every_image(2, 100))
    [finding] = found(train, [], "train_config.num_steps=140000", path=CENTER_NET)
    schedule = "train_config.optimizer.adam_optimizer.learning_rate.manual_step_learning_rate.schedule"
    assert finding.settings == (
        "train_config.num_steps=7500",
        f"{schedule}[0].step=5062",  # 90,000 / 120,000 * 0.9 * 7,500
        f"{schedule}[1].step=6750",
    )


def test_steps_of_a_large_batch_are_needed_even_if_epochs_are_many():
    large = ["train_config.batch_size=64", "train_config.num_steps=3000"]
    assert kinds(TRAIN, [], *large) == []  # 1,920 epochs


def test_images_that_are_never_seen_are_certain():
    [finding] = found(TRAIN, [], "train_config.num_steps=10")
    assert "10 steps of 4 images are 0.4 epochs of 100 images, so that 60% of the images are never seen" in str(finding)
    assert finding.sureness == "certain"


def test_of_a_sample_nothing_is_concluded_from_the_number_of_images():
    sample = survey(in_every_image(2, 100), complete=False)
    assert kinds(sample, [], "train_config.num_steps=100000", "train_config.fine_tune_checkpoint=") == []


def test_few_images_without_a_checkpoint_are_too_few():
    scratch = "train_config.fine_tune_checkpoint="
    [finding] = found(TRAIN, [], scratch)
    assert finding.kind == "few_images_from_scratch"
    many = survey(in_every_image(1, 10_000))
    assert kinds(many, [], scratch, "train_config.num_steps=50000") == []


def test_objects_beyond_the_detections_of_an_image_are_counted():
    boxes = {"box": (0.1, 0.1, 0.6, 0.6)}
    crowded = survey(
        [*in_every_image(2, 100), *in_every_image(100, 1, **boxes), *in_every_image(60, 1, category=2, **boxes)],
        name="eval_input_reader[0]",
        categories=("cat", "dog"),
    )
    [finding] = found(TRAIN, [crowded], f"{NMS}.max_detections_per_class=90", f"{NMS}.max_total_detections=140")
    # 102 cats, of which 90 can be found, and 60 dogs: 150, of which 140 can be found: 22 of 162.
    assert finding.evidence == {
        "images": 1,
        "objects_lost": 22,
        "objects": 360,
        "max_total_detections": 162,
        "max_detections_per_class": 102,
    }
    assert (finding.severity, finding.impact) == ("warning", pytest.approx(22 / 360))
    assert "COCO's AP counts 100" in str(finding)
    assert found(TRAIN, [crowded], *finding.settings) == []


def test_objects_that_are_no_more_than_the_detections_are_none_beyond():
    full = survey(in_every_image(100, 100), name="eval_input_reader[0]")
    assert kinds(TRAIN, [full]) == []


def test_a_crowd_is_no_object_to_find():
    crowd = survey(in_every_image(150, 100), name="eval_input_reader[0]")
    crowd.objects["crowd"] = crowd.objects.index % 150 > 50
    assert kinds(TRAIN, [crowd]) == []


def test_more_detections_of_a_faster_rcnn_need_more_proposals():
    crowded = survey(in_every_image(150, 100), name="eval_input_reader[0]")
    [finding] = found(TRAIN, [crowded], path=FASTER_RCNN)
    assert "model.faster_rcnn.first_stage_max_proposals=450" in finding.settings
    assert found(TRAIN, [crowded], *finding.settings, path=FASTER_RCNN) == []


def test_a_center_net_has_one_limit():
    crowded = survey(in_every_image(150, 100), name="eval_input_reader[0]")
    [finding] = found(TRAIN, [crowded], path=CENTER_NET)
    assert finding.settings == ("model.center_net.object_center_params.max_box_predictions=150",)


def test_an_evaluation_of_few_images_or_few_objects_is_noted():
    [finding] = found(TRAIN, [survey(in_every_image(2, 99), name="eval_input_reader[0]")])
    assert (finding.kind, finding.severity, finding.where) == ("few_images_to_evaluate", "note", "eval_input_reader[0]")
    rare = [(row, 2, 0.2, 0.2, 0.6, 0.6) for row in range(9)]
    names = {"categories": ("cat", "a\ndog"), "name": "eval_input_reader[0]"}
    [finding] = found(TRAIN, [survey([*in_every_image(2, 100), *rare], **names)])
    assert "1 of 2 categories have fewer than 10 objects to evaluate: 'a\\ndog'" in str(finding)
    assert kinds(TRAIN, [survey([*in_every_image(2, 100), *rare, (9, 2, 0.2, 0.2, 0.6, 0.6)], **names)]) == []
