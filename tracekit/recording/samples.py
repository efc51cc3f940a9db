"""The payload of sampled stacks: read, checked and added up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from tracekit.histogram.parts import BUCKETS
from tracekit.recording import payload
from tracekit.samples import StackSamples

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from tracekit.stacks import Stack

    Columns = list[NDArray[np.int64] | NDArray[np.uint64]]

_TYPES = ("<u4", "<u2", "<u4", "<u8", "<u8")
_STACK_BITS = 32


class SampleSums:
    """
    Samples of some series being added up.

    Args:
        wanted: ids of series, ascending.
    """

    def __init__(self, wanted: list[int]) -> None:
        self._wanted = np.array(wanted, dtype=np.int64)
        self._key = [np.zeros(0, dtype=np.int64)]
        self._sums = [np.zeros((0, 2), dtype=np.uint64)]

    def add(self, blob: bytes) -> None:
        """Add the payload of an interval or checkpoint. Raises ValueError if it is none."""
        if not blob:
            return
        series, bucket, stack, weight, count = _unpack(blob)
        row = np.searchsorted(self._wanted, series)
        row[row == len(self._wanted)] = 0
        use = self._wanted[row] == series
        self._key.append(((row * BUCKETS + bucket) << _STACK_BITS | stack)[use])
        self._sums.append(np.column_stack([weight, count])[use])

    def stacks(self) -> set[int]:
        """Return the ids of the stacks that were seen."""
        mask = (1 << _STACK_BITS) - 1
        return {ident for key in self._key for ident in np.unique(key & mask).tolist()}

    def samples(self, frames: Mapping[int, Stack]) -> dict[int, StackSamples]:
        """Return the samples of each series that has any; *frames* has all of `stacks`."""
        keys, place = np.unique(np.concatenate(self._key), return_inverse=True)
        sums = np.zeros((len(keys), 2), dtype=np.uint64)
        np.add.at(sums, place.reshape(-1), np.concatenate(self._sums))
        cell, stack = keys >> _STACK_BITS, keys & ((1 << _STACK_BITS) - 1)
        series, bucket = cell // BUCKETS, cell % BUCKETS
        found = {}
        for row in np.unique(series).tolist():
            part = slice(*np.searchsorted(series, [row, row + 1]).tolist())
            ident = int(self._wanted[row])
            found[ident] = StackSamples(bucket[part], stack[part], sums[part, 0], sums[part, 1], frames)
        return found


class Frames:
    """The frames of stacks, each read and parsed when it is first asked for; a name is one object in all of them."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[int, Stack] = {}
        self._names: dict[str, str] = {}

    def of(self, idents: Iterable[int]) -> Mapping[int, Stack]:
        """
        Return the frames of *idents*, and of others, by id.

        Raises:
            ValueError: a stack is not made of frames.
            LookupError: there is no such stack.
        """
        for ident in idents:
            if ident not in self._known:
                row = self._db.execute("SELECT frames FROM stack WHERE id = ?", (ident,)).fetchone()
                if row is None:
                    raise LookupError("a stack has no frames")
                self._known[ident] = self._parse(row[0])
        return self._known

    def _parse(self, text: str) -> Stack:
        frames = json.loads(text)
        if not isinstance(frames, list) or not all(isinstance(frame, str) for frame in frames):
            raise ValueError("a stack is not made of frames")
        return tuple(map(self._names.setdefault, frames, frames))


def _unpack(blob: bytes) -> Columns:
    columns = [np.frombuffer(c, t) for c, t in zip(payload.decode(blob), _TYPES, strict=True)]
    series, bucket, stack, weight, count = columns
    if {len(column) for column in columns} != {len(series)}:
        raise ValueError("samples of stacks lack numbers")
    if len(bucket) and int(bucket.max()) >= BUCKETS:
        raise ValueError("a sample of a stack has a bucket out of range")
    return [*(column.astype(np.int64) for column in (series, bucket, stack)), weight, count]
