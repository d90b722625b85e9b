"""Reading, overriding and checking a pipeline.config."""

import re
import shutil

import pytest

from od_eval import ODEvalError, Pipeline

CONFIG = """
model {
  ssd {
    num_classes: 3
    image_resizer { fixed_shape_resizer { height: 96 width: 96 } }
    feature_extractor { type: "ssd_mobilenet_v2_keras" }
  }
}
train_config {
  batch_size: 8
  data_augmentation_options { random_horizontal_flip {} }
  data_augmentation_options { ssd_random_crop {} }
}
train_input_reader {
  label_map_path: "label_map.pbtxt"
  tf_record_input_reader { input_path: "train-?????-of-00002" }
}
eval_config {}
eval_input_reader {
  name: "day"
  label_map_path: "label_map.pbtxt"
  tf_record_input_reader { input_path: "day.record" }
}
eval_input_reader {
  name: "night"
  label_map_path: "label_map.pbtxt"
  tf_record_input_reader { input_path: "PATH_TO_BE_CONFIGURED/night.record" }
}
"""
LABEL_MAP = "".join(f"item {{ id: {number} name: 'class {number}' }}\n" for number in (1, 2, 3))


@pytest.fixture
def folder(tmp_path):
    """A folder with a config and the files it names."""
    (tmp_path / "pipeline.config").write_text(CONFIG)
    (tmp_path / "label_map.pbtxt").write_text(LABEL_MAP)
    for name in ("train-00000-of-00002", "train-00001-of-00002", "day.record"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def load(folder, *overrides):
    return Pipeline.load(folder / "pipeline.config", overrides)


def error_of(function, *args):
    with pytest.raises(ODEvalError) as raised:
        function(*args)
    return str(raised.value)


def test_a_misspelled_field_is_named_with_file_line_and_the_field_meant(folder):
    (folder / "pipeline.config").write_text(CONFIG.replace("batch_size: 8", "batch_sise: 8"))
    message = error_of(load, folder)
    assert f"{folder}/pipeline.config:10: " in message
    assert "TrainConfig has no field 'batch_sise'; did you mean 'batch_size'?" in message


@pytest.mark.parametrize(
    ("text", "line"),
    [(CONFIG.replace("height: 96", "height: tall"), 5), (CONFIG + "model {", len(CONFIG.splitlines()) + 1)],
)
def test_text_that_is_not_a_config_is_refused_with_its_line(folder, text, line):
    (folder / "pipeline.config").write_text(text)
    assert f"{folder}/pipeline.config:{line}: " in error_of(load, folder)


def test_a_config_that_is_not_there_a_folder_and_a_binary_file_are_named(folder):
    assert "'/no/such.config' does not exist" in error_of(Pipeline.load, "/no/such.config")
    assert "is a folder" in error_of(Pipeline.load, folder)
    (folder / "binary").write_bytes(b"\xff\xfe\x00\x80")
    assert "is not a text file" in error_of(Pipeline.load, folder / "binary")


def test_a_config_without_a_model_is_refused(folder):
    (folder / "pipeline.config").write_text("train_config { batch_size: 1 }")
    assert "`model` names no meta-architecture" in error_of(load, folder)


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("train_config.batch_size=4", "train_config.batch_size", 4),
        ("train_config { batch_size: 5 }", "train_config.batch_size", 5),
        ("train_config.batch_size = 6", "train_config.batch_size", 6),
        ("train_config.fine_tune_checkpoint=/a b/ckpt-0", "train_config.fine_tune_checkpoint", "/a b/ckpt-0"),
        ("train_config.fine_tune_checkpoint=''", "train_config.fine_tune_checkpoint", ""),
        ("train_config.use_bfloat16=true", "train_config.use_bfloat16", True),
        ("train_config.fine_tune_checkpoint_version=V2", "train_config.fine_tune_checkpoint_version", 2),
        (
            "model.ssd.image_resizer.fixed_shape_resizer.width=64",
            "model.ssd.image_resizer.fixed_shape_resizer.width",
            64,
        ),
        ("train_config.freeze_variables=Conv1", "train_config.freeze_variables", ["Conv1"]),
        ("train_config.freeze_variables=['a', 'b']", "train_config.freeze_variables", ["a", "b"]),
    ],
)
def test_an_override_sets_its_field(folder, override, field, value):
    config = load(folder, override).config
    for part in field.split("."):
        config = getattr(config, part)
    assert (list(config) if isinstance(value, list) else config) == value


def test_overrides_reach_into_repeated_fields(folder):
    config = load(
        folder,
        "eval_input_reader[1].name=dusk",
        "eval_input_reader[2]={name: 'dawn'}",
        "train_config.data_augmentation_options[1]={random_vertical_flip {}}",
        "train_input_reader.tf_record_input_reader.input_path[1]=more.record",
    ).config
    assert [reader.name for reader in config.eval_input_reader] == ["day", "dusk", "dawn"]
    options = config.train_config.data_augmentation_options
    assert [option.WhichOneof("preprocessing_step") for option in options] == [
        "random_horizontal_flip",
        "random_vertical_flip",
    ]
    assert list(config.train_input_reader.tf_record_input_reader.input_path)[1] == "more.record"
    assert not load(folder, "train_config.data_augmentation_options=[]").config.train_config.data_augmentation_options


def test_an_override_without_a_value_takes_a_message_out_and_no_number(folder):
    config = load(folder, "model.ssd.image_resizer=", "train_config.data_augmentation_options=").config
    assert not config.model.ssd.HasField("image_resizer")
    assert not config.train_config.data_augmentation_options
    assert "override 'train_config.batch_size='" in error_of(load, folder, "train_config.batch_size=")


def test_overrides_are_applied_in_order_and_text_proto_appends_to_repeated_fields(folder):
    config = load(folder, "train_config.batch_size=4", "train_config { batch_size: 2 freeze_variables: 'a' }").config
    assert config.train_config.batch_size == 2
    assert list(config.train_config.freeze_variables) == ["a"]


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("train_config.batch_sise=4", "did you mean 'batch_size'?"),
        ("train_config.batch_size=many", "Couldn't parse integer: many"),
        ("train_config.batch_size.unit=4", "'batch_size' is a value and has no fields"),
        ("eval_input_reader.name=a", "there are 2 of 'eval_input_reader'; say which"),
        ("eval_input_reader[7].name=a", "there are only 2 of 'eval_input_reader'"),
        ("train_config[0].batch_size=4", "'train_config' is not repeated"),
        ("train_config.batch_size[0]=4", "'batch_size' is not repeated"),
        ("train_config {", "Expected"),
    ],
)
def test_an_override_that_does_not_fit_is_quoted_with_the_reason(folder, override, reason):
    message = error_of(load, folder, override)
    assert override in message
    assert reason in message


def test_relative_paths_are_found_beside_the_config_unless_the_working_directory_has_them(
    folder, monkeypatch, tmp_path
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    reader = load(folder).config.train_input_reader
    assert reader.label_map_path == str(folder / "label_map.pbtxt")
    assert list(reader.tf_record_input_reader.input_path) == [str(folder / "train-?????-of-00002")]
    shutil.copy(folder / "label_map.pbtxt", elsewhere)
    assert load(folder).config.train_input_reader.label_map_path == str(elsewhere / "label_map.pbtxt")


def test_the_config_as_run_is_written_and_reads_back_the_same_from_anywhere(folder, monkeypatch, tmp_path):
    pipeline = load(folder, "train_config.batch_size=3")
    pipeline.save(tmp_path / "run")
    monkeypatch.chdir("/")
    assert Pipeline.load(tmp_path / "run" / "pipeline.config").config == pipeline.config


def test_a_config_that_lies_in_the_model_dir_stays_as_its_owner_wrote_it(folder):
    load(folder, "train_config.batch_size=3").save(folder)
    assert (folder / "pipeline.config").read_text() == CONFIG


def test_record_files_without_anything_in_them_are_refused(folder):
    assert f"record files of train_input_reader are empty ({folder}/train-00000-of-00002)" in error_of(
        load(folder).train_dataset
    )


def test_what_the_object_detection_api_cannot_make_an_input_of_is_said_in_a_sentence(ssd_config, config_overrides):
    crop = "train_config.data_augmentation_options=[]", "train_config.data_augmentation_options[0]={}"
    message = error_of(Pipeline.load(ssd_config, [*config_overrides, *crop]).train_dataset)
    assert "ssd_mobilenet_v2_96x96.config: input of training: the Object Detection API cannot run this: " in message


def test_evaluation_data_ends_even_where_the_config_says_without_end(ssd_config, config_overrides):
    pipeline = Pipeline.load(ssd_config, [*config_overrides, "eval_input_reader.num_epochs=0"])
    assert sum(1 for _ in pipeline.eval_dataset()) == 4


def test_input_that_would_stop_the_training_is_named_before_it_starts(folder):
    def error_with(*overrides):
        return error_of(load(folder, *overrides).train_dataset)

    path = "train_input_reader.tf_record_input_reader.input_path"
    assert f"{path} 'nowhere-*' matches no file" in error_with(f"{path}=nowhere-*")
    assert f"{path}[1] 'b' matches no file" in error_with(f"{path}=['{folder}/day.record', 'b']")
    assert f"--set {path}=PATH" in error_with(f"{path}=PATH_TO_BE_CONFIGURED/a")
    assert "names no records" in error_with(f"{path}=[]")
    assert "train_input_reader.label_map_path is still" in error_with(
        "train_input_reader.label_map_path=PATH_TO_BE_CONFIGURED"
    )
    assert "label map 'missing.pbtxt' does not exist" in error_with("train_input_reader.label_map_path=missing.pbtxt")
    assert "still 'PATH_TO_BE_CONFIGURED/night.record'" in error_of(load(folder).eval_dataset, "night")


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


def test_an_eval_input_reader_that_is_not_there_is_answered_with_those_that_are(folder):
    for which in ("dusk", 2, -1):
        assert "it has: 0 ('day'), 1 ('night')" in error_of(load(folder).eval_dataset, which)


def test_every_config_of_the_model_zoo_loads(shared_data):
    configs = sorted((shared_data / "zoo_configs").glob("*.config"))
    assert len(configs) >= 14
    for config in configs:
        assert Pipeline.load(config).num_classes > 0


EXTRACTOR = "model.ssd.feature_extractor.type"


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
        f" write the nearest there, '{nearest}', or pass --set {EXTRACTOR}={nearest}."
    )
    load(folder, f"{EXTRACTOR}={name}", f"{EXTRACTOR}={nearest}")


@pytest.mark.parametrize(
    ("model", "name", "answer"),
    [
        ("faster_rcnn", "faster_rcnn_resnet101", "write the nearest there, 'faster_rcnn_resnet101_keras'"),
        ("faster_rcnn", "faster_rcnn_inception_v2", "write the nearest there, 'faster_rcnn_resnet50_keras'"),
        ("faster_rcnn", "faster_rcnn_nas", "write the nearest there, 'faster_rcnn_inception_resnet_v2_keras'"),
        ("faster_rcnn", "faster_rcnn_pnas", "write the nearest there, 'faster_rcnn_inception_resnet_v2_keras'"),
        ("faster_rcnn", "ssd_resnet50_v1_fpn_keras", "which belongs to model.ssd"),
        ("center_net", "resnet_v1_50", "write the nearest there, 'resnet_v1_50_fpn'"),
        ("center_net", "vgg", "there are 'resnet_v2_50', "),
        ("center_net", "", "is not set; there are 'resnet_v2_50', "),
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
            assert "write the nearest there" in error_of(load, folder, "model.ssd=", f"{field}={name}")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            [f"{EXTRACTOR}=ssd_mobilenet_v1_keras", "model.ssd.feature_extractor.fpn={min_level: 3 max_level: 7}"],
            "model.ssd.feature_extractor.fpn is { min_level: 3 max_level: 7 }, and 'ssd_mobilenet_v1_keras' has no such"
            " option in TF2; take it out, or pass --set model.ssd.feature_extractor.fpn=.",
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
            "train_config.load_all_detection_checkpoint_vars is true, which the Object Detection API has in TF1 only;",
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


def test_quantization_aware_training_is_refused_and_an_override_takes_it_out(shared_data):
    config = shared_data / "odapi_files" / "test_data" / "ssd_mobilenet_v1_fpp.config"
    mended = [f"{EXTRACTOR}=ssd_mobilenet_v1_keras"]
    assert f"{config}: graph_rewriter asks for quantization-aware training" in error_of(Pipeline.load, config, mended)
    assert not Pipeline.load(config, [*mended, "graph_rewriter="]).config.HasField("graph_rewriter")


def test_a_config_of_tf1_loads_once_its_messages_were_followed(shared_data):
    """To the letter: each `--set` that a message names is passed until there is no message."""
    configs = sorted((shared_data / "odapi_files").rglob("*.config"))
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


def test_every_config_of_this_repository_loads(ssd_config):
    for config in sorted(ssd_config.parent.glob("*.config")):
        assert Pipeline.load(config).num_classes > 0
