"""A heat map as numbers: events by time and value. The sum of all cells is the number of events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from tracekit.histogram import HIGHEST, LOWER_EDGE, SLOTS, UPPER_EDGE, quantile, slots_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from tracekit.histogram import Counts
    from tracekit.records import Interval

_Height = tuple[int, int]
State = Literal["ok", "incomplete", "gap"]
"""A column has all its data; lacks some (lost, or not measured); or is time without intervals."""

FINEST = 8
"""Most rows per power of two: a row is at most 9 % high."""
_FINE = [(1, steps) for steps in range(FINEST, 3, -1)]
_COARSE = [(1, 3), (1, 2), (2, 3), *((powers, 1) for powers in (1, 2, 3, 4, 6, 14, 42))]
"""Heights of rows in powers of two, as (numerator, denominator)."""
_TAIL = 0.001
"""Where no fine row fits, this share of the events, the smallest, goes into one row."""
_NEAR = 4
"""A limit this factor outside of the values is still inside the map."""


@dataclass(frozen=True, eq=False)
class Events:
    """Events by interval and slot, sparse: arrays of equal length, as Recording.cells gives them."""

    interval: NDArray[np.int64]
    slot: NDArray[np.int64]
    count: Counts


@dataclass(frozen=True)
class _Marks:
    """Where rows may begin: at each of *limits*, and else at multiples of *step* slots."""

    limits: Collection[int]
    step: int


@dataclass(frozen=True)
class Size:
    """The most columns (of time) and rows (of value) there is room for; both at least 1."""

    columns: int
    rows: int


@dataclass(frozen=True)
class Column:
    """
    Some whole intervals, or a gap between intervals.

    Attributes:
        start_ns, end_ns: CLOCK_MONOTONIC.
        width: in units of the usual column, >= 1: a gap or a late tick is as wide as it is long.
        count: events; p50, p99: None of no events.
        intervals: the first, and the one after the last; of a gap none.
    """

    start_ns: int
    end_ns: int
    width: int
    state: State
    count: int = 0
    p50: int | None = None
    p99: int | None = None
    intervals: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class Grid:
    """
    Counts by row and column.

    Attributes:
        columns: oldest first.
        edges: uint64[rows + 1], ascending; row r holds edges[r] <= value < edges[r + 1].
        counts: uint64[rows, columns].
    """

    columns: tuple[Column, ...]
    edges: Counts
    counts: Counts

    @property
    def folded(self) -> bool:
        """True if the lowest row takes in all values below the others: they reach too far down to be told apart."""
        return int(self.edges[0]) == 0 and int(self.edges[1]) > 1

    def row_of(self, value: int) -> int:
        """Return the row that holds *value*; the nearest one if none does."""
        row = int(np.searchsorted(self.edges, np.uint64(value), side="right")) - 1
        return min(max(row, 0), len(self.edges) - 2)

    def row_above(self, limit: int) -> int | None:
        """Return the row from which on all is above *limit*; None if the limit is not inside the map."""
        row = int(np.searchsorted(self.edges, np.uint64(_first_above(limit))))
        inside = 0 < row < len(self.edges) - 1 and int(self.edges[row]) == _first_above(limit)
        return row if inside else None


def build(
    events: Events,
    intervals: Mapping[int, Interval],
    lacking: Collection[int],
    size: Size,
    limits: Collection[int] = (),
    step: int = 1,
) -> Grid:
    """
    Add *events* up in a grid of at most *size*.

    An interval is never split over columns, nor a slot over rows, so no event is lost or
    counted twice. Each limit near the values is an edge between two rows.

    Args:
        events: of the intervals of *intervals* only (KeyError otherwise).
        intervals: by number, in order of time; at least one.
        lacking: numbers of intervals that are known to lack data.
        size: at most this many columns, widths counted, and rows.
        limits: values that people want to see the share above of.
        step: rows begin at multiples of so many slots, unless at a limit.
    """
    spans, column_of = _spans(intervals, lacking, size.columns)
    column = np.array([column_of[number] for number in events.interval.tolist()], dtype=np.int64)
    edges = _edges(events, size.rows, _Marks(limits, step))
    row = np.searchsorted(edges, LOWER_EDGE[events.slot], side="right") - 1
    counts = np.zeros((len(edges) - 1, len(spans)), dtype=np.uint64)
    np.add.at(counts, (row, column), events.count)
    return Grid(_with_quantiles(spans, column, events), edges, counts)


def _spans(
    intervals: Mapping[int, Interval], lacking: Collection[int], most: int
) -> tuple[list[Column], dict[int, int]]:
    """Return columns without counts, not wider than *most* together, and the column of each interval."""
    usual = max(1, int(np.median([interval.duration_ns for interval in intervals.values()])))
    ends = [interval.end_ns for interval in intervals.values()]
    length = max(ends) - min(interval.start_ns for interval in intervals.values())
    together = max(1, -(-length // (usual * most)))
    while True:
        spans, column_of = _grouped(intervals, lacking, usual, together)
        if sum(span.width for span in spans) <= most:
            return spans, column_of
        together += 1 + together // 16


def _grouped(
    intervals: Mapping[int, Interval], lacking: Collection[int], usual_ns: int, together: int
) -> tuple[list[Column], dict[int, int]]:
    """Put up to *together* neighbours of the usual length into a column; ticks may come half a tick late."""
    spans: list[Column] = []
    column_of: dict[int, int] = {}
    room_ns, late_ns = usual_ns * together, usual_ns // 2
    for number, interval in intervals.items():
        gap_ns = interval.start_ns - spans[-1].end_ns if spans else 0
        state: State = "incomplete" if number in lacking or gap_ns > late_ns else "ok"
        if gap_ns > room_ns // 2:
            spans.append(Column(spans[-1].end_ns, interval.start_ns, _width(gap_ns, room_ns), "gap"))
            state = "incomplete" if number in lacking else "ok"
        if spans and spans[-1].state != "gap" and interval.end_ns - spans[-1].start_ns <= room_ns + late_ns:
            spans[-1] = _longer(spans[-1], interval.end_ns, state, room_ns, number)
        else:
            width = _width(interval.duration_ns, room_ns)
            these = number, number + 1
            spans.append(Column(interval.start_ns, interval.end_ns, width, state, intervals=these))
        column_of[number] = len(spans) - 1
    return spans, column_of


def _longer(span: Column, end_ns: int, state: State, room_ns: int, number: int) -> Column:
    worse: State = "incomplete" if "incomplete" in (span.state, state) else "ok"
    end_ns = max(end_ns, span.end_ns)
    width, these = _width(end_ns - span.start_ns, room_ns), (span.intervals[0], number + 1)
    return replace(span, end_ns=end_ns, width=width, state=worse, intervals=these)


def _width(length_ns: int, room_ns: int) -> int:
    return max(1, round(length_ns / room_ns))


def _with_quantiles(spans: list[Column], column: NDArray[np.int64], events: Events) -> tuple[Column, ...]:
    order = np.argsort(column, kind="stable")
    ends = np.searchsorted(column[order], np.arange(len(spans)), side="right")
    parts = np.split(order, ends)
    return tuple(
        _measured(span, events.slot[part], events.count[part]) for span, part in zip(spans, parts[:-1], strict=True)
    )


def _measured(span: Column, slot: NDArray[np.int64], count: Counts) -> Column:
    if not len(slot):
        return span
    counts = np.zeros(SLOTS, dtype=np.uint64)
    np.add.at(counts, slot, count)
    return replace(span, count=int(counts.sum()), p50=quantile(counts, 0.5), p99=quantile(counts, 0.99))


def _edges(events: Events, most: int, marks: _Marks) -> Counts:
    """Return the edges of at most *most* rows, as fine as fits, from the smallest to the largest event."""
    counts = np.zeros(SLOTS, dtype=np.uint64)
    np.add.at(counts, events.slot, events.count)
    if not counts.any():
        return np.array([0, 1], dtype=np.uint64)
    filled = np.flatnonzero(counts)
    low, high = int(LOWER_EDGE[filled[0]]), int(UPPER_EDGE[filled[-1]])
    fitting = _finest(_FINE, low, high, most, marks)
    if fitting is not None:
        return fitting
    body = max(low, quantile(counts, _TAIL))
    fitting = _finest(_FINE + _COARSE, body, high, most - 1, marks)
    if fitting is None:
        fitting = _between(_COARSE[-1], low, high, marks)[-most:]
    return fitting if low >= fitting[0] else np.append(np.zeros(1, dtype=np.uint64), fitting)


def _finest(heights: list[_Height], low: int, high: int, most: int, marks: _Marks) -> Counts | None:
    choices = (_between(height, low, high, marks) for height in heights)
    return next((edges for edges in choices if len(edges) - 1 <= most), None)


def _between(height: _Height, low: int, high: int, marks: _Marks) -> Counts:
    """Return the edges of rows from the one with *low* to the one with *high*, limits that are near included."""
    near = [limit for limit in marks.limits if low <= _first_above(limit) * _NEAR and limit <= high * _NEAR]
    low, high = min([low, *near]), max([high, *map(_first_above, near)])
    ladder = _ladder(height, _Marks(near, marks.step))
    first = int(np.searchsorted(ladder, np.uint64(low), side="right")) - 1
    last = int(np.searchsorted(ladder, np.uint64(min(high, HIGHEST)), side="right"))
    return ladder[first : last + 1]


def _ladder(height: _Height, marks: _Marks) -> Counts:
    """Return edges from 0 to HIGHEST + 1, *height* apart but on edges of slots; those of limits replace the nearest."""
    powers, parts = height
    exponents = np.arange(HIGHEST.bit_length() * parts // powers) * powers / parts
    wanted = np.ceil(np.exp2(exponents)).astype(np.uint64)
    slots = (slots_of(wanted).astype(np.int64) + marks.step // 2) // marks.step * marks.step
    edges = {0, HIGHEST + 1, *LOWER_EDGE[np.minimum(slots, SLOTS - marks.step)].tolist()}
    above = {_first_above(limit) for limit in marks.limits}
    inner = np.array(sorted(edges - {0, HIGHEST + 1}), dtype=np.float64)
    edges -= {int(inner[np.abs(inner - edge).argmin()]) for edge in above}
    return np.array(sorted(edges | above), dtype=np.uint64)


def _first_above(limit: int) -> int:
    """Return the smallest value above the slot of *limit*: what Histogram.share_above counts from."""
    return int(UPPER_EDGE[int(slots_of(np.array([limit], dtype=np.uint64))[0])]) + 1
