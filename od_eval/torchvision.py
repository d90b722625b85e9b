"""Detectors that speak torchvision's language in evaluations.

from od_eval.torchvision import detect

model = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_fpn(num_classes=3).eval()
od_eval.evaluate(model, loader, detect=detect, options=od_eval.EvaluationOptions({1: "cat", 2: "dog"}, "xyxy"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth


def detect(model: Any, batch: tuple[Sequence[Any], Sequence[Mapping[str, Any]]]) -> EvaluationBatch:
    """Detections and ground truth of a batch, for options with `box_format="xyxy"`.

    Args:
      model: returns for a list of images a dict each: `boxes` `[n, 4]` (xmin, ymin, xmax, ymax in pixels), `labels` and
        `scores` `[n]`. It is in evaluation mode.
      batch: images `[3, height, width]` from 0 to 1, and for each a dict with `boxes`, `labels` and an `image_id`; with
        `iscrowd`, `[n]`, if there are such objects.
    """
    import torch

    images, targets = batch
    with torch.inference_mode():
        found = [{name: tensor.cpu().numpy() for name, tensor in one.items()} for one in model(images)]
    return EvaluationBatch(
        image_ids=[int(target["image_id"]) for target in targets],
        image_sizes=[image.shape[-2:] for image in images],
        detections=Detections(*([one[name] for one in found] for name in ("boxes", "scores", "labels"))),
        groundtruth=GroundTruth(
            boxes=[target["boxes"].cpu() for target in targets],
            classes=[target["labels"].cpu() for target in targets],
            is_crowd=[target.get("iscrowd", torch.zeros(len(target["labels"]))).cpu() for target in targets],
        ),
        images=[(255 * image.cpu().numpy().transpose(1, 2, 0)).round().astype(np.uint8) for image in images],
    )
