"""Text protos: a field given twice is an error with its line, wherever it is."""

import pytest
from small_config import CONFIG, load

from od_eval.errors import ODEvalError
from od_eval.label_map import read_label_map
from od_eval.odapi.pipeline import pipeline_pb2
from od_eval.text_proto import parse_text_proto


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "train_config {\n batch_size: 2\n batch_size: 3\n}",
            ":3: 'batch_size' is given twice in one TrainConfig; remove",
        ),
        ("train_config { num_steps: 1 }\ntrain_config { batch_size: 2 }", ":2: 'train_config' is given twice in one"),
        (
            "eval_input_reader { name: 'a'\n name: 'b' }",
            ":2: .* remove one of them, or give each its own eval_input_reader",
        ),
        ("model { ssd {}\n faster_rcnn {} }", ":2: 'faster_rcnn' is given beside 'ssd', and only one of them can be"),
    ],
)
def test_a_field_of_a_config_given_twice_is_an_error_with_its_line(text, message):
    with pytest.raises(ODEvalError, match=message):
        parse_text_proto(text, pipeline_pb2.TrainEvalPipelineConfig(), "a.config")


def test_repeated_fields_can_be_given_as_often_as_one_likes():
    config = pipeline_pb2.TrainEvalPipelineConfig()
    parse_text_proto("eval_input_reader { name: 'a' } eval_input_reader { name: 'b' }", config, "a.config")
    assert [reader.name for reader in config.eval_input_reader] == ["a", "b"]


def test_an_override_sets_again_what_the_config_has(folder):
    pipeline = load(folder, "train_config { batch_size: 5 }")
    assert pipeline.config.train_config.batch_size == 5


def test_classes_in_one_item_of_a_label_map_are_an_error_with_the_line(tmp_path):
    path = tmp_path / "label_map.pbtxt"
    path.write_text("item {\n id: 1\n name: 'plate'\n id: 2\n name: 'cup'\n}")
    with pytest.raises(
        ODEvalError, match=r"label_map.pbtxt:4: 'id' is given twice in one .* or give each its own item"
    ):
        read_label_map(path)


def test_a_byte_order_mark_is_no_part_of_a_config_or_label_map(folder):
    (folder / "pipeline.config").write_text(CONFIG, encoding="utf-8-sig")
    (folder / "label_map.pbtxt").write_text("item { id: 1 name: 'cat' }", encoding="utf-8-sig")
    assert load(folder).config.train_config.batch_size == 8
    assert read_label_map(folder / "label_map.pbtxt")[0].name == "cat"


def test_backslashes_of_windows_are_explained(folder):
    config = CONFIG.replace('"train-?????-of-00002"', r'"C:\temp\new.record"').replace(
        '"label_map.pbtxt"', r'"C:\a\b.pbtxt"', 1
    )
    (folder / "pipeline.config").write_text(config)
    pipeline = load(folder)
    with pytest.raises(ODEvalError) as error:
        pipeline.check_input("train_input_reader", pipeline.config.train_input_reader)
    assert r"'C:\temp\new.record' matches no file" in str(error.value)
    assert "write / or \\\\ instead of \\;" in str(error.value)
    (folder / "pipeline.config").write_text(config.replace(r"C:\temp", r"C:\Users"))
    with pytest.raises(ODEvalError, match=r"pipeline.config:\d+: a backslash in quotes begins an escape"):
        load(folder)
