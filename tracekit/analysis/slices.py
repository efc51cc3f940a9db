"""The events of some series interval by interval, sparse: an hour of seconds is as many rows as slots that were hit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tracekit.histogram import HIGHEST, LOWER_EDGE, SLOTS, UPPER_EDGE, Histogram, slots_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Floats = NDArray[np.float64]

MIDDLE = (LOWER_EDGE.astype(np.float64) + UPPER_EDGE) / 2
"""float64[SLOTS], the value an event of a slot is taken for where its own is not kept."""

_LARGEST = (1 << 63) - 1


@dataclass(frozen=True, eq=False)
class Slices:
    """
    Histograms of successive intervals.

    Attributes:
        interval, slot, count: int64, one element a slot that was hit; intervals ascend, numbered from 0.
        total, low, high: of each interval, as of a Histogram; float64[intervals] and int64[intervals].
    """

    interval: Numbers
    slot: Numbers
    count: Numbers
    total: Floats
    low: Numbers
    high: Numbers

    @cached_property
    def events(self) -> Floats:
        """Number of events, float64[intervals]."""
        return self._sum(np.ones(len(self.slot), dtype=bool))

    @cached_property
    def whole(self) -> Histogram:
        """All events."""
        counts = np.bincount(self.slot, self.count, SLOTS).astype(np.uint64)
        filled = self.events > 0
        if not filled.any():
            return Histogram(counts, 0, 0, 0)
        return Histogram(counts, round(self.total.sum()), int(self.low[filled].min()), int(self.high[filled].max()))

    def up_to(self, value: float) -> Floats:
        """Return how many events are in slots up to that of *value*, float64[intervals]."""
        return self._sum(self.slot <= int(slots_of(np.array([value], dtype=np.uint64))[0]))

    def pick(self, numbers: Numbers) -> Slices:
        """Return the intervals *numbers* (ascending) alone."""
        place = np.full(len(self.total), -1, dtype=np.int64)
        place[numbers] = np.arange(len(numbers))
        new = place[self.interval]
        keep = new >= 0
        return Slices(
            new[keep], self.slot[keep], self.count[keep], self.total[numbers], self.low[numbers], self.high[numbers]
        )

    def each(self) -> Iterable[Histogram]:
        """Yield the histogram of each interval."""
        edges = np.searchsorted(self.interval, np.arange(len(self.total) + 1))
        for number, (first, last) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
            counts = np.zeros(SLOTS, dtype=np.uint64)
            counts[self.slot[first:last]] = self.count[first:last]
            yield Histogram(counts, round(self.total[number]), int(self.low[number]), int(self.high[number]))

    def _sum(self, keep: NDArray[np.bool_]) -> Floats:
        return np.bincount(self.interval[keep], self.count[keep], len(self.total)).astype(np.float64)


def of_rows(
    intervals: int,
    rows: tuple[Numbers, NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]],
    cells: tuple[Numbers, Numbers, Numbers],
    use: NDArray[np.bool_],
) -> Slices:
    """
    Return the slices of histograms, several in an interval, added up.

    Args:
        intervals: how many there are.
        rows: interval, total, low and high of each histogram.
        cells: which of the rows, slot and count of each slot that was hit.
        use: which of the rows.
    """
    interval, total, low, high = (column[use] for column in rows)
    row, slot, count = (column[use[cells[0]]] for column in cells)
    key, place = np.unique(rows[0][row] * SLOTS + slot, return_inverse=True)
    lows, highs = np.full(intervals, HIGHEST, dtype=np.int64), np.zeros(intervals, dtype=np.int64)
    np.minimum.at(lows, interval, np.minimum(low, HIGHEST).astype(np.int64))
    np.maximum.at(highs, interval, np.minimum(high, _LARGEST).astype(np.int64))
    return Slices(
        key // SLOTS,
        key % SLOTS,
        np.bincount(place, count, len(key)).astype(np.int64),
        np.bincount(interval, total.astype(np.float64), intervals).astype(np.float64),
        np.where(highs > 0, lows, 0),
        highs,
    )


def of(parts: Iterable[Histogram]) -> Slices:
    """Return the slices of *parts*, a histogram an interval."""
    slots, counts, facts = [], [], []
    for part in parts:
        hit = np.flatnonzero(part.counts)
        slots.append(hit)
        counts.append(part.counts[hit].astype(np.int64))
        facts.append((part.total, part.low, part.high))
    hits = np.array([len(hit) for hit in slots], dtype=np.int64)
    total, low, high = zip(*facts, strict=True) if facts else ((), (), ())
    return Slices(
        np.repeat(np.arange(len(slots), dtype=np.int64), hits),
        np.concatenate([np.zeros(0, dtype=np.int64), *slots]),
        np.concatenate([np.zeros(0, dtype=np.int64), *counts]),
        np.array(total, dtype=np.float64),
        np.array(low, dtype=np.int64),
        np.array(high, dtype=np.int64),
    )
