"""
Percentile distributions (.hgrm) as HdrHistogram's Java programs print them, row by row and digit by digit.

Source:
    HdrHistogram (Java, AbstractHistogram.outputPercentileDistribution, PercentileIterator) for rows and format;
    java.util.Formatter for digits: it rounds half up what Double.toString says, C and Python half even what is.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracekit.histogram import Histogram

TICKS = 5
"""Rows for each half of the distance to 100 %."""
_MS = 1e6


def distribution(histogram: Histogram, scale: float = _MS, ticks: int = TICKS) -> Iterator[str]:
    """
    Yield the lines of *histogram*, values divided by *scale*: ms of ns.

    A distribution of no events has no rows, and zeros below.
    """
    digits = histogram.layout.digits
    yield f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}"
    yield ""
    for value, level, count in _rows(histogram, ticks):
        row = f"{_fixed(value / scale, digits):>12} {_fixed(level / 100, 12)} {count:>10}"
        yield row if level == 100 else f"{row} {_fixed(1 / (1 - level / 100), 2):>14}"
    count, layout = histogram.count, histogram.layout
    mean, deviation = (histogram.slot_mean, histogram.deviation) if count else (0.0, 0.0)
    highest = int(layout.upper[layout.slot_of(histogram.high)]) if histogram.high else 0  # 0 stays 0, as in Java
    yield f"#[Mean    = {_fixed(mean / scale, digits):>12}, StdDeviation   = {_fixed(deviation / scale, digits):>12}]"
    yield f"#[Max     = {_fixed(highest / scale, digits):>12}, Total count    = {count:>12}]"
    yield f"#[Buckets = {layout.octaves:>12}, SubBuckets     = {2 << layout.step_bits:>12}]"


def _rows(histogram: Histogram, ticks: int) -> Iterator[tuple[int, float, int]]:
    """
    Yield (value, percentile, events so far), up to the percentile of 100.

    Steps between percentiles halve each time that half of what was left to 100 is passed.
    """
    filled = np.flatnonzero(histogram.counts)
    if not filled.size:
        return
    running = np.cumsum(histogram.counts[filled])
    values, counts = histogram.layout.upper[filled].tolist(), running.tolist()
    shares = 100.0 * running.astype(np.float64) / float(counts[-1])
    at, level = 0, 0.0
    while True:
        at += int(np.searchsorted(shares[at:], level))
        yield values[at], level, counts[at]
        if at == filled.size - 1:
            break
        level += 100.0 / (ticks * 2 ** (int(math.log(100.0 / (100.0 - level)) / math.log(2)) + 1))
    yield values[at], 100.0, counts[at]


def _fixed(value: float, decimals: int) -> str:
    """Format *value* as Java's %.{decimals}f."""
    return f"{Decimal(repr(value)).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP):f}"
