"""Whatever a file or an override holds, reading it ends in a result or in one sentence, soon, and writes nowhere else.

The inputs are right ones in which some values were replaced by hostile ones: out of range, of another type, without
end, with control characters or half characters.
"""

from __future__ import annotations

import copy
import datetime
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from od_eval.data.conversion import convert_dataset
from od_eval.errors import ODEvalError
from od_eval.evaluation.coco_files import BoxPlausibility, LeftOut, read_detections, read_groundtruth
from od_eval.evaluation.evaluator import Evaluator
from od_eval.label_map import label_map_text, read_label_map
from od_eval.text import printable

hostile = settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=datetime.timedelta(seconds=10),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

NUMBERS: list[Any] = [0, -1, 0.5, 2**31, 2**32, 2**63, -(2**63) - 1, 2**64, 10**400, 1e19, 1e38, 1e308, -1e308]
NUMBERS += [float("nan"), float("inf"), -float("inf"), 5e-324, True]
NAMES = [
    "",
    " ",
    "\x1b[2J",
    "\x9b1m\u202e",
    "a\nb" * 300,
    "x" * 10_000,
    "\ud800",
    "\udcff",
    "a\0b",
    "../../a",
    "/etc/passwd",
]
NAMES += ["%00", "%ff", "gs://nowhere/1.jpg", "1", "9" * 5000, "\u0661", "'", '"', "\\", "nan"]
RLES = [
    {"size": [60_000, 60_000], "counts": [1_800_000_000, 1_800_000_000]},
    {"size": [48, 64], "counts": [2**32, 1]},
    {"size": [48, 64], "counts": "o" * 50},
    {"size": [48, 64], "counts": "\ud800"},
    {"size": [48.0, 64.0], "counts": [3072]},
    {"size": None, "counts": None},
]
OTHERS = [None, [], {}, [[]], [[0, 0, 10**400, 0, 5, 5]], [[1e300, -1e300, 1e9, 0, 5, 5]], [1, 2, 3, 4, 5, 6], *RLES]
VALUES = st.one_of(
    st.sampled_from([*NUMBERS, *NAMES, *OTHERS]),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=20),
    st.lists(st.sampled_from([*NUMBERS, *NAMES]), max_size=6),
)

GROUND_TRUTH = {
    "images": [{"id": id, "file_name": f"{id}.jpg", "width": 64, "height": 48} for id in (1, 2)],
    "categories": [
        {"id": 1, "name": "cat", "supercategory": "pet", "keypoints": ["eye"]},
        {"id": 2, "name": "dog", "supercategory": "pet"},
    ],
    "annotations": [
        {
            "id": id,
            "image_id": id,
            "category_id": id,
            "bbox": [4, 8, 20, 16],
            "area": 200,
            "iscrowd": 0,
            "segmentation": [[4, 8, 24, 8, 24, 24]],
            "keypoints": [5, 9, 2],
        }
        for id in (1, 2)
    ],
}
DETECTIONS = [
    {
        "image_id": id,
        "category_id": id,
        "bbox": [4, 8, 20, 16],
        "score": 0.9,
        "segmentation": {"size": [48, 64], "counts": [9, 20, 3043]},
    }
    for id in (1, 2)
]
XML = """<annotation><filename>{}</filename><size><width>{}</width><height>{}</height></size><object><name>{}</name>
<pose>{}</pose><truncated>{}</truncated><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>
<ymax>{}</ymax></bndbox></object></annotation>"""
XML_VALUES = ["1.jpg", "64", "48", "cat", "Left", "0", "0", "4", "8", "24", "24"]
CSV = [
    ["filename", "class", "xmin", "ymin", "xmax", "ymax", "width", "height"],
    ["1.jpg", "cat", "4", "8", "24", "24", "64", "48"],
    ["2.jpg", "dog", "4", "8", "24", "24", "64", "48"],
]


def ends_well(function: Callable[..., Any], *arguments: Any) -> None:
    """Calls a function, which returns or raises an ODEvalError that is a sentence as a program prints it."""
    try:
        function(*arguments)
    except ODEvalError as error:
        sentence = "\n".join(map(printable, str(error).split("\n")))
        assert len(sentence) < 1500, f"{len(sentence)} characters: {sentence[:500]}"
        assert all(line.isprintable() for line in sentence.split("\n"))


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a value can be replaced in JSON."""
    yield path
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


def spoiled(content: Any) -> st.SearchStrategy[Any]:
    """The content with one to three values replaced."""

    def replaced(changes: list[tuple[tuple[Any, ...], Any]]) -> Any:
        root = [copy.deepcopy(content)]
        for path, value in changes:
            parent: Any = root
            try:
                for key in (0, *path)[:-1]:
                    parent = parent[key]
                parent[(0, *path)[-1]] = value
            except (KeyError, IndexError, TypeError):  # an earlier change took its place away
                continue
        return root[0]

    change = st.tuples(st.sampled_from(list(places(content))), VALUES)
    return st.lists(change, min_size=1, max_size=3).map(replaced)


def texts(values: list[str]) -> st.SearchStrategy[list[str]]:
    """The texts with one to three of them replaced."""
    anything = st.sampled_from([*NAMES, *map(str, NUMBERS)]) | st.text(st.characters(), max_size=20)
    changes = st.lists(st.tuples(st.integers(0, len(values) - 1), anything), min_size=1, max_size=3)
    return changes.map(lambda changes: [dict(changes).get(index, value) for index, value in enumerate(values)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    for name in ("images", "xml", "out"):
        (folder / name).mkdir()
    for id in (1, 2):
        Image.new("RGB", (64, 48), (90 * id, 0, 0)).save(folder / "images" / f"{id}.jpg")
    (folder / "xml" / "2.xml").write_text(XML.format("2.jpg", *XML_VALUES[1:]))
    return folder


def convert(folder: Path, annotations: Path) -> None:
    before = sorted(folder.rglob("*"))
    convert_dataset(annotations, folder / "out", images_dir=folder / "images", num_workers=1, overwrite=True)
    assert [path for path in sorted(folder.rglob("*")) if folder / "out" not in path.parents] == [
        path for path in before if folder / "out" not in path.parents
    ]


@hostile
@given(groundtruth=spoiled(GROUND_TRUTH), detections=st.just(DETECTIONS) | spoiled(DETECTIONS), masks=st.booleans())
def test_ground_truth_and_detections(folder, groundtruth, detections, masks) -> None:
    (folder / "gt.json").write_text(json.dumps(groundtruth))
    (folder / "dt.json").write_text(json.dumps(detections))

    def evaluate(left_out: LeftOut) -> None:
        truth = read_groundtruth(folder / "gt.json", masks, left_out)
        batch = read_detections(folder / "dt.json", truth, left_out)
        plausibility = BoxPlausibility()
        plausibility.update(batch)
        plausibility.problem()
        evaluator = Evaluator(truth.categories, box_format="xywh", masks=masks)
        evaluator.update(batch)
        evaluator.evaluate()

    ends_well(evaluate, LeftOut())
    ends_well(evaluate, LeftOut(strict=True))


@hostile
@given(content=spoiled(GROUND_TRUTH))
def test_coco_annotations(folder, content) -> None:
    (folder / "coco.json").write_text(json.dumps(content))
    ends_well(convert, folder, folder / "coco.json")


@hostile
@given(values=texts(XML_VALUES), escaped=st.booleans())
def test_voc_annotations(folder, values, escaped) -> None:
    if escaped:
        values = ["".join(f"&#{ord(char)};" for char in value) for value in values]
    (folder / "xml" / "a.xml").write_bytes(XML.format(*values).encode("utf-8", "surrogatepass"))
    ends_well(convert, folder, folder / "xml")


@hostile
@given(values=texts([value for row in CSV for value in row]))
def test_csv_annotations(folder, values) -> None:
    rows = [values[start : start + len(CSV[0])] for start in range(0, len(values), len(CSV[0]))]
    (folder / "boxes.csv").write_bytes("\n".join(map(",".join, rows)).encode("utf-8", "surrogatepass"))
    ends_well(convert, folder, folder / "boxes.csv")


@hostile
@given(content=st.binary(max_size=200), ending=st.sampled_from([".json", ".csv"]))
def test_files_of_anything(folder, content, ending) -> None:
    path = folder / f"anything{ending}"
    path.write_bytes(content)
    ends_well(convert, folder, path)
    ends_well(read_groundtruth, path)
    ends_well(read_label_map, path)


def proto_string(text: str) -> str:
    """A string of text proto with these bytes."""
    return "'" + "".join(f"\\{byte:03o}" for byte in text.encode("utf-8", "surrogatepass")) + "'"


PROTO_VALUES = st.one_of(
    st.sampled_from(
        [*map(str, NUMBERS), *NAMES, "{}", "[]", "[1, 2]", "{", "}", "[[", "'a' 'b'", "<>", "PATH_TO_BE_CONFIGURED"]
    ),
    st.sampled_from(NAMES).map(proto_string),
    st.text(st.characters(), max_size=20),
    st.text(st.characters(), max_size=20).map(proto_string),
)


@hostile
@given(values=st.lists(PROTO_VALUES, min_size=4, max_size=4), places=st.sets(st.integers(0, 3), min_size=1))
def test_label_maps(folder, values, places) -> None:
    right = ["1", "'cat'", "'Cat'", "keypoints { id: 0 label: 'eye' }"]
    id, name, shown, rest = (values[index] if index in places else right[index] for index in range(4))
    text = f"item {{ id: {id} name: {name} display_name: {shown} {rest} }}\nitem {{ id: 1 name: {name} }}"
    (folder / "label_map.pbtxt").write_bytes(text.encode("utf-8", "surrogatepass"))
    ends_well(lambda: label_map_text(read_label_map(folder / "label_map.pbtxt")))


FIELDS = [
    "model",
    "model.ssd.num_classes",
    "model.ssd.image_resizer",
    "model.ssd.feature_extractor.type",
    "model.center_net.keypoint_label_map_path",
    "train_config.batch_size",
    "train_config.fine_tune_checkpoint_type",
    "train_config.freeze_variables",
    "train_config.freeze_variables[0]",
    "train_config.data_augmentation_options",
    f"train_config.data_augmentation_options[{'9' * 30}]",
    "train_config.optimizer",
    "train_input_reader.label_map_path",
    "train_input_reader.tf_record_input_reader.input_path",
    "eval_input_reader[0].name",
    "eval_input_reader[0].label_map_path",
    "eval_config.super_categories",
    "eval_config.super_categories[0].key",
    "eval_config.metrics_set",
    "eval_config.num_visualizations",
    "eval_config.parameterized_metric.coco_keypoint_metrics.keypoint_label_to_sigmas[0]",
    "\x1b[2J.a",
    "x" * 10_000,
]


@hostile
@given(
    overrides=st.lists(st.tuples(st.sampled_from(FIELDS), PROTO_VALUES), min_size=1, max_size=2), equals=st.booleans()
)
def test_overrides(folder, overrides, equals) -> None:
    from od_eval.odapi.config_checks import check_pipeline
    from od_eval.odapi.hyperparameters import hyperparameters
    from od_eval.odapi.pipeline import Pipeline

    path = folder / "pipeline.config"
    path.write_text(
        "model { ssd { num_classes: 1 feature_extractor { type: 'ssd_mobilenet_v2_keras' }"
        " image_resizer { fixed_shape_resizer { height: 96 width: 96 } } } }"
        " train_config { data_augmentation_options { random_horizontal_flip {} } }"
        " train_input_reader { } eval_input_reader { name: 'day' }"
    )

    def load() -> None:
        texts = [f"{field}{'=' if equals else ': '}{value}" for field, value in overrides]
        pipeline = Pipeline.load(path, texts, check=False)
        pipeline.text()
        for finding in check_pipeline(pipeline):
            assert len(printable(str(finding))) < 1500
        hyperparameters(Pipeline.load(path, texts).config)

    ends_well(load)
