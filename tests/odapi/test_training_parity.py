"""Training here against the Object Detection API's own `train_loop`, and runs that go over from one to the other.

    scripts/test.sh tests/odapi/test_training_parity.py -m "slow or not slow" -s

prints the largest difference of any loss for each model. The data are so few that two steps see all of them, so that a
run begun at an even step sees what another sees that goes on there. What a model draws at random in a step is turned
off, as two programs draw differently. A ResNet with its first weights makes a difference of rounding a hundred times
larger within a step or two: so operations are deterministic, and TensorFlow does not rewrite graphs, which it does
otherwise in the one program than in the other (it adds in another order).
"""

from __future__ import annotations

import dataclasses
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from od_eval import Detector, Pipeline, load_history
from od_eval.data.shapes import write_shapes
from od_eval.training.train import train

pytestmark = pytest.mark.usefixtures("rounding_as_written")

REPOSITORY = Path(__file__).parents[2]
BEGUN_HERE, BACK_HERE, LAST = 2, 20, 22


def optimizer(kind, schedule, **fields):
    """An override: an optimizer's proto with a schedule in text proto."""
    rest = " ".join(f"{name}: {value}" for name, value in {"use_moving_average": "false", **fields}.items())
    return f"train_config.optimizer={{{kind} {{learning_rate {{{schedule}}}}} {rest}}}"


def constant(rate):
    return f"constant_learning_rate {{learning_rate: {rate}}}"


def cosine(rate):
    return (
        f"cosine_decay_learning_rate {{learning_rate_base: {rate} total_steps: 20 warmup_learning_rate: {rate / 10}"
        " warmup_steps: 5 hold_base_rate_steps: 3}"
    )


def exponential(rate):
    return (
        f"exponential_decay_learning_rate {{initial_learning_rate: {rate} decay_steps: 4 decay_factor: 0.8"
        f" staircase: false burnin_learning_rate: {rate / 10} burnin_steps: 3 min_learning_rate: {rate / 3}}}"
    )


def steps(rate):
    return (
        f"manual_step_learning_rate {{initial_learning_rate: {rate / 5} schedule {{step: 5 learning_rate: {rate}}}"
        f" schedule {{step: 12 learning_rate: {rate / 10}}} warmup: true}}"
    )


ALL_ANCHORS_AND_PROPOSALS = [  # none is sampled
    "model.faster_rcnn.first_stage_minibatch_size=100000",
    "model.faster_rcnn.first_stage_positive_balance_fraction=1.0",
    "model.faster_rcnn.first_stage_max_proposals=32",
    "model.faster_rcnn.second_stage_batch_size=32",
    "model.faster_rcnn.second_stage_balance_fraction=1.0",
]


def resized(architecture, size):
    resizer = f"model.{architecture}.image_resizer.keep_aspect_ratio_resizer"
    return [
        f"{resizer}.min_dimension={size}",
        f"{resizer}.max_dimension={size}",
        f"{resizer}.pad_to_max_dimension=true",
    ]


@dataclasses.dataclass
class Case:
    """A config in the repository and overrides."""

    config: str
    overrides: list[str]
    data: str = "four_shapes"
    frozen: Callable[[str], bool] | None = None  # names of variables that are not to be trained


SSD = "pipeline_configs/ssd_mobilenet_v2_96x96.config"
CASES = {
    "SSD MobileNet v2": Case(
        SSD,
        [
            optimizer("momentum_optimizer", cosine(1e-3), use_moving_average="true", moving_average_decay=0.9),
            "train_config.gradient_clipping_by_norm=1.0",
        ],
    ),
    "Faster R-CNN ResNet 50": Case(
        "pipeline_configs/faster_rcnn_resnet50_128x128.config",
        [
            *ALL_ANCHORS_AND_PROPOSALS,
            # One of its regularizers has a weight; Mask R-CNN below leaves all at 0.
            "model.faster_rcnn.first_stage_box_predictor_conv_hyperparams.regularizer.l2_regularizer.weight=0.001",
            optimizer("momentum_optimizer", steps(1e-3)),
        ],
    ),
}
SLOW_CASES = {
    "SSD MobileNet v2, freeze_variables": Case(
        SSD,
        [
            optimizer("adam_optimizer", exponential(1e-3)),
            "train_config.freeze_variables=['Conv1', '.*BoxPredictor']",
        ],
        frozen=lambda name: bool(re.match("Conv1|.*BoxPredictor", name)),
    ),
    "SSD MobileNet v2, update_trainable_variables": Case(
        SSD,
        [
            optimizer("rms_prop_optimizer", constant(2e-4)),
            "train_config.update_trainable_variables=.*BoxPredictor",
            "train_config.add_regularization_loss=false",
        ],
        frozen=lambda name: "BoxPredictor" not in name,
    ),
    "RetinaNet ResNet 50 FPN": Case(
        "tests/data/zoo_configs/ssd_resnet50_v1_fpn_640x640_coco17_tpu-8.config",
        [
            "model.ssd.image_resizer.fixed_shape_resizer={height: 192 width: 192}",
            optimizer("rms_prop_optimizer", exponential(1e-3)),
        ],
    ),
    "EfficientDet D0": Case(
        "tests/data/zoo_configs/ssd_efficientdet_d0_512x512_coco17_tpu-8.config",
        [*resized("ssd", 256), optimizer("adam_optimizer", cosine(1e-3))],
    ),
    "Mask R-CNN ResNet 50": Case(
        "pipeline_configs/mask_rcnn_resnet50_128x128.config",
        [*ALL_ANCHORS_AND_PROPOSALS, optimizer("adam_optimizer", constant(2e-4))],
    ),
    "CenterNet ResNet 18 FPN": Case(
        "pipeline_configs/centernet_resnet18_fpn_128x128.config",
        [optimizer("adam_optimizer", cosine(1e-3), use_moving_average="true")],
    ),
    "CenterNet ResNet 50 FPN with keypoints": Case(
        "tests/data/zoo_configs/centernet_resnet50_v1_fpn_512x512_kpts_coco17_tpu-8.config",
        [*resized("center_net", 128), optimizer("adam_optimizer", steps(1e-3))],
        data="people",
    ),
    "DeepMAC": Case(
        "tests/data/zoo_configs/center_net_deepmac_512x512_voc_only_tpu-32.config",
        [
            *resized("center_net", 128),
            "model.center_net.deepmac_mask_estimation.allowed_masked_classes_ids=[1, 2, 3, 4]",
            "model.center_net.feature_extractor.type=hourglass_10",
            "model.center_net.deepmac_mask_estimation.network_type=hourglass10",
            "train_config.max_number_of_boxes=5",  # it has an hourglass for each, padding included
            optimizer("adam_optimizer", constant(2e-4)),
        ],
    ),
    "Context R-CNN ResNet 101": Case(
        "tests/data/odapi_files/test_data/context_rcnn_camera_trap.config",
        [
            *resized("faster_rcnn", 128),
            *ALL_ANCHORS_AND_PROPOSALS,
            "model.faster_rcnn.feature_extractor.type=faster_rcnn_resnet101_keras",
            "train_input_reader.frame_index=0",  # and not a random one of the sequence
            optimizer("momentum_optimizer", steps(1e-3)),
        ],
        data="sequences",
    ),
}


@pytest.fixture(scope="session")
def four_shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "four_shapes"
    write_shapes(folder, num_train=4, num_validation=1, image_size=96)
    return folder / "train-*", folder / "label_map.pbtxt"


@pytest.fixture
def data(request, name):
    """The records and the label map of a case."""
    kind = {**CASES, **SLOW_CASES}[name].data
    if kind == "sequences":
        files = request.getfixturevalue("shared_data") / "odapi_files"
        records = files / "test_data" / "snapshot_serengeti_sequence_examples.record"
        return records, files / "data" / "snapshot_serengeti_label_map.pbtxt"
    if kind == "people":
        folder = request.getfixturevalue("people")
        return folder / "people.record", folder / "label_map.pbtxt"
    return request.getfixturevalue("four_shapes")


@pytest.fixture
def config(name, data, reading, tmp_path):
    """The pipeline.config of a case, written to a file."""
    case = {**CASES, **SLOW_CASES}[name]
    keypoints = [f"model.center_net.keypoint_label_map_path={data[1]}"] if case.data == "people" else []
    Pipeline.load(
        REPOSITORY / case.config,
        [
            *reading(*data),
            "train_input_reader.shuffle=false",
            "train_input_reader.num_readers=1",
            "train_config.data_augmentation_options=[]",
            "train_config.batch_size=2",
            "train_config.fine_tune_checkpoint=",
            "train_config.use_bfloat16=false",
            *keypoints,
            *case.overrides,
        ],
    ).save(tmp_path)
    return tmp_path / "pipeline.config"


@pytest.fixture(autouse=True)
def without_drop_connect(monkeypatch):
    """EfficientNet leaves out whole blocks at random."""
    from object_detection.models import ssd_efficientnet_bifpn_feature_extractor as extractor

    original = extractor.efficientnet_model.EfficientNet.from_name
    monkeypatch.setattr(
        extractor.efficientnet_model.EfficientNet,
        "from_name",
        lambda *args, overrides=None, **kwargs: original(
            *args, overrides={**(overrides or {}), "drop_connect_rate": 0.0}, **kwargs
        ),
    )


def train_with_the_object_detection_api(config, model_dir, last_step, frozen):
    """Its own loop as it is; where variables are frozen, of which it knows nothing, the model it builds says so."""
    from object_detection import model_lib_v2

    build = model_lib_v2.MODEL_BUILD_UTIL_MAP["detection_model_fn_base"]

    def build_frozen(**kwargs):
        model = build(**kwargs)
        of_model = type(model)
        trainable = property(
            lambda model: [
                variable for variable in of_model.trainable_variables.fget(model) if not frozen(variable.name)
            ]
        )
        model.__class__ = type(of_model.__name__, (of_model,), {"trainable_variables": trainable})
        return model

    with pytest.MonkeyPatch.context() as patch:
        if frozen:
            patch.setitem(model_lib_v2.MODEL_BUILD_UTIL_MAP, "detection_model_fn_base", build_frozen)
        model_lib_v2.train_loop(
            str(config),
            str(model_dir),
            train_steps=last_step,
            num_steps_per_iteration=1,  # and so every step is logged
            checkpoint_every_n=2,
            checkpoint_max_to_keep=2,
            record_summaries=False,
        )
    tf.keras.backend.set_learning_phase(0)


def train_here(config, model_dir):
    train(
        str(config),
        str(model_dir),
        num_train_steps=LAST,
        checkpoint_every_n=2,
        checkpoint_max_to_keep=100,
        log_every_n=1,
        eval_every_n=0,
        record_summaries=False,
    )


def with_checkpoint_of(model_dir, step, new_model_dir):
    """A new model_dir that holds nothing but the checkpoint of a step."""
    (checkpoint,) = (
        path.with_suffix("")
        for path in model_dir.glob("ckpt-*.index")
        if tf.train.load_checkpoint(str(path.with_suffix(""))).get_tensor("step/.ATTRIBUTES/VARIABLE_VALUE") == step
    )
    new_model_dir.mkdir()
    for file in model_dir.glob(f"{checkpoint.name}.*"):
        shutil.copy(file, new_model_dir / file.name)
    (new_model_dir / "checkpoint").write_text(f'model_checkpoint_path: "{checkpoint.name}"\n')
    return new_model_dir


def curves(model_dir, first_step):
    """(tag, step) -> value of the losses and the learning rate in training, from a step on."""
    history = load_history(model_dir)
    history = history[(history.run == "train") & (history.step >= first_step)]
    history = history[history.tag.str.startswith("Loss/") | (history.tag == "learning_rate")]
    return {(row.tag, row.step): row.value for row in history.itertuples()}


def largest_difference(ours, theirs, first_step):
    """Of any loss and learning rate that the Object Detection API logs, relative, from a step on."""
    found, expected = curves(ours, first_step), curves(theirs, first_step)
    assert {step for _, step in expected} == set(range(first_step, LAST + 1))
    assert ("Loss/total_loss", LAST) in expected
    assert all(math.isfinite(value) for value in expected.values())
    return max(abs(found[key] - value) / max(abs(value), 1e-6) for key, value in expected.items())


def variables(model_dir):
    """Key -> value of the newest checkpoint, but for its counter of saves."""
    reader = tf.train.load_checkpoint(str(model_dir))
    keys = [key for key in reader.get_variable_to_shape_map() if key.endswith("VARIABLE_VALUE")]
    return {key: reader.get_tensor(key) for key in keys if not key.startswith("save_counter")}


@pytest.mark.parametrize("name", [*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_CASES)])
def test_losses_are_those_of_the_object_detection_apis_own_loop_and_runs_go_over_both_ways(name, config, tmp_path):
    frozen = {**CASES, **SLOW_CASES}[name].frozen
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    train_here(config, ours)
    with_checkpoint_of(ours, BEGUN_HERE, theirs)
    train_with_the_object_detection_api(config, theirs, LAST, frozen)
    back = with_checkpoint_of(theirs, BACK_HERE, tmp_path / "back")
    train_here(config, back)

    there = largest_difference(ours, theirs, BEGUN_HERE + 1)
    back_here = largest_difference(back, theirs, BACK_HERE + 1)
    print(f"\n{name}: {LAST - BEGUN_HERE} steps there {there:.1e}, then {LAST - BACK_HERE} steps here {back_here:.1e}")
    assert there < 1e-5
    assert back_here < 1e-5
    # Whatever is in a checkpoint: weights, slots of the optimizer, moving averages, steps.
    expected = variables(theirs)
    for model_dir in (ours, back):
        found = variables(model_dir)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-3, atol=1e-5, err_msg=key)
    if frozen:
        begun = with_checkpoint_of(ours, BEGUN_HERE, tmp_path / "begun")
        assert_only_others_moved(frozen, Pipeline.load(config), begun, ours)


def assert_only_others_moved(frozen, pipeline, before, after):
    """Variables that are frozen are the same in both checkpoints, to the bit."""
    detector = Detector(pipeline)
    values = []
    for model_dir in (before, after):
        tf.train.Checkpoint(model=detector.model).restore(tf.train.latest_checkpoint(model_dir)).expect_partial()
        values.append([variable.numpy() for variable in detector.model.trainable_variables])
    moved = [
        variable.name
        for variable, *pair in zip(detector.model.trainable_variables, *values, strict=True)
        if not np.array_equal(*pair)
    ]
    assert moved
    assert not [name for name in moved if frozen(name)]
