"""Meta-architectures of TF2 that neither pipeline_configs/ nor the model zoo's configs have, made small."""

from pathlib import Path

import pytest

from od_eval import Pipeline

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]


def test_context_rcnn_trains_and_evaluates_on_sequences(excerpt, shared_data, reading, trained, evaluated):
    resizer = "model.faster_rcnn.image_resizer.keep_aspect_ratio_resizer"
    pipeline = Pipeline.load(
        excerpt / "odapi_files" / "test_data" / "context_rcnn_camera_trap.config",
        [
            *reading(
                shared_data / "odapi_files" / "test_data" / "snapshot_serengeti_sequence_examples.record",
                excerpt / "odapi_files" / "data" / "snapshot_serengeti_label_map.pbtxt",
            ),
            f"{resizer}={{min_dimension: 128 max_dimension: 128 pad_to_max_dimension: true}}",
            "train_config.batch_size=2",
            "train_config.fine_tune_checkpoint=",
            "model.faster_rcnn.feature_extractor.type=faster_rcnn_resnet101_keras",
        ],
    )
    detector, losses = trained(pipeline, steps=3)
    assert losses["Loss/RPNLoss/objectness_loss"] > 0
    evaluated(detector, pipeline)


def test_rfcn_trains_and_evaluates(config_overrides, trained, evaluated):
    predictor = """rfcn_box_predictor {
      conv_hyperparams {
        regularizer { l2_regularizer { weight: 0.0001 } }
        initializer { truncated_normal_initializer { stddev: 0.01 } }
      }
      num_spatial_bins_height: 3 num_spatial_bins_width: 3 crop_height: 12 crop_width: 12 depth: 64
    }"""
    pipeline = Pipeline.load(
        REPOSITORY / "pipeline_configs" / "faster_rcnn_resnet50_128x128.config",
        [*config_overrides, f"model.faster_rcnn.second_stage_box_predictor={{{predictor}}}"],
    )
    detector, losses = trained(pipeline, steps=2)
    assert type(detector.model).__name__ == "RFCNMetaArch"
    assert losses["Loss/BoxClassifierLoss/classification_loss"] > 0
    evaluated(detector, pipeline)
