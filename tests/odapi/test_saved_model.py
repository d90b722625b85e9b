"""Exported SavedModels: what loads them, and their signature for batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from made_model_dir import make_model_dir

from od_eval.odapi.export import export

CONFIGS = Path(__file__).parents[2] / "pipeline_configs"


def images_of(photograph):
    """Eight images of one size: photographs, bright, dark and upside down, noise, and nothing."""
    noise = np.random.default_rng(0).integers(0, 256, photograph.shape, np.uint8)
    of_photograph = [photograph, photograph // 4, 255 - photograph, photograph[::-1], photograph[:, ::-1]]
    return np.stack([*of_photograph, noise, np.zeros_like(noise), photograph])


def loaded_with_weights(exported, gain):
    """The SavedModel, with weights by which what it finds depends on the image; the first ones hardly let it.

    Kernels have a variance of gain ÷ number of inputs, as He et al. start them with 2, and batch normalization does
    nothing.
    """
    saved = tf.saved_model.load(str(exported / "saved_model"))
    random = np.random.default_rng(0)
    for variable in saved.model_variables:
        of = variable.name.rpartition("/")[2]
        if "kernel" in of and variable.shape.rank == 4:
            num_inputs = np.prod(variable.shape[: 2 if "depthwise" in of else 3])
            variable.assign(random.normal(0, np.sqrt(gain / num_inputs), variable.shape))
        elif of.startswith(("moving_mean", "beta")):
            variable.assign(tf.zeros_like(variable))
        elif of.startswith(("moving_variance", "gamma")):
            variable.assign(tf.ones_like(variable))
    return saved


def assert_batches_are_as_one_image_at_a_time(saved, images, tolerance=1e-5):
    one, batch = saved.signatures["serving_default"], saved.signatures["detect_batch"]
    alone = [one(input_tensor=tf.constant(image[np.newaxis])) for image in images]
    assert np.ptp([outputs["detection_scores"][0] for outputs in alone], axis=0).max() > 0.005
    for size in (1, 3, len(images)):
        outputs = batch(input_tensor=tf.constant(images[:size]))
        # Those of one image that are left out are of the stages of Faster R-CNN.
        assert {name for name in alone[0] if name.startswith(("detection", "num_det", "raw"))} == set(outputs)
        for name, values in outputs.items():
            expected = np.concatenate([of_image[name].numpy() for of_image in alone[:size]])
            assert (values.dtype, values.shape) == (expected.dtype, expected.shape)
            np.testing.assert_allclose(values, expected, atol=tolerance, rtol=tolerance, err_msg=name)


def test_batches_give_what_one_image_at_a_time_does(ssd_exported, photograph):
    assert_batches_are_as_one_image_at_a_time(loaded_with_weights(ssd_exported, gain=2), images_of(photograph))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "gain", "tolerance"),
    [
        ("efficientdet_d0_256x256", 2, 1e-5),
        # Rounding of the first stage is in the second, too: boxes differ by up to a hundredth of a pixel.
        ("faster_rcnn_resnet50_128x128", 0.3, 1e-4),
        ("mask_rcnn_resnet50_128x128", 0.3, 1e-4),
        ("centernet_resnet18_fpn_128x128", 0.4, 1e-5),  # with more, all scores are 1
    ],
)
def test_batches_of_other_architectures_give_what_one_image_at_a_time_does(
    name, gain, tolerance, config_overrides, tmp_path, photograph
):
    make_model_dir(CONFIGS / f"{name}.config", [*config_overrides, "train_config.use_bfloat16=false"], tmp_path)
    export(str(tmp_path / "pipeline.config"), str(tmp_path / "best"), str(tmp_path / "out"))
    saved = loaded_with_weights(tmp_path / "out", gain)
    assert_batches_are_as_one_image_at_a_time(saved, images_of(photograph), tolerance)


@pytest.mark.slow
def test_the_signature_of_one_image_is_that_of_the_object_detection_api(ssd_dir, ssd_exported, tmp_path, photograph):
    from object_detection import exporter_lib_v2

    from od_eval import Pipeline

    config = Pipeline.load(ssd_dir / "pipeline.config").config
    exporter_lib_v2.export_inference_graph("image_tensor", config, str(ssd_exported / "checkpoint"), str(tmp_path))
    theirs, ours = (
        tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
        for folder in (tmp_path, ssd_exported)
    )
    assert ours.structured_input_signature == theirs.structured_input_signature
    assert ours.structured_outputs == theirs.structured_outputs
    for image in images_of(photograph):
        expected = theirs(input_tensor=tf.constant(image[np.newaxis]))
        for name, values in ours(input_tensor=tf.constant(image[np.newaxis])).items():
            np.testing.assert_array_equal(values, expected[name])


# ---- What loads it --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def boxes_of_three(ssd_exported, photograph):
    """The boxes of the first three images, by the signature for batches."""
    saved = tf.saved_model.load(str(ssd_exported / "saved_model"))
    return saved.signatures["detect_batch"](input_tensor=images_of(photograph)[:3])["detection_boxes"].numpy()


def test_keras_2_loads_it_and_so_does_beam(ssd_exported, photograph, boxes_of_three):
    """Beam's `TFModelHandlerTensor` calls what Keras 2 has loaded with a batch, and deals out the rows of outputs."""
    import tf_keras

    model = tf_keras.models.load_model(str(ssd_exported / "saved_model"))
    outputs = model(tf.stack([tf.constant(image) for image in images_of(photograph)[:3]]))
    np.testing.assert_array_equal(outputs["detection_boxes"], boxes_of_three)
    assert {len(values) for values in outputs.values()} == {3}


def test_keras_3_has_it_as_a_layer(ssd_exported, photograph, boxes_of_three):
    import keras

    assert keras.__version__ >= "3"
    layer = keras.layers.TFSMLayer(str(ssd_exported / "saved_model"), call_endpoint="detect_batch")
    np.testing.assert_array_equal(layer(images_of(photograph)[:3])["detection_boxes"], boxes_of_three)


def test_a_session_runs_its_signatures_by_names_of_tensors_as_tensorflow_serving_does(
    ssd_exported, photograph, boxes_of_three
):
    images = images_of(photograph)[:3]
    found = {}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(ssd_exported / "saved_model"))
        for name, given in (("serving_default", images[:1]), ("detect_batch", images)):
            signature = loaded.signature_def[name]
            boxes, input_tensor = signature.outputs["detection_boxes"].name, signature.inputs["input_tensor"].name
            found[name] = session.run(boxes, {input_tensor: given})
    np.testing.assert_allclose(found["serving_default"], boxes_of_three[:1], atol=1e-5)
    np.testing.assert_allclose(found["detect_batch"], boxes_of_three, atol=1e-5)


def test_weights_are_written_once(ssd_exported):
    saved = tf.saved_model.load(str(ssd_exported / "saved_model"))
    num_bytes = sum(variable.numpy().nbytes for variable in saved.model_variables)
    (written,) = (ssd_exported / "saved_model" / "variables").glob("variables.data-*")
    assert num_bytes <= written.stat().st_size < 1.01 * num_bytes + 10_000
