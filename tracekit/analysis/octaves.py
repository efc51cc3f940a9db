"""A histogram in few rows: one for each power of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracekit.histogram import NS

if TYPE_CHECKING:
    from tracekit.histogram import Counts, Layout


@dataclass(frozen=True)
class Octave:
    """Events of values in [low, high): [0, 1), [1, 2), [2, 4), [4, 8), ... in the unit of the values."""

    low: int
    high: int
    count: int


def octaves(counts: Counts, layout: Layout = NS) -> list[Octave]:
    """
    Return the rows from the first to the last one that has events; empty rows between them stay.

    Args:
        counts: uint64[layout.slots], events per slot; no slot but the first reaches over a power of two.
        layout: which values each slot holds; where its unit is above 1, the first one counts in the row below it.
    """
    sums = np.zeros(layout.top.bit_length() + 1, dtype=np.uint64)
    np.add.at(sums, _row_of_slot(layout), counts)
    filled = np.flatnonzero(sums)
    if not filled.size:
        return []
    rows = range(int(filled[0]), int(filled[-1]) + 1)
    return [Octave(1 << row >> 1, 1 << row, int(sums[row])) for row in rows]


def _row_of_slot(layout: Layout) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """int64[layout.slots]: number of bits of the smallest value of each slot."""
    bits = np.frexp(layout.lower.astype(np.float64))[1]
    bits[0] = layout.unit_bits
    return np.asarray(bits, dtype=np.int64).reshape(layout.slots)
