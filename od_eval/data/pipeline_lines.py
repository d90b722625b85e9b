"""The lines of a pipeline.config for training on a dataset."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from od_eval import files


def pipeline_lines(
    folder: files.Path,
    patterns: Mapping[str, str],
    label_map: files.Path,
    num_classes: int,
    with_masks: bool,
    num_keypoints: int,
) -> str:
    """The lines of a pipeline.config that refer to a dataset.

    Args:
      folder: the folder of the dataset.
      patterns: "train" and "validation" -> the pattern of its files.
      label_map: the label map.
      num_classes: the highest id in the label map.
      with_masks: whether the records have masks.
      num_keypoints: the number of keypoints of each object.

    Returns:
      Lines of text proto; "..." is a placeholder for the meta-architecture.
    """
    readers = {"train": "train_input_reader", "validation": "eval_input_reader"}
    lines = [f"model {{ ... {{ num_classes: {num_classes} }} }}"]
    for split, pattern in patterns.items():
        lines.append(f"{readers[split]} {{")
        lines.append(f"  label_map_path: {_quoted(label_map)}")
        lines.append(f"  tf_record_input_reader {{ input_path: {_quoted(os.path.join(folder, pattern))} }}")
        if with_masks:
            lines.append("  load_instance_masks: true")
            lines.append("  mask_type: PNG_MASKS")
        if num_keypoints:
            lines.append(f"  num_keypoints: {num_keypoints}")
        lines.append("}")
    return "\n".join(lines)


def _quoted(path: files.Path) -> str:
    text = json.dumps(os.fspath(path), ensure_ascii=False)  # text proto has the same escapes as JSON
    return "".join(char if char.isprintable() else _octal(char) for char in text)


def _octal(char: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in char.encode("utf-8", "surrogateescape"))
