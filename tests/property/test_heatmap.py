"""The law of heat maps: the sum of all cells is the number of events, whatever there is room for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis.heatmap import Events, Size, build
from tracekit.histogram import HIGHEST, LOWER_EDGE, SLOTS, Histogram
from tracekit.records import Interval

CELLS = st.lists(st.tuples(st.integers(0, 39), st.integers(0, SLOTS - 1), st.integers(1, 2**50)), min_size=1)
SIZES = st.builds(Size, columns=st.integers(1, 60), rows=st.integers(1, 400))
LIMITS = st.sets(st.integers(0, HIGHEST - 1), max_size=3)


@st.composite
def timelines(draw):
    """Forty intervals of which some are late, long or after a gap."""
    gaps = draw(
        st.lists(st.one_of(st.just(0), st.integers(0, 10**7), st.integers(0, 10**12)), min_size=40, max_size=40)
    )
    lengths = draw(st.lists(st.one_of(st.just(10**9), st.integers(0, 10**11)), min_size=40, max_size=40))
    intervals, now = {}, 0
    for number, (gap, length) in enumerate(zip(gaps, lengths, strict=True)):
        intervals[number] = Interval(now + gap, now + gap + length)
        now += gap + length
    return intervals


def events(cells):
    numbers, slots, counts = (np.array(column) for column in zip(*cells, strict=True))
    return Events(numbers, slots, counts.astype(np.uint64))


@given(CELLS, timelines(), SIZES, LIMITS)
def test_no_event_is_lost_or_counted_twice(cells, intervals, size, limits):
    """Rows and columns fit, and hold every event once: in all, by interval and by slot."""
    grid = build(events(cells), intervals, set(), size, limits)

    assert grid.counts.shape == (len(grid.edges) - 1, len(grid.columns))
    assert grid.counts.shape[0] <= size.rows
    assert sum(column.width for column in grid.columns) <= size.columns
    assert int(grid.counts.sum()) == sum(count for *_, count in cells)
    for number, column in enumerate(grid.columns):
        inside = {n for n, one in intervals.items() if column.start_ns <= one.start_ns and one.end_ns <= column.end_ns}
        assert int(grid.counts[:, number].sum()) <= sum(count for n, _, count in cells if n in inside)
    for row, (low, high) in enumerate(zip(grid.edges[:-1].tolist(), grid.edges[1:].tolist(), strict=True)):
        assert int(grid.counts[row].sum()) == sum(count for _, s, count in cells if low <= int(LOWER_EDGE[s]) < high)


@given(CELLS, SIZES, LIMITS)
def test_a_limit_inside_the_map_divides_the_events(cells, size, limits):
    """What is drawn above the line is what `share_above` counts."""
    intervals = {n: Interval(n * 10**9, (n + 1) * 10**9) for n in range(40)}
    grid = build(events(cells), intervals, set(), size, limits)
    counts = np.zeros(SLOTS, dtype=np.uint64)
    for _, slot, count in cells:
        counts[slot] += np.uint64(count)
    whole = Histogram(counts, 0, 0, HIGHEST)

    for limit in limits:
        row = grid.row_above(limit)
        if row is not None:
            assert int(grid.counts[row:].sum()) / whole.count == whole.share_above(limit)


@given(CELLS, st.lists(st.integers(-(2**63), 2**63 - 1), min_size=80, max_size=80), SIZES)
def test_absurd_times_lose_nothing_either(cells, times, size):
    """A damaged file may say anything of time; it is drawn, in the room there is, with every event."""
    intervals = {number: Interval(times[number], times[number + 40]) for number in range(40)}
    grid = build(events(cells), intervals, set(), size)

    assert sum(column.width for column in grid.columns) <= size.columns
    assert int(grid.counts.sum()) == sum(count for *_, count in cells)
