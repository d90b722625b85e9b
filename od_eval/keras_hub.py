"""KerasHub's detectors (RetinaNet, D-FINE) in evaluations: a `detect` that is ready.

    from od_eval.keras_hub import detect

    od_eval.DetectionEvaluation(
        validation, "runs/a", detect=detect, options=od_eval.EvaluationOptions(categories={0: "cat", 1: "dog"}))

`validation` is what the detector's `fit` takes as `validation_data`: batches of images and of their objects.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth

# The form of the boxes that `detect` returns: ymin, xmin, ymax, xmax in pixels, the `box_format` of options by default.
_FORMAT = "yxyx"
# Whatever D-FINE's `bounding_box_format` says, its loss takes these, and its predictions are "yxyx" (KerasHub 0.32).
_DFINE_GROUNDTRUTH = "rel_center_xywh"

_num_infinite = 0


def detect(model: Any, batch: Any) -> EvaluationBatch:
    """Detections and ground truth of a batch: the `detect` of `DetectionEvaluation` and `od_eval.evaluate`.

    Boxes are those of the image that the network sees: if the model has a preprocessor, of its result. A box that is
    infinite, as predictions of an untrained RetinaNet may be, ends at the border of the image; how many there were is
    said on stderr, at the first one and whenever their number has grown tenfold.

    Args:
      model: a `keras_hub.models.RetinaNetObjectDetector` or `DFineObjectDetector`, on any backend.
      batch: images `[batch, height, width, 3]` and their objects, as `fit` takes them: a dict of `boxes`
        `[batch, n, 4]` in the `bounding_box_format` of the model (relative `center_xywh` for D-FINE) and `labels`
        `[batch, n]`, where −1 is no object. The dict may have further entries: of these, `image_id` `[batch]` is used.
        Without it, images are named by their contents, which makes the same image the same in every evaluation; a set
        that has an image twice needs it.

    Returns:
      Boxes as ymin, xmin, ymax, xmax in pixels, the default of `EvaluationOptions`, and the model's labels as
      categories.

    Raises:
      ODEvalError: the batch is of another form.
    """
    images, objects = _images_and_objects(batch)
    ids = _image_ids(images, objects)
    objects = {name: objects[name] for name in ("boxes", "labels")}
    found = model.predict(images, batch_size=len(images), verbose=0)  # predict_on_batch fails (KerasHub 0.32)
    if model.preprocessor is not None:
        images, objects = model.preprocessor(images, objects)
    images = _as_numpy(images)
    of_objects, of_detections = _box_formats(model)
    height, width = images.shape[1:3]
    labels = _as_numpy(objects["labels"])
    present = [row >= 0 for row in labels]
    boxes = _in_yxyx(objects["boxes"], of_objects, height, width)
    return EvaluationBatch(
        image_ids=ids,
        image_sizes=np.tile([height, width], (len(images), 1)),
        detections=Detections(
            boxes=_inside(_in_yxyx(found["boxes"], of_detections, height, width), found["num_detections"], ids, images),
            scores=found["confidence"],
            classes=found["labels"],
            num=found["num_detections"],
        ),
        groundtruth=GroundTruth(
            boxes=[of_image[rows] for of_image, rows in zip(boxes, present, strict=True)],
            classes=[of_image[rows].astype(int) for of_image, rows in zip(labels, present, strict=True)],
        ),
        images=[_as_picture(image) for image in images],
    )


def _images_and_objects(batch: Any) -> tuple[Any, Mapping[str, Any]]:
    is_pair = isinstance(batch, tuple | list) and len(batch) >= 2 and isinstance(batch[1], Mapping)
    if not is_pair or not {"boxes", "labels"} <= batch[1].keys():
        raise ODEvalError(
            "a batch of the dataset is not (images, {'boxes': …, 'labels': …}), as KerasHub's detectors take it in fit;"
            " map the dataset to that, or give a detect of your own."
        )
    return batch[0], batch[1]


def _image_ids(images: Any, objects: Mapping[str, Any]) -> list[int | str]:
    if "image_id" in objects:
        ids = _as_numpy(objects["image_id"]).tolist()
        return [one.decode() if isinstance(one, bytes) else one for one in ids]
    return [hashlib.blake2b(image.tobytes(), digest_size=8).hexdigest() for image in _as_numpy(images)]


def _box_formats(model: Any) -> tuple[str, str]:
    """Of ground truth, and of predictions."""
    import keras_hub

    if isinstance(model, keras_hub.models.DFineObjectDetector):
        return _DFINE_GROUNDTRUTH, _FORMAT
    return model.bounding_box_format, model.bounding_box_format


def _in_yxyx(boxes: Any, box_format: str, height: int, width: int) -> npt.NDArray[np.float32]:
    import keras

    convert = keras.utils.bounding_boxes.convert_format
    converted = convert(_as_numpy(boxes).astype("float32"), box_format, _FORMAT, height=height, width=width)
    return _as_numpy(converted)


def _inside(
    boxes: npt.NDArray[np.float32], num: npt.NDArray[np.int_], ids: list[int | str], images: npt.NDArray[Any]
) -> npt.NDArray[np.float32]:
    """The boxes; those with an infinite edge end at the border of the image, and it is said."""
    global _num_infinite
    are_valid = np.arange(boxes.shape[1]) < num[:, np.newaxis]
    are_infinite = np.isinf(boxes).any(axis=-1) & are_valid
    if not are_infinite.any():
        return boxes
    before, _num_infinite = _num_infinite, _num_infinite + int(are_infinite.sum())
    if len(str(before)) < len(str(_num_infinite)) or not before:
        first = ids[int(np.argmax(are_infinite.any(axis=1)))]
        print(
            f"note: {_num_infinite} detections so far have an infinite box, of which the last are in image {first!r};"
            " they end at the border of the image. A trained model has none: lower the learning rate if it stays.",
            file=sys.stderr,
            flush=True,
        )
    height, width = images.shape[1:3]
    clipped = np.clip(boxes, 0, np.array([height, width, height, width], np.float32))
    return np.where(are_infinite[..., np.newaxis], clipped, boxes)


def _as_numpy(values: Any) -> npt.NDArray[Any]:
    """The values of a tensor of TensorFlow, whatever the backend is, or of the backend, on any device."""
    import keras

    return values.numpy() if type(values).__module__.startswith("tensorflow") else keras.ops.convert_to_numpy(values)


def _as_picture(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """An image as bytes; if it is of other numbers, its darkest value is black, and its brightest is white."""
    if image.dtype == np.uint8:
        return image
    darkest, brightest = float(image.min()), float(image.max())
    return np.round((image - darkest) * (255 / max(brightest - darkest, 1e-9))).astype(np.uint8)
