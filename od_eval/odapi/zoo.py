"""The TF2 model zoo: its table, and its archives, downloaded once and kept in Keras's cache.

    model = zoo.fetch("ssd_mobilenet_v2_fpnlite_320x320")
    model.config, model.checkpoint

`Pipeline.load(zoo=…)` makes a pipeline of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import os
import re
import tarfile
import zlib
from typing import Any

import tensorflow as tf
from object_detection.protos import pipeline_pb2, train_pb2
from object_detection.utils import config_util

from od_eval import checkpoint_files, files
from od_eval.errors import ODEvalError
from od_eval.label_map import read_label_map
from od_eval.odapi.config_checks import has_num_classes
from od_eval.text import named, quoted

TABLE_URL = "https://github.com/tensorflow/models/blob/master/research/object_detection/g3doc/tf2_detection_zoo.md"
BASE_URL = "http://download.tensorflow.org/models/object_detection/tf2"

# Name -> folder below BASE_URL, which is a date, and name of the archive, as linked in the zoo's table. The name of the
# archive can be used as well. The table's deprecated ExtremeNet is not here: the API can no longer load it.
ARCHIVES = {
    "centernet_hg104_512x512": "20200713/centernet_hg104_512x512_coco17_tpu-8",
    "centernet_hg104_512x512_kpts": "20200711/centernet_hg104_512x512_kpts_coco17_tpu-32",
    "centernet_hg104_1024x1024": "20200713/centernet_hg104_1024x1024_coco17_tpu-32",
    "centernet_hg104_1024x1024_kpts": "20200711/centernet_hg104_1024x1024_kpts_coco17_tpu-32",
    "centernet_resnet50_v1_fpn_512x512": "20200711/centernet_resnet50_v1_fpn_512x512_coco17_tpu-8",
    "centernet_resnet50_v1_fpn_512x512_kpts": "20200711/centernet_resnet50_v1_fpn_512x512_kpts_coco17_tpu-8",
    "centernet_resnet101_v1_fpn_512x512": "20200711/centernet_resnet101_v1_fpn_512x512_coco17_tpu-8",
    "centernet_resnet50_v2_512x512": "20200711/centernet_resnet50_v2_512x512_coco17_tpu-8",
    "centernet_resnet50_v2_512x512_kpts": "20200711/centernet_resnet50_v2_512x512_kpts_coco17_tpu-8",
    "centernet_mobilenetv2fpn_512x512": "20210210/centernet_mobilenetv2fpn_512x512_coco17_od",
    "centernet_mobilenetv2fpn_512x512_kpts": "20210210/centernet_mobilenetv2fpn_512x512_coco17_kpts",
    "efficientdet_d0": "20200711/efficientdet_d0_coco17_tpu-32",
    "efficientdet_d1": "20200711/efficientdet_d1_coco17_tpu-32",
    "efficientdet_d2": "20200711/efficientdet_d2_coco17_tpu-32",
    "efficientdet_d3": "20200711/efficientdet_d3_coco17_tpu-32",
    "efficientdet_d4": "20200711/efficientdet_d4_coco17_tpu-32",
    "efficientdet_d5": "20200711/efficientdet_d5_coco17_tpu-32",
    "efficientdet_d6": "20200711/efficientdet_d6_coco17_tpu-32",
    "efficientdet_d7": "20200711/efficientdet_d7_coco17_tpu-32",
    "ssd_mobilenet_v2_320x320": "20200711/ssd_mobilenet_v2_320x320_coco17_tpu-8",
    "ssd_mobilenet_v1_fpn_640x640": "20200711/ssd_mobilenet_v1_fpn_640x640_coco17_tpu-8",
    "ssd_mobilenet_v2_fpnlite_320x320": "20200711/ssd_mobilenet_v2_fpnlite_320x320_coco17_tpu-8",
    "ssd_mobilenet_v2_fpnlite_640x640": "20200711/ssd_mobilenet_v2_fpnlite_640x640_coco17_tpu-8",
    "ssd_resnet50_v1_fpn_640x640": "20200711/ssd_resnet50_v1_fpn_640x640_coco17_tpu-8",
    "ssd_resnet50_v1_fpn_1024x1024": "20200711/ssd_resnet50_v1_fpn_1024x1024_coco17_tpu-8",
    "ssd_resnet101_v1_fpn_640x640": "20200711/ssd_resnet101_v1_fpn_640x640_coco17_tpu-8",
    "ssd_resnet101_v1_fpn_1024x1024": "20200711/ssd_resnet101_v1_fpn_1024x1024_coco17_tpu-8",
    "ssd_resnet152_v1_fpn_640x640": "20200711/ssd_resnet152_v1_fpn_640x640_coco17_tpu-8",
    "ssd_resnet152_v1_fpn_1024x1024": "20200711/ssd_resnet152_v1_fpn_1024x1024_coco17_tpu-8",
    "faster_rcnn_resnet50_v1_640x640": "20200711/faster_rcnn_resnet50_v1_640x640_coco17_tpu-8",
    "faster_rcnn_resnet50_v1_1024x1024": "20200711/faster_rcnn_resnet50_v1_1024x1024_coco17_tpu-8",
    "faster_rcnn_resnet50_v1_800x1333": "20200711/faster_rcnn_resnet50_v1_800x1333_coco17_gpu-8",
    "faster_rcnn_resnet101_v1_640x640": "20200711/faster_rcnn_resnet101_v1_640x640_coco17_tpu-8",
    "faster_rcnn_resnet101_v1_1024x1024": "20200711/faster_rcnn_resnet101_v1_1024x1024_coco17_tpu-8",
    "faster_rcnn_resnet101_v1_800x1333": "20200711/faster_rcnn_resnet101_v1_800x1333_coco17_gpu-8",
    "faster_rcnn_resnet152_v1_640x640": "20200711/faster_rcnn_resnet152_v1_640x640_coco17_tpu-8",
    "faster_rcnn_resnet152_v1_1024x1024": "20200711/faster_rcnn_resnet152_v1_1024x1024_coco17_tpu-8",
    "faster_rcnn_resnet152_v1_800x1333": "20200711/faster_rcnn_resnet152_v1_800x1333_coco17_gpu-8",
    "faster_rcnn_inception_resnet_v2_640x640": "20200711/faster_rcnn_inception_resnet_v2_640x640_coco17_tpu-8",
    "faster_rcnn_inception_resnet_v2_1024x1024": "20200711/faster_rcnn_inception_resnet_v2_1024x1024_coco17_tpu-8",
    "mask_rcnn_inception_resnet_v2_1024x1024": "20200711/mask_rcnn_inception_resnet_v2_1024x1024_coco17_gpu-8",
    "extremenet": "20210507/extremenet",
}

# The files of an archive that are used. Only their base names count: the folder in CenterNet MobileNet's archives has
# another name than the archive, and an archive cannot write outside of its own folder.
_USED = re.compile(r"(?:.*/)?(pipeline\.config|ckpt-\d+\.(?:index|data-\d+-of-\d+))")


@dataclasses.dataclass(frozen=True)
class ZooModel:
    """A model of the zoo in the cache.

    Attributes:
      name: the name of its archive, without `.tar.gz`.
      config: its pipeline.config, which the archive of ExtremeNet does not have.
      checkpoint: its checkpoint.
      origin: where it was taken from this time: `downloaded from …`, `unpacked from …`, `in the cache`.
    """

    name: str
    config: str
    checkpoint: str
    origin: str

    def enter(self, config: pipeline_pb2.TrainEvalPipelineConfig) -> int:
        """Makes a config begin from the checkpoint, before its overrides are applied, which therefore win.

        Returns:
          The number of classes, which is removed from the config until `fit_num_classes`.
        """
        train_config = config.train_config
        train_config.fine_tune_checkpoint = self.checkpoint
        train_config.fine_tune_checkpoint_type = "detection"  # for all families: all but what depends on the classes
        train_config.fine_tune_checkpoint_version = train_pb2.CheckpointVersion.V2
        if not has_num_classes(config.model):
            return 0
        num_classes = config_util.get_number_of_classes(config.model)
        _model_of(config).ClearField("num_classes")
        return num_classes

    def fit_num_classes(self, config: pipeline_pb2.TrainEvalPipelineConfig, before: int) -> str:
        """Sets the number of classes to the highest id of the training data's label map, unless an override has set it.

        Args:
          config: the config with overrides and absolute paths.
          before: the number of classes without them, which stays if the label map cannot be read. Checks of the input
            say why.

        Returns:
          One sentence that says what came from the zoo, and what was set.
        """
        sentence = (
            f"{self.name} of the model zoo ({self.origin}): fine_tune_checkpoint is"
            f" {config.train_config.fine_tune_checkpoint}, of type {config.train_config.fine_tune_checkpoint_type}"
        )
        if not has_num_classes(config.model):
            return f"{sentence}."
        model = _model_of(config)
        if model.HasField("num_classes"):
            return f"{sentence}; num_classes is {model.num_classes}, as set."
        model.num_classes = before
        with contextlib.suppress(ODEvalError):
            categories = read_label_map(config.train_input_reader.label_map_path)
            model.num_classes = max(category.id for category in categories)
        change = "is" if model.num_classes == before else f"was {before} and is now"
        return f"{sentence}; num_classes {change} {model.num_classes}."


def fetch(name: str) -> ZooModel:
    """The files of a model: from the cache, or from its archive, which is downloaded unless it is in the cache.

    Archives are checked before they are kept: nothing incomplete stays in the cache.

    Args:
      name: a key of `ARCHIVES`, or the name of an archive.

    Raises:
      ODEvalError: there is no such model, its archive cannot be downloaded or is damaged, or the cache is not writable.
    """
    path = _path_of(name)
    archive = os.path.basename(path)
    cache = cache_folder()
    folder = os.path.join(cache, archive)
    origin = "in the cache"
    if not files.is_folder(folder):
        with files.errors_as_sentences(f"the cache of the model zoo, '{cache}', cannot be written"):
            files.make_folder(cache)
            with files.temporary_folder(cache) as temporary:
                origin = _fill(temporary, path, folder)
    checkpoint = _checkpoint_in(folder)
    if checkpoint is None:
        raise ODEvalError(f"'{folder}' has no checkpoint; remove it, and its archive is unpacked again.")
    return ZooModel(archive, os.path.join(folder, "pipeline.config"), checkpoint, origin)


def cache_folder() -> str:
    """The folder where archives are kept and may be put by hand: in that of Keras, `~/.keras` or `$KERAS_HOME`."""
    keras = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    return os.path.join(os.path.abspath(keras), "od_eval_zoo")


def _model_of(config: pipeline_pb2.TrainEvalPipelineConfig) -> Any:
    return getattr(config.model, config.model.WhichOneof("model"))


def _path_of(name: str) -> str:
    paths = {**ARCHIVES, **{os.path.basename(path): path for path in ARCHIVES.values()}}
    if name not in paths:
        similar = difflib.get_close_matches(name, ARCHIVES, n=3)
        hint = f"the nearest are {quoted(similar)}; " if similar else ""
        raise ODEvalError(f"zoo={named(name)} is not a model of the zoo; {hint}all are listed in {TABLE_URL}.")
    return paths[name]


def _fill(temporary: str, path: str, folder: str) -> str:
    """Unpacks the archive of a model into a folder of the cache, through a temporary one; returns its origin."""
    cache, archive = os.path.split(folder)
    kept = os.path.join(cache, f"{archive}.tar.gz")
    url = f"{BASE_URL}/{path}.tar.gz"
    by_hand = files.exists(kept)
    source = kept if by_hand else _download(url, temporary, kept)
    unpacked = os.path.join(temporary, "unpacked")
    try:
        _unpack(source, unpacked)
    except (tarfile.TarError, tf.errors.OpError, OSError, EOFError, zlib.error) as error:
        reason = files.reason(error).rstrip(":.")
        if by_hand:
            raise ODEvalError(f"{kept} cannot be unpacked ({reason}); replace it by {url}.") from error
        raise ODEvalError(
            f"what was downloaded from {url} cannot be unpacked ({reason}) and was removed; start again, or put the"
            f" archive into {cache} by hand."
        ) from error
    if not by_hand:
        files.rename(source, kept)
    try:
        files.rename(unpacked, folder)
    except OSError:
        if not files.is_folder(folder):  # otherwise another process was faster
            raise
    return f"unpacked from {kept}" if by_hand else f"downloaded from {url}"


def _download(url: str, temporary: str, kept: str) -> str:
    try:
        return tf.keras.utils.get_file(os.path.basename(kept), url, cache_subdir=temporary)
    except Exception as error:  # `get_file` raises bare exceptions: "URL fetch failure on … -- reason"
        reason = str(error).rpartition(" -- ")[2].strip() or type(error).__name__
        raise ODEvalError(
            f"{url} cannot be downloaded ({reason}); get it in another way and put the archive into"
            f" {os.path.dirname(kept)}."
        ) from error


def _unpack(archive: str, folder: str) -> None:
    """Writes the used files of an archive to a folder: `pipeline.config`, `checkpoint/ckpt-0.index`, …

    Raises:
      tarfile.TarError, tf.errors.OpError, OSError, EOFError, zlib.error: it is not a whole archive of a model.
    """
    with tarfile.open(archive) as members:
        for member in members:
            match = _USED.fullmatch(member.name)
            file = members.extractfile(member) if match and member.isreg() else None
            if match and file:
                subfolder = "" if match[1] == "pipeline.config" else "checkpoint"
                files.write_whole(os.path.join(folder, subfolder, match[1]), file.read())
        while members.fileobj and members.fileobj.read(1 << 20):  # up to the checksum, which is at the end
            pass
    checkpoint = _checkpoint_in(folder)
    if checkpoint is None:
        raise tarfile.TarError("there is no checkpoint in it")
    tf.train.load_checkpoint(checkpoint)


def _checkpoint_in(folder: str) -> str | None:
    checkpoints = os.path.join(folder, "checkpoint")
    numbers = checkpoint_files.numbers_in(checkpoints)
    return checkpoint_files.path_of(checkpoints, numbers[-1]) if numbers else None
