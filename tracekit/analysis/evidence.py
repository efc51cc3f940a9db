"""What a recording offers to judge by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tracekit.analysis import sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from tracekit.analysis.slices import Slices
    from tracekit.analysis.spanstacks import Subject
    from tracekit.histogram import Histogram
    from tracekit.histogram.parts import Parts
    from tracekit.records import Exemplar, Interval, Labels, Loss, Series, StackWeight

    Floats = NDArray[np.float64]
    Numbers = NDArray[np.int64]

_SAMPLED = ("runq.length", "psi", "throttle.", "io.", "host.", "cost.", "gpu.")
"""Metrics that the collector reads at each tick: events that were lost are none of theirs."""
_OF_BOARDS = ("span.", "training.", "app.", "mark")
"""Metrics that traced processes count themselves: events that the kernel side lost are none of theirs."""
_BOARDS_LOST = "probe"
"""How reasons of losses begin that are of what those processes counted."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """
    What a recording offers to judge by.

    Attributes:
        series: all that it knows.
        histograms: of each histogram series with events, over the whole length.
        values: float64[intervals] of each counter (increases) and gauge (NaN: no sample).
        partial: how many intervals are known to lack data.
        tiers: what the collector was asked to measure: `sched`, `errors`, ...
        complete: False if the recording has not ended.
        slices: gives the events of (metric, labels) in each interval; of calls of databases those that are `timed`.
        exemplars: gives the slowest spans of (labels of a `span.latency`) as (interval number, span).
        parts: gives where the time of the spans of (labels of a `span.latency`) went, in some runs [first, last) of
            intervals or in all.
        call_parts: the same of calls (labels of a `db.latency`), in all.
        code: gives the spans of (labels of a `span.latency`) with the stacks that they were seen in.
        failures: gives failed calls of (labels of a `syscall.errors`) by the code that made them, of as many as were
            seen.
        stacks: gives wall time by stack in the intervals [first, last).
        findings: what the collector could not measure, each a line.
        start_ns: of the recording, as the times of *intervals*.
        offset: number of the first of *intervals* in the recording.
    """

    series: Sequence[Series]
    histograms: Mapping[Series, Histogram]
    values: Mapping[Series, Floats]
    intervals: Sequence[Interval]
    partial: int
    tiers: frozenset[str]
    losses: Sequence[Loss]
    complete: bool
    slices: Callable[[str, Labels], Slices]
    exemplars: Callable[[Labels], Sequence[tuple[int, Exemplar]]] = lambda _: ()
    parts: Callable[[Labels, Sequence[tuple[int, int]] | None], Sequence[Parts]] = lambda *_: ()
    call_parts: Callable[[Labels], Sequence[Parts]] = lambda _: ()
    code: Callable[[Labels], Subject | None] = lambda _: None
    failures: Callable[[Labels], Mapping[tuple[str, ...], float]] = lambda _: {}
    stacks: Callable[[int, int], Mapping[tuple[str, ...], StackWeight]] = lambda *_: {}
    findings: Sequence[str] = ()
    start_ns: int = 0
    offset: int = 0

    def matching(self, metric: str, where: Labels) -> list[Series]:
        """Return the series of *metric* whose labels include all of *where*; calls of databases as `chosen`."""
        return sources.timed(self.every(metric, where), dict(where))

    def every(self, metric: str, where: Labels) -> list[Series]:
        """Return the same with calls of databases that exist to wait; each call is `once`."""
        found = [series for series in self.series if series.metric == metric and set(where) <= set(series.labels)]
        return sources.once(found, self.series, dict(where)) if metric in sources.METRICS else found

    def waits(self, metric: str, where: Labels) -> list[Series]:
        """Return those of `every` that are not `matching`: calls that exist to wait."""
        matching = set(self.matching(metric, where))
        return [series for series in self.every(metric, where) if series not in matching]

    def increases(self, series: Iterable[Series]) -> Floats:
        """Return float64[intervals], the sum of the counters *series*."""
        columns = [self.values[each] for each in series if each in self.values]
        return np.asarray(np.sum([np.zeros(len(self.intervals)), *columns], axis=0), dtype=np.float64)

    def samples(self, series: Iterable[Series]) -> Floats:
        """Return float64[series, intervals], the samples of the gauges *series*; NaN where there is none."""
        columns = [self.values[each] for each in series if each in self.values]
        return np.stack(columns) if columns else np.zeros((0, len(self.intervals)))

    def pick(self, numbers: Numbers) -> Evidence:
        """Return what the intervals *numbers* (positions in `intervals`, ascending) alone offer."""
        return replace(
            self,
            intervals=[self.intervals[number] for number in numbers.tolist()],
            values={series: column[numbers] for series, column in self.values.items()},
            slices=lambda metric, where: self.slices(metric, where).pick(numbers),
            offset=self.offset + int(numbers[0]) if len(numbers) else self.offset,
        )

    @property
    def place(self) -> tuple[int, int]:
        """Numbers [first, last) in the recording of *intervals* that follow each other."""
        return self.offset, self.offset + len(self.intervals)

    def but(self, first: int, last: int) -> Evidence:
        """Return what all intervals but [first, last) offer."""
        return self.pick(np.concatenate([np.arange(first), np.arange(last, len(self.intervals))]).astype(np.int64))

    def with_samples(self, series: Series, column: Floats) -> Evidence:
        """Return the same with a gauge more."""
        return replace(self, series=[*self.series, series], values={**self.values, series: column})

    @cached_property
    def seconds(self) -> Floats:
        """Length of each interval, float64[intervals]; NaN if it has none."""
        lengths = np.array([interval.duration_ns / 1e9 for interval in self.intervals], dtype=np.float64)
        return np.where(lengths > 0, lengths, np.nan)

    @cached_property
    def duration_s(self) -> float:
        """Length of all intervals in seconds."""
        return float(np.nansum(self.seconds))

    @cached_property
    def events(self) -> int:
        """Number of events recorded in histograms over the whole length, samples not counted."""
        return sum(part.count for series, part in self.histograms.items() if not is_sampled(series.metric))

    def alike(self, metric: str) -> tuple[int, list[Loss]]:
        """Return how many events were recorded of those that come the way of *metric*'s, and what was lost of them."""
        own = metric.startswith(_OF_BOARDS)
        alike = [part.count for series, part in self.histograms.items() if _alike(series.metric, own)]
        return sum(alike), [loss for loss in self.losses if loss.reason.startswith(_BOARDS_LOST) == own]

    @cached_property
    def lost(self) -> int:
        """Number of events seen but not recorded."""
        return sum(loss.count for loss in self.losses)


def is_sampled(metric: str) -> bool:
    """Tell whether *metric* is read at each tick, so that events that were lost are none of it."""
    return metric.startswith(_SAMPLED)


def _alike(metric: str, of_boards: bool) -> bool:
    return not is_sampled(metric) and metric.startswith(_OF_BOARDS) == of_boards
