"""Exports a trained detector as a SavedModel, or for TensorFlow Lite, with the Object Detection API's own exporters."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from object_detection import export_tflite_graph_lib_tf2
from object_detection.meta_architectures import center_net_meta_arch
from object_detection.utils import config_util

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.label_map import Category, label_map_text, read_label_map
from od_eval.model_json import write_model_json
from od_eval.odapi import tflite_conversion
from od_eval.odapi.calibration_images import choose_calibration_images
from od_eval.odapi.checkpoints import existing_checkpoint, step_of
from od_eval.odapi.eval_config import category_names
from od_eval.odapi.explained import explained
from od_eval.odapi.model_description import described_categories, described_signature
from od_eval.odapi.pipeline import Pipeline
from od_eval.odapi.restored import restored_detector
from od_eval.odapi.saved_model import write_saved_model
from od_eval.odapi.tflite_metadata import NO_LABEL, with_metadata
from od_eval.text import printable, some

# A value of a CenterNet's heat map that is less than this below the largest around it is a peak. The Object Detection
# API's 1e-6 is 0 in int8, so that nothing is a peak and nothing is found; there, values are steps of 1/256 apart, and
# TensorFlow Lite compares them rounded to 1/256, where this is 1.
_PEAK_EPSILON_IN_INT8 = 0.003

# By these a folder is taken for a model, the first that is there for the whole of it.
_LAST = ("model.json", "model.tflite", "saved_model/saved_model.pb")


def export(
    pipeline_config_path: str,
    checkpoint: str,
    output_directory: str,
    *,
    overrides: Sequence[str] = (),
    input_type: str = "image_tensor",
    operating_point: Mapping[str, Any] | None = None,
) -> str:
    """Writes a SavedModel like the Object Detection API's `exporter_main_v2.py`, and progress to stdout.

    `output_directory` gets `saved_model/`, whose signatures `od_eval.odapi.saved_model` describes, `checkpoint/`,
    `pipeline.config`, `label_map.pbtxt` and `model.json`, which `od_eval.model_json` describes. Weights
    are the moving averages if `eval_config.use_moving_averages` is set, as in evaluation.

    Args:
      pipeline_config_path: the pipeline.config of the training run.
      checkpoint: a checkpoint (`runs/a/ckpt-12`), or a folder, whose newest checkpoint is used.
      output_directory: the folder to create, completely or not at all; it must not exist yet.
      overrides: as for `Pipeline.load`.
      input_type: the input of the SavedModel, a key of `object_detection.exporter_lib_v2.DETECTION_MODULE_MAP`.
      operating_point: the section of that name of this checkpoint's evaluation, for the confidences in `model.json`.

    Returns:
      The checkpoint that was exported.

    Raises:
      ODEvalError: the checkpoint does not exist or belongs to another model, or the model cannot be exported like this.
    """
    exporter = _Exporter(pipeline_config_path, checkpoint, output_directory, overrides)
    side_inputs = exporter.detector.side_input_specs
    if side_inputs and input_type != "image_tensor":
        raise ODEvalError(
            f"{pipeline_config_path}: this model needs {', '.join(side_inputs)} in addition to images, which only"
            " input_type=image_tensor supports."
        )
    if input_type == "image_and_boxes_tensor" and not hasattr(exporter.detector.model, "predict_masks_from_boxes"):
        raise ODEvalError(
            f"{pipeline_config_path}: {exporter.pipeline.meta_architecture} cannot predict masks for given boxes;"
            " choose another input_type than image_and_boxes_tensor."
        )

    def write(checkpoint_dir: str, directory: str) -> None:
        write_saved_model(
            exporter.pipeline.config, checkpoint_dir, directory, input_type=input_type, side_inputs=side_inputs
        )
        described = described_signature(os.path.join(directory, "saved_model"))
        exporter.describe(
            directory, operating_point, format="saved_model", **described, class_offset=0, regular_nms=True
        )

    exporter.write(write)
    return exporter.checkpoint


@contextlib.contextmanager
def _peak_epsilon(epsilon: float) -> Iterator[None]:
    """What is exported inside takes peaks of a CenterNet by another difference than the Object Detection API's."""
    usual = center_net_meta_arch.PEAK_EPSILON
    center_net_meta_arch.PEAK_EPSILON = epsilon
    try:
        yield
    finally:
        center_net_meta_arch.PEAK_EPSILON = usual


def export_tflite(
    pipeline_config_path: str,
    checkpoint: str,
    output_directory: str,
    *,
    overrides: Sequence[str] = (),
    max_detections: int = 10,
    use_regular_nms: bool = False,
    quantization: str = "none",
    num_calibration_images: int = 100,
    operating_point: Mapping[str, Any] | None = None,
) -> str:
    """Exports like the Object Detection API's `export_tflite_graph_tf2.py`, and converts the result to `model.tflite`.

    Only SSD and CenterNet with a `fixed_shape_resizer` can be exported like this. `output_directory` gets
    `saved_model/`, which only the TensorFlow Lite converter understands, `model.tflite`, `pipeline.config`,
    `label_map.pbtxt` and `model.json`. The model's input is one image of the size of the resizer: for SSD preprocessed
    by `detector.model.preprocess`, for CenterNet in pixel values from 0 to 255. Its classes count from 0, while those
    of the label map count from 1. TensorFlow Lite's metadata in the file tell the same, and the names of the classes.

    Args:
      pipeline_config_path, checkpoint, output_directory, overrides, operating_point: as for `export`.
      max_detections: maximum number of detections per image.
      use_regular_nms: for SSD: non-maximum suppression per class, as in training, instead of the faster one over all
        classes.
      quantization: one of `od_eval.odapi.tflite_conversion.QUANTIZATIONS`.
      num_calibration_images: for `int8` and `full_int8`: images of the training set, by which the ranges of all layers
        are measured.

    Returns:
      The checkpoint that was exported.

    Raises:
      ODEvalError: as for `export`, or there are no images to calibrate with, or an operator cannot be quantized.
    """
    exporter = _Exporter(pipeline_config_path, checkpoint, output_directory, overrides, _check_tflite)
    config = exporter.pipeline.config
    of_input = tflite_conversion.image_input(exporter.pipeline, exporter.detector)
    images = None
    calibrated: dict[str, Any] = {}
    if quantization in tflite_conversion.CALIBRATED:
        print("Reading the labels of the training set, to choose images for calibration …", flush=True)
        calibration = choose_calibration_images(exporter.pipeline, num_calibration_images)
        print(*map(printable, calibration.sentences()), sep="\n", flush=True)
        images = calibration.decoded
        about = {"num_images": len(calibration.encoded), "num_showing": dict(calibration.num_showing)}
        calibrated = {"calibration": about}
    predicts_keypoints = bool(config.model.center_net.keypoint_estimation_task)

    def write(checkpoint_dir: str, directory: str) -> None:
        copy = type(config).FromString(config.SerializeToString())  # the exporter changes it
        epsilon = center_net_meta_arch.PEAK_EPSILON if images is None else _PEAK_EPSILON_IN_INT8
        with _peak_epsilon(epsilon):
            export_tflite_graph_lib_tf2.export_tflite_model(
                copy, checkpoint_dir, directory, max_detections, use_regular_nms, include_keypoints=predicts_keypoints
            )
        model = tflite_conversion.convert(os.path.join(directory, "saved_model"), quantization, of_input, images)
        if images is not None:
            in_float32 = tflite_conversion.operators_in_float32(model)
            print(printable(f"Still computed in float32: {some(in_float32) or 'nothing'}."), flush=True)
        tensors = tflite_conversion.tensor_names(model)
        described = exporter.describe(
            directory,
            operating_point,
            format="tflite",
            quantization=quantization,
            input={
                "name": tensors.input,
                "shape": list(of_input.shape),
                "dtype": tensors.dtype,
                "mean": list(of_input.mean),
                "std": list(of_input.std),
            },
            outputs=dict(tensors.outputs),
            class_offset=1,
            max_detections=max_detections,
            regular_nms=use_regular_nms or exporter.pipeline.meta_architecture != "ssd",
            **calibrated,
        )
        names = exporter.category_names
        model = with_metadata(
            model,
            name=f"{exporter.pipeline.meta_architecture} object detector",
            description=f"{exporter.checkpoint}, quantization {quantization}",
            shape=of_input.shape,
            mean=of_input.mean,
            std=of_input.std,
            outputs=list(tensors.outputs),
            labels=[names.get(number, NO_LABEL) for number in range(1, exporter.pipeline.num_classes + 1)],
            score_threshold=described["confidence"],
        )
        files.write_whole(os.path.join(directory, "model.tflite"), model)
        print(f"model.tflite has {len(model) / 1e6:.2f} MB.", flush=True)
        config_util.save_pipeline_config(config, directory)

    exporter.write(write)
    return exporter.checkpoint


def _check_tflite(pipeline: Pipeline) -> None:
    """Checks that the model is one that the Object Detection API exports for TensorFlow Lite."""
    architecture = pipeline.meta_architecture
    if architecture not in ("ssd", "center_net"):
        raise ODEvalError(
            f"{pipeline.source}: TensorFlow Lite is for ssd and center_net, not for {architecture}; export a"
            " SavedModel."
        )
    resizer = config_util.get_image_resizer_config(pipeline.config.model).WhichOneof("image_resizer_oneof")
    if resizer != "fixed_shape_resizer":
        raise ODEvalError(
            f"{pipeline.source}: TensorFlow Lite needs images of one size, and this model has a {resizer}; pass"
            f" --set 'model.{architecture}.image_resizer={{fixed_shape_resizer {{height: … width: …}}}}' with the size"
            " it was trained with."
        )


class _Exporter:
    """The common part of both exporters: a detector with the weights to export, and a folder that appears when
    complete.

    Attributes:
      pipeline: the config.
      checkpoint: the path of the checkpoint.
      detector: the detector with these weights; within `write`, with their moving averages.
      category_names: id -> name of each class of the model, as in an evaluation.

    Args:
      pipeline_config_path, checkpoint, output_directory, overrides: as for `export`.
      check: of the pipeline, before the model is built.
    """

    def __init__(
        self,
        pipeline_config_path: str,
        checkpoint: str,
        output_directory: str,
        overrides: Sequence[str],
        check: Callable[[Pipeline], None] = lambda pipeline: None,
    ):
        self._output_directory = output_directory.rstrip("/")
        if not self._output_directory:
            raise ODEvalError(f"output_directory '{output_directory}' is not the name of a new folder; choose one.")
        with files.errors_as_sentences("output_directory cannot be looked up"):
            exists = files.exists(self._output_directory)
        if exists:
            raise ODEvalError(f"output_directory '{output_directory}' already exists; remove it or choose another one.")
        self.pipeline = Pipeline.load(pipeline_config_path, overrides)
        check(self.pipeline)
        self._label_map = self._read_label_map()
        self.category_names = self._names_of_classes()
        self.checkpoint = existing_checkpoint(checkpoint, "checkpoint", "correct the path")
        what = f"{self.pipeline.meta_architecture} with the weights of {self.checkpoint}"
        print(printable(f"Building {what} …"), flush=True)
        self.detector = restored_detector(self.pipeline, self.checkpoint)

    def _read_label_map(self) -> list[Category] | None:
        readers = [*self.pipeline.config.eval_input_reader, self.pipeline.config.train_input_reader]
        for path in (reader.label_map_path for reader in readers):
            with files.errors_as_sentences(f"{self.pipeline.source}: label_map_path cannot be looked up"):
                exists = bool(path) and files.exists(path)
            if exists:
                return read_label_map(path)
        print("No label map is exported, because those of the config no longer exist.", flush=True)
        return None

    def _names_of_classes(self) -> dict[int, str]:
        num_classes = self.pipeline.num_classes
        if self._label_map is None:
            return {number: str(number) for number in range(1, num_classes + 1)}
        names = category_names(self._label_map)
        beyond = [name for number, name in names.items() if number > num_classes]
        if beyond:
            what = (
                f"{len(beyond)} categories of the label map are"
                if len(beyond) > 1
                else "1 category of the label map is"
            )
            print(f"{what} not described, as the model has {num_classes} classes: {some(beyond)}.", flush=True)
        return {number: name for number, name in names.items() if number <= num_classes}

    def describe(self, directory: str, operating_point: Mapping[str, Any] | None, **fields: Any) -> dict[str, Any]:
        """Writes `model.json` with these fields and those that all formats share; returns them all."""
        categories, confidence = described_categories(self.category_names, operating_point)
        described = {
            "format": fields["format"],
            "quantization": "none",
            "architecture": self.pipeline.meta_architecture,
            "checkpoint": self.checkpoint,
            "step": step_of(self.checkpoint),
            **fields,
            "categories": categories,
            "confidence": confidence,
        }
        write_model_json(directory, described)
        return described

    def write(self, write_model: Callable[[str, str], None]) -> None:
        """Calls `write_model(checkpoint_dir, directory)` with a temporary folder, which then becomes the output."""
        print("Tracing and writing the model, which takes a while …", flush=True)
        try:
            with (
                files.new_folder(self._output_directory, last=_LAST) as folder,
                files.temporary_folder() as checkpoint_dir,
            ):
                checkpoint = tf.train.Checkpoint(model=self.detector.model)
                with self.detector.evaluation_weights():
                    tf.train.CheckpointManager(checkpoint, checkpoint_dir, max_to_keep=1).save()
                with _errors_of_files_apart(folder), explained(self.pipeline.source):
                    write_model(checkpoint_dir, folder)
                if self._label_map is not None:
                    files.write_whole(os.path.join(folder, "label_map.pbtxt"), label_map_text(self._label_map))
        except (tf.errors.OpError, OSError) as error:
            reason = files.reason(error).rpartition("; ")[2]  # TensorFlow's begins with the temporary file
            raise ODEvalError(f"'{self._output_directory}' cannot be written: {reason}.") from error


@contextlib.contextmanager
def _errors_of_files_apart(folder: str) -> Iterator[None]:
    """Raises an error of the file system, which `explained` takes for one of the Object Detection API, as it was.

    Args:
      folder: where files are written; TensorFlow's errors of the file system name the file.
    """
    try:
        yield
    except ODEvalError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) or (isinstance(cause, tf.errors.OpError) and folder in cause.message):
            raise cause from None
        raise
