"""What a recording says of one objective: a number and what it stands on, or why there is none."""

from __future__ import annotations

import errno
import math
import re
import signal
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tracekit.analysis.objectives import Objective, Statistic, format_series, quoted
from tracekit.analysis.summary import supported
from tracekit.errors import RecordingError, UsageError
from tracekit.histogram import HIGHEST, Histogram, merge, rank_of
from tracekit.units import format_count, format_share, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from tracekit.records import Interval, Labels, Loss, Series

LOST_TOLERANCE = 0.01
"""A larger share of lost events leaves nothing to judge: a p99 could be all of them."""

_NEAR = 0.75
"""How like a word must be to be what was meant: `spawn.raedy`, but not `span.latency`, for `spawn.ready`."""
_HOW = re.compile(r"exit [1-9][0-9]{0,2}|signal [0-9]+|OOM kill")
"""How a process can fail, beside the name of a signal: the words of capture/lives.py."""
_SAMPLED = ("runq.length", "psi", "throttle.", "io.", "host.", "cost.")
"""Metrics that the collector reads at each tick: events that the kernel lost are none of theirs."""
_TIERS = {
    "syscall.latency": ("syscalls", "record with --syscalls"),
    "syscall.errors": ("errors", "record without --no-errors"),
    "syscall.calls": ("errors", "record without --no-errors"),
    "syscall.restarts": ("errors", "record without --no-errors"),
}
"""What must have been on for a metric to be there, and how."""


@dataclass(frozen=True)
class Base:
    """
    What a counter of failures is a share of.

    Attributes:
        shared: label that both have: it selects the base too.
        kind: label that tells failures apart, which the base cannot have.
    """

    metric: str
    shared: str
    kind: str


BASES = {
    "syscall.errors": Base("syscall.calls", "syscall", "errno"),
    "spawn.failed": Base("spawn.count", "role", "how"),
}
EXAMPLES = {
    ("ns", False): "50ms",
    ("bytes", False): "512MB",
    ("share", False): "1%",
    ("count", False): "100",
    ("count", True): "5/s",
    ("bytes", True): "10MB/s",
}
"""A limit by (unit, per second)."""


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
        slices: gives the histogram of (metric, labels) in each interval, in order of time.
    """

    series: Sequence[Series]
    histograms: Mapping[Series, Histogram]
    values: Mapping[Series, NDArray[np.float64]]
    intervals: Sequence[Interval]
    partial: int
    tiers: frozenset[str]
    losses: Sequence[Loss]
    complete: bool
    slices: Callable[[str, Labels], Iterable[Histogram]]

    def matching(self, metric: str, where: Labels) -> list[Series]:
        """Return the series of *metric* whose labels include all of *where*."""
        return [series for series in self.series if series.metric == metric and set(where) <= set(series.labels)]

    def increases(self, series: Iterable[Series]) -> NDArray[np.float64]:
        """Return float64[intervals], the sum of the counters *series*."""
        columns = [self.values[each] for each in series if each in self.values]
        return np.asarray(np.sum([np.zeros(len(self.intervals)), *columns], axis=0), dtype=np.float64)

    @cached_property
    def seconds(self) -> NDArray[np.float64]:
        """Length of each interval, float64[intervals]; NaN if it has none."""
        lengths = np.array([interval.duration_ns / 1e9 for interval in self.intervals], dtype=np.float64)
        return np.where(lengths > 0, lengths, np.nan)

    @cached_property
    def duration_s(self) -> float:
        """Length of all intervals in seconds."""
        return float(np.nansum(self.seconds))

    @cached_property
    def events(self) -> int:
        """Number of events recorded in histograms, samples not counted."""
        return sum(part.count for series, part in self.histograms.items() if not _is_sampled(series.metric))

    @cached_property
    def lost(self) -> int:
        """Number of events seen but not recorded."""
        return sum(loss.count for loss in self.losses)


@dataclass(frozen=True)
class Missing:
    """Why nothing can be said, and what would help."""

    reason: str
    hint: str = ""


_NOT_FINITE = Missing("the recording holds no finite number for it", "record again: the file is damaged")


@dataclass(frozen=True, eq=False)
class Measurement:
    """
    A value and what it stands on.

    Attributes:
        value: in *unit*; per second if the limit is.
        n: how many of *counted* it was taken of.
        by_interval: gives the same statistic of each interval, float64[intervals], NaN where there is none.
        above: share of the events above the limit; None where that has no meaning.
    """

    value: float
    unit: str
    n: int
    counted: str
    by_interval: Callable[[], NDArray[np.float64]]
    above: float | None = None


def measure(objective: Objective, evidence: Evidence) -> Measurement | Missing:
    """
    Take the statistic of *objective*.

    Raises:
        UsageError: the statistic or the unit of the limit does not fit the series.
        RecordingError: series of one metric have different units.
    """
    if not evidence.duration_s:
        return Missing("no interval was finished", "record for longer than one interval")
    found = evidence.matching(objective.metric, objective.where)
    if not found and not _is_zero(objective, evidence):
        return _absence(objective, evidence)
    kind, unit = _shape(objective, found)
    _check_limit(objective, kind, unit)
    measured = _doubt(kind, objective.metric, evidence) or _MEASURES[kind](objective, found, evidence)
    return measured if isinstance(measured, Missing) or math.isfinite(measured.value) else _NOT_FINITE


def _shape(objective: Objective, found: Sequence[Series]) -> tuple[str, str]:
    """Return kind and unit of the series; a counter that is truly zero has no series."""
    shapes = {(series.kind, series.unit) for series in found} or {("counter", "count")}
    if len(shapes) > 1:
        raise RecordingError(f"cannot judge {objective.series}: its series have different units")
    return shapes.pop()


def _check_limit(objective: Objective, kind: str, unit: str) -> None:
    """Refuse a statistic that the kind of series has not, and a limit in another unit."""
    key, limit, metric = objective.statistic.key, objective.limit, objective.metric
    if kind != "histogram" and (kind == "counter") is not (key in ("rate", "total")):
        has = "rate or total" if kind == "counter" else "a quantile, mean, min or max"
        raise _refusal(objective, f"{metric} is a {kind}, which has no {key}", has)
    fitting = _fitting(metric, key, kind, unit)
    if (limit.unit, limit.per_second) not in fitting:
        name = key if key.isidentifier() else quoted(key)
        hint = " or ".join(f'{name} = "{limit.operator} {EXAMPLES[form]}"' for form in fitting)
        words = {"ns": "time", "share": "shares", "count": "counts"}.get(unit, unit)
        raise _refusal(objective, f"{quoted(limit.text)} does not fit {metric}, a {kind} of {words}", hint)


def _fitting(metric: str, key: str, kind: str, unit: str) -> list[tuple[str, bool]]:
    """Return the forms of limit, (unit, per second), that fit."""
    plain = unit if (unit, False) in EXAMPLES else "count"
    if key != "rate":
        return [(plain, False)]
    if kind == "histogram":
        return [("count", True)]
    if plain == "ns":
        return [("share", False)]
    return [(plain, True), *([("share", False)] if metric in BASES else [])]


def _doubt(kind: str, metric: str, evidence: Evidence) -> Missing | None:
    """Say what makes the events of the kernel too incomplete to judge; None if nothing does."""
    if kind == "gauge" or _is_sampled(metric):
        return None
    share = evidence.lost / (evidence.events + evidence.lost) if evidence.lost else 0.0
    if share <= LOST_TOLERANCE:
        return None
    reasons = ", ".join(printable(loss.reason) for loss in evidence.losses if loss.count)
    fact = f"{format_count(evidence.lost)} events were lost, {format_share(share)} of all ({reasons})"
    return Missing(fact, "trace fewer processes, or without --syscalls")


def _of_histograms(objective: Objective, found: Sequence[Series], evidence: Evidence) -> Measurement | Missing:
    """Merge the histograms of several series into that of all their events."""
    whole = merge([evidence.histograms[series] for series in found if series in evidence.histograms])
    statistic, limit = objective.statistic, objective.limit
    if not whole.count:
        return Missing(f"{objective.series} has no events", "record while they happen")
    if _too_few(statistic, whole.count):
        return _fewer(statistic, whole.count, "events")

    def by_interval() -> NDArray[np.float64]:
        parts = zip(evidence.slices(objective.metric, objective.where), evidence.seconds, strict=True)
        return np.array([_of_histogram(part, statistic, float(seconds)) for part, seconds in parts])

    latency = limit.upper and statistic.key not in ("rate", "total")
    above = whole.share_above(min(int(limit.value), HIGHEST)) if latency else None
    value = _of_histogram(whole, statistic, evidence.duration_s)
    unit = "count" if statistic.key == "rate" else found[0].unit
    return Measurement(value, unit, whole.count, "events", by_interval, above)


def _of_histogram(part: Histogram, statistic: Statistic, seconds: float) -> float:
    """Return the statistic of *part*; NaN of no events, but a rate of none is 0."""
    if statistic.key == "rate":
        return part.count / seconds
    if not part.count:
        return math.nan
    if statistic.q:
        return part.quantile(statistic.q)
    return {"mean": part.mean, "min": part.low, "max": part.high, "total": part.total}[statistic.key]


def _of_counters(objective: Objective, found: Sequence[Series], evidence: Evidence) -> Measurement | Missing:
    """Add up the counters of several series; a limit in % makes them a share of their base or of the time."""
    unit = found[0].unit if found else "count"
    if unit == "ns" and len(found) > 1:
        hint = f"one of them, such as {printable(format_series(found[0].metric, found[0].labels))}"
        raise _refusal(objective, f"{len(found)} series match, and times that overlap do not add up", hint)
    increases = evidence.increases(found)
    if not np.isfinite(increases).all():
        return _NOT_FINITE
    if objective.limit.unit == "share":
        return _share(objective, unit, increases, evidence)
    total = float(increases.sum())
    n = len(increases)
    if objective.statistic.key == "total":
        return Measurement(total, unit, n, "intervals", lambda: increases)
    return Measurement(total / evidence.duration_s, unit, n, "intervals", lambda: increases / evidence.seconds)


def _share(
    objective: Objective, unit: str, increases: NDArray[np.float64], evidence: Evidence
) -> Measurement | Missing:
    """Return *increases* as a share of their base, or of the time if they are ns."""
    if unit == "ns":
        whole, n, counted = evidence.seconds * 1e9, len(increases), "intervals"
    else:
        base = BASES[objective.metric]
        strange = [name for name, _ in objective.where if name not in (base.shared, base.kind)]
        if strange:
            hint = f'rate = "{objective.limit.operator} 5/s", or leave {strange[0]} out'
            raise _refusal(objective, f"{base.metric} is not counted by {strange[0]}, so there is no share", hint)
        whole = _tried(objective, evidence)
        if not np.isfinite(whole).all():
            return _NOT_FINITE
        n, counted = round(float(whole.sum())), base.metric
        if n <= 0:
            return _no_base(objective)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(whole > 0, increases / whole, np.nan)
    return Measurement(float(increases.sum() / np.nansum(whole)), "share", n, counted, lambda: shares)


def _of_gauges(objective: Objective, found: Sequence[Series], evidence: Evidence) -> Measurement | Missing:
    """Pool the samples of several series: the max is the largest of any, the mean that of all."""
    columns = np.stack([evidence.values[series] for series in found])
    samples = np.sort(columns[~np.isnan(columns)])
    statistic, n = objective.statistic, len(samples)
    if not n:
        return Missing(f"{objective.series} has no samples", "record for longer")
    if _too_few(statistic, n):
        return _fewer(statistic, n, "samples")
    plain = {"mean": samples.mean(), "min": samples[0], "max": samples[-1]}
    value = samples[rank_of(statistic.q, n) - 1] if statistic.q else plain[statistic.key]
    worst = np.fmax if objective.limit.upper else np.fmin
    return Measurement(float(value), found[0].unit, n, "samples", lambda: worst.reduce(columns, axis=0))


_MEASURES = {"histogram": _of_histograms, "counter": _of_counters, "gauge": _of_gauges}


def _too_few(statistic: Statistic, n: int) -> bool:
    return bool(statistic.q) and not supported(statistic.q, n)


def _fewer(statistic: Statistic, n: int, counted: str) -> Missing:
    needed = math.ceil(round(1 / (1 - statistic.q), 6))
    fact = f"{statistic.key} needs {format_count(needed)} {counted} at least, there are {format_count(n)}"
    return Missing(fact, "record for longer, or judge a lower quantile")


def _is_sampled(metric: str) -> bool:
    return metric.startswith(_SAMPLED)


def _shared(objective: Objective) -> Labels:
    """Return the labels of *objective* that its base has too."""
    return tuple(pair for pair in objective.where if pair[0] == BASES[objective.metric].shared)


def _tried(objective: Objective, evidence: Evidence) -> NDArray[np.float64]:
    """Return float64[intervals], how often that could have failed which *objective* counts the failures of."""
    return evidence.increases(evidence.matching(BASES[objective.metric].metric, _shared(objective)))


def _no_base(objective: Objective) -> Missing:
    base = format_series(BASES[objective.metric].metric, _shared(objective))
    return Missing(f"{base} counted nothing that could fail", "record while it happens")


def _is_zero(objective: Objective, evidence: Evidence) -> bool:
    """
    Tell whether the absence of a counter of failures means that nothing failed.

    It does if there was something that could fail, and if no label of the objective could be a slip
    of the pen, which would pass for ever.
    """
    if objective.metric not in BASES or _is_off(objective.metric, evidence):
        return False
    known = all(_is_known(objective.metric, *label, evidence) for label in objective.where)
    return known and bool(_tried(objective, evidence).sum() > 0)


def _is_known(metric: str, name: str, value: str, evidence: Evidence) -> bool:
    """Tell whether a label without a series of *metric* is a word that the recording could have used."""
    if name == "role":
        return any(series.label("role") == value for series in evidence.series)
    if name != BASES[metric].kind:
        return name == BASES[metric].shared
    if name == "how":
        return bool(value in signal.Signals.__members__ or _HOW.fullmatch(value))
    seen = {series.label(name) for series in evidence.matching(metric, ())}
    number = getattr(errno, value, None)
    aliases = {other for other in seen if getattr(errno, other, None) == number}  # EWOULDBLOCK is EAGAIN
    return value in seen or (isinstance(number, int) and not aliases)


def _is_off(metric: str, evidence: Evidence) -> bool:
    return metric in _TIERS and _TIERS[metric][0] not in evidence.tiers


def _absence(objective: Objective, evidence: Evidence) -> Missing:
    """Say why there is no such series."""
    metric = objective.metric
    if _is_off(metric, evidence):
        return Missing(f"{metric} was not measured", _TIERS[metric][1])
    same = evidence.matching(metric, ())
    missing = _other_labels(objective, same) if same else None
    if metric in BASES and not (missing and missing.hint) and not _tried(objective, evidence).any():
        return _no_base(objective)
    if missing:
        return missing
    metrics = sorted({series.metric for series in evidence.series})
    near = get_close_matches(metric, metrics, 1, _NEAR)
    hint = printable(near[0]) if near else "tracekit report, which shows what was measured"
    return Missing(f"the recording has no series {metric}", hint)


def _other_labels(objective: Objective, same: Sequence[Series]) -> Missing:
    """Say which label sets *objective* apart from the series of its metric."""
    for name, value in objective.where:
        values = sorted({series.label(name) for series in same} - {""})
        if value not in values:
            shown = ", ".join(map(quoted, values[:5])) + (f" and {len(values) - 5} more" if len(values) > 5 else "")
            known = f"its {name} is {shown}" if values else f"it has no label {name}"
            near = get_close_matches(value, values, 1, _NEAR)
            hint = f"{name}={quoted(near[0])}" if near else ""
            return Missing(f"{objective.metric} has no {name}={quoted(value)}: {known}", hint)
    return Missing(f"{objective.metric} has no series with all of these labels together", "fewer labels")


def _refusal(objective: Objective, cause: str, hint: str) -> UsageError:
    return UsageError(f"cannot use {objective.place}: {cause}", hint)
