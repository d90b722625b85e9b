"""Checks that an input reader has record files that are not empty, and a label map that fits the model."""

from __future__ import annotations

import os
from collections.abc import Iterator

import tensorflow as tf
from object_detection.protos import pipeline_pb2
from object_detection.utils import config_util

from od_eval import cluster, files
from od_eval.findings.finding import Finding
from od_eval.label_map import Category, read_label_map
from od_eval.odapi.config_checks import Reader, has_num_classes, runs_at
from od_eval.odapi.placeholder import placeholder
from od_eval.odapi.records import glob, input_files, size
from od_eval.text import backslash_hint, named, printable
from od_eval.text_proto import read_text


@runs_at("model")
def keypoint_label_map(config: pipeline_pb2.TrainEvalPipelineConfig, source: str) -> Iterator[Finding]:
    """CenterNet's label map of keypoints can be read."""
    field = "model.center_net.keypoint_label_map_path"
    path = config.model.center_net.keypoint_label_map_path
    unset = list(placeholder(source, field, path))
    yield from unset
    if path and not unset:
        read_text(path, f"{source}: {field}: label map")


@runs_at("input")
def record_patterns(reader: Reader) -> Iterator[Finding]:
    """Each pattern matches a file."""
    patterns = list(reader.proto.tf_record_input_reader.input_path)
    name = f"{reader.field}.tf_record_input_reader.input_path"
    for index, pattern in enumerate(patterns):
        field = name if len(patterns) == 1 else f"{name}[{index}]"
        unset = list(placeholder(reader.source, field, pattern))
        yield from unset
        if not unset and not glob(pattern):
            folder = os.path.dirname(files.absolute(reader.source))
            yield Finding(
                "no_record_files",
                "error",
                reader.source,
                f"{field} '{printable(pattern)}' matches no file (looked in {os.getcwd()} and in"
                f" {folder}){backslash_hint(pattern)}",
                f"correct it there or with --set {field}=PATH",
                field=field,
            )
    if not patterns:
        yield Finding(
            "no_record_patterns",
            "error",
            reader.source,
            f"{reader.field} has no input_path",
            f"set {reader.field}.tf_record_input_reader.input_path",
            field=name,
        )


@runs_at("input")
def label_map(reader: Reader) -> Iterator[Finding]:
    """The label map can be read, and the model has all its classes."""
    field = f"{reader.field}.label_map_path"
    path = reader.proto.label_map_path
    unset = list(placeholder(reader.source, field, path))
    yield from unset
    if not path or unset:
        return
    categories = read_label_map(path, f"{reader.source}: {field}: label map")
    last = max(categories, key=lambda category: category.id)
    if not has_num_classes(reader.config.model):
        return
    num_classes = config_util.get_number_of_classes(reader.config.model)
    if last.id > num_classes:
        yield Finding(
            "class_beyond_num_classes",
            "error",
            f"label map {path}",
            f"'{named(last.name)}' has id {last.id}",
            f"set num_classes to {last.id} or remove the class",
            cause=f"but num_classes of the model is {num_classes}",
            field=f"model.{reader.config.model.WhichOneof('model')}.num_classes",
            evidence={"id": last.id, "num_classes": num_classes},
        )


@runs_at("input")
def label_map_of_training(reader: Reader) -> Iterator[Finding]:
    """The label map of an evaluation has the ids of that of training; it may have fewer classes, or more."""
    paths = (reader.config.train_input_reader.label_map_path, reader.proto.label_map_path)
    if reader.field == "train_input_reader" or paths[0] == paths[1] or not all(paths):
        return
    with files.errors_as_sentences(f"{reader.source}: train_input_reader.label_map_path cannot be looked up"):
        if not files.exists(paths[0]):
            return  # a training says so; an evaluation does not need it
    learned, evaluated = map(read_label_map, paths)
    pairs = [(ours, theirs) for ours in evaluated for theirs in learned]
    other_ids = [
        f"'{named(ours.name or ours.display_name)}' has id {ours.id}, and {theirs.id}"
        for ours, theirs in pairs
        if ours.id != theirs.id and _is_same_class(ours, theirs)
    ]
    other_classes = [
        f"id {ours.id} is '{named(ours.name or ours.display_name)}', and '{named(theirs.name or theirs.display_name)}'"
        for ours, theirs in pairs
        if ours.id == theirs.id and not _is_same_class(ours, theirs)
    ]
    for difference in (other_ids + other_classes)[:1]:
        yield Finding(
            "label_maps_differ",
            "error",
            f"{reader.field}.label_map_path {paths[1]}",
            f"{difference} in {paths[0]} of train_input_reader",
            "use one label map for both",
            cause="so that the model would be judged by other classes than it learns",
            field=f"{reader.field}.label_map_path",
        )


def _is_same_class(one: Category, other: Category) -> bool:
    return bool({one.name, one.display_name} & {other.name, other.display_name} - {""})


@runs_at("input")
def empty_record_files(reader: Reader) -> Iterator[Finding]:
    """Not all files are empty: the Object Detection API would read them in an endless loop."""
    paths = input_files(reader.proto)
    if paths and all(size(path) == 0 for path in paths):
        yield Finding(
            "empty_record_files",
            "error",
            reader.source,
            f"the record files of {reader.field} are empty ({paths[0]})",
            "create them again",
            field=f"{reader.field}.tf_record_input_reader.input_path",
        )


@runs_at("input")
def files_for_all_workers(reader: Reader) -> Iterator[Finding]:
    """There is a file for each worker: the Object Detection API assigns whole files, and a worker without one hangs."""
    if reader.field != "train_input_reader":
        return
    workers = cluster.num_workers(tf.distribute.get_strategy())
    patterns = reader.proto.tf_record_input_reader.input_path
    files_of = {"train_input_reader": input_files(reader.proto)}
    if reader.proto.sample_from_datasets_weights:  # each is sampled by itself
        files_of = {f"input_path '{pattern}' of train_input_reader": glob(pattern) for pattern in patterns}
    what, num_files = min(((what, len(paths)) for what, paths in files_of.items()), key=lambda item: item[1])
    if num_files < workers and workers > 1:
        yield Finding(
            "fewer_record_files_than_workers",
            "error",
            reader.source,
            f"{what} has {num_files} record files for {workers} workers",
            "write the dataset in at least as many shards as there are workers",
            field="train_input_reader.tf_record_input_reader.input_path",
            evidence={"files": num_files, "workers": workers},
        )
