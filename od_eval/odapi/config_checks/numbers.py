"""Checks that numbers which decide how much memory is taken are such that any machine has it."""

from __future__ import annotations

from collections.abc import Iterator

from object_detection.protos import pipeline_pb2
from object_detection.utils import config_util

from od_eval.findings.finding import Finding
from od_eval.odapi.config_checks import has_num_classes, runs_at

_MOST_IN_BATCH = 2**16
_MOST_CLASSES = 10**5
_MOST_BOXES = 10**5
_MOST_TO_SHUFFLE = 10**7


@runs_at("load")
def numbers_that_take_memory(config: pipeline_pb2.TrainEvalPipelineConfig, source: str) -> Iterator[Finding]:
    """No number asks for memory that no machine has, of which TensorFlow dies or hangs without a word."""
    ranges = [
        ("train_config.batch_size", config.train_config.batch_size, 1, _MOST_IN_BATCH),
        ("train_config.max_number_of_boxes", config.train_config.max_number_of_boxes, 0, _MOST_BOXES),
        ("eval_config.batch_size", config.eval_config.batch_size, 1, _MOST_IN_BATCH),
    ]
    if has_num_classes(config.model):
        field = f"model.{config.model.WhichOneof('model')}.num_classes"
        ranges.append((field, config_util.get_number_of_classes(config.model), 0, _MOST_CLASSES))
    readers = [("train_input_reader", config.train_input_reader)]
    readers += [(f"eval_input_reader[{index}]", reader) for index, reader in enumerate(config.eval_input_reader)]
    for name, reader in readers:
        ranges.append((f"{name}.max_number_of_boxes", reader.max_number_of_boxes, 0, _MOST_BOXES))
        ranges.append((f"{name}.shuffle_buffer_size", reader.shuffle_buffer_size, 0, _MOST_TO_SHUFFLE))
    for field, value, least, most in ranges:
        if not least <= value <= most:
            yield Finding(
                "number_out_of_range",
                "error",
                source,
                f"{field} is {value}",
                f"choose a number from {least} to {most}",
                field=field,
                evidence={"value": value},
            )
