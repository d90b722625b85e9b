"""Evaluations of deployed models: metrics, measurements, mistakes, and the images they are made on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from color_detectors import (
    COLORS,
    NUM_IMAGES,
    SIDE,
    box_of,
    color_of,
    description,
    image_of,
    labeled_set,
    model_of,
    with_masks,
    write_description,
    write_saved_model,
    write_tflite,
)
from PIL import Image

import od_eval
from od_eval import ODEvalError, Pipeline
from od_eval.deployed.evaluating import evaluate_model
from od_eval.deployed.labeled_set import LabeledSet, of_coco, of_pipeline, of_records
from od_eval.evaluation.coco_files import LeftOut
from od_eval.evaluation.labeled_image import LabeledImage
from od_eval.findings.finding import findings_in

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def normal(tmp_path_factory):
    return write_tflite(tmp_path_factory.mktemp("models") / "normal.tflite")


@pytest.fixture(scope="module")
def normalizing(tmp_path_factory):
    """A model that takes pixels and normalises them itself."""
    return write_tflite(tmp_path_factory.mktemp("models") / "normalizing.tflite", normalizes=True)


def kinds(result):
    return {finding.kind: finding for finding in findings_in(result.findings)}


def test_a_right_model_is_right_and_measured(normal, tmp_path):
    model = model_of(normal, tmp_path)
    result = evaluate_model(model, labeled_set(), LeftOut())
    assert result.bbox["AP"] == pytest.approx(1)
    assert (result.num_images, result.step, result.checkpoint) == (NUM_IMAGES, 1200, str(tmp_path / "model.tflite"))
    assert result.findings == ()
    deployment = result.deployment
    assert (deployment["format"], deployment["quantization"]) == ("tflite", "none")
    assert deployment["file_size"] == normal.stat().st_size
    latency = deployment["latency_ms"]
    assert latency["num_images"] == NUM_IMAGES
    assert 0 < latency["median"] <= latency["percentile_95"]
    # By another measure of the same; nothing has been freed for good since.
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    assert resident <= deployment["peak_memory_mb"] * 1.01 < 100 * resident
    assert json.loads(json.dumps(result.to_json_dict()))["deployment"] == deployment


def test_masks_of_a_saved_model_are_evaluated_where_the_images_have_some(tmp_path):
    write_saved_model(tmp_path / "exported" / "saved_model", with_masks=True)
    write_description(
        tmp_path / "exported",
        format="saved_model",
        class_offset=0,
        outputs={name: f"detection_{name}" for name in ("boxes", "scores", "classes")}
        | {"num_detections": "num_detections"},
    )
    model = od_eval.load_model(tmp_path / "exported")
    result = evaluate_model(model, with_masks(labeled_set()), LeftOut())
    assert (result.bbox["AP"], result.segm["AP"]) == (pytest.approx(1), pytest.approx(1))
    assert not evaluate_model(model, labeled_set(), LeftOut()).segm


def test_categories_are_matched_by_their_names_and_what_is_not_known_is_told(normal, tmp_path):
    model = model_of(normal, tmp_path)
    result = evaluate_model(model, labeled_set({7: "green", 2: "blue", 9: "red"}, {1: 9, 2: 7, 3: 2}), LeftOut())
    assert result.bbox["AP"] == pytest.approx(1)
    assert kinds(result) == {}

    result = evaluate_model(model, labeled_set({1: "red", 2: "green", 3: "azure"}), LeftOut())
    found = kinds(result)
    assert set(found) == {"categories_unknown_to_model", "detections_of_unknown_classes"}
    assert "it does not know 'azure', 1 of 3 categories" in found["categories_unknown_to_model"].symptom
    assert found["detections_of_unknown_classes"].evidence["detections"] == NUM_IMAGES // 3
    assert result.per_category["azure"]["AP"] == 0
    assert result.per_category["red"]["AP"] == pytest.approx(1)

    result = evaluate_model(model, labeled_set({1: "rot", 2: "gr\u00fcn", 3: "blau"}), LeftOut())
    assert set(kinds(result)) == {"categories_matched_by_id"}
    assert result.bbox["AP"] == pytest.approx(1)
    with pytest.raises(ODEvalError, match="knows none of the categories of 'made': it has 'red', 'green', 'blue'"):
        evaluate_model(model, labeled_set({11: "rot", 12: "blau"}, {1: 11, 2: 12, 3: 12}), LeftOut())


@pytest.mark.parametrize(("class_offset", "shift"), [(2, -1), (0, 1)])
def test_classes_that_are_one_off_are_found(normal, tmp_path, class_offset, shift):
    model = model_of(normal, tmp_path, class_offset=class_offset)
    result = evaluate_model(model, labeled_set(), LeftOut())
    finding = kinds(result)["class_off_by_one"]
    assert result.bbox["AP50"] == finding.evidence["AP50"] == 0
    assert finding.evidence["shift"] == shift
    assert finding.evidence["AP50_shifted"] == pytest.approx(1)
    assert f"AP50 is 0.000, and 1.000 if {shift:+d} is added to each class, on {NUM_IMAGES} images" in str(finding)
    assert "double_normalisation" not in kinds(result)


def test_two_classes_that_are_exchanged_are_not_taken_for_one_off(normal, tmp_path):
    model = model_of(normal, tmp_path)
    labeled = labeled_set({1: "red", 2: "green"}, {1: 2, 2: 1, 3: 1})
    assert "class_off_by_one" not in kinds(evaluate_model(model, labeled, LeftOut()))


def test_input_that_is_normalised_twice_is_found(normalizing, tmp_path):
    model = model_of(normalizing, tmp_path)
    result = evaluate_model(model, labeled_set(), LeftOut())
    finding = kinds(result)["double_normalisation"]
    assert finding.evidence == {"AP50": 0, "AP50_of_pixel_values": pytest.approx(1), "num_images": NUM_IMAGES}
    assert "class_off_by_one" not in kinds(result)
    pixels = model_of(normalizing, tmp_path, input=description()["input"] | {"mean": None, "std": None})
    assert kinds(evaluate_model(pixels, labeled_set(), LeftOut())) == {}


def test_a_model_that_finds_nothing_has_neither_mistake(normal, tmp_path):
    model = model_of(normal, tmp_path)
    labeled = labeled_set()
    black = LabeledSet(
        "black",
        COLORS,
        (LabeledImage(one.id, one.image * 0, one.size, one.objects) for one in labeled.images),
        NUM_IMAGES,
        False,
    )
    result = evaluate_model(model, black, LeftOut())
    assert (result.bbox["AP50"], kinds(result)) == (0, {})


# ---- Images and their objects ------------------------------------------------------------------------------------


def write_coco(folder: Path) -> tuple[Path, Path]:
    """The images as files of twice the annotated size, and their annotations with other ids."""
    images, annotations = [], []
    (folder / "photos").mkdir(parents=True)
    for index in range(NUM_IMAGES):
        name = f"{index}.png"
        image = image_of(color_of(index), box_of(index)).repeat(2, axis=0).repeat(2, axis=1)
        Image.fromarray(image).save(folder / "photos" / name)
        images.append({"id": index, "file_name": name, "height": SIDE, "width": SIDE})
        top, left, bottom, right = box_of(index)
        box = [left, top, right - left, bottom - top]
        category = {"id": index, "image_id": index, "category_id": 10 * color_of(index)}
        annotations.append(category | {"bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": 10 * id, "name": name} for id, name in COLORS.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "groundtruth.json").write_text(json.dumps(content))
    return folder / "groundtruth.json", folder / "photos"


def test_images_of_cocos_ground_truth_are_evaluated_in_the_pixels_of_the_annotation(normal, tmp_path):
    groundtruth, photos = write_coco(tmp_path / "data")
    model = model_of(normal, tmp_path / "model")
    result = evaluate_model(model, of_coco(str(groundtruth), str(photos), None, LeftOut()), LeftOut())
    assert result.bbox["AP"] == pytest.approx(1)
    (photos / "3.png").unlink()
    (photos / "5.png").write_text("no image")
    left_out = LeftOut()
    result = evaluate_model(model, of_coco(str(groundtruth), str(photos), None, left_out), left_out)
    assert result.num_images == NUM_IMAGES - 2
    assert kinds(result)["entries_left_out"].evidence["entries"] == 2
    with pytest.raises(ODEvalError, match=r"no '3\.png' in"):
        list(of_coco(str(groundtruth), str(photos), None, LeftOut(strict=True)).images)


def test_the_objects_of_records_are_those_of_an_evaluation_in_training(ssd_config, config_overrides, shapes, tmp_path):
    pipeline = Pipeline.load(ssd_config, config_overrides)
    pipeline.save(tmp_path)
    left_out = LeftOut()
    labeled = of_pipeline(str(tmp_path / "pipeline.config"), None, left_out)
    of_files = of_records(f"{shapes}/validation-?????-of-?????", f"{shapes}/label_map.pbtxt", None, left_out)
    num = 0
    for (features, labels), one, other in zip(pipeline.eval_dataset(), labeled.images, of_files.images, strict=True):
        num += 1
        assert one.id == other.id == features["source_id"].numpy()[0].decode()
        count = int(labels["num_groundtruth_boxes"][0])
        sides = np.tile(features["original_image_spatial_shape"].numpy()[0], 2)
        boxes = labels["groundtruth_boxes"].numpy()[0, :count] * sides
        np.testing.assert_allclose(one.objects.boxes[0], boxes, atol=1e-3)
        np.testing.assert_array_equal(
            one.objects.classes[0], labels["groundtruth_classes"].numpy()[0].argmax(1)[:count] + 1
        )
        np.testing.assert_array_equal(one.objects.boxes[0], other.objects.boxes[0])
        assert one.image.shape == (*one.size, 3)
        np.testing.assert_array_equal(one.size, features["original_image_spatial_shape"].numpy()[0])
    assert num == labeled.num_images == of_files.num_images == 4
    assert labeled.categories == of_files.categories == pipeline.evaluation.categories
    assert left_out.cases() == []


def test_objects_of_classes_that_the_label_map_does_not_have_are_counted(shapes, tmp_path):
    text = (shapes / "label_map.pbtxt").read_text()
    (tmp_path / "fewer.pbtxt").write_text("".join(f"{item}}}\n" for item in text.split("}")[:2]))
    pattern = f"{shapes}/validation-?????-of-?????"
    complete = list(of_records(pattern, f"{shapes}/label_map.pbtxt", None, LeftOut()).images)
    left_out = LeftOut()
    fewer = list(of_records(pattern, str(tmp_path / "fewer.pbtxt"), None, left_out).images)
    lost = sum(int((np.asarray(one.objects.classes[0]) > 2).sum()) for one in complete)
    kept = sum(len(one.objects.classes[0]) for one in fewer)
    assert lost > 0
    assert kept == sum(len(one.objects.classes[0]) for one in complete) - lost
    assert [case[:2] for case in left_out.cases()] == [(lost, "objects of other classes")]
    with pytest.raises(ODEvalError, match="no record file matches"):
        of_records(f"{tmp_path}/none-*", f"{shapes}/label_map.pbtxt", None, LeftOut())


# ---- The program -------------------------------------------------------------------------------------------------


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "scripts" / "evaluate_detections.py"), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_the_program_writes_the_files_of_an_evaluation_in_training_and_tells_the_mistakes(normal, tmp_path):
    groundtruth, photos = write_coco(tmp_path / "data")
    model_of(normal, tmp_path / "exp\x1bort", class_offset=2)
    model = f"--model={tmp_path}/exp\x1bort"
    data = (f"--groundtruth={groundtruth}", f"--images={photos}", f"--model_dir={tmp_path}/runs")
    process = run(model, *data, "--num_threads=1", "--num_pictures=3")
    assert process.returncode == 0, process.stderr
    found = od_eval.load_metrics(str(tmp_path / "runs"), run="eval/exp_ort")
    assert (found["step"], found["num_images"], found["bbox"]["AP50"]) == (1200, NUM_IMAGES, 0)
    latency = found["deployment"]["latency_ms"]
    assert f"Latency on this machine: median {latency['median']:.1f} ms" in process.stdout
    assert f"{normal.stat().st_size:,} bytes" in process.stdout
    assert found["deployment"]["num_threads"] == 1
    assert [finding["kind"] for finding in found["findings"]] == [
        "class_off_by_one",
        "detections_of_unknown_classes",
    ]
    assert "error: " in process.stderr
    assert "add -1 to class_offset in model.json" in process.stderr
    assert "\x1b" not in process.stdout + process.stderr
    run_dir = tmp_path / "runs" / "eval" / "exp_ort"
    for name in ("metrics.json", "metrics.csv", "images.zip", "analysis/step-00001200/objects.parquet"):
        assert (run_dir / name).exists(), name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "pass --detections or --model, one of the two"),
        (["--model=a", "--detections=b", "--groundtruth=c"], "pass --detections or --model, one of the two"),
        (["--detections=b"], "with --detections, pass --groundtruth"),
        (["--model=a"], "pass --pipeline_config_path, --record or --groundtruth, one of the three"),
        (["--model=a", "--record=b"], "with --record, pass --label_map"),
        (["--model=a", "--groundtruth=b"], "--groundtruth and --images belong together"),
        (["--detections=a", "--groundtruth=b", "--num_threads=2"], "--num_threads and --ray are for --model"),
    ],
)
def test_wrong_flags_are_told(arguments, words, tmp_path):
    process = run(f"--model_dir={tmp_path}/runs", *arguments)
    assert process.returncode == 2
    assert words in process.stderr
