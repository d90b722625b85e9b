from __future__ import annotations

import pytest
from google.protobuf import text_format

from od_eval.data.pipeline_lines import pipeline_lines


@pytest.mark.parametrize("folder", ["records", "gs://bucket/records", 'a "b"\\c', "ünï", "a\x1b[2J\x9b\u202e\nb"])
def test_the_lines_are_what_the_object_detection_api_reads(folder) -> None:
    import od_eval.odapi  # noqa: F401, I001  (makes the next import possible)
    from object_detection.protos import pipeline_pb2

    patterns = {"train": "train-?????-of-00002", "validation": "validation-?????-of-00001"}
    model, *lines = pipeline_lines(folder, patterns, f"{folder}/label_map.pbtxt", 3, True, 17).splitlines()
    assert model == "model { ... { num_classes: 3 } }"
    assert all(map(str.isprintable, lines))
    config = text_format.Parse("\n".join(lines), pipeline_pb2.TrainEvalPipelineConfig())
    for reader, pattern in zip(
        (config.train_input_reader, config.eval_input_reader[0]), patterns.values(), strict=True
    ):
        assert reader.label_map_path == f"{folder}/label_map.pbtxt"
        assert reader.tf_record_input_reader.input_path == [f"{folder}/{pattern}"]
        assert (reader.load_instance_masks, reader.mask_type, reader.num_keypoints) == (True, 2, 17)


def test_a_dataset_of_boxes_alone_asks_for_nothing_more() -> None:
    lines = pipeline_lines("records", {"train": "train-?????-of-00002"}, "label_map.pbtxt", 1, False, 0)
    assert not {"masks", "mask_type", "keypoints", "eval_input_reader"} & set(lines.replace(":", "").split())
