"""
Latency histograms: the only place where a quantile is computed.

The layout is HdrHistogram's with lowest value 1, highest 1 h in ns and two
significant digits: 4608 slots, 128 linear steps per power of two, so a value read
back is at most 1/128 too high and never too low. The kernel, the in-process probe
and numpy use the same slot for the same value, so counts add and subtract.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracekit.errors import EmptyHistogramError

SLOTS = 4608
STEP_BITS = 7
STEPS = 1 << STEP_BITS
HIGHEST = (1 << 42) - 1
"""Largest value with a slot of its own, ns; larger ones are clamped and counted as loss."""

Counts = NDArray[np.uint64]
"""uint64[SLOTS], events per slot."""


def _edges() -> tuple[Counts, Counts]:
    slot = np.arange(SLOTS, dtype=np.uint64)
    octave = np.maximum(slot >> np.uint64(STEP_BITS), np.uint64(1)) - np.uint64(1)
    step = slot - (octave << np.uint64(STEP_BITS))
    lower = step << octave
    return lower, ((step + np.uint64(1)) << octave) - np.uint64(1)


LOWER_EDGE, UPPER_EDGE = _edges()
"""uint64[SLOTS]: smallest and largest value of each slot, ascending."""


def slots_of(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the slot of each value; values above HIGHEST are clamped."""
    clamped = np.minimum(np.asarray(values, dtype=np.uint64), np.uint64(HIGHEST))
    return np.asarray(np.searchsorted(UPPER_EDGE, clamped), dtype=np.int64)


def rank_of(q: float, total: int) -> int:
    """
    Return the rank, 1..total, of the event that quantile *q* of *total* events names.

    Source:
        HdrHistogram (Java, AbstractHistogram.getValueAtPercentile): one ulp down, then
        up to the next integer, so that 0.07 of 100 is rank 7 and not 8.
    """
    if not 0 < q <= 1:
        raise ValueError(f"q is a share in (0, 1], got {q}")
    return max(1, math.ceil(math.nextafter(q, 0.0) * total))


def quantile(counts: Counts, q: float) -> int:
    """
    Return a value that a share *q* of the events did not exceed.

    Args:
        counts: uint64[SLOTS], events per slot.
        q: share of the events, 0 < q <= 1; 0.99 is the p99.

    Returns:
        Upper edge of the slot that holds the event of rank_of(q, n): between the
        exact sample quantile and 129/128 of it.

    Raises:
        EmptyHistogramError: no events.
        ValueError: *q* outside (0, 1].
    """
    total = int(counts.sum())
    rank = rank_of(q, total)
    if total == 0:
        raise EmptyHistogramError("cannot take a quantile: the histogram has no events")
    return int(UPPER_EDGE[np.searchsorted(np.cumsum(counts), np.uint64(rank))])


@dataclass(frozen=True, eq=False)
class Histogram:
    """
    Counts with what the slots cannot keep: exact sum, smallest and largest value.

    `total`, `low` and `high` are in the unit of the values; low and high of no events are 0.
    """

    counts: Counts
    total: int
    low: int
    high: int

    @property
    def count(self) -> int:
        """Number of events."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Exact mean of the values. Raises EmptyHistogramError."""
        if not self.count:
            raise EmptyHistogramError("cannot take a mean: the histogram has no events")
        return self.total / self.count

    def quantile(self, q: float) -> int:
        """Return `quantile(counts, q)`, never above the largest value seen."""
        return min(quantile(self.counts, q), self.high)

    def share_above(self, limit: int) -> float:
        """
        Return the share of events in slots wholly above *limit*; 0 of no events.

        The slot that holds *limit* counts as not above, as `quantile` reports its upper edge.
        """
        total = self.count
        above = int(self.counts[int(slots_of(np.array([limit], dtype=np.uint64))[0]) + 1 :].sum())
        return above / total if total else 0.0


def empty() -> Histogram:
    """Return a histogram of no events."""
    return Histogram(np.zeros(SLOTS, dtype=np.uint64), 0, 0, 0)


def of_values(values: NDArray[np.uint64]) -> Histogram:
    """Return the histogram of *values* (any shape, >= 0)."""
    flat = np.asarray(values, dtype=np.uint64).ravel()
    if not flat.size:
        return empty()
    counts = np.bincount(slots_of(flat), minlength=SLOTS).astype(np.uint64)
    return Histogram(counts, int(flat.sum()), int(flat.min()), int(flat.max()))


def merge(parts: list[Histogram]) -> Histogram:
    """Return the histogram of all events of *parts*."""
    filled = [part for part in parts if part.counts.any()]
    if not filled:
        return empty()
    counts: Counts = np.stack([part.counts for part in filled]).sum(axis=0)
    low, high = min(part.low for part in filled), max(part.high for part in filled)
    return Histogram(counts, sum(part.total for part in filled), low, high)
