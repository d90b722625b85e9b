"""Masks in the pictures of the page, in a browser: in the color of the outcome, and pointed at by their pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from test_images_view import served, wait_until

from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.options import AnalysisOptions, EvaluationOptions
from od_eval.runs.evaluation_run import write_analysis, write_evaluation
from od_eval.runs.image_archive import ImageArchive
from plugin_browser import open_page

SIZE = 120
Y, X = np.mgrid[:SIZE, :SIZE]


def ring(y: int, x: int, outer: int = 30, inner: int = 15) -> np.ndarray:
    distance = np.hypot(Y - y, X - x)
    return (distance < outer) & (distance >= inner)


FOUND, RIGHT, WRONG, MISSED = ring(33, 33), ring(33, 33, 29), ring(33, 87), ring(86, 33)
COLORS = {"right": (0, 114, 178), "wrong": (213, 94, 0), "missed": (240, 228, 66)}
MIDDLES = {"right": (33, 33), "wrong": (87, 33), "missed": (33, 86)}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A black image, large."""
    run_dir = tmp_path_factory.mktemp("masks") / "eval"
    detections = np.array([[4.0, 4, 62, 62], [3, 57, 63, 117]])
    objects = np.array([[3.0, 3, 63, 63], [56, 3, 116, 63]])
    evaluator = Evaluator({1: "cat"}, masks=True, analysis=AnalysisOptions())
    evaluator.update(
        EvaluationBatch(
            image_ids=["a"],
            image_sizes=[[SIZE, SIZE]],
            detections=Detections([detections], [[0.9, 0.8]], [[1, 1]], masks=[np.stack((RIGHT, WRONG))]),
            groundtruth=GroundTruth([objects], [[1, 1]], masks=[np.stack((FOUND, MISSED))]),
        )
    )
    result = evaluator.evaluate(step=1)
    assert evaluator.analysis is not None
    archive = ImageArchive(str(run_dir))
    archive.add("a", np.zeros((SIZE, SIZE, 3), np.uint8))
    write_analysis("eval", str(run_dir), 1, evaluator.analysis, [], archive)
    write_evaluation(str(run_dir), result, EvaluationOptions({1: "cat"}, masks=True))
    address = "#view=images&type=segm&confidence=0.5&image=0"
    with served({"eval": str(run_dir)}) as server, open_page(server + address) as opened:
        opened.page.locator('.images-stage canvas[aria-label^="1 right, 1 wrong, 1 missed"]').wait_for()
        wait_until(lambda: color_at(opened.page, 1, 119)[:3] == [0, 0, 0], opened.page)  # the picture is there
        yield opened.page
        assert opened.problems == []


def color_at(page: Any, x: float, y: float) -> list[int]:
    """Of a place in pixels of the image."""
    return page.locator(".images-stage canvas").evaluate(
        """(canvas, [x, y]) => {
          const pen = canvas.getContext("2d");
          return [...pen.getImageData(x * canvas.width, y * canvas.height, 1, 1).data];
        }""",
        [x / SIZE, y / SIZE],
    )


def click(page: Any, x: float, y: float) -> None:
    canvas = page.locator(".images-stage canvas")
    size = canvas.bounding_box()
    canvas.click(position={"x": x / SIZE * size["width"], "y": y / SIZE * size["height"]})


@pytest.mark.parametrize("outcome", ["right", "wrong", "missed"])
def test_a_mask_has_its_color_inside_and_its_hole_has_not(page: Any, outcome: str) -> None:
    click(page, 1, 119)
    (x, y), color = MIDDLES[outcome], np.array(COLORS[outcome])
    wait_until(lambda: color_at(page, 119, 119)[:3] == [0, 0, 0], page)  # nothing is dimmed
    for inside in ((0, 22), (22, 0), (-16, 16)):
        tinted = np.array(color_at(page, x + inside[0], y + inside[1])[:3])
        np.testing.assert_allclose(tinted, color * tinted.max() / color.max(), atol=2)
        assert 0.1 * color.max() < tinted.max() < 0.5 * color.max()
    for outside in ((0, 0), (27, -27)):  # where no label is
        assert color_at(page, x + outside[0], y + outside[1])[:3] == [0, 0, 0]


def test_a_mask_is_pointed_at_by_its_pixels(page: Any) -> None:
    pointed = page.locator(".images-shapes .images-pointed")
    for outcome, text in (("wrong", "FP cat 80%"), ("missed", "FN cat"), ("right", "cat 90%")):
        x, y = MIDDLES[outcome]
        click(page, x, y + 22)
        wait_until(lambda: pointed.count() == 1, page)
        assert " ".join(pointed.text_content().split()).startswith(text)
        for outside in ((0, 0), (27, 27)):
            click(page, x + outside[0], y + outside[1])
            wait_until(lambda: pointed.count() == 0, page)
