"""
How many spans ran at each time, from the histograms of those that ended.

An interval says how many spans ended in it and how long they took; its slowest spans are known with
their start. Where those are all, the times are exact. Of the others the ends are taken as evenly
spread over the interval, so that a stretch of time holds as much of them as Little's law says.
A span that had not ended when the recording did is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracekit.analysis.slices import MIDDLE
from tracekit.histogram import slots_of
from tracekit.records import Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tracekit.analysis.evidence import Evidence
    from tracekit.analysis.slices import Slices
    from tracekit.records import Exemplar, Labels

    Floats = NDArray[np.float64]
    Numbers = NDArray[np.int64]

METRIC = "span.concurrency"
SPANS = "span.latency"
_ENDS = 8
"""Into how many moments the ends of an interval are spread."""


@dataclass(frozen=True, eq=False)
class Running:
    """A step function: from `at` (float64, ns, ascending) on, `level` spans ran; 0 before."""

    at: Floats
    level: Floats

    def mean(self, first: Floats, last: Floats, most: float = np.inf) -> Floats:
        """Return the mean of min(level, *most*) over each of [first, last), which are longer than nothing."""
        if not len(self.at):
            return np.zeros(len(first))
        area = np.concatenate([[0.0], np.cumsum(np.minimum(self.level[:-1], most) * np.diff(self.at))])
        return np.asarray((np.interp(last, self.at, area) - np.interp(first, self.at, area)) / (last - first))


def of(evidence: Evidence, where: Labels) -> Running:
    """Return how many spans with the labels *where* ran, in ns since the first interval."""
    slices = evidence.slices(SPANS, where)
    start, end = bounds(evidence)
    known = evidence.exemplars(where)
    first = evidence.intervals[0].start_ns
    begun = np.array([span.start_ns - first for _, span in known], dtype=np.float64)
    ended = begun + np.array([span.duration_ns for _, span in known], dtype=np.float64)
    number, slot, count = _others(slices, known, np.searchsorted(start, ended, "right") - 1)
    steps = (np.arange(_ENDS) + 0.5) / _ENDS
    ends = (start[number, None] + (end - start)[number, None] * steps).ravel()
    weight = np.repeat(count / _ENDS, _ENDS)
    starts = ends - np.repeat(MIDDLE[slot], _ENDS)
    one = np.ones(len(known))
    return _steps(np.concatenate([begun, starts, ended, ends]), np.concatenate([one, weight, -one, -weight]))


def bounds(evidence: Evidence) -> tuple[Floats, Floats]:
    """Return start and end of each interval, ns since the first."""
    first = evidence.intervals[0].start_ns if evidence.intervals else 0
    pairs = [(interval.start_ns - first, interval.end_ns - first) for interval in evidence.intervals]
    edges = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return edges[:, 0], np.maximum(edges[:, 1], edges[:, 0] + 1)


def derived(evidence: Evidence, where: Labels) -> Evidence:
    """Return *evidence* with the gauge `span.concurrency`: the mean number of spans that ran in each interval."""
    if not evidence.matching(SPANS, where) or not evidence.intervals:
        return evidence
    return evidence.with_samples(Series(METRIC, where, "gauge", "count"), of(evidence, where).mean(*bounds(evidence)))


def _others(slices: Slices, known: Sequence[tuple[int, Exemplar]], last: Numbers) -> tuple[Numbers, Numbers, Floats]:
    """
    Return interval, slot and count of the spans that are not *known* by themselves.

    A process counts its spans and the kernel knows the slow ones, so that one can be in an interval as counted and
    in another as known: it is looked for where it ended (*last*) and where it was known, and then beside those.
    """
    left = dict(zip(zip(slices.interval.tolist(), slices.slot.tolist(), strict=True), slices.count, strict=True))
    slots = slots_of(np.array([span.duration_ns for _, span in known], dtype=np.uint64)).tolist()
    spans = list(zip(last.tolist(), (number for number, _ in known), slots, strict=True))
    for aside in (0, -1, 1):
        for place in (0, 1):
            spans = [span for span in spans if not _taken(left, (span[place] + aside, span[2]))]
    keys = np.array([key for key, count in left.items() if count > 0], dtype=np.int64).reshape(-1, 2)
    return keys[:, 0], keys[:, 1], np.array([count for count in left.values() if count > 0], dtype=np.float64)


def _taken(left: dict[tuple[int, int], int], key: tuple[int, int]) -> bool:
    """Take a span of an interval and slot out of those *left*; tell whether there was one."""
    if left.get(key, 0) <= 0:
        return False
    left[key] -= 1
    return True


def _steps(at: Floats, change: Floats) -> Running:
    order = np.argsort(at, kind="stable")
    return Running(at[order], np.maximum(np.cumsum(change[order]), 0.0))
