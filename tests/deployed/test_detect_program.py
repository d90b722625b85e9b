"""`od-eval detect` as a user runs it, through scripts/detect.py, with a detector whose detections are known."""

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
import pytest
from color_detectors import COLORS, SCORE, image_of, write_description, write_tflite
from PIL import Image
from pycocotools.coco import COCO

from od_eval import ODEvalError
from od_eval.data.images import EXTENSIONS
from od_eval.deployed.detecting import detect_in_files
from od_eval.deployed.input_files import find_input_files
from od_eval.deployed.loading import load_model
from od_eval.deployed.model import DeployedModel, DetectionsOfImage

REPOSITORY = Path(__file__).parents[2]
HEIGHT, WIDTH = 320, 640
HOSTILE_FILE, HOSTILE_CATEGORY = "=cmd\n<b>\x1b[31m.png", '@sum(1)\x1b[31m"<b>'


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_tflite(tmp_path_factory.mktemp("models") / "model.tflite")


@pytest.fixture
def model(written, tmp_path) -> Path:
    """The folder of an exported model; confidences are 0.25 × id, and one name is hostile."""
    folder = tmp_path / "exported"
    folder.mkdir()
    (folder / "model.tflite").write_bytes(written.read_bytes())
    names = {**COLORS, 2: HOSTILE_CATEGORY}
    categories = [{"id": id, "name": name, "confidence": 0.25 * id} for id, name in names.items()]
    write_description(folder, categories=categories)
    return folder


def detect(*arguments: Any, packages: Path | None = None, folder: Path | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, str(REPOSITORY / "scripts" / "detect.py"), *map(str, arguments)]
    python_path = os.pathsep.join(map(str, filter(None, (packages, REPOSITORY))))
    environment = os.environ | {"PYTHONPATH": python_path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=120)
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    return done


def failed(*arguments: Any, **where: Any) -> str:
    """The error of a run that ends with exit status 1, a sentence."""
    done = detect(*arguments, **where)
    assert done.returncode == 1, done.stderr
    message = done.stderr.splitlines()[-1]
    assert message.startswith("error: ")
    assert message.endswith(".")
    return message


def missing(folder: Path, *modules: str) -> Path:
    """A folder for PYTHONPATH with which these modules cannot be imported."""
    folder.mkdir()
    for name in modules:
        (folder / f"{name}.py").write_text("raise ImportError('it is not there')")
    return folder


def save(path: Path, color: int, box: tuple[int, int, int, int], orientation: int = 1) -> None:
    """An image with a rectangle, saved so that it is upright only if it is turned as its EXIF data say."""
    image = Image.fromarray(image_of(color, box, HEIGHT, WIDTH))
    exif = Image.Exif()
    exif[0x112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    (image.rotate(90, expand=True) if orientation == 6 else image).save(path, exif=exif)


def rows_of(output: Path) -> list[dict[str, str]]:
    with open(output / "detections.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def corners(row: dict[str, str]) -> list[float]:
    return [float(row[name]) for name in ("ymin", "xmin", "ymax", "xmax")]


# ---- Images ------------------------------------------------------------------------------------------------------

# Multiples of ten pixels down and twenty across are whole pixels of the model's input.
BOXES = {
    "a/1.png": (2, (40, 60, 200, 280)),
    "a/turned.png": (2, (20, 60, 160, 300)),
    f"b/{HOSTILE_FILE}": (1, (80, 100, 160, 200)),
    "b/1.png": (3, (40, 300, 200, 400)),
}


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    for name, (color, box) in BOXES.items():
        save(folder / name, color, box, orientation=6 if "turned" in name else 1)
    save(folder / "a" / "empty.png", 1, (0, 0, 0, 0))
    save(folder / ".hidden.png", 1, (0, 0, 100, 100))
    (folder / "b" / "broken.jpg").write_bytes(b"no image")
    return folder


def test_it_writes_pictures_and_what_it_finds_for_other_programs(photos, model, tmp_path):
    output = tmp_path / "found"
    # Neither is needed for images and a .tflite.
    packages = missing(tmp_path / "packages", "tensorflow", "cv2")
    done = detect(
        f"--model={model}", f"--output={output}", "--num_threads=1", photos / "a", photos / "b", packages=packages
    )
    assert done.returncode == 0, done.stderr
    assert "scores of 0.25 to 0.75 or more, as model.json tells for each category" in done.stdout
    assert "4 detections in 5 images" in done.stdout
    assert done.stderr.count("\n") == 1
    assert "left out: 1 files that cannot be read; the first: " in done.stderr
    assert str(photos / "b" / "broken.jpg") in done.stderr

    rows = rows_of(output)
    assert [row["file"] for row in rows] == ["a/1.png", "a/turned.png", "b/1.png", r"b/=cmd\n<b>\x1b[31m.png"]
    assert [row["category"] for row in rows] == [*["'" + HOSTILE_CATEGORY.replace("\x1b", r"\x1b")] * 2, "blue", "red"]
    assert [(row["frame"], float(row["score"])) for row in rows] == [("", SCORE)] * 4
    by_name = {row["file"]: corners(row) for row in rows}
    assert by_name == {
        name.replace("\n", r"\n").replace("\x1b", r"\x1b"): list(box) for name, (_, box) in BOXES.items()
    }

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(output / "annotations.json"))
        results = coco.loadRes(str(output / "detections.json"))
    assert {image["file_name"] for image in coco.dataset["images"]} == {*BOXES, "a/empty.png"}
    assert {category["id"]: category["name"] for category in coco.dataset["categories"]} == {
        **COLORS,
        2: HOSTILE_CATEGORY,
    }
    for objects in (coco.dataset["annotations"], results.dataset["annotations"]):
        found = {coco.imgs[one["image_id"]]["file_name"]: one for one in objects}
        assert len(objects) == len(found) == len(BOXES)
        for name, (color, (top, left, bottom, right)) in BOXES.items():
            assert found[name]["bbox"] == [left, top, right - left, bottom - top]
            assert (found[name]["category_id"], found[name]["score"]) == (color, SCORE)
            assert found[name]["area"] == (right - left) * (bottom - top)

    pictures = output / "pictures"
    assert {path.relative_to(pictures).as_posix() for path in pictures.rglob("*.*")} == {*BOXES, "a/empty.png"}
    for name, (color, (top, left, bottom, right)) in BOXES.items():
        plain = image_of(color, (top, left, bottom, right), HEIGHT, WIDTH)
        drawn = np.asarray(Image.open(pictures / name))
        changed = (drawn != plain).any(axis=2)
        assert changed[top, left:right].all()
        assert changed[top:bottom, right].all()
        changed[max(top - 30, 0) : bottom + 1, left : right + 1] = False  # the box, with its label above it
        assert not changed.any()
    assert not np.asarray(Image.open(pictures / "a" / "empty.png")).any()


def test_a_picture_has_the_format_of_the_image(tmp_path):
    formats = {".jpg": "JPEG", ".JPEG": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".bmp": "BMP"}
    formats |= {".gif": "GIF", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
    (tmp_path / "photos").mkdir()
    for ending, file_format in formats.items():
        Image.new("RGB", (400, 400), (9, 200, 90)).save(tmp_path / "photos" / f"a{ending}", file_format)
    assert {ending.lower() for ending in formats} == {*EXTENSIONS}
    Image.new("RGB", (400, 400)).save(tmp_path / "photos" / "noending", "JPEG")
    inputs = find_input_files([str(tmp_path / "photos"), str(tmp_path / "photos" / "noending")])
    detected = detect_in_files(Made(), inputs, str(tmp_path / "found"))
    assert detected.num_images == len(formats) + 1
    wanted = {f"a{ending}": file_format for ending, file_format in formats.items()} | {"noending": "PNG"}
    for name, file_format in wanted.items():
        picture = Image.open(tmp_path / "found" / "pictures" / name)
        assert (picture.format, picture.size) == (file_format, (400, 400))


def test_what_it_writes_can_be_evaluated(photos, model, tmp_path):
    from od_eval.evaluation.coco_files import read_detections, read_groundtruth
    from od_eval.evaluation.evaluator import Evaluator

    detect_in_files(load_model(model), find_input_files([str(photos)]), str(tmp_path / "found"))
    groundtruth = read_groundtruth(tmp_path / "found" / "annotations.json")
    evaluator = Evaluator(groundtruth.categories, box_format="xywh")
    evaluator.update(read_detections(tmp_path / "found" / "detections.json", groundtruth))
    result = evaluator.evaluate()
    assert (result.bbox["AP"], result.num_images) == (pytest.approx(1), 5)


def test_small_images_are_enlarged_until_labels_can_be_read(model, tmp_path):
    Image.fromarray(image_of(1, (4, 6, 20, 28))).save(tmp_path / "small.png")
    assert detect(f"--model={model}", "--output=found", "small.png", folder=tmp_path).returncode == 0
    picture = Image.open(tmp_path / "found" / "pictures" / "small.png")
    assert picture.size == (320, 320)
    assert corners(rows_of(tmp_path / "found")[0]) == [4, 6, 20, 28]
    assert picture.getpixel((170, 120)) == (255, 0, 0)


def test_the_confidence_is_that_of_the_category_or_as_asked_for(photos, model, tmp_path):
    def num_found(name: str, *flags: str) -> tuple[int, str]:
        done = detect(f"--model={model}", f"--output={tmp_path / name}", "--pictures=false", *flags, photos)
        assert done.returncode == 0, done.stderr
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == [
            "annotations.json",
            "detections.csv",
            "detections.json",
        ]
        return len(rows_of(tmp_path / name)), done.stdout

    chosen = {1: 0.76, 2: 0.75, 3: None}
    categories = [{"id": id, "name": COLORS[id], "confidence": confidence} for id, confidence in chosen.items()]
    write_description(model, categories=categories, confidence=None)
    number, said = num_found("by_category")
    assert number == 3  # all but red
    assert "scores of 0.75 to 0.76 or more, as model.json tells for each category; of 0.5 for blue" in said
    number, said = num_found("given", "--confidence=0.8")
    assert (number, "scores of 0.8 or more" in said) == (0, True)
    dataset = json.loads((tmp_path / "given" / "annotations.json").read_text())
    assert (len(dataset["images"]), dataset["annotations"]) == (5, [])
    assert json.loads((tmp_path / "given" / "detections.json").read_text()) == []
    (model / "model.json").unlink()
    number, said = num_found("guessed")
    assert number == 4
    assert "scores of 0.5 or more, as nothing tells the model's confidence" in said
    assert {row["category"] for row in rows_of(tmp_path / "guessed")} == {"class 1", "class 2", "class 3"}


# ---- Videos ------------------------------------------------------------------------------------------------------


def frame_box(number: int) -> tuple[int, int, int, int]:
    return 40, 40 + 20 * number, 120, 140 + 20 * number


def write_video(path: Path, num_frames: int = 12) -> Path:
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    for number in range(num_frames):
        writer.write(np.ascontiguousarray(image_of(2, frame_box(number), HEIGHT, WIDTH)[..., ::-1]))
    writer.release()
    return path


def frames_of(path: Path) -> tuple[list[np.ndarray], float]:
    """The frames of a video, RGB, and their number in a second."""
    import cv2

    capture = cv2.VideoCapture(str(path))
    rate, frames = capture.get(cv2.CAP_PROP_FPS), []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1])
    return frames, rate


def test_of_a_video_every_nth_frame_is_looked_at_and_drawn(model, tmp_path):
    video = write_video(tmp_path / "clip.avi")
    done = detect(f"--model={model}", f"--output={tmp_path / 'found'}", "--every_n_frames=5", video)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 detections in 3 images" in done.stdout
    rows = rows_of(tmp_path / "found")
    assert [(row["file"], row["frame"]) for row in rows] == [("clip.avi", str(number)) for number in (0, 5, 10)]
    for row, number in zip(rows, (0, 5, 10), strict=True):
        assert corners(row) == pytest.approx(frame_box(number), abs=20)  # a pixel of the model's input
    dataset = json.loads((tmp_path / "found" / "annotations.json").read_text())
    assert [image["file_name"] for image in dataset["images"]] == ["clip.avi/0", "clip.avi/5", "clip.avi/10"]
    frames, rate = frames_of(tmp_path / "found" / "pictures" / "clip.avi.mp4")
    assert (len(frames), rate) == (3, 2)
    for frame, number in zip(frames, (0, 5, 10), strict=True):
        assert frame.shape == (HEIGHT, WIDTH, 3)
        _, left, _, right = frame_box(number)
        assert frame[80, (left + right) // 2] == pytest.approx([0, 255, 0], abs=40)
        assert max(frame[80, left - 25]) < 40


def test_a_video_that_ends_too_early_and_one_that_is_none_are_told(model, tmp_path):
    video = write_video(tmp_path / "clip.avi", num_frames=100)
    contents = video.read_bytes()
    (tmp_path / "cut.avi").write_bytes(contents[: len(contents) // 2])
    (tmp_path / "none.mp4").write_bytes(b"no video")
    arguments = ("--every_n_frames=20", tmp_path / "cut.avi", tmp_path / "none.mp4")
    done = detect(f"--model={model}", f"--output={tmp_path / 'found'}", *arguments)
    assert done.returncode == 0, done.stderr
    assert "1 files that cannot be read; the first: " in done.stderr
    assert "none.mp4: OpenCV can read no video in it" in done.stderr
    assert "1 videos that end too early; the first: " in done.stderr
    assert done.stderr.count("\n") == 2
    assert 1 < len(rows_of(tmp_path / "found")) < 5


def test_without_opencv_it_is_said_how_to_install_it(model, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"a video")
    packages = missing(tmp_path / "packages", "cv2")
    arguments = (f"--model={model}", f"--output={tmp_path / 'found'}", tmp_path / "clip.mp4")
    assert "run pip install opencv-python-headless." in failed(*arguments, packages=packages)
    assert not (tmp_path / "found").exists()


def test_two_videos_do_not_overwrite_each_other(model, tmp_path):
    write_video(tmp_path / "clip.avi", num_frames=1)
    write_video(tmp_path / "clip.avi.avi", num_frames=1).rename(tmp_path / "clip.avi.mp4")
    arguments = (f"--model={model}", f"--output={tmp_path / 'found'}", tmp_path / "clip.avi", tmp_path / "clip.avi.mp4")
    assert "two videos would become pictures/clip.avi.mp4" in failed(*arguments)
    assert not (tmp_path / "found").exists()


# ---- What is refused ---------------------------------------------------------------------------------------------


def test_wrong_arguments_are_told_in_a_sentence_and_leave_nothing(model, tmp_path):
    folder = tmp_path / "here"
    (folder / "empty").mkdir(parents=True)
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "there").mkdir()
    usual = (f"--model={model}", "--output=found")
    assert "'no.png' does not exist" in failed(*usual, "no.png", folder=folder)
    assert "folder 'empty' has no image in it" in failed(*usual, "empty", folder=folder)
    assert "none of the 1 files can be read; the first: " in failed(*usual, "broken.png", folder=folder)
    assert "output 'there' already exists" in failed(usual[0], "--output=there", "broken.png", folder=folder)
    assert "'no.tflite' does not exist" in failed("--model=no.tflite", usual[1], "broken.png", folder=folder)
    none = detect(*usual, folder=folder)
    assert (none.returncode, none.stderr.splitlines()[0]) == (
        2,
        "od-eval detect: give images, folders of images, or videos",
    )
    assert detect(*usual, "--confidence=2", "broken.png", folder=folder).returncode == 2
    assert sorted(path.name for path in folder.iterdir()) == ["broken.png", "empty", "there"]


class Made(DeployedModel):
    """Finds one object, the upper left quarter of the image, with a mask; after `last` images it fails."""

    path, categories, predicts_masks = "made", {7: "corner"}, True

    def __init__(self, last: int = 100):
        self._left = last

    def _detect(self, image):
        self._left -= 1
        if self._left < 0:
            raise ODEvalError("it fails.")
        height, width = image.shape[:2]
        mask = np.zeros((1, height, width), np.uint8)
        mask[0, : height // 2, : width // 4] = 1
        box = np.array([[0, 0, height / 2, width / 2]], np.float32)
        return DetectionsOfImage(box, np.array([0.9], np.float32), np.array([7]), mask)


def test_what_fails_leaves_nothing(photos, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ODEvalError, match="it fails"):
        detect_in_files(Made(last=2), find_input_files([str(photos)]), str(tmp_path / "found"))
    assert sorted(tmp_path.rglob("*")) == before


def test_masks_are_written_as_coco_has_them_and_drawn(photos, tmp_path):
    output = tmp_path / "found"
    detected = detect_in_files(Made(), find_input_files([str(photos / "a")]), str(output))
    assert (detected.num_images, dict(detected.per_category)) == (3, {7: (3, 3)})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(output / "annotations.json"))
        results = coco.loadRes(str(output / "detections.json"))
    expected = np.zeros((HEIGHT, WIDTH))
    expected[: HEIGHT // 2, : WIDTH // 4] = 1
    for one in (*coco.dataset["annotations"], *results.dataset["annotations"]):
        assert np.array_equal(coco.annToMask(one), expected)
    assert {one["area"] for one in coco.dataset["annotations"]} == {expected.sum()}
    drawn = np.asarray(Image.open(output / "pictures" / "empty.png"))
    assert drawn[100, 50].any()
    assert not drawn[100, 250].any()


# ---- Names -------------------------------------------------------------------------------------------------------


def test_inputs_are_named_below_the_folder_they_share(tmp_path):
    for name in ("a/1.png", "a/deep/2.JPG", "b/1.png", "b/note.txt", "clip.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def names(*paths: str) -> list[str]:
        found = find_input_files([str(tmp_path / path) for path in paths])
        assert all(Path(one.path).is_file() for one in found)
        return [one.name for one in found]

    assert names("a") == names("a/") == ["1.png", "deep/2.JPG"]
    assert names("a", "b") == ["a/1.png", "a/deep/2.JPG", "b/1.png"]
    assert names("a/deep", "a/1.png", "a") == ["deep/2.JPG", "1.png"]
    assert names("b/note.txt") == ["note.txt"]
    assert names("a/../b/1.png", "clip.mp4") == ["b/1.png", "clip.mp4"]
    found = find_input_files([str(tmp_path / "clip.mp4"), str(tmp_path / "a")])
    assert [one.is_video for one in found] == [True, False, False]
