"""A histogram in few rows: one for each power of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracekit.histogram import HIGHEST, LOWER_EDGE, SLOTS

if TYPE_CHECKING:
    from tracekit.histogram import Counts

_ROWS = HIGHEST.bit_length() + 1


@dataclass(frozen=True)
class Octave:
    """Events of values in [low, high): [0, 1), [1, 2), [2, 4), [4, 8), ... in the unit of the values."""

    low: int
    high: int
    count: int


def octaves(counts: Counts) -> list[Octave]:
    """
    Return the rows from the first to the last one that has events; empty rows between them stay.

    Args:
        counts: uint64[SLOTS], events per slot; no slot reaches over a power of two.
    """
    sums = np.zeros(_ROWS, dtype=np.uint64)
    np.add.at(sums, _row_of_slot(), counts)
    filled = np.flatnonzero(sums)
    if not filled.size:
        return []
    rows = range(int(filled[0]), int(filled[-1]) + 1)
    return [Octave(1 << row >> 1, 1 << row, int(sums[row])) for row in rows]


def _row_of_slot() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """int64[SLOTS]: number of bits of the smallest value of each slot."""
    bits = np.frexp(LOWER_EDGE.astype(np.float64))[1]
    return np.asarray(bits, dtype=np.int64).reshape(SLOTS)
