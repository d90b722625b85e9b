"""Files and folders, local and remote: TensorFlow's filesystem in memory, `ram://`, and its client of a fake bucket."""

import contextlib
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from od_eval import checkpoint_files, files
from od_eval.errors import ODEvalError


@pytest.fixture
def gs(bucket, monkeypatch):
    """A folder that nobody has used of the bucket, to which this process is led."""
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    return f"gs://bucket/{uuid.uuid4().hex}"


@pytest.fixture(params=["local", "ram", "gs"])
def folder(request, tmp_path):
    if request.param == "gs":
        return f"{request.getfixturevalue('gs')}/folder"
    return str(tmp_path / "folder") if request.param == "local" else f"ram://{uuid.uuid4().hex}/folder"


def test_what_is_written_is_read(folder):
    path = f"{folder}/a/b.txt"
    files.write_whole(path, "first")
    files.write_whole(path, "Käse\r\n")
    assert files.read_text(path) == "Käse\r\n"
    assert files.read_bytes(path) == "Käse\r\n".encode()
    assert files.size(path) == 7
    assert files.names_in(f"{folder}/a") == ["b.txt"], "and nothing beside it"


def test_a_byte_order_mark_is_no_text(folder):
    files.write_whole(f"{folder}/a.json", b"\xef\xbb\xbf[1]")
    assert files.read_text(f"{folder}/a.json") == "[1]"
    assert files.read_json(f"{folder}/a.json") == [1]


def test_parts_of_a_file_are_read(folder):
    contents = bytes(range(256)) * 4096
    files.write_whole(f"{folder}/a", contents)
    with files.open_read(f"{folder}/a") as file:
        assert file.read(3) == contents[:3]
        assert file.seek(-5, os.SEEK_END) == len(contents) - 5
        assert file.read() == contents[-5:]
        assert file.seek(1000) == file.tell() == 1000
        assert file.read(700_000) == contents[1000:701_000]
        assert not file.closed


def test_folders_are_listed_in_order(folder):
    for name in ("b.txt", "a.txt", "c/d.txt"):
        files.write_whole(f"{folder}/{name}", "")
    assert files.names_in(folder) == ["a.txt", "b.txt", "c"]
    assert files.names_in(f"{folder}/none") == []
    assert list(files.files_below(folder)) == ["a.txt", "b.txt", "c/d.txt"]
    assert files.glob(f"{folder}/*.txt") == [f"{folder}/a.txt", f"{folder}/b.txt"]
    assert files.is_folder(f"{folder}/c")
    assert not files.is_folder(f"{folder}/a.txt")
    assert files.exists(f"{folder}/a.txt")
    assert not files.exists(f"{folder}/d.txt")


def test_files_are_moved_copied_linked_and_removed(folder):
    files.write_whole(f"{folder}/a", "a")
    files.write_whole(f"{folder}/b", "b")
    files.rename(f"{folder}/a", f"{folder}/b")
    files.copy(f"{folder}/b", f"{folder}/c")
    files.link_or_copy(f"{folder}/c", f"{folder}/d")
    assert [files.read_text(f"{folder}/{name}") for name in files.names_in(folder)] == ["a", "a", "a"]
    files.remove(f"{folder}/b")
    assert files.names_in(folder) == ["c", "d"]
    files.make_folder(f"{folder}/more/folders")
    files.write_whole(f"{folder}/more/folders/e", "")
    files.rename(f"{folder}/more", f"{folder}/moved")
    assert list(files.files_below(f"{folder}/moved")) == ["folders/e"]
    assert not files.exists(f"{folder}/more/folders/e")
    files.remove(f"{folder}/moved")
    assert files.names_in(folder) == ["c", "d"]


def test_what_is_missing_is_an_os_error(folder):
    for action in (files.read_text, files.size, files.remove):
        with pytest.raises(FileNotFoundError) as raised:
            action(f"{folder}/none")
        assert files.reason(raised.value) == "No such file or directory"
    with pytest.raises(FileNotFoundError):
        files.link_or_copy(f"{folder}/none", f"{folder}/other")


def test_what_cannot_be_written_is_said_and_leaves_the_older_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ODEvalError, match=r"file/a' cannot be written: (Not a directory|File exists)"):
        files.write_whole(tmp_path / "file" / "a", "")
    with pytest.raises(ODEvalError, match="cannot be written"):
        files.write_whole("nosuchscheme://a/b", "")
    (tmp_path / "a").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        files.write_whole(tmp_path / "a", "\ud800")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old", "file": ""}


def test_a_new_folder_appears_whole_or_not_at_all(folder):
    with files.new_folder(f"{folder}/a/new", last=["b/last", "none"]) as temporary:
        for name in ("b/last", "c", "z"):
            files.write_whole(f"{temporary}/{name}", name)
        assert not files.exists(f"{folder}/a/new")
    assert {name: files.read_text(f"{folder}/a/new/{name}") for name in files.files_below(f"{folder}/a/new")} == {
        name: name for name in ("b/last", "c", "z")
    }
    with contextlib.suppress(KeyboardInterrupt), files.new_folder(f"{folder}/a/other", last=[]) as temporary:
        files.write_whole(f"{temporary}/a", "")
        raise KeyboardInterrupt
    assert files.names_in(f"{folder}/a") == ["new"], "nor is anything left beside it"


def test_in_a_bucket_that_by_which_a_folder_is_whole_comes_last(bucket, gs):
    with files.new_folder(f"{gs}/new", last=["m", "b/last"]) as temporary:
        for name in ("b/last", "b/m", "m", "z"):
            files.write_whole(f"{temporary}/{name}", name)
    new = f"{gs.removeprefix('gs://')}/new/"
    written = [name.removeprefix(new) for name in bucket.written if name.startswith(new) and name[-1] != "/"]
    assert written == ["b/m", "z", "m", "b/last"]


def test_a_new_folder_that_cannot_be_copied_leaves_nothing(gs, monkeypatch):
    def fail(source, target):
        if target.endswith("/z"):
            raise InterruptedError
        copy(source, target)
        copied.append(target)

    copied, copy = [], files.copy
    monkeypatch.setattr(files, "copy", fail)
    with contextlib.suppress(InterruptedError), files.new_folder(f"{gs}/new", last=[]) as temporary:
        for name in ("a", "z"):
            files.write_whole(f"{temporary}/{name}", name)
    assert copied == [f"{gs}/new/a"]
    assert files.names_in(gs) == []


def test_a_folder_of_more_files_than_a_bucket_lists_at_a_time_is_listed_moved_and_removed(bucket, gs):
    names = [f"{number:03d}" for number in range(2 * bucket.page_size + 1)]
    for name in names:
        bucket.put(f"{gs.removeprefix('gs://')}/a/{name}", b"")  # without a marker of the folder, as other tools write
    assert files.is_folder(f"{gs}/a")
    files.rename(f"{gs}/a", f"{gs}/b")
    assert files.names_in(f"{gs}/b") == list(files.files_below(f"{gs}/b")) == names
    assert files.names_in(gs) == ["b"]
    files.remove(f"{gs}/b")
    assert not files.exists(f"{gs}/b")


def test_what_a_bucket_refuses_is_said_in_its_words(gs):
    refused = "its server answers 403, me@example.com does not have storage.objects.get access to the object"
    for action in (files.read_bytes, files.exists, files.is_folder, files.names_in):
        with pytest.raises(PermissionError, match=refused):
            action("gs://forbidden/a")
    with pytest.raises(ODEvalError, match=f"^'gs://forbidden/a/b' cannot be written: {refused}$"):
        files.write_whole("gs://forbidden/a/b", "")
    with pytest.raises(ODEvalError, match="cannot be written: there is no bucket gs://missing/"):
        files.write_whole("gs://missing/a/b", "")  # where TensorFlow itself would look for ever
    with pytest.raises(FileNotFoundError, match="its server answers 404, The specified bucket does not exist"):
        files.read_bytes("gs://missing/a")


def test_who_may_use_objects_need_not_see_the_bucket(bucket, gs):
    bucket.put("unseen/a/b", b"")
    files.write_whole("gs://unseen/a/c/d", "text")
    assert bucket.objects["unseen/a/c/d"] == b"text"


@pytest.mark.parametrize("action", [files.exists, files.is_folder, files.names_in, files.read_text, files.make_folder])
def test_a_file_system_that_tensorflow_does_not_have_is_named_with_what_to_do(action):
    with pytest.raises(OSError, match="no file system for s3://, so copy the files to this machine or to gs://, or m"):
        action("s3://bucket/a")


def test_a_path_that_lost_a_slash_is_no_local_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for action in (files.make_folder, files.read_bytes, files.exists, files.is_folder, files.names_in):
        with pytest.raises(OSError, match="it has one slash after the colon, so write two, in a string, as a Path"):
            action(Path("gs://bucket/a"))
    assert not list(tmp_path.iterdir())


def test_between_a_disk_and_a_remote_filesystem_files_are_copied(tmp_path):
    remote = f"ram://{uuid.uuid4().hex}/a"
    (tmp_path / "a").write_text("a")
    files.link_or_copy(tmp_path / "a", remote)
    files.copy(remote, tmp_path / "b")
    assert (tmp_path / "b").read_text() == "a"


def test_a_walk_follows_links_and_does_not_go_round(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c.txt").write_text("")
    (tmp_path / "linked").symlink_to(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "round").symlink_to(tmp_path)
    assert [name for name in files.files_below(tmp_path)] == ["a/b/c.txt"]


def test_json_that_is_none_is_named_with_its_line(folder):
    files.write_whole(f"{folder}/a.json", '{\n"a": }')
    with pytest.raises(ODEvalError, match=r"^ground truth '.*a\.json', line 2, is not JSON"):
        files.read_json(f"{folder}/a.json", "ground truth")
    files.write_whole(f"{folder}/a.json", b"\xff")
    with pytest.raises(ODEvalError, match=r"a\.json' is not JSON"):
        files.read_json(f"{folder}/a.json")
    with pytest.raises(ODEvalError, match=r"none' cannot be read: No such file"):
        files.read_json(f"{folder}/none")


def test_a_remote_path_stays_what_it_is():
    assert files.absolute("gs://bucket/../a") == "gs://bucket/../a"
    assert files.absolute("a") == os.path.join(os.getcwd(), "a")


@pytest.mark.parametrize("path", ["gs://bucket", "gs://bucket/", "gs://bucket/a", "gs://bucket/a/"])
def test_around_a_bucket_there_is_nothing(path):
    assert files.parent(path) == "gs://bucket"
    assert files.parent("gs://bucket/a/b") == "gs://bucket/a"
    assert files.parent("a") == files.parent("a/") == os.getcwd()


def test_local_files_need_no_tensorflow(tmp_path):
    code = f"""
import sys
from od_eval import files, load_metrics
from od_eval.runs import best, metrics_files, model_dir, summary
files.write_whole({str(tmp_path / "a")!r}, "a")
assert files.read_text({str(tmp_path / "a")!r}) == "a"
model_dir.check_model_dir({str(tmp_path)!r})
assert best.read_best({str(tmp_path)!r}) is None
sys.exit("tensorflow" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_may_never_end_is_not_read(tmp_path, kind):
    path = str(tmp_path / "pipe") if kind == "pipe" else "/dev/zero"
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file but a pipe or a device"):
        files.read_bytes(path)
    with pytest.raises(ODEvalError, match=r"ground truth '.*' cannot be read: not a regular file"):
        files.read_json(path, "ground truth")


@pytest.mark.parametrize("name", ["a\0b", "a\ud800"])
def test_a_path_that_no_file_can_have_is_an_error_of_the_file_system(tmp_path, name):
    with pytest.raises(OSError, match="which no file name can have"):
        files.read_bytes(f"{tmp_path}/{name}")
    with pytest.raises(ODEvalError, match="which no file name can have"):
        files.write_whole(f"{tmp_path}/{name}/file", "")


def test_what_killed_processes_left_is_removed_and_what_living_ones_write_stays(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = files.temporary_path(tmp_path / "metrics" / "step-1.json").replace(f"-{os.getpid()}-", f"-{dead.pid}-")
    own = files.temporary_path(tmp_path / "best.json")
    elsewhere, old = (str(tmp_path / f"{name}.other-{dead.pid}-01234567.tmp") for name in ("new", "old"))
    for path in (left, own, elsewhere, old, str(tmp_path / "mine.tmp")):
        files.write_whole(path, "")
    os.utime(old, (0, 0))
    files.make_folder(left.replace("step-1", "exported"))
    files.remove_leftovers_below(tmp_path)
    assert files.names_in(tmp_path) == sorted(["metrics", "mine.tmp", *map(os.path.basename, (own, elsewhere))])
    assert files.names_in(tmp_path / "metrics") == []
    with files.temporary_folder(tmp_path) as folder:
        assert files.names_in(folder) == []
    assert not files.exists(folder)


def test_a_damaged_file_gets_another_name_each_time(tmp_path, capsys):
    for number in (1, 2):
        (tmp_path / "a").write_text(str(number))
        assert (
            files.set_aside(tmp_path / "a", f"'{tmp_path}/a' is damaged; delete it.")
            == f"{tmp_path}/a.damaged-{number}"
        )
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"warning: '{tmp_path}/a' is damaged; it was renamed to '{tmp_path}/a.damaged-1'."
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["1", "2"]


def test_checkpoints_are_found_by_their_names(folder):
    for name in (
        "ckpt-2.index",
        "ckpt-10.index",
        "ckpt-10.data-00000-of-00001",
        "ckpt-3.data-00000-of-00001",
        "ckpt-x",
    ):
        files.write_whole(f"{folder}/{name}", name)
    assert checkpoint_files.numbers_in(folder) == [2, 10], "3 has no index"
    ten = checkpoint_files.path_of(folder, 10)
    assert checkpoint_files.files_of(ten) == [f"{ten}.data-00000-of-00001", f"{ten}.index"]
    assert checkpoint_files.prefix_of(f"{ten}.index") == checkpoint_files.prefix_of(f"{ten}.data-00000-of-00001") == ten
    checkpoint_files.remove(ten)
    checkpoint_files.remove_interrupted(folder)
    assert files.names_in(folder) == ["ckpt-2.index", "ckpt-x"]
    assert checkpoint_files.numbers_in(f"{folder}/none") == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "{{function_node __wrapped__IteratorGetNext}} Unknown image file format. One of JPEG, PNG required.\n"
            "\t [[{{node case/cond/decode_image/DecodeImage}}]] [Op:IteratorGetNext] name: ",
            "Unknown image file format. One of JPEG, PNG required.",
        ),
        (
            "Graph execution error:\n\nDetected at node Assert defined at (most recent call last):\n"
            "<stack traces unavailable>\nassertion failed: [0.9] [0.1]\n\t [[{{node Assert}}]]\n"
            "\t [[IteratorGetNext]] [Op:__inference_step_3]",
            "assertion failed: [0.9] [0.1]",
        ),
        (
            "2 root error(s) found.\n  (0) INVALID_ARGUMENT:  Key: x.  Types differ\n\t [[{{node a}}]]",
            "Key: x.  Types differ",
        ),
        ("[[while/body/_1/while/IteratorGetNext]]", "OpError"),
    ],
)
def test_the_reason_of_a_tensorflow_error_is_found_among_its_lines(message, reason):
    import tensorflow as tf

    assert files.reason(tf.errors.OpError(None, None, message, 3)) == reason
