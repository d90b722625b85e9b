#!/usr/bin/env python3
"""How many records a second od_eval surveys, beside a plain loop of TensorFlow over the same records.

    python benchmarks/survey.py                      # 10,000 records of about 66 KB
    python benchmarks/survey.py --records=40000

The loop is `tf.train.Example.FromString` of each record of a `tf.data.TFRecordDataset`; it looks at nothing. The survey
is measured without decoding images, and with the sample of images that it decodes by default. All read the same file,
which is in the cache of the disk, in turn. Images are drawn noise, with a seed, which takes longest to decode.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

from records import ROOT, ROUNDS, write_records

sys.path.insert(0, str(ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_records(folder, args.records)
        size = (folder / "train.record").stat().st_size
        survey(folder, 0)  # imports, and reads the file into the cache
        print(f"{args.records} records, {size / args.records / 1000:.0f} KB each; records a second of {ROUNDS} rounds:")
        rates: dict[str, list[float]] = {"survey": [], "survey with a decoded sample": [], "loop": []}
        for _ in range(ROUNDS):
            rates["survey"].append(args.records / survey(folder, 0))
            rates["survey with a decoded sample"].append(args.records / survey(folder, 2000))
            rates["loop"].append(args.records / loop(folder))
    for what, values in rates.items():
        print(f"  {what}: {statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})")
    ratios = [ours / theirs for ours, theirs in zip(rates["survey"], rates["loop"], strict=True)]
    print(f"  survey over loop: {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")


def survey(folder: pathlib.Path, num_images_to_decode: int) -> float:
    """Seconds of a survey."""
    from od_eval.odapi.record_survey import survey_records

    from object_detection.protos import input_reader_pb2  # isort: skip  (od_eval makes this import possible)

    reader = input_reader_pb2.InputReader(label_map_path=str(folder / "label_map.pbtxt"))
    reader.tf_record_input_reader.input_path.append(str(folder / "train.record"))
    categories = {1: "plate", 2: "cup"}
    began = time.monotonic()
    found = survey_records(reader, "train_input_reader", categories, num_images_to_decode=num_images_to_decode)
    seconds = time.monotonic() - began
    assert found.is_complete, "a survey that ends early is no measurement"
    assert not found.faults
    return seconds


def loop(folder: pathlib.Path) -> float:
    """Seconds in which TensorFlow reads and parses all records."""
    import tensorflow as tf

    began = time.monotonic()
    for record in tf.data.TFRecordDataset(str(folder / "train.record")):
        tf.train.Example.FromString(record.numpy())
    return time.monotonic() - began


if __name__ == "__main__":
    main()
