"""Small images and datasets to convert, and how a record looks to the Object Detection API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


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
