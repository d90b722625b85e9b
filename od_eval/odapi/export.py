"""Exports a trained detector as a SavedModel, or for TensorFlow Lite, with the Object Detection API's own exporters."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf
from object_detection import export_tflite_graph_lib_tf2, exporter_lib_v2
from object_detection.utils import config_util

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.label_map import label_map_text, read_label_map
from od_eval.odapi.checkpoints import check_fits, existing_checkpoint
from od_eval.odapi.detector import Detector
from od_eval.odapi.explained import explained
from od_eval.odapi.pipeline import Pipeline
from od_eval.text import printable


def export(
    pipeline_config_path: str,
    checkpoint: str,
    output_directory: str,
    *,
    overrides: Sequence[str] = (),
    input_type: str = "image_tensor",
) -> str:
    """Writes a SavedModel like the Object Detection API's `exporter_main_v2.py`, and progress to stdout.

    `output_directory` gets `saved_model/`, `checkpoint/`, `pipeline.config` and `label_map.pbtxt`. Weights are the
    moving averages if `eval_config.use_moving_averages` is set, as in evaluation.

    Args:
      pipeline_config_path: the pipeline.config of the training run.
      checkpoint: a checkpoint (`runs/a/ckpt-12`), or a folder, whose newest checkpoint is used.
      output_directory: the folder to create, completely or not at all; it must not exist yet.
      overrides: as for `Pipeline.load`.
      input_type: the input of the SavedModel, a key of `object_detection.exporter_lib_v2.DETECTION_MODULE_MAP`.

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
        exporter_lib_v2.export_inference_graph(
            input_type,
            exporter.pipeline.config,
            checkpoint_dir,
            directory,
            use_side_inputs=bool(side_inputs),
            # The exporter expects these as command-line strings, which it evaluates.
            side_input_shapes="/".join(",".join(map(str, spec.shape)) for spec in side_inputs.values()),
            side_input_types=",".join(f"tf.{spec.dtype.name}" for spec in side_inputs.values()),
            side_input_names=",".join(side_inputs),
        )

    exporter.write(write)
    return exporter.checkpoint


def export_tflite(
    pipeline_config_path: str,
    checkpoint: str,
    output_directory: str,
    *,
    overrides: Sequence[str] = (),
    max_detections: int = 10,
    use_regular_nms: bool = False,
) -> str:
    """Exports like the Object Detection API's `export_tflite_graph_tf2.py`, and converts the result to `model.tflite`.

    Only SSD and CenterNet with a `fixed_shape_resizer` can be exported like this. `output_directory` gets
    `saved_model/`, which only the TensorFlow Lite converter understands, `model.tflite` in float32, `pipeline.config`
    and `label_map.pbtxt`. The model's input is one image of the size of the resizer: for SSD preprocessed by
    `detector.model.preprocess`, for CenterNet in pixel values from 0 to 255. Its classes count from 0, while those of
    the label map count from 1.

    Args:
      pipeline_config_path, checkpoint, output_directory, overrides: as for `export`.
      max_detections: maximum number of detections per image.
      use_regular_nms: for SSD: non-maximum suppression per class, as in training, instead of the faster one over all
        classes.

    Returns:
      The checkpoint that was exported.

    Raises:
      ODEvalError: as for `export`.
    """
    exporter = _Exporter(pipeline_config_path, checkpoint, output_directory, overrides)
    config = exporter.pipeline.config
    resizer = config_util.get_image_resizer_config(config.model).WhichOneof("image_resizer_oneof")
    architecture = exporter.pipeline.meta_architecture
    if architecture not in ("ssd", "center_net"):
        raise ODEvalError(f"{pipeline_config_path}: TensorFlow Lite is for ssd and center_net, not for {architecture}.")
    if resizer != "fixed_shape_resizer":
        raise ODEvalError(
            f"{pipeline_config_path}: TensorFlow Lite needs images of one size, and this model has a {resizer}; pass"
            f" --set 'model.{architecture}.image_resizer={{fixed_shape_resizer {{height: … width: …}}}}' with the size"
            " it was trained with."
        )
    predicts_keypoints = bool(config.model.center_net.keypoint_estimation_task)

    def write(checkpoint_dir: str, directory: str) -> None:
        copy = type(config).FromString(config.SerializeToString())  # the exporter changes it
        export_tflite_graph_lib_tf2.export_tflite_model(
            copy, checkpoint_dir, directory, max_detections, use_regular_nms, include_keypoints=predicts_keypoints
        )
        converter = tf.lite.TFLiteConverter.from_saved_model(os.path.join(directory, "saved_model"))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        files.write_whole(os.path.join(directory, "model.tflite"), converter.convert())
        config_util.save_pipeline_config(config, directory)

    exporter.write(write)
    return exporter.checkpoint


class _Exporter:
    """The common part of both exporters: a detector with the weights to export, and a folder that appears when
    complete.

    Attributes:
      pipeline: the config.
      checkpoint: the path of the checkpoint.
      detector: the detector with these weights; within `write`, with their moving averages.
    """

    def __init__(self, pipeline_config_path: str, checkpoint: str, output_directory: str, overrides: Sequence[str]):
        self._output_directory = output_directory.rstrip("/")
        if not self._output_directory:
            raise ODEvalError(f"output_directory '{output_directory}' is not the name of a new folder; choose one.")
        with files.errors_as_sentences("output_directory cannot be looked up"):
            exists = files.exists(self._output_directory)
        if exists:
            raise ODEvalError(f"output_directory '{output_directory}' already exists; remove it or choose another one.")
        self.pipeline = Pipeline.load(pipeline_config_path, overrides)
        self._label_map = self._read_label_map()
        self.checkpoint = existing_checkpoint(checkpoint, "checkpoint", "correct the path")
        what = f"{self.pipeline.meta_architecture} with the weights of {self.checkpoint}"
        print(printable(f"Building {what} …"), flush=True)
        self.detector = Detector(self.pipeline)
        self._restore()

    def _read_label_map(self) -> str | None:
        readers = [*self.pipeline.config.eval_input_reader, self.pipeline.config.train_input_reader]
        for path in (reader.label_map_path for reader in readers):
            with files.errors_as_sentences(f"{self.pipeline.source}: label_map_path cannot be looked up"):
                exists = bool(path) and files.exists(path)
            if exists:
                return label_map_text(read_label_map(path))
        print("No label map is exported, because those of the config no longer exist.", flush=True)
        return None

    def _restore(self) -> None:
        remedy = "Choose a checkpoint of this config, or the config of this checkpoint."
        check_fits({"model": self.detector.model}, self.checkpoint, remedy)
        if not self.pipeline.config.eval_config.use_moving_averages:
            tf.train.Checkpoint(model=self.detector.model).restore(self.checkpoint).expect_partial()
            return
        self.detector.compile()
        remedy = "To export the weights without moving averages, pass --set eval_config.use_moving_averages=false."
        check_fits({"optimizer": self.detector.optimizer}, self.checkpoint, remedy)
        self.detector.checkpoint().restore(self.checkpoint).expect_partial()

    def write(self, write_model: Callable[[str, str], None]) -> None:
        """Calls `write_model(checkpoint_dir, directory)` with a temporary folder, which then becomes the output."""
        print("Tracing and writing the model, which takes a while …", flush=True)
        temporary = files.temporary_path(self._output_directory)
        files.remove_leftovers(os.path.dirname(files.absolute(self._output_directory)))
        try:
            files.make_folder(temporary)
            with files.temporary_folder() as checkpoint_dir:
                checkpoint = tf.train.Checkpoint(model=self.detector.model)
                with self.detector.evaluation_weights():
                    tf.train.CheckpointManager(checkpoint, checkpoint_dir, max_to_keep=1).save()
                with _errors_of_files_apart(temporary), explained(self.pipeline.source):
                    write_model(checkpoint_dir, temporary)
            if self._label_map is not None:
                files.write_whole(os.path.join(temporary, "label_map.pbtxt"), self._label_map)
            files.rename(temporary, self._output_directory)
        except (tf.errors.OpError, OSError) as error:
            reason = files.reason(error).rpartition("; ")[2]  # TensorFlow's begins with the temporary file
            raise ODEvalError(f"'{self._output_directory}' cannot be written: {reason}.") from error
        finally:  # also if a signal interrupts
            if files.exists(temporary):
                files.remove(temporary)


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
