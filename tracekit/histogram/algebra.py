"""Histograms as values: made of batches, added, subtracted and read. The only place where a quantile is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from tracekit.errors import EmptyHistogramError, UsageError
from tracekit.histogram.layout import NS, Counts, Layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

_BATCH = 1 << 16
"""Values counted at a time: as many as stay in a cache."""


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


def quantiles(counts: Counts, qs: Sequence[float], layout: Layout = NS) -> list[int]:
    """
    Return, for each of *qs*, a value that this share of the events did not exceed.

    Args:
        counts: uint64[layout.slots], events per slot.
        qs: shares of the events, 0 < q <= 1, in any order; 0.99 is the p99.
        layout: which values each slot holds.

    Returns:
        Upper edge of the slot that holds the event of rank_of(q, n): between the
        exact sample quantile and one step above it (129/128 of it at two digits).

    Raises:
        EmptyHistogramError: no events.
        ValueError: a q outside (0, 1].
    """
    return list(map(int, layout.upper[_slots_of_quantiles(counts, qs)]))


def _slots_of_quantiles(counts: Counts, qs: Sequence[float]) -> NDArray[np.int64]:
    """Return the slots of the events of rank_of(q, n)."""
    running = np.cumsum(counts)
    total = int(running[-1])
    ranks = [rank_of(q, total) for q in qs]
    if total == 0:
        raise EmptyHistogramError("cannot take a quantile: the histogram has no events")
    return np.searchsorted(running, np.array(ranks, dtype=np.uint64))


def quantile(counts: Counts, q: float) -> int:
    """Return quantile *q* of *counts*, uint64[NS.slots]. See `quantiles`."""
    return quantiles(counts, (q,))[0]


@dataclass(frozen=True, eq=False)
class Histogram:
    """
    Counts with what the slots cannot keep: sum, smallest and largest value.

    Attributes:
        counts: uint64[layout.slots], events per slot.
        total, low, high: sum, smallest and largest value in their unit; 0 of no events.
        layout: which values each slot holds.
        exact: total, low and high are those of the values; else of the slots, as after reading a log:
            the sum of their middles, the first one's lower and the last one's upper edge.
        corrected: expected interval of the correction for coordinated omission, 0: not corrected.
    """

    counts: Counts
    total: int
    low: int
    high: int
    layout: Layout = NS
    exact: bool = True
    corrected: int = 0

    @property
    def count(self) -> int:
        """Number of events."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Mean of the values: the sum over the count, exact if the sum is. Raises EmptyHistogramError."""
        return self.total / self._filled("mean")

    @property
    def slot_mean(self) -> float:
        """
        HdrHistogram's mean, of the middles of the slots, as `.hgrm` files have it. Raises EmptyHistogramError.

        Summed in the order of the slots, as Java does, so that the last digit agrees.
        """
        return self._mean(self.layout.centre[self._used], "mean")

    @property
    def deviation(self) -> float:
        """Standard deviation of the events from `slot_mean`, as HdrHistogram has it. Raises EmptyHistogramError."""
        off = self.layout.centre[self._used] - self.slot_mean
        return math.sqrt(self._mean(off * off, "deviation"))

    def quantile(self, q: float) -> int:
        """Return quantile *q*, never above the largest value seen. See `quantiles`."""
        return self.quantiles((q,))[0]

    def quantiles(self, qs: Sequence[float]) -> list[int]:
        """Return the quantile of each of *qs*, never above the largest value seen. See `quantiles`."""
        used = self._used
        found = _slots_of_quantiles(self.counts[used], qs)
        return [min(value, self.high) for value in self.layout.upper[found + used.start].tolist()]

    def share_above(self, limit: int) -> float:
        """
        Return the share of events in slots wholly above *limit*; 0 of no events.

        The slot that holds *limit* counts as not above, as `quantile` reports its upper edge.
        """
        total = self.count
        return int(self.counts[self.layout.slot_of(limit) + 1 :].sum()) / total if total else 0.0

    def to(self, layout: Layout) -> Histogram:
        """
        Return this histogram in *layout*, each slot in the one that holds its lower edge.

        No event is counted in another slot than its value would be, if *layout* is `joined` with this one.
        """
        if layout == self.layout:
            return self
        filled = np.flatnonzero(self.counts)
        counts = np.zeros(layout.slots, dtype=np.uint64)
        np.add.at(counts, layout.slots_of(self.layout.lower[filled]), self.counts[filled])
        return replace(self, counts=counts, layout=layout)

    @property
    def _used(self) -> slice:
        """The slots of low to high: no others have events."""
        return slice(self.layout.slot_of(self.low), self.layout.slot_of(self.high) + 1)

    def _filled(self, what: str) -> int:
        count = int(self.counts[self._used].sum())
        if not count:
            raise EmptyHistogramError(f"cannot take a {what}: the histogram has no events")
        return count

    def _mean(self, values: NDArray[np.float64], what: str) -> float:
        """Return the mean of *values*, one for each slot used."""
        return float(np.cumsum(values * self.counts[self._used])[-1]) / self._filled(what)


def empty(layout: Layout = NS) -> Histogram:
    """Return a histogram of no events."""
    return Histogram(np.zeros(layout.slots, dtype=np.uint64), 0, 0, 0, layout)


def of_values(values: NDArray[np.uint64], layout: Layout = NS) -> Histogram:
    """
    Return the histogram of *values* (any shape, >= 0).

    Values above `layout.top` are counted in the last slot; sum and largest value keep them whole.
    """
    flat = np.asarray(values, dtype=np.uint64).ravel()
    if not flat.size:
        return empty(layout)
    counts = np.zeros(layout.slots, dtype=np.int64)
    for start in range(0, flat.size, _BATCH):
        counts += np.bincount(layout.slots_of(flat[start : start + _BATCH]), minlength=layout.slots)
    low, high = int(flat.min()), int(flat.max())
    return Histogram(counts.view(np.uint64), _sum(flat, high), low, high, layout)


def of_counts(counts: Counts, layout: Layout) -> Histogram:
    """Return the histogram of *counts*, of whose values no more is known than their slots."""
    filled = np.flatnonzero(counts)
    if not filled.size:
        return Histogram(counts, 0, 0, 0, layout, exact=False)
    total = _product(layout.middle[filled], counts[filled])
    return Histogram(counts, total, int(layout.lower[filled[0]]), int(layout.upper[filled[-1]]), layout, exact=False)


def merge(parts: Iterable[Histogram]) -> Histogram:
    """
    Return the histogram of all events of *parts*, in the finest layout that all can be counted in.

    If one of them is corrected for coordinated omission, the sum counts as corrected.
    """
    known = list(parts)
    layout = reduce(Layout.joined, (part.layout for part in known)) if known else NS
    filled = [part for part in known if part.counts.any()]
    if not filled:
        return empty(layout)
    counts: Counts = np.sum([part.to(layout).counts for part in filled], axis=0)
    low, high = min(part.low for part in filled), max(part.high for part in filled)
    exact, corrected = all(part.exact for part in filled), max(part.corrected for part in filled)
    return Histogram(counts, sum(part.total for part in filled), low, high, layout, exact, corrected)


def subtract(whole: Histogram, part: Histogram) -> Histogram:
    """
    Return the events of *whole* that are not in *part*; smallest and largest are then those of their slots.

    Raises:
        UsageError: *part* has more events than *whole* in some slot: it is no part of it.
    """
    layout = whole.layout.joined(part.layout)
    ours, theirs = whole.to(layout).counts, part.to(layout).counts
    if (theirs > ours).any():
        raise UsageError("cannot subtract: the second histogram is no part of the first (it has events of its own)")
    rest = replace(of_counts(ours - theirs, layout), corrected=whole.corrected)
    if whole.exact and part.exact:
        rest = replace(rest, total=whole.total - part.total)
    return replace(rest, low=max(rest.low, whole.low) if rest.high else 0, high=min(rest.high, whole.high))


def _product(values: Counts, counts: Counts) -> int:
    """Return the sum of each of *values* times its count, also where that passes 64 bits."""
    if float(values[-1]) * float(counts.sum()) < 1 << 63:
        return int((values * counts).sum())
    return sum(map(int.__mul__, values.tolist(), counts.tolist()))


def _sum(values: NDArray[np.uint64], high: int) -> int:
    """Return the sum of *values*, also where it passes 64 bits."""
    if high * values.size < 1 << 64:
        return int(values.sum())
    low, upper = values & np.uint64(0xFFFFFFFF), values >> np.uint64(32)
    return int(low.sum()) + (int(upper.sum()) << 32)
