"""
Correction for coordinated omission: the calls that a stalled caller never made.

A load generator that waits for each answer makes no calls while one takes long, so the slow time is counted
once. If a call was due every *interval*, one of 10 intervals hid nine others, that would have waited
9, 8, ... 1 intervals: they are added. Only the user knows that calls were due; done twice, the tail doubles.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tracekit.errors import UsageError
from tracekit.histogram.algebra import Histogram, of_counts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracekit.histogram.layout import Counts, Layout


def corrected(histogram: Histogram, interval: int) -> Histogram:
    """
    Return *histogram* with the events that a call due every *interval* would have added.

    Every event counts as the upper edge of its slot. Smallest and largest stay, and the sum is of slots.

    Raises:
        UsageError: it is corrected already, or *interval* is not positive.

    Source:
        HdrHistogram (Java, AbstractHistogram.copyCorrectedForCoordinatedOmission).
    """
    if histogram.corrected:
        raise UsageError("cannot correct for coordinated omission: that was done already", "leave out --corrected")
    filled = np.flatnonzero(histogram.counts)
    values, counts = histogram.layout.upper[filled].tolist(), histogram.counts[filled].tolist()
    added = _fills(zip(values, counts, strict=True), interval, histogram.layout)
    whole = of_counts(histogram.counts + added, histogram.layout)
    return replace(whole, low=min(histogram.low, whole.low), high=histogram.high, corrected=interval)


def _fills(events: Iterable[tuple[int, int]], interval: int, layout: Layout) -> Counts:
    """
    Return uint64[slots]: of each (value, times), value - interval, value - 2 interval, ... down to the interval.

    Their number in a slot is a difference of two quotients, so that a value a billion intervals long costs no more.
    """
    if interval <= 0:
        raise UsageError("cannot correct for coordinated omission: the interval is not positive", "--corrected 10ms")
    added = np.zeros(layout.slots, dtype=np.int64)
    upper = layout.upper.astype(np.int64)
    first = int(np.searchsorted(upper, interval))
    for value, times in events:
        if value < 2 * interval:
            continue
        last = min(int(np.searchsorted(upper, value - interval)), layout.slots - 1)
        edges = upper[first:last]
        above = np.concatenate([[value // interval - 1], (value - edges - 1) // interval, [0]])
        added[first : last + 1] += (above[:-1] - above[1:]) * times
    return added.view(np.uint64)
