"""The spans of a recording: how long, how often failed, and what the usual and the slow ones were made of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from tracekit.analysis import breakdown
from tracekit.histogram import merge, rank_of
from tracekit.histogram.parts import BUCKETS
from tracekit.records import BUCKET_SHIFT, SpanParts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tracekit.analysis.breakdown import Breakdown
    from tracekit.analysis.summary import Summary
    from tracekit.histogram import Histogram
    from tracekit.histogram.parts import Parts
    from tracekit.records import Exemplar, Series

ENOUGH = 10
"""Spans that a band must hold at least: a mean of fewer is an anecdote."""
MIDDLE = (0.4, 0.6)
TAILS = (0.99, 0.95, 0.9)

_OF_CHILDREN = ("spawn.", "process.")
"""Metrics whose role is that of the new process, not of the one with the span."""


@dataclass(frozen=True)
class Band:
    """The buckets *first* to *last* of latency, and how many spans they hold."""

    first: int
    last: int
    count: int


@dataclass(frozen=True, eq=False)
class Anatomy:
    """
    What the spans of a name were made of, all of them and in two bands of latency.

    A band is of whole buckets, of which there are eight to a power of two: sums are kept for no smaller
    part. The *median* is the band from the bucket of rank p40 to that of p60: the mean of the middle
    fifth at least, which a few odd spans cannot move, nor a second mode far away. The *tail* is
    what lies in or above the bucket of p99, as far as it holds ENOUGH spans, else of p95, else of p90.

    Attributes:
        median: None: too few spans (50 are needed).
        tail: None: too few spans (100 are needed), or no tail: its buckets are also those of the median.
        tail_q: 0.99, 0.95 or 0.9; 0 if there are too few spans.
    """

    whole: Breakdown
    median: Breakdown | None
    tail: Breakdown | None
    tail_q: float

    @property
    def gap(self) -> dict[str, float]:
        """By how much a span of the tail is longer than one of the median, ns by component; {} if not known."""
        return breakdown.gap(self.tail, self.median) if self.tail and self.median else {}


@dataclass(frozen=True, eq=False)
class Span:
    """
    All spans of a name.

    Attributes:
        latency: of those that ended.
        errors: (type, how many ended by it), most first.
        anatomy: None: not measured, as the recording was made without the kernel.
    """

    name: str
    latency: Histogram
    errors: tuple[tuple[str, int], ...]
    anatomy: Anatomy | None

    @property
    def failed(self) -> int:
        """How many ended by an exception."""
        return sum(count for _, count in self.errors)


@dataclass(frozen=True, eq=False)
class Detail:
    """
    What there is to say of the spans of one name.

    Attributes:
        where: labels they were chosen by, beside the name.
        labels: the labels they have.
        inside: the part of the recording that happened inside them.
        slowest: some of them, the slowest first.
    """

    span: Span
    where: Mapping[str, str]
    labels: Sequence[str]
    inside: Summary
    slowest: Sequence[tuple[Series, Exemplar]] = field(default=())


def names(summary: Summary) -> list[str]:
    """Return the names of spans that the recording knows, ended or not, sorted."""
    every = (*summary.histograms, *summary.counters, *summary.gauges)
    return sorted(({s.label("span") for s in every} | {wait.span for wait in summary.in_flight}) - {""})


def labels(summary: Summary, name: str, where: Mapping[str, str] | None = None) -> list[str]:
    """Return `name=value` of the labels that the spans *name*, with the labels *where* too, have; sorted."""
    wanted = {**(where or {}), "span": name}
    found = [s for s in summary.histograms if s.metric == "span.latency" and _has(s, wanted)]
    return sorted({f"{label}={value}" for series in found for label, value in series.labels if label != "span"})


def every(summary: Summary) -> list[Span]:
    """Return the spans by name, those with the largest sum of time first."""
    found = [of_name(summary, name) for name in names(summary)]
    return sorted(found, key=lambda span: (-span.latency.total, span.name))


def of_name(summary: Summary, name: str, where: Mapping[str, str] | None = None) -> Span:
    """Return the spans *name* that have the labels *where* too, of all roles and other labels together."""
    wanted = {**(where or {}), "span": name}
    latency = merge([h for s, h in summary.histograms.items() if s.metric == "span.latency" and _has(s, wanted)])
    errors: dict[str, int] = {}
    for series, count in summary.counters.items():
        if series.metric == "span.errors" and _has(series, wanted) and count:
            errors[series.label("type")] = errors.get(series.label("type"), 0) + count
    parts = [found for s, found in summary.parts.items() if s.metric == "span.latency" and _has(s, wanted)]
    ranked = tuple(sorted(errors.items(), key=lambda item: (-item[1], item[0])))
    return Span(name, latency, ranked, anatomy(latency, parts))


def anatomy(latency: Histogram, parts: Sequence[Parts]) -> Anatomy | None:
    """
    Return what spans were made of.

    Args:
        latency: of all of them.
        parts: of each series.

    Returns:
        None if there are no spans, or no parts.
    """
    if not latency.count or not parts:
        return None
    whole = _of_band(Band(0, BUCKETS - 1, latency.count), parts)
    if not whole:
        return None
    median, tail, q = bands(latency)
    return Anatomy(whole, _of_band(median, parts), _of_band(tail, parts), q)


def bands(latency: Histogram, quantile: float = 0.0) -> tuple[Band | None, Band | None, float]:
    """
    Return the bands of the median and of the tail, and where the tail begins.

    Args:
        latency: of one span at least.
        quantile: from which on the tail is wanted; 0: the highest of TAILS that leaves it ENOUGH spans.

    Returns:
        None for a band of too few spans, and for a tail that begins in the median's; 0.0: too few for a tail.
    """
    running = np.cumsum(latency.counts.reshape(-1, 1 << BUCKET_SHIFT).sum(axis=1))
    first, last = (_bucket(running, q) for q in MIDDLE)
    median = _band(running, first, last) if _enough(latency.count, MIDDLE[1] - MIDDLE[0]) else None
    wanted = (quantile,) if quantile else TAILS
    q = next((q for q in wanted if _enough(latency.count, 1 - q)), 0.0)
    start = _bucket(running, q) if q else 0
    return median, _band(running, start, BUCKETS - 1) if start > last else None, q


def of_band(band: Band, part: Parts) -> Breakdown:
    """Return what the spans of one series that are in *band* were made of; the count is not known, and 0."""
    return breakdown.of_parts(_sum(part, _rows(band, part)), 0)


def inside(summary: Summary, name: str, where: Mapping[str, str]) -> Summary:
    """Return what of *summary* happened inside spans *name* that have the labels *where* too."""

    def within(series: Series) -> bool:
        of_child = series.metric.startswith(_OF_CHILDREN)
        wanted = {label: value for label, value in where.items() if not (of_child and label == "role")}
        return _has(series, {**wanted, "span": name})

    return replace(
        summary,
        histograms={series: part for series, part in summary.histograms.items() if within(series)},
        counters={series: value for series, value in summary.counters.items() if within(series)},
        gauges={},
        stacks={},
        parts={series: part for series, part in summary.parts.items() if within(series)},
        samples={series: found for series, found in summary.samples.items() if within(series)},
        unused={series: count for series, count in summary.unused.items() if within(series)},
        processes=[process for process in summary.processes if process.span == name],
        open_calls=[],
        in_flight=[w for w in summary.in_flight if w.span == name and where.get("role", w.role) == w.role],
    )


def _has(series: Series, wanted: Mapping[str, str]) -> bool:
    return set(wanted.items()) <= set(series.labels)


def _enough(n: int, share: float) -> bool:
    return round(n * share, 9) >= ENOUGH


def _bucket(running: NDArray[np.uint64], q: float) -> int:
    """Return the bucket that holds the rank of quantile *q*; *running*: cumulative counts."""
    return int(np.searchsorted(running, np.uint64(rank_of(q, int(running[-1])))))


def _band(running: NDArray[np.uint64], first: int, last: int) -> Band:
    return Band(first, last, int(running[last]) - (int(running[first - 1]) if first else 0))


def _of_band(band: Band | None, parts: Sequence[Parts]) -> Breakdown | None:
    """Return the breakdown of the spans in *band*; None without one, or if nothing was recorded of them."""
    if not band:
        return None
    found = [of_band(band, part) for part in parts if _rows(band, part).size]
    return breakdown.add(found, band.count) if found else None


def _rows(band: Band, part: Parts) -> NDArray[np.intp]:
    return np.flatnonzero((part.bucket >= band.first) & (part.bucket <= band.last))


def _sum(parts: Parts, row: NDArray[np.intp]) -> SpanParts:
    """Add up some buckets of a series, in Python's integers: sums of hostile numbers do not fit in 64 bits."""

    def total(column: NDArray[np.uint64]) -> int:
        return sum(column[row].tolist())

    def by_kind(table: NDArray[np.uint64]) -> tuple[int, ...]:
        return tuple(sum(column) for column in table[row].T.tolist())

    waits, async_waits = by_kind(parts.waits), by_kind(parts.async_waits)
    latency, awaited = total(parts.latency_ns), total(parts.awaited_ns)
    last = total(parts.sampled_ns), total(parts.unseen_ns), total(parts.errors)
    return SpanParts(0, 0, latency, awaited, waits, async_waits, *last)
