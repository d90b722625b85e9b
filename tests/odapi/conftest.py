"""What tests of whole models share: data for each family, and one way to train and to evaluate a little."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

PERSON = "/m/01g317"  # what the model zoo's keypoint configs call a person
KEYPOINTS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow"),
    *("right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle"),
    "right_ankle",
)
PARTS = ("classification_loss", "localization_loss", "regularization_loss", "other_loss")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a config and the files it names."""
    from small_config import CONFIG, LABEL_MAP

    (tmp_path / "pipeline.config").write_text(CONFIG)
    (tmp_path / "label_map.pbtxt").write_text(LABEL_MAP)
    for name in ("train-00000-of-00002", "train-00001-of-00002", "day.record"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


@pytest.fixture(scope="session")
def reading() -> Callable[[object, object], list[str]]:
    """Overrides that make training and evaluation read the same records."""
    return lambda records, label_map: [
        f"{reader}.{field}"
        for reader in ("train_input_reader", "eval_input_reader")
        for field in (f"tf_record_input_reader.input_path={records}", f"label_map_path={label_map}")
    ]


@pytest.fixture(scope="session")
def photograph(excerpt: Path) -> np.ndarray:
    """uint8 [height, width, 3]."""
    import tensorflow as tf

    path = excerpt / "raccoon" / "images" / "raccoon-1.jpg"
    return tf.io.decode_jpeg(path.read_bytes(), channels=3).numpy()


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of a person with 17 keypoints, people.record, and their label_map.pbtxt."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("people")
    keypoints = "".join(f"keypoints {{ id: {number} label: '{label}' }}\n" for number, label in enumerate(KEYPOINTS))
    (folder / "label_map.pbtxt").write_text(f"item {{ id: 1 name: '{PERSON}' display_name: 'person' {keypoints} }}")
    random = np.random.default_rng(0)
    with tf.io.TFRecordWriter(str(folder / "people.record")) as writer:
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
                "image/object/keypoint/text": [label.encode() for label in KEYPOINTS],
            }
            features = {
                **{k: tf.train.Feature(float_list=tf.train.FloatList(value=v)) for k, v in floats.items()},
                **{k: tf.train.Feature(int64_list=tf.train.Int64List(value=v)) for k, v in ints.items()},
                **{k: tf.train.Feature(bytes_list=tf.train.BytesList(value=v)) for k, v in texts.items()},
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    return folder


@pytest.fixture(scope="session")
def trained() -> Callable:
    """Trains a detector of a pipeline, checks what every detector must keep, and returns it with its losses."""
    from od_eval import Detector

    def train(pipeline, steps=1):
        detector = Detector(pipeline)
        built = {variable.name for variable in detector.model.variables}
        detector.compile()
        history = detector.fit(pipeline.train_dataset(), steps_per_epoch=steps, verbose=0).history
        assert {variable.name for variable in detector.model.variables} == built, "variables made after the restore"
        losses = {name: values[0] for name, values in history.items()}
        check_losses(losses)
        return detector, losses

    return train


@pytest.fixture(scope="session")
def evaluated() -> Callable:
    """Evaluates the first batch of a pipeline, checks losses and detections, and returns the batch.

    A model that has hardly trained may be sure that there is nothing, and then detect nothing.
    """

    def evaluate(detector, pipeline):
        batch = next(detector.evaluate_batches(pipeline.eval_dataset()))
        check_losses(batch.losses)
        found = batch.detections
        boxes, scores, classes = np.asarray(found.boxes), np.asarray(found.scores), np.asarray(found.classes)
        images, boxes_per_image = scores.shape
        assert images == len(batch.image_ids) == pipeline.config.eval_config.batch_size
        assert boxes.shape == (images, boxes_per_image, 4)
        assert classes.shape == (images, boxes_per_image)
        assert np.isfinite(boxes).all()
        assert np.isfinite(scores).all()
        for row, number in enumerate(np.broadcast_to(boxes_per_image if found.num is None else found.num, images)):
            assert set(classes[row, :number].tolist()) <= set(range(1, pipeline.num_classes + 1))
        return batch

    return evaluate


def check_losses(losses: Mapping[str, float]) -> None:
    """All are finite, the four and the native ones both sum to the total."""
    assert all(np.isfinite(loss) for name, loss in losses.items() if "loss" in name.lower()), losses
    native = [loss for name, loss in losses.items() if name.startswith("Loss/") and name != "Loss/total_loss"]
    assert losses["total_loss"] == pytest.approx(sum(losses.get(part, 0.0) for part in PARTS), rel=1e-5)
    assert losses["total_loss"] == pytest.approx(sum(native), rel=1e-5)
