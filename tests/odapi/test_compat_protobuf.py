"""`*_pb2` modules of the Object Detection API, written by any protoc, load under any protobuf."""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

# What each generation of protoc writes around the serialized descriptor of string_int_label_map.proto, shortened where
# it repeats itself.
GENERATED_CODE = {
    "protoc 3.12": '''
"""Generated protocol buffer code."""
from google.protobuf.internal import enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf import reflection as _reflection
from google.protobuf import symbol_database as _symbol_database
_sym_db = _symbol_database.Default()
DESCRIPTOR = _descriptor.FileDescriptor(
  name='object_detection/protos/string_int_label_map.proto',
  package='object_detection.protos',
  syntax='proto2',
  serialized_options=None,
  create_key=_descriptor._internal_create_key,
  serialized_pb=SERIALIZED
)
_LVISFREQUENCY = _descriptor.EnumDescriptor(
  name='LVISFrequency',
  full_name='object_detection.protos.LVISFrequency',
  filename=None,
  file=DESCRIPTOR,
  create_key=_descriptor._internal_create_key,
  values=[
    _descriptor.EnumValueDescriptor(
      name='UNSPECIFIED', index=0, number=0, serialized_options=b'8\\001', type=None,
      create_key=_descriptor._internal_create_key),
  ],
  containing_type=None, serialized_options=None, serialized_start=486, serialized_end=554,
)
_sym_db.RegisterEnumDescriptor(_LVISFREQUENCY)
''',
    "protoc 3.19": '''
"""Generated protocol buffer code."""
from google.protobuf.internal import enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import descriptor_pool as _descriptor_pool
from google.protobuf import message as _message
from google.protobuf import reflection as _reflection
from google.protobuf import symbol_database as _symbol_database
_sym_db = _symbol_database.Default()
DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile(SERIALIZED)
_LVISFREQUENCY = DESCRIPTOR.enum_types_by_name['LVISFrequency']
LVISFrequency = enum_type_wrapper.EnumTypeWrapper(_LVISFREQUENCY)
UNSPECIFIED = 0
_STRINGINTLABELMAP = DESCRIPTOR.message_types_by_name['StringIntLabelMap']
StringIntLabelMap = _reflection.GeneratedProtocolMessageType('StringIntLabelMap', (_message.Message,), {
  'DESCRIPTOR' : _STRINGINTLABELMAP,
  '__module__' : 'object_detection.protos.string_int_label_map_pb2'
  })
_sym_db.RegisterMessage(StringIntLabelMap)
if _descriptor._USE_C_DESCRIPTORS == False:
  DESCRIPTOR._options = None
''',
    "protoc 21": '''
"""Generated protocol buffer code."""
from google.protobuf.internal import builder as _builder
from google.protobuf import descriptor as _descriptor
from google.protobuf import descriptor_pool as _descriptor_pool
from google.protobuf import symbol_database as _symbol_database
_sym_db = _symbol_database.Default()
DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile(SERIALIZED)
_builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, globals())
_builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, 'object_detection.protos.string_int_label_map_pb2', globals())
if _descriptor._USE_C_DESCRIPTORS == False:
  DESCRIPTOR._options = None
  _LVISFREQUENCY._serialized_start=486
''',
    "a protoc newer than protobuf": '''
"""Generated protocol buffer code."""
from google.protobuf import descriptor as _descriptor
from google.protobuf import descriptor_pool as _descriptor_pool
from google.protobuf import runtime_version as _runtime_version
from google.protobuf import symbol_database as _symbol_database
from google.protobuf.internal import builder as _builder
_runtime_version.ValidateProtobufRuntimeVersion(
    _runtime_version.Domain.PUBLIC,
    99,
    0,
    0,
    '',
    'object_detection/protos/string_int_label_map.proto'
)
_sym_db = _symbol_database.Default()
DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile(SERIALIZED)
_globals = globals()
_builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, _globals)
_builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, 'object_detection.protos.string_int_label_map_pb2', _globals)
if not _descriptor._USE_C_DESCRIPTORS:
  DESCRIPTOR._loaded_options = None
''',
}

# Without the mend, under protobuf 5.28 and later. What was written in between, protobuf reads by itself so far.
SYMPTOMS = {
    "protoc 3.12": "Descriptors cannot be created directly",
    "a protoc newer than protobuf": "incompatible Protobuf Gencode/Runtime versions",
}

LABEL_MAP_WORKS = """
from google.protobuf import text_format
from object_detection.protos import string_int_label_map_pb2 as pb2
label_map = text_format.Parse('item { id: 1 name: "a" frequency: COMMON keypoints { id: 2 } }', pb2.StringIntLabelMap())
assert pb2.StringIntLabelMap.FromString(label_map.SerializeToString()) == label_map
assert label_map.item[0] == pb2.StringIntLabelMapItem(
    id=1, name="a", frequency=pb2.COMMON, keypoints=[pb2.StringIntLabelMapItem.KeypointMap(id=2)])
assert pb2.LVISFrequency.Name(pb2.RARE) == "RARE" and pb2.StringIntLabelMap.__module__ == pb2.__name__
print("works", pb2.__file__)
"""


def run(code: str, *path: Path, python: str | Path = sys.executable, **environment: str) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))} | environment
    return subprocess.run([python, "-c", code], env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def installed() -> Path:
    """The folder of the installed package `object_detection`."""
    return Path(importlib.util.find_spec("object_detection").origin).parent


@pytest.fixture(scope="module")
def serialized() -> dict[str, bytes]:
    """The descriptor of every .proto of the Object Detection API, by module name."""
    importlib.import_module("od_eval.odapi")
    protos = importlib.import_module("object_detection.protos")
    names = [module.name for module in pkgutil.iter_modules(protos.__path__)]
    modules = {name: importlib.import_module(f"object_detection.protos.{name}") for name in names}
    return {name: module.DESCRIPTOR.serialized_pb for name, module in modules.items()}


@pytest.fixture
def checkout(tmp_path, serialized):
    """Writes a checkout of the model repository whose label map proto was compiled by some protoc."""

    def write(generated_code: str) -> Path:
        protos = tmp_path / "research" / "object_detection" / "protos"
        protos.mkdir(parents=True)
        for folder in (protos.parent, protos):
            (folder / "__init__.py").touch()
        code = generated_code.replace("SERIALIZED", repr(serialized["string_int_label_map_pb2"]))
        (protos / "string_int_label_map_pb2.py").write_text(code)
        return tmp_path / "research"

    return write


@pytest.mark.parametrize("implementation", ["upb", "python"])
@pytest.mark.parametrize("protoc", GENERATED_CODE)
def test_what_a_protoc_wrote_loads(checkout, protoc, implementation):
    research = checkout(GENERATED_CODE[protoc])
    done = run(
        "import od_eval.odapi" + LABEL_MAP_WORKS,
        REPOSITORY,
        research,
        PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=implementation,
    )
    assert done.stdout.startswith(f"works {research}"), done.stderr


@pytest.mark.parametrize("protoc", SYMPTOMS)
def test_without_the_mend_what_a_protoc_wrote_does_not_load(checkout, protoc):
    done = run(LABEL_MAP_WORKS, REPOSITORY, checkout(GENERATED_CODE[protoc]))
    assert done.returncode == 1
    assert SYMPTOMS[protoc] in done.stderr


def test_every_proto_of_the_installed_package_has_its_messages_enums_and_defaults(installed, serialized):
    assert len(serialized) == len(list(installed.glob("protos/*_pb2.py")))
    code = """
import od_eval.odapi
from google.protobuf import text_format
from object_detection.protos import hyperparams_pb2, pipeline_pb2
config = text_format.Parse(
    "model { ssd { box_coder { faster_rcnn_box_coder {} } } } train_config { optimizer { adam_optimizer {} } }",
    pipeline_pb2.TrainEvalPipelineConfig())
assert config.model.ssd.box_coder.faster_rcnn_box_coder.y_scale == 10.0
assert config.train_config.optimizer.use_moving_average and hyperparams_pb2.Hyperparams.FC == 2
print("works")
"""
    done = run(code, REPOSITORY)
    assert done.stdout == "works\n", done.stderr


def test_a_module_without_a_descriptor_says_what_to_do(checkout):
    done = run("import od_eval.odapi" + LABEL_MAP_WORKS, REPOSITORY, checkout("# nothing"))
    assert "ImportError" in done.stderr
    assert "string_int_label_map_pb2.py holds no serialized descriptor" in done.stderr
    assert "`protoc object_detection/protos/*.proto --python_out=.`" in done.stderr


def test_protos_that_were_never_compiled_say_how_to_compile_them(checkout):
    research = checkout("")
    protos = research / "object_detection" / "protos"
    (protos / "string_int_label_map_pb2.py").rename(protos / "string_int_label_map.proto")
    done = run("import od_eval.odapi" + LABEL_MAP_WORKS, REPOSITORY, research)
    assert "ODEvalError" in done.stderr
    assert f"{protos} holds string_int_label_map.proto" in done.stderr
    assert "`protoc object_detection/protos/*.proto --python_out=.`" in done.stderr


def test_a_module_that_does_not_exist_is_an_import_error_as_ever():
    done = run("import od_eval.odapi, object_detection.protos.cat_pb2", REPOSITORY)
    assert "ModuleNotFoundError: No module named 'object_detection.protos.cat_pb2'" in done.stderr


def test_a_checkout_on_pythonpath_builds_a_model(installed, serialized, tmp_path):
    research = tmp_path / "research"
    shutil.copytree(
        installed, research / "object_detection", ignore=shutil.ignore_patterns("*_test.py", "__pycache__", "slim")
    )
    for name, descriptor in serialized.items():
        code = GENERATED_CODE["a protoc newer than protobuf"].replace("SERIALIZED", repr(descriptor))
        (research / "object_detection" / "protos" / f"{name}.py").write_text(code)
    code = """
import od_eval.odapi
from google.protobuf import text_format
from object_detection.builders import model_builder
from object_detection.protos import model_pb2
config = '''center_net { num_classes: 2 feature_extractor { type: "resnet_v2_50" }
  image_resizer { fixed_shape_resizer { height: 64 width: 64 } }
  object_detection_task { localization_loss { l1_localization_loss {} } }
  object_center_params { classification_loss { penalty_reduced_logistic_focal_loss {} } } }'''
model = model_builder.build(text_format.Parse(config, model_pb2.DetectionModel()), is_training=True)
print(type(model).__name__, model_builder.__file__, model_pb2.__file__)
"""
    done = run(code, REPOSITORY, research, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
    name, *files = done.stdout.split() or [done.stderr]
    assert name == "CenterNetMetaArch"
    assert all(file.startswith(str(research)) for file in files)


@pytest.mark.slow
@pytest.mark.parametrize("protobuf", ["5.28.0", "5.29.5", "6.30.2", "6.33.0", "7.*"])
def test_what_any_protoc_wrote_loads_under_this_protobuf(tmp_path, checkout, protobuf):
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    subprocess.run([environment / "bin" / "pip", "install", "-q", f"protobuf=={protobuf}"], check=True)
    # od_eval asks whether tf_keras is there, and needs neither it nor TensorFlow to read protos.
    (tmp_path / "stub" / "tf_keras").mkdir(parents=True)
    (tmp_path / "stub" / "tf_keras" / "__init__.py").touch()
    for protoc, generated_code in GENERATED_CODE.items():
        research = checkout(generated_code)
        done = run(
            "import od_eval.odapi" + LABEL_MAP_WORKS,
            REPOSITORY,
            research,
            tmp_path / "stub",
            python=environment / "bin" / "python",
        )
        assert done.stdout.startswith("works"), (protoc, done.stderr)
        shutil.rmtree(research)
