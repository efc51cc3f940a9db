"""What a recording measured, added up over its length: where every section of a report starts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from tracekit.histogram import Histogram, merge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from tracekit.histogram.parts import Parts
    from tracekit.records import InFlight, Loss, OpenCalls, Process, Series, StackWeight
    from tracekit.samples import StackSamples
    from tracekit.stacks import Stack

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)


@dataclass(frozen=True)
class Samples:
    """A gauge over the recording, in the unit of its series; intervals without a sample do not count."""

    last: float
    mean: float
    min: float
    max: float


@dataclass(frozen=True, eq=False)
class Summary:
    """
    Sums over a recording. A series that is absent was not measured; one that holds zero was.

    Attributes:
        duration_ns: length of the recording.
        tiers: what the collector was asked to measure: `sched`, `errors`, ...
        counters: increase over the whole length.
        parts: of each `span.latency` and `db.latency` that the kernel saw something of.
        samples: of the code that spans were seen in (`stack.span`).
        running, waiting: of the code that threads were seen in (`stack.oncpu`, `stack.offcpu`).
        unused: events of series that count calls of databases which others count too (analysis/sources.py).
        lossy, partial: intervals in which something was lost; that are known to lack data.
        complete: the recording has ended, so that *in_flight* and *open_calls* are known.
        role: the one role the series with roles were cut down to, "" for all.
    """

    duration_ns: int
    tiers: tuple[str, ...] = ()
    histograms: Mapping[Series, Histogram] = field(default_factory=dict)
    counters: Mapping[Series, int] = field(default_factory=dict)
    gauges: Mapping[Series, Samples] = field(default_factory=dict)
    stacks: Mapping[Stack, StackWeight] = field(default_factory=dict)
    parts: Mapping[Series, Parts] = field(default_factory=dict)
    samples: Mapping[Series, StackSamples] = field(default_factory=dict)
    running: Mapping[Series, StackSamples] = field(default_factory=dict)
    waiting: Mapping[Series, StackSamples] = field(default_factory=dict)
    unused: Mapping[Series, int] = field(default_factory=dict)
    processes: Sequence[Process] = ()
    in_flight: Sequence[InFlight] = ()
    open_calls: Sequence[OpenCalls] = ()
    losses: Sequence[Loss] = ()
    lossy: int = 0
    partial: int = 0
    complete: bool = True
    role: str = ""

    def histogram(self, metric: str, **labels: str) -> Histogram:
        """Return the histogram of all events of *metric* with *labels*."""
        return merge([part for series, part in self.histograms.items() if _matches(series, metric, labels)])

    def counter(self, metric: str, **labels: str) -> int | None:
        """Return the sum of the counters of *metric* with *labels*, None if it was not measured."""
        found = [value for series, value in self.counters.items() if _matches(series, metric, labels)]
        return sum(found) if found else None

    def gauge(self, metric: str) -> Samples | None:
        """Return the gauge *metric* that has no labels, None if it was not measured."""
        found = [samples for series, samples in self.gauges.items() if _matches(series, metric, {})]
        return found[0] if found else None

    def labels(self, metric: str, label: str) -> list[str]:
        """Return the values that *label* has in the series of *metric*, sorted."""
        every = (*self.histograms, *self.counters, *self.gauges)
        return sorted({series.label(label) for series in every if series.metric == metric})

    def share(self, ns: int | None) -> float | None:
        """Return *ns* as a share of the recording's length, None if not measured."""
        return None if ns is None or not self.duration_ns else ns / self.duration_ns

    def rate(self, count: float) -> float:
        """Return *count* per second; 0 for a recording of no length."""
        return count * 1e9 / self.duration_ns if self.duration_ns else 0.0

    @property
    def roles(self) -> list[str]:
        """The roles the recording knows, sorted."""
        of_series = {series.label("role") for series in (*self.histograms, *self.counters)} - {""}
        return sorted(of_series | {frames[0] for frames in self.stacks if frames} | {p.role for p in self.processes})


def totals(values: Mapping[Series, NDArray[np.float64]]) -> tuple[dict[Series, int], dict[Series, Samples]]:
    """
    Add up counters and sum up gauges.

    Args:
        values: float64[intervals] of each counter (increases) and gauge (NaN: no sample).

    Returns:
        Sum of each counter, Samples of each gauge that has any.
    """
    counters = {series: round(float(column.sum())) for series, column in values.items() if series.kind == "counter"}
    gauges = {}
    for series, column in values.items():
        known = column[~np.isnan(column)]
        if series.kind == "gauge" and known.size:
            gauges[series] = Samples(*map(float, (known[-1], known.mean(), known.min(), known.max())))
    return counters, gauges


def of_role(summary: Summary, role: str) -> Summary:
    """Return *summary* without what belongs to other roles; what has no role stays."""

    def mine(series: Series) -> bool:
        return series.label("role") in ("", role)

    return replace(
        summary,
        histograms={series: part for series, part in summary.histograms.items() if mine(series)},
        counters={series: value for series, value in summary.counters.items() if mine(series)},
        stacks={frames: weight for frames, weight in summary.stacks.items() if frames[:1] == (role,)},
        parts={series: part for series, part in summary.parts.items() if mine(series)},
        samples={series: found for series, found in summary.samples.items() if mine(series)},
        unused={series: count for series, count in summary.unused.items() if mine(series)},
        processes=[process for process in summary.processes if process.role == role],
        in_flight=[wait for wait in summary.in_flight if wait.role == role],
        open_calls=[calls for calls in summary.open_calls if calls.role == role],
        role=role,
    )


def merged_by(
    histograms: Mapping[Series, Histogram], key: Callable[[Series], tuple[str, ...]]
) -> dict[tuple[str, ...], Histogram]:
    """Return one histogram for each *key*, the one with the largest sum first."""
    groups: dict[tuple[str, ...], list[Histogram]] = {}
    for series, part in histograms.items():
        groups.setdefault(key(series), []).append(part)
    whole = {name: merge(parts) for name, parts in groups.items()}
    return dict(sorted(whole.items(), key=lambda item: (-item[1].total, item[0])))


def merged_by_label(histograms: Mapping[Series, Histogram], label: str) -> dict[Series, Histogram]:
    """Add up the series of a metric that agree in *label*; the others' labels are gone."""
    parts: dict[Series, list[Histogram]] = {}
    for series, part in histograms.items():
        kept = tuple(pair for pair in series.labels if pair[0] == label)
        parts.setdefault(replace(series, labels=kept), []).append(part)
    return {series: merge(group) for series, group in parts.items()}


def supported(q: float, events: int) -> bool:
    """
    Tell whether *events* are enough for quantile *q*: at least one is expected above it.

    A p99 of 30 events is their largest and says nothing that `max` does not.
    """
    return round(events * (1 - q), 9) >= 1


def quantile(part: Histogram, q: float) -> float | None:
    """Return quantile *q* of *part*, None if its events do not support it."""
    return part.quantile(q) if supported(q, part.count) else None


def _matches(series: Series, metric: str, labels: Mapping[str, str]) -> bool:
    return series.metric == metric and all(series.label(name) == value for name, value in labels.items())
