"""Detects objects in image files and videos, and writes what is found: pictures, COCO JSON and CSV.

detected = detect_in_files(load_model("runs/a/exported"), find_input_files(["photos"]), "found")
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
import tqdm

from od_eval import files
from od_eval.data.images import EXTENSIONS, ImageUnusable, read_pixels
from od_eval.deployed.input_files import InputFile
from od_eval.deployed.model import DeployedModel, Image
from od_eval.deployed.videos import Video, VideoWriter
from od_eval.errors import ODEvalError
from od_eval.evaluation import coco_json, columns
from od_eval.evaluation import masks as coco_masks
from od_eval.evaluation.batch import Detections, rows_of
from od_eval.evaluation.coco_files import LeftOut
from od_eval.figures.pictures import draw_detections
from od_eval.runs.analysis_files import table_csv
from od_eval.text import utf8

USUAL_CONFIDENCE = 0.5
# Of a model that nothing tells the names of.
_NAME_OF_CLASS = "class {}"


@dataclasses.dataclass(frozen=True)
class DetectedObjects:
    """What was found in files.

    Attributes:
      categories: id -> name; a class without a name is called by its number.
      num_images: the number of images and frames that were looked at.
      per_category: category id -> the number of its detections, and of the images with one, for each that was found.
      left_out: what could not be read.
    """

    categories: Mapping[int, str]
    num_images: int
    per_category: Mapping[int, tuple[int, int]]
    left_out: LeftOut


def detect_in_files(
    model: DeployedModel,
    inputs: Sequence[InputFile],
    output: str,
    *,
    confidence: float | None = None,
    pictures: bool = True,
    every_n_frames: int = 1,
) -> DetectedObjects:
    """Detects objects in images and videos, and writes them into a new folder, whole or not at all.

    The folder has:

    * `detections.json`: the detections in COCO's results format.
    * `annotations.json`: the images, the categories, and the detections as annotations with a score, in COCO's format
      for datasets, with the same ids. Frame 12 of `clip.mp4` is image `clip.mp4/12`.
    * `detections.csv`: a row for each detection.
    * `pictures/`: images with their detections, under their own names; of a video, a video, `….mp4`.

    Args:
      model: from `od_eval.load_model`.
      inputs: from `find_input_files`.
      output: the folder.
      confidence: the least score of a detection; by default that of its category in the model's own `confidence`, or
        0.5 if there is none.
      pictures: whether pictures are drawn.
      every_n_frames: of a video, the first frame and every n-th after it is looked at.

    Returns:
      How much was found.

    Raises:
      ODEvalError: the folder exists or cannot be written, or none of the files can be read.
    """
    output = output.rstrip("/") or output
    with files.errors_as_sentences(f"output '{output}' cannot be looked up"):
        if files.exists(output):
            raise ODEvalError(f"output '{output}' already exists; remove it or choose another one.")
    with (
        files.errors_as_sentences(f"output '{output}' cannot be written"),
        files.new_folder(output, last=("detections.csv", "annotations.json", "detections.json")) as folder,
    ):
        detecting = _Detecting(model, confidence, os.path.join(folder, "pictures") if pictures else None)
        detecting.detect(inputs, every_n_frames)
        detected = detecting.write(folder)
    return detected


class _Detecting:
    """Detects objects in one image after the other, and keeps them.

    Args:
      model, confidence: as for `detect_in_files`.
      pictures_dir: the folder for pictures; None for none.
    """

    def __init__(self, model: DeployedModel, confidence: float | None, pictures_dir: str | None):
        self._model = model
        self._confidence = confidence
        self._pictures_dir = pictures_dir
        self._sizes: dict[columns.ImageId, columns.Size] = {}
        self._frames: list[tuple[str, int | None]] = []  # of each image: its file, and its number in a video
        self._found: list[Detections] = []
        self._left_out = LeftOut()

    def detect(self, inputs: Sequence[InputFile], every_n_frames: int) -> None:
        """Detects objects in all files, with a progress bar if that takes longer than two seconds."""
        problem = ""
        with tqdm.tqdm(total=len(inputs), unit="image", disable=None, delay=2, leave=False) as progress:
            for file in inputs:
                try:
                    if file.is_video:
                        self._detect_in_video(file, every_n_frames, progress)
                    else:
                        self._detect_in_image(file)
                        progress.update()
                except ImageUnusable as error:
                    problem = problem or str(error)
                    self._left_out.note("files that cannot be read", str(error))
        if not self._sizes:
            raise ODEvalError(f"none of the {len(inputs)} files can be read; the first: {problem}.")

    def _detect_in_image(self, file: InputFile) -> None:
        image = read_pixels(file.path)
        found = self._detect(image, file.name, file.name, None)
        if self._pictures_dir is not None:
            path = os.path.join(self._pictures_dir, file.name)
            files.make_folder(os.path.dirname(path))
            # Its folder is temporary, so that it need not be written whole.
            files.append(path, _encoded(self._drawn(image, found), file.name))

    def _detect_in_video(self, file: InputFile, every_n_frames: int, progress: Any) -> None:
        with files.temporary_folder() as folder:  # OpenCV writes to this computer only, and only to usual names
            video = Video(file.path, folder)
            progress.total += len(range(0, video.num_frames, every_n_frames)) - 1
            writer = None
            path = os.path.join(folder, "video.mp4")
            for number, image in video.frames(every_n_frames):
                found = self._detect(image, f"{file.name}/{number}", file.name, number)
                if self._pictures_dir is not None:
                    picture = self._drawn(image, found)
                    writer = writer or VideoWriter(path, video.frame_rate / every_n_frames, picture.shape[:2])
                    writer.write(picture)
                progress.update()
            if not video.num_read:
                raise ImageUnusable("video unreadable", f"{file.path}: none of its frames can be read")
            missing = video.num_frames - video.num_read
            if missing > video.frame_rate:  # a second; their number may be an estimate
                what = f"{file.path}: {missing} of {video.num_frames} frames are missing"
                self._left_out.note("videos that end too early", what)
            if writer is not None:
                writer.close()
                self._keep_video(path, file.name if file.name.endswith(".mp4") else f"{file.name}.mp4")

    def _keep_video(self, path: str, name: str) -> None:
        assert self._pictures_dir is not None
        target = os.path.join(self._pictures_dir, name)
        if files.exists(target):
            raise ODEvalError(f"two videos would become pictures/{name}; give one of them alone.")
        files.make_folder(os.path.dirname(target))
        files.copy(path, target)

    def _detect(self, image: Image, name: str, file_name: str, frame: int | None) -> Detections:
        """Detects objects in an image and keeps them; returns those that are confident enough."""
        found = self._model.detect([image])
        scores, classes = np.asarray(found.scores[0]), np.asarray(found.classes[0])
        least = [self._least_score(id) for id in classes.tolist()]
        found = rows_of(found, [np.flatnonzero(scores >= least)])
        size = image.shape[:2]
        if found.masks is not None:
            rles = [coco_masks.as_rle(coco_masks.from_array(mask), size) for mask in found.masks[0]]
            found = dataclasses.replace(found, masks=[rles])
        self._sizes[name] = size
        self._frames.append((file_name, frame))
        self._found.append(found)
        return found

    def _least_score(self, category: int) -> float:
        if self._confidence is not None:
            return self._confidence
        return (self._model.confidence or {}).get(category, USUAL_CONFIDENCE)

    def _drawn(self, image: Image, found: Detections) -> Image:
        return draw_detections(image, found, self._model.categories)

    def write(self, folder: str) -> DetectedObjects:
        """Writes the tables of all detections."""
        detections = Detections(
            boxes=[found.boxes[0] for found in self._found],
            scores=[found.scores[0] for found in self._found],
            classes=[found.classes[0] for found in self._found],
            masks=[found.masks[0] for found in self._found if found.masks] if self._model.predicts_masks else None,
        )
        ids = {id for classes in detections.classes for id in np.asarray(classes).tolist()}
        names = {id: _NAME_OF_CLASS.format(id) for id in ids} | dict(self._model.categories)
        categories = {id: utf8(names[id]) for id in sorted(names)}
        row_format = columns.RowFormat(categories, "yxyx", self._model.predicts_masks)
        table = columns.read_detections(detections, self._sizes, row_format)
        results = coco_json.detections_json(self._sizes, categories, table)
        _write_json(os.path.join(folder, "detections.json"), results)
        _write_json(os.path.join(folder, "annotations.json"), self._dataset(categories, table))
        files.write_whole(os.path.join(folder, "detections.csv"), table_csv(self._csv_columns(categories, table)))
        per_category = {}
        for index, id in enumerate(categories):
            images = table["image"][table["category"] == index]
            if len(images):
                per_category[id] = (len(images), len(np.unique(images)))
        return DetectedObjects(categories, len(self._sizes), per_category, self._left_out)

    def _dataset(self, categories: Mapping[int, str], table: columns.Columns) -> dict[str, Any]:
        """All as a dataset in COCO format."""
        num = len(table["box"])
        areas = np.prod(table["box"][:, 2:], axis=1, dtype=np.float64)
        if "mask" in table:
            sizes = list(self._sizes.values())
            areas = coco_masks.areas(
                list(map(coco_masks.as_rle, table["mask"], [sizes[image] for image in table["image"]]))
            )
        objects = {**table, "area": areas, "crowd": np.zeros(num, bool), "difficult": np.zeros(num, bool)}
        dataset = coco_json.groundtruth_json(self._sizes, categories, objects)
        for image in dataset["images"]:
            image["file_name"] = utf8(image["file_name"])
        for annotation, score in zip(dataset["annotations"], table["score"].tolist(), strict=True):
            annotation["score"] = score
        return dataset

    def _csv_columns(self, categories: Mapping[int, str], table: columns.Columns) -> list[tuple[str, Sequence[Any]]]:
        frames = [self._frames[image] for image in table["image"]]
        ids = list(categories)
        of_row = [ids[index] for index in table["category"]]
        left, top, width, height = table["box"].astype(np.float64).T
        corners = {"xmin": left, "ymin": top, "xmax": left + width, "ymax": top + height}
        return [
            ("file", [name for name, _ in frames]),
            ("frame", [number for _, number in frames]),
            ("category_id", of_row),
            ("category", [categories[id] for id in of_row]),
            ("score", table["score"].astype(np.float64).round(4)),
            *((name, values.round(2)) for name, values in corners.items()),
        ]


def _write_json(path: str, content: Any) -> None:
    files.write_whole(path, json.dumps(content, allow_nan=False) + "\n")


def _encoded(picture: Image, name: str) -> bytes:
    """A picture as a file of the format that its name tells."""
    extension = os.path.splitext(name)[1].lower()
    file_format = PIL.Image.registered_extensions()[extension] if extension in EXTENSIONS else "PNG"
    contents = io.BytesIO()
    PIL.Image.fromarray(picture).save(contents, file_format, quality=90)
    return contents.getvalue()
