"""From an annotated image to a record: the features of the Object Detection API's `tf.train.Example`."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from od_eval.data.annotations import AnnotatedImage, AnnotatedObject, Remark
from od_eval.data.images import EncodedImage, ImageUnusable, encode_mask, read_image
from od_eval.data.tfrecord import Feature, encode_example


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How a whole dataset is encoded; every record of a dataset has the same features.

    Attributes:
      class_ids: name of a class -> its id in the label map.
      with_masks: whether records hold masks.
      keypoint_labels: the name of each keypoint of a record's objects; empty where records hold no keypoints.
      keypoint_indices: class name -> index in `keypoint_labels` of each keypoint that its annotations have, or None for
        one that the label map does not have.
    """

    class_ids: Mapping[str, int]
    with_masks: bool = False
    keypoint_labels: Sequence[str] = ()
    keypoint_indices: Mapping[str, Sequence[int | None]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Instance:
    """One object as it goes into a record.

    Attributes:
      class_name: its class.
      box: (xmin, ymin, xmax, ymax) in pixels, inside the image.
      area: in square pixels.
      crowd: whether it is a group.
      mask: bool [height, width]; None where it is not known.
      keypoints: float [number of keypoints of the dataset, 3]: x and y in pixels, visibility.
      difficult, truncated, pose: Pascal VOC's; None for other formats.
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


@dataclasses.dataclass(frozen=True)
class Converted:
    """What became of one annotated image.

    Attributes:
      record: the serialized example; empty where the image was left out.
      class_names: the class of each object in the record.
      remarks: what was left out or changed.
    """

    record: bytes
    class_names: list[str]
    remarks: list[Remark]


def convert_image(annotated: AnnotatedImage, encoding: Encoding) -> Converted:
    """Reads the image file of an annotated image and makes a record of both.

    Args:
      annotated: the image.
      encoding: of the dataset.

    Returns:
      The record, and what could not be converted or was changed on the way.
    """
    try:
        image = read_image(annotated.path, annotated.size)
    except ImageUnusable as error:
        return Converted(b"", [], [Remark(error.reason, annotated.where, str(error), "image")])
    remarks = [Remark(reason, annotated.where, detail) for reason, detail in image.changes]
    instances = []
    for annotated_object in annotated.objects:
        instance = _convert_object(annotated_object, annotated.size, image, encoding, remarks)
        if instance is not None:
            instances.append(instance)
    record = encode_record(image, annotated.filename, annotated.source_id, instances, encoding)
    return Converted(record, [instance.class_name for instance in instances], remarks)


def encode_record(
    image: EncodedImage, filename: str, source_id: str, instances: Sequence[Instance], encoding: Encoding
) -> bytes:
    """An image and its objects as a serialized `tf.train.Example`.

    Args:
      image: the image.
      filename: of the image file.
      source_id: unique in the dataset.
      instances: the objects.
      encoding: of the dataset.

    Returns:
      The serialized message.
    """
    boxes = np.array([instance.box for instance in instances], np.float64).reshape(-1, 4)
    features: dict[str, Feature] = {
        "image/encoded": [image.encoded],
        "image/format": [image.format.encode()],
        "image/height": [image.height],
        "image/width": [image.width],
        "image/filename": [filename.encode("utf-8", "surrogateescape")],
        "image/source_id": [source_id.encode("utf-8", "surrogateescape")],
        "image/key/sha256": [hashlib.sha256(image.encoded).hexdigest().encode()],
        "image/object/bbox/xmin": boxes[:, 0] / image.width,
        "image/object/bbox/ymin": boxes[:, 1] / image.height,
        "image/object/bbox/xmax": boxes[:, 2] / image.width,
        "image/object/bbox/ymax": boxes[:, 3] / image.height,
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
        # The weight tells the training not to learn from the empty mask of an object that has none.
        empty = np.zeros((image.height, image.width), bool)
        masks = [empty if instance.mask is None else instance.mask for instance in instances]
        features["image/object/mask"] = [encode_mask(mask) for mask in masks]
        features["image/object/mask/weight"] = [float(instance.mask is not None) for instance in instances]
    if encoding.keypoint_labels:
        unlabeled = np.zeros((len(encoding.keypoint_labels), 3))
        keypoints = np.array(
            [unlabeled if instance.keypoints is None else instance.keypoints for instance in instances]
        ).reshape(-1, len(encoding.keypoint_labels), 3)
        features["image/object/keypoint/x"] = (keypoints[:, :, 0] / image.width).ravel()
        features["image/object/keypoint/y"] = (keypoints[:, :, 1] / image.height).ravel()
        features["image/object/keypoint/visibility"] = keypoints[:, :, 2].astype(np.int64).ravel()
        features["image/object/keypoint/num"] = np.count_nonzero(keypoints[:, :, 2], axis=1)
        features["image/object/keypoint/text"] = [label.encode() for label in encoding.keypoint_labels] * len(instances)
    return encode_example(features)


def _convert_object(
    one: AnnotatedObject,
    annotated_size: tuple[int, int] | None,
    image: EncodedImage,
    encoding: Encoding,
    remarks: list[Remark],
) -> Instance | None:
    """The object in pixels of the image, inside it; None where it is left out, and a remark says why."""

    def leave_out(reason: str, detail: str) -> None:
        remarks.append(Remark(reason, one.where, detail, "object"))

    if one.class_name not in encoding.class_ids:
        return leave_out("unknown class", repr(one.class_name))
    scale = np.array([*image.scale, *image.scale])
    size = np.array([image.width, image.height, image.width, image.height])
    box = np.array(one.box) * scale
    if not np.isfinite(box).all():
        return leave_out("box is not four numbers", str(one.box))
    # As float32, which a record holds: what has an area only in more digits has none.
    if not (np.float32(box[:2]) < np.float32(box[2:])).all():
        return leave_out("box without area", str(one.box))
    inside = np.clip(box, 0, size)
    if not (np.float32(inside[:2] / size[:2]) < np.float32(inside[2:] / size[2:])).all():
        return leave_out("box outside the image", f"{one.box} in {image.width}×{image.height}")
    if (inside != box).any():
        remarks.append(
            Remark("box clipped to the image", one.where, f"{one.box} in {image.width}×{image.height} pixels")
        )

    mask = None
    if encoding.with_masks:
        try:
            mask = _read_mask(one.segmentation, annotated_size, image)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            detail = f"{one.class_name}: {error}"
            remarks.append(Remark("mask unreadable, object kept without it", one.where, detail, "mask"))
        else:
            if mask is None:
                remarks.append(Remark("object without a mask in a dataset with masks", one.where, one.class_name))

    keypoints = None
    indices = encoding.keypoint_indices.get(one.class_name, ())
    if one.keypoints and indices:
        values = np.array(one.keypoints)
        if len(values) != 3 * len(indices) or not np.isfinite(values).all():
            detail = f"{one.class_name}: {len(values)} numbers for {len(indices)} keypoints"
            remarks.append(Remark("keypoints unreadable, object kept without them", one.where, detail, "keypoints"))
        else:
            keypoints = np.zeros((len(encoding.keypoint_labels), 3))
            for index, value in zip(indices, values.reshape(-1, 3), strict=True):
                if index is not None:
                    keypoints[index] = value * (*image.scale, 1)

    if one.area is not None and np.isfinite(one.area) and one.area > 0:
        area = one.area * image.scale[0] * image.scale[1]
    elif mask is not None:
        area = np.count_nonzero(mask)
    else:
        area = np.prod(inside[2:] - inside[:2])
    return Instance(
        one.class_name,
        tuple(inside),
        float(area),
        one.crowd,
        mask,
        keypoints,
        one.difficult,
        one.truncated,
        one.pose,
    )


def _read_mask(segmentation: Any, annotated_size: tuple[int, int] | None, image: EncodedImage) -> np.ndarray | None:
    """COCO's polygons or RLE as bool [height, width] of the image; None where they cover no pixel.

    Raises:
      ValueError: (or TypeError, KeyError, IndexError) it is neither, or of another size than the image.
    """
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        mask = _decode_rle(segmentation)
        if annotated_size is not None and mask.shape != annotated_size[::-1]:
            raise ValueError(f"RLE of {mask.shape[1]}×{mask.shape[0]} for an image of {annotated_size}")
        if mask.shape != (image.height, image.width):  # annotated in another size: nearest pixel
            rows = (np.arange(image.height) + 0.5) * mask.shape[0] // image.height
            columns = (np.arange(image.width) + 0.5) * mask.shape[1] // image.width
            mask = mask[rows.astype(int)][:, columns.astype(int)]
    else:
        polygons = []
        for polygon in segmentation:
            points = np.array(polygon, np.float64).reshape(-1, 2) * image.scale
            # Points far outside are a mistake, and would make pycocotools fill the memory.
            if not np.isfinite(points).all() or np.abs(points).max(initial=0) > 16 * max(image.width, image.height):
                raise ValueError("a polygon with points far outside the image")
            if len(points) >= 3:
                polygons.append(points.ravel().tolist())
        if not polygons:
            return None
        mask = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, image.height, image.width)))
    mask = np.ascontiguousarray(mask, dtype=bool)
    return mask if mask.any() else None


def _decode_rle(rle: dict[str, Any]) -> np.ndarray:
    # Not with pycocotools, which leaves memory as it finds it where the runs end early.
    height, width = (int(side) for side in rle["size"])
    runs = rle["counts"] if isinstance(rle["counts"], list) else _decode_runs(rle["counts"])
    if height * width > 1 << 30 or min(height, width, *runs) < 0 or sum(runs) != height * width:
        raise ValueError(f"RLE of {sum(runs)} pixels for {width}×{height}")
    # Columns first; every other run is of the object.
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _decode_runs(text: str) -> list[int]:
    """The lengths of the runs in COCO's compressed RLE: signed numbers in groups of 5 bits, each character from "0".

    From the fourth on, a number is the difference to the one two before it.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - ord("0")
        if not 0 <= group < 64 or shift > 40:
            raise ValueError("RLE with a character that cannot be in it")
        value |= (group & 31) << shift
        shift += 5
        if group < 32:  # the last group of this number
            value -= (group & 16) << shift - 4  # its sign
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError("RLE cut off")
    return runs
