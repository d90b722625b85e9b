"""What a click selects, and what bars count (static/selection.js, distributions.js), against the analyses in Python."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_table_numbers import ALL, node, random_table, write_table

from od_eval.evaluation.analyses.calibration import calibration
from od_eval.evaluation.analyses.confusion import confusion_matrix
from od_eval.evaluation.analyses.distributions import distributions
from od_eval.evaluation.object_table import ERROR_KINDS, ObjectTable
from od_eval.plugin import page_data

SCRIPT = Path(__file__).with_name("selection_numbers.mjs")
CONFIDENCE = 0.3
# Of the page -> of the analyses.
SAME_VALUES = {
    "iou_right": "iou_tp",
    "score_right": "score_tp",
    "score_wrong": "score_fp",
    "size_missed": "size_fn",
    "size_wrong": "size_fp",
    "aspect_missed": "aspect_ratio_fn",
    "aspect_wrong": "aspect_ratio_fp",
}


@pytest.fixture
def table() -> ObjectTable:
    return random_table(3, "bbox")


def computed(table: ObjectTable, run_dir: Path, *names: str) -> dict[str, Any]:
    write_table(table, run_dir)
    path = run_dir / "table.bin"
    path.write_bytes(page_data.objects(str(run_dir), 1, "bbox"))
    command = [node(), str(SCRIPT), str(path), json.dumps({**ALL, "confidence": CONFIDENCE}), json.dumps(names)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_bars_count_the_values_of_the_distributions(table: ObjectTable, tmp_path: Path) -> None:
    bars = computed(table, tmp_path)["bars"]
    expected = distributions(table, CONFIDENCE)
    for name, of in SAME_VALUES.items():
        edges = np.array([float(edge) for edge in bars[name]["edges"]])
        # The page has sides and IoUs as float32.
        values = expected[of].values.astype(np.float32 if name.startswith(("iou", "aspect")) else np.float64)
        assert bars[name]["counts"] == np.histogram(values, edges)[0].tolist(), name
    assert sum(bars["size_found"]["counts"]) == table.is_found(CONFIDENCE)[~table.ignored, 0].sum()


def test_a_bar_selects_what_it_counts(table: ObjectTable, tmp_path: Path) -> None:
    for name, bar in computed(table, tmp_path)["bars"].items():
        selected = [of["detections"] + of["objects"] for of in bar["selections"]]
        assert [len(rows) for rows in selected] == bar["counts"], name
        assert len({row for rows in selected for row in rows}) == sum(bar["counts"]), name


def test_calibration_is_that_of_the_analyses(table: ObjectTable, tmp_path: Path) -> None:
    got = computed(table, tmp_path)["calibration"]
    expected = calibration(table)
    assert got["ece"] == pytest.approx(expected.ece, abs=1e-12)
    for bin, of in zip(got["bins"], [bin for bin in expected.bins if bin.num], strict=True):
        assert (bin["low"], bin["high"], bin["num"]) == (of.low, of.high, of.num)
        assert (bin["meanScore"], bin["precision"]) == pytest.approx((of.mean_score, of.precision), abs=1e-12)


def test_an_error_kind_selects_its_rows_at_the_confidence(table: ObjectTable, tmp_path: Path) -> None:
    names = [f"errors/{kind}" for kind in ERROR_KINDS if kind]
    selected = computed(table, tmp_path, *names)["selected"]
    of_detections, of_objects = table.errors_of(table.is_above(CONFIDENCE))
    for code, kind in enumerate(ERROR_KINDS[1:], 1):
        assert selected[f"errors/{kind}"]["detections"] == np.flatnonzero(of_detections == code).tolist(), kind
    # What a detection means is known from its best partner, which is ignored here and there: those are a few.
    missed = selected["errors/missed"]["objects"]
    assert set(np.flatnonzero(of_objects).tolist()) ^ set(missed) <= set(meant_beside_ignored(table))


def meant_beside_ignored(table: ObjectTable) -> list[int]:
    """Objects that a detection means which overlaps a difficult one more."""
    detections, _ = table.nearest
    best = [detections.row, detections.other_row]
    beside = np.any([(row >= 0) & table.ignored[row] for row in best], axis=0)
    return table.meant_object[beside].tolist()


def test_a_cell_and_a_category_select_their_rows(table: ObjectTable, tmp_path: Path) -> None:
    background = len(table.categories)
    names = "confusion/0/1", f"confusion/{background}/0", f"confusion/1/{background}", "category/1"
    selected = computed(table, tmp_path, *names)
    matrix = confusion_matrix(table, CONFIDENCE)
    for name, (actual, predicted) in {
        "confusion/0/1": (0, 1),
        f"confusion/{background}/0": (background, 0),
        f"confusion/1/{background}": (1, background),
    }.items():
        detection, groundtruth = matrix.rows(actual, predicted)
        rows = selected["selected"][name]
        assert sorted(rows["detections"]) == sorted(detection[detection >= 0].tolist())
        assert sorted(rows["objects"]) == sorted(groundtruth[groundtruth >= 0].tolist())
    wrong = table.is_above(CONFIDENCE) & table.false_positive[:, 0] & (table.detections.category == 1)
    missed = ~table.ignored & ~table.is_found(CONFIDENCE)[:, 0] & (table.groundtruth.category == 1)
    rows = selected["selected"]["category/1"]
    assert (rows["detections"], rows["objects"]) == (np.flatnonzero(wrong).tolist(), np.flatnonzero(missed).tolist())


def test_names_that_mean_nothing_select_nothing(table: ObjectTable, tmp_path: Path) -> None:
    names = [
        *("", "constructor", "confusion", "confusion/0", "confusion/0/99", "confusion/-1/0", "confusion/a/b"),
        *(
            "errors/",
            "errors/toString",
            "category/99",
            "bar/__proto__/0/1",
            "bar/score_right/1/0",
            "bar/score_right/x/y",
        ),
    ]
    assert computed(table, tmp_path, *names)["selected"] == dict.fromkeys(names)
