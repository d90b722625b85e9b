"""Running means: of losses over the images of an evaluation, or over the steps of an epoch."""

from __future__ import annotations

from collections.abc import Mapping


class RunningMeans:
    """Weighted means of values by name.

    Attributes:
      weight: the total weight: the number of images, or of steps.
    """

    def __init__(self) -> None:
        self.weight = 0
        self._sums: dict[str, float] = {}

    def add(self, values: Mapping[str, float], weight: int) -> None:
        """Adds values, each the mean over `weight` images or steps."""
        self.weight += weight
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + weight * value

    def merge(self, other: RunningMeans) -> None:
        """Adds the values of another instance, which is not changed."""
        self.weight += other.weight
        for name, value in other._sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def result(self) -> dict[str, float]:
        """Name -> mean; empty if nothing was added."""
        return {name: value / self.weight for name, value in self._sums.items()}
