from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2

from od_eval import label_map
from od_eval.errors import ODEvalError
from od_eval.label_map import Category, label_map_text, read_label_map


def test_any_name_comes_back_as_it_was(tmp_path) -> None:
    names = ["cat", "it's", 'a "b"', "back\\slash", "日本語", "line\nbreak", "}", "# no comment", "\u202e"]
    categories = [Category(id, name, "shown") if id == 1 else Category(id, name) for id, name in enumerate(names, 1)]
    categories.append(Category(90, "person", keypoints={"nose": 0, "l'œil": 1}))
    path = tmp_path / "label_map.pbtxt"
    path.write_text(label_map_text(categories), encoding="utf-8")
    assert read_label_map(path) == categories


def test_the_object_detection_api_reads_it(tmp_path) -> None:
    import od_eval.odapi  # noqa: F401, I001  (makes the next import possible)
    from object_detection.utils import label_map_util

    path = tmp_path / "label_map.pbtxt"
    categories = [Category(1, 'a "b"'), Category(3, "person", keypoints={"nose": 0, "ear": 1})]
    path.write_text(label_map_text(categories), encoding="utf-8")
    assert label_map_util.get_label_map_dict(str(path)) == {'a "b"': 1, "person": 3}
    assert label_map_util.get_keypoint_label_map_dict(str(path)) == {"nose": 0, "ear": 1}


def test_its_schema_is_that_of_the_object_detection_api() -> None:
    import od_eval.odapi  # noqa: F401, I001  (makes the next import possible)
    from object_detection.protos import string_int_label_map_pb2

    ours, theirs = descriptor_pb2.FileDescriptorProto(), descriptor_pb2.FileDescriptorProto()
    label_map._FILE.CopyToProto(ours)
    string_int_label_map_pb2.DESCRIPTOR.CopyToProto(theirs)
    assert ours == theirs


@pytest.mark.parametrize(
    "name", ["kitti", "mscoco", "mscoco_complete", "pet", "face_person_with_keypoints", "snapshot_serengeti"]
)
def test_the_label_maps_of_the_object_detection_api_are_read(excerpt, name) -> None:
    categories = read_label_map(excerpt / "odapi_files" / "data" / f"{name}_label_map.pbtxt")
    assert all(one.id >= 1 for one in categories)
    if name == "mscoco":
        assert Category(90, "/m/012xff", "toothbrush") in categories


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item { id: 0 name: 'cat' }", ":1: 'cat' has id 0; ids start at 1"),
        ("item { id: 0 name: 'background' }", "has no item"),
        ("", "has no item"),
        ("item {\n  id: 1\n  nam: 'cat'\n}", r"pbtxt:3: .*did you mean 'name'"),
        ("item { id: 1 name: 'a' } item { id: 1 name: 'b' }", "id 1 is given to 'a' and to 'b'"),
        ("item { id: 1 name: 'a' } item { id: 2 name: 'a' }", "'a' has id 1 and id 2"),
    ],
)
def test_a_wrong_label_map_is_named(tmp_path, text, message) -> None:
    path = tmp_path / "label_map.pbtxt"
    path.write_text(text)
    with pytest.raises(ODEvalError, match=message) as error:
        read_label_map(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["item {{ id: 0 name: '{}' }}", "item {{ id: 1 name: 'a' }} item {{ id: 1 name: '{}' }}", "item {{ {}: 1 }}"],
)
def test_a_long_name_is_named_in_short(tmp_path, text) -> None:
    path = tmp_path / "label_map.pbtxt"
    path.write_text(text.format("a" * 10_000))
    with pytest.raises(ODEvalError, match="aaa…aaa") as error:
        read_label_map(path)
    assert len(str(error.value)) < 1000


def test_control_characters_of_names_are_escaped(tmp_path) -> None:
    path = tmp_path / "label_map.pbtxt"
    for text in (r"item { id: 0 name: '\033[2J\n' }", r"item { id: 1 name: '\033[2J\n' } item { id: 1 name: 'b' }"):
        path.write_text(text)
        with pytest.raises(ODEvalError, match=r"'\\x1b\[2J\\n'"):
            read_label_map(path)


def test_a_path_that_no_file_can_have_is_told() -> None:
    for path, shown in (("a\0b", r"a\\x00b"), ("a\ud800b", r"a\\ud800b")):
        with pytest.raises(ODEvalError, match=f"label map '{shown}' cannot be read: .* which no file name can have"):
            read_label_map(path)


def test_a_missing_label_map_is_named(tmp_path) -> None:
    with pytest.raises(ODEvalError, match=r"label map '.*nowhere\.pbtxt' does not exist"):
        read_label_map(tmp_path / "nowhere.pbtxt")


def test_frequencies_come_back_as_they_were(tmp_path) -> None:
    path = tmp_path / "label_map.pbtxt"
    categories = [Category(1, "dog", frequency="COMMON"), Category(2, "cat", frequency="RARE"), Category(3, "tree")]
    path.write_text(label_map_text(categories), encoding="utf-8")
    assert read_label_map(path) == categories
