"""What a training leaves, made without training: a model_dir whose best checkpoint has made-up weights.

And the comparison of what an exported model detects with what the detector does.
"""

import json

import numpy as np

from od_eval import Detector, Pipeline


def make_model_dir(config, overrides, folder, scale=1.0):
    """What a training leaves: a newest checkpoint, and a best one whose moving averages are other than its weights.

    Returns the detector with the averages, which are to be exported; without training, its weights are made up.
    """
    pipeline = Pipeline.load(
        config,
        [
            *overrides,
            "train_config.optimizer.use_moving_average=true",
            "eval_config.use_moving_averages=true",
            "train_config.fine_tune_checkpoint=",
        ],
    )
    pipeline.save(folder)
    detector = Detector(pipeline)
    detector.compile()
    detector.checkpoint().write(str(folder / "ckpt-2"))
    random = np.random.default_rng(0)
    for weight, average in zip(detector.optimizer._model_weights, detector.optimizer._average_weights, strict=True):
        average.assign(weight * random.normal(scale, 0.1, weight.shape))
    (folder / "best").mkdir()
    detector.checkpoint().write(str(folder / "best" / "ckpt-1"))
    best = {"metric": "val_AP", "mode": "max", "value": 0.5, "step": 1, "checkpoint": "ckpt-1"}
    (folder / "best" / "best.json").write_text(json.dumps(best))
    (folder / "best" / "checkpoint").write_text('model_checkpoint_path: "ckpt-1"\n')
    for weight, average in zip(detector.optimizer._model_weights, detector.optimizer._average_weights, strict=True):
        weight.assign(average)
    return detector


def assert_same_detections(found, expected, image):
    """Compares rows in any order, as rounding may change that of nearly equal scores."""
    scale = np.array([*image.shape[:2], *image.shape[:2], 1, 1])
    tolerance = [0.5, 0.5, 0.5, 0.5, 1e-5, 0.1]  # half a pixel
    rows = [np.column_stack(columns) * (scale if relative else 1) for columns, relative in (found, expected)]
    differences = np.abs(rows[0][:, np.newaxis] - rows[1]) / tolerance
    assert len(rows[0]) == len(rows[1]) > 1
    assert (differences.max(axis=2).min(axis=1) < 1).all()
    assert (differences.max(axis=2).min(axis=0) < 1).all()
    assert np.ptp(rows[0][:, :2]) > 5  # boxes in several places
