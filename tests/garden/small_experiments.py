"""Overrides that make experiments of Model Garden small: 64 pixels, narrow networks, few steps."""

from __future__ import annotations

from pathlib import Path

import yaml

# The smallest backbone, and one feature map less than usual.
_DETECTOR = {
    "num_classes": 5,
    "input_size": [64, 64, 3],
    "min_level": 3,
    "max_level": 5,
    "backbone": {"type": "resnet", "resnet": {"model_id": 10, "depth_multiplier": 0.25}},
    "decoder": {"type": "fpn", "fpn": {"num_filters": 16}},
}
RETINANET = {**_DETECTOR, "head": {"num_convs": 1, "num_filters": 16}}
MASK_RCNN = {
    **_DETECTOR,
    "rpn_head": {"num_convs": 1, "num_filters": 16},
    "detection_head": {"num_convs": 1, "num_filters": 16, "num_fcs": 1, "fc_dims": 16},
    "mask_head": {"num_convs": 1, "num_filters": 16},
    "roi_generator": {"num_proposals": 20, "test_num_proposals": 20},
    "roi_sampler": {"num_sampled_rois": 16},
    "mask_sampler": {"num_sampled_masks": 8},
    "detection_generator": {"pre_nms_score_threshold": 0.01},
}
SEGMENTATION = {**_DETECTOR, "head": {"level": 3, "num_convs": 1, "num_filters": 16}}

YOLO = {
    "num_classes": 5,
    "input_size": [64, 64, 3],
    "darknet_based_model": True,
    "backbone": {"type": "darknet", "darknet": {"model_id": "cspdarknettiny", "min_level": 4, "width_scale": 0.25}},
    "decoder": {"type": "yolo_decoder", "yolo_decoder": {"version": "v4", "type": "tiny"}},
    "norm_activation": {"activation": "leaky", "use_sync_bn": False},
    "anchor_boxes": {"anchors_per_scale": 1, "boxes": [{"box": [12, 12]}, {"box": [30, 30]}]},
}


def overrides(model: dict, data: Path, steps: int = 2, every_n: int = 1, **sections: dict) -> str:
    """The value of params_override for a small training.

    Args:
      model: one of those above.
      data: the folder of `train-*` and `validation-*`.
      steps, every_n: the number of steps, and between evaluations and checkpoints.
      **sections: further values of `validation_data`, `train_data`, `task` or `trainer`.
    """
    values = {
        "runtime": {"mixed_precision_dtype": "float32"},
        "task": {
            "init_checkpoint": None,
            "model": model,
            "train_data": {
                "input_path": f"{data}/train-*",
                "global_batch_size": 2,
                "dtype": "float32",
                "shuffle_buffer_size": 16,
                **sections.get("train_data", {}),
            },
            "validation_data": {
                "input_path": f"{data}/validation-*",
                "global_batch_size": 3,
                "dtype": "float32",
                **sections.get("validation_data", {}),
            },
            **sections.get("task", {}),
        },
        "trainer": {
            "train_steps": steps,
            "validation_interval": every_n,
            "validation_steps": -1,
            "steps_per_loop": 1,
            "summary_interval": 1,
            "checkpoint_interval": every_n,
            "optimizer_config": {
                "learning_rate": {"type": "constant", "constant": {"learning_rate": 0.01}},
                "warmup": {"type": None},
            },
            **sections.get("trainer", {}),
        },
    }
    return yaml.safe_dump(values)
