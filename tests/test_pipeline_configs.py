"""The configs of pipeline_configs/ and of the quickstart: each trains."""

from pathlib import Path

import pytest

from od_eval import Detector, Pipeline
from od_eval.odapi.checkpoints import Checkpoints

REPOSITORY = Path(__file__).parents[1]
CONFIGS = [
    *sorted((REPOSITORY / "pipeline_configs").glob("*.config")),
    REPOSITORY / "od_eval" / "programs" / "quickstart.config",
]


def test_there_is_a_config_for_each_family():
    families = (
        "centernet",
        "efficientdet",
        "faster_rcnn",
        "mask_rcnn",
        "ssd_mobilenet_v2_9",
        "ssd_mobilenet_v2_fpnlite",
    )
    assert [family for family in families if not any(config.name.startswith(family) for config in CONFIGS)] == []


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_the_losses_of_a_config_fall_and_its_checkpoint_comes_back(config, config_overrides, tmp_path):
    overrides = [*config_overrides, "model.ssd.num_classes=4"] if "raccoon" in config.name else config_overrides
    pipeline = Pipeline.load(config, overrides)
    detector = Detector(pipeline)
    detector.compile()
    history = detector.fit(pipeline.train_dataset(), epochs=4, steps_per_epoch=8, verbose=0).history
    assert set(history) >= {"total_loss", "classification_loss", "localization_loss", "regularization_loss"}
    assert ("Loss/BoxClassifierLoss/mask_loss" in history) == config.name.startswith("mask_rcnn")
    parts = ("classification_loss", "localization_loss", "regularization_loss", "other_loss")
    for epoch, total in enumerate(history["total_loss"]):
        assert total == pytest.approx(sum(history[part][epoch] for part in parts if part in history), rel=1e-5)
    assert history["total_loss"][-1] < history["total_loss"][0]

    saved = Checkpoints(detector, str(tmp_path)).save()
    again = Detector(pipeline)
    again.compile()
    assert Checkpoints(again, str(tmp_path)).restore_newest() == saved
    assert again.steps_done == 32
    for ours, theirs in zip(detector.model.variables, again.model.variables, strict=True):
        assert (ours.numpy() == theirs.numpy()).all(), ours.name
