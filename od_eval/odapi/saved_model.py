"""Writes a detector as a SavedModel that TensorFlow, TensorFlow Serving, Keras and Beam load.

The functions are those of the Object Detection API's exporter. It saves them with all Keras layers of the model, whose
own functions nobody calls, and which Keras refuses to load without their metadata. Here, variables alone are saved.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from object_detection import exporter_lib_v2
from object_detection.builders import model_builder
from object_detection.protos import pipeline_pb2
from object_detection.utils import config_util

from od_eval.model_json import BATCH_SIGNATURE
from od_eval.text import some

# So begin the names of outputs that have a row for each image.
_BY_IMAGE = ("detection_", "num_detections", "raw_detection_")


def write_saved_model(
    config: pipeline_pb2.TrainEvalPipelineConfig,
    checkpoint_dir: str,
    directory: str,
    *,
    input_type: str,
    side_inputs: Mapping[str, tf.TensorSpec],
) -> None:
    """Writes what `object_detection.exporter_lib_v2.export_inference_graph` writes, and a signature for batches.

    `directory` gets `saved_model/`, `checkpoint/ckpt-0` and `pipeline.config`. The signature `serving_default` is that
    of the Object Detection API, of one image if the input is `image_tensor`. Then the signature `detect_batch` takes
    images uint8 `[batch, height, width, 3]` and gives the detections of each; the loaded object, if it is called, does
    the same. With side inputs or boxes beside the image it is left out, and that is said. Other inputs take batches by
    `serving_default`.

    Args:
      config: the pipeline config.
      checkpoint_dir: a folder, whose newest checkpoint has the detection model as `model`.
      directory: a folder.
      input_type: a key of `object_detection.exporter_lib_v2.DETECTION_MODULE_MAP`.
      side_inputs: name -> shape and dtype of each input of the model beside images.

    Raises:
      ValueError: there is no such input_type.
    """
    if input_type not in exporter_lib_v2.DETECTION_MODULE_MAP:
        raise ValueError(f"Unrecognized `input_type` {input_type}")
    model = model_builder.build(config.model, is_training=False)
    weights = tf.train.Checkpoint(model=model)
    restored = weights.restore(tf.train.latest_checkpoint(checkpoint_dir)).expect_partial()
    module = exporter_lib_v2.DETECTION_MODULE_MAP[input_type](
        model,
        use_side_inputs=bool(side_inputs),
        zipped_side_inputs=[(spec.shape, spec.dtype, name) for name, spec in side_inputs.items()],
    )
    call = module.__call__
    signatures = {"serving_default": call.get_concrete_function()}  # which also creates the variables
    restored.assert_existing_objects_matched()
    beside_images = ["boxes"] if input_type == "image_and_boxes_tensor" else list(side_inputs)
    if beside_images:
        print(f"It has no signature for batches, because it takes {some(beside_images)} beside images.", flush=True)
    elif input_type == "image_tensor":
        of_batches = _DetectionFromImagesModule(model)  # which its method does not keep
        call = of_batches.__call__
        signatures[BATCH_SIGNATURE] = call.get_concrete_function()
    tf.train.CheckpointManager(weights, os.path.join(directory, "checkpoint"), max_to_keep=1).save(checkpoint_number=0)
    tf.saved_model.save(_Functions(call, signatures), os.path.join(directory, "saved_model"), signatures=signatures)
    config_util.save_pipeline_config(config, directory)


class _DetectionFromImagesModule(exporter_lib_v2.DetectionInferenceModule):
    """Batches of uint8 images, as the Object Detection API's modules have them for images of other types.

    It returns detections alone. Not all that Faster R-CNN returns of its stages has a row for each image, by which Beam
    and the batching of TensorFlow Serving tell apart what is of which image.
    """

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="input_tensor")])
    def __call__(self, input_tensor: tf.Tensor) -> dict[str, tf.Tensor]:
        images, true_shapes = self._preprocess_input(input_tensor, lambda image: image)
        outputs = self._run_inference_on_images(images, true_shapes)
        return {name: values for name, values in outputs.items() if name.startswith(_BY_IMAGE)}


class _Functions(tf.Module):
    """What is saved: a function, by which the loaded object is called, and the variables that signatures use."""

    def __init__(self, call: Callable[..., Mapping[str, tf.Tensor]], signatures: Mapping[str, Any]):
        super().__init__()
        self.__call__ = call
        used = {id(variable): variable for function in signatures.values() for variable in function.variables}
        self.model_variables = sorted(used.values(), key=lambda variable: variable.name)
