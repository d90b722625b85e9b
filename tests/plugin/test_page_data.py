"""What the page is given: what the files of a run have."""

import io
import json
import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from od_eval import ODEvalError, load_metrics, load_objects
from od_eval.evaluation.object_columns import MATCH_COLUMNS
from od_eval.evaluation.object_table import ERROR_KINDS
from od_eval.plugin import page_data
from plugin_run import CATEGORIES, IMAGES, NUM_PICTURES, SIZE, STEPS


def decoded(contents: bytes):
    """The header of a table, and its columns: (detections, objects)."""
    (length,) = struct.unpack_from("<I", contents)
    header, data = json.loads(contents[4 : 4 + length]), contents[4 + length :]
    assert (4 + length) % 8 == 0
    columns = [
        {
            name: np.frombuffer(data, np.dtype(column["dtype"]).newbyteorder("<"), column["length"], column["offset"])
            for name, column in header[kind]["columns"].items()
        }
        for kind in ("detections", "objects")
    ]
    assert all(
        column["offset"] % 8 == 0 for kind in ("detections", "objects") for column in header[kind]["columns"].values()
    )
    return header, *columns


def test_the_index_has_the_runs_that_were_evaluated_and_their_steps(logdir, run_dir):
    runs = {"z": run_dir, "a/night": f"{run_dir}/night", "b": str(logdir / "b" / "train"), "c": str(logdir / "none")}
    listed = page_data.index(runs)["runs"]
    assert [run["name"] for run in listed] == ["a/night", "z"]
    night, plain = (run["evaluations"] for run in listed)
    assert [entry["step"] for entry in plain] == [*STEPS]
    metrics = load_metrics(f"{run_dir}/night", ".")
    assert night[-1] == {
        "step": STEPS[-1],
        "iou_types": ["bbox", "segm"],
        "has_objects": True,
        "has_segmentation": False,
        "has_pixels": False,
        "metrics": {
            "AP": metrics["bbox"]["AP"],
            "AP50": metrics["bbox"]["AP50"],
            "segm_AP": metrics["segm"]["AP"],
            "segm_AP50": metrics["segm"]["AP50"],
        },
    }
    assert plain[0]["iou_types"] == ["bbox"]
    assert plain[0]["metrics"].keys() == {"AP", "AP50"}


def test_an_evaluation_is_its_metrics_file(run_dir):
    assert page_data.evaluation(run_dir, STEPS[-1]) == load_metrics(run_dir, ".")
    with pytest.raises(ODEvalError, match="no evaluation of step 7"):
        page_data.evaluation(run_dir, 7)


def test_damaged_evaluations_are_not_listed_and_removed_tables_are_said_to_be(run_dir, tmp_path):
    run = tmp_path / "eval"
    shutil.copytree(run_dir, run)
    first, last = (run / "metrics" / f"step-{step:08d}.json" for step in STEPS)
    first.write_text('{"step": 100, "bbox": {"AP": NaN}}')
    shutil.rmtree(run / "analysis" / f"step-{STEPS[-1]:08d}")
    ((entry,),) = (listed["evaluations"] for listed in page_data.index({"eval": str(run)})["runs"])
    assert (entry["step"], entry["has_objects"]) == (STEPS[-1], False)
    with pytest.raises(ODEvalError, match="is damaged"):
        page_data.evaluation(str(run), STEPS[0])
    with pytest.raises(ODEvalError, match="cannot be read"):
        page_data.objects(str(run), STEPS[-1], "bbox")
    with pytest.raises(ODEvalError, match="no table of objects"):
        page_data.image(str(run), STEPS[-1], 0)
    last.write_text("[]")
    assert page_data.index({"eval": str(run)}) == {"runs": []}


@pytest.mark.parametrize("masks", [False, True])
def test_objects_are_the_rows_of_the_table(run_dir, masks):
    model_dir = f"{run_dir}/night"
    rows = load_objects(model_dir, STEPS[0], ".", masks=masks)
    header, detections, objects = decoded(page_data.objects(model_dir, STEPS[0], "segm" if masks else "bbox"))
    assert header["iou_type"] == ("segm" if masks else "bbox")
    assert header["categories"] == [{"id": id, "name": name} for id, name in CATEGORIES.items()]
    is_detection = rows["kind"] == "detection"
    num = is_detection.sum()
    for columns, of_kind, first_partner in ((detections, rows[is_detection], num), (objects, rows[~is_detection], 0)):
        assert header["detections" if first_partner else "objects"]["rows"] == len(of_kind)
        assert [header["images"][index]["id"] for index in columns["image"]] == of_kind["image_id"].tolist()
        names = [header["categories"][index]["name"] for index in columns["category"]]
        assert names == of_kind["category"].tolist()
        assert [ERROR_KINDS[kind] for kind in columns["error"]] == of_kind["error"].tolist()
        for name in ("x", "y", "width", "height", "iou", "iou_other"):
            np.testing.assert_array_equal(columns[name], of_kind[name].to_numpy(np.float32))
        np.testing.assert_array_equal(columns["area"], of_kind["area"])
        partners = of_kind[[*MATCH_COLUMNS, "iou_row", "iou_other_row"]].to_numpy()
        partners = np.where(partners < 0, -1, partners - first_partner)
        np.testing.assert_array_equal(columns["match"].reshape(-1, 10), partners[:, :10])
        np.testing.assert_array_equal(columns["iou_row"], partners[:, 10])
        np.testing.assert_array_equal(columns["iou_other_row"], partners[:, 11])
    np.testing.assert_array_equal(detections["score"], rows[is_detection]["score"])
    np.testing.assert_array_equal(detections["uncounted"], rows[is_detection]["ignored"])
    for flag in ("ignored", "crowd", "difficult"):
        np.testing.assert_array_equal(objects[flag], rows[~is_detection][flag])
    assert objects["ignored"].any()
    assert (detections["match"] >= 0).any()
    order = np.lexsort((-detections["score"], detections["image"]))
    np.testing.assert_array_equal(order, np.arange(num))


def test_masks_are_those_of_images_with_a_picture(run_dir):
    model_dir = f"{run_dir}/night"
    rows = load_objects(model_dir, STEPS[0], ".", masks=True)
    for with_pictures in (None, {2}, set()):
        header, *kinds = decoded(page_data.objects(model_dir, STEPS[0], "segm", with_pictures))
        has_picture = np.array([image["has_picture"] for image in header["images"]])
        of_kinds = rows[rows.kind == "detection"], rows[rows.kind == "groundtruth"]
        for columns, of_kind in zip(kinds, of_kinds, strict=True):
            bounds, counts = columns["mask_begin"].tolist(), columns["mask"].tobytes()
            assert len(bounds) == len(of_kind) + 1
            assert (bounds[0], bounds[-1]) == (0, len(counts))
            for row, (rle, image) in enumerate(zip(of_kind["mask"], columns["image"], strict=True)):
                expected = rle["counts"] if has_picture[image] else b""
                assert counts[bounds[row] : bounds[row + 1]] == expected
            assert (len(counts) > 0) == has_picture.any()
    _, *kinds = decoded(page_data.objects(model_dir, STEPS[0], "bbox"))
    assert not any("mask" in columns for columns in kinds)


def test_images_say_whether_there_is_a_picture_and_a_picture_is_a_jpeg(run_dir):
    header, *_ = decoded(page_data.objects(run_dir, STEPS[0], "bbox"))
    assert {image["id"] for image in header["images"]} == {*IMAGES}
    for index, image in enumerate(header["images"]):
        assert (image["width"], image["height"]) == (SIZE, SIZE)
        position = IMAGES.index(image["id"])
        jpeg = page_data.image(run_dir, STEPS[0], index)
        assert image["has_picture"] == (position < NUM_PICTURES) == (jpeg is not None)
        if jpeg is not None:
            picture = np.asarray(Image.open(io.BytesIO(jpeg)))
            np.testing.assert_allclose(picture, 20 * position, atol=2)
    assert page_data.image(run_dir, STEPS[0], len(IMAGES)) is None
    header, *_ = decoded(page_data.objects(run_dir, STEPS[0], "bbox", {1}))
    assert [image["has_picture"] for image in header["images"]] == [index == 1 for index in range(len(IMAGES))]


def test_an_archive_that_is_written_anew_or_damaged_or_gone_is_noticed(run_dir, tmp_path):
    run = tmp_path / "eval"
    shutil.copytree(run_dir, run)
    assert any(page_data.image(str(run), STEPS[0], index) for index in range(len(IMAGES)))
    (run / "images.zip").write_bytes(b"no archive")
    assert not any(page_data.image(str(run), STEPS[0], index) for index in range(len(IMAGES)))
    (run / "images.zip").unlink()
    header, *_ = decoded(page_data.objects(str(run), STEPS[0], "bbox"))
    assert not any(image["has_picture"] for image in header["images"])
