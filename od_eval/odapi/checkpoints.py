"""Checkpoints of a `Detector`, in the layout of the Object Detection API's own programs.

`tf.train.Checkpoint(step, model, optimizer)` as `ckpt-1`, `ckpt-2`, … with the file `checkpoint` next to them: runs of
the Object Detection API's `model_main_tf2.py` can be continued here, and vice versa.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from object_detection.protos import train_pb2
from tensorflow.core.protobuf import trackable_object_graph_pb2

from od_eval import checkpoint_files, cluster, files
from od_eval.errors import ODEvalError
from od_eval.findings.finding import raise_first_error
from od_eval.odapi import config_checks
from od_eval.text import some

if TYPE_CHECKING:
    from od_eval.odapi.detector import Detector


class DamagedCheckpoint(ODEvalError):
    """A checkpoint of which something is missing or was overwritten.

    Args:
      path: the checkpoint.
      reason: TensorFlow's reason.

    Attributes:
      reason: as given.
    """

    def __init__(self, path: str, reason: str):
        super().__init__(f"checkpoint '{path}' is damaged: {reason}; choose another one.")
        self._path, self.reason = path, reason

    def passed_over(self) -> str:
        """The same as a warning, for those who go on with another one."""
        return f"checkpoint '{self._path}' is damaged and was skipped: {self.reason}"


class Checkpoints:
    """Saves a compiled detector to `directory`, and restores it from there.

    Under `MultiWorkerMirroredStrategy` all workers must save and restore together, because some variables differ among
    them; only the chief writes, and all read `directory`, so it must be the same folder for all.

    Args:
      detector: a compiled detector.
      directory: the `model_dir`.
      max_to_keep: the number of newest checkpoints to keep.
    """

    def __init__(self, detector: Detector, directory: str, max_to_keep: int = 7):
        self._directory = directory
        self._checkpoint = detector.checkpoint()
        self._checkpoint.save_counter  # noqa: B018 (reading it creates the variable, in which all workers take part)
        self._detector = detector
        self._max_to_keep = max_to_keep
        self._restored: str | None = None  # until another one is saved

    @functools.cached_property
    def _manager(self) -> tf.train.CheckpointManager:
        """Made for the first checkpoint that is saved: who only reads leaves the folder as it is."""
        checkpoint_files.repair_state(self._directory)
        return tf.train.CheckpointManager(self._checkpoint, self._directory, max_to_keep=self._max_to_keep)

    def save(self) -> str:
        """Writes a checkpoint, completely or not at all.

        Returns:
          Its path, for example `model_dir/ckpt-3`.

        Raises:
          ODEvalError: it could not be written, or a weight is not finite; older checkpoints are not changed.
        """
        strategy = self._detector.distribute_strategy
        with cluster.averaged(strategy, self._detector.model.variables):
            path = cluster.on_chief(strategy, self._save)
        self._restored = None
        return path

    def _save(self) -> str:
        # A step with a finite loss may still have broken the weights, which only shows in the loss of the next step.
        for variable in self._detector.model.variables:
            if variable.dtype.is_floating and not tf.reduce_all(tf.math.is_finite(variable.read_value())):
                raise ODEvalError(
                    f"'{variable.name}' is not finite after step {self._detector.steps_done}, which was not saved; the"
                    f" last good checkpoint is {self.newest()}. Lower the learning rate, lengthen its warm-up or set"
                    " train_config.gradient_clipping_by_norm."
                )
        number = int(self._checkpoint.save_counter.numpy()) + 1
        manager = self._manager
        try:
            path = manager.save()
            checkpoint_files.sync(path)
            return path
        except (tf.errors.OpError, OSError) as error:
            checkpoint_files.remove_interrupted(self._directory)
            raise ODEvalError(
                f"checkpoint '{self._directory}/ckpt-{number}' of step {self._detector.steps_done} could not be"
                f" written: {files.reason(error)}; make room or choose another model_dir, and start again to continue"
                f" from {os.path.basename(self.newest() or 'the beginning')}."
            ) from error

    def newest(self) -> str | None:
        """The path of the newest checkpoint in the directory that is not known to be damaged, or None."""
        return self._restored or next(iter(self._newest_first()), None)

    def restore(self, path: str) -> None:
        """Restores step, model and optimizer.

        Raises:
          ODEvalError: it belongs to another model.
          DamagedCheckpoint: files are missing, truncated or overwritten; nothing was restored.
        """
        raise_if_damaged(path)
        self._restore_whole(path)

    def _restore_whole(self, path: str) -> None:
        check_fits({"model": self._detector.model}, path, "Choose another model_dir for another model.")
        self._warn_of_another_optimizer(path)
        self._checkpoint.restore(path)

    def restore_newest(self) -> str | None:
        """Restores step, model and optimizer from the newest readable checkpoint.

        Returns:
          Its path; None if there is no checkpoint.

        Raises:
          ODEvalError: it belongs to another model, or none can be read.
        """
        strategy = self._detector.distribute_strategy
        self._restored = cluster.on_chief(strategy, self._newest_whole)
        if self._restored is not None:
            cluster.everywhere(strategy, self._restore_newest)
        return self._restored

    def _restore_newest(self) -> None:
        assert self._restored is not None
        if cluster.worker(self._detector.distribute_strategy) > 0 and not find_checkpoints(self._restored):
            raise ODEvalError(
                f"checkpoint '{self._restored}', from which worker 0 continues, is not there; model_dir must be the"
                " same folder for all workers."
            )
        self._restore_whole(self._restored)

    def _newest_whole(self) -> str | None:
        unreadable = []
        for path in self._newest_first():
            try:
                raise_if_damaged(path)
            except DamagedCheckpoint as error:
                unreadable.append(path)
                print(f"warning: {error.passed_over()}", file=sys.stderr)
                continue
            return path
        if unreadable:
            raise ODEvalError(
                f"none of the checkpoints in '{self._directory}' can be read; remove {', '.join(unreadable)} to start"
                " anew."
            )
        return None

    def _warn_of_another_optimizer(self, path: str) -> None:
        try:
            check_fits({"optimizer": self._detector.optimizer}, path, "Its state is reset where it differs.")
        except ODEvalError as error:
            print(f"warning: train_config.optimizer differs from that of the run: {error}", file=sys.stderr)

    def _newest_first(self) -> list[str]:
        numbers = checkpoint_files.numbers_in(self._directory)
        return [checkpoint_files.path_of(self._directory, number) for number in reversed(numbers)]


def check_fine_tune_checkpoint(train_config: train_pb2.TrainConfig, model_dir: str) -> None:
    """Rejects a `fine_tune_checkpoint` in `model_dir`, where it would be mistaken for a checkpoint of the run.

    Raises:
      ODEvalError: it is in that folder.
    """
    raise_first_error(config_checks.findings("model_dir", train_config, model_dir))


def load_fine_tune_checkpoint(detector: Detector, train_config: train_pb2.TrainConfig) -> None:
    """Initializes a detector from `train_config.fine_tune_checkpoint`, as the Object Detection API does.

    `fine_tune_checkpoint_type` decides what is loaded: `classification` the backbone, from a classification checkpoint;
    `detection` the feature extractor, from a detection checkpoint (`fine_tune` is its older name); `full` everything.

    Args:
      detector: the detector whose variables are assigned.
      train_config: the config; nothing happens if its `fine_tune_checkpoint` is empty.

    Raises:
      ODEvalError: the checkpoint does not exist, is a TF1 checkpoint, or does not fit; differing variables are named.
    """
    if not train_config.fine_tune_checkpoint:
        return
    raise_first_error(config_checks.findings("fine_tuning", train_config))
    kind = train_config.fine_tune_checkpoint_type
    remedy = f"Check train_config.fine_tune_checkpoint and its fine_tune_checkpoint_type, which is '{kind}'."
    path = existing_checkpoint(train_config.fine_tune_checkpoint, "train_config.fine_tune_checkpoint", remedy)
    try:
        objects = detector.model.restore_from_objects("detection" if kind == "fine_tune" else kind)
    except ValueError as error:
        raise ODEvalError(f"train_config.fine_tune_checkpoint '{path}' with type '{kind}': {error}") from error
    check_fits(objects, path, remedy)
    tf.train.Checkpoint(**objects).restore(path).expect_partial().assert_existing_objects_matched()


def raise_if_damaged(path: str) -> None:
    """Reads all of a checkpoint.

    Raises:
      DamagedCheckpoint: something of it is missing or was overwritten.
    """
    reason = checkpoint_files.damage(path)
    if reason is not None:
        raise DamagedCheckpoint(path, reason)


def existing_checkpoint(path: str, name: str, remedy: str) -> str:
    """The checkpoint that a path refers to, which is whole. Damaged ones of a folder are passed over with a warning.

    Args:
      path: a checkpoint (`runs/a/ckpt-12`), one of its files, or a folder, whose newest checkpoint is used.
      name: the name of the path in messages.
      remedy: what to do if there is none.

    Raises:
      ODEvalError: there is no checkpoint.
      DamagedCheckpoint: none of them can be read.
    """
    found = find_checkpoints(path)
    if not found:
        raise ODEvalError(f"{name} {how_it_is_missing(path)}; {remedy.removesuffix('.')}.")
    for checkpoint in found:
        try:
            raise_if_damaged(checkpoint)
        except DamagedCheckpoint as error:
            if checkpoint == found[-1]:
                raise
            print(f"warning: {error.passed_over()}", file=sys.stderr)
        else:
            break
    return checkpoint


def step_of(path: str) -> int | None:
    """The training step of a checkpoint; None if it cannot be read."""
    try:
        return int(tf.train.load_variable(path, "step/.ATTRIBUTES/VARIABLE_VALUE"))
    except (tf.errors.OpError, IndexError):
        return None


def find_checkpoints(path: str) -> list[str]:
    """The checkpoints that a path refers to: one, or those of a folder, the newest first; they may be damaged.

    Raises:
      ODEvalError: the file system cannot be accessed.
    """
    prefix = checkpoint_files.prefix_of(path)
    try:
        if not files.is_folder(path):
            return [prefix] if files.exists(prefix + ".index") else []
        found = [checkpoint_files.path_of(path, number) for number in reversed(checkpoint_files.numbers_in(path))]
        newest = _newest_by_state(path)  # which may have another name
        return [*([newest] if newest else []), *(one for one in found if one != newest)]
    except OSError as error:
        raise ODEvalError(f"checkpoint '{path}' cannot be looked up: {files.reason(error)}") from error


def _newest_by_state(directory: str) -> str | None:
    try:
        return tf.train.latest_checkpoint(directory)
    except ValueError:  # its file `checkpoint` is empty or not text
        return None
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, files.reason(error), directory) from error


def how_it_is_missing(path: str) -> str:
    """The rest of a sentence about a checkpoint that does not exist: the missing file, and a checkpoint nearby."""
    prefix = checkpoint_files.prefix_of(path)
    folder = path if files.is_folder(path) else os.path.dirname(prefix)
    nearby = [name for name in files.names_in(folder or os.curdir) if name.endswith(".index")]
    hint = f" (there is {os.path.join(folder, nearby[0].removesuffix('.index'))})" if nearby else ""
    return f"'{path}' does not exist: {prefix}.index is missing{hint}"


def check_fits(objects: Mapping[str, Any], path: str, remedy: str) -> None:
    """Compares the variables of objects with a checkpoint, before anything is assigned.

    Follows the object graph stored in the checkpoint as `tf.train.Checkpoint.restore` does, so that it finds exactly
    what would be restored.

    Args:
      objects: name in the checkpoint -> trackable object, as for `tf.train.Checkpoint(**objects)`.
      path: the checkpoint.
      remedy: a sentence for the message.

    Raises:
      ODEvalError: variables are missing from the checkpoint or have a different shape; some are named.
    """
    reader = tf.train.load_checkpoint(path)
    shapes = reader.get_variable_to_shape_map()
    if "_CHECKPOINTABLE_OBJECT_GRAPH" not in shapes:
        raise ODEvalError(f"checkpoint '{path}' was written by TF1, which TF2 models cannot load. {remedy}")
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
        reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
    )
    root = tf.train.Checkpoint(**objects)
    variables = [value for value in tf.train.TrackableView(root).descendants() if isinstance(value, tf.Variable)]
    matched, other_shape, only_outputs_differ = set(), [], True
    visited = set()
    queue = [(root, 0)]
    while queue:
        trackable, node_id = queue.pop()
        if (id(trackable), node_id) in visited:
            continue
        visited.add((id(trackable), node_id))
        node = graph.nodes[node_id]
        if isinstance(trackable, tf.Variable):
            for attribute in node.attributes:
                shape = shapes.get(attribute.checkpoint_key)
                if shape is not None and id(trackable) not in matched:
                    matched.add(id(trackable))
                    if shape != trackable.shape.as_list():
                        only_outputs_differ &= shape[:-1] == trackable.shape[:-1]
                        other_shape.append(f"{trackable.name} is {shape} there and {trackable.shape.as_list()} here")
        node_ids = {child.local_name: child.node_id for child in node.children}
        for name, child in tf.train.TrackableView.children(trackable).items():
            if name in node_ids:
                queue.append((child, node_ids[name]))
    missing = [variable.name for variable in variables if id(variable) not in matched]
    differences = [
        f"{len(names)} of {len(variables)} variables {difference}: {some(names, 5)}"
        for difference, names in (("are not in it", missing), ("have another shape", other_shape))
        if names
    ]
    if not differences:
        return
    likely = ""
    if len(missing) > len(variables) / 2 and "optimizer" not in objects:
        likely = " Most of the model is not in it: it belongs to another architecture, or is incomplete."
    elif not missing and only_outputs_differ:
        likely = " Only outputs differ: num_classes or the anchors are different."
    raise ODEvalError(f"checkpoint '{path}' does not fit this model; {'; '.join(differences)}.{likely} {remedy}")
