"""
Errors, and the application's own counters, gauges and marks: the tables of a board that are read row by row.

A row that makes no sense, or whose number falls, is refused for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekit.capture.probes import layout, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_VALUE = 1e300
"""Sums of these are finite."""
_MOST_COUNT = 1 << 36
"""Between two looks, as capture.probes.latency.MOST_EVENTS."""


class _Table:
    """Rows of equal size, of which only those are given that changed."""

    def __init__(self, view: memoryview, first: int, size: int) -> None:
        self._view, self._first, self._size = view, first, size
        self._before = b""

    def changed(self, used: int) -> Iterator[tuple[int, bytes]]:
        """Yield (number, bytes) of rows that are not as they were at the last call."""
        size, before = self._size, self._before
        now = self._view[self._first : self._first + used * size].tobytes()
        if now == before:
            return
        self._before = now
        for at in range(0, len(now), size):
            raw = now[at : at + size]
            if raw != before[at : at + size]:
                yield at // size, raw


class Errors:
    """The spans of a board that ended by an exception."""

    def __init__(self, view: memoryview) -> None:
        self._table = _Table(view, layout.ERRORS_AT, layout.ERROR.size)
        self._known: dict[int, tuple[rows.Error, int]] = {}
        self.refused: set[int] = set()

    def advance(self, used: int, kinds: list[rows.Kind | None]) -> list[tuple[rows.Error, int]]:
        """Return what was added to the first *used* rows, whose kinds are *kinds*."""
        grown = (self._grown(number, raw, kinds) for number, raw in self._table.changed(used))
        return [found for found in grown if found]

    def _grown(self, number: int, raw: bytes, kinds: list[rows.Kind | None]) -> tuple[rows.Error, int] | None:
        count = layout.ERROR.unpack(raw)[0]
        if not count or number in self.refused:
            return None
        words, before = self._known.get(number) or (rows.error_of(raw, kinds), 0)
        if words is None or not 0 <= count - before <= _MOST_COUNT:
            self.refused.add(number)
            return None
        self._known[number] = words, count
        return (words, count - before) if count > before else None


class Values:
    """The application's own numbers on a board."""

    def __init__(self, view: memoryview) -> None:
        self._table = _Table(view, layout.VALUES_AT, layout.VALUE.size)
        self._known: dict[int, tuple[rows.Value, float]] = {}
        self.refused: set[int] = set()
        self.gauges: dict[rows.Value, float] = {}
        """The last sample of each."""
        self.ready_ns = 0
        """When the mark `ready` was first set, 0: not yet."""
        self._untold: list[rows.Value] = []

    def advance(self, used: int) -> list[tuple[rows.Value, float]]:
        """
        Return what was added to the counters and marks of the first *used* rows; row 0 is none.

        A counter is there once with 0, though nothing was added: none is not the same as not counted.
        """
        grown = [self._grown(number, raw) for number, raw in self._table.changed(used) if number]
        untold, self._untold = self._untold, []
        return [found for found in grown if found] + [(words, 0.0) for words in untold]

    def begin_anew(self) -> None:
        """Tell again which counters there are: what they have counted so far was before the recording."""
        self._untold = [words for words, _ in self._known.values() if words.type == layout.COUNTER]

    def _grown(self, number: int, raw: bytes) -> tuple[rows.Value, float] | None:
        value, count, first_ns, *_ = layout.VALUE.unpack(raw)
        if number in self.refused:
            return None
        words, before = self._known.get(number) or (rows.value_of(raw), 0.0)
        if not count and not (words and words.type == layout.COUNTER):
            return None
        now = float(count) if words and words.type == layout.MARK else value
        if words is None or not _is_credible(words, now, before):
            self.refused.add(number)
            return None
        if number not in self._known and words.type == layout.COUNTER:
            self._untold.append(words)
        self._known[number] = words, now
        return self._sort(words, now, before, first_ns)

    def _sort(self, words: rows.Value, now: float, before: float, first_ns: int) -> tuple[rows.Value, float] | None:
        if words.type == layout.GAUGE:
            self.gauges[words] = now
            return None
        if words.type == layout.MARK and words.name == "ready":
            self.ready_ns = self.ready_ns or first_ns
        return (words, now - before) if now > before else None


def _is_credible(words: rows.Value, now: float, before: float) -> bool:
    """Tell whether a number may come after another; NaN is no number."""
    if not abs(now) <= MOST_VALUE:
        return False
    return words.type == layout.GAUGE or now >= before
