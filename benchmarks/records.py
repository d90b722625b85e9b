#!/usr/bin/env python3
"""How long od_eval reads records to find what is lost of them, beside the Object Detection API's own decoder.

    python benchmarks/records.py                      # 10,000 records of about 66 KB
    python benchmarks/records.py --records=40000

The scan reads all records while a training starts; the decoder makes of each record what training makes of it, without
augmentation. Both read the same file, which is in the cache of the disk, in turn. Images are drawn noise, with a seed.
"""

from __future__ import annotations

import argparse
import io
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

CONFIG = ROOT / "pipeline_configs" / "ssd_mobilenet_v2_96x96.config"
ROUNDS = 3
OBJECTS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_records(folder, args.records)
        size = (folder / "train.record").stat().st_size
        print(f"{args.records} records, {size / args.records / 1000:.0f} KB each; seconds of {ROUNDS} rounds:")
        seconds: dict[str, list[float]] = {"scan": [], "before the first step": [], "decoder": []}
        for _ in range(ROUNDS):
            before, scanned = scan(folder, args.records)
            seconds["before the first step"].append(before)
            seconds["scan"].append(scanned)
            seconds["decoder"].append(decode(folder, args.records))
    for what, values in seconds.items():
        print(f"  {what}: {statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})")
    ratios = [ours / theirs for ours, theirs in zip(seconds["scan"], seconds["decoder"], strict=True)]
    print(f"  scan over decoder: {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")


def write_records(folder: pathlib.Path, number: int) -> None:
    """A file of records, with its label map."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    images = [jpeg(random) for _ in range(64)]
    (folder / "label_map.pbtxt").write_text("item { id: 1 name: 'plate' }\nitem { id: 2 name: 'cup' }\n")
    with tf.io.TFRecordWriter(str(folder / "train.record")) as writer:
        for index in range(number):
            labels = random.integers(1, 3, OBJECTS)
            begin = random.uniform(0, 0.5, (2, OBJECTS))
            features = {
                "image/encoded": [images[index % len(images)]],
                "image/format": [b"jpeg"],
                "image/source_id": [str(index).encode()],
                "image/object/class/text": [(b"plate", b"cup")[label - 1] for label in labels],
                "image/object/class/label": labels.tolist(),
                **{f"image/object/bbox/{side}min": begin[axis].tolist() for axis, side in enumerate("yx")},
                **{f"image/object/bbox/{side}max": (begin[axis] + 0.4).tolist() for axis, side in enumerate("yx")},
            }
            example = tf.train.Example()
            for name, values in features.items():
                kind = {bytes: "bytes_list", int: "int64_list", float: "float_list"}[type(values[0])]
                getattr(example.features.feature[name], kind).value.extend(values)
            writer.write(example.SerializeToString())


def jpeg(random: np.random.Generator) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (240, 380, 3), dtype=np.uint8)).save(encoded, "JPEG", quality=70)
    return encoded.getvalue()


def scan(folder: pathlib.Path, number: int) -> tuple[float, float]:
    """Seconds until the first step may come, and until all is read."""
    from od_eval import Pipeline
    from od_eval.odapi.record_scan import RecordScan

    reader = "train_input_reader"
    paths = {"label_map_path": "label_map.pbtxt", "tf_record_input_reader.input_path": "train.record"}
    pipeline = Pipeline.load(
        CONFIG,
        ["model.ssd.num_classes=2", *(f"{reader}.{field}={folder / name}" for field, name in paths.items())],
    )
    began = time.monotonic()
    records = RecordScan(pipeline, {reader: pipeline.config.train_input_reader})
    records.begin()
    before = time.monotonic() - began
    while records.is_running():
        time.sleep(0.01)
    seconds = time.monotonic() - began
    assert records.num_records() == number, "a scan that ends early is no measurement"
    return before, seconds


def decode(folder: pathlib.Path, number: int) -> float:
    """Seconds in which the Object Detection API's decoder reads all records."""
    import tensorflow as tf
    from object_detection.data_decoders.tf_example_decoder import TfExampleDecoder

    decoder = TfExampleDecoder(label_map_proto_file=str(folder / "label_map.pbtxt"))
    began = time.monotonic()
    dataset = tf.data.TFRecordDataset(str(folder / "train.record")).map(decoder.decode, num_parallel_calls=2)
    decoded = sum(1 for _ in dataset)
    seconds = time.monotonic() - began
    assert decoded == number
    return seconds


if __name__ == "__main__":
    main()
