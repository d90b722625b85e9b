"""Words for people."""

import pytest

from od_eval import text


def test_values_are_cut_where_they_are_long():
    assert text.short("a" * 100) == "'" + "a" * 78 + "…"
    assert text.short({"a": 1}) == "{'a': 1}"


def test_nothing_of_a_file_reaches_a_terminal_as_a_command():
    assert text.printable("a\x1b[2Jb\n") == r"a\x1b[2Jb\n"


def test_what_is_too_long_for_a_sentence_loses_its_middle():
    assert text.printable("a" * 10_000 + "; stop", 9) == "aaaaa…top"
    assert len(text.printable("\x1b" * 10_000)) == 1000
    assert text.named("a" * 10_000) == "a" * 133 + "…" + "a" * 66
    assert text.named("a\nb") == r"a\nb"
    assert text.quoted(["a" * 10_000]) == "'" + "a" * 133 + "…" + "a" * 66 + "'"
    assert text.some(["a\nb", "a" * 10_000]) == r"a\nb, " + "a" * 133 + "…" + "a" * 66


def test_lists_do_not_run_on():
    assert text.some([1, 2, 3], most=2) == "1, 2, …"
    assert text.some([1, 2], most=2) == "1, 2"
    assert text.shortened(["a", "b", "c"], most=2) == ["a", "b", "  … and 1 more"]
    assert text.quoted(["a", "b"]) == "'a', 'b'"
    assert text.quoted([]) == "none"


def test_a_name_that_is_nearly_right_is_recognised():
    assert text.did_you_mean("batch_sise", ["batch_size", "num_steps"]) == "; did you mean 'batch_size'?"
    assert text.did_you_mean("zzz", ["batch_size"]) == ""


def test_a_table_has_words_at_the_left_and_numbers_at_the_right():
    rows = [["", "boxes"], ["AP", text.number(0.5)], ["AP50", text.number(None)]]
    assert text.table(rows) == "       boxes\nAP    0.5000\nAP50       -"


def test_half_a_character_can_be_written():
    assert text.utf8("a\ud800") == "a\\ud800"


@pytest.mark.parametrize(("path", "hint"), [("C:/data/a b.record", False), ("C:\temp\new", True), ("C:\\data", False)])
def test_a_path_with_a_control_character_gets_a_hint_at_backslashes(path, hint):
    assert text.backslash_hint(path) == (
        "; in quotes a backslash begins an escape: write / or \\\\ instead of \\" if hint else ""
    )
