"""Counts over the pixels of a segmentation, from which all its metrics follow. They add up: over images, and processes.

Average precision needs the scores of all pixels in order. Kept is a histogram of them instead, for each class. Its bins
are narrow where a float32 is: 256 in each octave of p below 0.5, and of 1 - p above. So also classes whose scores are
all below 0.001, and models that are sure (1 - p of 1e-6), are ranked right: with 1,000 bins of equal width, AP was
wrong by up to 0.2 there. With these it was within 5e-4 of the exact AP in all cases tried, and exact for scores of few
levels, as of int8 models.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

IGNORED = -1

# The sign and exponent of a float32, and the first 8 of the 23 bits of its fraction.
_SHIFT = 23 - 8
# 1 - p of a float32 p below 1 is 2⁻²⁴ or more; what is smaller shares the first, or the last, bin.
_LEAST = np.float32(2.0**-25)
_FIRST = int(_LEAST.view(np.int32)) >> _SHIFT
_MIDDLE = (int(np.float32(0.5).view(np.int32)) >> _SHIFT) - _FIRST
NUM_BINS = 2 * _MIDDLE + 1

# The distance from the border of a class up to which its pixels count for boundary IoU, as a part of the diagonal.
_DILATION_RATIO = 0.02


@dataclasses.dataclass
class PixelCounts:
    """Counts over pixels; those that are ignored are in no other count than their own.

    Attributes:
      confusion: `[classes, classes]`, pixels by actual class (rows) and predicted class (columns).
      scores: `[classes, NUM_BINS]`, pixels by their score for the class.
      scores_of_class: `[classes, NUM_BINS]`, the same of the pixels that are of the class.
      sum_of_class: float64 `[classes]`, the sum of the scores of these.
      boundary: `[3, classes]`, pixels near the border of their class: actual, predicted, and both.
      ignored: the number of pixels that are ignored.
    """

    confusion: Ints
    scores: Ints
    scores_of_class: Ints
    sum_of_class: Floats
    boundary: Ints
    ignored: int

    @classmethod
    def zeros(cls, classes: int) -> PixelCounts:
        histogram = (classes, NUM_BINS)
        return cls(
            confusion=np.zeros((classes, classes), np.int64),
            scores=np.zeros(histogram, np.int64),
            scores_of_class=np.zeros(histogram, np.int64),
            sum_of_class=np.zeros(classes),
            boundary=np.zeros((3, classes), np.int64),
            ignored=0,
        )

    def add(self, other: PixelCounts) -> None:
        """Adds the counts of other pixels, which are not changed."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def add_image(self, actual: npt.NDArray[np.int16], scores: npt.NDArray[np.float32]) -> Ints:
        """Adds the pixels of an image.

        Args:
          actual: int16 `[height, width]`, the class of each pixel, or `IGNORED`.
          scores: float32 `[height, width, classes]`, from 0 to 1.

        Returns:
          The confusion matrix of this image.
        """
        classes = scores.shape[-1]
        predicted = scores.argmax(axis=-1).astype(np.int16)
        counts = actual != IGNORED
        if not counts.all():
            predicted[~counts] = IGNORED
        self.ignored += int(counts.size - np.count_nonzero(counts))
        self._add_boundaries(actual, predicted)
        of_class = actual[counts].astype(np.int64)
        confusion = np.bincount(of_class * classes + predicted[counts], minlength=classes**2)
        self.confusion += confusion.reshape(classes, classes)
        self.add_scores(of_class, scores.reshape(-1, classes) if counts.all() else scores[counts])
        return confusion.reshape(classes, classes)

    def _add_boundaries(self, actual: npt.NDArray[np.int16], predicted: npt.NDArray[np.int16]) -> None:
        near, near_predicted = near_border(actual), near_border(predicted)
        both = near & near_predicted & (actual == predicted)
        for row, of_pixels in enumerate((actual[near], predicted[near_predicted], actual[both])):
            self.boundary[row] += np.bincount(of_pixels[of_pixels != IGNORED], minlength=self.boundary.shape[1])

    def add_scores(self, of_class: Ints, scores: npt.NDArray[np.float32]) -> None:
        """Adds the scores of pixels: their classes `[n]`, none ignored, and float32 `[n, classes]`."""
        classes = scores.shape[1]
        num = classes * NUM_BINS
        of_own = scores[np.arange(len(scores)), of_class]
        self.sum_of_class += np.bincount(of_class, weights=of_own, minlength=classes)
        bins = np.bincount(bins_of(of_own) + of_class * NUM_BINS, minlength=num)
        self.scores_of_class += bins.reshape(classes, NUM_BINS)
        first_bins = np.arange(classes) * NUM_BINS
        rows = max(2**18, 2 * num) // classes  # what the processor's cache holds, but not less than there are bins
        for first in range(0, len(scores), rows):
            bins = bins_of(scores[first : first + rows])
            bins += first_bins
            self.scores += np.bincount(bins.reshape(-1), minlength=num).reshape(classes, NUM_BINS)


def bins_of(scores: npt.NDArray[np.float32]) -> Ints:
    """The bin of each score, from 0 to `NUM_BINS - 1`, ascending with the score.

    Args:
      scores: float32, contiguous, of any shape; what is below 0 or above 1 by rounding is in the first or last bin.
    """
    bins: Ints = (np.maximum(scores, _LEAST).view(np.int32) >> _SHIFT).astype(np.int64)
    bins -= _FIRST
    high = np.flatnonzero(scores > 0.5)  # few: one class of a pixel, if its probabilities sum to 1
    from_one = np.maximum(1 - scores.reshape(-1)[high], _LEAST)
    bins.reshape(-1)[high] = 2 * _MIDDLE + _FIRST - (from_one.view(np.int32) >> _SHIFT)
    return bins


def near_border(classes: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    """Which pixels are near the border of their class, as in boundary IoU (Cheng et al., CVPR 2021).

    These are the pixels that an erosion with a square of 3 × 3, repeated `d` times, takes from the mask of the class:
    all whose square of 2d + 1 pixels is not of one class, or leaves the image. `d` is 2% of the image's diagonal.

    Args:
      classes: `[height, width]`, the class of each pixel, or `IGNORED`, which is as good as another class.
    """
    size = 2 * max(1, round(_DILATION_RATIO * float(np.hypot(*classes.shape)))) + 1
    outside = IGNORED - 1
    least: npt.NDArray[Any] = ndimage.minimum_filter(classes, size, mode="constant", cval=outside)
    near: npt.NDArray[np.bool_] = least != ndimage.maximum_filter(classes, size, mode="constant", cval=outside)
    return near
