"""
How far a quantile of a recording may be from that of the service: intervals, and what a sample is worth.

Two questions differ. What the quantile of *these* events is, is known up to the width of a slot. What it would
be in the long run needs an interval, and as latencies of one moment resemble each other, the usual binomial one is
far too narrow. So here the events are taken by time: see docs/histograms.md for the method and how it was tried.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from tracekit.errors import EmptyHistogramError
from tracekit.histogram.algebra import Histogram, merge, rank_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 999
_ROWS = 512
"""More intervals than this are pooled: the bootstrap's cost stays bounded, its blocks are longer anyway."""
_BLOCKS = 8
"""Blocks that a bootstrap needs at least; it needs twice as many intervals."""
_CALM = 2.0
"""Standard errors of an autocorrelation below which it is taken for chance."""
_SMOOTH = 1000.0
"""Standard deviation of a binomial from which the normal approximation names its quantiles to the rank."""


@dataclass(frozen=True)
class Confidence:
    """
    An interval for a quantile of what the events are a sample of.

    Attributes:
        low, high: its ends, values of events; None: the sample does not bound it on this side.
        level: share of such intervals that hold the true quantile.
        count: number of events; effective: number of independent ones that would say as much.
        method: what gave the wider interval: `binomial` or `bootstrap`.
        block: intervals in a block of the bootstrap, 0: there was none.
    """

    low: int | None
    high: int | None
    level: float
    count: int
    effective: float
    method: str
    block: int


def ranks(total: int, q: float, level: float = LEVEL) -> tuple[int, int]:
    """
    Return the ranks of the two events of *total* independent ones between which quantile *q* lies.

    Returns:
        (lower, upper), the narrowest with at most (1 - level) / 2 on each side; lower is 0 and upper
        total + 1 where no event bounds it: for a p99 at 95 % that takes 368 events.

    Source:
        Order statistics, e.g. Conover, Practical Nonparametric Statistics, 3.2; the tails of the
        binomial are summed, or from a deviation of 1000 events on approximated (Cornish-Fisher).
    """
    if not 0 < q < 1:
        raise ValueError(f"q is a share in (0, 1), got {q}")
    tail = (1 - level) / 2
    deviation = math.sqrt(total * q * (1 - q))
    if deviation > _SMOOTH:
        low, high = (_smooth(total, q, deviation, p) for p in (tail, 1 - tail))
        return low, high + 1
    first, cdf = _binomial(total, q, deviation)
    # the number of events below the true quantile is k: event r lies below it if k >= r
    lower = first + int(np.searchsorted(cdf, tail, side="right"))
    upper = first + int(np.searchsorted(cdf, 1 - tail, side="left")) + 1
    return lower, upper


def of_quantile(parts: Sequence[Histogram], q: float, level: float = LEVEL) -> Confidence:
    """
    Return an interval for quantile *q* of the process that *parts*, its intervals in order of time, are a sample of.

    The wider of two: order statistics of the effective number of independent events, and a circular
    block bootstrap over the intervals. One part alone is taken for independent events. The same parts
    give the same interval: the draws are seeded.

    Raises:
        EmptyHistogramError: no events.

    Source:
        Künsch, The jackknife and the bootstrap for general stationary observations (1989); Politis and White,
        Automatic block-length selection for the dependent bootstrap (2004), for the length of a block.
    """
    whole = merge(parts)
    if not whole.count:
        raise EmptyHistogramError("cannot bound a quantile: the histogram has no events")
    rows, first = _rows(parts, whole)
    correlation = _correlation(rows, q)
    worth = effective(rows, q, correlation)
    by_rank = _by_rank(whole, q, worth, level)
    if len(rows) < 2 * _BLOCKS:
        return Confidence(*by_rank, level, whole.count, worth, "binomial", 0)
    block = _block(correlation, len(rows))
    drawn = [int(whole.layout.upper[first + slot]) for slot in _bootstrap(rows, q, level, block)]
    low = None if by_rank[0] is None else min(by_rank[0], drawn[0])
    high = None if by_rank[1] is None else max(by_rank[1], min(drawn[1], whole.high))
    method = "binomial" if (low, high) == by_rank else "bootstrap"
    return Confidence(low, high, level, whole.count, worth, method, block)


def effective(rows: NDArray[np.float64], q: float, correlation: float) -> float:
    """
    Return how many independent events would tell quantile *q* as well as those of *rows*.

    The count over the design effect: the variance of the number of events above the quantile, over that
    of a binomial. What goes beyond the binomial is the intervals' doing and lasts as long as their medians
    resemble each other; that it was itself estimated from few intervals, with two numbers (a mean and a
    correlation), is paid for as Student's t does.

    Args:
        rows: float64[intervals, slots], events, each row at least one.
        q: the quantile's share.
        correlation: of the medians of neighbouring intervals.

    Source:
        Kish, Survey Sampling (1965), design effect; the variance of sums of an AR(1) process.
    """
    count, size = rows.sum(), len(rows)
    binomial = count * q * (1 - q)
    if size < 2 or not binomial:
        return float(count)
    above = _above(rows, q)
    off = above - above.sum() / count * rows.sum(axis=1)
    lasting = (1 + correlation) / (1 - correlation)
    excess = max(0.0, float((off * off).sum()) * size / (size - 1) - binomial)
    design = 1 + excess * lasting / binomial
    return float(count / (design * _student(max(size / lasting - 2, 2)) ** 2))


def _rows(parts: Sequence[Histogram], whole: Histogram) -> tuple[NDArray[np.float64], int]:
    """
    Return float64[intervals, slots] and the slot of the first column.

    Neighbours are pooled to at most _ROWS; rows without events and slots on the outside without any are left out.
    """
    filled = np.flatnonzero(whole.counts)
    used = slice(int(filled[0]), int(filled[-1]) + 1)
    rows = np.zeros((min(len(parts), _ROWS), used.stop - used.start))
    for number, part in enumerate(parts):
        rows[number * len(rows) // len(parts)] += part.to(whole.layout).counts[used]
    return rows[rows.any(axis=1)], used.start


def _slots(rows: NDArray[np.float64], q: float) -> NDArray[np.int64]:
    """Return int64[intervals]: the slot of quantile *q* of each row."""
    running = np.cumsum(rows, axis=1)
    ranks = np.array([rank_of(q, int(total)) for total in running[:, -1]])
    return np.asarray((running < ranks[:, None]).sum(axis=1), dtype=np.int64)


def _above(rows: NDArray[np.float64], q: float) -> NDArray[np.float64]:
    """Return the events of each row above the quantile of all, or those in its slot too if that is nearer."""
    slot = int(_slots(rows.sum(axis=0, keepdims=True), q)[0])
    beyond, within = rows[:, slot + 1 :].sum(axis=1), rows[:, slot:].sum(axis=1)
    wanted = (1 - q) * rows.sum()
    nearer = beyond.sum() and wanted - beyond.sum() <= within.sum() - wanted
    return np.asarray(beyond if nearer else within, dtype=np.float64)


def _correlation(rows: NDArray[np.float64], q: float) -> float:
    """
    Return the correlation of neighbouring intervals, 0 to below 1, by their medians or by their tails.

    Source:
        Its bias, -(1 + 4r) / n, is put right: Marriott and Pope, Bias in the estimation of autocorrelations (1954).
    """
    size = len(rows)
    if size < 4:
        return 0.0
    share = _above(rows, q) / rows.sum(axis=1)
    found = max(_lagged(np.log1p(_slots(rows, 0.5))), _lagged(share), 0.0)
    if found < _CALM / math.sqrt(size):
        return found
    return min(found + (1 + 4 * found) / size, 1 - 2 / size)


def _lagged(values: NDArray[np.float64]) -> float:
    """Return the correlation of *values* with their successors, 0 if they are all alike."""
    off = values - values.mean()
    square = float((off * off).sum())
    return float((off[1:] * off[:-1]).sum()) / square if square else 0.0


def _by_rank(whole: Histogram, q: float, worth: float, level: float) -> tuple[int | None, int | None]:
    """Return the values at the ranks that a sample of *worth* events would give."""
    few = max(1, math.floor(worth))
    lower, upper = ranks(few, q, level)
    low = whole.quantile(lower / few) if lower else None
    return low, whole.quantile(upper / few) if upper <= few else None


def _block(correlation: float, size: int) -> int:
    """Return the length of a block, intervals, that suits an AR(1) process."""
    length = math.pow(6 * correlation**2 / (1 - correlation**2) ** 2 * size, 1 / 3)
    return min(max(math.ceil(length), 1), size // _BLOCKS)


def _bootstrap(rows: NDArray[np.float64], q: float, level: float, block: int) -> tuple[int, int]:
    """Return the slots between which *level* of the resampled quantiles lie."""
    own = _slots(rows, q)
    first, last = int(own.min()), int(own.max())
    size = len(rows)
    # a mixture's quantile lies between those of its parts: only these slots can be one
    kept = np.hstack([rows[:, :first].sum(axis=1, keepdims=True), rows[:, first : last + 1]])
    sums = np.cumsum(np.vstack([np.zeros_like(kept[:1]), kept, kept[: block - 1]]), axis=0)
    blocks = np.cumsum(sums[block:] - sums[:-block], axis=1)
    counts = np.hstack([rows.sum(axis=1), rows[: block - 1].sum(axis=1)])
    totals = np.convolve(counts, np.ones(block), mode="valid")
    draws = np.random.default_rng(len(rows)).multinomial(math.ceil(size / block), np.full(size, 1 / size), RESAMPLES)
    wanted = np.ceil(math.nextafter(q, 0.0) * (draws @ totals))
    found: list[int] = np.sort(((draws @ blocks)[:, 1:] < wanted[:, None]).sum(axis=1)).tolist()
    tail = round((RESAMPLES + 1) * (1 - level) / 2)
    return first + found[tail - 1], min(first + found[-tail], last)


def _binomial(total: int, q: float, deviation: float) -> tuple[int, NDArray[np.float64]]:
    """Return k and P(X <= k), P(X <= k + 1), ... as far as they differ from 0 and 1, X of binomial(total, q)."""
    middle = math.floor(total * q)
    reach = math.ceil(10 * deviation) + 50
    first, last = max(middle - reach, 0), min(middle + reach, total)
    k = np.arange(first, last, dtype=np.float64)
    steps = np.log((total - k) / (k + 1)) + math.log(q / (1 - q))
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    weights = np.exp(logs - logs.max())
    return first, np.cumsum(weights) / weights.sum()


def _smooth(total: int, q: float, deviation: float, share: float) -> int:
    """Return quantile *share* of binomial(total, q), by the normal one with its skew put right."""
    z = NormalDist().inv_cdf(share)
    return math.floor(total * q + deviation * z + (1 - 2 * q) * (z * z - 1) / 6 + 0.5)


def _student(freedom: float) -> float:
    """
    Return how much wider 95 % of Student's t distribution are than of the normal one.

    Source:
        Abramowitz and Stegun, 26.7.5, to the second term.
    """
    z = NormalDist().inv_cdf(0.975)
    wider = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return wider / z
