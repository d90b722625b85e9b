"""`od_eval.load_model`: finds out what a path is, and loads the model that it is.

model = od_eval.load_model("runs/a/exported")
detections = model.detect(images)
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from od_eval import checkpoint_files, files
from od_eval.deployed.model import DeployedModel, names_of
from od_eval.errors import ODEvalError
from od_eval.label_map import read_label_map
from od_eval.model_json import read_model_json
from od_eval.text import some

_LABEL_MAP = "label_map.pbtxt"
_CONFIG = "pipeline.config"


def load_model(
    path: str | os.PathLike[str], *, num_threads: int | None = None, label_map: str | os.PathLike[str] | None = None
) -> DeployedModel:
    """Loads a model to detect objects with, whatever its format.

    What its inputs and outputs mean is read from the `model.json` beside it, which `od-eval export` writes. Without
    one, TensorFlow Lite's own metadata tells it, or it is taken as is usual; `model.guessed` tells what was.

    Args:
      path: the folder of an export; a folder with `saved_model.pb`; a `.tflite` file; a checkpoint; or a model_dir,
        whose best checkpoint is taken, or else its newest.
      num_threads: the number of threads; by default the runtime chooses.
      label_map: the label map that the model was trained with, if the one beside the model is missing or wrong.

    Returns:
      The model: `model.detect(images)`, `model.categories` and more, see `od_eval.deployed.model.DeployedModel`.

    Raises:
      ODEvalError: there is no such model, it cannot be read, or it is no detector; the label map or model.json does not
        belong to it.
    """
    path = os.fspath(path)
    if num_threads is not None and num_threads < 1:
        raise ODEvalError(f"num_threads is {num_threads}; give a number of 1 or more.")
    given = None if label_map is None else (os.fspath(label_map), names_of(read_label_map(label_map)))
    with files.errors_as_sentences(f"model '{path}' cannot be looked up"):
        tflite, saved_model = _tflite_file(path), _saved_model_folder(path)
        config = None if tflite or saved_model else _config_of_checkpoint(path)
        if not (tflite or saved_model or config):
            raise _no_model(path)
    if config:
        from od_eval.deployed.checkpoint import CheckpointModel
        from od_eval.odapi.pipeline import Pipeline

        return CheckpointModel(path, Pipeline.load(config), num_threads, given)
    if tflite:
        from od_eval.deployed.tflite import TFLiteModel

        folder = os.path.dirname(tflite)
        description = read_model_json(folder, "tflite")
        return TFLiteModel(tflite, num_threads, description, given or _label_map_in(folder), given is not None)
    from od_eval.deployed.saved_model import SavedModel

    folder = os.path.dirname(saved_model.rstrip("/"))
    description = read_model_json(folder, "saved_model") or read_model_json(saved_model, "saved_model")
    return SavedModel(saved_model, num_threads, description, given or _label_map_in(folder), given is not None)


def _tflite_file(path: str) -> str:
    """The TensorFlow Lite model that a path means; empty if it means none."""
    if not files.is_folder(path):
        return path if path.endswith(".tflite") and files.exists(path) else ""
    found = [name for name in files.names_in(path) if name.endswith(".tflite")]
    if len(found) > 1:
        raise ODEvalError(f"'{path}' has several models ({some(found)}); give the path of one.")
    return os.path.join(path, found[0]) if found else ""


def _saved_model_folder(path: str) -> str:
    """The folder of the SavedModel that a path means; empty if it means none."""
    for folder in (path, os.path.join(path, "saved_model")):
        if files.exists(os.path.join(folder, "saved_model.pb")):
            return folder
    return ""


def _config_of_checkpoint(path: str) -> str:
    """The pipeline.config of a checkpoint or a folder of them: there, or, as for best/, in the folder around it."""
    is_folder = files.is_folder(path)
    if not is_folder and not files.exists(checkpoint_files.prefix_of(path) + ".index"):
        return ""
    folder = path.rstrip("/") if is_folder else os.path.dirname(path)
    places = [os.path.join(one, _CONFIG) for one in (folder, files.parent(folder))]
    config = next((place for place in places if files.exists(place)), "")
    if not config and (not is_folder or checkpoint_files.numbers_in(folder)):
        raise ODEvalError(f"checkpoint '{path}' has no {_CONFIG} beside it; put that of its training there.")
    return config


def _label_map_in(folder: str) -> tuple[str, Mapping[int, str]] | None:
    path = os.path.join(folder, _LABEL_MAP)
    with files.errors_as_sentences(f"'{path}' cannot be looked up"):
        return (path, names_of(read_label_map(path))) if files.exists(path) else None


def _no_model(path: str) -> ODEvalError:
    if not files.exists(path):
        what = "does not exist"
    else:
        what = "is no model" if not files.is_folder(path) else "has no model in it"
    return ODEvalError(
        f"'{path}' {what}; give the folder of an export, a folder with saved_model.pb, a .tflite file, a checkpoint or"
        " a model_dir."
    )
