"""What the event files of a run hold, as tests compare it.

    written_scalars(tmp_path / "train")["Loss/total_loss"]  # [(100, 0.5), (200, 0.25)]
    curves(tmp_path / "eval")["Loss/total_loss"]  # {100: 0.5, 200: 0.25}
    shown_tensors(tmp_path, "text")["pipeline_config"]  # [(0, array(b"…"))]

`written_…` is what the files hold, one after the other; `shown_…` and `curves` are what TensorBoard makes of them, in
its own code, except that it keeps a sample of a long run and here all is kept. Nothing of `od_eval` is used, whose own
reading and writing of event files (`od_eval.tensorboard.event_files`, `od_eval.history`) is among what is tested.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.util import tensor_util

Folder = str | os.PathLike[str]


def events(event_file: Folder) -> list[event_pb2.Event]:
    """The events of one file, in the order they were written, up to the first that is not whole."""
    return list(EventFileLoader(os.fspath(event_file)).Load())


def written_scalars(run_dir: Folder) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value) of every scalar, in the order they were written, file by file; none without such a folder.

    Doubles, and steps of which a later file has others, are all there.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    for event_file in sorted(Path(run_dir).glob("*tfevents*")):
        for event in events(event_file):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == scalar_metadata.PLUGIN_NAME:
                    number = tensor_util.make_ndarray(value.tensor).item()
                    found.setdefault(value.tag, []).append((event.step, float(number)))
    return found


def shown_tensors(run_dir: Folder, plugin: str | None = None) -> dict[str, list[tuple[int, np.ndarray]]]:
    """Tag -> (step, value) of what TensorBoard reads from a folder, which must be there.

    Args:
      run_dir: the run.
      plugin: whose tags to give: the PLUGIN_NAME of a `tensorboard.plugins.….metadata`. None: all.
    """
    accumulator = EventAccumulator(os.fspath(run_dir), size_guidance={"tensors": 0}).Reload()  # 0: no sample, but all
    return {
        tag: [(event.step, tensor_util.make_ndarray(event.tensor_proto)) for event in accumulator.Tensors(tag)]
        for tag in accumulator.Tags()["tensors"]
        if plugin in (None, accumulator.SummaryMetadata(tag).plugin_data.plugin_name)
    }


def shown_scalars(run_dir: Folder) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value) of every scalar that TensorBoard reads, doubles included."""
    tensors = shown_tensors(run_dir, scalar_metadata.PLUGIN_NAME)
    return {tag: [(step, float(value.item())) for step, value in points] for tag, points in tensors.items()}


def curves(run_dir: Folder, *, ascending: bool = False) -> dict[str, dict[int, float]]:
    """Tag -> step -> value of every scalar that TensorBoard reads; a step that is there twice fails the test.

    Args:
      run_dir: the run.
      ascending: whether a step that goes back fails the test, too.
    """
    scalars = shown_scalars(run_dir)
    for tag, points in scalars.items():
        steps = [step for step, _ in points]
        assert len(set(steps)) == len(steps), f"{tag} doubles"
        assert not ascending or steps == sorted(steps), f"{tag} goes back"
    return {tag: dict(points) for tag, points in scalars.items()}


def shown_images(run_dir: Folder) -> dict[str, list[tuple[int, list[Image.Image]]]]:
    """Tag -> (step, images) of all that TensorBoard shows under Images; a size that is not the image's fails the test.

    The size that is written beside images is that of the first.
    """
    found: dict[str, list[tuple[int, list[Image.Image]]]] = {}
    for tag, points in shown_tensors(run_dir, image_metadata.PLUGIN_NAME).items():
        for step, value in points:
            width, height, *encoded = value.tolist()
            images = [Image.open(io.BytesIO(one)) for one in encoded]
            assert (b"%d" % images[0].width, b"%d" % images[0].height) == (width, height), tag
            found.setdefault(tag, []).append((step, images))
    return found
