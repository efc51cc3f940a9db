"""
How far a number of a recording may be from that of the service it was taken of.

Every statistic that is judged is a ratio of two sums over the intervals: events at most
this long / events, time / events, failures / calls, counted / seconds. Its error is that of the
residual `part - ratio * whole` of each interval, summed. Three estimates of it, the widest counts:
that of independent events; that of six batches of neighbouring intervals; and that of a first
order autoregression. Latencies come in bursts, so the first alone is far too narrow.
docs/verdicts.md has what was tried, and how often each held the truth.

Sources:
    Quantiles by the intervals of shares, inverted: Woodruff, J. Am. Stat. Assoc. 47 (1952) 635; Francisco and
    Fuller, Annals of Statistics 19 (1991) 454.
    Few batches and Student's t: Schmeiser, Operations Research 30 (1982) 556.
    The small-sample bias of an autocorrelation: Marriott and Pope, Biometrika 41 (1954) 390.
    Shares: the binomial's with an effective number of events, Korn and Graubard, Survey Methodology 24 (1998) 193.
    Ratios of two estimates: Donner and Zou, Stat. Methods Med. Res. 21 (2012) 347.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracekit.errors import EmptyHistogramError
from tracekit.histogram.algebra import merge
from tracekit.histogram.distributions import reaches, student, z_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tracekit.histogram.algebra import Histogram

    Floats = NDArray[np.float64]
    Numbers = NDArray[np.int64]

LEVEL = 0.95
BATCHES = 6
"""Few enough that neighbours hardly correlate, enough for a bearable t; docs/verdicts.md has the coverage."""
_ROUND = 1e-6
"""Events; sums of shares are not exact."""
_SHORTEST = 8
"""Intervals from which an autocorrelation is worth its name."""
_STIFFEST = 0.97
"""Largest autocorrelation that a recording is believed; beyond, it is a trend."""
_STEPS = 60
"""Halvings of [0, 1] that find the end of an interval of a share."""


@dataclass(frozen=True)
class Confidence:
    """
    An interval that holds the true value in 95 % of recordings.

    Attributes:
        low, high: may be 0 and infinity: too few events to say.
        effective: how many independent events would say as much.
        method: which estimate was the widest: `binomial`, `batches`, `autocorrelation`; `constant` of all alike.
    """

    low: float
    high: float
    effective: float
    method: str


@dataclass(frozen=True)
class _Error:
    """Half the width of the interval of a sum, in its unit; *widening*: to that of independent events."""

    half: float
    widening: float
    effect: float
    method: str


@dataclass(frozen=True, eq=False)
class _Events:
    """Events of intervals, by ascending values: cells *first[i]* and later are of *values[i]* or more."""

    values: Floats
    first: Numbers
    interval: Numbers
    count: Floats

    def at_least(self, number: int) -> Floats:
        """Return float64[intervals], the events of values[number] or more; 0 for number = len(values)."""
        start = int(self.first[number]) if number < len(self.values) else len(self.count)
        return np.bincount(self.interval[start:], self.count[start:], int(self.interval.max()) + 1).astype(np.float64)


def needed(q: float, level: float = LEVEL) -> int:
    """Return how many events bound quantile *q* on both sides: 368 for the p99."""
    return math.ceil(math.log((1 - level) / 2) / math.log(max(q, 1 - q)))


def of_quantile(interval: Numbers, value: Floats, count: Numbers, q: float, level: float = LEVEL) -> Confidence:
    """
    Return the interval of a quantile: the values that a test of the share of events above them does not rule out.

    Bursts of the usual are no matter for a limit far above them, and bursts beyond it are: so each value is
    tested with the bursts of the events beyond *it*. How long they last is better told by the medians: so it is
    taken to be as long as theirs, or longer. Intervals without events say nothing and are left out.

    Args:
        interval: int64[cells], the number of the interval of each cell.
        value: float64[cells], of the events of the cell.
        count: int64[cells], how many they are, at least 1.
        q: of the quantile.
        level: how sure.
    """
    events = _sorted(interval, value, count)
    whole, size, share = events.at_least(0), len(events.values), 1 - q
    lasting = _correlation(_residual(_nearest(events, 0.5), whole))
    error = _error_of(_nearest(events, share), whole, level, lasting)

    def rarer(number: int) -> bool:
        return _beyond(whole - events.at_least(number), whole, q, level, lasting)

    def commoner(number: int) -> bool:
        return _beyond(events.at_least(number), whole, share, level, lasting)

    highest = _first(size, lambda i: rarer(i + 1))
    below = _first(size, lambda i: not commoner(i))
    low = float(events.values[below - 1]) if below else 0.0
    high = float(events.values[highest]) if highest < size else math.inf
    return Confidence(low, high, float(whole.sum()) / error.effect, error.method)


def of_parts(parts: Sequence[Histogram], q: float, level: float = LEVEL) -> Confidence:
    """
    Return the interval of quantile *q* of the process that *parts*, its intervals in order of time, are a sample of.

    Raises:
        EmptyHistogramError: no events.
    """
    whole = merge(parts)
    if not whole.count:
        raise EmptyHistogramError("cannot bound a quantile: the histogram has no events")
    counts = [part.to(whole.layout).counts for part in parts]
    slots = [np.flatnonzero(each) for each in counts]
    interval = np.repeat(np.arange(len(slots)), [len(hit) for hit in slots])
    hits = np.concatenate(slots)
    value = np.minimum(whole.layout.upper[hits], np.uint64(whole.high)).astype(np.float64)
    count = np.concatenate([each[hit] for each, hit in zip(counts, slots, strict=True)]).astype(np.int64)
    return of_quantile(interval, value, count, q, level)


def of_mean(total: Floats, whole: Floats, variance: float, level: float = LEVEL) -> Confidence:
    """
    Return the interval of sum(total) / sum(whole), of what cannot be negative.

    Args:
        total: float64[intervals], in any unit.
        whole: float64[intervals], events or seconds.
        variance: of sum(total), were the events independent; 0 if not known.
        level: how sure.
    """
    n = float(whole.sum())
    value = float(total.sum()) / n
    error = _error(total - value * whole, variance, level)
    half = error.half / n
    return Confidence(max(value - half, 0.0), value + half, n / error.effect, error.method)


def of_rate(counted: Floats, seconds: Floats, level: float = LEVEL) -> Confidence:
    """Return the interval of events per second; of none, what a Poisson process could have hidden."""
    found, length = float(counted.sum()), float(seconds.sum())
    part = of_mean(counted, seconds, found, level)
    hidden = -math.log((1 - level) / 2) / length
    return Confidence(
        part.low, max(part.high, hidden), part.effective * found / length, part.method if found else "binomial"
    )


def of_share(part: Floats, whole: Floats, level: float = LEVEL) -> Confidence:
    """Return the interval of a share of events, sum(part) / sum(whole)."""
    error = _error_of(part, whole, level)
    n, tail = float(whole.sum()), (1 - level) / 2
    worth = n / error.widening**2
    found = float(part.sum()) / n * worth
    low = _limit(lambda share: reaches(found, worth, share, tail)) if found else 0.0
    high = 1 - _limit(lambda share: reaches(worth - found, worth, share, tail))
    return Confidence(min(low, found / worth), max(high, found / worth), n / error.effect, error.method)


def of_ratio(value: float, mine: Confidence, other: float, its: Confidence) -> Confidence:
    """Return the interval of *value* / *other*, of two estimates that know nothing of each other."""
    down = math.hypot(_log(value, mine.low), _log(its.high, other))
    up = math.hypot(_log(mine.high, value), _log(other, its.low))
    ratio = value / other
    high = ratio * math.exp(up) if up < math.log(1e300) else math.inf
    return Confidence(ratio * math.exp(-down), high, min(mine.effective, its.effective), mine.method)


def variance_of(part: Histogram) -> float:
    """Return the variance of a sum of as many independent events as *part* has."""
    return part.count * part.deviation**2


def _log(above: float, below: float) -> float:
    return math.inf if below <= 0 or math.isinf(above) else max(math.log(above / below), 0.0)


def _sorted(interval: Numbers, value: Floats, count: Numbers) -> _Events:
    order = np.argsort(value, kind="stable")
    values, first = np.unique(value[order], return_index=True)
    numbered = np.unique(interval, return_inverse=True)[1].reshape(-1)
    return _Events(values, first.astype(np.int64), numbered[order], count[order].astype(np.float64))


def _nearest(events: _Events, share: float) -> Floats:
    """Return the events of some value or more, float64[intervals]: those that are nearest to *share* of all."""
    whole = events.at_least(0)
    n, size = float(whole.sum()), len(events.values)
    here = _first(size, lambda i: float(events.at_least(i + 1).sum()) <= share * n + _ROUND)
    splits = [part for part in (events.at_least(here), events.at_least(here + 1)) if 0 < part.sum() < n]
    return min(splits, key=lambda part: abs(float(part.sum()) - share * n), default=whole)


def _residual(part: Floats, whole: Floats) -> Floats:
    """Return *part* less its share of *whole*, float64[intervals]; without the noise of rounding, which correlates."""
    found = part - float(part.sum()) / float(whole.sum()) * whole
    return np.where(np.abs(found) < _ROUND, 0.0, found)


def _beyond(part: Floats, whole: Floats, share: float, level: float, lasting: float) -> bool:
    """Tell whether sum(part) / sum(whole) is larger than *share* by more than chance and bursts explain."""
    found, n = float(part.sum()), float(whole.sum())
    if found <= share * n:
        return False
    worth = 1 / _error_of(part, whole, level, lasting).widening ** 2
    return reaches(found * worth, n * worth, share, (1 - level) / 2)


def _first(size: int, found: Callable[[int], bool]) -> int:
    """Return the first of 0..size - 1 that is *found*, and all after it are; *size* if none is."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) else (middle + 1, high)
    return low


def _limit(outside: Callable[[float], bool]) -> float:
    """Return the share in [0, 1] from which on they are not *outside*."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if outside(middle) else (low, middle)
    return high


def _error_of(part: Floats, whole: Floats, level: float, lasting: float = 0.0) -> _Error:
    """Return the error of the sum of *part*, a share of *whole*; of none or all that of independent events."""
    n, found = float(whole.sum()), float(part.sum())
    if not 0 < found < n:
        return _Error(0.0, 1.0, 1.0, "binomial")
    return _error(_residual(part, whole), found * (1 - found / n), level, lasting)


def _error(residual: Floats, independent: float, level: float, lasting: float = 0.0) -> _Error:
    """
    Return the widest error of the sum of *residual*, whose variance is *independent* if events are.

    Args:
        residual: float64[intervals], their sum is 0.
        independent: in the unit of the residual, squared; 0: not known.
        level: how sure.
        lasting: the autocorrelation, if that of the residual is smaller.
    """
    n = len(residual)
    found = [(z_of((1 + level) / 2) * math.sqrt(independent), independent, "binomial" if independent else "constant")]
    if n > 1:
        found.append(_batches(residual, level))
    if n >= _SHORTEST:
        found.append(_autoregression(residual, level, lasting))
    half, _, method = max(found)
    widening = half / found[0][0] if independent > 0 else 1.0
    effect = max(found[-1][1] / independent, 1.0) if independent > 0 else 1.0
    return _Error(half, widening, effect, method)


def _batches(residual: Floats, level: float) -> tuple[float, float, str]:
    batches = min(BATCHES, len(residual))
    edges = np.linspace(0, len(residual), batches + 1).round().astype(np.int64)
    sums = np.add.reduceat(residual, edges[:-1])
    variance = float(sums.var(ddof=1)) * batches
    return student(batches - 1, level) * math.sqrt(variance), variance, "batches"


def _autoregression(residual: Floats, level: float, lasting: float) -> tuple[float, float, str]:
    n, rho = len(residual), max(_correlation(residual), lasting)
    variance = float((residual**2).sum()) * n / (n - 1) * (1 + rho) / (1 - rho)
    freedom = max(n * (1 - rho) / (1 + rho) - 1, 1.0)
    return student(freedom, level) * math.sqrt(variance), variance, "autocorrelation"


def _correlation(residual: Floats) -> float:
    """Return the correlation of neighbours, 0 to _STIFFEST, its bias put right."""
    n, squares = len(residual), float((residual**2).sum())
    if n < _SHORTEST or not squares:
        return 0.0
    rho = float((residual[1:] * residual[:-1]).sum()) / squares
    return min(max(rho + (1 + 4 * rho) / n, 0.0), _STIFFEST)
