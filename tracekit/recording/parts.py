"""The payload of decomposed latencies: read, checked and added up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracekit.histogram.parts import BUCKETS, Parts
from tracekit.recording import payload
from tracekit.records import WAITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SUMS = 5
_TYPES = ("<u4", "<u2", *["<u8"] * (_SUMS + 2))
_WAITS = len(WAITS)


class PartSums:
    """
    Parts of some series being added up.

    Args:
        wanted: ids of series, ascending.
        kinds: how many of WAITS the payloads have: those that they lack are 0.
    """

    def __init__(self, wanted: list[int], kinds: int = len(WAITS)) -> None:
        self._kinds = kinds
        self._wanted = np.array(wanted, dtype=np.int64)
        self._found = np.zeros(len(wanted) * BUCKETS, dtype=bool)
        self._sums = np.zeros((len(wanted) * BUCKETS, _SUMS + 2 * _WAITS), dtype=np.uint64)

    def add(self, blob: bytes) -> None:
        """Add the payload of an interval or checkpoint. Raises ValueError if it is none."""
        if not blob:
            return
        series, bucket, numbers = _unpack(blob, self._kinds)
        row = np.searchsorted(self._wanted, series)
        row[row == len(self._wanted)] = 0
        use = self._wanted[row] == series
        cell = (row * BUCKETS + bucket)[use]
        np.add.at(self._sums, cell, numbers[use])
        self._found[cell] = True

    def parts(self) -> dict[int, Parts]:
        """Return the parts of each series that has any."""
        found = {}
        for number, ident in enumerate(self._wanted.tolist()):
            bucket = np.flatnonzero(self._found[number * BUCKETS : (number + 1) * BUCKETS])
            if bucket.size:
                sums = self._sums[number * BUCKETS + bucket]
                latency, awaited, sampled, unseen, errors = sums[:, :_SUMS].T
                waits, async_waits = sums[:, _SUMS : _SUMS + _WAITS], sums[:, _SUMS + _WAITS :]
                found[ident] = Parts(bucket, latency, awaited, sampled, unseen, errors, waits, async_waits)
        return found


def _unpack(blob: bytes, kinds: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]:
    """Return series, bucket and uint64[n, 27]: five sums, waits, async waits. *kinds*: of wait in the payload."""
    series, bucket, *rest = (np.frombuffer(c, t) for c, t in zip(payload.decode(blob), _TYPES, strict=True))
    n = len(series)
    if [len(column) for column in (bucket, *rest)] != [n] * (_SUMS + 1) + [n * kinds] * 2:
        raise ValueError("the parts of a span lack numbers")
    if n and int(bucket.max()) >= BUCKETS:
        raise ValueError("the parts of a span have a bucket out of range")
    lacks = ((0, 0), (0, _WAITS - kinds))
    numbers = np.column_stack([*rest[:_SUMS], *(np.pad(waits.reshape(kinds, n).T, lacks) for waits in rest[_SUMS:])])
    return series.astype(np.int64), bucket.astype(np.int64), numbers.astype(np.uint64)
