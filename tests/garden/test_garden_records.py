"""What is found out of records before a training."""

import io

import numpy as np
import pytest
import tensorflow as tf
from official.vision.configs.retinanet import DataConfig
from official.vision.dataloaders.tf_example_decoder import TfExampleDecoder
from PIL import Image

from od_eval.errors import ODEvalError
from od_eval.garden.records import survey


def png(pixels):
    contents = io.BytesIO()
    Image.fromarray(pixels).save(contents, "PNG")
    return contents.getvalue()


def write(path, records):
    """Records of (source_id, labels, names, masks), each with an image of its own."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for index, (source_id, labels, names, masks) in enumerate(records):
            sides = [0.5] * len(labels)
            features = {
                "image/encoded": [png(np.full((8, 8, 3), index, np.uint8))],
                "image/filename": [b"%d.png" % index],
                "image/source_id": [source_id.encode()],
                "image/object/class/text": [name.encode() for name in names],
                "image/object/mask": masks,
            }
            feature = {
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=values)) for name, values in features.items()
            }
            feature["image/object/class/label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=labels))
            for side in ("xmin", "xmax", "ymin", "ymax"):
                feature[f"image/object/bbox/{side}"] = tf.train.Feature(float_list=tf.train.FloatList(value=sides))
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return DataConfig(input_path=str(path))


def garden_ids(data, **kwargs):
    decoder = TfExampleDecoder(**kwargs)
    return [int(decoder.decode(record)["source_id"]) for record in tf.data.TFRecordDataset(data.input_path)]


def test_records_are_counted_and_their_classes_named(tmp_path):
    data = write(tmp_path / "a", [("3", [1, 2], ["cat", "dog"], []), ("7", [], [], []), ("9", [4], [], [])])
    found = survey(data, "task.validation_data")
    assert (found.num_images, found.most_objects) == (3, 2)
    assert found.class_names == {1: "cat", 2: "dog", 4: ""}
    assert found.first_name is None
    assert found.ids == {(3, 2): [3], (7, 0): [7], (9, 1): [9]}


def test_images_keep_their_names_where_model_garden_makes_numbers(tmp_path):
    data = write(tmp_path / "a", [("a.jpg", [1], ["cat"], []), ("b.jpg", [1], ["cat"], [])])
    found = survey(data, "task.validation_data")
    assert found.first_name == "a.jpg"
    first, second = garden_ids(data, regenerate_source_id=True)
    assert found.ids == {(first, 1): ["a.jpg"], (second, 1): ["b.jpg"]}


def test_an_empty_id_is_the_name_of_the_file(tmp_path):
    data = write(tmp_path / "a", [("", [], [], []), ("12", [], [], [])])
    made, given = garden_ids(data)
    assert survey(data, "task.validation_data").ids == {(made, 0): ["0.png"], (given, 0): [12]}


def test_repeated_ids_are_told_apart_and_counted(tmp_path):
    data = write(tmp_path / "a", [("5", [1], ["cat"], []), ("5", [1], ["cat"], []), ("5", [], [], [])])
    found = survey(data, "task.validation_data")
    assert (found.num_repeated, found.first_repeated) == (2, 5)
    assert found.ids == {(5, 1): [5, "5 (2)"], (5, 0): ["5 (3)"]}


def test_masks_of_255_and_of_1_are_the_same(tmp_path):
    mask = np.eye(8, dtype=np.uint8)
    data = write(tmp_path / "a", [("1", [1, 1], [], [png(mask), png(255 * mask)])])
    first, second = survey(data, "task.validation_data", with_masks=True).masks[1]
    assert first == second
    assert list(first["size"]) == [8, 8]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "has no records"),
        ([("1", [1], [], [])], "'0.png' of task.validation_data has 1 objects and 0 masks"),
        ([("1", [1], [], [b"no png"])], "a mask that is no PNG"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(tmp_path, records, message):
    with pytest.raises(ODEvalError, match=message):
        survey(write(tmp_path / "a", records), "task.validation_data", with_masks=True)


def test_files_that_are_missing_or_something_else_are_named(tmp_path):
    with pytest.raises(ODEvalError, match=r"task.train_data.input_path.* does not match any files"):
        survey(DataConfig(input_path=str(tmp_path / "none-*")), "task.train_data")
    (tmp_path / "text").write_text("no records in here")
    with pytest.raises(ODEvalError, match=r"task.train_data.input_path .*text' cannot be read"):
        survey(DataConfig(input_path=str(tmp_path / "text")), "task.train_data")


def test_data_that_is_not_in_files_is_not_read():
    assert survey(DataConfig(tfds_name="coco/2017"), "task.train_data") is None
