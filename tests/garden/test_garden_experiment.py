"""Experiments of Model Garden: what breaks is changed and said, or refused with the remedy."""

import pytest
import yaml
from small_experiments import MASK_RCNN, RETINANET, SEGMENTATION, overrides

from od_eval.errors import ODEvalError
from od_eval.garden.experiment import load_experiment

NAME = "retinanet_resnetfpn_coco"


def remark_of(experiment, part):
    (remark,) = [remark for remark in experiment.remarks if part in remark]
    return remark


def test_a_file_and_overrides_are_merged_as_model_garden_does(shapes, tmp_path):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"trainer": {"train_steps": 7, "max_to_keep": 3}}))
    experiment = load_experiment(NAME, [str(tmp_path / "a.yaml")], overrides(RETINANET, shapes, steps=9))
    trainer = experiment.params.trainer
    assert (trainer.train_steps, trainer.max_to_keep) == (9, 3)
    assert experiment.kind == "boxes"
    assert experiment.is_evaluated


def test_categories_have_the_names_of_the_records(shapes):
    names = load_experiment(NAME, params_override=overrides(RETINANET, shapes)).categories
    assert names == {1: "circle", 2: "square", 3: "triangle", 4: "star"} or len(set(names.values())) == 4
    assert not any(name.startswith("class ") for name in names.values())


def test_source_ids_that_are_names_are_made_numbers(shapes):
    experiment = load_experiment(NAME, params_override=overrides(RETINANET, shapes))
    task = experiment.params.task
    assert task.train_data.decoder.simple_decoder.regenerate_source_id
    assert task.validation_data.decoder.simple_decoder.regenerate_source_id
    assert "'validation-000000.jpg'" in remark_of(experiment, "validation_data.decoder.simple_decoder.regenerate")


def test_the_last_batch_of_an_evaluation_is_kept(shapes):
    experiment = load_experiment(NAME, params_override=overrides(RETINANET, shapes))
    assert not experiment.params.task.validation_data.drop_remainder
    assert experiment.params.task.train_data.drop_remainder
    assert remark_of(experiment, "drop_remainder")


def test_no_object_of_an_evaluation_is_cut_off(shapes):
    cut = {"parser": {"max_num_instances": 1}}
    experiment = load_experiment(
        NAME, params_override=overrides(RETINANET, shapes, validation_data=cut, train_data=cut)
    )
    task = experiment.params.task
    assert task.validation_data.parser.max_num_instances == experiment.records.most_objects > 1
    assert remark_of(experiment, "the others would be missing in the metrics")
    assert task.train_data.parser.max_num_instances == 1  # which is another training
    assert "task.train_data.parser.max_num_instances=" in remark_of(experiment, "training takes 1 objects")


def test_steps_that_leave_images_out_are_said(shapes):
    experiment = load_experiment(NAME, params_override=overrides(RETINANET, shapes, trainer={"validation_steps": 1}))
    assert remark_of(experiment, "3 of 4 images are evaluated")


def test_pictures_of_model_garden_are_left_to_the_evaluations(shapes):
    experiment = load_experiment(
        "maskrcnn_resnetfpn_coco", params_override=overrides(MASK_RCNN, shapes, task={"allow_image_summary": True})
    )
    assert not experiment.params.task.allow_image_summary
    assert remark_of(experiment, "allow_image_summary")


def test_masks_of_0_and_255_are_binarized(shapes):
    experiment = load_experiment("maskrcnn_resnetfpn_coco", params_override=overrides(MASK_RCNN, shapes))
    task = experiment.params.task
    for data in (task.train_data, task.validation_data):
        assert data.decoder.simple_decoder.mask_binarize_threshold == 0
    assert experiment.kind == "masks"
    assert experiment.records.masks


def test_a_threshold_of_ones_own_stays(shapes):
    own = {"decoder": {"simple_decoder": {"mask_binarize_threshold": 0.5}}}
    experiment = load_experiment(
        "maskrcnn_resnetfpn_coco", params_override=overrides(MASK_RCNN, shapes, train_data=own)
    )
    assert experiment.params.task.train_data.decoder.simple_decoder.mask_binarize_threshold == 0.5


def test_a_segmentation_hands_out_its_logits(shapes):
    text = overrides(SEGMENTATION, shapes, task={"allow_image_summary": False})
    experiment = load_experiment("seg_deeplabv3_pascal", params_override=text)
    assert experiment.kind == "segmentation"
    assert experiment.params.task.allow_image_summary
    assert sorted(experiment.categories) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("retinanet_resnet_coco", "", "no experiment 'retinanet_resnet_coco'.*retinanet_resnetfpn_coco"),
        (NAME, "task.model.num_clases=5", "not valid: .*num_clases"),
        (NAME, "no_file.yaml", "not valid: .*no_file.yaml"),
        ("yolo_darknet", "", "YOLO of Model Garden trains on a GPU or a TPU only"),
        ("resnet_imagenet", "", "ImageClassificationTask, which is not evaluated here"),
        (NAME, "task.train_data.input_path=/none/train*", "/none/train.* does not match any files"),
    ],
)
def test_what_is_wrong_with_the_flags_is_said(name, override, message):
    with pytest.raises(ODEvalError, match=message):
        load_experiment(name, params_override=override)


@pytest.mark.parametrize(
    ("num_classes", "message"), [(4, "num_classes=5 has room for all, the background included"), (0, "say how many")]
)
def test_a_number_of_classes_without_room_for_those_of_the_records_is_refused(shapes, num_classes, message):
    model = {**RETINANET, "num_classes": num_classes}
    with pytest.raises(ODEvalError, match=message):
        load_experiment(NAME, params_override=overrides(model, shapes))
