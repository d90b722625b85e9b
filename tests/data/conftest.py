"""Small images and datasets to convert, and how a record looks to the Object Detection API."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from od_eval.data.conversion import convert_dataset
from od_eval.data.images import ImageFolder


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """write_image(path, size=(width, height), mode, orientation): writes a picture of random blocks."""

    def write(
        path: Path, size: tuple[int, int] = (64, 48), mode: str = "RGB", orientation: int = 1, **options: Any
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = np.random.default_rng(size[0]).integers(0, 256, (-(-size[1] // 8), -(-size[0] // 8), 3), np.uint8)
        image = Image.fromarray(np.kron(blocks, np.ones((8, 8, 1), np.uint8))[: size[1], : size[0]])
        if orientation != 1:
            exif = Image.Exif()
            exif[0x0112] = orientation
            options["exif"] = exif
        image.convert(mode).save(path, **options)
        return path

    return write


@pytest.fixture(scope="session")
def read_records() -> Callable[[Path, str], list[bytes]]:
    """read_records(folder, split): the records of a split, read by TensorFlow."""

    def read(folder: Path, split: str) -> list[bytes]:
        import tensorflow as tf

        files = sorted(str(path) for path in folder.glob(f"{split}-?????-of-?????"))
        return list(tf.data.TFRecordDataset(files).as_numpy_iterator())

    return read


@pytest.fixture(scope="session")
def decode() -> Callable[..., dict[str, np.ndarray]]:
    """decode(record, **options): a record as the Object Detection API's TfExampleDecoder decodes it."""

    def decode_record(record: bytes, **options: Any) -> dict[str, np.ndarray]:
        import od_eval.odapi  # noqa: F401, I001  (makes the next import possible)
        from object_detection.data_decoders.tf_example_decoder import TfExampleDecoder

        return {key: tensor.numpy() for key, tensor in TfExampleDecoder(**options).decode(record).items()}

    return decode_record


@pytest.fixture
def coco(tmp_path, write_image):
    """coco(annotations, num_images=1, size, **category): converts a COCO file of these; returns the conversion."""

    def convert(annotations, num_images=1, size=(64, 48), categories=({"id": 1, "name": "cat"},), **options):
        for id in range(1, num_images + 1):
            write_image(tmp_path / "images" / f"{id}.jpg", (64, 48))
        images = [
            {"id": id, "file_name": f"{id}.jpg", "width": size[0], "height": size[1]} for id in range(1, num_images + 1)
        ]
        content = {"images": images, "annotations": list(annotations), "categories": list(categories)}
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(content))
        options = {"images_dir": tmp_path / "images", "validation": 0.0, **options}
        return convert_dataset(path, tmp_path / "out", **options)

    return convert


@pytest.fixture
def boxes_csv(tmp_path, write_image) -> Path:
    """40 images with a box each, one of them without a file, and one CSV."""
    lines = ["filename,class,xmin,ymin,xmax,ymax"]
    for index in range(40):
        write_image(tmp_path / "photos" / f"{index}.jpg", (32 + index, 32))
        lines.append(f"{index}.jpg,{'cat' if index % 3 else 'dog'},1,2,{10 + index / 8},20")
    (tmp_path / "photos" / "7.jpg").unlink()
    (tmp_path / "boxes.csv").write_text("\n".join(lines))
    return tmp_path / "boxes.csv"


@pytest.fixture
def images(tmp_path) -> ImageFolder:
    """A folder with three image files that nobody opens."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        (folder / name).touch()
    return ImageFolder(folder)
