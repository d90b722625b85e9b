"""Every TF2 meta-architecture trains: those of the model zoo that pipeline_configs/ does not have, made small."""

import numpy as np
import pytest
import tensorflow as tf

from od_eval import Detector, ODEvalError, Pipeline

pytestmark = pytest.mark.slow

PERSON = "/m/01g317"  # what the model zoo's keypoint configs call a person


def small(size, meta_architecture):
    resizer = f"model.{meta_architecture}.image_resizer.keep_aspect_ratio_resizer"
    return [
        f"{resizer}.min_dimension={size}",
        f"{resizer}.max_dimension={size}",
        f"{resizer}.pad_to_max_dimension=true",
        "train_config.batch_size=2",
        "train_config.fine_tune_checkpoint=",
    ]


def reading(record, label_map):
    return [
        f"{reader}.{field}"
        for reader in ("train_input_reader", "eval_input_reader")
        for field in (f"tf_record_input_reader.input_path={record}", f"label_map_path={label_map}")
    ]


def losses_of_training(pipeline, steps=3):
    """Trains, checks what every detector must keep, and returns the losses: of training, and of evaluation."""
    detector = Detector(pipeline)
    built = {variable.name for variable in detector.model.variables}
    detector.compile()
    history = detector.fit(
        pipeline.train_dataset(),
        steps_per_epoch=steps,
        verbose=0,
        validation_data=pipeline.eval_dataset(),
        validation_steps=2,
    ).history
    assert {variable.name for variable in detector.model.variables} == built, "variables made after the restore"
    losses = {name: values[0] for name, values in history.items()}
    assert all(np.isfinite(loss) for name, loss in losses.items() if "loss" in name.lower()), losses
    parts = ("classification_loss", "localization_loss", "regularization_loss", "other_loss")
    for prefix in ("", "val_"):
        total = sum(losses.get(prefix + part, 0.0) for part in parts)
        assert losses[prefix + "total_loss"] == pytest.approx(total, rel=1e-5)
    return losses


def test_deepmac_trains_with_its_mask_loss(shared_data, shapes):
    config = shared_data / "zoo_configs" / "center_net_deepmac_512x512_voc_only_tpu-32.config"
    losses = losses_of_training(
        Pipeline.load(
            config,
            [
                *small(128, "center_net"),
                *reading(f"{shapes}/train-*", shapes / "label_map.pbtxt"),
                "model.center_net.deepmac_mask_estimation.allowed_masked_classes_ids=[1, 2, 3, 4]",
                "model.center_net.feature_extractor.type=hourglass_10",
                "model.center_net.deepmac_mask_estimation.network_type=hourglass10",
            ],
        )
    )
    assert losses["Loss/deep_mask_estimation"] > 0
    assert losses["other_loss"] == pytest.approx(losses["Loss/deep_mask_estimation"], rel=1e-5)


@pytest.fixture
def people(tmp_path):
    """Two images of a person with 17 keypoints, and their label map."""
    keypoints = "".join(f"keypoints {{ id: {number} label: '{label}' }}\n" for number, label in enumerate(LABELS))
    (tmp_path / "label_map.pbtxt").write_text(f"item {{ id: 1 name: '{PERSON}' display_name: 'person' {keypoints} }}")
    random = np.random.default_rng(0)
    with tf.io.TFRecordWriter(str(tmp_path / "people.record")) as writer:
        for number in range(2):
            pixels = tf.constant(random.integers(0, 255, (96, 96, 3), np.uint8))
            floats = {
                "image/object/bbox/xmin": [0.1],
                "image/object/bbox/ymin": [0.1],
                "image/object/bbox/xmax": [0.9],
                "image/object/bbox/ymax": [0.9],
                "image/object/keypoint/x": random.uniform(0.1, 0.9, 17),
                "image/object/keypoint/y": random.uniform(0.1, 0.9, 17),
            }
            ints = {
                "image/height": [96],
                "image/width": [96],
                "image/object/class/label": [1],
                "image/object/keypoint/visibility": [2] * 17,
                "image/object/keypoint/num": [17],
            }
            texts = {
                "image/encoded": [tf.io.encode_jpeg(pixels).numpy()],
                "image/format": [b"jpeg"],
                "image/source_id": [str(number).encode()],
                "image/object/class/text": [PERSON.encode()],
                "image/object/keypoint/text": [label.encode() for label in LABELS],
            }
            features = {
                **{k: tf.train.Feature(float_list=tf.train.FloatList(value=v)) for k, v in floats.items()},
                **{k: tf.train.Feature(int64_list=tf.train.Int64List(value=v)) for k, v in ints.items()},
                **{k: tf.train.Feature(bytes_list=tf.train.BytesList(value=v)) for k, v in texts.items()},
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    return tmp_path


LABELS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow"),
    *("right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle"),
    "right_ankle",
)


def test_centernet_trains_with_its_keypoint_losses(shared_data, people):
    config = shared_data / "zoo_configs" / "centernet_resnet50_v1_fpn_512x512_kpts_coco17_tpu-8.config"
    overrides = [*small(128, "center_net"), *reading(people / "people.record", people / "label_map.pbtxt")]
    with pytest.raises(ODEvalError, match=r"keypoint_label_map_path is still 'PATH_TO_BE_CONFIGURED'"):
        Detector(Pipeline.load(config, overrides))
    keypoint_label_map = f"model.center_net.keypoint_label_map_path={people}/label_map.pbtxt"
    losses = losses_of_training(Pipeline.load(config, [*overrides, keypoint_label_map]))
    of_keypoints = [loss for name, loss in losses.items() if name.startswith("Loss/") and "/keypoint/" in name]
    assert len(of_keypoints) == 3
    assert losses["other_loss"] == pytest.approx(sum(of_keypoints), rel=1e-5)


def test_context_rcnn_trains_on_sequences(shared_data):
    files = shared_data / "odapi_files"
    losses = losses_of_training(
        Pipeline.load(
            files / "test_data" / "context_rcnn_camera_trap.config",
            [
                *small(128, "faster_rcnn"),
                *reading(
                    files / "test_data" / "snapshot_serengeti_sequence_examples.record",
                    files / "data" / "snapshot_serengeti_label_map.pbtxt",
                ),
                "model.faster_rcnn.feature_extractor.type=faster_rcnn_resnet101_keras",
            ],
        )
    )
    assert losses["Loss/RPNLoss/objectness_loss"] > 0


def test_efficientdet_trains_in_bfloat16_where_its_config_asks(shared_data, shapes):
    config = shared_data / "zoo_configs" / "ssd_efficientdet_d0_512x512_coco17_tpu-8.config"
    overrides = [*small(256, "ssd"), *reading(f"{shapes}/train-*", shapes / "label_map.pbtxt")]
    detector = Detector(Pipeline.load(config, overrides))
    policies = {
        layer.dtype_policy.name
        for layer in detector.model._feature_extractor.submodules
        if hasattr(layer, "dtype_policy")
    }
    assert "mixed_bfloat16" in policies
    assert {variable.dtype for variable in detector.model.trainable_variables} == {tf.float32}
    assert tf.keras.mixed_precision.global_policy().name == "float32"
    losses_of_training(Pipeline.load(config, overrides), steps=2)
