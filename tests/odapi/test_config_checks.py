"""What the checks of a pipeline.config find, one after the other as it is raised, and all of it in a list."""

import re
from typing import get_args

import pytest
from small_config import error_of, load

from od_eval import ODEvalError, Pipeline
from od_eval.discovery import modules_of
from od_eval.odapi import config_checks
from od_eval.odapi.config_checks import check_pipeline

EXTRACTOR = "model.ssd.feature_extractor.type"


# ---- The config alone -----------------------------------------------------------------------------------------------


def test_a_config_without_a_model_is_refused(folder):
    (folder / "pipeline.config").write_text("train_config { batch_size: 1 }")
    assert "`model` names no meta-architecture" in error_of(load, folder)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ssd_mobilenet_v1", "ssd_mobilenet_v1_keras"),
        ("ssd_resnet101_v1_fpn", "ssd_resnet101_v1_fpn_keras"),
        ("ssd_inception_v3", "ssd_mobilenet_v2_keras"),
        ("ssd_mobiledet_edgetpu", "ssd_mobilenet_v2_keras"),
        ("ssd_mobilenet_v3_small", "ssd_mobilenet_v2_keras"),
        ("ssd_mobilenet_v2_mnasfpn", "ssd_mobilenet_v2_fpn_keras"),
        ("ssd_resnet152_v1_ppn", "ssd_resnet152_v1_fpn_keras"),
        ("embedded_ssd_mobilenet_v1", "ssd_mobilenet_v1_keras"),
        ("ssd_efficientnet_b3_bifpn_keras", "ssd_efficientnet-b3_bifpn_keras"),
        ("ssd_mobilnet_v2_fpn_keras", "ssd_mobilenet_v2_fpn_keras"),
    ],
)
def test_a_feature_extractor_that_there_is_not_in_tf2_is_answered_with_the_nearest(folder, name, nearest):
    assert error_of(load, folder, f"{EXTRACTOR}={name}") == (
        f"{folder}/pipeline.config: {EXTRACTOR} is '{name}', which the Object Detection API does not have in TF2;"
        f" use the nearest one, '{nearest}', or pass --set {EXTRACTOR}={nearest}."
    )
    load(folder, f"{EXTRACTOR}={name}", f"{EXTRACTOR}={nearest}")


@pytest.mark.parametrize(
    ("model", "name", "answer"),
    [
        ("faster_rcnn", "faster_rcnn_resnet101", "use the nearest one, 'faster_rcnn_resnet101_keras'"),
        ("faster_rcnn", "faster_rcnn_inception_v2", "use the nearest one, 'faster_rcnn_resnet50_keras'"),
        ("faster_rcnn", "faster_rcnn_nas", "use the nearest one, 'faster_rcnn_inception_resnet_v2_keras'"),
        ("faster_rcnn", "faster_rcnn_pnas", "use the nearest one, 'faster_rcnn_inception_resnet_v2_keras'"),
        ("faster_rcnn", "ssd_resnet50_v1_fpn_keras", "which belongs to model.ssd"),
        ("center_net", "resnet_v1_50", "use the nearest one, 'resnet_v1_50_fpn'"),
        ("center_net", "vgg", "choose one of 'resnet_v2_50', "),
        ("center_net", "", "is not set; choose one of 'resnet_v2_50', "),
    ],
)
def test_every_meta_architecture_has_feature_extractors_of_its_own(folder, model, name, answer):
    message = error_of(load, folder, "model.ssd=", f"model.{model}.feature_extractor.type={name}")
    assert f"pipeline.config: model.{model}.feature_extractor.type is " in message
    assert answer in message


def test_every_feature_extractor_of_tf1_is_answered_with_one_of_tf2(folder):
    """As many as its `model_builder` has under TF1; some are answered above."""
    tf1 = {
        "ssd": "ssd_inception_v2 ssd_mobilenet_v1_fpn ssd_mobilenet_v1_ppn ssd_mobilenet_v2 ssd_mobilenet_v2_fpn"
        " ssd_mobilenet_v3_large ssd_mobilenet_edgetpu ssd_resnet50_v1_fpn ssd_resnet152_v1_fpn ssd_resnet50_v1_ppn"
        " ssd_resnet101_v1_ppn ssd_pnasnet ssd_mobiledet_cpu ssd_mobiledet_dsp ssd_mobiledet_gpu ssd_spaghettinet",
        "faster_rcnn": "faster_rcnn_inception_resnet_v2 faster_rcnn_resnet50 faster_rcnn_resnet152",
    }
    for model, names in tf1.items():
        for name in names.split():
            field = f"model.{model}.feature_extractor.type"
            assert "use the nearest one" in error_of(load, folder, "model.ssd=", f"{field}={name}")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            [f"{EXTRACTOR}=ssd_mobilenet_v1_keras", "model.ssd.feature_extractor.fpn={min_level: 3 max_level: 7}"],
            "model.ssd.feature_extractor.fpn is { min_level: 3 max_level: 7 }, and 'ssd_mobilenet_v1_keras' has no such"
            " option in TF2; remove it, or pass --set model.ssd.feature_extractor.fpn=.",
        ),
        (
            ["model.ssd.feature_extractor.spaghettinet_arch_name=spaghettinet_edgetpu_s"],
            "model.ssd.feature_extractor.spaghettinet_arch_name is 'spaghettinet_edgetpu_s', and",
        ),
        (
            ["model.ssd=", "model.experimental_model.name=mine"],
            "model.experimental_model.name is 'mine', and the Object Detection API has none under experimental_model;",
        ),
        (
            ["model.ssd.box_predictor.convolutional_box_predictor.conv_hyperparams.group_norm={}"],
            "model.ssd.box_predictor.convolutional_box_predictor.conv_hyperparams.group_norm is set, which the",
        ),
        (
            ["train_config.load_all_detection_checkpoint_vars=true"],
            "train_config.load_all_detection_checkpoint_vars is true, which the Object Detection API only has in TF1;",
        ),
        (
            ["train_config.fine_tune_checkpoint_version=V1", "train_config.fine_tune_checkpoint=/a/model.ckpt"],
            "train_config.fine_tune_checkpoint_version is V1, and checkpoints of TF1 cannot be loaded in TF2"
            " (fine_tune_checkpoint is '/a/model.ckpt');",
        ),
    ],
)
def test_what_the_object_detection_api_has_in_tf1_only_is_refused_at_load(folder, overrides, message):
    assert error_of(load, folder, *overrides).startswith(f"{folder}/pipeline.config: {message}")


def test_the_version_of_a_checkpoint_is_not_asked_where_none_is_said_or_none_is_loaded(folder):
    load(folder, "train_config.fine_tune_checkpoint=/a/ckpt-0")
    load(folder, "train_config.fine_tune_checkpoint_version=V1")


def test_quantization_aware_training_is_refused_and_an_override_takes_it_out(excerpt):
    config = excerpt / "odapi_files" / "test_data" / "ssd_mobilenet_v1_fpp.config"
    mended = [f"{EXTRACTOR}=ssd_mobilenet_v1_keras"]
    assert f"{config}: graph_rewriter asks for quantization-aware training" in error_of(Pipeline.load, config, mended)
    assert not Pipeline.load(config, [*mended, "graph_rewriter="]).config.HasField("graph_rewriter")


def test_a_config_of_tf1_loads_once_its_messages_were_followed(excerpt):
    """To the letter: each `--set` that a message names is passed until there is no message."""
    configs = sorted((excerpt / "odapi_files").rglob("*.config"))
    assert len(configs) >= 6
    for config in configs:
        overrides = []
        for _ in range(5):
            try:
                Pipeline.load(config, overrides)
                break
            except ODEvalError as error:
                overrides.append(re.search(r"--set ([\w.]+=\w*)", str(error))[1])
        else:
            pytest.fail(f"{config} still does not load with {overrides}")


# ---- Its files ------------------------------------------------------------------------------------------------------


def test_input_that_would_stop_the_training_is_named_before_it_starts(folder):
    def error_with(*overrides):
        return error_of(load(folder, *overrides).train_dataset)

    path = "train_input_reader.tf_record_input_reader.input_path"
    assert f"{path} 'nowhere-*' matches no file" in error_with(f"{path}=nowhere-*")
    assert f"{path}[1] 'b' matches no file" in error_with(f"{path}=['{folder}/day.record', 'b']")
    assert f"--set {path}=PATH" in error_with(f"{path}=PATH_TO_BE_CONFIGURED/a")
    assert "has no input_path" in error_with(f"{path}=[]")
    assert "train_input_reader.label_map_path is still" in error_with(
        "train_input_reader.label_map_path=PATH_TO_BE_CONFIGURED"
    )
    assert "label map 'missing.pbtxt' does not exist" in error_with("train_input_reader.label_map_path=missing.pbtxt")
    assert "still 'PATH_TO_BE_CONFIGURED/night.record'" in error_of(load(folder).eval_dataset, "night")


def test_a_label_map_where_no_file_system_is_reached_is_named(folder):
    pipeline = load(folder, "train_input_reader.label_map_path=nowhere://a")
    message = error_of(pipeline.check_input, "eval_input_reader[0]", pipeline.config.eval_input_reader[0])
    assert "train_input_reader.label_map_path cannot be looked up: 'nowhere://a': this TensorFlow has no" in message


@pytest.mark.parametrize("field", ["freeze_variables", "update_trainable_variables"])
@pytest.mark.parametrize("pattern", ["(", "a{99999999999}", "*"])
def test_a_pattern_of_variables_that_is_no_regular_expression_is_refused_at_load(folder, field, pattern):
    message = error_of(load, folder, f"train_config.{field}=['box.*', '{pattern}']")
    assert f"train_config.{field}[1] '{pattern}' is no regular expression (" in message


@pytest.mark.parametrize(
    ("field", "value", "most"),
    [
        ("train_config.batch_size", 0, 65536),
        ("train_config.batch_size", 4294967295, 65536),
        ("train_config.max_number_of_boxes", 2147483647, 100000),
        ("eval_config.batch_size", 0, 65536),
        ("eval_config.batch_size", 4294967295, 65536),
        ("model.ssd.num_classes", -5, 100000),
        ("model.ssd.num_classes", 2147483647, 100000),
        ("train_input_reader.max_number_of_boxes", -1, 100000),
        ("eval_input_reader[1].max_number_of_boxes", 2147483647, 100000),
        ("train_input_reader.shuffle_buffer_size", 4294967295, 10000000),
    ],
)
def test_a_number_that_would_take_all_memory_is_refused_at_load(folder, field, value, most):
    message = error_of(load, folder, f"{field}={value}")
    assert f": {field} is {value}; choose a number from " in message
    assert message.endswith(f" to {most}.")


def test_a_placeholder_is_called_a_placeholder(folder):
    config = load(folder, "train_config.fine_tune_checkpoint=PATH_TO_BE_CONFIGURED/ckpt-0").config
    first = next(config_checks.findings("fine_tuning", config.train_config))
    assert str(first).startswith("train_config.fine_tune_checkpoint is still 'PATH_TO_BE_CONFIGURED/ckpt-0'; write")
    assert first.kind == "placeholder"


@pytest.mark.parametrize(
    "override",
    [
        "model.ssd.feature_extractor.type={}",
        "model {{ experimental_model {{ name: '{}' }} }}",
        "eval_input_reader[1].name=../{}",
        "eval_config.metrics_set={}",
        "train_config.freeze_variables=({}",
    ],
)
def test_a_name_of_ten_thousand_characters_is_shortened(folder, override):
    pipeline = Pipeline.load(folder / "pipeline.config", override.format("a" * 10_000), check=False)
    found = [str(finding) for finding in config_checks.check_pipeline(pipeline)]
    assert any("aaa…aaa" in sentence for sentence in found)
    assert all(len(sentence) < 1500 for sentence in found)


@pytest.mark.parametrize(
    ("label_map", "reason"),
    [
        ("item { id: 1 name: 'a' }\n\nitem {\n  id: 0\n  name: 'cat'\n}", ":4: 'cat' has id 0; ids start at 1"),
        ("", "has no item"),
        ("item { id: 1 name: 'a' } item { id: 1 name: 'b' }", "id 1 is given to 'a' and to 'b'"),
        ("item { id: 4 name: 'd' }", "'d' has id 4, but num_classes of the model is 3"),
        ("item { id: 1 nam: 'd' }", ":1: StringIntLabelMapItem has no field 'nam'; did you mean 'name'?"),
    ],
)
def test_a_label_map_that_cannot_be_right_is_refused(folder, label_map, reason):
    (folder / "label_map.pbtxt").write_text(label_map)
    message = error_of(load(folder).train_dataset)
    assert str(folder / "label_map.pbtxt") in message
    assert reason in message


def test_record_files_without_anything_in_them_are_refused(folder):
    assert f"record files of train_input_reader are empty ({folder}/train-00000-of-00002)" in error_of(
        load(folder).train_dataset
    )


# ---- All in a list --------------------------------------------------------------------------------------------------


def listed(folder, *overrides, model_dir=None):
    """All that the checks find in a config, as sentences."""
    pipeline = Pipeline.load(folder / "pipeline.config", overrides, check=False)
    return [str(finding) for finding in check_pipeline(pipeline, model_dir)]


NIGHT = "eval_input_reader[1].tf_record_input_reader.input_path"
WHOLE = [
    "train_input_reader.tf_record_input_reader.input_path=day.record",
    f"{NIGHT}=day.record",
]


@pytest.fixture
def whole(folder):
    """A folder with a config in which the overrides of WHOLE leave nothing to find."""
    (folder / "day.record").write_bytes(b"some bytes")
    assert listed(folder, *WHOLE) == []
    return folder


def test_a_config_that_can_be_run_has_no_findings(ssd_config, config_overrides):
    overrides = [*config_overrides, "train_config.fine_tune_checkpoint=", "train_config.batch_size=4"]
    pipeline = Pipeline.load(ssd_config, overrides, check=False)
    assert list(check_pipeline(pipeline, "runs/a")) == []


def test_every_fault_is_listed_and_the_first_is_the_one_that_is_raised_at_load(whole):
    faults = [
        f"{EXTRACTOR}=ssd_mobilenet_v1",
        "model.ssd.box_predictor.convolutional_box_predictor.conv_hyperparams.group_norm={}",
        "graph_rewriter={}",
        "train_config.load_all_detection_checkpoint_vars=true",
        "train_config.fine_tune_checkpoint=/a/ckpt-0",
        "train_input_reader.tf_record_input_reader.input_path=['nowhere-*', 'PATH_TO_BE_CONFIGURED/b']",
        f"{NIGHT}=[]",
        "eval_config.metrics_set=['coco_mask_metrics', 'coco_panoptic_metrics', 'coco_mask_metrics']",
        "eval_config.use_moving_averages=true",
        "train_config.optimizer.use_moving_average=false",
    ]
    sentences = listed(whole, *WHOLE, *faults, model_dir="/a")
    source = f"{whole}/pipeline.config: "
    patterns = "train_input_reader.tf_record_input_reader.input_path"
    beginnings = [
        f"{source}{EXTRACTOR} is 'ssd_mobilenet_v1', which",
        f"{source}model.ssd.box_predictor.convolutional_box_predictor.conv_hyperparams.group_norm is set, which",
        f"{source}graph_rewriter asks for quantization-aware training, which",
        f"{source}train_config.load_all_detection_checkpoint_vars is true, which",
        f"{source}{patterns}[0] 'nowhere-*' matches no file (looked in ",
        f"{source}{patterns}[1] is still 'PATH_TO_BE_CONFIGURED/b'; write",
        f"{source}eval_input_reader[1] has no input_path; set eval_input_reader[1].",
        "eval_config.metrics_set: the Object Detection API only has coco_panoptic_metrics in TF1; remove it",
        "eval_config.metrics_set asks for coco_mask_metrics, but the model predicts no masks; remove it.",
        "eval_config.use_moving_averages is true, but train_config.optimizer.use_moving_average is false",
        "train_config.fine_tune_checkpoint '/a/ckpt-0' does not exist: /a/ckpt-0.index is missing; correct the path",
        "train_config.fine_tune_checkpoint '/a/ckpt-0' is in model_dir, where",
    ]
    assert [sentence[: len(expected)] for sentence, expected in zip(sentences, beginnings, strict=True)] == beginnings
    assert error_of(load, whole, *WHOLE, *faults) == sentences[0]


def test_each_finding_says_in_one_sentence_what_to_do_about_which_field(whole):
    pipeline = Pipeline.load(
        whole / "pipeline.config",
        ["graph_rewriter={}", "eval_config.metrics_set=coco_panoptic_metrics", "train_input_reader.label_map_path=x"],
        check=False,
    )
    findings = list(check_pipeline(pipeline))
    assert [(finding.kind, finding.field) for finding in findings] == [
        ("quantization_aware_training", "graph_rewriter"),
        ("cannot_be_checked", None),
        ("empty_record_files", "train_input_reader.tf_record_input_reader.input_path"),
        ("placeholder", NIGHT),
        ("panoptic_metrics", "eval_config.metrics_set"),
    ]
    for finding in findings:
        assert finding.severity == "error"
        assert "\n" not in str(finding)
        assert str(finding).endswith(".")
        assert not str(finding).endswith("..")


def test_what_comes_after_the_first_error_is_not_looked_for(folder, monkeypatch):
    def read(*_):
        raise AssertionError("the label map was read")

    monkeypatch.setattr("od_eval.odapi.config_checks.inputs.read_label_map", read)
    assert "matches no file" in error_of(
        load(folder, "train_input_reader.tf_record_input_reader.input_path=nowhere-*").train_dataset
    )


@pytest.mark.parametrize("text", ["item { id: 0 name: 'cat' }", "item {", None])
def test_a_label_map_that_cannot_be_read_is_listed_once_and_does_not_end_the_list(whole, text):
    path = whole / "label_map.pbtxt"
    path.write_text(text) if text else path.unlink()
    later = [
        "eval_config.use_moving_averages=true",
        "train_config.optimizer.use_moving_average=false",
        "train_config.fine_tune_checkpoint=x",
    ]
    sentences = listed(whole, *WHOLE, *later)
    assert [sentence for sentence in sentences if "use_moving_averages" in sentence]
    assert "train_config.fine_tune_checkpoint 'x' does not exist" in sentences[-1]
    # Of a file that is missing, each field that names it is one to correct.
    about_it = [sentence for sentence in sentences if "label_map" in sentence]
    assert len(about_it) == (1 if text else 3)
    with pytest.raises(ODEvalError) as raised:
        load(whole, *WHOLE).train_dataset()
    assert str(raised.value) == about_it[0]


def test_a_label_map_that_is_not_configured_is_one_finding_of_each_reader(whole):
    placeholders = [
        f"{reader}.label_map_path=PATH_TO_BE_CONFIGURED" for reader in ("train_input_reader", "eval_input_reader[0]")
    ]
    sentences = listed(whole, *WHOLE, *placeholders)
    assert [re.search(r": (\S+) is still", sentence)[1] for sentence in sentences] == [
        "train_input_reader.label_map_path",
        "eval_input_reader[0].label_map_path",
    ]


def test_a_config_without_a_model_is_checked_for_what_else_is_wrong_with_it(folder):
    (folder / "pipeline.config").write_text("eval_input_reader { label_map_path: 'nowhere' } eval_config {}")
    sentences = listed(folder)
    assert "`model` names no meta-architecture" in sentences[0]
    assert any("train_input_reader has no input_path" in sentence for sentence in sentences)
    assert any("label map 'nowhere' does not exist" in sentence for sentence in sentences)


def test_every_metrics_set_that_there_is_not_is_named_once_and_by_no_consequence(whole):
    sentences = listed(whole, *WHOLE, "eval_config.metrics_set=['coco', 'voc', 'coco']")
    assert [re.search(r"there are no metrics '(\w+)'", sentence)[1] for sentence in sentences] == ["coco", "voc"]


def test_every_module_of_checks_is_found_without_a_list():
    stages = get_args(config_checks.Stage)
    found = {check.__module__ for stage in stages for check in config_checks.checks_of(stage)}
    assert found == {module.__name__ for module in modules_of(config_checks)}
    assert all(config_checks.checks_of(stage) for stage in stages)


# ---- Evaluation sets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["day", "day"], "two eval_input_readers are called 'day' and would write to the same run"),
        (["day", "a/../day"], "two eval_input_readers are called 'a/../day'"),
        (["../train", "night"], "eval_input_reader[0].name '../train' is not the name of a folder below the run eval"),
        (["/tmp", "night"], "eval_input_reader[0].name '/tmp' is not the name of a folder"),
        (["day", "train"], "eval_input_reader[1] is called 'train', and so is the sample of the training data"),
    ],
)
def test_names_of_readers_are_names_of_runs(folder, names, message):
    overrides = [f"eval_input_reader[{index}].name={name}" for index, name in enumerate(names)]
    pipeline = load(folder, *overrides)
    sentences = [
        str(finding) for finding in config_checks.findings("evaluation_sets", pipeline.config, pipeline.source)
    ]
    assert len(sentences) == 1
    assert sentences[0].startswith(f"{folder}/pipeline.config: {message}")
    assert sentences[0] in [str(finding) for finding in check_pipeline(pipeline)]


def test_names_that_differ_and_a_config_without_any_reader(folder):
    pipeline = load(folder)
    assert not list(config_checks.findings("evaluation_sets", pipeline.config, pipeline.source))
    pipeline = load(folder, "eval_input_reader=")
    [finding] = config_checks.findings("evaluation_sets", pipeline.config, pipeline.source)
    assert str(finding) == (
        f"{folder}/pipeline.config has no eval_input_reader; add one, or train with eval_every_n=0."
    )
