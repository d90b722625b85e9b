"""Training from a model of the TF2 model zoo: an archive of its layout, from a server on loopback or put by hand."""

import functools
import http.server
import os
import re
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest
import tensorflow as tf

from od_eval import Detector, ODEvalError, Pipeline
from od_eval.odapi import zoo
from od_eval.odapi.checkpoints import load_fine_tune_checkpoint
from od_eval.odapi.placeholder import PLACEHOLDER

REPOSITORY = Path(__file__).parents[2]
NAME = "ssd_mobilenet_v2_320x320"
ARCHIVE = f"{NAME}_coco17_tpu-8"
NOWHERE = "http://127.0.0.1:9"  # the discard port, where nothing listens


def error_of(function, *args, **kwargs):
    with pytest.raises(ODEvalError) as raised:
        function(*args, **kwargs)
    return str(raised.value)


def config_as_in_the_zoo(ssd_config):
    readers = [
        f"{reader}.{field}={PLACEHOLDER}"
        for reader in ("train_input_reader", "eval_input_reader")
        for field in ("label_map_path", "tf_record_input_reader.input_path")
    ]
    return Pipeline.load(
        ssd_config,
        [
            *readers,
            "model.ssd.num_classes=90",
            f"train_config.fine_tune_checkpoint={PLACEHOLDER}/mobilenet_v2.ckpt-1",
            "train_config.fine_tune_checkpoint_type=classification",
        ],
    )


@pytest.fixture(scope="module")
def donor(ssd_config):
    """A detector of 90 classes with weights like no other."""
    detector = Detector(config_as_in_the_zoo(ssd_config))
    for number, variable in enumerate(detector.model.variables):
        variable.assign(tf.fill(variable.shape, tf.cast(number + 1, variable.dtype)))
    return detector


@pytest.fixture(scope="module")
def archive(ssd_config, donor, tmp_path_factory):
    """An archive of the zoo's layout, with the smallest model, in the folders of the zoo's server."""
    folder = tmp_path_factory.mktemp("zoo")
    model = folder / ARCHIVE
    checkpoint = tf.train.Checkpoint(model=donor.model)
    tf.train.CheckpointManager(checkpoint, str(model / "checkpoint"), 1).save(checkpoint_number=0)
    config_as_in_the_zoo(ssd_config).save(model)
    (model / "saved_model").mkdir()
    (model / "saved_model" / "saved_model.pb").write_bytes(b"not used")
    path = folder / "served" / f"{zoo.ARCHIVES[NAME]}.tar.gz"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as file:
        file.add(model, ARCHIVE)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder for archives, in an empty cache, where no model is served."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(zoo, "BASE_URL", NOWHERE)
    return tmp_path / "keras" / "od_eval_zoo"


@pytest.fixture
def serve(monkeypatch, cache):
    """Serves a folder, or of each file only a part before it hangs up; returns the paths that were asked for."""
    servers = []

    def start(folder, part=1.0):
        asked = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *args):
                asked.append(self.path)

            def copyfile(self, source, outputfile):
                contents = source.read()
                outputfile.write(contents[: int(part * len(contents))])

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
        threading.Thread(target=server.serve_forever).start()
        servers.append(server)
        monkeypatch.setattr(zoo, "BASE_URL", f"http://127.0.0.1:{server.server_port}")
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def put_by_hand(archive, cache):
    cache.mkdir(parents=True)
    (cache / archive.name).write_bytes(archive.read_bytes())


def repacked(path, folder, *members):
    """An archive of (name, file) of the zoo's model."""
    with tarfile.open(path, "w:gz") as file:
        for name, source in members:
            file.add(folder / source, name, recursive=False)


def names_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


KEPT = {
    f"{ARCHIVE}.tar.gz",
    f"{ARCHIVE}/pipeline.config",
    f"{ARCHIVE}/checkpoint/ckpt-0.index",
    f"{ARCHIVE}/checkpoint/ckpt-0.data-00000-of-00001",
}


# ---- Names --------------------------------------------------------------------------------------------------------


def test_a_name_is_that_of_the_archive_or_begins_it():
    assert len(zoo.ARCHIVES) == len(set(zoo.ARCHIVES.values())) == 42
    for name, path in zoo.ARCHIVES.items():
        assert re.fullmatch(r"20\d{6}/[\w-]+", path)
        assert path.partition("/")[2].startswith(name.removesuffix("_kpts"))
        assert ("kpts" in name) == ("kpts" in path)


def test_an_unknown_name_is_answered_with_the_nearest(cache):
    message = error_of(zoo.fetch, "ssd_mobilenet_v2_fpnlite_300x300")
    assert re.match(r"zoo=ssd_mobilenet_v2_fpnlite_300x300 is not a model of the zoo; the nearest are '", message)
    assert "'ssd_mobilenet_v2_fpnlite_320x320'" in message
    assert "nearest" not in error_of(zoo.fetch, "?")
    assert not cache.exists()


# ---- Download and cache -------------------------------------------------------------------------------------------


def test_a_model_is_downloaded_once_and_training_starts_from_it(serve, cache, archive, donor, config_overrides):
    asked = serve(archive.parents[1])
    first = Pipeline.load(zoo=NAME, overrides=config_overrides)
    checkpoint = cache / ARCHIVE / "checkpoint" / "ckpt-0"
    assert first.zoo_remark == (
        f"{ARCHIVE} of the model zoo (downloaded from {zoo.BASE_URL}/20200711/{ARCHIVE}.tar.gz): fine_tune_checkpoint"
        f" is {checkpoint}, of type detection; num_classes was 90 and is now 4."
    )
    assert names_below(cache) == KEPT
    again = Pipeline.load(zoo=ARCHIVE, overrides=config_overrides)
    assert asked == [f"/20200711/{ARCHIVE}.tar.gz"]
    assert "(in the cache)" in again.zoo_remark
    assert again.config == first.config
    assert first.config.train_config.fine_tune_checkpoint == str(checkpoint)
    assert first.num_classes == 4

    detector = Detector(first)
    load_fine_tune_checkpoint(detector, first.config.train_config)
    for ours, theirs in zip(detector.model.variables, donor.model.variables, strict=True):
        is_same = ours.shape == theirs.shape and bool(tf.reduce_all(ours == theirs))
        assert is_same == ("BoxPredictor" not in ours.name), ours.name


def test_without_network_the_folder_for_the_archive_is_named(cache, archive, config_overrides):
    message = error_of(Pipeline.load, zoo=NAME, overrides=config_overrides)
    assert re.fullmatch(
        rf"{NOWHERE}/20200711/{ARCHIVE}\.tar\.gz cannot be downloaded \(.*Connection refused\); get it in another way"
        rf" and put the archive into {re.escape(str(cache))}\.",
        message,
    )
    assert names_below(cache) == set()
    (cache / archive.name).write_bytes(archive.read_bytes())
    pipeline = Pipeline.load(zoo=NAME, overrides=config_overrides)
    assert f"(unpacked from {cache / archive.name})" in pipeline.zoo_remark
    assert names_below(cache) == KEPT


def test_a_model_that_is_not_served_is_an_error_with_the_servers_reason(serve, cache, tmp_path):
    serve(tmp_path)
    assert "cannot be downloaded (File not found)" in error_of(zoo.fetch, NAME)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.999])
def test_a_truncated_download_does_not_stay_in_the_cache(serve, cache, archive, part):
    serve(archive.parents[1], part)
    message = error_of(zoo.fetch, NAME)
    assert re.fullmatch(
        rf"what was downloaded from \S+/{ARCHIVE}\.tar\.gz cannot be unpacked \(.+\) and was removed; start again, or"
        rf" put the archive into {re.escape(str(cache))} by hand\.",
        message,
    )
    assert names_below(cache) == set()
    serve(archive.parents[1])
    assert zoo.fetch(NAME).origin.startswith("downloaded")


def test_a_damaged_archive_that_was_put_by_hand_is_left_there(cache, archive):
    put_by_hand(archive, cache)
    broken = bytearray(archive.read_bytes())
    broken[len(broken) // 2] ^= 1
    (cache / archive.name).write_bytes(broken)
    message = error_of(zoo.fetch, NAME)
    assert re.match(
        rf"{re.escape(str(cache / archive.name))} cannot be unpacked \(.+\); replace it by http://", message
    )
    assert names_below(cache) == {archive.name}


def test_an_archive_writes_nothing_outside_of_its_folder(cache, archive, tmp_path):
    model = archive.parents[2] / ARCHIVE
    cache.mkdir(parents=True)
    data = "checkpoint/ckpt-0.data-00000-of-00001"
    repacked(
        cache / archive.name,
        model,
        ("../../../pipeline.config", "pipeline.config"),
        (f"{tmp_path}/ckpt-0.index", "checkpoint/ckpt-0.index"),
        (f"../{data}", data),
        ("../../evil", "pipeline.config"),
    )
    before = names_below(tmp_path)
    zoo.fetch(NAME)
    assert {name.removeprefix("keras/od_eval_zoo/") for name in names_below(tmp_path) - before} == KEPT - {archive.name}


def test_the_folder_in_an_archive_and_the_number_of_its_checkpoint_may_be_others(cache, archive):
    name = "centernet_mobilenetv2fpn_512x512"
    model = archive.parents[2] / ARCHIVE
    members = [
        (f"centernet_mobilenetv2_fpn_od/checkpoint/ckpt-301{end}", f"checkpoint/ckpt-0{end}")
        for end in (".index", ".data-00000-of-00001")
    ]
    cache.mkdir(parents=True)
    repacked(cache / f"{name}_coco17_od.tar.gz", model, *members)
    assert zoo.fetch(name).checkpoint == str(cache / f"{name}_coco17_od" / "checkpoint" / "ckpt-301")


def test_a_model_without_a_config_asks_for_one(cache, archive, ssd_config, config_overrides):
    cache.mkdir(parents=True)
    members = [(f"extremenet/ckpt-1{end}", f"checkpoint/ckpt-0{end}") for end in (".index", ".data-00000-of-00001")]
    repacked(cache / "extremenet.tar.gz", archive.parents[2] / ARCHIVE, *members)
    assert error_of(Pipeline.load, zoo="extremenet") == (
        "extremenet of the model zoo has no pipeline.config; pass the path of one, pipeline_config_path=PATH."
    )
    pipeline = Pipeline.load(ssd_config, config_overrides, zoo="extremenet")
    assert pipeline.config.train_config.fine_tune_checkpoint.endswith("extremenet/checkpoint/ckpt-1")


def test_an_archive_without_a_checkpoint_is_an_error(cache, archive):
    cache.mkdir(parents=True)
    repacked(cache / archive.name, archive.parents[2] / ARCHIVE, ("a/pipeline.config", "pipeline.config"))
    assert "cannot be unpacked (there is no checkpoint in it)" in error_of(zoo.fetch, NAME)
    (cache / ARCHIVE).mkdir()
    assert "has no checkpoint; remove it" in error_of(zoo.fetch, NAME)


# ---- What is set --------------------------------------------------------------------------------------------------


@pytest.fixture
def cached(cache, archive):
    put_by_hand(archive, cache)


def test_overrides_win_over_what_the_zoo_sets(cached, config_overrides, tmp_path):
    overrides = [*config_overrides, "model.ssd.num_classes=90", "train_config { fine_tune_checkpoint_type: 'full' }"]
    pipeline = Pipeline.load(zoo=NAME, overrides=overrides)
    assert pipeline.num_classes == 90
    assert pipeline.zoo_remark.endswith("of type full; num_classes is 90, as set.")


def test_a_config_of_ones_own_begins_from_the_zoos_checkpoint(cached, ssd_config, config_overrides):
    theirs = Pipeline.load(ssd_config, [*config_overrides, "model.ssd.num_classes=7"])
    path = Path(theirs.config.train_input_reader.label_map_path).parent / "mine.config"
    path.write_text(theirs.text())
    ours = Pipeline.load(path, zoo=NAME)
    assert ours.zoo_remark.endswith("num_classes was 7 and is now 4.")
    train_config = ours.config.train_config
    assert train_config.fine_tune_checkpoint_type == "detection"
    for field in ("fine_tune_checkpoint", "fine_tune_checkpoint_type", "fine_tune_checkpoint_version"):
        train_config.ClearField(field)
        theirs.config.train_config.ClearField(field)
    theirs.config.model.ssd.num_classes = 4
    assert ours.config == theirs.config


def test_a_label_map_that_cannot_be_read_is_named_by_the_checks_of_the_input(cached, config_overrides):
    for path, complaint in (("/no/label_map.pbtxt", "label map '/no/label_map.pbtxt' does not exist"), (None, "still")):
        overrides = [f"train_input_reader.label_map_path={path}"] if path else []
        pipeline = Pipeline.load(zoo=NAME, overrides=[*(config_overrides if path else []), *overrides])
        assert pipeline.zoo_remark.endswith("num_classes is 90.")
        assert complaint in error_of(pipeline.train_dataset)


# ---- The program --------------------------------------------------------------------------------------------------


def run(model_dir, overrides, *flags):
    """The program without network: connections to anywhere are refused."""
    program = [sys.executable, REPOSITORY / "scripts" / "model_main_tf2.py", f"--model_dir={model_dir}", *flags]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "http_proxy": NOWHERE}
    command = [*program, *(f"--set={override}" for override in overrides)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_program_trains_from_an_archive_put_by_hand_and_continues(cached, config_overrides, tmp_path):
    flags = (f"--zoo={NAME}", "--eval_every_n=0", "--record_summaries=false")
    first = run(tmp_path / "run", config_overrides, *flags, "--num_train_steps=1")
    assert first.returncode == 0, first.stderr
    assert re.search(
        rf"^{ARCHIVE} of the model zoo \(unpacked from .*num_classes was 90 and is now 4\.$", first.stdout, re.M
    )
    second = run(tmp_path / "run", config_overrides, *flags, "--num_train_steps=2")
    assert second.returncode == 0, second.stderr
    assert re.search(rf"^{ARCHIVE} of the model zoo \(in the cache\)", second.stdout, re.M)
    assert f"Continuing from {tmp_path}/run/ckpt-2, step 1." in second.stdout
    assert Pipeline.load(tmp_path / "run" / "pipeline.config").num_classes == 4


def test_the_program_says_in_a_sentence_that_there_is_no_network(cache, config_overrides, tmp_path):
    process = run(tmp_path / "run", config_overrides, f"--zoo={NAME}")
    assert process.returncode == 1
    error = process.stderr.strip().splitlines()[-1]
    assert re.match(rf"error: http://\S+/20200711/{ARCHIVE}\.tar\.gz cannot be downloaded \(.*refused\); ", error)
    assert error.endswith(f"put the archive into {cache}.")
    assert "Traceback" not in process.stderr


def test_the_program_needs_a_config_or_a_model_of_the_zoo(tmp_path):
    process = run(tmp_path / "run", [])
    assert process.returncode == 2
    assert "pass --pipeline_config_path, or --zoo" in process.stderr
    unknown = run(tmp_path / "run", [], "--zoo=ssd_mobilenet")
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("error: --zoo=ssd_mobilenet is not a model of the zoo; the nearest are 'ssd_")
