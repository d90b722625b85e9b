"""Lists of a JSON file are read entry by entry, as `json.loads` would read them."""

from __future__ import annotations

import json
import random
import tracemalloc

import pytest

from od_eval.data import json_lists
from od_eval.data.json_lists import list_entries
from od_eval.errors import ODEvalError


@pytest.fixture(params=[1, 7, 64, 1000, None], ids=lambda size: f"{size or 'default'} bytes")
def at_once(request, monkeypatch) -> None:
    """The file is read in parts of so many bytes, which end anywhere: in a number, a character, an escape."""
    if request.param:
        monkeypatch.setattr(json_lists, "_BYTES_AT_ONCE", request.param)


def value(random: random.Random, depth: int = 0) -> object:
    kinds = ["number", "text", "constant"] + ["list", "object"] * (depth < 3)
    kind = random.choice(kinds)
    if kind == "number":
        return random.choice([random.randint(-(10**20), 10**20), random.uniform(-1, 1) * 10 ** random.randint(-9, 9)])
    if kind == "text":
        return "".join(random.choices('{}[],:" \\\n\tä€😀a}, {', k=random.randint(0, 12)))
    if kind == "constant":
        return random.choice([None, True, False, float("inf")])
    if kind == "list":
        return [value(random, depth + 1) for _ in range(random.randint(0, 4))]
    return {str(value(random, 3)): value(random, depth + 1) for _ in range(random.randint(0, 4))}


@pytest.mark.parametrize("seed", range(8))
def test_entries_are_those_of_json_loads_in_the_order_of_the_file(tmp_path, at_once, seed) -> None:
    rng = random.Random(seed)
    lists = {key: [value(rng) if rng.random() < 0.3 else {"id": n} for n in range(rng.randint(0, 40))] for key in "abc"}
    content = {"info": value(rng), **lists, "licenses": [value(rng)]}
    keys = rng.sample(list(content), len(content))
    text = json.dumps(
        {key: content[key] for key in keys}, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 2])
    )
    path = tmp_path / "a.json"
    path.write_text(text, encoding=rng.choice(["utf-8", "utf-8-sig"]))
    wanted = [(key, entry) for key in keys if key in lists for entry in lists[key]]
    assert list(list_entries(path, "abc")) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": [1,\n2 3], "b": []}', "line 2, is not JSON: Expecting ',' delimiter"),
        ('{"a": [1,\n\n2,], "b": []}', "line 3, is not JSON: "),
        ('{"a": [{"id": 1}, {"id": 2},\n {"id" 3}], "b": []}', "line 2, is not JSON: Expecting ':' delimiter"),
        ('{"a": [{"id": 1}, {"id": 2}', "line 1, is not JSON: "),
        ('{"a": [], "b": []', "line 1, is not JSON: "),
        ('{"a": [], "b": []}\n{}', "line 2, is not JSON: Extra data"),
        ('{"a": [], b: []}', "is not JSON: Expecting property name enclosed in double quotes"),
        ("", "line 1, is not JSON: Expecting value"),
        ("[1, 2]", "does not hold an object"),
        ('{"a": [1], "b": {}}', "has no list 'b'"),
        ('{"a": [1], "b": [], "a": []}', "has two lists 'a'"),
        (b'{"a": ["\xff"], "b": []}', "is not JSON: 'utf-8' codec can't decode byte 0xff"),
        ('{"a": [' + "[" * 100_000, "is not JSON: "),
        ('{"a": [' + "1" * 5000 + '], "b": []}', "is not JSON: "),
    ],
)
def test_what_is_wrong_is_a_sentence_with_its_line(tmp_path, at_once, text, message) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ODEvalError) as error:
        list(list_entries(path, "ab"))
    assert str(error.value).startswith(f"annotation file '{path}'")
    assert message in str(error.value)


def test_a_file_that_is_not_there_is_a_sentence(tmp_path) -> None:
    with pytest.raises(ODEvalError, match="cannot be read: No such file"):
        list(list_entries(tmp_path / "a.json", "a"))


def test_a_list_of_many_objects_is_never_in_memory(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(json_lists, "_BYTES_AT_ONCE", 2**14)
    path = tmp_path / "a.json"
    entries = [{"id": number, "segmentation": {"size": [1, 2]}, "bbox": [1, 2, 3, 4]} for number in range(20_000)]
    path.write_text(json.dumps({"a": entries}))
    del entries
    tracemalloc.start()
    assert [entry["id"] for _, entry in list_entries(path, "a")] == list(range(20_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 2**20  # all of them would need 17 MiB
