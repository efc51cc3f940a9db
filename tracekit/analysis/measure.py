"""What a recording says of one objective: over all of it, in its worst window, or how fast a budget burns."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tracekit.analysis import concurrency, shed, slowdown
from tracekit.analysis.absence import absence, is_zero
from tracekit.analysis.evidence import Evidence, is_sampled
from tracekit.analysis.fitting import check, check_ratio, refusal
from tracekit.analysis.measurement import NOT_FINITE, Measurement, Missing
from tracekit.analysis.objectives import Burn, Objective, quoted
from tracekit.analysis.taken import of_counters, of_gauges, of_histograms, of_samples
from tracekit.errors import RecordingError
from tracekit.histogram import confidence
from tracekit.histogram.confidence import LEVEL
from tracekit.records import Interval
from tracekit.units import format_count, format_ns, format_share, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tracekit.records import Series

    Floats = NDArray[np.float64]
    Numbers = NDArray[np.int64]

LOST_TOLERANCE = 0.01
"""A larger share of lost events leaves nothing to judge: a p99 could be all of them."""
SEEN = 0.5
"""Of the time; what was shed for more is not judged by the rest."""
_PERIOD_NS = 30 * 86_400 * 10**9
"""What a budget is usually for; https://sre.google/workbook/alerting-on-slos/."""
_KINDS: dict[str, Any] = {"histogram": of_histograms, "counter": of_counters, "gauge": of_gauges}


def measure(objective: Objective, evidence: Evidence) -> Measurement | Missing:
    """
    Take the statistic of *objective*.

    Raises:
        UsageError: the statistic or the unit of the limit does not fit the series.
        RecordingError: series of one metric have different units.
    """
    if not evidence.duration_s:
        return Missing("no interval was finished", "record for longer than one interval")
    for metric, where in [(objective.metric, objective.where), *([objective.per] if objective.per else [])]:
        if metric == concurrency.METRIC:
            evidence = concurrency.derived(evidence, where)
    if objective.during:
        evidence = _during(objective.during, evidence)
        if not evidence.intervals:
            return Missing(f"no span {quoted(objective.during)} ran while recorded", "record while it runs")
    seen = _seen(objective, evidence)
    if isinstance(seen, Missing):
        return seen
    found = _of_seen(objective, seen)
    left_out = len(evidence.intervals) - len(seen.intervals)
    if isinstance(found, Missing) or not left_out:
        return found
    fact = f"of {left_out} of {len(evidence.intervals)} intervals it was shed to hold {shed.limit(evidence.values)}"
    return replace(found, facts=(*found.facts, fact))


def _of_seen(objective: Objective, evidence: Evidence) -> Measurement | Missing:
    if objective.window_ns:
        return _in_windows(objective, evidence)
    found = _whole(objective, evidence, LEVEL)
    return _burning(objective, objective.burn, found) if objective.burn and isinstance(found, Measurement) else found


def _seen(objective: Objective, evidence: Evidence) -> Evidence | Missing:
    """Return the intervals in which nothing that *objective* is about was shed; they must be most of the time."""
    numbers = np.arange(len(evidence.intervals))
    for metric in (objective.metric, *([objective.per[0]] if objective.per else [])):
        numbers = np.intersect1d(numbers, shed.whole(metric, evidence.values, len(evidence.intervals)))
    if len(numbers) == len(evidence.intervals):
        return evidence
    kept = evidence.pick(numbers)
    if kept.duration_s >= SEEN * evidence.duration_s:
        return kept
    gone, whole = (format_ns(round(s * 1e9, -8)) for s in (evidence.duration_s - kept.duration_s, evidence.duration_s))
    fact = f"{objective.metric} was shed for {gone} of {whole}, to hold {shed.limit(evidence.values)}"
    return Missing(fact, "record with a larger --max-overhead, or fewer processes")


def _during(span: str, evidence: Evidence) -> Evidence:
    """Return the intervals in which a *span* ran for some time."""
    if not evidence.matching(concurrency.SPANS, (("span", span),)):
        return evidence.pick(np.zeros(0, dtype=np.int64))
    running = concurrency.of(evidence, (("span", span),)).mean(*concurrency.bounds(evidence))
    return evidence.pick(np.flatnonzero(running > 0))


def _whole(objective: Objective, evidence: Evidence, level: float) -> Measurement | Missing:
    """Take the statistic over all intervals of *evidence*."""
    if objective.metric == slowdown.METRIC:
        return _doubt("histogram", objective.metric, evidence) or slowdown.measure(objective, evidence, level)
    if objective.per:
        return _ratio(objective, objective.per, evidence, level)
    found = evidence.matching(objective.metric, objective.where)
    if not found and not is_zero(objective, evidence):
        return absence(objective, evidence)
    kind, unit = _shape(objective, found)
    check(objective, kind, unit)
    measured = _doubt(kind, objective.metric, evidence) or _KINDS[kind](objective, found, evidence, level)
    return _finite(_said(measured, objective, evidence))


def _said(measured: Measurement | Missing, objective: Objective, evidence: Evidence) -> Measurement | Missing:
    """Say what *measured* is not of."""
    waits = {series.label("operation") for series in evidence.waits(objective.metric, objective.where)}
    if isinstance(measured, Missing) or not waits:
        return measured
    return replace(measured, facts=(*measured.facts, f"without calls that exist to wait ({', '.join(sorted(waits))})"))


def _finite(measured: Measurement | Missing) -> Measurement | Missing:
    return measured if isinstance(measured, Missing) or math.isfinite(measured.value) else NOT_FINITE


def _shape(objective: Objective, found: Sequence[Series]) -> tuple[Any, str]:
    """Return kind and unit of the series; a counter that is truly zero has no series."""
    shapes = {(series.kind, series.unit) for series in found} or {("counter", "count")}
    if len(shapes) > 1:
        raise RecordingError(f"cannot judge {objective.series}: its series have different units")
    return shapes.pop()


def _doubt(kind: str, metric: str, evidence: Evidence) -> Missing | None:
    """Say what makes the events of *metric* too incomplete to judge; None if nothing does."""
    if kind == "gauge" or is_sampled(metric):
        return None
    events, losses = evidence.alike(metric)
    lost = sum(loss.count for loss in losses)
    share = lost / (events + lost) if lost else 0.0
    if share <= LOST_TOLERANCE:
        return None
    reasons = ", ".join(printable(loss.reason) for loss in losses if loss.count)
    fact = f"{format_count(lost)} events were lost, {format_share(share)} of all ({reasons})"
    of_boards = any(loss.reason.startswith("probe") for loss in losses)
    return Missing(
        fact, "fewer names of spans and counters" if of_boards else "trace fewer processes, or without --syscalls"
    )


def _ratio(
    objective: Objective, per: tuple[str, tuple[tuple[str, str], ...]], evidence: Evidence, level: float
) -> Measurement | Missing:
    """Divide the statistic of a series by that of another; gauges sample by sample."""
    lower = replace(objective, metric=per[0], where=per[1], per=None)
    shapes = []
    for each in (objective, lower):
        found = evidence.matching(each.metric, each.where)
        if not found and not is_zero(each, evidence):
            return absence(each, evidence)
        shapes.append(_shape(each, found))
    (kind, unit), (other_kind, other_unit) = shapes
    result = check_ratio(objective, (unit, other_unit), (kind, other_kind))
    check(replace(objective, limit=replace(objective.limit, relative=True)), kind, unit)
    doubt = _doubt(kind, objective.metric, evidence)
    if doubt:
        return doubt
    if kind == "gauge":
        return _of_quotients(objective, lower, result, evidence, level)
    return _finite(_of_quotient(objective, lower, result, evidence, level))


def _of_quotients(
    objective: Objective, lower: Objective, unit: str, evidence: Evidence, level: float
) -> Measurement | Missing:
    sums = []
    for each in (objective, lower):
        columns = evidence.samples(evidence.matching(each.metric, each.where))
        known = ~np.isnan(columns).all(axis=0)
        sums.append(np.where(known, np.nansum(columns, axis=0), np.nan))
    with np.errstate(divide="ignore", invalid="ignore"):
        quotients = np.where(sums[1] > 0, sums[0] / sums[1], np.nan)
    return _finite(of_samples(objective, quotients[None, :], unit, evidence, level))


def _of_quotient(
    objective: Objective, lower: Objective, unit: str, evidence: Evidence, level: float
) -> Measurement | Missing:
    parts = []
    for each in (objective, lower):
        kind, _ = _shape(each, found := evidence.matching(each.metric, each.where))
        limit = replace(objective.limit, relative=True, unit="count")  # plain rates, not shares of a base
        part = _KINDS[kind](replace(each, limit=limit, per=None), found, evidence, level)
        if isinstance(part, Missing):
            return part
        parts.append(part)
    mine, other = parts
    if not other.value:
        return Missing(
            f"{lower.series} {objective.statistic.key} is 0: nothing to divide by", "record while it happens"
        )
    known = None
    if mine.confidence and other.confidence and mine.value > 0:
        known = confidence.of_ratio(mine.value, mine.confidence, other.value, other.confidence)

    def by_stretch() -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(mine.by_stretch() / other.by_stretch())

    return Measurement(mine.value / other.value, unit, mine.n, mine.counted, evidence.intervals, by_stretch, known)


def _in_windows(objective: Objective, evidence: Evidence) -> Measurement | Missing:
    """Take the statistic of each window; the value is the worst, with an interval that allows for their number."""
    windows = _windows(evidence, objective.window_ns)
    if not windows:
        length = format_ns(evidence.duration_s * 1e9)
        return Missing(
            f"there are {length} to look at, a window is {format_ns(objective.window_ns)}", "record for longer"
        )
    level = 1 - (1 - LEVEL) / len(windows)
    found = [_whole(objective, evidence.pick(window), level) for window in windows]
    pairs = [(each, window) for each, window in zip(found, windows, strict=True) if isinstance(each, Measurement)]
    if not pairs:
        return next(each for each in found if isinstance(each, Missing))
    values = np.array([each.value for each, _ in pairs])
    worst = pairs[int(np.argmax(values) if objective.limit.upper else np.argmin(values))][0]
    stretches = [
        Interval(evidence.intervals[window[0]].start_ns, evidence.intervals[window[-1]].end_ns) for _, window in pairs
    ]
    counted = f"{worst.counted} in the worst of {len(pairs)} windows"
    silent = len(windows) - len(pairs)
    facts = (f"{silent} of {len(windows)} windows had too little to judge",) if silent else ()
    return replace(worst, stretches=stretches, by_stretch=lambda: values, counted=counted, facts=(*worst.facts, *facts))


def _windows(evidence: Evidence, length_ns: int) -> list[Numbers]:
    """Return the numbers of the intervals of each window of at least *length_ns*; a last, shorter one is left out."""
    windows, first, length = [], 0, 0
    for number, interval in enumerate(evidence.intervals):
        length += interval.duration_ns
        if length >= length_ns:
            windows.append(np.arange(first, number + 1))
            first, length = number + 1, 0
    return windows


def _burning(objective: Objective, burn: Burn, found: Measurement) -> Measurement | Missing:
    """
    Return how many times too fast a budget burns when it burns fastest, in the slower of both windows.

    Source:
        The Site Reliability Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".
    """
    if not found.sums:
        raise refusal(objective, "only a share that may miss can burn", '"above 50ms" = "< 1%"')
    length = sum(interval.duration_ns for interval in found.stretches)
    if length < burn.long_ns:
        reason = f"{format_ns(length)} were recorded, the long window is {format_ns(burn.long_ns)}"
        return Missing(reason, "record for longer, or shorter windows")
    rates = np.minimum(*(_rolling(found, window) for window in (burn.long_ns, burn.short_ns)))
    rates = rates / objective.limit.value
    fastest = float(np.nanmax(rates))
    left = f"30 days' budget would last {format_ns(_PERIOD_NS / fastest)}" if fastest else "no budget was burnt"
    return replace(found, value=fastest, unit="times", by_stretch=lambda: rates, confidence=None, facts=(left,))


def _rolling(found: Measurement, window_ns: int) -> Floats:
    """Return the share in the *window_ns* up to the end of each interval; NaN where less was recorded."""
    assert found.sums
    part, whole = (np.concatenate([[0.0], np.cumsum(column)]) for column in found.sums)
    edges = np.concatenate([[0], np.cumsum([interval.duration_ns for interval in found.stretches])])
    last = np.arange(1, len(edges))
    first = np.searchsorted(edges, edges[1:] - window_ns, "right") - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(whole[last] > whole[first], (part[last] - part[first]) / (whole[last] - whole[first]), 0.0)
    return np.where(edges[1:] >= window_ns, shares, np.nan)
