"""Makes the released Object Detection API run on current TensorFlow.

`install()` puts a finder in front of Python's own. It only handles the packages `object_detection`, `tf_slim` and
`lvis`, and changes how *their* modules see the world:

* an `import` statement in one of their modules may be answered with a stand-in (`IMPORT_MENDS`): NumPy with
  the names it has removed, `keras` meaning tf_keras, an `estimator` that has `ModeKeys`, …
* a `*_pb2` module is built from the descriptor it contains, whichever protoc generated the code around it;
* a function of theirs may be replaced once its module is loaded (`MODULE_MENDS`).

Nothing else is affected: the stand-ins never enter `sys.modules`, and NumPy, Pillow, Matplotlib, protobuf and
TensorFlow are not changed. The Object Detection API is not edited, so that a checkout of the model repository on
`PYTHONPATH` works like the package from PyPI.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import importlib.machinery
import importlib.util
import os
import pathlib
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from od_eval.errors import ODEvalError

MENDED_PACKAGES = ("object_detection", "tf_slim", "lvis")


def install() -> None:
    """Prepares the import of `object_detection`; call it before the first one. Calling it again does nothing.

    Raises:
      ODEvalError: the Object Detection API is not installed, modules of it were imported earlier, `tf.keras` is
        already Keras 3, or tf-keras is not installed.
    """
    missing = [name for name in ("object_detection", "official", "tf_slim") if importlib.util.find_spec(name) is None]
    if missing:
        raise ODEvalError(
            f"This needs the TensorFlow Object Detection API, which is not installed (no package {missing[0]}): run"
            " `od-eval install_odapi`, which keeps the TensorFlow that is installed."
        )
    if any(isinstance(finder, _MendingFinder) for finder in sys.meta_path):
        return
    # The bare package `object_detection` is empty and harmless. That of tf_slim loads its submodules.
    early = sorted(name for name in sys.modules if _is_mended(name) and name not in MENDED_PACKAGES)
    if early:
        raise ODEvalError(
            f"{early[0]} was imported before od_eval could make it run on this TensorFlow; restart Python and import"
            " od_eval.odapi before object_detection and tf_slim."
        )
    use_legacy_keras()
    sys.meta_path.insert(0, _MendingFinder())


def use_legacy_keras() -> None:
    """Fixes Keras 3 objects appearing where the Object Detection API expects Keras 2.

    Sets `TF_USE_LEGACY_KERAS`, which TensorFlow reads twice: when it is imported, to know where
    `from tensorflow.keras import …` leads, and when `tf.keras` is first used. If TensorFlow has already been imported,
    the first is corrected here. If Keras 3 has already been loaded, nothing can be done in this process.

    Raises:
      ODEvalError: `tf.keras` is already Keras 3, or tf-keras is not installed.
    """
    if importlib.util.find_spec("tf_keras") is None:
        raise ODEvalError(
            "The Object Detection API needs Keras 2, and the package that has it is not installed: `pip install"
            " tf-keras`, in the version of tensorflow."
        )
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    if "tensorflow" not in sys.modules:
        return
    for package_name, keras_api in (
        ("tensorflow", "_v2"),
        ("tensorflow.compat.v1", "_v1"),
        ("tensorflow.compat.v2", "_v2"),
    ):
        package = importlib.import_module(package_name)
        if not package.keras.layers.Layer.__module__.startswith("tf_keras."):
            os.environ.pop("TF_USE_LEGACY_KERAS")
            if before is not None:
                os.environ["TF_USE_LEGACY_KERAS"] = before
            raise ODEvalError(
                f"{package_name}.keras is Keras 3 in this process, and the Object Detection API needs Keras 2"
                " (tf_keras): restart Python, and before TensorFlow is imported set the environment variable"
                " TF_USE_LEGACY_KERAS=1 or `import od_eval.odapi`."
            )
        keras_path = os.path.join(os.path.dirname(sys.modules["tf_keras"].__file__ or ""), "api", keras_api)
        if keras_path not in package.__path__:
            package.__path__.insert(0, keras_path)


# ---- What an import statement of the Object Detection API returns ---------------------------------------------------


class _View(types.ModuleType):
    """A module as the Object Detection API should see it: the real module with some attributes replaced or added."""

    def __init__(self, module: types.ModuleType, **attributes: Any):
        super().__init__(module.__name__, module.__doc__)
        vars(self).update(attributes, _viewed_module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_viewed_module"), name)


def numpy_with_removed_names() -> types.ModuleType:
    """Fixes `module 'numpy' has no attribute 'float'` (and `int`, `bool`, `object`, `NAN`, `string_`).

    And `The binary mode of fromstring is removed`, which `frombuffer` replaces.
    """
    import numpy

    names = {"float": float, "int": int, "bool": bool, "object": object, "NAN": numpy.nan, "string_": numpy.bytes_}
    missing = {name: value for name, value in names.items() if name not in vars(numpy)}

    def fromstring(string: Any, dtype: Any = float, count: int = -1, *, sep: str = "", **kwargs: Any) -> Any:
        if sep:
            return numpy.fromstring(string, dtype, count, sep=sep, **kwargs)
        return numpy.frombuffer(string, dtype, count).copy()

    return _View(numpy, fromstring=fromstring, **missing)


def keras_applications_of_tf_keras() -> types.ModuleType:
    """Fixes `module 'keras.applications.resnet' has no attribute 'ResNet'`.

    `keras` was Keras 2 when that was written, and a public module contained everything in its source file.
    """
    return importlib.import_module("tf_keras.src.applications")


def compat_v1_with_estimator() -> types.ModuleType:
    """Fixes `cannot import name 'estimator' from 'tensorflow.compat.v1'`.

    TensorFlow no longer has estimators. The TF2 path of the Object Detection API only uses `ModeKeys`; anything else is
    only named in TF1 functions, which raise an error when they are called.
    """
    tf_v1 = importlib.import_module("tensorflow.compat.v1")

    class ModeKeys:
        TRAIN = "train"
        EVAL = "eval"
        PREDICT = "infer"

    return _View(tf_v1, estimator=types.SimpleNamespace(ModeKeys=ModeKeys))


def tensorflow_ops_with_moved_functions() -> types.ModuleType:
    """Fixes `control_flow_ops has no attribute 'case'` (`cond`, `while_loop`; `array_ops.stack`).

    TensorFlow moved them to separate modules; `tf_slim.data.tfexample_decoder` looks for them in the old place.
    """
    new_places = {
        "control_flow_ops": {
            "Assert": "control_flow_assert",
            "case": "control_flow_case",
            "cond": "cond",
            "while_loop": "while_loop",
        },
        "array_ops": {"stack": "array_ops_stack", "unstack": "array_ops_stack"},
    }
    ops = "tensorflow.python.ops"
    return _View(
        importlib.import_module(ops),
        **{
            old_place: _View(
                importlib.import_module(f"{ops}.{old_place}"),
                **{name: getattr(importlib.import_module(f"{ops}.{place}"), name) for name, place in moved.items()},
            )
            for old_place, moved in new_places.items()
        },
    )


def tensorflow_io_for_deepmac() -> types.ModuleType:
    """Fixes undefined symbols when `tensorflow_io` is loaded, and its absence.

    Its binaries are built for older versions of TensorFlow. Only DeepMAC uses it, for one function.
    """
    stand_in = types.ModuleType("tensorflow_io")
    stand_in.experimental = types.SimpleNamespace(color=types.SimpleNamespace(rgb_to_lab=rgb_to_lab))
    return stand_in


def rgb_to_lab(rgb: Any) -> Any:
    """Converts sRGB to CIE L*a*b*, with white point D65 of the 2° observer, as `tfio.experimental.color` does.

    Formulas: sRGB to linear RGB and XYZ as in IEC 61966-2-1, XYZ to L*a*b* as in CIE 15; scikit-image uses the same.

    Args:
      rgb: float tensor `[..., 3]` with values in [0, 1].

    Returns:
      A tensor of the same shape and dtype: L* in [0, 100], a* and b* about [-128, 127].
    """
    import tensorflow as tf

    rgb = tf.convert_to_tensor(rgb)
    to_xyz = tf.constant(
        [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]], rgb.dtype
    )
    white = tf.constant([0.95047, 1.0, 1.08883], rgb.dtype)
    # Both branches of `tf.where` have a gradient, whichever is selected. `tf.maximum` keeps the gradients of the powers
    # finite where the power is not selected: at black, and where a resized image is below 0.
    linear = tf.where(rgb > 0.04045, tf.pow((tf.maximum(rgb, 0.04045) + 0.055) / 1.055, 2.4), rgb / 12.92)
    xyz = tf.tensordot(linear, to_xyz, axes=[[-1], [1]]) / white
    f = tf.where(xyz > 0.008856, tf.pow(tf.maximum(xyz, 0.008856), 1.0 / 3.0), 7.787 * xyz + 16.0 / 116.0)
    x, y, z = tf.unstack(f, axis=-1)
    return tf.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], axis=-1)


def pillow_with_getsize() -> types.ModuleType:
    """Fixes `'FreeTypeFont' object has no attribute 'getsize'`, which Pillow 10 removed in favour of `getbbox`."""
    import PIL
    from PIL import ImageFont

    def with_getsize(load: Callable[..., Any]) -> Callable[..., Any]:
        def load_with_getsize(*args: Any, **kwargs: Any) -> Any:
            font = load(*args, **kwargs)

            def getsize(text: str) -> tuple[int, int]:
                left, _, right, bottom = font.getbbox(text)
                return int(right - left), int(bottom)

            font.getsize = getsize  # only on this font object, which is not shared
            return font

        return load_with_getsize

    return _View(
        PIL,
        ImageFont=_View(
            ImageFont,
            truetype=with_getsize(ImageFont.truetype),
            load_default=with_getsize(ImageFont.load_default),
        ),
    )


def matplotlib_with_tostring_rgb() -> types.ModuleType:
    """Fixes `'FigureCanvasAgg' object has no attribute 'tostring_rgb'`, which Matplotlib 3.10 removed."""
    import matplotlib
    import numpy

    def figure(*args: Any, **kwargs: Any) -> Any:
        fig = pyplot.figure(*args, **kwargs)
        fig.canvas.tostring_rgb = lambda: numpy.asarray(fig.canvas.buffer_rgba())[..., :3].tobytes()
        return fig

    pyplot = importlib.import_module("matplotlib.pyplot")
    return _View(matplotlib, pyplot=_View(pyplot, figure=figure))


def importlib_that_waits_with_scikit_learn() -> types.ModuleType:
    """Avoids a second at every start for importing scikit-learn, pandas and SciPy's statistics.

    tf_slim imports them for one of its losses, which the Object Detection API does not use.
    """

    class WhenUsed(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module(self.__name__), name)

    def import_module(name: str, package: str | None = None) -> types.ModuleType:
        if name == "sklearn.metrics" and importlib.util.find_spec("sklearn"):
            return WhenUsed(name)
        return importlib.import_module(name, package)

    return _View(importlib, import_module=import_module)


# Name in an import statement -> what the statement returns instead: for `from a.b import c` the name is `a.b`, for
# `import a.b` it is `a`.
IMPORT_MENDS: dict[str, Callable[[], types.ModuleType]] = {
    "PIL": pillow_with_getsize,
    "importlib": importlib_that_waits_with_scikit_learn,
    "keras.applications": keras_applications_of_tf_keras,
    "matplotlib": matplotlib_with_tostring_rgb,
    "numpy": numpy_with_removed_names,
    "tensorflow.compat.v1": compat_v1_with_estimator,
    "tensorflow.python.ops": tensorflow_ops_with_moved_functions,
    "tensorflow_io": tensorflow_io_for_deepmac,
}


@functools.cache
def _stand_in(name: str) -> types.ModuleType:
    return IMPORT_MENDS[name]()


def _import(
    name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
) -> types.ModuleType:
    """The meaning of `import` inside a mended module; the signature is that of `builtins.__import__`."""
    wanted = name if fromlist else name.partition(".")[0]
    if level or wanted not in IMPORT_MENDS:
        return builtins.__import__(name, globals, locals, fromlist, level)
    stand_in = _stand_in(wanted)
    if isinstance(stand_in, _View):
        builtins.__import__(name, globals, locals, fromlist)  # loads submodules, as in `import PIL.ImageColor`
    return stand_in


_BUILTINS = {**vars(builtins), "__import__": _import}


# ---- Protocol buffers -----------------------------------------------------------------------------------------------


def fill_protobuf_module(module: types.ModuleType, code: types.CodeType) -> None:
    """Fixes `TypeError: Descriptors cannot be created directly`, and code from a protoc newer than the runtime.

    The code that protoc generates differs from version to version, and protobuf rejects versions it does not know; the
    serialized descriptor inside is the same in all. From it, protobuf's own builder creates the module.

    Args:
      module: the empty module `object_detection.protos.*_pb2`.
      code: the compiled code that protoc, 3.19 or later, generated for it.

    Raises:
      ImportError: the code contains no descriptor.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool
    from google.protobuf.internal import builder

    # A serialized descriptor starts with its first field, the path of the .proto.
    proto_path = module.__name__.removesuffix("_pb2").replace(".", "/") + ".proto"
    beginning = descriptor_pb2.FileDescriptorProto(name=proto_path).SerializeToString()
    serialized = next((c for c in code.co_consts if isinstance(c, bytes) and c.startswith(beginning)), None)
    if serialized is None:
        raise ImportError(
            f"{code.co_filename} holds no serialized descriptor of {proto_path}; {_HOW_TO_COMPILE_PROTOS}."
        )
    for dependency in descriptor_pb2.FileDescriptorProto.FromString(serialized).dependency:
        importlib.import_module(dependency.removesuffix(".proto").replace("/", ".") + "_pb2")
    # The same calls as in code from protoc 3.20 and later, which protobuf must therefore keep.
    module.DESCRIPTOR = descriptor_pool.Default().AddSerializedFile(serialized)
    builder.BuildMessageAndEnumDescriptors(module.DESCRIPTOR, vars(module))
    builder.BuildTopDescriptorsAndMessages(module.DESCRIPTOR, module.__name__, vars(module))


def _is_protobuf_module(module_name: str) -> bool:
    return module_name.startswith("object_detection.protos.") and module_name.endswith("_pb2")


_HOW_TO_COMPILE_PROTOS = (
    "compile the .proto files: in the folder that holds object_detection, run"
    " `protoc object_detection/protos/*.proto --python_out=.`"
)


# ---- Functions of the Object Detection API that need another body ---------------------------------------------------


def int64_features_from_booleans(dataset_util: types.ModuleType) -> None:
    """Fixes `Int64List.value: Expected an int, got a boolean`: protobuf used to accept booleans as integers.

    `create_coco_tf_record` passes them if a file says `"iscrowd": false`.
    """
    import numpy as np

    int64_list_feature = dataset_util.int64_list_feature

    def int64_list_feature_from_booleans(value):
        return int64_list_feature([int(item) if isinstance(item, bool | np.bool_) else item for item in value])

    dataset_util.int64_list_feature = int64_list_feature_from_booleans
    dataset_util.int64_feature = lambda value: int64_list_feature_from_booleans([value])


def box_components_of_empty_frames(seq_example_util: types.ModuleType) -> None:
    """Fixes `operands could not be broadcast together with shapes (2,4) (0,)`.

    `boxes_to_box_components` compares an array with `bbox != []`; NumPy used to return a single boolean.
    """
    import numpy as np

    def boxes_to_box_components(bboxes):
        frames = [np.reshape(np.asarray(boxes, np.float32), [-1, 4]) for boxes in bboxes]
        return tuple([boxes[:, component] for boxes in frames] for component in range(4))

    seq_example_util.boxes_to_box_components = boxes_to_box_components


def int_of_one_element(generate_embedding_data: types.ModuleType) -> None:
    """Fixes `only 0-dimensional arrays can be converted to Python scalars`.

    The module calls `int(num_detections)` on a tensor of shape [1], which NumPy used to accept.
    """
    import numpy as np

    generate_embedding_data.int = lambda value: int(np.asarray(value).item())


def maps_that_heed_the_seed(dataset_builder: types.ModuleType) -> None:
    """Fixes `Random ops require a seed to be set when determinism is enabled`, and augmentations that ignore the seed.

    In the legacy functions of `map_with_legacy_function`, random operations do not get the global seed. If a dataset
    has no such method, the module uses `map`.
    """
    dataset_builder.hasattr = lambda value, name: name != "map_with_legacy_function" and hasattr(value, name)


def crops_that_heed_the_seed(preprocessor: types.ModuleType) -> None:
    """Fixes `sample_distorted_bounding_box requires "seed" or "seed2" to be non-zero when determinism is enabled`.

    Other random operations without a seed use the global one; that of TF1's random crops does not.
    """
    tf = preprocessor.tf

    def sample_distorted_bounding_box(*args, **kwargs):
        from tensorflow.python.framework import random_seed

        seed, seed2 = random_seed.get_seed(None)
        return tf.image.sample_distorted_bounding_box(*args, seed=seed, seed2=seed2, **kwargs)

    image = _View(tf.image, sample_distorted_bounding_box=sample_distorted_bounding_box)
    preprocessor.tf = _View(tf, image=image)


def generator_that_heeds_the_seed(deepmac_meta_arch: types.ModuleType) -> None:
    """Fixes `"from_non_deterministic_state" cannot be called when determinism is enabled`, raised by DeepMAC."""
    from tensorflow.python.eager import context

    tf = deepmac_meta_arch.tf

    def from_seed_if_there_is_one():
        seed = context.global_seed()
        if seed is None:
            return tf.random.Generator.from_non_deterministic_state()
        return tf.random.Generator.from_seed(seed)

    generator = types.SimpleNamespace(from_non_deterministic_state=from_seed_if_there_is_one)
    deepmac_meta_arch.tf = _View(tf, random=_View(tf.random, Generator=generator))


def embeddings_of_boxes_at_the_edge(deepmac_meta_arch: types.ModuleType) -> None:
    """Fixes `indices[0,61] = [0, 32, 16] does not index into param shape [1,32,32,32]` in DeepMAC's evaluation.

    The center of a box that was clipped to zero size is on the bottom or right edge of the image, one cell beyond the
    last. A GPU reads zeros there; a CPU raises an error.
    """
    import tensorflow as tf

    model = deepmac_meta_arch.DeepMACMetaArch
    get_instance_embeddings = model._get_instance_embeddings

    def get_instance_embeddings_inside(self, boxes, instance_embedding):
        size = tf.cast(tf.shape(instance_embedding)[1:3], tf.float32)
        centers = (boxes[..., :2] + boxes[..., 2:]) * size / 2.0
        one_cell = tf.cast(centers >= size, tf.float32) / size
        return get_instance_embeddings(self, boxes - tf.concat([one_cell, one_cell], axis=-1), instance_embedding)

    model._get_instance_embeddings = get_instance_embeddings_inside


def label_maps_with_a_byte_order_mark(label_map_util: types.ModuleType) -> None:
    """Fixes `expected bytes, str found` for a label map that an editor on Windows saved as "UTF-8 with BOM"."""
    tf = label_map_util.tf

    class GFile(tf.io.gfile.GFile):  # type: ignore[name-defined]
        def read(self, n=-1):
            content = super().read(n)
            return content.removeprefix("\ufeff") if isinstance(content, str) else content

    label_map_util.tf = _View(tf, io=_View(tf.io, gfile=_View(tf.io.gfile, GFile=GFile)))


MODULE_MENDS: dict[str, Sequence[Callable[[types.ModuleType], None]]] = {
    "object_detection.builders.dataset_builder": [maps_that_heed_the_seed],
    "object_detection.core.preprocessor": [crops_that_heed_the_seed],
    "object_detection.dataset_tools.context_rcnn.generate_embedding_data": [int_of_one_element],
    "object_detection.dataset_tools.seq_example_util": [box_components_of_empty_frames],
    "object_detection.meta_architectures.deepmac_meta_arch": [
        generator_that_heeds_the_seed,
        embeddings_of_boxes_at_the_edge,
    ],
    "object_detection.utils.dataset_util": [int64_features_from_booleans],
    "object_detection.utils.label_map_util": [label_maps_with_a_byte_order_mark],
}


# ---- The finder -----------------------------------------------------------------------------------------------------


def _is_mended(module_name: str) -> bool:
    return module_name.partition(".")[0] in MENDED_PACKAGES


class _MendingFinder:
    """Lets the other finders find a module of `MENDED_PACKAGES`, and loads it with the mends."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if not _is_mended(fullname):
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _MendingLoader(spec.loader)  # type: ignore[assignment]
                return spec
        if _is_protobuf_module(fullname):
            proto = fullname.rpartition(".")[2].removesuffix("_pb2") + ".proto"
            for folder in path:
                if (pathlib.Path(folder) / proto).exists():
                    raise ODEvalError(f"{folder} holds {proto}, but not the Python module; {_HOW_TO_COMPILE_PROTOS}.")
        return None


class _MendingLoader:
    """Executes a module with the mends; otherwise behaves like the loader it wraps."""

    def __init__(self, loader: Any):
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_loader"), name)

    def exec_module(self, module: types.ModuleType) -> None:
        code = self._loader.get_code(module.__name__)
        if _is_protobuf_module(module.__name__):
            fill_protobuf_module(module, code)
            return
        vars(module)["__builtins__"] = _BUILTINS
        exec(code, vars(module))
        for mend in MODULE_MENDS.get(module.__name__, ()):
            mend(module)
