"""The example runs, on a few images and steps."""

import runpy
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def test_the_notebook_trains_evaluates_and_keeps_the_best(config_overrides, tmp_path, monkeypatch, capsys):
    cells = (REPOSITORY / "examples" / "notebook.py").read_text()
    for before, after in {
        'Pipeline.load("pipeline_configs/ssd_mobilenet_v2_96x96.config")': (
            f"Pipeline.load({str(REPOSITORY)!r} + '/pipeline_configs/ssd_mobilenet_v2_96x96.config',"
            f" {config_overrides})"
        ),
        "EPOCHS, STEPS_PER_EPOCH = 10, 20": "EPOCHS, STEPS_PER_EPOCH = 2, 2",
    }.items():
        assert before in cells
        cells = cells.replace(before, after)
    (tmp_path / "notebook.py").write_text(cells)
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(tmp_path / "notebook.py"))

    rows = (tmp_path / "runs" / "notebook" / "epochs.csv").read_text().splitlines()
    columns = dict(zip(rows[0].split(","), rows[2].split(","), strict=True))
    assert float(columns["val_AP"]) == found["metrics"]["bbox"]["AP"] == found["history"].history["val_AP"][1]
    assert float(columns["val_total_loss"]) > 0
    assert set(found["total_loss"].columns) == {"train", "eval"}
    assert found["detector"].steps_done in (2, 4)  # of the best checkpoint
    assert "eval at step 4: AP" in capsys.readouterr().out
