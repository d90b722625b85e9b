"""The Object Detection API on current TensorFlow: what each mend cures, and that nobody else sees it.

A mend is shown twice: with it the Object Detection API works, without it the symptom is there that its docstring names.
Both need a process in which the module in question was never imported. Importing TensorFlow takes seconds, therefore
one process imports it and forks for every snippet (`run_forks`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

FORKS = """
import json, os, sys, traceback
setup, snippets = json.load(sys.stdin)
exec(setup)
for name, snippet in snippets.items():
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        try:
            exec(snippet, globals())
            outcome = "works"
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"
        os.write(write_end, outcome.encode()[:60_000])
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        print("OUTCOME " + json.dumps([name, pipe.read()]), flush=True)
    os.wait()
"""


def run_python(*args: str, stdin: str = "", pythonpath: str = "", **environment: str) -> subprocess.CompletedProcess:
    env = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    env |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", **environment}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), pythonpath, os.environ.get("PYTHONPATH")]))
    return subprocess.run([sys.executable, *args], input=stdin, env=env, capture_output=True, text=True, timeout=300)


def run_forks(setup: str, snippets: dict[str, str], **kwargs: str) -> dict[str, str]:
    """Runs `setup` in a fresh Python, and each of the snippets in a fork of it.

    Returns:
      For each snippet "works", or the exception it raised.
    """
    task = json.dumps([setup, {name: textwrap.dedent(snippet) for name, snippet in snippets.items()}])
    done = run_python("-c", FORKS, stdin=task, **kwargs)
    lines = [line.removeprefix("OUTCOME ") for line in done.stdout.splitlines() if line.startswith("OUTCOME ")]
    outcomes = dict(json.loads(line) for line in lines)
    assert outcomes.keys() == snippets.keys(), done.stderr[-3000:]
    return outcomes


# ---- Every mend ------------------------------------------------------------------------------------------------------

DRAW_A_CURVE = """
    import numpy, tensorflow as tf
    from object_detection.utils import visualization_utils
    with tf.Graph().as_default():
        visualization_utils.add_cdf_image_summary(tf.constant([1.0, 2.0, 4.0]), "losses")
        with tf.compat.v1.Session() as session:
            text = session.run(tf.compat.v1.summary.merge_all())
    image = tf.compat.v1.Summary.FromString(text).value[0].image
    pixels = tf.image.decode_png(image.encoded_image_string).numpy()
    assert pixels.shape == (480, 640, 3) and pixels.std() > 1 and pixels.max() == 255, pixels.shape
"""

# What is mended -> (the mend, what a user does, the symptom without the mend).
MENDS = {
    "numpy.float": (
        'IMPORT_MENDS["numpy"]',
        """
        import numpy
        from object_detection.utils import metrics
        precision, recall = metrics.compute_precision_recall(numpy.array([0.9]), numpy.array([1.0]), 1)
        assert metrics.compute_average_precision(precision, recall) == 1.0
        """,
        "AttributeError: module 'numpy' has no attribute 'float'",
    ),
    "numpy.NAN": (
        'IMPORT_MENDS["numpy"]',
        """
        import math
        from object_detection.utils import metrics
        assert math.isnan(metrics.compute_average_precision(None, None))
        """,
        "AttributeError: module 'numpy' has no attribute 'NAN'",
    ),
    "numpy.fromstring": ('IMPORT_MENDS["numpy"]', DRAW_A_CURVE, "The binary mode of fromstring is removed"),
    "matplotlib": ('IMPORT_MENDS["matplotlib"]', DRAW_A_CURVE, "'FigureCanvasAgg' object has no attribute 'tostring"),
    "importlib": (
        'IMPORT_MENDS["importlib"]',
        """
        import sys
        for name in [name for name in sys.modules if name.startswith("sklearn")]:  # Keras 3 has imported it
            del sys.modules[name]
        import tf_slim
        assert "sklearn" not in sys.modules, "scikit-learn was imported"
        from tf_slim.losses import metric_learning
        assert metric_learning.metrics.adjusted_rand_score([0, 0, 1, 1], [1, 1, 0, 0]) == 1.0
        """,
        "AssertionError: scikit-learn was imported",
    ),
    "keras": (
        'IMPORT_MENDS["keras.applications"]',
        """
        import tensorflow as tf
        from object_detection.models.keras_models import resnet_v1
        model = resnet_v1.resnet_v1_18(weights=None, include_top=False)
        assert isinstance(model, tf.keras.Model) and type(model).__module__.startswith("tf_keras.")
        """,
        "applications.resnet' has no attribute 'ResNet'",
    ),
    "estimator": (
        'IMPORT_MENDS["tensorflow.compat.v1"]',
        """
        from object_detection import inputs, model_lib
        assert inputs.tf_estimator.ModeKeys.TRAIN == "train"
        """,
        "ImportError: cannot import name 'estimator' from 'tensorflow.compat.v1'",
    ),
    "control_flow_ops": (
        'IMPORT_MENDS["tensorflow.python.ops"]',
        """
        import tensorflow as tf
        from object_detection.data_decoders import tf_example_decoder
        image = tf.io.encode_png(tf.fill([4, 5, 3], tf.constant(7, tf.uint8))).numpy()
        example = tf.train.Example()
        example.features.feature["image/encoded"].bytes_list.value.append(image)
        example.features.feature["image/format"].bytes_list.value.append(b"png")
        decoded = tf_example_decoder.TfExampleDecoder().decode(tf.constant(example.SerializeToString()))
        assert decoded["image"].shape == (4, 5, 3) and (decoded["image"].numpy() == 7).all()
        """,
        "control_flow_ops' has no attribute 'case'",
    ),
    "array_ops": (
        'IMPORT_MENDS["tensorflow.python.ops"]',
        """
        import tensorflow as tf
        from tf_slim.data import tfexample_decoder
        tensor = tfexample_decoder.Tensor("values", shape_keys=["height", "width"])
        keys = {"values": tf.range(6), "height": tf.constant(2), "width": tf.constant(3)}
        assert tensor.tensors_to_item(keys).shape == (2, 3)
        """,
        "array_ops' has no attribute 'stack'",
    ),
    "tensorflow_io": (
        'IMPORT_MENDS["tensorflow_io"]',
        """
        import numpy
        sys.modules["tensorflow_io"] = None  # missing; where it is there, its libraries may load or not
        from object_detection.meta_architectures import deepmac_meta_arch
        red = numpy.float32([1, 0, 0])
        lab = deepmac_meta_arch.tfio.experimental.color.rgb_to_lab(red)
        numpy.testing.assert_allclose(lab, [53.24, 80.09, 67.20], atol=0.01)
        """,
        "ModuleNotFoundError: import of tensorflow_io halted",
    ),
    "Pillow": (
        'IMPORT_MENDS["PIL"]',
        """
        import numpy
        from object_detection.utils import visualization_utils
        image = numpy.zeros([100, 200, 3], numpy.uint8)
        visualization_utils.draw_bounding_box_on_image_array(
            image, 0.5, 0.1, 0.9, 0.9, color="red", display_str_list=["raccoon: 90%"])
        above_the_box = image[30:48, 21:100]
        assert (above_the_box == [255, 0, 0]).all(axis=-1).any(), "no red behind the name"
        assert (above_the_box == 0).all(axis=-1).any(), "no black letters"
        """,
        "AttributeError: 'FreeTypeFont' object has no attribute 'getsize'",
    ),
    "booleans for integers": (
        'MODULE_MENDS["object_detection.utils.dataset_util"]',
        """
        import numpy
        from object_detection.utils import dataset_util
        feature = dataset_util.int64_list_feature([False, numpy.bool_(True), 3, numpy.int64(4)])
        assert list(feature.int64_list.value) == [0, 1, 3, 4]
        assert list(dataset_util.int64_feature(True).int64_list.value) == [1]
        for not_an_integer in (1.5, "1"):
            try:
                dataset_util.int64_feature(not_an_integer)
            except TypeError:
                continue
            raise AssertionError(f"{not_an_integer!r} passed")
        """,
        "xpected an int, got a boolean",
    ),
    "an array compared with a list": (
        'MODULE_MENDS["object_detection.dataset_tools.seq_example_util"]',
        """
        import numpy
        from object_detection.dataset_tools import seq_example_util
        example = seq_example_util.make_sequence_example(
            "set", "video", [b"1", b"2"], 10, 20, "jpeg",
            bboxes=[numpy.float32([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]]), []])
        frames = example.feature_lists.feature_list["region/bbox/xmin"].feature
        numpy.testing.assert_allclose(frames[0].float_list.value, [0.2, 0.6])
        assert len(frames) == 2 and not frames[1].float_list.value
        """,
        "ValueError: operands could not be broadcast together with shapes (2,4) (0,)",
    ),
    "int of an array": (
        'MODULE_MENDS["object_detection.dataset_tools.context_rcnn.generate_embedding_data"]',
        """
        import collections, sys, types, unittest.mock
        import numpy, tensorflow as tf
        sys.modules.setdefault("apache_beam", types.SimpleNamespace(DoFn=object, metrics=unittest.mock.MagicMock()))
        from object_detection.dataset_tools.context_rcnn import generate_embedding_data
        embed = generate_embedding_data.GenerateEmbeddingDataFn("exported", 1, 0)
        detections = {
            "detection_features": tf.ones([1, 2, 7, 7, 10]), "detection_boxes": tf.ones([1, 2, 4]),
            "detection_scores": tf.ones([1, 2]), "num_detections": tf.constant([2.0])}
        embed._detect_fn = types.SimpleNamespace(signatures={"serving_default": lambda images: detections})
        [(key, example)] = embed.process(("key", tf.train.Example().SerializeToString()))
        assert list(example.features.feature["image/embedding_count"].int64_list.value) == [1]
        """,
        "TypeError: only 0-dimensional arrays can be converted to Python scalars",
    ),
    "a label map with a byte order mark": (
        'MODULE_MENDS["object_detection.utils.label_map_util"]',
        """
        import os, tempfile
        from object_detection.utils import label_map_util
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "label_map.pbtxt")
            with open(path, "w", encoding="utf-8-sig") as file:
                file.write("item { id: 1 name: 'cat' }")
            assert label_map_util.get_label_map_dict(path) == {"cat": 1}
        """,
        "TypeError: expected bytes, str found",
    ),
    "a seed in functions of the input": (
        'MODULE_MENDS["object_detection.builders.dataset_builder"]',
        """
        import os, tempfile, tensorflow as tf
        from object_detection.builders import dataset_builder
        from object_detection.protos import input_reader_pb2
        pixels = tf.io.encode_jpeg(tf.zeros([8, 8, 3], tf.uint8)).numpy()
        image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[pixels]))
        example = tf.train.Example(features=tf.train.Features(feature={"image/encoded": image}))
        with tempfile.TemporaryDirectory() as folder:
            reader = input_reader_pb2.InputReader(shuffle=False)
            reader.tf_record_input_reader.input_path.append(os.path.join(folder, "record"))
            with tf.io.TFRecordWriter(reader.tf_record_input_reader.input_path[0]) as writer:
                writer.write(example.SerializeToString())
            tf.config.experimental.enable_op_determinism()
            numbers = []
            for seed in (1, 1, 2):
                tf.random.set_seed(seed)
                dataset = dataset_builder.build(reader, transform_input_data_fn=lambda _: tf.random.uniform([]))
                numbers.append(float(next(iter(dataset))))
        assert numbers[0] == numbers[1] != numbers[2], numbers
        """,
        "Random ops require a seed to be set when determinism is enabled",
    ),
    "a seed for random crops": (
        'MODULE_MENDS["object_detection.core.preprocessor"]',
        """
        import tensorflow as tf
        from object_detection.core import preprocessor
        tf.config.experimental.enable_op_determinism()
        crops = []
        for seed in (1, 1, 2):
            tf.random.set_seed(seed)
            image, boxes, labels = tf.random.uniform([32, 32, 3]), tf.constant([[0.2, 0.2, 0.8, 0.8]]), tf.constant([1])
            crops.append(preprocessor.random_crop_image(image, boxes, labels, tf.constant([1.0]))[1].numpy().tolist())
        assert crops[0] == crops[1] != crops[2], crops
        """,
        'requires "seed" or "seed2" to be non-zero when determinism is enabled',
    ),
    "a seed for DeepMAC": (
        'MODULE_MENDS["object_detection.meta_architectures.deepmac_meta_arch"]',
        """
        import tensorflow as tf
        from object_detection.meta_architectures import deepmac_meta_arch
        make = deepmac_meta_arch.tf.random.Generator.from_non_deterministic_state  # what its model does
        assert float(make().uniform([])) != float(make().uniform([]))
        tf.config.experimental.enable_op_determinism()
        tf.random.set_seed(1)
        assert float(make().uniform([])) == float(make().uniform([]))
        """,
        '"from_non_deterministic_state" cannot be called when determinism is enabled',
    ),
    "a box at the edge": (
        'MODULE_MENDS["object_detection.meta_architectures.deepmac_meta_arch"]',
        """
        import tensorflow as tf
        from object_detection.meta_architectures.deepmac_meta_arch import DeepMACMetaArch
        embedding = tf.reshape(tf.range(16.0), [1, 4, 4, 1])
        boxes = tf.constant([[[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]])
        found = DeepMACMetaArch._get_instance_embeddings(None, boxes, embedding)
        assert found[0, :, 0].numpy().tolist() == [10.0, 14.0, 15.0]
        """,
        "does not index into param shape",
    ),
}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    snippets = {}
    for name, (mend, use, _) in MENDS.items():
        snippets[f"with {name}"] = textwrap.dedent(use)
        snippets[f"without {name}"] = f"del compat.{mend}\n" + textwrap.dedent(use)
    if importlib.util.find_spec("sklearn") is None:  # `od-eval install_odapi` does not bring it
        del snippets["with importlib"], snippets["without importlib"]
    return run_forks(
        "import tensorflow, od_eval.odapi; from od_eval.odapi import compat; tensorflow.keras.layers", snippets
    )


@pytest.fixture(params=MENDS)
def name(request, outcomes) -> str:
    if f"with {request.param}" not in outcomes:
        pytest.skip("scikit-learn is not installed")
    return request.param


def test_the_object_detection_api_works_with_the_mend(outcomes, name):
    assert outcomes[f"with {name}"] == "works"


def test_without_the_mend_the_symptom_is_there(outcomes, name):
    assert MENDS[name][2] in outcomes[f"without {name}"]


def test_every_mend_is_shown_above():
    from od_eval.odapi import compat

    shown = {mend for mend, _, _ in MENDS.values()}
    assert shown == {f'IMPORT_MENDS["{name}"]' for name in compat.IMPORT_MENDS} | {
        f'MODULE_MENDS["{name}"]' for name in compat.MODULE_MENDS
    }


# ---- Nobody else sees it ---------------------------------------------------------------------------------------------

EVERYTHING = """
import builtins, sys
their_import = builtins.__import__
from google.protobuf import descriptor, descriptor_pool, message, reflection, text_format
protobuf_classes = [descriptor.FileDescriptor, descriptor.Descriptor, descriptor_pool.DescriptorPool, message.Message]
their_protobuf = [dict(vars(one)) for one in protobuf_classes]
import od_eval.odapi, tensorflow as tf, numpy, PIL.ImageFont, matplotlib.pyplot
import object_detection.builders.model_builder, object_detection.inputs, object_detection.model_lib_v2
import object_detection.meta_architectures.deepmac_meta_arch, object_detection.utils.visualization_utils
import object_detection.utils.label_map_util, object_detection.utils.shape_utils, tf_slim
"""

UNTOUCHED = {
    "NumPy": """
        for name in ("float", "int", "object", "NAN"):
            assert not hasattr(numpy, name), name
        try:
            numpy.fromstring(b"1", "uint8")
        except ValueError:
            pass
        """,
    "Pillow": """
        font = PIL.ImageFont.load_default()
        assert not hasattr(font, "getsize") and not hasattr(PIL.ImageFont.FreeTypeFont, "getsize")
        """,
    "Matplotlib": "assert not hasattr(matplotlib.pyplot.figure().canvas, 'tostring_rgb')",
    "TensorFlow": """
        from tensorflow.python.ops import array_ops, control_flow_ops
        import tensorflow.compat.v1
        assert not hasattr(tensorflow.compat.v1, "estimator") and not hasattr(tf.compat.v1, "estimator")
        assert not hasattr(control_flow_ops, "case") and not hasattr(array_ops, "stack")
        """,
    "protobuf": """
        assert their_protobuf == [dict(vars(one)) for one in protobuf_classes]
        """,
    "the import statement": "assert builtins.__import__ is their_import",
    "sys.modules": """
        assert "tensorflow_io" not in sys.modules
        assert not sys.modules.get("keras", tf).__name__.startswith("tf_keras")
        assert not [name for name, module in sys.modules.items() if type(module).__module__.startswith("od_eval.")]
        """,
    "modules of others": "import pandas; assert pandas.core.frame.np is numpy",
}

AS_EVER = {
    "AutoGraph converts the functions": """
        from object_detection.utils import shape_utils
        converted = tf.autograph.to_graph(shape_utils.pad_or_clip_nd)
        assert converted(tf.ones([2, 3]), [4, 2]).shape == (4, 2)
        assert "ag__." in tf.autograph.to_code(shape_utils.pad_or_clip_nd)
        """,
    "their source is found": """
        import inspect
        from object_detection.utils import shape_utils
        assert inspect.getsource(shape_utils.pad_tensor).startswith("def pad_tensor")
        assert inspect.getsourcefile(shape_utils).endswith("shape_utils.py")
        """,
    "a module can be reloaded": """
        import importlib
        from object_detection.protos import string_int_label_map_pb2
        from object_detection.utils import label_map_util, metrics
        importlib.reload(metrics)
        assert metrics.compute_average_precision(None, None) != 0
        importlib.reload(string_int_label_map_pb2)
        assert importlib.reload(label_map_util).create_class_agnostic_category_index()
        """,
    "messages and functions can be pickled": """
        import pickle
        from object_detection.protos import pipeline_pb2
        from object_detection.utils import shape_utils
        config = pipeline_pb2.TrainEvalPipelineConfig()
        config.train_config.batch_size = 3
        assert pickle.loads(pickle.dumps(config)) == config
        assert pickle.loads(pickle.dumps(shape_utils.pad_tensor)) is shape_utils.pad_tensor
        """,
    "submodules of mended modules are imported": """
        import types
        from od_eval.odapi import compat
        theirs = types.ModuleType("theirs")
        vars(theirs)["__builtins__"] = compat._BUILTINS
        exec("import numpy.testing as npt, PIL.ImageColor as color", vars(theirs))
        exec("from numpy import linalg; from PIL import ImageOps", vars(theirs))
        assert theirs.npt is numpy.testing and theirs.linalg is numpy.linalg
        assert theirs.color is PIL.ImageColor and theirs.ImageOps is PIL.ImageOps
        """,
    "the data beside a module is found": """
        import importlib.resources, pkgutil
        assert (importlib.resources.files("object_detection") / "__init__.py").is_file()
        assert b"pad_tensor" in pkgutil.get_data("object_detection.utils", "shape_utils.py")
        """,
    "another process can be spawned": """
        import multiprocessing, od_eval.odapi.compat
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(od_eval.odapi.compat._is_mended, ["object_detection.utils"])
        """,
}


@pytest.fixture(scope="module")
def outcomes_after_everything() -> dict[str, str]:
    return run_forks(EVERYTHING, UNTOUCHED | AS_EVER)


@pytest.mark.parametrize("name", UNTOUCHED)
def test_the_mends_do_not_reach(outcomes_after_everything, name):
    assert outcomes_after_everything[name] == "works"


@pytest.mark.parametrize("name", AS_EVER)
def test_mended_modules_are_modules_as_ever(outcomes_after_everything, name):
    assert outcomes_after_everything[name] == "works"


# ---- Keras -----------------------------------------------------------------------------------------------------------

WORKS = """
    import od_eval.odapi
    from tensorflow.keras import layers
    assert layers.Dense is tf.keras.layers.Dense is tf.compat.v1.keras.layers.Dense, layers.Dense
    assert layers.Dense.__module__.startswith("tf_keras."), layers.Dense
    from tensorflow.compat.v1.keras import layers
    assert layers.Dense is tf.keras.layers.Dense, layers.Dense
"""

TOO_LATE = {
    "tf.keras": "tf.keras.layers",
    "from tensorflow.keras import": "from tensorflow.keras import layers",
    "tensorflow.compat.v1": "import tensorflow.compat.v1\ntensorflow.compat.v1.keras.layers",
    "tensorflow.compat.v2": "import tensorflow.compat.v2\ntensorflow.compat.v2.keras.layers",
}


@pytest.fixture(scope="module")
def outcomes_with_tensorflow_first() -> dict[str, str]:
    snippets = {name: f"{use}\nimport od_eval; od_eval.Pipeline" for name, use in TOO_LATE.items()}
    snippets["keras untouched"] = WORKS
    snippets["without the mend"] = "assert tf.keras.layers.Dense.__module__.startswith('tf_keras.')"
    snippets["environment"] = """
        from od_eval import ODEvalError
        tf.keras.layers
        for before in (None, "0"):
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
            if before is not None:
                os.environ["TF_USE_LEGACY_KERAS"] = before
            try:
                import od_eval.odapi
            except ODEvalError:
                pass
            assert os.environ.get("TF_USE_LEGACY_KERAS") == before
        assert "od_eval.odapi" not in sys.modules
        """
    return run_forks("import tensorflow as tf", snippets)


@pytest.mark.parametrize("name", TOO_LATE)
def test_keras_3_in_use_already_is_an_error_that_says_what_to_set(outcomes_with_tensorflow_first, name):
    outcome = outcomes_with_tensorflow_first[name]
    assert outcome.startswith("ODEvalError: ")
    assert "Keras 3" in outcome
    assert "TF_USE_LEGACY_KERAS=1" in outcome
    assert "`import od_eval.odapi`" in outcome


def test_tensorflow_imported_earlier_does_not_matter_while_keras_is_untouched(outcomes_with_tensorflow_first):
    assert outcomes_with_tensorflow_first["keras untouched"] == "works"


def test_without_legacy_keras_tf_keras_is_keras_3(outcomes_with_tensorflow_first):
    assert outcomes_with_tensorflow_first["without the mend"].startswith("AssertionError")


def test_an_error_leaves_the_environment_as_it_was(outcomes_with_tensorflow_first):
    assert outcomes_with_tensorflow_first["environment"] == "works"


def test_legacy_keras_chosen_by_the_user_is_fine():
    snippets = {"in use": "tf.keras.layers\n" + textwrap.dedent(WORKS), "untouched": WORKS}
    outcomes = run_forks("import tensorflow as tf", snippets, TF_USE_LEGACY_KERAS="True")
    assert outcomes == {"in use": "works", "untouched": "works"}


# ---- Without TensorFlow ----------------------------------------------------------------------------------------------


def test_importing_od_eval_takes_under_half_a_second_and_imports_no_tensorflow():
    code = """
import sys, time
start = time.perf_counter()
import od_eval
print(time.perf_counter() - start)
assert not {"tensorflow", "tf_keras", "object_detection", "numpy"} & set(sys.modules)
"""
    runs = [run_python("-c", code) for _ in range(3)]
    assert [run.returncode for run in runs] == [0, 0, 0], runs[0].stderr
    assert min(float(run.stdout) for run in runs) < 0.5


def test_the_mends_are_installed_without_importing_tensorflow():
    run = run_python(
        "-c",
        "import os, sys, od_eval.odapi; print('tensorflow' in sys.modules, os.environ[sys.argv[1]])",
        "TF_USE_LEGACY_KERAS",
    )
    assert run.stdout == "False 1\n", run.stderr


def test_modules_imported_too_early_are_named():
    for module in ("object_detection.utils.category_util", "tf_slim.layers"):
        run = run_python("-c", f"import sys; sys.modules['{module}'] = sys; import od_eval.odapi")
        assert f"ODEvalError: {module} was imported before od_eval" in run.stderr
        assert "restart Python" in run.stderr


def test_the_empty_package_may_be_imported_earlier():
    code = "import object_detection, od_eval.odapi; from object_detection.protos import pipeline_pb2"
    run = run_python("-c", code)
    assert run.returncode == 0, run.stderr


def test_missing_tf_keras_is_named():
    run = run_python("-c", "import sys; sys.modules['tf_keras'] = None; import od_eval.odapi")
    assert "ODEvalError" in run.stderr
    assert "`pip install tf-keras`" in run.stderr


# ---- RGB to L*a*b* ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compat():
    from od_eval.odapi import compat

    return compat


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ([0, 0, 0], [0, 0, 0]),
        ([1, 1, 1], [100, 0, 0]),
        ([1, 0, 0], [53.24, 80.09, 67.20]),
        ([0, 1, 0], [87.73, -86.18, 83.18]),
        ([0, 0, 1], [32.30, 79.19, -107.86]),
        ([0.5, 0.5, 0.5], [53.39, 0, 0]),
    ],
)
def test_known_colours_have_their_known_lab_values(compat, rgb, lab):
    import numpy as np

    np.testing.assert_allclose(compat.rgb_to_lab(np.float64(rgb)), lab, atol=0.02)


def test_lab_agrees_with_an_independent_computation(compat):
    import numpy as np

    rgb = np.random.default_rng(0).uniform(0, 1, [2, 16, 16, 3])
    rgb[0, 0] *= 0.05  # the linear branches
    # Lindbloom's form of the same definitions: primaries and white from chromaticities, exact constants of CIE.
    x, y = np.array([0.64, 0.30, 0.15]), np.array([0.33, 0.60, 0.06])
    primaries = np.stack([x / y, np.ones(3), (1 - x - y) / y])
    white = np.array([0.95047, 1.0, 1.08883])
    matrix = primaries * np.linalg.solve(primaries, white)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = linear @ matrix.T / white
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    expected = np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)
    np.testing.assert_allclose(compat.rgb_to_lab(rgb), expected, atol=0.02)


@pytest.mark.parametrize("shape", [(3,), (5, 3), (4, 5, 3), (2, 4, 5, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lab_keeps_shape_and_type(compat, shape, dtype):
    import numpy as np

    lab = compat.rgb_to_lab(np.ones(shape, dtype))
    assert lab.shape == shape
    assert lab.dtype.name == dtype


def test_lab_has_a_finite_gradient_at_black_and_below(compat):
    import numpy as np
    import tensorflow as tf

    rgb = tf.constant([[0.0, 0.0, 0.0], [-0.2, 0.0, 0.0], [1.0, 0.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(rgb)
        lab = compat.rgb_to_lab(rgb)
    assert np.isfinite(lab).all()
    gradient = tape.gradient(lab, rgb).numpy()
    assert np.isfinite(gradient).all()
    assert (gradient != 0).any(axis=-1).all()
