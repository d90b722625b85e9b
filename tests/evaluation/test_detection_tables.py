"""Detections from tables, from plain JSON and streamed: the same as from JSON read entry by entry."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from made_images import CATEGORIES, evaluated, random_images
from od_eval.errors import ODEvalError
from od_eval.evaluation import coco_files, detection_tables, plain_json
from od_eval.evaluation.batch import RowsByImage
from od_eval.evaluation.coco_files import LeftOut, read_detections, read_groundtruth, stream_detections
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation.streamed_evaluator import StreamedEvaluator, analysed_share

IMAGES = 40


def made(
    folder: Path, seed: int = 0, text_ids: bool = False, found: Sequence[int] = (2, 5)
) -> tuple[Any, list[dict[str, Any]]]:
    """Ground truth, some images of which have nothing, and detections of some categories with many equal scores."""
    random = np.random.default_rng(seed)
    ids = [f"photo {id}" if text_ids else int(id) for id in random.permutation(IMAGES)]
    annotations, detections = [], []
    for id in ids[3:]:
        for _ in range(random.integers(0, 5)):
            box = [*random.uniform(0, 50, 2).tolist(), *random.uniform(2, 120, 2).tolist()]
            common = {"image_id": id, "category_id": int(random.choice(found))}
            crowd = int(random.random() < 0.2)
            annotations.append({**common, "bbox": box, "area": box[2] * box[3] / 2, "iscrowd": crowd})
            for _ in range(4):
                near = (np.array(box) + random.normal(0, 3, 4)).clip(1).tolist()
                detections.append({**common, "bbox": near, "score": random.integers(1, 5) / 4})
    content = {
        "images": [{"id": id, "height": 96, "width": 128} for id in ids],
        "categories": [{"id": id, "name": str(id)} for id in dict.fromkeys((5, 2, 9, *found))],
        "annotations": annotations,
    }
    (folder / "groundtruth.json").write_text(json.dumps(content))
    return read_groundtruth(folder / "groundtruth.json"), detections


def table(detections: list[dict[str, Any]], **changes: Any) -> pa.Table:
    columns: dict[str, Any] = {
        "image_id": [one["image_id"] for one in detections],
        "category_id": [one["category_id"] for one in detections],
        "score": [one["score"] for one in detections],
    }
    columns |= {name: [one["bbox"][index] for one in detections] for index, name in enumerate(("x", "y"))}
    columns |= {name: [one["bbox"][index] for one in detections] for index, name in enumerate(("width", "height"), 2)}
    columns |= changes
    return pa.table({name: column for name, column in columns.items() if column is not None})


def rows(batch: Any) -> Any:
    found = batch.detections
    return [
        [np.asarray(column, float).reshape(-1).tolist() for column in columns]
        for columns in (found.boxes, found.scores, found.classes, found.area)
    ]


def entry_by_entry(path: Path, groundtruth: Any, left_out: LeftOut, monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patched:
        patched.setattr(coco_files, "read_plain_detections", lambda *_: None)
        return read_detections(path, groundtruth, left_out)


def outcome(read: Any) -> Any:
    left_out = LeftOut()
    try:
        return rows(read(left_out)), left_out.cases()
    except ODEvalError as error:
        return str(error)


FAULTS: list[Any] = [
    ("score", float("nan")),
    ("score", "0.5"),
    ("score", True),
    ("score", None),
    ("score", 1e39),
    ("image_id", 1000),
    ("image_id", 3.0),
    ("image_id", "3"),
    ("image_id", 2**70),
    ("category_id", 7),
    ("bbox", [1, 2, 3]),
    ("bbox", [1, 2, 3, None]),
    ("bbox", []),
    ("bbox", [1, 2, 3, float("inf")]),
    ("segmentation", {"size": [96, 128], "counts": "x"}),
    ("caption", 'half }, { of "it" é'),
    ("id", 3),
    ("extra", [{"a": 1}, {"b": 2}]),
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 5),
    faults=st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(FAULTS)), max_size=2),
    style=st.sampled_from([{}, {"separators": (",", ":")}, {"indent": 2}, {"ensure_ascii": False}]),
    block=st.sampled_from([64, 1000, 1 << 24]),
    damage=st.sampled_from(
        [None, None, (b"}, {", b"} {"), (b"]", b",]"), (b"[", b"\xef\xbb\xbf["), (b"score", b"\xff")]
    ),
)
def test_plain_json_is_read_as_entry_by_entry_whatever_stands_in_it(
    tmp_path, monkeypatch, seed, faults, style, block, damage
) -> None:
    groundtruth, detections = made(tmp_path, seed)
    for index, (name, value) in faults:
        detections[index % len(detections)][name] = value
    written = json.dumps(detections, **style).encode()
    if damage is not None:
        at = written.rfind(damage[0])
        written = written if at < 0 else written[:at] + damage[1] + written[at + len(damage[0]) :]
    path = tmp_path / "detections.json"
    path.write_bytes(written)
    with monkeypatch.context() as patched:
        patched.setattr(plain_json, "_BLOCK", block)
        found = outcome(lambda left_out: read_detections(path, groundtruth, left_out))
    assert found == outcome(lambda left_out: entry_by_entry(path, groundtruth, left_out, monkeypatch))


@pytest.mark.parametrize("text_ids", [False, True])
def test_plain_json_is_not_read_entry_by_entry(tmp_path, monkeypatch, text_ids) -> None:
    groundtruth, detections = made(tmp_path, text_ids=text_ids)
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(detections))
    monkeypatch.setattr(coco_files, "_Rows", None)
    assert sum(map(len, read_detections(path, groundtruth).detections.scores)) == len(detections)


def write_table(content: pa.Table, path: Path) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(content, path, row_group_size=50)
    else:
        new = pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream
        with new(str(path), content.schema) as writer:
            writer.write_table(content, max_chunksize=50)
    return path


@pytest.mark.parametrize("text_ids", [False, True])
@pytest.mark.parametrize("with_bbox", [False, True])
@pytest.mark.parametrize("name", ["dt.parquet", "dt.arrow", "dt.feather", "parts", "parts/*.parquet"])
def test_a_table_is_read_as_the_same_detections_in_json(tmp_path, name, with_bbox, text_ids) -> None:
    groundtruth, detections = made(tmp_path, text_ids=text_ids)
    (tmp_path / "detections.json").write_text(json.dumps(detections))
    changes = dict.fromkeys(("x", "y", "width", "height")) | {"bbox": [one["bbox"] for one in detections]}
    content = table(detections, **(changes if with_bbox else {}))
    if name.startswith("parts"):
        (tmp_path / "parts").mkdir()
        write_table(content.slice(0, 77), tmp_path / "parts" / "a.parquet")
        write_table(content.slice(77), tmp_path / "parts" / "b.parquet")
    else:
        write_table(content, tmp_path / name)
    from_table = read_detections(tmp_path / name, groundtruth)
    assert rows(from_table) == rows(read_detections(tmp_path / "detections.json", groundtruth))


@pytest.mark.parametrize("text_ids", [False, True])
@pytest.mark.parametrize("found", [(2, 5), tuple(range(1, 9)), tuple(range(30, 50))])
def test_what_is_streamed_has_the_numbers_of_what_is_held_in_memory(tmp_path, monkeypatch, text_ids, found) -> None:
    groundtruth, detections = made(tmp_path, text_ids=text_ids, found=found)
    path = write_table(table(detections), tmp_path / "dt.parquet")
    options = EvaluationOptions(groundtruth.categories, box_format="xywh")
    whole = Evaluator(groundtruth.categories, box_format="xywh")
    whole.update(read_detections(path, groundtruth))
    monkeypatch.setattr(coco_files, "MOST_ROWS_IN_MEMORY", 10)
    monkeypatch.setattr(detection_tables, "_ROWS_AT_A_TIME", 30)
    num, batches = stream_detections(path, groundtruth)
    streamed = StreamedEvaluator(options, groundtruth.images, 1.0)
    sizes = [len(batch.image_ids) for batch in batches if streamed.update(batch) is None]
    assert num == len(detections)
    assert len(sizes) > 3
    assert streamed.evaluate().to_json_dict() == whole.evaluate().to_json_dict()
    with pytest.raises(RuntimeError, match="can be called once"):
        streamed.evaluate()


def test_boxes_of_a_model_are_streamed_with_the_numbers_of_an_evaluator() -> None:
    # float32 corners, one image a batch, in any order
    images = random_images(1, num=30)
    whole = evaluated(images)
    options = EvaluationOptions(CATEGORIES)
    streamed = StreamedEvaluator(options, {image.image_ids[0]: (1, 1) for image in images}, 1.0)
    for image in reversed(images):
        streamed.update(image)
    assert streamed.evaluate().to_json_dict() == whole.evaluate().to_json_dict()


def test_one_category_is_streamed(tmp_path) -> None:
    groundtruth, detections = made(tmp_path, found=(2,))
    groundtruth = dataclasses.replace(groundtruth, categories={2: "2"})
    path = write_table(table(detections), tmp_path / "dt.parquet")
    streamed = StreamedEvaluator(EvaluationOptions({2: "2"}, box_format="xywh"), groundtruth.images, 1.0)
    whole = Evaluator({2: "2"}, box_format="xywh")
    whole.update(read_detections(path, groundtruth))
    for batch in stream_detections(path, groundtruth)[1]:
        streamed.update(batch)
    assert streamed.evaluate() == whole.evaluate()


@pytest.mark.parametrize(
    ("num_detections", "share"),
    [(0, 1), (2_000_000, 1), (2_000_001, 0.5), (4_000_000, 0.5), (4_000_001, 0.25), (10**8, 1 / 64)],
)
def test_nearly_as_many_detections_are_analysed_on_the_same_images(num_detections, share) -> None:
    assert analysed_share(num_detections) == share


def test_the_images_analysed_are_the_same_each_time_and_the_metrics_rest_on_all(tmp_path) -> None:
    groundtruth, detections = made(tmp_path)
    path = write_table(table(detections), tmp_path / "dt.parquet")
    options = EvaluationOptions(groundtruth.categories, box_format="xywh")
    results = []
    for _ in range(2):
        streamed = StreamedEvaluator(options, groundtruth.images, 0.5)
        for batch in stream_detections(path, groundtruth)[1]:
            streamed.update(batch)
        results.append(streamed.evaluate())
        assert 10 <= streamed.num_analysed <= 30
        assert results[-1].num_images == IMAGES
    whole = Evaluator(groundtruth.categories, box_format="xywh")
    whole.update(read_detections(path, groundtruth))
    assert results[0] == results[1]
    assert results[0].bbox == whole.evaluate().bbox
    assert results[0].operating_point != whole.evaluate().operating_point


def test_a_large_table_whose_images_do_not_stand_together_is_refused(tmp_path, monkeypatch) -> None:
    groundtruth, detections = made(tmp_path)
    path = write_table(table([*detections, detections[0]]), tmp_path / "dt.parquet")
    assert read_detections(path, groundtruth)
    monkeypatch.setattr(coco_files, "MOST_ROWS_IN_MEMORY", 10)
    monkeypatch.setattr(detection_tables, "_ROWS_AT_A_TIME", 30)
    with pytest.raises(ODEvalError, match=rf"image {detections[0]['image_id']} comes again .* sort it by image_id"):
        list(stream_detections(path, groundtruth)[1])


NUM = 6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"score": None}, "has no column 'score'"),
        ({"x": None}, "has no column 'x'"),
        ({"score": ["1"] * NUM}, "column 'score' is of type string; it must hold numbers"),
        ({"image_id": ["1"] * NUM}, "column 'image_id' is of type string; it must hold whole numbers"),
        ({"category_id": [2.0] * NUM}, "column 'category_id' is of type double"),
        ({"score": [1.0, None, 1.0, 1.0, 1.0, 1.0]}, "row 1: score is null"),
        ({"score": [1.0, 1.0, float("nan"), 1.0, 1.0, 1.0]}, "row 2: score must be finite; it is nan"),
        ({"y": [1.0, 1.0, float("inf"), 1.0, 1.0, 1.0]}, "row 2: x, y, width, height must be finite"),
        ({"bbox": [[1.0, 2.0, 3.0, 4.0]] * 5 + [[1.0]]}, "row 5: bbox must be four numbers"),
        ({"bbox": [[1.0, 2.0, 3.0, 4.0]] * 5 + [[1.0, 2.0, 3.0, None]]}, "row 5: bbox must be four numbers"),
        ({"image_id": [1000] * NUM}, "row 0: image_id 1000 is not an image of the ground truth"),
        ({"category_id": [2, 7, 2, 2, 2, 2]}, "row 1: category_id 7 is not a category of the ground truth (2, 5, 9)"),
        ({"kind": [""] * NUM, "match_50": [0] * NUM}, "od_eval.load_objects reads it"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path, changes, words) -> None:
    groundtruth, detections = made(tmp_path)
    path = write_table(table(detections[:NUM], **changes), tmp_path / "dt.parquet")
    with pytest.raises(ODEvalError) as error:
        read_detections(path, groundtruth)
    assert words in str(error.value).replace("(5, 2, 9)", "(2, 5, 9)")
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["dt.parquet", "dt.arrow", "dt.feather"])
@pytest.mark.parametrize("kept", [0, 4, 0.5])
def test_a_table_that_is_cut_off_is_named(tmp_path, name, kept) -> None:
    groundtruth, detections = made(tmp_path)
    path = write_table(table(detections), tmp_path / name)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else kept])
    with pytest.raises(ODEvalError, match=r"dt\.\w+' cannot be read as (Parquet|Arrow): .*see whether it is whole"):
        read_detections(path, groundtruth)


def test_a_folder_without_tables_is_named_and_a_table_without_rows_is_none_found(tmp_path) -> None:
    groundtruth, detections = made(tmp_path)
    (tmp_path / "parts").mkdir()
    with pytest.raises(ODEvalError, match="has no table of detections"):
        read_detections(tmp_path / "parts", groundtruth)
    write_table(table(detections).slice(0, 0), tmp_path / "parts" / "a.parquet")
    assert sum(map(len, read_detections(tmp_path / "parts", groundtruth).detections.scores)) == 0


def test_rows_left_out_are_counted_with_the_first(tmp_path) -> None:
    groundtruth, detections = made(tmp_path)
    detections[4]["image_id"] = detections[9]["image_id"] = 1000
    detections[2]["category_id"] = 7
    left_out = LeftOut()
    batch = read_detections(write_table(table(detections), tmp_path / "dt.parquet"), groundtruth, left_out)
    (tmp_path / "dt.json").write_text(json.dumps(detections))
    as_json = LeftOut()
    assert rows(batch) == rows(read_detections(tmp_path / "dt.json", groundtruth, as_json))
    assert [(number, what) for number, what, _ in left_out.cases()] == [(n, what) for n, what, _ in as_json.cases()]
    assert [first.partition("row ")[2][0] for _, _, first in left_out.cases()] == ["2", "4"]


def test_a_table_has_no_masks_and_says_so(tmp_path) -> None:
    groundtruth, detections = made(tmp_path)
    path = write_table(table(detections), tmp_path / "dt.parquet")
    with pytest.raises(ODEvalError, match=r"dt\.parquet' is a table of detections, which has boxes only; give"):
        read_detections(path, dataclasses.replace(groundtruth, masks=True))


def test_a_column_of_images_is_a_sequence_of_arrays() -> None:
    column = RowsByImage(np.arange(5), np.array([0, 2, 2, 5]))
    assert [rows.tolist() for rows in column] == [[0, 1], [], [2, 3, 4]]
    assert [rows.tolist() for rows in column[1:]] == [[], [2, 3, 4]]
    assert (len(column), column[-1].tolist()) == (3, [2, 3, 4])
    with pytest.raises(IndexError):
        column[3]
