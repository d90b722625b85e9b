"""Finds images that look alike by their perceptual hashes, among many."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pandas as pd

# Of 64 bits. A photograph that is resized or encoded anew keeps all but up to 6; different photographs differ in more
# than 12 (`od_eval.findings.image_measures.perceptual_hash`).
MOST_DIFFERENT_BITS = 6
# Standard deviation of the luma: the hash of a plain image (black frames, blank pages) is that of its noise.
LEAST_CONTRAST = 0.02

_BITS = 64
_FIRST_BLOCK, _LARGEST_BLOCK = 64, 1 << 16  # candidates of a hash that are compared at once
_MOST_CANDIDATES = 1 << 21  # of all hashes together, so that memory stays below 100 MB
_NUM_BITS = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)

Hashes = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]


def hashes_of(images: pd.DataFrame) -> tuple[Positions, Hashes]:
    """The perceptual hashes of the images that have one that tells them apart.

    Args:
      images: of a survey.

    Returns:
      Their rows, int64 `[n]`, and their hashes, uint64 `[n]`.
    """
    known = (images["perceptual_hash"].astype(str) != "") & ~(images["contrast"] < LEAST_CONTRAST)
    rows = np.flatnonzero(known.to_numpy(bool))
    return rows, np.array([int(text, 16) for text in images["perceptual_hash"].iloc[rows]], np.uint64)


def similar(hashes: Hashes, others: Hashes, bits: int = MOST_DIFFERENT_BITS) -> Positions:
    """For each hash one of the others that differs from it in few bits.

    Exact, without comparing all with all: of two hashes that differ in at most n bits, at least one of n + 1 bands of
    bits is the same (pigeonhole principle).

    Args:
      hashes: uint64 `[n]`.
      others: uint64 `[m]`.
      bits: the number of bits, of 64, in which two that are similar differ at most.

    Returns:
      int64 `[n]`: the position in `others`; -1 where there is none.
    """
    values, inverse = np.unique(hashes, return_inverse=True)
    known, first = np.unique(others, return_index=True)
    return _partners(values, known, first, bits, same=False)[inverse]


def similar_to_another(hashes: Hashes, bits: int = MOST_DIFFERENT_BITS) -> npt.NDArray[np.bool_]:
    """For each hash whether another one differs from it in few bits; see `similar`. bool `[n]`."""
    values, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    alone = counts == 1
    found = ~alone
    # What occurs once may be similar to what occurs more often, too.
    partners = _partners(values, values, np.arange(len(values)), bits, same=True)
    return np.asarray((found | (partners >= 0))[inverse], np.bool_)


def _partners(values: Hashes, others: Hashes, positions: Positions, bits: int, *, same: bool) -> Positions:
    """As `similar`, of hashes without repetitions; `positions` is what to return, and `same` ignores equal hashes."""
    partners = np.full(len(values), -1, np.int64)
    if not len(others):
        return partners
    if not same:
        at = np.minimum(np.searchsorted(others, values), len(others) - 1)
        equal = others[at] == values
        partners[equal] = positions[at[equal]]
    edges = np.linspace(0, _BITS, bits + 2).astype(int)
    for low, high in itertools.pairwise(edges):
        mask = np.uint64((1 << int(high - low)) - 1)
        keys = (others >> np.uint64(low)) & mask
        order = np.argsort(keys, kind="stable")
        missing = np.flatnonzero(partners < 0)
        wanted = (values[missing] >> np.uint64(low)) & mask
        start = np.searchsorted(keys[order], wanted, "left")
        end = np.searchsorted(keys[order], wanted, "right")
        # In blocks: where very many are alike (a camera that stands still), the first ones do.
        block = _FIRST_BLOCK
        while len(missing):
            for part in np.array_split(np.arange(len(missing)), 1 + len(missing) * block // _MOST_CANDIDATES):
                lengths = np.minimum(end[part] - start[part], block)
                owner = np.repeat(part, lengths)
                offset = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
                candidate = order[start[owner] + offset]
                differing = _different_bits(values[missing[owner]], others[candidate])
                near = (differing <= bits) & (differing > 0 if same else True)
                partners[missing[owner[near]]] = positions[candidate[near]]
            start = start + block
            left = (partners[missing] < 0) & (start < end)
            missing, start, end = missing[left], start[left], end[left]
            block = min(4 * block, _LARGEST_BLOCK)
    return partners


def _different_bits(first: Hashes, second: Hashes) -> npt.NDArray[np.int64]:
    words = np.ascontiguousarray(first ^ second).view(np.uint16).reshape(-1, 4)
    return np.asarray(_NUM_BITS[words].sum(axis=1), np.int64)
