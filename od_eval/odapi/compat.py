"""Makes the released Object Detection API run on current TensorFlow.

`install()` puts a finder in front of Python's own. It concerns itself with two packages only,
`object_detection` and `tf_slim`, and changes how *their* modules see the world:

* an `import` statement in one of their modules may be answered with a stand-in (`IMPORT_MENDS`): NumPy with
  the aliases it has removed, `keras` meaning tf_keras, an `estimator` that has `ModeKeys`, …
* a `*_pb2` module is built from the descriptor it carries, whatever protoc wrote the code around it;
* a function of theirs may be replaced once its module is loaded (`MODULE_MENDS`).

Nobody else sees any of it: the stand-ins never enter `sys.modules`, and NumPy, Pillow, protobuf and TensorFlow
stay as they are. Nothing of the Object Detection API is edited, so that a checkout of the model repository on
`PYTHONPATH` works like the package from PyPI.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.abc
import importlib.machinery
import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from od_eval.errors import ODEvalError

MENDED_PACKAGES = ("object_detection", "tf_slim")


def install() -> None:
    """Prepares the import of `object_detection`; call it before the first one. Calling it again does nothing.

    Raises:
      ODEvalError: `tf.keras` is Keras 3 already, or modules of the Object Detection API were imported earlier.
    """
    if any(isinstance(finder, _MendingFinder) for finder in sys.meta_path):
        return
    use_legacy_keras()
    early = sorted(name for name in sys.modules if _is_mended(name) and name not in MENDED_PACKAGES)
    if early:
        raise ODEvalError(
            f"{early[0]} was imported before od_eval could make it run on this TensorFlow; restart Python and import"
            " od_eval.odapi before object_detection and tf_slim."
        )
    sys.meta_path.insert(0, _MendingFinder())


def use_legacy_keras() -> None:
    """Cures Keras 3 objects turning up where the Object Detection API means Keras 2.

    Sets `TF_USE_LEGACY_KERAS`, which TensorFlow reads when `tf.keras` is first used. Where it was used before, nothing
    can be done in this process.

    Raises:
      ODEvalError: `tf.keras` is Keras 3 already.
    """
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    if "tensorflow" not in sys.modules:
        return
    keras_version = sys.modules["tensorflow"].keras.__version__
    if not keras_version.startswith("2.") or "tensorflow.keras" in sys.modules and _is_keras_3("tensorflow.keras"):
        if before is None:
            del os.environ["TF_USE_LEGACY_KERAS"]
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before
        raise ODEvalError(
            f"tf.keras is Keras {keras_version} in this process, and the Object Detection API needs Keras 2 (tf_keras):"
            " restart Python, and before TensorFlow is imported set the environment variable TF_USE_LEGACY_KERAS=1 or"
            " `import od_eval.odapi`."
        )


def _is_keras_3(module_name: str) -> bool:
    return getattr(sys.modules[module_name], "__version__", "").startswith("3.")


# ---- What an import statement of the Object Detection API gets ----------------------------------------------------


class _View(types.ModuleType):
    """A module as the Object Detection API should see it: the real one, with some attributes of its own."""

    def __init__(self, module: types.ModuleType, **attributes: Any):
        super().__init__(module.__name__, module.__doc__)
        self.__dict__.update(vars(module))
        self.__dict__.update(attributes)
        self.__dict__["_viewed_module"] = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_viewed_module"], name)


def numpy_with_removed_aliases() -> types.ModuleType:
    """Cures `module 'numpy' has no attribute 'float'` (and `int`, `bool`, `object`, `str`, `complex`)."""
    import numpy

    aliases = {"float": float, "int": int, "bool": bool, "object": object, "str": str, "complex": complex}
    missing = {name: value for name, value in aliases.items() if name not in vars(numpy)}
    return _View(numpy, **missing)


def keras_meaning_tf_keras() -> types.ModuleType:
    """Cures `module 'keras.applications.resnet' has no attribute 'ResNet'`: `keras` was Keras 2 when that was written."""
    import tf_keras

    return tf_keras


def keras_applications_meaning_tf_keras() -> types.ModuleType:
    """The same for `from keras.applications import …`."""
    return importlib.import_module("tf_keras.applications")


def compat_v1_with_estimator() -> types.ModuleType:
    """Cures `cannot import name 'estimator' from 'tensorflow.compat.v1'`.

    TensorFlow has no estimators any more. What the TF2 path of the Object Detection API uses of them is `ModeKeys`;
    anything else is named only in TF1 functions, which say so when they are called.
    """
    tf_v1 = importlib.import_module("tensorflow.compat.v1")

    class ModeKeys:
        TRAIN = "train"
        EVAL = "eval"
        PREDICT = "infer"

    return _View(tf_v1, estimator=types.SimpleNamespace(ModeKeys=ModeKeys))


def tensorflow_ops_with_control_flow() -> types.ModuleType:
    """Cures `control_flow_ops has no attribute 'case'` (`cond`, `while_loop`): TensorFlow moved them to other modules."""
    ops = importlib.import_module("tensorflow.python.ops")
    control_flow_ops = importlib.import_module("tensorflow.python.ops.control_flow_ops")
    moved = {"case": "control_flow_case", "cond": "cond", "while_loop": "while_loop"}
    found = {
        name: getattr(importlib.import_module(f"tensorflow.python.ops.{module}"), name)
        for name, module in moved.items()
        if not hasattr(control_flow_ops, name)
    }
    return _View(ops, control_flow_ops=_View(control_flow_ops, **found))


def tensorflow_io_for_deepmac() -> types.ModuleType:
    """Cures undefined symbols while `tensorflow_io` loads, and its absence.

    Its binaries are made for older versions of TensorFlow. DeepMAC alone uses it, for one function.
    """
    stand_in = types.ModuleType("tensorflow_io")
    stand_in.experimental = types.SimpleNamespace(color=types.SimpleNamespace(rgb_to_lab=rgb_to_lab))
    return stand_in


def rgb_to_lab(rgb: Any) -> Any:
    """Converts sRGB to CIE L*a*b*, with white point D65 of the 2° observer, as `tfio.experimental.color` does.

    Formula: sRGB to linear RGB and XYZ after IEC 61966-2-1, XYZ to L*a*b* after CIE 15; it is also scikit-image's.

    Args:
      rgb: float tensor `[..., 3]` with values in [0, 1].

    Returns:
      A tensor of the same shape and dtype: L* in [0, 100], a* and b* about [-128, 127].
    """
    import tensorflow as tf

    rgb = tf.convert_to_tensor(rgb)
    linear = tf.where(rgb > 0.04045, tf.pow((rgb + 0.055) / 1.055, 2.4), rgb / 12.92)
    to_xyz = tf.constant(
        [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]], rgb.dtype
    )
    white = tf.constant([0.95047, 1.0, 1.08883], rgb.dtype)
    xyz = tf.tensordot(linear, to_xyz, axes=[[-1], [1]]) / white
    f = tf.where(xyz > 0.008856, tf.pow(tf.maximum(xyz, 0.008856), 1.0 / 3.0), 7.787 * xyz + 16.0 / 116.0)
    x, y, z = tf.unstack(f, axis=-1)
    return tf.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], axis=-1)


def pillow_with_getsize() -> types.ModuleType:
    """Cures `'FreeTypeFont' object has no attribute 'getsize'`, which Pillow 10 removed in favour of `getbbox`."""
    import PIL
    from PIL import ImageFont

    class FontWithGetsize:
        """A Pillow font that still tells `(width, height)` of a text; everything else it leaves to the font."""

        def __init__(self, font: Any):
            self._font = font

        def getsize(self, text: str) -> tuple[int, int]:
            _, _, right, bottom = self._font.getbbox(text)
            return int(right), int(bottom)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._font, name)

    def truetype(*args: Any, **kwargs: Any) -> FontWithGetsize:
        return FontWithGetsize(ImageFont.truetype(*args, **kwargs))

    def load_default(*args: Any, **kwargs: Any) -> FontWithGetsize:
        return FontWithGetsize(ImageFont.load_default(*args, **kwargs))

    return _View(PIL, ImageFont=_View(ImageFont, truetype=truetype, load_default=load_default))


# What an import statement names -> what it gets instead: for `from a.b import c` the name is `a.b`, for `import a.b` it
# is `a`.
IMPORT_MENDS: dict[str, Callable[[], types.ModuleType]] = {
    "numpy": numpy_with_removed_aliases,
    "keras": keras_meaning_tf_keras,
    "keras.applications": keras_applications_meaning_tf_keras,
    "tensorflow.compat.v1": compat_v1_with_estimator,
    "tensorflow.python.ops": tensorflow_ops_with_control_flow,
    "tensorflow_io": tensorflow_io_for_deepmac,
    "PIL": pillow_with_getsize,
}

_stand_ins: dict[str, types.ModuleType] = {}


def _import(
    name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
) -> types.ModuleType:
    """What `import` means inside a mended module; the signature is that of `builtins.__import__`."""
    wanted = name if fromlist else name.partition(".")[0]
    if level or wanted not in IMPORT_MENDS:
        return builtins.__import__(name, globals, locals, fromlist, level)
    if wanted not in _stand_ins:
        _stand_ins[wanted] = IMPORT_MENDS[wanted]()
    stand_in = _stand_ins[wanted]
    if isinstance(stand_in, _View):
        builtins.__import__(name, globals, locals, fromlist)  # loads submodules, as in `import PIL.ImageColor`
    return stand_in


_BUILTINS = {**vars(builtins), "__import__": _import}


# ---- Protocol buffers -----------------------------------------------------------------------------------------------


def exec_protobuf_module(module: types.ModuleType, source: str) -> None:
    """Cures `TypeError: Descriptors cannot be created directly`, and code from a protoc newer than the runtime.

    What protoc wrote around it differs from version to version, and protobuf refuses what it does not know; the
    serialized descriptor inside is the same in all. From that, protobuf's own builder makes the module.

    Args:
      module: the empty module `object_detection.protos.*_pb2`.
      source: the text that protoc, 3.19 or later, wrote for it.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool
    from google.protobuf.internal import builder

    serialized = _serialized_descriptor(source, module.__name__)
    for dependency in descriptor_pb2.FileDescriptorProto.FromString(serialized).dependency:
        importlib.import_module(dependency.removesuffix(".proto").replace("/", ".") + "_pb2")
    module.DESCRIPTOR = descriptor_pool.Default().AddSerializedFile(serialized)
    builder.BuildMessageAndEnumDescriptors(module.DESCRIPTOR, module.__dict__)
    builder.BuildTopDescriptorsAndMessages(module.DESCRIPTOR, module.__name__, module.__dict__)


def _serialized_descriptor(source: str, module_name: str) -> bytes:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            function = getattr(node.func, "attr", getattr(node.func, "id", None))
            found = node.args if function == "AddSerializedFile" else []
            if function == "FileDescriptor":
                found = [keyword.value for keyword in node.keywords if keyword.arg == "serialized_pb"]
            if found and isinstance(found[0], ast.Constant) and isinstance(found[0].value, bytes):
                return found[0].value
    raise ImportError(f"{module_name} holds no serialized descriptor; compile its .proto again with protoc 3.19 or later")


# ---- Functions of the Object Detection API that need another body ---------------------------------------------------


def int64_features_from_booleans(dataset_util: types.ModuleType) -> None:
    """Cures `Int64List.value: Expected an int, got a boolean`: protobuf used to take booleans for integers."""
    import tensorflow as tf

    def int64_list_feature(value):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(item) for item in value]))

    dataset_util.int64_list_feature = int64_list_feature
    dataset_util.int64_feature = lambda value: int64_list_feature([value])


MODULE_MENDS: dict[str, Callable[[types.ModuleType], None]] = {
    "object_detection.utils.dataset_util": int64_features_from_booleans,
}


# ---- The finder -----------------------------------------------------------------------------------------------------


def _is_mended(module_name: str) -> bool:
    return module_name.partition(".")[0] in MENDED_PACKAGES


class _MendingFinder(importlib.abc.MetaPathFinder):
    """Lets the other finders find a module of `MENDED_PACKAGES`, and has it loaded with the mends."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if not _is_mended(fullname):
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if isinstance(spec.loader, importlib.abc.InspectLoader):
                    spec.loader = _MendingLoader(spec.loader)
                return spec
        return None


class _MendingLoader(importlib.abc.InspectLoader):
    """Executes a module with the mends; for everything else it is the loader it wraps."""

    def __init__(self, loader: importlib.abc.InspectLoader):
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def get_source(self, fullname: str) -> str | None:
        return self._loader.get_source(fullname)

    def get_code(self, fullname: str) -> types.CodeType | None:
        return self._loader.get_code(fullname)

    def is_package(self, fullname: str) -> bool:
        return self._loader.is_package(fullname)

    def exec_module(self, module: types.ModuleType) -> None:
        name = module.__name__
        if name.startswith("object_detection.protos.") and name.endswith("_pb2"):
            exec_protobuf_module(module, self._loader.get_source(name))
            return
        module.__dict__["__builtins__"] = _BUILTINS
        exec(self._loader.get_code(name), module.__dict__)
        if name in MODULE_MENDS:
            MODULE_MENDS[name](module)
