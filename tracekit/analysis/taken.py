"""Statistics of each kind of series, over the intervals that an objective looks at."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tracekit.analysis.absence import no_base, shared, tried
from tracekit.analysis.fitting import BASES, refusal
from tracekit.analysis.measurement import NOT_FINITE, Measurement, Missing
from tracekit.analysis.objectives import format_series
from tracekit.histogram import HIGHEST, UPPER_EDGE, confidence, rank_of
from tracekit.units import format_count, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tracekit.analysis.evidence import Evidence
    from tracekit.analysis.objectives import Limit, Objective, Statistic
    from tracekit.analysis.slices import Slices
    from tracekit.histogram import Histogram
    from tracekit.histogram.confidence import Confidence
    from tracekit.records import Series

    Floats = NDArray[np.float64]


def of_histograms(
    objective: Objective, found: Sequence[Series], evidence: Evidence, level: float
) -> Measurement | Missing:
    """Take the statistic of the events of several series, merged."""
    slices = evidence.slices(objective.metric, objective.where)
    statistic, limit, whole = objective.statistic, objective.limit, slices.whole
    if not whole.count:
        return Missing(f"{objective.series} has no events", "record while they happen")
    if _too_few(statistic, whole.count):
        return _fewer(statistic, whole.count, "events")

    def by_stretch() -> Floats:
        parts = zip(slices.each(), evidence.seconds.tolist(), strict=True)
        return np.array([_of_histogram(part, statistic, seconds) for part, seconds in parts])

    latency = limit.upper and not limit.relative and (statistic.q or statistic.key in ("mean", "max", "min"))
    above = whole.share_above(min(int(limit.value), HIGHEST)) if latency and not objective.per else None
    share = None if statistic.above is None else (slices.events - slices.up_to(_slot_value(statistic)), slices.events)
    return Measurement(
        _of_histogram(whole, statistic, evidence.duration_s),
        {"rate": "count"}.get(statistic.key, "share" if share else found[0].unit),
        whole.count,
        "events",
        evidence.intervals,
        by_stretch,
        _confidence(statistic, slices, evidence, level),
        above,
        share,
    )


def _of_histogram(part: Histogram, statistic: Statistic, seconds: float) -> float:
    """Return the statistic of *part*; NaN of no events, but a rate of none is 0."""
    if statistic.key == "rate":
        return part.count / seconds
    if not part.count:
        return math.nan
    if statistic.above is not None:
        return part.share_above(int(_slot_value(statistic)))
    if statistic.q:
        return float(part.quantile(statistic.q))
    return float({"mean": part.mean, "min": part.low, "max": part.high, "total": part.total}[statistic.key])


def _slot_value(statistic: Statistic) -> float:
    return min(statistic.above or 0.0, float(HIGHEST))


def _confidence(statistic: Statistic, slices: Slices, evidence: Evidence, level: float) -> Confidence | None:
    whole, events = slices.whole, slices.events
    if statistic.above is not None:
        return confidence.of_share(events - slices.up_to(_slot_value(statistic)), events, level)
    if statistic.q:
        return of_quantile(slices, statistic.q, level)
    if statistic.key == "mean":
        return confidence.of_mean(slices.total, events, confidence.variance_of(whole), level)
    if statistic.key == "rate":
        return confidence.of_rate(*_timed(events, evidence), level)
    return None


def of_quantile(slices: Slices, q: float, level: float) -> Confidence:
    """Return the interval of quantile *q* of events."""
    value = np.minimum(UPPER_EDGE[slices.slot], np.uint64(slices.whole.high)).astype(np.float64)
    return confidence.of_quantile(slices.interval, value, slices.count, q, level)


def of_counters(
    objective: Objective, found: Sequence[Series], evidence: Evidence, level: float
) -> Measurement | Missing:
    """Add up the counters of several series; a limit in % makes them a share of their base or of the time."""
    unit = found[0].unit if found else "count"
    if unit == "ns" and len(found) > 1:
        hint = f"one of them, such as {printable(format_series(found[0].metric, found[0].labels))}"
        raise refusal(objective, f"{len(found)} series match, and times that overlap do not add up", hint)
    increases = evidence.increases(found)
    if not np.isfinite(increases).all():
        return NOT_FINITE
    if objective.statistic.key == "rate" and _is_share(objective.limit, unit) and not objective.per:
        return _share(objective, unit, increases, evidence, level)
    total, n = float(increases.sum()), len(increases)
    if objective.statistic.key == "total":
        return Measurement(total, unit, n, "intervals", evidence.intervals, lambda: increases)
    timed = _timed(increases, evidence)
    known = confidence.of_rate(*timed, level) if unit == "count" else confidence.of_mean(*timed, 0.0, level)
    known = replace(known, effective=float(n))  # of what is counted nobody knows how much comes at once
    rates = increases / evidence.seconds
    return Measurement(total / evidence.duration_s, unit, n, "intervals", evidence.intervals, lambda: rates, known)


def _is_share(limit: Limit, unit: str) -> bool:
    """Tell whether a rate is one of the time, or of what was tried."""
    return unit == "ns" or (limit.unit == "share" and not limit.relative)


def _share(
    objective: Objective, unit: str, increases: Floats, evidence: Evidence, level: float
) -> Measurement | Missing:
    """Return *increases* as a share of their base, or of the time if they are ns."""
    if unit == "ns":
        whole, n, counted = evidence.seconds * 1e9, len(increases), "intervals"
        known = replace(confidence.of_mean(*_timed(increases * 1e-9, evidence), 0.0, level), effective=float(n))
    else:
        base = BASES[objective.metric]
        strange = [name for name, _ in objective.where if name != base.kind and (name, _) not in shared(objective)]
        if strange:
            hint = f'rate = "{objective.limit.operator} 5/s", or leave {strange[0]} out'
            raise refusal(objective, f"{base.metric} is not counted by {strange[0]}, so there is no share", hint)
        whole = tried(objective, evidence)
        if not np.isfinite(whole).all():
            return NOT_FINITE
        n, counted = round(float(whole.sum())), base.metric
        if n <= 0:
            return no_base(objective)
        known = confidence.of_share(increases, whole, level)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(whole > 0, increases / whole, np.nan)
    value = float(increases.sum() / np.nansum(whole))
    sums = increases, np.nan_to_num(whole)
    return Measurement(value, "share", n, counted, evidence.intervals, lambda: shares, known, sums=sums)


def of_gauges(objective: Objective, found: Sequence[Series], evidence: Evidence, level: float) -> Measurement | Missing:
    """Pool the samples of several series: the max is the largest of any, the mean that of all."""
    columns = evidence.samples(found)
    return of_samples(objective, columns, found[0].unit, evidence, level)


def of_samples(
    objective: Objective, columns: Floats, unit: str, evidence: Evidence, level: float
) -> Measurement | Missing:
    """Take the statistic of samples, float64[series, intervals], NaN where there is none."""
    samples = np.sort(columns[~np.isnan(columns)])
    statistic, n = objective.statistic, len(samples)
    if not n:
        return Missing(f"{objective.series} has no samples", "record for longer")
    if not np.isfinite(samples).all() and statistic.key in ("mean", "growth"):
        return NOT_FINITE
    if _too_few(statistic, n):
        return _fewer(statistic, n, "samples")
    value, known, sums = _of_samples(statistic, samples, columns, level)
    worst = np.fmax if objective.limit.upper else np.fmin
    unit = unit if statistic.above is None else "share"
    counted = "samples"
    by_stretch = _growths(columns) if statistic.key == "growth" else worst.reduce(columns, axis=0)
    return Measurement(value, unit, n, counted, evidence.intervals, lambda: by_stretch, known, sums=sums)


def _of_samples(
    statistic: Statistic, samples: Floats, columns: Floats, level: float
) -> tuple[float, Confidence | None, tuple[Floats, Floats] | None]:
    whole = (~np.isnan(columns)).sum(axis=0).astype(np.float64)
    if statistic.above is not None:
        part = (columns > statistic.above).sum(axis=0).astype(np.float64)
        return float(part.sum() / whole.sum()), confidence.of_share(part, whole, level), (part, whole)
    if statistic.q:
        value = float(samples[rank_of(statistic.q, len(samples)) - 1])
        interval = np.nonzero(~np.isnan(columns.T))[0]
        taken = columns.T[~np.isnan(columns.T)]
        known = confidence.of_quantile(interval, taken, np.ones_like(interval), statistic.q, level)
        return value, known, None
    if statistic.key == "mean":
        return float(samples.mean()), confidence.of_mean(np.nansum(columns, axis=0), whole, 0.0, level), None
    if statistic.key == "growth":
        return float(np.nanmax(_growths(columns))), None, None
    return float(samples[0] if statistic.key == "min" else samples[-1]), None, None


def _growths(columns: Floats) -> Floats:
    """Return float64[intervals]: how far the sum of the series is above its lowest value so far."""
    known = ~np.isnan(columns).all(axis=0)
    sums = np.where(known, np.nansum(columns, axis=0), np.nan)
    lowest = np.minimum.accumulate(np.where(known, sums, np.inf))
    return np.asarray(np.where(known, sums - lowest, np.nan))


def _timed(increases: Floats, evidence: Evidence) -> tuple[Floats, Floats]:
    """Return increases and lengths of the intervals that have a length."""
    keep = ~np.isnan(evidence.seconds)
    return increases[keep], evidence.seconds[keep]


def _too_few(statistic: Statistic, n: int) -> bool:
    return bool(statistic.q) and n < confidence.needed(statistic.q)


def _fewer(statistic: Statistic, n: int, counted: str) -> Missing:
    needed = format_count(confidence.needed(statistic.q))
    fact = f"{statistic.key} needs {needed} {counted} at least, there are {format_count(n)}"
    return Missing(fact, "record for longer, or judge a lower quantile")
