"""Overrides of a pipeline.config: field paths with values, and text proto."""

import pytest
from small_config import error_of, load

from od_eval.errors import ODEvalError
from od_eval.odapi.overrides import field_value, overridden, short_names


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
        ("eval_config.super_categories[0]={}", "'super_categories' is a map, whose entries are replaced together"),
        ("eval_config.super_categories[0].key=pet", "'super_categories' is a map, whose entries are replaced together"),
        ("eval_config.super_categories.key=pet", "'super_categories' is a map, whose entries are replaced together"),
        (f"train_config.freeze_variables[{'9' * 100}]=a", "there are not so many of 'freeze_variables'"),
        (f"eval_input_reader[{'9' * 100}].name=a", "there are not so many of 'eval_input_reader'"),
    ],
)
def test_an_override_that_does_not_fit_is_quoted_with_the_reason(folder, override, reason):
    message = error_of(load, folder, override)
    assert override in message
    assert reason in message


def test_an_override_replaces_the_entries_of_a_map(folder):
    config = load(
        folder,
        "eval_config.super_categories={key: 'fruit' value: 'apple'}",
        "eval_config.super_categories=[{key: 'pet' value: 'cat,dog'}, {key: 'car' value: 'taxi'}]",
    ).config
    assert dict(config.eval_config.super_categories) == {"pet": "cat,dog", "car": "taxi"}
    assert not load(folder, "eval_config.super_categories=[]").config.eval_config.super_categories


@pytest.mark.parametrize("override", ["train_config.fine_tune_checkpoint={}", "train_config.batch_size={}", "a {}"])
def test_an_override_with_half_a_character_is_refused(folder, override):
    # The terminal's encoding of a byte that is not UTF-8, and a lone surrogate.
    for half in ("\udcff", "\ud800"):
        message = error_of(load, folder, override.replace("{}", half))
        assert "has a character that is not valid Unicode" in message
        assert message.isprintable()


@pytest.mark.parametrize(
    "override", ["{}=1", "train_config.{}=1", "train_config.batch_size={}", "train_config {{ {} }}"]
)
def test_a_long_override_with_control_characters_is_quoted_in_short(folder, override):
    message = error_of(load, folder, override.format("\x1b[2J" + "x" * 10_000))
    assert message.isprintable()
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("train_config.batch_size=4", "train_config.batch_size", 4),
        ("train_config.use_bfloat16=true", "train_config.use_bfloat16", True),
        ("train_config.fine_tune_checkpoint=/a b/ckpt-0", "train_config.fine_tune_checkpoint", "/a b/ckpt-0"),
        ("train_config.fine_tune_checkpoint_version=V2", "train_config.fine_tune_checkpoint_version", "V2"),
        # As a float32, which the field is, it is 0.07999999821186066.
        ("train_config.gradient_clipping_by_norm=0.08", "train_config.gradient_clipping_by_norm", 0.08),
        ("train_config.freeze_variables=[a, b]", "train_config.freeze_variables[1]", "b"),
        (
            "train_config.data_augmentation_options=[{random_vertical_flip {}}]",
            "train_config.data_augmentation_options",
            "data_augmentation_options { random_vertical_flip { } }",
        ),
        (
            "train_config.data_augmentation_options=[{random_vertical_flip {}}]",
            "train_config.data_augmentation_options[0]",
            "random_vertical_flip { }",
        ),
        ("train_config.data_augmentation_options=[]", "train_config.data_augmentation_options", ""),
    ],
)
def test_the_value_of_a_field_is_what_was_set(folder, override, field, value):
    config = load(folder, override.replace("[a, b]", "['a', 'b']")).config
    before = config.SerializeToString(deterministic=True)
    found = field_value(config, field)
    assert (found, type(found)) == (value, type(value))
    assert config.SerializeToString(deterministic=True) == before


def test_a_field_that_there_is_not_has_no_value(folder):
    with pytest.raises(ODEvalError, match="did you mean 'batch_size'"):
        field_value(load(folder).config, "train_config.batch_siz")


def test_a_config_with_overrides_is_read_without_being_checked(folder, ssd_config):
    config = overridden(str(ssd_config), ["train_config.batch_size=3", "eval_config.metrics_set=no_such_set"])
    assert (config.train_config.batch_size, list(config.eval_config.metrics_set)) == (3, ["no_such_set"])


def test_short_names_are_the_shortest_ends_that_tell_fields_apart():
    assert short_names(["a.b.rate", "a.c.rate", "x.size", "size", "x.kind"], taken=["kind"]) == {
        "a.b.rate": "b.rate",
        "a.c.rate": "c.rate",
        "x.size": "x.size",
        "size": "size",
        "x.kind": "x.kind",
    }
