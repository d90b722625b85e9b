"""What several tests share: the data folder and its excerpt, a small dataset, small configs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

REPOSITORY = Path(__file__).parents[1]

# Modules that take longest begin first, so that the two processes of scripts/test.sh end at about the same time.
LONGEST_FIRST = (
    "test_training_parity.py",
    "test_train.py",
    "test_export.py",
    "test_export_tflite.py",
    "test_examples.py",
    "test_run_odapi_tests.py",
    "test_replicas.py",
    "test_zoo.py",
    "test_garden_training.py",
    "test_wheel.py",
)


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker("data")
    rank = {name: index for index, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The data folder, for what `excerpt` has too little of; a test that needs it skips where it is absent."""
    folder = Path(os.environ.get("OD_EVAL_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set OD_EVAL_DATA to the folder of which tests/data/README.md tells")
    return folder


@pytest.fixture(scope="session")
def excerpt() -> Path:
    """What the repository itself holds of the data folder, laid out alike: tests/data/README.md."""
    return REPOSITORY / "tests" / "data"


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small dataset of drawn shapes: train-*, validation-* and label_map.pbtxt; 4 classes, masks."""
    from od_eval.data.shapes import write_shapes

    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(folder, num_train=16, num_validation=4, image_size=96)
    return folder


@pytest.fixture(scope="session")
def config_overrides(shapes: Path) -> list[str]:
    """Overrides that make a config of pipeline_configs/ read the small dataset, two images at a time."""
    return [
        "train_config.batch_size=2",
        f"train_input_reader.tf_record_input_reader.input_path={shapes}/train-?????-of-?????",
        f"train_input_reader.label_map_path={shapes}/label_map.pbtxt",
        f"eval_input_reader.tf_record_input_reader.input_path={shapes}/validation-?????-of-?????",
        f"eval_input_reader.label_map_path={shapes}/label_map.pbtxt",
        "eval_config.batch_size=1",
    ]


@pytest.fixture(scope="session")
def ssd_config() -> Path:
    """The config with the smallest model."""
    return REPOSITORY / "pipeline_configs" / "ssd_mobilenet_v2_96x96.config"


@pytest.fixture(scope="session")
def ssd_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model_dir of `ssd`."""
    return tmp_path_factory.mktemp("ssd")


@pytest.fixture(scope="session")
def ssd(ssd_config: Path, config_overrides: list[str], ssd_dir: Path) -> Any:
    """A detector with the weights of the best checkpoint in `ssd_dir`, which are moving averages."""
    from made_model_dir import make_model_dir

    return make_model_dir(ssd_config, config_overrides, ssd_dir)


@pytest.fixture(scope="session")
def ssd_exported(ssd: Any, ssd_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the export of `ssd` as a SavedModel; not to be changed."""
    from od_eval.odapi.export import export

    folder = tmp_path_factory.mktemp("ssd_exported") / "out"
    export(str(ssd_dir / "pipeline.config"), str(ssd_dir / "best"), str(folder))
    return folder


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """This process is connected to a Ray cluster of this machine, which ends with the tests.

    It has two processors, and is told that it has a GPU.
    """
    ray = pytest.importorskip("ray")
    ray.init(
        "local",  # also where another cluster runs
        num_cpus=2,
        num_gpus=1,
        include_dashboard=False,
        object_store_memory=200 * 10**6,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": str(REPOSITORY / "tests")}},  # of functions that tests have
    )
    yield
    ray.shutdown()


@pytest.fixture
def rounding_as_written() -> Iterator[None]:
    """Deterministic operations and graphs as they are written: two programs that compute the same round the same."""
    import tensorflow as tf
    from tensorflow.python.framework.config import disable_op_determinism

    tf.random.set_seed(1)
    tf.config.experimental.enable_op_determinism()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
    disable_op_determinism()
    tf.random.set_seed(None)


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A fake of Google Cloud Storage, to which its `environment` leads TensorFlow's own client: see fake_bucket.py."""
    from fake_bucket import FakeBucket

    with FakeBucket(tmp_path_factory.mktemp("bucket")) as fake:
        yield fake
