"""
How far a number of a recording may be from that of the service it was taken of.

Every statistic that is judged is a ratio of two sums over the intervals: events at most
this long / events, time / events, failures / calls, counted / seconds. Its error is that of the
residual `part - ratio * whole` of each interval, summed. Three estimates of it, the widest counts:
that of independent events; that of six batches of neighbouring intervals; and that of a first
order autoregression. Latencies come in bursts, so the first alone is far too narrow.

Sources:
    Quantiles by the intervals of shares, inverted: Francisco and Fuller, Annals of Statistics 19 (1991) 454.
    Few batches and Student's t: Schmeiser, Operations Research 30 (1982) 556.
    The small-sample bias of an autocorrelation: Kendall, Biometrika 41 (1954) 403.
    Shares: Wilson, J. Am. Stat. Assoc. 22 (1927) 209, with an effective number of events; of none or all, exact:
    Clopper and Pearson, Biometrika 26 (1934) 404.
    Ratios of two estimates: Donner and Zou, Stat. Methods Med. Res. 21 (2012) 347.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from tracekit.histogram.confidence import LEVEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tracekit.histogram import Histogram

    Floats = NDArray[np.float64]

BATCHES = 6
"""Few enough that neighbours hardly correlate, enough for a bearable t; docs/verdicts.md has the coverage."""
_ROUND = 1e-6
"""Events; sums of shares are not exact."""
_SHORTEST = 8
"""Intervals from which an autocorrelation is worth its name."""
_STIFFEST = 0.97
"""Largest autocorrelation that a recording is believed; beyond, it is a trend."""


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


def needed(q: float, level: float = LEVEL) -> int:
    """Return how many events bound quantile *q* on both sides: 368 for the p99."""
    return math.ceil(math.log((1 - level) / 2) / math.log(max(q, 1 - q)))


def of_quantile(
    values: Sequence[float], at_least: Callable[[int], Floats], q: float, level: float = LEVEL
) -> Confidence:
    """
    Return the interval of a quantile: the values that a test of the share of events above them does not rule out.

    Bursts of the usual are no matter for a limit far above them, and bursts beyond it are: so each value is
    tested with the bursts of the events beyond *it*.

    Args:
        values: of the events, ascending.
        at_least: gives float64[intervals], the events of values[i] or more; 0 for i = len(values).
        q: of the quantile.
        level: how sure.
    """
    whole = at_least(0)
    n, size, share = float(whole.sum()), len(values), 1 - q
    here = _first(size, lambda i: float(at_least(i + 1).sum()) <= share * n + _ROUND)
    splits = [part for part in (at_least(here), at_least(here + 1)) if 0 < part.sum() < n]
    part = min(splits, key=lambda part: abs(float(part.sum()) - share * n), default=whole)
    error = _ends(part, whole, level)[2]
    highest = _first(size, lambda i: _ends(at_least(i + 1), whole, level)[1] <= share)
    below = _first(size, lambda i: _ends(at_least(i), whole, level)[0] < share)
    low = values[below - 1] if below else 0.0
    return Confidence(low, values[highest] if highest < size else math.inf, n / error.effect, error.method)


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
    low, high, error = _ends(part, whole, level)
    return Confidence(low, high, float(whole.sum()) / error.effect, error.method)


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


def _ends(part: Floats, whole: Floats, level: float) -> tuple[float, float, _Error]:
    """Return the ends of the interval of the share sum(part) / sum(whole), and the error that it comes from."""
    n, tail = float(whole.sum()), (1 - level) / 2
    share = float(part.sum()) / n
    error = _error(part - share * whole, n * share * (1 - share), level)
    z2 = _z(level) ** 2 * error.widening**2 / n
    middle = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(z2 * max(share * (1 - share), 0.0) + z2**2 / 4) / (1 + z2)
    low = tail ** (1 / n) if share >= 1 else max(middle - half, 0.0)
    high = 1 - tail ** (1 / n) if share <= 0 else min(middle + half, 1.0)
    return low, high, error if 0 < share < 1 else replace(error, method="binomial")


def _first(size: int, found: Callable[[int], bool]) -> int:
    """Return the first of 0..size - 1 that is *found*, and all after it are; *size* if none is."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) else (middle + 1, high)
    return low


def _error(residual: Floats, independent: float, level: float) -> _Error:
    """Return the widest error of the sum of *residual*, whose variance is *independent* if events are."""
    n = len(residual)
    found = [(_z(level) * math.sqrt(independent), independent, "binomial" if independent else "constant")]
    if n > 1:
        found.append(_batches(residual, level))
    if n >= _SHORTEST:
        found.append(_autoregression(residual, level))
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


def _autoregression(residual: Floats, level: float) -> tuple[float, float, str]:
    n, squares = len(residual), float((residual**2).sum())
    if not squares:
        return 0.0, 0.0, "autocorrelation"
    rho = float((residual[1:] * residual[:-1]).sum()) / squares
    rho = min(max(rho + (1 + 3 * rho) / n, 0.0), _STIFFEST)
    variance = squares * n / (n - 1) * (1 + rho) / (1 - rho)
    freedom = max(n * (1 - rho) / (1 + rho) - 1, 1.0)
    return student(freedom, level) * math.sqrt(variance), variance, "autocorrelation"


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


def student(freedom: float, level: float) -> float:
    """
    Return the half width of the *level* interval of Student's t.

    Source:
        Hill, Algorithm 396, Comm. ACM 13 (1970) 619; six digits from 5 degrees of freedom, three from 1.
    """
    n, both = max(freedom, 1.0), 1 - level
    if n < 1.5:
        return 1 / math.tan(both * math.pi / 2)
    if n < 2.5:
        return math.sqrt(2 / (both * (2 - both)) - 2)
    a = 1 / (n - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * n
    y = (d * both) ** (2 / n)
    return math.sqrt(n * (_body(n, both, a, b, c, d) if y > 0.05 + a else _tail(n, y, d)))


def _body(n: float, both: float, a: float, b: float, c: float, d: float) -> float:
    x = NormalDist().inv_cdf(both / 2)
    if n < 5:
        c += 0.3 * (n - 4.5) * (x + 0.6)
    c += (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b
    y = x * x
    y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
    return math.expm1(a * y * y)


def _tail(n: float, y: float, d: float) -> float:
    inner = 1 / (((n + 6) / (n * y) - 0.089 * d - 0.822) * (n + 2) * 3) + 0.5 / (n + 4)
    return (inner * y - 1) * (n + 1) / (n + 2) + 1 / y
