from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from od_eval.data.shapes import (
    CATEGORIES,
    SEGMENTATION_CATEGORIES,
    draw_image,
    write_segmentation_shapes,
    write_shapes,
)
from od_eval.errors import ODEvalError
from od_eval.label_map import read_label_map


def test_shapes_are_seen_where_their_masks_are() -> None:
    for seed in range(30):
        drawn = draw_image(np.random.default_rng(seed), 96, 6)
        assert drawn.pixels.shape == (96, 96, 3)
        assert 1 <= len(drawn.class_names) == len(drawn.masks) <= 6
        assert set(drawn.class_names) <= {one.name for one in CATEGORIES}
        assert (drawn.masks.sum(axis=0) <= 1).all()  # no pixel belongs to two
        outside = drawn.pixels[~drawn.masks.any(axis=0)].astype(float)
        for mask in drawn.masks:
            assert mask.sum() > 50
            shape = drawn.pixels[mask].astype(float)
            assert np.abs(shape.mean(axis=0) - outside.mean(axis=0)).sum() > 20 or shape.std() < outside.std()


def test_the_same_seed_draws_the_same_files(tmp_path) -> None:
    def write(name: str, **options) -> dict[str, bytes]:
        write_shapes(tmp_path / name, **({"num_train": 5, "num_validation": 2, "image_size": 64} | options))
        return {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())}

    first, again, other = write("a"), write("b"), write("c", seed=1)
    assert list(first) == ["label_map.pbtxt", "train-00000-of-00001", "validation-00000-of-00001"]
    assert first == again
    assert all(first[name] != other[name] for name in first if name != "label_map.pbtxt")
    longer = write("d", num_train=8)
    assert longer["train-00000-of-00001"].startswith(first["train-00000-of-00001"])


def test_the_decoder_reads_boxes_around_the_masks(tmp_path, read_records, decode) -> None:
    write_shapes(tmp_path, num_train=8, num_validation=0, image_size=80)
    label_map = read_label_map(tmp_path / "label_map.pbtxt")
    assert [one.id for one in label_map] == [1, 2, 3, 4]
    records = read_records(tmp_path, "train")
    assert len(records) == 8
    for record in records:
        decoded = decode(record, load_instance_masks=True, instance_mask_type=2)
        assert decoded["image"].shape == (80, 80, 3)
        masks = decoded["groundtruth_instance_masks"]
        assert len(masks) == len(decoded["groundtruth_boxes"]) == len(decoded["groundtruth_classes"]) >= 1
        assert decoded["groundtruth_area"].tolist() == masks.sum(axis=(1, 2)).tolist()
        for mask, (ymin, xmin, ymax, xmax) in zip(masks, np.rint(decoded["groundtruth_boxes"] * 80), strict=True):
            rows, columns = np.nonzero(mask)
            assert (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1) == (ymin, xmin, ymax, xmax)
    assert {int(one) for record in records for one in decode(record)["groundtruth_classes"]} == {1, 2, 3, 4}


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_train": 10**12},
        {"num_train": -1},
        {"num_validation": 10**12},
        {"max_shapes": 0},
        {"max_shapes": 10**30},
        {"image_size": 0},
        {"image_size": 10**6},
        {"seed": -1},
        {"seed": 10**400},
        {"output_dir": ""},
    ],
)
def test_what_cannot_be_drawn_is_refused_at_once(tmp_path, monkeypatch, wrong) -> None:
    monkeypatch.chdir(tmp_path)
    ((name, value),) = wrong.items()
    message = f"^{name}={str(value)[:50]}.* is not from" if name != "output_dir" else "the output folder has no name"
    with pytest.raises(ODEvalError, match=message):
        write_shapes(**({"output_dir": "out"} | wrong))
    assert not list(tmp_path.iterdir())


def test_no_images_are_an_error(tmp_path) -> None:
    with pytest.raises(ODEvalError, match="no images were requested"):
        write_shapes(tmp_path / "out", num_train=0, num_validation=0)
    assert not (tmp_path / "out").exists()


def test_label_images_have_the_class_of_each_pixel(tmp_path) -> None:
    assert write_segmentation_shapes(tmp_path, num_train=3, num_validation=0, image_size=64) == {"train": "train"}
    assert json.loads((tmp_path / "labels.json").read_text()) == {
        str(id): name for id, name in SEGMENTATION_CATEGORIES.items()
    }
    for index in range(3):
        drawn = draw_image(np.random.default_rng([0, 0, index]), 64, 5)
        image, labels = (
            np.asarray(Image.open(tmp_path / "train" / kind / f"{index:06d}.png")) for kind in ("images", "labels")
        )
        assert (image == drawn.pixels).all()
        assert labels.dtype == np.uint8
        assert (labels[~drawn.masks.any(axis=0)] == 0).all()
        for class_name, mask in zip(drawn.class_names, drawn.masks, strict=True):
            assert {SEGMENTATION_CATEGORIES[id] for id in labels[mask].tolist()} == {class_name}


def test_images_of_somebody_else_are_not_replaced_by_those_for_segmentation(tmp_path) -> None:
    photograph = tmp_path / "train" / "images" / "a.jpg"
    photograph.parent.mkdir(parents=True)
    photograph.write_bytes(b"a")
    with pytest.raises(ODEvalError, match="has a folder 'train' and no labels"):
        write_segmentation_shapes(tmp_path, num_train=1, num_validation=0, image_size=32, overwrite=True)
    assert photograph.read_bytes() == b"a"


def test_images_for_segmentation_replace_earlier_ones_only_if_asked_to(tmp_path) -> None:
    write_segmentation_shapes(tmp_path, num_train=2, num_validation=1, image_size=32)
    with pytest.raises(ODEvalError, match=r"already contains labels\.json, train"):
        write_segmentation_shapes(tmp_path, num_train=1, num_validation=0, image_size=32)
    write_segmentation_shapes(tmp_path, num_train=1, num_validation=0, image_size=32, overwrite=True)
    assert len(list((tmp_path / "train" / "labels").iterdir())) == 1
    assert len(list((tmp_path / "validation" / "labels").iterdir())) == 1, "another split is kept"
