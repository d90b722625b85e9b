"""Object tables as Parquet files: written after an evaluation, and read as pandas tables.

objects = od_eval.load_objects("runs/a")
objects[objects.error == "missed"].groupby("category").size()
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Container, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.evaluation import masks as coco_masks
from od_eval.evaluation.columns import ImageId
from od_eval.evaluation.matching import Matches, Pairs
from od_eval.evaluation.object_columns import MATCH_COLUMNS, as_pandas
from od_eval.evaluation.object_table import IouType, ObjectTable
from od_eval.evaluation.objects import Objects
from od_eval.runs import analysis_files
from od_eval.runs.image_archive import ImageArchive, member_name

_IOU_TYPES: tuple[IouType, ...] = ("bbox", "segm")
FILE_NAMES = {iou_type: analysis_files.file_name("objects", iou_type, "parquet") for iou_type in _IOU_TYPES}
# In the file only, to build the `ObjectTable` again: the index of the row's image, and what the rows refer to.
_IMAGE = "image"
# In the file of masks only.
_MASK = "mask"
_ABOUT = b"od_eval"
# The file has parts, as rows of an image stand together: to show an image, one or two are read. At least so many rows,
# and so many for each image, as every part repeats the ids of all.
_ROWS_OF_PART = 20_000
_ROWS_OF_PART_PER_IMAGE = 10


def load_objects(
    model_dir: str | os.PathLike[str], step: int | None = None, run: str = "eval", *, masks: bool = False
) -> pd.DataFrame:
    """Every detection and every object of an evaluation, and who matches whom.

    Args:
      model_dir: the folder of the training run.
      step: the step of the evaluation; by default the newest whose table is there: in a long training some are removed.
      run: the run of the evaluation: `eval`, `eval/<name>` or `eval_train`.
      masks: whether detections are matched by their masks, and not by their boxes.

    Returns:
      A row for each detection, and after these a row for each ground truth object. `od_eval.evaluation.object_columns`
      describes the columns; `picture` is the name of the image in the run's `images.zip`, empty if it is not there.
      With `masks`, `mask` is a COCO RLE, `{"size": [height, width], "counts": b"…"}`, for `decode` of `hotcoco.mask` or
      `pycocotools.mask`; None where the run had no picture of the image when the table was written.

    Raises:
      ODEvalError: there is no such evaluation, or the file is damaged.
    """
    path = analysis_files.find(os.fspath(model_dir), run, step, FILE_NAMES["segm" if masks else "bbox"])
    objects, about = read_rows(path, with_masks=masks)
    if masks:
        sizes = [(height, width) for _, height, width in about["images"]]
        objects[_MASK] = [
            None if counts is None else coco_masks.as_rle(counts, sizes[image])
            for counts, image in zip(objects[_MASK], objects[_IMAGE].tolist(), strict=True)
        ]
    archive = ImageArchive(os.path.join(os.fspath(model_dir), run))
    pictures = [member_name(id) if id in archive else "" for id, *_ in about["images"]]
    objects["picture"] = pd.Categorical(pictures).take(objects[_IMAGE].to_numpy())
    return objects.drop(columns=_IMAGE)


def parquet(table: ObjectTable, with_picture: Container[ImageId] = ()) -> bytes:
    """A table as the contents of a Parquet file.

    Args:
      table: the table.
      with_picture: the ids of the images that there are pictures of. Of masks, the file has those in these images: they
        take as much room as all other columns, and are there to be drawn.
    """
    objects = as_pandas(table)
    objects[_IMAGE] = np.concatenate((table.detections.image, table.groundtruth.image)).astype(np.int32)
    about = {
        "iou_type": table.iou_type,
        "categories": table.categories,
        "images": [[id, height, width] for id, (height, width) in table.images.items()],
    }
    arrow = pa.Table.from_pandas(objects, preserve_index=False)
    if table.iou_type == "segm":
        arrow = arrow.append_column(_MASK, pa.array(_counts_of_masks(table, with_picture), pa.binary()))
    arrow = arrow.replace_schema_metadata({**arrow.schema.metadata, _ABOUT: json.dumps(about)})
    contents = io.BytesIO()
    floats = [field.name for field in arrow.schema if pa.types.is_floating(field.type)]
    # Of floats, bytes of the same place compress best together.
    others = [name for name in arrow.column_names if name not in (*floats, _MASK)]
    pq.write_table(
        arrow,
        contents,
        compression="zstd",
        use_dictionary=others,
        use_byte_stream_split=floats,
        row_group_size=max(_ROWS_OF_PART, _ROWS_OF_PART_PER_IMAGE * len(table.images)),
    )
    return contents.getvalue()


def _counts_of_masks(table: ObjectTable, with_picture: Container[ImageId]) -> list[bytes | None]:
    """The compressed counts of the RLE of each row; None in images without a picture."""
    has_picture = [id in with_picture for id in table.images]
    counts: list[bytes | None] = []
    for objects in (table.detections, table.groundtruth):
        assert objects.masks is not None
        counts += [
            rle["counts"] if has_picture[image] else None
            for rle, image in zip(objects.masks, objects.image.tolist(), strict=True)
        ]
    return counts


def read_object_table(path: str) -> ObjectTable:
    """The `ObjectTable` of a Parquet file. Of its pairs, the file has only the best of each row.

    Raises:
      ODEvalError: the file cannot be read, or is damaged.
    """
    objects, about = read_rows(path)
    is_detection = (objects["kind"] == "detection").to_numpy()
    num_detections = int(is_detection.sum())
    columns = {
        "image": objects[_IMAGE].to_numpy(np.int64),
        "category": objects["category"].cat.codes.to_numpy(np.int64),
        "box": objects[["x", "y", "width", "height"]].to_numpy(),
        "area": objects["area"].to_numpy(),
    }
    of_detections, of_groundtruth = (
        {name: column[of_kind] for name, column in columns.items()} for of_kind in (is_detection, ~is_detection)
    )
    flags = {name: objects[name].to_numpy()[~is_detection] for name in ("crowd", "difficult")}
    partners = objects[[*MATCH_COLUMNS]].to_numpy(np.int32)
    of_detection = partners[:num_detections]
    return ObjectTable(
        about["iou_type"],
        {int(id): name for id, name in about["categories"].items()},
        {id: (height, width) for id, height, width in about["images"]},
        Objects(**of_groundtruth, **flags),
        Objects(**of_detections, score=objects["score"].to_numpy()[is_detection]),
        _best_pairs({name: objects[name].to_numpy() for name in objects if name.startswith("iou")}, num_detections),
        Matches(np.where(of_detection < 0, -1, of_detection - num_detections), partners[num_detections:]),
    )


def _best_pairs(rows: Mapping[str, npt.NDArray[Any]], num_detections: int) -> Pairs:
    """The pairs in the columns `iou_row` and `iou_other_row`, each once."""
    pairs, ious = [], []
    for iou, partner in (("iou", "iou_row"), ("iou_other", "iou_other_row")):
        row = np.flatnonzero(rows[partner] >= 0)
        pairs.append(np.sort(np.column_stack((row, rows[partner][row])), axis=1))
        ious.append(rows[iou][row])
    unique, first = np.unique(np.concatenate(pairs), axis=0, return_index=True)
    return Pairs(
        unique[:, 0].astype(np.int32), (unique[:, 1] - num_detections).astype(np.int32), np.concatenate(ious)[first]
    )


def read_rows(
    path: str, *, with_masks: bool = False, image_id: str | None = None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The rows of a Parquet file, with the index of their image in `image`, and what they refer to.

    Args:
      path: of the file.
      with_masks: whether to read the column `mask`: the counts of a COCO RLE of the size of the image, as bytes, or
        None. It is all None in a file that has none: of boxes, or of an od_eval that wrote none.
      image_id: the id, as text, of the only image whose rows are read; there are none if there is no such image.

    Returns:
      The rows, whose index is their place in the file, and a dict: `iou_type`; `categories`, id -> name; `images`, a
      list of id, height and width.

    Raises:
      ODEvalError: the file cannot be read, or is damaged.
    """
    with _open(path) as (file, about):
        names = file.schema_arrow.names
        columns = [name for name in names if name != _MASK or with_masks]
        if image_id is None:
            rows = file.read(columns).to_pandas()
        else:
            ids = [str(id) for id, *_ in about["images"]]
            rows = _rows_of_image(file, columns, ids.index(image_id) if image_id in ids else -1)
    if with_masks and _MASK not in names:
        rows[_MASK] = None
    return rows, about


def read_about(path: str) -> dict[str, Any]:
    """What the rows of a Parquet file refer to, as `read_rows` returns it, without the rows.

    Raises:
      ODEvalError: the file cannot be read, or is damaged.
    """
    with _open(path) as (_, about):
        return about


@contextlib.contextmanager
def _open(path: str) -> Iterator[tuple[pq.ParquetFile, dict[str, Any]]]:
    """Opens a Parquet file of objects; what goes wrong with it becomes a sentence."""
    try:
        file = pq.ParquetFile(pa.BufferReader(files.read_bytes(path)))
        yield file, json.loads(file.schema_arrow.metadata[_ABOUT])
    except OSError as error:
        raise ODEvalError(f"'{path}' cannot be read: {files.reason(error)}.") from error
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ODEvalError(
            f"'{path}' is damaged: it is not a table of objects ({type(error).__name__}); evaluate the checkpoint"
            " again, or delete its folder."
        ) from error


def _rows_of_image(file: pq.ParquetFile, columns: list[str], image: int) -> pd.DataFrame:
    """The rows of an image, from the parts of the file in which it may be.

    Args:
      file: the file.
      columns: names of those that are read.
      image: the index of the image; -1 for none.
    """
    at = file.schema_arrow.names.index(_IMAGE)
    begin, parts = 0, []
    for group in range(file.num_row_groups):
        about = file.metadata.row_group(group)
        of_images = about.column(at).statistics
        if of_images is None or not of_images.has_min_max or of_images.min <= image <= of_images.max:
            rows = file.read_row_group(group, columns).to_pandas()
            rows.index = pd.RangeIndex(begin, begin + len(rows))
            parts.append(rows[rows[_IMAGE] == image])
        begin += about.num_rows
    return pd.concat(parts) if parts else file.schema_arrow.empty_table().select(columns).to_pandas()
