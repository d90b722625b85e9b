"""Detects objects in a labeled set part by part, on the machines of a Ray cluster, and keeps what is finished.

detected = detect_in_parts(model, labeled, left_out, ray="auto", folder="runs/a/eval/model/.unfinished")
result = evaluate_model(model, labeled, left_out, detected=detected)
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import os
import re
import socket
from collections.abc import Iterator, Sequence

from od_eval import batch_jobs, checkpoint_files, files
from od_eval.deployed import part_files
from od_eval.deployed.labeled_set import LabeledSet, Part
from od_eval.deployed.loading import load_model
from od_eval.deployed.measurements import DetectedImage, TimedModel, peak_memory
from od_eval.deployed.model import DeployedModel
from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import with_rles
from od_eval.evaluation.coco_files import LeftOut
from od_eval.evaluation.columns import ImageId
from od_eval.evaluation.loop import progress_bar
from od_eval.evaluation.unique_names import UniqueNames
from od_eval.text import printable

# What a model means and was trained on; beside it, or in the folder around it.
_BESIDE_A_MODEL = ("model.json", "label_map.pbtxt", "pipeline.config")
# Files on a network are asked about at the same time.
_REQUESTS = 16


@dataclasses.dataclass(frozen=True)
class _Task:
    """A part, and the model to run: what `load_model` takes. `state` tells it from another of the same path."""

    part: Part
    model: str
    num_threads: int | None
    label_map: str | None
    state: str


def detect_in_parts(
    model: DeployedModel,
    labeled: LabeledSet,
    left_out: LeftOut,
    *,
    ray: str,
    folder: str,
    label_map: str | None = None,
    num_pictured: int = 0,
) -> DetectedParts:
    """Runs a model over images on a Ray cluster; each of its processes loads the model once.

    A part whose process or machine is lost is read again. What is found in a part is written to a file, and a later
    call with the same model reads the parts alone that have none, or whose files have changed; image files on another
    file system are taken for the same. No result depends on the number of processes.

    Args:
      model: the model. Processes use its `num_threads`, and each a GPU, if the cluster has any and TensorFlow runs it.
      labeled: the images, in parts; all machines see the files of the parts and of the model under the same paths.
      left_out: is given what cannot be evaluated, in the order of the images.
      ray: the cluster, as for `batch_jobs.run`.
      folder: for what is finished; the caller removes it in the end. What is of another model there is removed.
      label_map: that which the model was loaded with, if it was given.
      num_pictured: of so many images at the beginning `DetectedParts.images` reads the pixels.

    Raises:
      ODEvalError: a part or the model cannot be read, on this machine or another, Ray cannot be reached, or something
        was left out and that is an error. It is that of the first part that has any.
    """
    parts = labeled.parts()
    state = _state_of_model(model, labeled, label_map)
    with files.errors_as_sentences("what was finished before cannot be looked up"):
        _remove_all_but(state, folder)
        folder = os.path.join(folder, state)
        there = set(files.names_in(folder))
    names = [f"{index:06}-{of_part}.npz" for index, of_part in enumerate(_states_of_parts(parts))]
    paths = [os.path.join(folder, name) for name in names]
    missing = [index for index, name in enumerate(names) if name not in there]
    tasks = [_Task(parts[index], model.path, model.num_threads, label_map, state) for index in missing]
    before = f", {len(parts) - len(missing)} of them finished before" if len(missing) < len(parts) else ""
    print(printable(f"{len(parts)} parts{before}; what is finished is kept in {folder} …"), flush=True)

    detected = DetectedParts(parts, paths, num_pictured)
    errors: dict[int, ODEvalError] = {}
    waiting = set(missing)
    jobs = batch_jobs.run(
        _detect, tasks, ray=ray, num_threads=model.num_threads or 1, with_gpu=model.format != "tflite"
    )
    with contextlib.closing(jobs), progress_bar("parts", len(parts), unit=" parts") as progress:
        progress.refresh()  # it begins with 0: the first takes a while
        for index in range(len(parts)):  # in their order, so that names, and the first error, are always the same
            while index in waiting:
                of_task, result = next(jobs)
                waiting.remove(missing[of_task])
                if isinstance(result, ODEvalError):
                    errors[missing[of_task]] = result
                else:
                    files.write_whole(paths[missing[of_task]], result)
            if index in errors:
                raise errors[index]
            detected.add(part_files.about(paths[index]), left_out)
            progress.update()
        if missing:
            next(jobs, None)  # which raises what a signal has asked for meanwhile
    detected.tell(left_out)
    return detected


class DetectedParts:
    """What was found in the parts of a labeled set.

    Args:
      parts: the parts.
      paths: of the file of each.
      num_pictured: as for `detect_in_parts`.

    Attributes:
      sizes: id -> height and width of each image, in their order; ids are unique.
      num_detections: of all images.
      peak_memory: the most memory of a process that ran the model, as `measurements.peak_memory`.
    """

    def __init__(self, parts: Sequence[Part], paths: Sequence[str], num_pictured: int):
        self._parts = parts
        self._paths = paths
        self._num_pictured = num_pictured
        self._names = UniqueNames()
        self.sizes: dict[ImageId, tuple[int, int]] = {}
        self.num_detections = 0
        self.peak_memory: float | None = None

    def add(self, about: part_files.AboutPart, left_out: LeftOut) -> None:
        """Adds what is known of the next part."""
        for id, size in zip(about.ids, about.sizes, strict=True):
            self.sizes[self._names.unique_id(id)] = size
        self.num_detections += about.num_detections
        if about.peak_memory is not None:
            self.peak_memory = max(about.peak_memory, self.peak_memory or 0)
        left_out.merge(about.left_out)

    def tell(self, left_out: LeftOut) -> None:
        """Says which ids were changed, when all parts are there."""
        self._names.tell(left_out)

    def images(self) -> Iterator[DetectedImage]:
        """The images in their order, without pixels but the first.

        Raises:
          ODEvalError: a file has changed or gone meanwhile.
        """
        ids = iter(self.sizes)
        pictured = itertools.islice(
            (image for part in self._parts for image in part.read(LeftOut())), self._num_pictured
        )
        for part, path in zip(self._parts, self._paths, strict=True):
            for image in part_files.images_of(path):
                if (pixels := next(pictured, None)) is not None:
                    if pixels.id != image.id:
                        raise ODEvalError(f"'{part.file}' has changed during the evaluation; begin again.")
                    image.pixels = pixels.image
                image.id = next(ids)
                yield image


def _detect(task: _Task) -> bytes | ODEvalError:
    """What is found in a part, as the contents of a file; an error waits until it is the first one."""
    try:
        with files.errors_as_sentences(f"'{task.part.file}' cannot be looked up"):
            if not files.exists(task.part.file):
                raise batch_jobs.not_shared(task.part.file, "where a worker runs")
        model = _timed_model(task.model, task.num_threads, task.label_map, task.state)
        left_out = LeftOut()
        detected = []
        for labeled in task.part.read(left_out):
            batch_jobs.stop_if_asked()
            image = model.detect(labeled)
            objects, detections = with_rles(image.objects, [image.size]), with_rles(image.detections, [image.size])
            detected.append(dataclasses.replace(image, objects=objects, detections=detections, pixels=None))
        return part_files.contents(detected, left_out, peak_memory())
    except ODEvalError as error:
        return error


@functools.lru_cache(maxsize=1)  # later tasks of this process need it, too
def _timed_model(path: str, num_threads: int | None, label_map: str | None, state: str) -> TimedModel:
    try:
        return TimedModel(load_model(path, num_threads=num_threads, label_map=label_map))
    except ODEvalError as error:
        raise ODEvalError(f"on machine '{socket.gethostname()}' the model cannot be loaded: {error}") from error


# ---- What is finished -----------------------------------------------------------------------------------------------


def _state_of_model(model: DeployedModel, labeled: LabeledSet, label_map: str | None) -> str:
    """Another one if another model is run, or something else is read of the parts."""
    of_files = _states([*_files_of(model.path), *([label_map] if label_map else [])])
    told = [of_files, model.path, model.num_threads, labeled.source, labeled.masks, sorted(labeled.categories.items())]
    return _hash(told)


def _states_of_parts(parts: Sequence[Part]) -> list[str]:
    """For each part another string if something else is read."""
    of_files = iter(_states([path for part in parts for path in _files_of_part(part)]))
    return [_hash([*itertools.islice(of_files, len(_files_of_part(part))), part.read_as]) for part in parts]


def _files_of_part(part: Part) -> list[str]:
    """Those that are asked for their state: of a bucket, that would take minutes for a million images."""
    return [part.file, *(path for path in part.images if not files.is_remote(path))]


def _states(paths: Sequence[str]) -> list[str]:
    """For each file another string if it is another one: name, size or time."""

    def state(path: str) -> str:
        with files.errors_as_sentences(f"'{path}' cannot be looked up"):
            return _hash([path, files.size(path), files.modified(path)])

    with concurrent.futures.ThreadPoolExecutor(_REQUESTS) as threads:
        states = dict(zip(dict.fromkeys(paths), threads.map(state, dict.fromkeys(paths)), strict=True))
    return [states[path] for path in paths]


def _hash(value: Sequence[object]) -> str:
    return hashlib.blake2b(repr(value).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _files_of(model: str) -> list[str]:
    """The files of a model: a folder, a file, or a checkpoint."""
    with files.errors_as_sentences(f"model '{model}' cannot be looked up"):
        if files.is_folder(model):
            found = [os.path.join(model, name) for name in files.files_below(model)]
        else:
            found = [model] if files.exists(model) else checkpoint_files.files_of(model)
        around = [files.parent(model), files.parent(files.parent(model))]
        beside = (os.path.join(folder, name) for folder in around for name in _BESIDE_A_MODEL)
        return found + [path for path in beside if files.exists(path)]


def _remove_all_but(name: str, folder: str) -> None:
    others = [other for other in files.names_in(folder) if other != name and re.fullmatch("[0-9a-f]{16}", other)]
    for other in others:
        files.remove(os.path.join(folder, other))
    if others:
        print(printable(f"note: what was found by another model, or in other data, was removed from {folder}."))
