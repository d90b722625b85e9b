"""Running means: of losses over the images of an evaluation, or over the steps of an epoch."""

from __future__ import annotations

from collections.abc import Mapping


class RunningMeans:
    """Weighted means of values by name.

    Attributes:
      weight: of all that was added: the number of images, or of steps.
    """

    def __init__(self) -> None:
        self.weight = 0
        self._sums: dict[str, float] = {}

    def add(self, values: Mapping[str, float], weight: int) -> None:
        """Adds values, each the mean over so many images or steps."""
        self.weight += weight
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + weight * value

    def merge(self, other: RunningMeans) -> None:
        """Adds what was added to another one, which stays as it is."""
        self.weight += other.weight
        for name, value in other._sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def result(self) -> dict[str, float]:
        """Name -> mean; empty if nothing was added."""
        return {name: value / self.weight for name, value in self._sums.items()}
