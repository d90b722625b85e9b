"""Surveys and facts of a config for tests, made by hand."""

import numpy as np
import pandas as pd

from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.survey import Survey

_IMAGE = {
    "width": 640,
    "height": 480,
    "mode": "RGB",
    "digest": "",
    "perceptual_hash": "",
    "brightness": 0.5,
    "contrast": 0.2,
    "saturation": 0.3,
}


def survey(boxes=(), *, name="train_input_reader", categories=None, images=None, is_complete=True, **columns):
    """A survey.

    Args:
      boxes: for each object the row of its image, its category and its box: ymin, xmin, ymax, xmax; and, if need be, a
        dict of further columns.
      images: number of images; by default as many as have objects.
      columns: of images: a value for all, or one for each.
    """
    rows = [
        dict(zip(("image", "category", "ymin", "xmin", "ymax", "xmax"), box[:6], strict=True))
        | {"crowd": False, "difficult": False, "mask_iou": np.nan}
        | (box[6] if len(box) > 6 else {})
        for box in boxes
    ]
    number = images if images is not None else 1 + max((row["image"] for row in rows), default=0)
    table = pd.DataFrame({"id": [f"{name} image {row}" for row in range(number)], "name": ""})
    for column, default in _IMAGE.items():
        table[column] = columns.get(column, default)
    names = ["image", "category", "ymin", "xmin", "ymax", "xmax", "crowd", "difficult", "mask_iou"]
    objects = pd.DataFrame(rows, columns=names).astype(
        {
            "image": "int64",
            "category": "int64",
            **dict.fromkeys(names[2:6], "float64"),
            "crowd": bool,
            "difficult": bool,
        }
        | {"mask_iou": "float64"}
    )
    return Survey(name, {1: "cat", 2: "dog"} if categories is None else categories, table, objects, is_complete)


def random_survey(seed, images, *, name="train_input_reader", hashed=True):
    """A survey of a made-up world that is the same for every seed: 5 categories, 1 to 9 objects, varied photographs."""
    rng = np.random.default_rng(seed)
    numbers = rng.poisson(rng.gamma(2, 2, images)) + 1  # crowded and empty scenes
    image = np.repeat(np.arange(images), numbers)
    scene = rng.integers(0, 3, images)  # objects of an image are alike
    shares = np.array([[0.6, 0.2, 0.1, 0.05, 0.05], [0.1, 0.5, 0.2, 0.1, 0.1], [0.2, 0.2, 0.2, 0.2, 0.2]])
    category = (rng.random((len(image), 1)) > shares[scene[image]].cumsum(axis=1)).sum(axis=1).clip(max=4) + 1
    side = np.exp(rng.normal(-1.8, 0.4, len(image)) + rng.normal(0, 0.4, images)[image]).clip(max=0.9)
    ratio = np.exp(rng.normal(0, 0.3, len(image)))
    height, width = (side * ratio).clip(max=0.95), (side / ratio).clip(max=0.95)
    ymin, xmin = rng.random(len(image)) * (1 - height), rng.random(len(image)) * (1 - width)
    sizes = np.array([[640, 480], [480, 640], [1280, 720], [500, 375]])[rng.integers(0, 4, images)]
    table = pd.DataFrame(
        {
            "id": [f"{name} image {row}" for row in range(images)],
            "name": "",
            "width": sizes[:, 0],
            "height": sizes[:, 1],
            "mode": "RGB",
            "digest": [f"{seed}-{row}" for row in range(images)],
            "perceptual_hash": [f"{value:016x}" if hashed else "" for value in _random_hashes(rng, images)],
            "brightness": rng.beta(5, 5, images),
            "contrast": rng.beta(4, 12, images),
            "saturation": rng.beta(2, 4, images),
        }
    )
    objects = pd.DataFrame(
        {
            "image": image,
            "category": category,
            "ymin": ymin,
            "xmin": xmin,
            "ymax": ymin + height,
            "xmax": xmin + width,
            "crowd": False,
            "difficult": False,
            "mask_iou": np.nan,
        }
    )
    return Survey(name, {1: "cat", 2: "dog", 3: "cow", 4: "horse", 5: "sheep"}, table, objects)


def _random_hashes(rng, number):
    return rng.integers(0, 2**64, number, dtype=np.uint64)


def facts(**values):
    """Of a usual SSD of 320x320 pixels."""
    resizer = "model.ssd.image_resizer.fixed_shape_resizer"
    usual = {
        "source": "pipeline.config",
        "architecture": "ssd_mobilenet_v2_fpn_keras",
        "meta_architecture": "ssd",
        "input_height": 320,
        "input_width": 320,
        "num_classes": 2,
        "batch_size": 8,
        "num_steps": 1000,
        "schedule": "cosine decay",
        "learning_rate": 0.01,
        "warmup_steps": 100,
        "decay_steps": 1000,
        "gradient_clipping": 0.0,
        "augmentations": ("random_horizontal_flip",),
        "fine_tune_checkpoint": "",
        "fine_tune_checkpoint_type": "",
        "freeze_variables": (),
        "dropout": None,
        "l2_weight": None,
        "max_detections_per_class": 100,
        "max_total_detections": 100,
        "score_threshold": 0.0,
        "nms_iou_threshold": 0.6,
        "localization_weight": 1.0,
        "classification_weight": 1.0,
        "max_number_of_boxes": 100,
        "fields": {
            "input_height": f"{resizer}.height",
            "input_width": f"{resizer}.width",
            "num_classes": "model.ssd.num_classes",
        },
    }
    return ConfigFacts(**{**usual, **values})
