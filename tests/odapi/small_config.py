"""A small pipeline.config with the files it names, and how tests load it."""

from __future__ import annotations

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


def load(folder, *overrides):
    return Pipeline.load(folder / "pipeline.config", overrides)


def error_of(function, *args):
    with pytest.raises(ODEvalError) as raised:
        function(*args)
    return str(raised.value)
