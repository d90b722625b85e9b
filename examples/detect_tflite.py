#!/usr/bin/env python3
"""Detects objects in a photo, on a computer that has only NumPy, Pillow and ai-edge-litert.

    od-eval export --model_dir=runs/raccoon --format=tflite     (where it was trained)
    pip install numpy pillow ai-edge-litert                     (on the small computer, with the two files that follow)
    python detect_tflite.py exported/model.tflite photo.jpg     (reads exported/model.json, too)

prints what it finds, and draws it into detected.png. But for rounding, it finds the same as `od-eval detect`.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageDraw, ImageFont, ImageOps


def resized(image, height, width):
    """Bilinear as in training, which Pillow's is not: the new pixel i is taken at i · old size ÷ new size."""
    y, x = np.arange(height) * image.shape[0] / height, np.arange(width) * image.shape[1] / width
    top, left = y.astype(int), x.astype(int)
    bottom, right = np.minimum(top + 1, image.shape[0] - 1), np.minimum(left + 1, image.shape[1] - 1)
    down, across = (y - top)[:, None, None], (x - left)[:, None]
    rows = image[top] * (1 - down) + image[bottom] * down
    return rows[:, left] * (1 - across) + rows[:, right] * across


def detect(interpreter, about, image):
    """Yields category (as in model.json), score, and left, top, right, bottom in pixels of an image uint8 [h, w, 3]."""
    [taken] = interpreter.get_input_details()
    values = resized(image, *taken["shape"][1:3])
    if about["input"]["mean"] is not None:
        values = (values - about["input"]["mean"]) / about["input"]["std"]
    if taken["dtype"] != np.float32:
        scale, zero_point = taken["quantization"]
        limits = np.iinfo(taken["dtype"])
        values = np.clip(np.rint(values / (scale or 1) + zero_point), limits.min, limits.max)
    interpreter.set_tensor(taken["index"], values[np.newaxis].astype(taken["dtype"]))
    interpreter.invoke()
    index_of = {output["name"]: output["index"] for output in interpreter.get_output_details()}
    outputs = {what: interpreter.get_tensor(index_of[name]) for what, name in about["outputs"].items()}
    categories = {category["id"]: category for category in about["categories"]}
    height, width = image.shape[:2]
    for row in range(int(outputs["num_detections"].item())):
        category = categories[int(outputs["classes"][0, row]) + about["class_offset"]]
        score = float(outputs["scores"][0, row])
        least = next(one for one in (category["confidence"], about["confidence"], 0.5) if one is not None)
        if score >= least:
            top, left, bottom, right = np.clip(outputs["boxes"][0, row], 0, 1) * [height, width, height, width]
            yield category, score, (left, top, right, bottom)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="model.tflite, with model.json beside it")
    parser.add_argument("photo")
    parser.add_argument("--output", default="detected.png", help="the picture to write")
    arguments = parser.parse_args()
    try:
        about = json.loads(arguments.model.with_name("model.json").read_text(encoding="utf-8"))
        interpreter = Interpreter(str(arguments.model), num_threads=4)
        picture = ImageOps.exif_transpose(Image.open(arguments.photo)).convert("RGB")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    interpreter.allocate_tensors()
    drawing = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(12, min(picture.size) // 32))
    for category, score, box in detect(interpreter, about, np.asarray(picture)):
        print(f"{category['name']!r} {score:.1%} at {', '.join(f'{side:.0f}' for side in box)}")
        drawing.rectangle(box, outline="red", width=max(2, min(picture.size) // 250))
        label = f"{category['name']} {score:.0%}"
        drawing.text(box[:2], label, "red", font, anchor="ls", stroke_width=2, stroke_fill="white")
    picture.save(arguments.output)


if __name__ == "__main__":
    main()
