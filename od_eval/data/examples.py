"""Converts an annotated image to the features of the Object Detection API's `tf.train.Example`.

This runs in worker processes; for local images, it does not need TensorFlow, which each of them would have to load.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from hotcoco import mask as coco_mask  # pycocotools.mask reads uninitialized memory if an RLE ends early
from PIL import Image

from od_eval.coco_ids import is_number
from od_eval.data.annotations import AnnotatedImage, AnnotatedObject, Remark
from od_eval.data.encoding import Encoding
from od_eval.data.images import MOST_PIXELS, EncodedImage, ImageUnusable, encode_mask, read_image
from od_eval.text import short

# Key of a `tf.train.Example` -> bytes, floats or ints, all of one kind.
Features = dict[str, list[bytes] | list[float] | list[int]]


@dataclasses.dataclass
class Instance:
    """One object as written to a record.

    Attributes:
      class_name: its class.
      box: (xmin, ymin, xmax, ymax) in pixels, inside the image.
      area: area in square pixels.
      crowd: whether it is a group of objects.
      mask: bool [height, width], or None if unknown.
      keypoints: float [number of keypoints of the dataset, 3]: x and y in pixels, visibility.
      difficult, truncated, pose: as in Pascal VOC; None for other formats.
    """

    class_name: str
    box: tuple[float, float, float, float]
    area: float
    crowd: bool = False
    mask: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    difficult: bool | None = None
    truncated: bool | None = None
    pose: str | None = None


_LARGEST_OF_KEYPOINTS = 2**31  # coordinates and visibilities, which are integers in a record
LOST_ALL_OBJECTS = "image lost all its objects"  # the reason of a remark that follows from others


@dataclasses.dataclass(frozen=True)
class Converted:
    """The result of converting one annotated image.

    Attributes:
      features: the features of the record, or None if the image was left out.
      class_names: the class of each object in the record.
      remarks: everything that was left out or changed.
    """

    features: Features | None
    class_names: list[str]
    remarks: list[Remark]


def convert_image(annotated: AnnotatedImage, encoding: Encoding) -> Converted:
    """Reads the image file of an annotated image and converts both to features.

    Args:
      annotated: the image.
      encoding: the encoding of the dataset.

    Returns:
      The features, and remarks about everything that could not be converted or was changed.
    """
    try:
        image = read_image(annotated.path, annotated.size)
    except ImageUnusable as error:
        return Converted(None, [], [Remark(error.reason, annotated.where, str(error), "image")])
    remarks = [Remark(reason, annotated.where, detail) for reason, detail in image.changes]
    instances = []
    num_lost = annotated.num_unreadable
    for annotated_object in annotated.objects:
        instance = _convert_object(annotated_object, image, encoding, remarks)
        if instance is not None:
            instances.append(instance)
        else:
            num_lost += annotated_object.class_name in encoding.class_ids  # else left out on purpose
    if num_lost and not instances and not encoding.keep_emptied_images:
        # Kept, it would teach that there is nothing where there are objects.
        detail = f"{num_lost} objects, and all are left out"
        return Converted(None, [], [*remarks, Remark(LOST_ALL_OBJECTS, annotated.where, detail, "image")])
    features = make_features(image, annotated.filename, annotated.source_id, instances, encoding)
    return Converted(features, [instance.class_name for instance in instances], remarks)


def make_features(
    image: EncodedImage, filename: str, source_id: str, instances: Sequence[Instance], encoding: Encoding
) -> Features:
    """Converts an image and its objects to the features of a `tf.train.Example`.

    Args:
      image: the image.
      filename: the name of the image file.
      source_id: a unique id within the dataset.
      instances: the objects.
      encoding: the encoding of the dataset.

    Returns:
      The features; an empty list means a feature without values.
    """
    boxes = np.array([instance.box for instance in instances], np.float64).reshape(-1, 4)
    features: Features = {
        "image/encoded": [image.encoded],
        "image/format": [image.format.encode()],
        "image/height": [image.height],
        "image/width": [image.width],
        "image/filename": [filename.encode("utf-8", "surrogateescape")],
        "image/source_id": [source_id.encode("utf-8", "surrogateescape")],
        "image/key/sha256": [hashlib.sha256(image.encoded).hexdigest().encode()],
        "image/object/bbox/xmin": (boxes[:, 0] / image.width).tolist(),
        "image/object/bbox/ymin": (boxes[:, 1] / image.height).tolist(),
        "image/object/bbox/xmax": (boxes[:, 2] / image.width).tolist(),
        "image/object/bbox/ymax": (boxes[:, 3] / image.height).tolist(),
        "image/object/class/label": [encoding.class_ids[instance.class_name] for instance in instances],
        "image/object/class/text": [instance.class_name.encode() for instance in instances],
        "image/object/area": [float(instance.area) for instance in instances],
        "image/object/is_crowd": [int(instance.crowd) for instance in instances],
    }
    if any(instance.difficult is not None for instance in instances):
        features["image/object/difficult"] = [int(bool(instance.difficult)) for instance in instances]
        features["image/object/truncated"] = [int(bool(instance.truncated)) for instance in instances]
        features["image/object/view"] = [(instance.pose or "").encode() for instance in instances]
    if encoding.with_masks:
        # A weight of 0 excludes the empty mask of an object without a mask from training.
        empty = np.zeros((image.height, image.width), bool)
        masks = [empty if instance.mask is None else instance.mask for instance in instances]
        features["image/object/mask"] = [encode_mask(mask) for mask in masks]
        features["image/object/mask/weight"] = [float(instance.mask is not None) for instance in instances]
    if encoding.keypoint_labels:
        unlabeled = np.zeros((len(encoding.keypoint_labels), 3))
        keypoints = np.array(
            [unlabeled if instance.keypoints is None else instance.keypoints for instance in instances]
        ).reshape(-1, len(encoding.keypoint_labels), 3)
        features["image/object/keypoint/x"] = (keypoints[:, :, 0] / image.width).ravel().tolist()
        features["image/object/keypoint/y"] = (keypoints[:, :, 1] / image.height).ravel().tolist()
        features["image/object/keypoint/visibility"] = keypoints[:, :, 2].astype(int).ravel().tolist()
        features["image/object/keypoint/num"] = np.count_nonzero(keypoints[:, :, 2], axis=1).tolist()
        features["image/object/keypoint/text"] = [label.encode() for label in encoding.keypoint_labels] * len(instances)
    return features


def _convert_object(
    annotated: AnnotatedObject, image: EncodedImage, encoding: Encoding, remarks: list[Remark]
) -> Instance | None:
    """The object in pixels of the image, clipped to it; None if it is left out, with a remark that says why."""

    def leave_out(reason: str, detail: str) -> None:
        remarks.append(Remark(reason, annotated.where, detail, "object"))

    if annotated.class_name not in encoding.class_ids:
        leave_out("unknown class", repr(annotated.class_name))
        return None
    scale = np.array([*image.scale, *image.scale])
    size = np.array([image.width, image.height, image.width, image.height])
    box = np.array(annotated.box) * scale
    if not np.isfinite(box).all():
        leave_out("box is not four numbers", str(annotated.box))
        return None
    if (box[:2] > box[2:]).any():
        remarks.append(Remark("corners of the box put in order", annotated.where, str(annotated.box)))
        box = np.concatenate([np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])])
    # Compared as float32, the type in a record, in which a tiny box may have no area, and one far away neither.
    with np.errstate(over="ignore"):
        has_area = (np.float32(box[:2]) < np.float32(box[2:])).all()
    if not has_area:
        leave_out("box without area", str(annotated.box))
        return None
    inside = np.clip(box, 0, size)
    if not (np.float32(inside[:2] / size[:2]) < np.float32(inside[2:] / size[2:])).all():
        leave_out("box outside the image", f"{annotated.box} in {image.width}×{image.height}")
        return None
    if (inside != box).any():
        remarks.append(
            Remark(
                "box clipped to the image", annotated.where, f"{annotated.box} in {image.width}×{image.height} pixels"
            )
        )

    mask = None
    if encoding.with_masks:
        try:
            mask = _read_mask(annotated.segmentation, image)
        except (ValueError, TypeError, OverflowError) as error:
            detail = f"{annotated.class_name}: {error}"
            remarks.append(Remark("mask unreadable, object kept without it", annotated.where, detail, "mask"))
        else:
            if mask is None:
                remarks.append(
                    Remark("object without a mask in a dataset with masks", annotated.where, annotated.class_name)
                )

    keypoints = None
    if any(annotated.keypoints):
        indices = encoding.keypoint_indices.get(annotated.class_name, ())
        values = np.array(annotated.keypoints)
        if len(values) != 3 * len(indices) or not (np.abs(values) < _LARGEST_OF_KEYPOINTS).all():
            detail = f"{annotated.class_name}: {len(values)} numbers for {len(indices)} keypoint names"
            remarks.append(
                Remark("keypoints unreadable, object kept without them", annotated.where, detail, "keypoints")
            )
        else:
            keypoints = np.zeros((len(encoding.keypoint_labels), 3))
            for index, value in zip(indices, values.reshape(-1, 3), strict=True):
                if index is not None:
                    keypoints[index] = value * (*image.scale, 1)

    if annotated.area is not None and is_number(annotated.area) and annotated.area > 0:
        area = annotated.area * image.scale[0] * image.scale[1]
    elif mask is not None:
        area = float(np.count_nonzero(mask))
    else:
        area = float(np.prod(inside[2:] - inside[:2]))
    return Instance(
        annotated.class_name,
        tuple(inside),
        area,
        annotated.crowd,
        mask,
        keypoints,
        annotated.difficult,
        annotated.truncated,
        annotated.pose,
    )


def _read_mask(segmentation: Any, image: EncodedImage) -> np.ndarray | None:
    """COCO's polygons or RLE as bool [height, width] of the image; None if they cover no pixel.

    Raises:
      ValueError: (TypeError, OverflowError) it is neither, or its size differs from the annotated size of the image.
    """
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        annotated = Image.fromarray(_decode_rle(segmentation, *image.annotated_size))
        mask = np.asarray(annotated.resize((image.width, image.height), Image.Resampling.NEAREST))
    else:
        polygons = [(np.reshape(polygon, (-1, 2)) * image.scale).ravel().tolist() for polygon in segmentation]
        polygons = [polygon for polygon in polygons if len(polygon) >= 6]
        if not polygons:
            return None
        mask = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, image.height, image.width)))
    mask = np.array(mask, bool, order="C")
    return mask if mask.any() else None


def _decode_rle(rle: dict[str, Any], width: int, height: int) -> np.ndarray:
    if rle.get("size") != [height, width]:
        raise ValueError(f"RLE of size {short(rle.get('size'))} for {width}×{height} pixels")
    if width * height > MOST_PIXELS:
        raise ValueError(f"RLE of {width}×{height} pixels, which is larger than an image can be")
    mask = coco_mask.decode(rle)  # rejects runs that are longer than the mask, but not shorter ones:
    try:  # those would also fit into one pixel less
        coco_mask.decode(rle | {"size": [height * width - 1, 1]})
    except ValueError:
        return mask
    raise ValueError(f"RLE that ends before {width}×{height} pixels")
