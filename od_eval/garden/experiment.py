"""The config of a Model Garden experiment, and what has to be changed in it for training here.

experiment = load_experiment("retinanet_resnetfpn_coco", ["mine.yaml"], "task.model.num_classes=5")
experiment.params.trainer.train_steps, experiment.remarks
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import difflib
import importlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import yaml
from official.core import exp_factory, train_utils
from official.vision import registry_imports  # noqa: F401 (its import registers the experiments)
from official.vision.configs.maskrcnn import MaskRCNNTask
from official.vision.configs.retinanet import RetinaNetTask
from official.vision.configs.semantic_segmentation import SemanticSegmentationTask

from od_eval import files
from od_eval.errors import ODEvalError, describe
from od_eval.garden.records import RecordSurvey, decoder, survey
from od_eval.text import short, some

# Projects with experiments of detection; importing one registers them.
_PROJECTS = {"yolo": "official.projects.yolo.common.registry_imports"}
_TRAIN, _VALIDATION = "task.train_data", "task.validation_data"
_COCO_CLASSES = 80
_MOST_SAMPLED = 200  # to look at before a training: reading all would take minutes


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment as it is trained.

    Attributes:
      params: its config, `official.core.config_definitions.ExperimentConfig`.
      remarks: what was changed in it or should be known of it, a sentence each.
      kind: `boxes`, `masks` (boxes and masks) or `segmentation`.
      categories: class -> name.
      records: what the records of the validation data hold; None without any, or if they are not in files.
    """

    params: Any
    remarks: Sequence[str]
    kind: str
    categories: dict[int, str]
    records: RecordSurvey | None

    @property
    def loss_config(self) -> Any:
        """The weights of the parts of its loss, for `native_losses`; None for YOLO, which has none there."""
        return getattr(self.params.task, "losses", None)

    @property
    def is_evaluated(self) -> bool:
        """Whether there is data to evaluate on."""
        data = self.params.task.validation_data
        return bool(data.input_path or getattr(data, "tfds_name", ""))


def load_experiment(name: str, config_files: Sequence[str] = (), params_override: str = "") -> Experiment:
    """Reads the config of an experiment from Model Garden's own flags, and makes it train here.

    What breaks in Model Garden, or changes its metrics in silence, is changed in the config and said in `remarks`; it
    is never changed to another training.

    Args:
      name, config_files, params_override: as `--experiment`, `--config_file` and `--params_override` of Model Garden.

    Raises:
      ODEvalError: there is no such experiment, a file or an override does not fit it, it is none of detection or
        segmentation, or its data does not fit it.
    """
    params = _parsed(name, config_files, params_override)
    kind = _kind(name, params)
    remarks: list[str] = []
    _mend_config(params, kind, remarks)
    task = params.task
    experiment = Experiment(params, remarks, kind, {}, None)
    if kind == "segmentation":
        return dataclasses.replace(experiment, categories={index: f"class {index}" for index in _classes(task, 0)})
    sampled = survey(task.train_data, _TRAIN, _MOST_SAMPLED)
    records = survey(task.validation_data, _VALIDATION, with_masks=kind == "masks") if experiment.is_evaluated else None
    if kind == "masks" and experiment.is_evaluated and records is None:
        raise ODEvalError(f"masks are evaluated on records in files; name them in {_VALIDATION}.input_path.")
    names: dict[int, str] = {}
    if sampled is not None:
        _mend_ids(task.train_data, _TRAIN, sampled, remarks)
        _remark_on_training(task.train_data, sampled, remarks)
        names |= sampled.class_names
    if records is not None:
        _mend_ids(task.validation_data, _VALIDATION, records, remarks)
        _mend_validation(params, records, remarks)
        names |= records.class_names
    if kind == "masks":
        _mend_masks(task, remarks)
    if not _keeps_classes(task, remarks):
        names = {}
    return dataclasses.replace(experiment, categories=_categories(task, names), records=records)


def _mend_config(params: Any, kind: str, remarks: list[str]) -> None:
    """Changes what is wrong whatever the data is."""
    task, trainer = params.task, params.trainer
    num_gpus = len(tf.config.list_physical_devices("GPU"))
    if type(task).__name__ == "YoloTask" and not num_gpus and not params.runtime.tpu:
        raise ODEvalError(
            "YOLO of Model Garden trains on a GPU or a TPU only (its loss scatters rows of padding to the index -1, at"
            " which TensorFlow fails on a CPU), and there is none; take RetinaNet, or another machine."
        )
    if num_gpus and not params.runtime.num_gpus and not params.runtime.tpu:
        remarks.append(f"runtime.num_gpus is 0; --params_override=runtime.num_gpus={num_gpus} trains on the GPUs.")
    if getattr(task, "annotation_file", None):
        remarks.append(f"task.annotation_file is not read: the objects in the records of {_VALIDATION} count.")
    if trainer.best_checkpoint_export_subdir:
        trainer.best_checkpoint_export_subdir = ""
        remarks.append("trainer.best_checkpoint_export_subdir is not used: the best checkpoint is kept in best/.")
    if kind == "segmentation":
        task.allow_image_summary = True  # otherwise the task keeps its logits to itself; nobody draws its pictures
    elif getattr(task, "allow_image_summary", False):
        task.allow_image_summary = False
        remarks.append("task.allow_image_summary is not used: the pictures of every evaluation take their place.")
    if getattr(task.validation_data, "drop_remainder", False) and not params.runtime.tpu:
        task.validation_data.drop_remainder = False
        remarks.append(
            f"{_VALIDATION}.drop_remainder is now false: with it, the images of the last batch are left out."
        )


def _parsed(name: str, config_files: Sequence[str], params_override: str) -> Any:
    """The config that Model Garden makes of its flags."""
    for prefix, module in _PROJECTS.items():
        if prefix in name:
            importlib.import_module(module)
    try:
        exp_factory.get_exp_config(name)
    except LookupError as error:
        known = sorted(exp_factory._REGISTERED_CONFIGS)
        raise ODEvalError(
            f"there is no experiment '{name}' in Model Garden; near to it are"
            f" {some(difflib.get_close_matches(name, known, 5, cutoff=0) or known)}."
        ) from error
    options = train_utils.ParseConfigOptions(name, list(config_files), params_override=params_override)
    try:
        return train_utils.parse_configuration(options, lock_return=False, print_return=False)
    except (KeyError, ValueError, TypeError, OSError, yaml.YAMLError, tf.errors.OpError) as error:
        given = [f"experiment={name}", *(f"config_file={path}" for path in config_files)]
        given += [f"params_override={short(params_override)}"] if params_override else []
        raise ODEvalError(f"the config of {', '.join(given)} is not valid: {describe(error)}") from error


def _kind(name: str, params: Any) -> str:
    task = params.task
    if isinstance(task, MaskRCNNTask) and task.model.include_mask:
        return "masks"
    if isinstance(task, RetinaNetTask | MaskRCNNTask) or type(task).__name__ == "YoloTask":
        return "boxes"
    if isinstance(task, SemanticSegmentationTask):
        return "segmentation"
    raise ODEvalError(
        f"experiment={name} trains a {type(task).__name__}, which is not evaluated here; RetinaNet, Mask R-CNN,"
        " YOLO and semantic segmentation are."
    )


def _mend_ids(data: Any, field: str, found: RecordSurvey, remarks: list[str]) -> None:
    """Lets Model Garden make numbers of ids that are names."""
    if found.first_name is not None and not decoder(data).regenerate_source_id:
        decoder(data).regenerate_source_id = True
        remarks.append(
            f"{field}.decoder.{data.decoder.type}.regenerate_source_id is now true: Model Garden needs numbers, and"
            f" image/source_id of the records is a name, such as {short(found.first_name)}."
        )
    if found.num_repeated:
        remarks.append(
            f"{found.num_repeated} records of {field} have an image/source_id that another has, the first is"
            f" {short(found.first_repeated)}; they are counted as images of their own."
        )


def _remark_on_training(data: Any, sampled: RecordSurvey, remarks: list[str]) -> None:
    limit = getattr(data.parser, "max_num_instances", sampled.most_objects)
    if sampled.most_objects > limit:
        remarks.append(
            f"training takes {limit} objects of an image, and among the first {sampled.num_images} one has"
            f" {sampled.most_objects}; --params_override={_TRAIN}.parser.max_num_instances={sampled.most_objects} takes"
            " all."
        )


def _keeps_classes(task: Any, remarks: list[str]) -> bool:
    """Whether the records' classes stay as they are: YOLO's 80 may be COCO's, with gaps in the records."""
    for data, field in ((task.train_data, _TRAIN), (task.validation_data, _VALIDATION)):
        if getattr(decoder(data), "coco91_to_80", False):
            if task.model.num_classes == _COCO_CLASSES:
                return False
            decoder(data).coco91_to_80 = False
            remarks.append(
                f"{field}.decoder.{data.decoder.type}.coco91_to_80 is now false: with {task.model.num_classes} classes,"
                " those of the records are not COCO's."
            )
    return True


def _mend_masks(task: Any, remarks: list[str]) -> None:
    """Masks of 0 and 255, as the Object Detection API reads them, would be taken for targets of 255."""
    for data, field in ((task.train_data, _TRAIN), (task.validation_data, _VALIDATION)):
        if decoder(data).mask_binarize_threshold is None:
            decoder(data).mask_binarize_threshold = 0.0
            remarks.append(
                f"{field}.decoder.{data.decoder.type}.mask_binarize_threshold is now 0: masks of 0 and 255 count like"
                " those of 0 and 1."
            )


def _mend_validation(params: Any, records: RecordSurvey, remarks: list[str]) -> None:
    """Changes what would leave objects or images out of the metrics."""
    data = params.task.validation_data
    if records.most_objects > getattr(data.parser, "max_num_instances", records.most_objects):
        remarks.append(
            f"{_VALIDATION}.parser.max_num_instances is now {records.most_objects}, the most objects of an image: with"
            f" {data.parser.max_num_instances}, the others would be missing in the metrics."
        )
        data.parser.max_num_instances = records.most_objects
    num_evaluated = params.trainer.validation_steps * data.global_batch_size
    if 0 < num_evaluated < records.num_images:
        remarks.append(
            f"{num_evaluated} of {records.num_images} images are evaluated;"
            " --params_override=trainer.validation_steps=-1 evaluates all."
        )


def _categories(task: Any, names: dict[int, str]) -> dict[int, str]:
    """Class -> name, for every class that the model can detect: from the label map, or the records, or its number.

    Raises:
      ODEvalError: the data has a class that the model cannot have.
    """
    names = _label_map(task.validation_data) or names
    first = 0 if type(task).__name__ == "YoloTask" else 1  # 0 is the background of the others
    classes = _classes(task, first)
    for class_id in sorted(names):
        if class_id not in classes:
            raise ODEvalError(
                f"the records have the class {class_id} ({short(names[class_id])}), and with"
                f" task.model.num_classes={task.model.num_classes} there are {classes.start} to {classes.stop - 1};"
                f" --params_override=task.model.num_classes={max(names) + 1} has room for all"
                f"{', the background included' if first else ''}."
            )
    return _unique({class_id: names.get(class_id) or f"class {class_id}" for class_id in classes})


def _classes(task: Any, first: int) -> range:
    if task.model.num_classes <= first:
        raise ODEvalError(
            f"task.model.num_classes is {task.model.num_classes}; say how many classes there are, with"
            " --params_override=task.model.num_classes=…"
        )
    return range(first, task.model.num_classes)


def _unique(names: dict[int, str]) -> dict[int, str]:
    """The same names; where two classes have one, their numbers tell them apart."""
    count = collections.Counter(names.values())
    return {class_id: name if count[name] == 1 else f"{name} ({class_id})" for class_id, name in names.items()}


def _label_map(data: Any) -> dict[int, str]:
    """The names in the file of a `label_map_decoder`, which Model Garden has read when records are decoded."""
    path = getattr(decoder(data), "label_map", "")
    if not path:
        return {}
    with files.errors_as_sentences(f"the label map '{path}' cannot be read"):
        return {int(row[0]): row[1] for row in csv.reader(files.read_text(path).splitlines()) if len(row) == 2}
