"""
Latency histograms and all that is computed of them; quantiles are computed nowhere else.

The layout of recordings is HdrHistogram's with lowest value 1, highest 1 h in ns and two
significant digits: 4608 slots, 128 linear steps per power of two, so a value read
back is at most 1/128 too high and never too low. The kernel, the in-process probe
and numpy use the same slot for the same value, so counts add and subtract. Logs of
other programs come with other layouts; histograms of different layouts add as well.
"""

from __future__ import annotations

from tracekit.histogram.algebra import (
    Histogram,
    empty,
    merge,
    of_counts,
    of_values,
    quantile,
    quantiles,
    rank_of,
    subtract,
)
from tracekit.histogram.layout import NS, Counts, Layout

__all__ = [
    "HIGHEST",
    "LOWER_EDGE",
    "NS",
    "SLOTS",
    "STEPS",
    "STEP_BITS",
    "UPPER_EDGE",
    "Counts",
    "Histogram",
    "Layout",
    "empty",
    "merge",
    "of_counts",
    "of_values",
    "quantile",
    "quantiles",
    "rank_of",
    "slots_of",
    "subtract",
]

SLOTS = NS.slots
STEP_BITS = NS.step_bits
STEPS = 1 << STEP_BITS
HIGHEST = NS.top
"""Largest value with a slot of its own, ns; larger ones are clamped and counted as loss."""

LOWER_EDGE, UPPER_EDGE = NS.lower, NS.upper
"""uint64[SLOTS]: smallest and largest value of each slot, ascending."""

slots_of = NS.slots_of
"""Return the slot of each value (uint64, any shape); values above HIGHEST are clamped."""
