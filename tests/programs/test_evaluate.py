"""`od-eval evaluate` as a user runs it, through scripts/evaluate_detections.py, compared with pycocotools."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hotcoco import mask as coco_mask
from PIL import Image
from pycocotools.coco import COCO

import od_eval
from made_images import pycocotools_summary
from od_eval.evaluation.sections.coco import COCO_METRICS
from od_eval.tensorboard import writers
from read_events import curves, shown_images, shown_tensors

REPOSITORY = Path(__file__).parents[2]
HEIGHT, WIDTH = 96, 128


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "scripts" / "evaluate_detections.py"), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def evaluate(folder: Path, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Evaluates the files in a folder into <folder>/runs/a."""
    files = (f"--groundtruth={folder}/groundtruth.json", f"--detections={folder}/detections.json")
    return run(*files, f"--model_dir={folder}/runs/a", *arguments)


def rle(box: list[float]) -> dict[str, Any]:
    x, y, width, height = box
    diamond = [x, y + height / 2, x + width / 2, y, x + width, y + height / 2, x + width / 2, y + height]
    encoded = coco_mask.frPyObjects([diamond], HEIGHT, WIDTH)[0]
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def write_files(folder: Path, masks: bool, seed: int = 0, num_images: int = 8) -> Path:
    """Objects of two of three categories, some crowds; detections near them and beside them."""
    random = np.random.default_rng(seed)
    images = [{"id": id, "file_name": f"photo-{id}.png", "height": HEIGHT, "width": WIDTH} for id in range(num_images)]
    annotations, detections = [], []
    for image in images:
        for _ in range(random.integers(1, 6)):
            box = [*random.uniform(0, 50, 2).tolist(), *random.uniform(4, 45, 2).tolist()]
            common = {"image_id": image["id"], "category_id": int(random.choice([2, 5]))}
            crowd = int(random.random() < 0.2)
            annotations.append({"id": len(annotations) + 1, **common, "bbox": box, "iscrowd": crowd})
            annotations[-1]["area"] = box[2] * box[3] / 2
            found = (np.array(box) + random.normal(0, 2, 4)).clip(1, 60).tolist()
            for one in (found, [30.0, 20.0, *found[:1:-1]]):
                detections.append({**common, "bbox": one, "score": random.integers(1, 9) / 8})
    for one in (*annotations, *detections) if masks else ():
        one["segmentation"] = rle(one["bbox"])
    names = {2: "cat", 5: "do\x1b[31mg", 9: "bird"}
    categories = [{"id": id, "name": name} for id, name in names.items()]
    folder.mkdir(exist_ok=True)
    groundtruth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "groundtruth.json").write_text(json.dumps(groundtruth))
    (folder / "detections.json").write_text(json.dumps(detections))
    return folder


def write_images(folder: Path) -> Path:
    photos = folder / "photos" / "2024"
    photos.mkdir(parents=True)
    for id in range(8):
        Image.new("RGB", (WIDTH * 2, HEIGHT * 2), (30 * id, 100, 100)).save(photos / f"photo-{id}.png")
    return folder / "photos"


def pycocotools_metrics(folder: Path, iou_type: str, category: int | None = None) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        groundtruth = COCO(str(folder / "groundtruth.json"))
        detections = groundtruth.loadRes(str(folder / "detections.json"))
    return pycocotools_summary(groundtruth, detections, iou_type, category)


def assert_same(metrics: dict[str, Any], reference: dict[str, float]) -> None:
    found = {name: -1.0 if metrics[name] is None else metrics[name] for name in COCO_METRICS}
    assert found == pytest.approx(reference, abs=1e-9, rel=0)


def test_boxes_masks_and_pictures_go_to_the_files_and_tags_of_an_evaluation_in_training(tmp_path) -> None:
    folder = write_files(tmp_path / "data", masks=True)
    result = evaluate(folder, "--step=300", f"--images={write_images(tmp_path)}", "--num_pictures=3")
    assert (result.returncode, result.stderr) == (0, "")

    run_dir = folder / "runs" / "a" / "eval"
    found = od_eval.load_metrics(str(folder / "runs" / "a"))
    assert (found["step"], found["num_images"], found["losses"]) == (300, 8, {})
    assert 0 < found["bbox"]["AP"] < 1
    for of in ("bbox", "segm"):
        assert_same(found[of], pycocotools_metrics(folder, of))
    assert found["bbox"] != found["segm"]
    for name, category in {"cat": 2, "do\x1b[31mg": 5}.items():
        assert_same(found["per_category"][name], pycocotools_metrics(folder, "bbox", category))
        assert_same(found["per_category"][name]["segm"], pycocotools_metrics(folder, "segm", category))
    assert json.loads((run_dir / "metrics" / "step-00000300.json").read_text()) == found
    assert len((run_dir / "metrics.csv").read_text().splitlines()) == 2

    written = curves(run_dir)
    assert written["DetectionMasks_Precision/mAP"] == {300: pytest.approx(found["segm"]["AP"])}
    of_cats = {300: pytest.approx(found["per_category"]["cat"]["AP"])}
    assert written["DetectionBoxes_PerformanceByCategory/mAP/cat"] == of_cats
    tags = set(shown_tensors(run_dir))
    assert "DetectionBoxes_PerformanceByCategory/mAP/bird" not in tags, "there is no bird to be found"
    assert sorted(tag for tag in tags if tag.startswith("detections/")) == [f"detections/{i}" for i in range(3)]
    ((_, (picture,)),) = shown_images(run_dir)["detections/1"]
    colors = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert (np.abs(colors - np.array([30, 100, 100])).max(axis=1) < 8).mean() > 0.1, "the second photograph"

    lines = result.stdout.splitlines()
    assert lines[0].startswith("Reading ")
    [ap] = [line.split() for line in lines if line.startswith("AP  ")]
    assert ap[1:3] == [f"{found[of]['AP']:.4f}" for of in ("bbox", "segm")]
    good = [line.partition("; good by convention, for boxes: ")[2] for line in lines]
    assert [values for values in good if values] == ["0.45–0.65", "0.85–0.95"]
    [ar_large] = [line.split() for line in lines if line.startswith("ARl ")]
    assert ar_large[1:3] == ["-", "-"], "not defined: no object is that large"
    [cat] = [line.split() for line in lines if line.startswith("cat ")]
    shown = [found["per_category"]["cat"][name] for name in ("AP", "AP50", "AR100")]
    assert cat[3:6] == [f"{value:.4f}" for value in shown]
    for of, what in (("bbox", "boxes"), ("segm", "masks")):
        counts = found["operating_point"][of]
        intervals = found["intervals"] if of == "bbox" else found["intervals"]["segm"]
        low, high = intervals["AP"]
        based_on = f"from 8 images with {counts['num_groundtruth']} objects"
        assert f"AP of {what}: {low:.3f} to {high:.3f} with 95% confidence, {based_on}" in lines
        shown = f"{counts['tp']} right, {counts['fp']} wrong, {counts['fn']} missed"
        assert any(f"f1 {counts['f1']:.4f}; {shown}" in line for line in lines)
    assert {f"plots/{name}" for name in ("confusion", "precision_recall", "error_costs")} <= tags
    assert any(tag.startswith("errors/worst/") for tag in tags)
    assert (run_dir / "images.zip").exists()
    assert "\x1b" not in result.stdout
    assert f"--logdir {folder}/runs/a" in lines[-3]


def test_detections_of_several_checkpoints_make_a_curve_and_one_evaluated_again_is_replaced(tmp_path) -> None:
    folder = write_files(tmp_path / "data", masks=False)
    run_dir = folder / "runs" / "a" / "eval" / "night"
    in_training = {"Loss/total_loss": 0.5, "DetectionBoxes_Precision/mAP": 0.75}
    writers.write_scalars(str(run_dir), 100, in_training)
    values = {}
    for step, seed in ((100, 1), (200, 2), (100, 3)):
        write_files(folder, masks=False, seed=seed)
        assert evaluate(folder, f"--step={step}", "--run=eval/night").returncode == 0
        values[step] = pycocotools_metrics(folder, "bbox")["AP"]
    written = curves(run_dir)
    assert written["DetectionBoxes_Precision/mAP"] == {step: pytest.approx(values[step]) for step in (100, 200)}
    assert written["Loss/total_loss"] == {100: 0.5}, "of which nobody evaluated another"
    every = od_eval.load_metrics(str(folder / "runs" / "a"), run="eval/night", every=True)
    assert [(one["step"], one["bbox"]["AP"]) for one in every] == list(values.items())
    assert "segm" not in every[0]
    assert list((folder / "runs" / "a").rglob("*replaced-at-step-00000100*")), "nothing is lost"


def test_what_each_choice_of_cocos_protocol_does_is_shown_and_written_beside_the_analyses_if_asked_for(
    tmp_path,
) -> None:
    folder = write_files(tmp_path / "data", masks=True)
    result = evaluate(folder, "--step=7", "--ledger")
    assert (result.returncode, result.stderr) == (0, "")
    found = od_eval.load_metrics(str(folder / "runs" / "a"))
    of_step = folder / "runs" / "a" / "eval" / "analysis" / "step-00000007"
    lines = result.stdout.splitlines()
    for what, name, of in (("boxes", "ledger.csv", "bbox"), ("masks", "ledger_segm.csv", "segm")):
        rows = list(csv.DictReader((of_step / name).read_text().splitlines()))
        assert rows[0]["instead"] == "COCO"
        assert float(rows[0]["AP"]) == pytest.approx(found[of]["AP"], abs=1e-9)
        assert "of masks, of both" in [row["instead"] for row in rows]
        begin = next(at for at, line in enumerate(lines) if line.startswith(f"COCO's protocol for {what}"))
        after = next(at for at in range(begin + 1, len(lines)) if lines[at].startswith(("COCO's protocol", "Files: ")))
        shown = lines[begin:after]
        assert max(map(len, shown)) <= 110
        [coco] = [line.split() for line in shown if line.startswith("COCO  ")][:1]
        assert coco[1:] == [f"{found[of][metric]:.4f}" for metric in ("AP", "AP50")]
        [crowds] = [row for row in rows if row["instead"] == "objects like others"]
        [line] = [line.split() for line in shown if line.startswith("  objects like others ")]
        assert line[3:5] == [f"{float(crowds['AP']):.4f}", f"{float(crowds['AP_difference']):+.4f}"]

    assert evaluate(folder, "--step=7").returncode == 0
    assert not (of_step / "ledger.csv").exists(), "it was of the evaluation that is replaced"


def test_pycocotools_itself_can_do_it_and_boxes_alone_are_evaluated_if_asked_for(tmp_path) -> None:
    folder = write_files(tmp_path / "data", masks=True, seed=4)
    result = evaluate(folder, "--nomasks", "--backend=pycocotools")
    assert (result.returncode, result.stderr) == (0, "")
    found = od_eval.load_metrics(str(folder / "runs" / "a"))
    assert_same(found["bbox"], pycocotools_metrics(folder, "bbox"))
    assert "segm" not in found
    assert found["step"] == 0


def test_images_that_are_missing_are_told_and_the_next_are_drawn(tmp_path) -> None:
    folder = write_files(tmp_path / "data", masks=False)
    photos = write_images(tmp_path)
    (photos / "2024" / "photo-0.png").unlink()
    (photos / "2024" / "photo-1.png").write_bytes(b"no image")
    result = evaluate(folder, f"--images={photos}", "--num_pictures=2")
    assert result.returncode == 0
    assert result.stderr.startswith("warning: 2 images cannot be read and are not drawn; the first:")
    assert "photo-0.png" in result.stderr
    assert "detections/1" in shown_images(folder / "runs" / "a" / "eval")


def spoiled(folder: Path, name: str, **changes: Any) -> None:
    """Changes the first detection, or the first annotation."""
    content = json.loads((folder / name).read_text())
    (content["annotations"] if isinstance(content, dict) else content)[0].update(changes)
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("spoil", "arguments", "words"),
    [
        (lambda folder: (folder / "groundtruth.json").unlink(), [], "groundtruth.json' cannot be read: No such file"),
        (lambda folder: (folder / "detections.json").write_text("[{"), [], "detections.json', line 1, is not JSON"),
        (
            lambda folder: spoiled(folder, "detections.json", category_id=7),
            ["--strict"],
            "category_id 7 is not a category",
        ),
        (lambda folder: spoiled(folder, "groundtruth.json", bbox=[1, 2, 3]), [], "annotations[0] (id 1): 'bbox' must"),
        (lambda folder: None, ["--masks"], "there is no 'segmentation'"),
        (lambda folder: None, ["--images={0}/nowhere"], "image folder '{0}/nowhere' does not exist"),
        (lambda folder: (folder / "runs").write_text(""), [], "cannot be written"),
        (
            lambda folder: Image.new("RGB", (8, 8)).save(folder / "other.png"),
            ["--images={0}"],
            "--images has none of the images of '{0}/groundtruth.json'",
        ),
    ],
)
def test_what_is_wrong_is_named_in_a_sentence_and_nothing_is_written(tmp_path, spoil, arguments, words) -> None:
    folder = write_files(tmp_path / "data", masks=False)
    spoil(folder)
    before = {path for path in tmp_path.rglob("*")}
    result = evaluate(folder, *(argument.format(folder) for argument in arguments))
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert words.format(folder) in result.stderr
    assert result.stderr.count("\n") == 1
    assert {path for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    "argument",
    [
        "--run=../other",
        "--run=/tmp",
        "--run=\udcff",
        "--model_dir=\udcff",
        "--model_dir=",
        "--step=-1",
        f"--step={2**63}",
        "--backend=other",
        "--detections",
    ],
)
def test_wrong_flags_are_status_2(tmp_path, argument) -> None:
    result = run("--groundtruth=a.json", "--detections=b.json", f"--model_dir={tmp_path}/runs", argument)
    assert result.returncode == 2
    assert argument.split("=")[0].strip("-") in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_ledger_without_analyses_is_status_2(tmp_path) -> None:
    result = run(
        "--groundtruth=a.json", "--detections=b.json", f"--model_dir={tmp_path}/runs", "--ledger", "--noanalysis"
    )
    assert result.returncode == 2
    assert "--ledger is computed from the analyses; leave out --noanalysis" in result.stderr


def test_no_tensorflow_is_imported_before_there_is_something_to_write() -> None:
    code = "import sys, od_eval.programs.evaluate; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, timeout=60)


# ---- What takes no part, and what cannot be ------------------------------------------------------------------------


def test_names_are_shown_on_one_line_and_in_short(tmp_path) -> None:
    folder = write_files(tmp_path / "data", masks=False)
    name = "\x1b[2J\x9b\u202e\n" + "a" * 10_000

    def rename(truth: dict[str, Any]) -> None:
        truth["categories"][0]["name"] = name

    change(folder, "groundtruth.json", rename)
    spoiled(folder, "detections.json", image_id=name)
    result = evaluate(folder, "--run=eval/\x1b[2J")
    assert result.returncode == 0
    lines = (result.stdout + result.stderr).splitlines()
    assert all(line.isprintable() and len(line) < 1000 for line in lines)
    assert r"\x1b[2J\x9b\u202e\naaa" in result.stdout
    assert r"image_id '\x1b[2J\x9b\u202e\naaa" in result.stderr


def test_masks_of_an_image_that_cannot_be_are_evaluated_and_not_drawn(tmp_path) -> None:
    # Drawn, each would take gigabytes.
    folder = write_files(tmp_path / "data", masks=True)
    photos = write_images(folder)
    large = {"size": [45_000, 60_000], "counts": [1, 1_350_000_000, 1_349_999_999]}

    def enlarge(content: Any) -> None:
        if isinstance(content, dict):
            content["images"][0] |= {"height": 45_000, "width": 60_000}
        for entry in content["annotations"] if isinstance(content, dict) else content:
            if entry["image_id"] == 0:
                entry["segmentation"] = large

    for file in ("groundtruth.json", "detections.json"):
        change(folder, file, enlarge)
    result = evaluate(folder, f"--images={photos}", "--num_pictures=1")
    assert result.returncode == 0
    assert "1 images cannot be read and are not drawn; the first: image 0 is not of 60000×45000 pixels" in result.stderr


def change(folder: Path, name: str, edit: Any) -> None:
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(edit(content) or content))


def test_entries_of_other_images_and_categories_are_left_out_as_by_pycocotools_and_counted(tmp_path):
    folder = write_files(tmp_path / "data", masks=False)
    plain = evaluate(folder)
    assert (plain.returncode, plain.stderr) == (0, "")
    expected = od_eval.load_metrics(folder / "runs" / "a")["bbox"]
    box = {"bbox": [1, 2, 30, 40], "score": 0.99}
    others = [{"image_id": 0, "category_id": 77, **box}, {"image_id": 99, "category_id": 2, **box}] * 2
    change(folder, "detections.json", lambda detections: others + detections)
    unlisted = {"id": 1000, "image_id": 99, "category_id": 2, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}
    change(folder, "groundtruth.json", lambda truth: truth["annotations"].insert(0, unlisted))
    result = evaluate(folder)
    assert result.returncode == 0, result.stderr
    ours = od_eval.load_metrics(folder / "runs" / "a")["bbox"]
    assert ours == expected
    assert result.stderr.splitlines() == [
        f"warning: left out: 1 annotations of images that the ground truth does not have; the first:"
        f" '{folder}/groundtruth.json', annotations[0] (id 1000): image_id 99 is not an image of the ground truth.",
        f"warning: left out: 2 detections of categories that the ground truth does not have; the first:"
        f" '{folder}/detections.json', entry 0: category_id 77 is not a category of the ground truth (2, 5, 9).",
        f"warning: left out: 2 detections of images that the ground truth does not have; the first:"
        f" '{folder}/detections.json', entry 1: image_id 99 is not an image of the ground truth.",
    ]
    findings = od_eval.load_metrics(folder / "runs" / "a")["findings"]
    assert [f"warning: {found['sentence']}" for found in findings] == result.stderr.splitlines()
    assert [found["evidence"] for found in findings] == [{"entries": 1}, {"entries": 2}, {"entries": 2}]
    strict = evaluate(folder, "--strict")
    # pycocotools itself leaves out the categories, and refuses detections of other images.
    change(folder, "detections.json", lambda found: [one for one in found if one["image_id"] != 99])
    assert_same(ours, pycocotools_metrics(folder, "bbox"))
    assert strict.returncode == 1
    assert "annotations[0] (id 1000): image_id 99 is not an image" in strict.stderr


def test_a_category_that_only_groups_others_is_no_class(tmp_path):
    folder = write_files(tmp_path / "data", masks=False)

    def add_root(truth: dict[str, Any]) -> None:
        for category in truth["categories"]:
            category["supercategory"] = "cat"
        truth["categories"].insert(0, {"id": 0, "name": "cat", "supercategory": "none"})

    change(folder, "groundtruth.json", add_root)
    result = evaluate(folder, "--strict")
    assert result.returncode == 0, result.stderr
    assert "warning: left out: 1 categories that only group others" in result.stderr
    assert set(od_eval.load_metrics(folder / "runs" / "a")["per_category"]) == {"cat", "do\x1b[31mg", "bird"}


@pytest.mark.parametrize(
    ("edit", "warning"),
    [
        (
            lambda x, y, w, h: [x, y, x + w, y + h],
            "reach over the edge of their images: they look like left, top, right",
        ),
        (lambda x, y, w, h: [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT], "they look like parts of the image"),
        (
            lambda x, y, w, h: [x * 3, y * 3, w * 3, h * 3],
            "reach over the edge of their images; bbox is left, top, width",
        ),
    ],
)
def test_boxes_that_cannot_be_what_they_say_are_a_warning(tmp_path, edit, warning):
    folder = write_files(tmp_path / "data", masks=False)
    change(folder, "detections.json", lambda found: [one | {"bbox": edit(*one["bbox"])} for one in found])
    result = evaluate(folder)
    assert result.returncode == 0
    assert warning in result.stderr
    strict = evaluate(folder, "--strict")
    assert strict.returncode == 1
    assert warning in strict.stderr


def test_a_table_of_detections_gives_the_metrics_of_the_same_detections_in_json(tmp_path):
    folder = write_files(tmp_path / "data", masks=False)
    detections = json.loads((folder / "detections.json").read_text())
    pq.write_table(pa.Table.from_pylist(detections), folder / "detections.parquet")
    assert evaluate(folder).returncode == 0
    from_json = json.loads((folder / "runs" / "a" / "eval" / "metrics.json").read_text())
    result = evaluate(folder, f"--detections={folder}/detections.parquet")
    assert result.returncode == 0, result.stderr
    assert json.loads((folder / "runs" / "a" / "eval" / "metrics.json").read_text()) == from_json


def test_of_many_detections_it_says_on_how_many_images_the_analyses_rest(tmp_path):
    """In a process of its own in which few detections are taken for many."""
    folder = write_files(tmp_path / "data", masks=False, num_images=40)
    program = (
        "import sys; from od_eval.evaluation import streamed_evaluator; streamed_evaluator.MOST_ANALYSED = 120;"
        " from od_eval.cli import main; sys.argv.insert(1, 'evaluate'); main()"
    )
    arguments = [f"--{name}={folder}/{name}.json" for name in ("groundtruth", "detections")]
    process = subprocess.run(
        [sys.executable, "-c", program, *arguments, f"--model_dir={tmp_path}/a"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    found = od_eval.load_metrics(str(tmp_path / "a"))
    assert_same(found["bbox"], pycocotools_metrics(folder, "bbox"))
    num_analysed = found["dataset"]["num_images"]
    assert 5 <= num_analysed < found["num_images"] == 40
    assert f"with 95% confidence, from {num_analysed} images with" in process.stdout
    assert f"note: the analyses rest on {num_analysed} of 40 images" in process.stderr
