"""Reading a pipeline.config, its paths and input readers, and writing it back."""

import shutil

import pytest
from small_config import CONFIG, error_of, load

from od_eval import Pipeline


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


def test_what_the_object_detection_api_cannot_make_an_input_of_is_said_in_a_sentence(ssd_config, config_overrides):
    crop = "train_config.data_augmentation_options=[]", "train_config.data_augmentation_options[0]={}"
    message = error_of(Pipeline.load(ssd_config, [*config_overrides, *crop]).train_dataset)
    assert "ssd_mobilenet_v2_96x96.config: input of training: the Object Detection API cannot run this: " in message


def test_evaluation_data_ends_even_where_the_config_says_without_end(ssd_config, config_overrides):
    pipeline = Pipeline.load(ssd_config, [*config_overrides, "eval_input_reader.num_epochs=0"])
    assert sum(1 for _ in pipeline.eval_dataset()) == 4


def test_an_eval_input_reader_that_is_not_there_is_answered_with_those_that_are(folder):
    for which in ("dusk", 2, -1):
        assert "it has: 0 ('day'), 1 ('night')" in error_of(load(folder).eval_dataset, which)


def test_every_config_of_the_model_zoo_loads(excerpt):
    configs = sorted((excerpt / "zoo_configs").glob("*.config"))
    assert len(configs) >= 14
    for config in configs:
        assert Pipeline.load(config).num_classes > 0


def test_every_config_of_this_repository_loads(ssd_config):
    for config in sorted(ssd_config.parent.glob("*.config")):
        assert Pipeline.load(config).num_classes > 0
