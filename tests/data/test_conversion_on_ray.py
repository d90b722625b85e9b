"""A conversion on Ray writes the files that one process writes, also if its workers are killed."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psutil
import pytest

from od_eval.data.conversion import convert_dataset
from od_eval.errors import ODEvalError


@pytest.fixture
def csv(tmp_path, write_image) -> Path:
    """600 images that take about a millisecond each, one of them broken."""
    write_image(tmp_path / "large.jpg", (400, 300))
    (tmp_path / "photos").mkdir()
    rows = ["filename,class,xmin,ymin,xmax,ymax"]
    for index in range(600):
        (tmp_path / "photos" / f"{index}.jpg").hardlink_to(tmp_path / "large.jpg")
        rows.append(f"{index}.jpg,{'cat' if index % 3 else 'dog'},1,2,{10 + index / 8},20")
    (tmp_path / "photos" / "7.jpg").unlink()
    (tmp_path / "photos" / "7.jpg").write_bytes(b"no image")
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    return tmp_path / "boxes.csv"


def convert(csv: Path, out: str, **where) -> dict[str, bytes]:
    folder = csv.parent / out
    convert_dataset(csv, folder, images_dir=csv.parent / "photos", num_shards=12, **where)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def kill_workers(folder: Path, killed: list[int]) -> None:
    """Kills the workers of Ray while they write a file that is not the first."""
    while not list(folder.glob("train-?????-of-?????")) or not list(folder.glob("*.tmp")):
        time.sleep(0.001)
    for process in psutil.Process().children(recursive=True):
        if "".join(process.cmdline()[:1]).startswith("ray::_call"):
            process.kill()
            killed.append(process.pid)


def test_the_files_are_those_of_one_process_although_workers_are_killed(csv, ray_cluster) -> None:
    killed: list[int] = []
    killer = threading.Thread(target=kill_workers, args=(csv.parent / "b" / ".unfinished", killed), daemon=True)
    killer.start()
    on_ray = convert(csv, "b", ray="auto")
    killer.join(timeout=10)
    assert killed
    assert on_ray == convert(csv, "a", num_workers=1)
    assert len(on_ray) == 15


def test_folders_that_a_worker_does_not_see_are_said_so(csv, ray_cluster) -> None:
    from od_eval import files

    folder = "ram://photos-of-one-process"
    for name in ("1.jpg", "2.jpg"):
        files.write_whole(f"{folder}/{name}", (csv.parent / "photos" / name).read_bytes())
    with pytest.raises(ODEvalError, match=f"^'{folder}' is not there on machine .*, where a worker runs; all machines"):
        convert_dataset(csv, csv.parent / "out", images_dir=folder, ray="auto")
    assert not (csv.parent / "out").exists()


def test_processes_and_ray_are_not_both_asked_for(csv) -> None:
    with pytest.raises(ODEvalError, match="num_workers=2 is of this machine, and ray=auto of a cluster"):
        convert(csv, "out", ray="auto", num_workers=2)
