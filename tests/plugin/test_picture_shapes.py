"""What static/picture.js draws, against `figures/error_pictures.py`, and where its labels are."""

from __future__ import annotations

import collections
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_table_numbers import node

from made_images import evaluated, random_images
from od_eval.figures.error_pictures import drawn_of_image
from od_eval.plugin import page_data
from od_eval.runs import analysis_files
from od_eval.runs.object_files import FILE_NAMES, parquet

OUTCOMES = {
    "true positive": "right",
    "false positive": "wrong",
    "false negative": "missed",
    "found": "found",
    "ignored": "ignored",
}
NOTES_WITHOUT_OBJECT = ("wrong class", "badly located")


def run_script(name: str, *arguments: str) -> Any:
    command = [node(), str(Path(__file__).with_name(name)), *arguments]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("confidence", [0.0, 0.4, 0.75])
def test_shapes_outcomes_and_notes_are_those_of_the_figures(tmp_path: Path, confidence: float) -> None:
    images = random_images(5, num=28)
    random = np.random.default_rng(5)
    for batch in images:
        batch.groundtruth.difficult = [random.random(len(batch.groundtruth.classes[0])) < 0.2]
    table = evaluated(images).object_tables()["bbox"]
    analysis_files.write(str(tmp_path), 1, {FILE_NAMES["bbox"]: parquet(table)})
    path = tmp_path / "table.bin"
    path.write_bytes(page_data.objects(str(tmp_path), 1, "bbox"))

    notes: collections.Counter[str] = collections.Counter()
    for image, shapes in enumerate(run_script("picture_shapes.mjs", str(path), str(confidence))):
        for kind, drawn in zip(("detection", "object"), drawn_of_image(table, image, confidence), strict=True):
            of_kind = [shape for shape in shapes if shape["kind"] == kind]
            assert [shape["row"] for shape in of_kind] == [of.row for of in drawn]
            for shape, of in zip(of_kind, drawn, strict=True):
                assert shape["box"] == pytest.approx(of.box, abs=1e-4)
                assert (shape["outcome"], shape["name"]) == (OUTCOMES[of.outcome], of.category)
                assert shape["score"] == ("" if of.score is None else f"{of.score:.0%}")
                note = " ".join(filter(None, (shape["note"], shape["meant"])))
                # Of a difficult object that overlaps most, the page does not say that it is meant.
                assert note == of.note or note in NOTES_WITHOUT_OBJECT
                notes[shape["note"]] += 1
    assert {"", "is", "background", "crowd", "difficult"} <= notes.keys()
    assert sum(notes[note] for note in NOTES_WITHOUT_OBJECT) <= 0.1 * notes.total()


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_inside_of_the_picture_and_cover_no_other(seed: int) -> None:
    random = np.random.default_rng(seed)
    picture = {"width": 640, "height": 480}
    labels = []
    for _ in range(100):
        left, top = random.uniform(0, 600), random.uniform(0, 440)
        box = {
            "left": left,
            "top": top,
            "right": random.uniform(left + 7, 640),
            "bottom": random.uniform(top + 7, 480),
        }
        labels.append({"box": box, "width": random.integers(40, 200).item(), "mayBeFar": True})
    result = run_script("label_places.mjs", json.dumps({"labels": labels, "picture": picture}))
    places = [place for place in result["places"] if place is not None]
    assert len(places) > 20
    for number, place in enumerate(places):
        assert 0 <= place["left"] < place["right"] <= picture["width"]
        assert 0 <= place["top"] < place["bottom"] <= picture["height"]
        for other in places[:number]:
            assert (
                place["right"] <= other["left"]
                or other["right"] <= place["left"]
                or place["bottom"] <= other["top"]
                or other["bottom"] <= place["top"]
            )
    assert result["milliseconds"] < 1000


def test_one_label_is_at_its_box() -> None:
    box = {"left": 100, "top": 100, "right": 200, "bottom": 200}
    label = {"box": box, "width": 60, "mayBeFar": True}
    arguments = json.dumps({"labels": [label], "picture": {"width": 640, "height": 480}})
    (place,) = run_script("label_places.mjs", arguments)["places"]
    assert (place["left"], place["right"]) == (100, 160)
    assert place["bottom"] == pytest.approx(box["top"], abs=2)
