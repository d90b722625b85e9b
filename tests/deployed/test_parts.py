"""A model run on Ray, part by part: the numbers of one process, whatever is lost, repeated, empty or interrupted."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from color_detectors import COLORS, SIDE, box_of, color_of, image_of, write_description, write_saved_model
from PIL import Image

import od_eval
from od_eval import Pipeline
from od_eval.deployed import labeled_set
from od_eval.deployed.evaluating import evaluate_model, options_for
from od_eval.deployed.labeled_set import LabeledSet, of_coco, of_pipeline, of_records
from od_eval.deployed.model import DeployedModel
from od_eval.deployed.parts import DetectedParts, detect_in_parts
from od_eval.errors import ODEvalError
from od_eval.evaluation.coco_files import LeftOut
from od_eval.evaluation.result import EvaluationResult
from od_eval.figures.first_images import FirstImages
from od_eval.runs.image_archive import ImageArchive

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DeployedModel:
    """It predicts masks, and one class less than there are."""
    folder = tmp_path_factory.mktemp("models") / "exported"
    write_saved_model(folder / "saved_model", with_masks=True)
    write_description(
        folder,
        format="saved_model",
        class_offset=0,
        outputs={name: f"detection_{name}" for name in ("boxes", "scores", "classes")}
        | {"num_detections": "num_detections"},
    )
    return od_eval.load_model(folder)


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def write_record(path: Path, indices: range) -> None:
    """Images with their rectangle, every fifth without; ids are repeated, and image 3 has an object without class."""
    import tensorflow as tf

    def feature(values: list) -> tf.train.Feature:
        if isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if isinstance(values[0], int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    with tf.io.TFRecordWriter(str(path)) as writer:
        for index in indices:
            box = box_of(index % 12)
            image = image_of(color_of(index), box)
            features = {
                "image/encoded": [png(image)],
                "image/format": [b"png"],
                "image/height": [SIDE],
                "image/width": [SIDE],
                "image/source_id": [f"{index % 7}.png".encode()],
                "image/filename": [f"{index % 7}.png".encode()],
            }
            if index % 5:
                top, left, bottom, right = (side / SIDE for side in box)
                features |= {
                    "image/object/bbox/ymin": [top],
                    "image/object/bbox/xmin": [left],
                    "image/object/bbox/ymax": [bottom],
                    "image/object/bbox/xmax": [right],
                    "image/object/class/label": [9 if index == 3 else color_of(index)],
                    "image/object/mask": [png((image.max(axis=2) > 0).astype(np.uint8) * 255)],
                }
            example = {name: feature(values) for name, values in features.items()}
            writer.write(tf.train.Example(features=tf.train.Features(feature=example)).SerializeToString())


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Four record files, the second empty."""
    items = (f'item {{ id: {id} name: "{name}" }}\n' for id, name in COLORS.items())
    (tmp_path / "label_map.pbtxt").write_text("".join(items))
    for number, indices in enumerate([range(8), range(0), range(8, 11), range(11, 20)]):
        write_record(tmp_path / f"val-{number:05}-of-00004", indices)
    return tmp_path


def labeled(folder: Path, left_out: LeftOut) -> LabeledSet:
    return of_records(f"{folder}/val-?????-of-00004", f"{folder}/label_map.pbtxt", True, left_out)


def on_ray(model: DeployedModel, folder: Path, left_out: LeftOut, num_pictured: int = 0) -> DetectedParts:
    kept = str(folder / "run" / ".unfinished")
    images = labeled(folder, left_out)
    return detect_in_parts(model, images, left_out, ray="auto", folder=kept, num_pictured=num_pictured)


def evaluated(
    model: DeployedModel, folder: Path, run_dir: Path, *, with_ray: bool
) -> tuple[EvaluationResult, FirstImages, ImageArchive]:
    left_out = LeftOut()
    images = labeled(folder, left_out)
    detected = on_ray(model, folder, left_out, num_pictured=14) if with_ray else None
    options = options_for(model, images, num_pictures=6)
    first, archive = FirstImages(options), ImageArchive(str(run_dir), most=14)
    result = evaluate_model(
        model, images, left_out, detected=detected, options=options, evaluators=[first, archive], name="val"
    )
    archive.write()
    return result, first, archive


def without_measurements(result: EvaluationResult) -> dict:
    return {name: value for name, value in result.to_json_dict().items() if name != "deployment"}


def kill_workers(killed: list[int], kept: Path) -> None:
    """Kills the workers of Ray that run tasks, as soon as there are any, until a part is finished."""
    end = time.time() + 60
    while not killed and not list(kept.glob("*/*.npz")) and time.time() < end:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "".join(process.cmdline()[:1]).startswith("ray::_call"):
                    process.kill()
                    killed.append(process.pid)
        time.sleep(0.01)


def test_all_is_as_in_one_process_although_workers_are_killed(model, records, tmp_path):
    expected, first, archive = evaluated(model, records, tmp_path / "a", with_ray=False)
    killed: list[int] = []
    killer = threading.Thread(target=kill_workers, args=(killed, records / "run" / ".unfinished"), daemon=True)
    killer.start()
    result, first_on_ray, archive_on_ray = evaluated(model, records, tmp_path / "b", with_ray=True)
    killer.join()
    assert killed
    assert without_measurements(result) == without_measurements(expected)
    assert expected.num_images == 20
    assert 0 < expected.segm["AP"] < 1
    left_out = {one["symptom"] for one in expected.findings if one["kind"] == "entries_left_out"}
    assert any("1 objects of other classes; the first: image '3.png', object 0" in one for one in left_out)
    assert any("13 image ids were changed" in one for one in left_out)
    assert result.deployment["latency_ms"]["num_images"] == 20
    assert result.deployment["peak_memory_mb"] > 100
    for (id, picture), (id_on_ray, picture_on_ray) in zip(first.pictures(), first_on_ray.pictures(), strict=True):
        assert id == id_on_ray
        np.testing.assert_array_equal(picture, picture_on_ray)
    assert archive.names() == archive_on_ray.names()
    assert (tmp_path / "a" / "images.zip").read_bytes() == (tmp_path / "b" / "images.zip").read_bytes()


def test_what_is_finished_is_not_read_again_and_the_first_error_is_told(model, records, capsys):
    whole = {number: (records / f"val-0000{number}-of-00004").read_bytes() for number in (2, 3)}
    for number, contents in whole.items():
        (records / f"val-0000{number}-of-00004").write_bytes(contents[:-5])
    with pytest.raises(ODEvalError, match="val-00002-of-00004' is truncated or corrupt at record 2"):
        on_ray(model, records, LeftOut())
    first = sorted((records / "run" / ".unfinished").glob("*/*.npz"))
    assert [path.name[:6] for path in first] == ["000000", "000001"]
    times = [path.stat().st_mtime_ns for path in first]
    for number, contents in whole.items():
        (records / f"val-0000{number}-of-00004").write_bytes(contents)
    capsys.readouterr()
    detected = on_ray(model, records, LeftOut())
    assert "4 parts, 2 of them finished before" in capsys.readouterr().out
    assert [path.stat().st_mtime_ns for path in first] == times
    assert len(detected.sizes) == len(list(detected.images())) == 20
    assert "0.png (3)" in detected.sizes

    contents = first[0].read_bytes()
    first[0].write_bytes(contents[:-100])
    with pytest.raises(ODEvalError, match=r"000000-\w+\.npz' is damaged .*; remove it, so that"):
        on_ray(model, records, LeftOut())
    first[0].write_bytes(contents)
    capsys.readouterr()

    # A file that has changed is read again; what another model has found is of no use.
    write_record(records / "val-00001-of-00004", range(20, 22))
    assert len(on_ray(model, records, LeftOut()).sizes) == 22
    assert "4 parts, 3 of them finished before" in capsys.readouterr().out
    description = Path(model.path).parent / "model.json"
    os.utime(description, (1, 1))
    on_ray(model, records, LeftOut())
    out = capsys.readouterr().out
    assert "note: what was found by another model, or in other data, was removed" in out
    assert "4 parts; what is finished" in out


def test_with_strict_the_first_entry_that_is_left_out_is_an_error(model, records):
    with pytest.raises(ODEvalError, match=r"^image '3\.png', object 0: its class is 9, which is not in the label map"):
        on_ray(model, records, LeftOut(strict=True))


def test_data_that_change_meanwhile_are_told(model, records):
    detected = on_ray(model, records, LeftOut(), num_pictured=20)
    write_record(records / "val-00000-of-00004", range(1, 9))
    with pytest.raises(ODEvalError, match="val-00000-of-00004' has changed during the evaluation; begin again"):
        list(detected.images())


def test_images_of_cocos_ground_truth_are_parts_too(model, tmp_path, monkeypatch):
    monkeypatch.setattr(labeled_set, "_IMAGES_OF_A_PART", 4)
    (tmp_path / "photos").mkdir()
    images, annotations = [], []
    for index in range(10):
        Image.fromarray(image_of(color_of(index), box_of(index))).save(tmp_path / "photos" / f"{index}.png")
        images.append({"id": index, "file_name": f"{index}.png", "height": SIDE, "width": SIDE})
        top, left, bottom, right = box_of(index)
        box = [left, top, right - left, bottom - top]
        annotations.append({"id": index, "image_id": index, "category_id": color_of(index), "bbox": box, "area": 144})
    (tmp_path / "photos" / "2.png").unlink()
    (tmp_path / "photos" / "5.png").write_text("no image")
    categories = [{"id": id, "name": name} for id, name in COLORS.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "groundtruth.json").write_text(json.dumps(content))

    def result(with_ray: bool) -> EvaluationResult:
        left_out = LeftOut()
        data = of_coco(str(tmp_path / "groundtruth.json"), str(tmp_path / "photos"), None, left_out)
        kept = str(tmp_path / "unfinished")
        detected = detect_in_parts(model, data, left_out, ray="auto", folder=kept) if with_ray else None
        return evaluate_model(model, data, left_out, detected=detected)

    expected = result(with_ray=False)
    assert without_measurements(result(with_ray=True)) == without_measurements(expected)
    assert expected.num_images == 8
    assert expected.findings[0]["symptom"].startswith("left out: 2 images that cannot be read; the first: no '2.png'")

    Image.fromarray(image_of(color_of(2), box_of(2))).save(tmp_path / "photos" / "2.png")
    Image.fromarray(image_of(color_of(5), box_of(5))).save(tmp_path / "photos" / "5.png")
    assert result(with_ray=True).num_images == 10  # although what was found before is still there

    for path in (tmp_path / "photos").glob("*.png"):
        path.write_text("no image")
    for with_ray in (False, True):
        with pytest.raises(
            ODEvalError, match=r"no image of '.*' can be read; the first: .*/photos/0\.png: no image in a format"
        ):
            result(with_ray)


def test_what_counts_over_all_files_is_refused(model, ssd_config, config_overrides, tmp_path):
    overrides = [*config_overrides, "eval_input_reader[0].sample_1_of_n_examples=5"]
    Pipeline.load(ssd_config, overrides).save(tmp_path)
    data = of_pipeline(str(tmp_path / "pipeline.config"), None, LeftOut())
    with pytest.raises(ODEvalError, match=r"takes one of 5 images \(sample_1_of_n_examples\), counted over all"):
        detect_in_parts(model, data, LeftOut(), ray="auto", folder=str(tmp_path))


def test_the_program_leaves_nothing_unfinished_and_analyses_a_sample_of_many_detections(model, records):
    """In a process of its own, with a Ray of its own, and few detections taken for many."""
    program = (
        "import sys; from od_eval.evaluation import streamed_evaluator; streamed_evaluator.MOST_ANALYSED = 10;"
        " from od_eval.cli import main; sys.argv = sys.argv[:1] + ['evaluate'] + sys.argv[1:]; main()"
    )
    process = subprocess.run(
        [
            *(sys.executable, "-c", program, "--ray=local", "--nomasks", f"--model={Path(model.path).parent}"),
            *(f"--record={records}/val-?????-of-00004", f"--label_map={records}/label_map.pbtxt"),
            f"--model_dir={records}/runs",
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    assert "Latency in the processes of the cluster: median" in process.stdout
    run_dir = records / "runs" / "eval" / "exported"
    assert not (run_dir / ".unfinished").exists()
    left_out = LeftOut()
    images = of_records(f"{records}/val-?????-of-00004", f"{records}/label_map.pbtxt", False, left_out)
    expected = evaluate_model(model, images, left_out).to_json_dict()
    result = json.loads((run_dir / "metrics.json").read_text())
    assert (result["bbox"], result["per_category"]) == (expected["bbox"], expected["per_category"])
    notes = [finding["symptom"] for finding in result["findings"] if finding["kind"] == "analysed_in_part"]
    assert len(notes) == 1
    assert "of 20 images, chosen by a hash of their ids, as there are 20 detections" in notes[0]
