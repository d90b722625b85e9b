"""Good values of metrics, by convention."""

from __future__ import annotations

from collections.abc import Iterable

# Rules of thumb for detectors of a few classes on images that they were not trained with, as tools for custom detectors
# give them (docs.useocular.com/build-ai/model-evaluation, for example). They are for boxes; there is none for other
# metrics. On COCO, with its 80 classes, models that are published reach less.
GOOD_VALUES = {
    "AP": "0.45–0.65",
    "AP50": "0.85–0.95",
    "precision": "over 0.9",
    "recall": "over 0.9",
}


def good_values(names: Iterable[str]) -> str:
    """The good values of those metrics for which there is a convention: `AP 0.45–0.65, AP50 0.85–0.95`."""
    return ", ".join(f"{name} {GOOD_VALUES[name]}" for name in names if name in GOOD_VALUES)
