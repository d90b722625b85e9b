#!/usr/bin/env python3
"""Detects objects in a photo, on a computer that has only NumPy, Pillow and ai-edge-litert.

    od-eval export --model_dir=runs/raccoon --format=tflite     (where it was trained)
    pip install numpy pillow ai-edge-litert                     (on the small computer, with the two files that follow)
    python detect_tflite.py exported/model.tflite photo.jpg     (reads exported/model.json, too)

prints what it finds, and draws it into detected.png, or into a third file that is named. But for rounding, it finds the
same as `od-eval detect`.
"""

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
    rows = image[top] + (image[bottom] * 1.0 - image[top]) * (y - top)[:, None, None]
    return rows[:, left] + (rows[:, right] - rows[:, left]) * (x - left)[:, None]


def detect(interpreter, about, image):
    """Yields name, score, and left, top, right, bottom in pixels of an image uint8 [h, w, 3]; `about` is model.json."""
    [taken] = interpreter.get_input_details()
    values = resized(image, *taken["shape"][1:3])
    if about["input"]["mean"] is not None:
        values = (values - about["input"]["mean"]) / about["input"]["std"]
    if taken["dtype"] == np.uint8:
        scale, zero_point = taken["quantization"]
        values = np.clip(np.rint(values / (scale or 1) + zero_point), 0, 255)
    interpreter.set_tensor(taken["index"], values[np.newaxis].astype(taken["dtype"]))
    interpreter.invoke()
    index_of = {output["name"]: output["index"] for output in interpreter.get_output_details()}
    outputs = {what: interpreter.get_tensor(index_of[name]) for what, name in about["outputs"].items()}
    categories = {category["id"]: category for category in about["categories"]}
    for row in range(int(outputs["num_detections"].item())):
        category = categories[int(outputs["classes"][0, row]) + about["class_offset"]]
        score = outputs["scores"][0, row]
        least = next(one for one in (category["confidence"], about["confidence"], 0.5) if one is not None)
        if score >= least:
            top, left, bottom, right = np.clip(outputs["boxes"][0, row], 0, 1) * np.tile(image.shape[:2], 2)
            yield category["name"], score, (left, top, right, bottom)


def main(model, photo, output="detected.png"):
    try:
        about = json.loads(pathlib.Path(model).with_name("model.json").read_text(encoding="utf-8"))
        interpreter = Interpreter(model, num_threads=4)
        picture = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    interpreter.allocate_tensors()
    drawing, font = ImageDraw.Draw(picture), ImageFont.load_default(max(12, min(picture.size) // 32))
    for name, score, box in detect(interpreter, about, np.asarray(picture)):
        print(f"{name!r} {score:.1%} at {', '.join(f'{side:.0f}' for side in box)}")
        drawing.rectangle(box, outline="red", width=max(2, min(picture.size) // 250))
        drawing.text(box[:2], f"{name} {score:.0%}", "red", font, anchor="ls", stroke_width=2, stroke_fill="white")
    picture.save(output)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
