"""The rule of imports: which room of the house sees which. It reads the imports, wherever in a file they stand."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "od_eval"

GROUND = {
    "batch_jobs",
    "start_notices",
    "checkpoint_files",
    "cluster",
    "coco_ids",
    "discovery",
    "errors",
    "files",
    "label_map",
    "losses",
    "model_json",
    "segmentation_losses",
    "signals",
    "streams",
    "text",
    "text_proto",
}
SHOWN = {"evaluation", "figures", "tensorboard", "runs"}
# Room -> the rooms it may import from; every room sees the ground floor and itself.
SEES: dict[str, set[str]] = {
    **{room: set() for room in GROUND},
    "evaluation": set(),
    "findings": {"evaluation"},
    "figures": {"evaluation"},
    "tensorboard": {"evaluation"},
    "runs": {"evaluation", "figures", "findings", "tensorboard"},
    "odapi": {"evaluation", "findings"},
    "garden": {"evaluation"},
    "data": {"findings"},
    "deployed": {"data", "evaluation", "figures", "findings", "odapi", "runs"},
    "callbacks": {*SHOWN, "findings"},
    "keras_hub": {"evaluation"},
    "torchvision": {"evaluation"},
    "training": {*SHOWN, "callbacks", "findings", "garden", "odapi"},
    "health": {*SHOWN, "data", "findings", "odapi"},
    "programs": {*SHOWN, "callbacks", "data", "deployed", "findings", "health", "html_report", "odapi", "training"},
    "plugin": {"evaluation", "runs"},
    "html_report": {"evaluation", "plugin", "runs"},
    "cli": {"programs"},
}
# Package -> the only rooms that import it.
ONLY_IN: dict[str, set[str]] = {
    "object_detection": {"odapi"},
    "official": {"garden"},
    "keras": {"keras_hub"},  # callbacks take the Keras that `tf.keras` is
    "keras_hub": {"keras_hub"},
    "ray": {"batch_jobs"},
    "torch": {"torchvision"},
    "tf_keras": {"odapi"},
    "tensorflow": {
        "callbacks",
        "checkpoint_files",
        "cluster",
        "data",
        "deployed",
        "files",
        "garden",
        "odapi",
        "programs",
        "segmentation_losses",
        "tensorboard",
        "training",
    },
    "tensorboard": {"runs", "odapi", "plugin", "tensorboard"},
}
# Rooms whose own modules import TensorFlow in functions only, when it is needed.
WITHOUT_TENSORFLOW = {
    *GROUND,
    "evaluation",
    "findings",
    "figures",
    "runs",
    "callbacks",
    "data",
    "deployed",
    "health",
    "html_report",
    "plugin",
    "programs",
    "cli",
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(imported module, whether that happens when this one is imported) for each import statement."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_once = {id(node) for statement in tree.body for node in ast.walk(statement) if not inside_function(statement)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield name, id(node) in at_once


def inside_function(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    room = room_of(path)
    assert room in SEES, f"{room} is a new room: say here what it may see"
    for name, at_once in imports(path):
        package, _, rest = name.partition(".")
        if package == "od_eval" and rest:
            seen = rest.partition(".")[0]
            assert seen in {room, *GROUND, *SEES[room]}, f"{room} must not import {name}"
        assert room in ONLY_IN.get(package, {room}), f"{room} must not import {package}"
        if package == "tensorflow" and room in WITHOUT_TENSORFLOW:
            assert not at_once, "TensorFlow is imported as soon as this module is"


def test_the_room_of_findings_shows_odapi_what_findings_are_made_from_alone():
    shown = {f"od_eval.findings.{module}" for module in ("config_facts", "finding", "image_measures", "survey")}
    for path in (PACKAGE / "odapi").rglob("*.py"):
        seen = {name for name, _ in imports(path) if name.startswith("od_eval.findings")}
        assert {".".join(name.split(".")[:3]) for name in seen} <= shown


OUTSIDE = [path for folder in ("benchmarks", "examples", "scripts") for path in (PACKAGE.parent / folder).glob("*.py")]


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path.name)
def test_what_benchmarks_examples_and_scripts_import_is_there(path):
    for name, _ in imports(path):
        *modules, last = name.removesuffix(".None").split(".")
        if modules[:1] == ["od_eval"] and len(modules) > 1:
            module = PACKAGE.parent.joinpath(*modules)
            source = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
            is_module = (module / f"{last}.py").exists() or (module / last).is_dir()
            assert is_module or re.search(rf"^(def|class) {last}\b|^{last}\b", source.read_text(), re.MULTILINE), name
