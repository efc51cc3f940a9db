"""The grid of a heat map: every event in the right cell, time and values as they were."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sample import SECOND
from tracekit.analysis.heatmap import Events, Grid, Size, build
from tracekit.histogram import HIGHEST, Histogram, of_values, slots_of
from tracekit.records import Interval

ROOMY = Size(columns=1000, rows=500)


def every_second(count: int, start: int = 0) -> dict[int, Interval]:
    """Return intervals of a second each, numbers and times from *start*."""
    return {n: Interval(n * SECOND, (n + 1) * SECOND) for n in range(start, start + count)}


def events(values: dict[int, list[int]]) -> Events:
    """Return the events of *values*, by interval."""
    numbers = np.array([number for number, some in values.items() for _ in some], dtype=np.int64)
    slots = slots_of(np.array([value for some in values.values() for value in some], dtype=np.uint64))
    return Events(numbers, slots, np.ones(len(slots), dtype=np.uint64))


def grid(
    values: dict[int, list[int]], intervals: dict[int, Interval], size: Size = ROOMY, limits: tuple[int, ...] = ()
) -> Grid:
    return build(events(values), intervals, set(), size, limits)


def test_one_column_an_interval_where_there_is_room() -> None:
    """Nothing is merged without need."""
    drawn = grid({0: [5], 2: [7, 7]}, every_second(3))

    assert [column.count for column in drawn.columns] == [1, 0, 2]
    assert [(column.start_ns, column.end_ns) for column in drawn.columns] == [
        (n * SECOND, (n + 1) * SECOND) for n in range(3)
    ]


def test_columns_are_whole_intervals() -> None:
    """30 intervals in 7 columns: neighbours together, none split, none lost, the last included."""
    values = {number: [1000] * (number + 1) for number in range(30)}
    drawn = grid(values, every_second(30), Size(7, 100))

    ends = [column.end_ns // SECOND for column in drawn.columns]
    starts = [0, *ends[:-1]]
    assert ends[-1] == 30
    assert len(ends) <= 7
    assert [column.count for column in drawn.columns] == [
        sum(number + 1 for number in range(start, end)) for start, end in zip(starts, ends, strict=True)
    ]


def test_the_worst_event_of_the_last_moment_is_there() -> None:
    """The cell that loops forget: top row, last column."""
    values: dict[int, list[int]] = {number: [1000] * 50 for number in range(29)}
    drawn = grid({**values, 29: [HIGHEST]}, every_second(30), Size(10, 12))

    assert drawn.counts[-1, -1] == 1
    assert drawn.counts[-1].sum() == 1
    assert int(drawn.edges[-1]) == HIGHEST + 1


def test_values_above_all_slots_are_in_the_top_row() -> None:
    """What is clamped is still counted."""
    drawn = grid({0: [1000, HIGHEST + 1, 2**63]}, every_second(1))

    assert drawn.counts[-1].tolist() == [2]


def test_cells_hold_what_their_edges_say() -> None:
    """Row r holds edges[r] <= value < edges[r + 1], column c the events of its intervals."""
    rng = np.random.default_rng(7)
    values = {number: rng.lognormal(11, 2, 101).astype(int).tolist() for number in range(5)}
    drawn = grid(values, every_second(5), Size(5, 200))

    for column, (_, some) in enumerate(sorted(values.items())):
        for row, count in enumerate(drawn.counts[:, column].tolist()):
            low, high = int(drawn.edges[row]), int(drawn.edges[row + 1])
            assert count == sum(low <= value < high for value in some)


def test_quantiles_are_those_of_the_one_quantile() -> None:
    """p50 and p99 of a column of two intervals are those of their histogram."""
    rng = np.random.default_rng(11)
    values = {number: rng.lognormal(11, 2, 211).astype(int).tolist() for number in range(4)}
    drawn = grid(values, every_second(4), Size(2, 50))

    for column, numbers in zip(drawn.columns, ((0, 1), (2, 3)), strict=True):
        both = of_values(np.array([value for number in numbers for value in values[number]], dtype=np.uint64))
        whole = Histogram(both.counts, 0, 0, HIGHEST)
        assert (column.p50, column.p99) == (whole.quantile(0.5), whole.quantile(0.99))


def test_no_events_have_no_quantile() -> None:
    """An idle second has no median, least of all zero."""
    drawn = grid({0: [5]}, every_second(2))

    assert (drawn.columns[1].p50, drawn.columns[1].p99, drawn.columns[1].count) == (None, None, 0)


def test_time_without_intervals_is_a_gap_as_wide_as_it_was_long() -> None:
    """Silence of the collector is not silence of the target."""
    intervals = every_second(3) | every_second(2, start=8)
    drawn = grid({0: [5], 8: [5]}, intervals)

    assert [(column.state, column.width) for column in drawn.columns] == [
        *[("ok", 1)] * 3,
        ("gap", 5),
        *[("ok", 1)] * 2,
    ]
    assert (drawn.columns[3].start_ns, drawn.columns[3].end_ns) == (3 * SECOND, 8 * SECOND)
    assert drawn.counts[:, 3].sum() == 0


@pytest.mark.parametrize("seconds", [6, 9, 15])
def test_a_gap_of_half_a_column_is_drawn(seconds: int) -> None:
    """What is more than half a column wide rounds to a column of its own."""
    intervals = every_second(40) | every_second(40, start=40 + seconds)
    drawn = grid({0: [5]}, intervals, Size(10, 10))

    length = drawn.columns[0].end_ns // SECOND
    assert 8 <= length <= 11
    assert [column.state for column in drawn.columns].count("gap") == 1


def test_a_hole_too_small_for_a_column_marks_its_column() -> None:
    """Two seconds missing amid columns of ten: no gap to draw, but said."""
    intervals = every_second(45) | every_second(53, start=47)
    drawn = grid({0: [5]}, intervals, Size(10, 10))

    assert "gap" not in [column.state for column in drawn.columns]
    incomplete = [column for column in drawn.columns if column.state == "incomplete"]
    assert len(incomplete) == 1
    assert incomplete[0].start_ns <= 47 * SECOND < incomplete[0].end_ns


def test_loss_marks_the_column_it_is_in() -> None:
    """One bad interval of three makes their column incomplete, and no other."""
    drawn = build(events({0: [5]}), every_second(9), {4}, Size(3, 10))

    assert [column.state for column in drawn.columns] == ["ok", "incomplete", "ok"]


def test_ticks_that_come_late_are_no_gaps() -> None:
    """Timers drift by milliseconds; neither an empty nor a double column comes of it."""
    rng = np.random.default_rng(3)
    edges = (np.arange(601) * SECOND + rng.integers(0, SECOND // 5, 601)).tolist()
    intervals = {n: Interval(edges[n], edges[n + 1]) for n in range(600)}
    single, triple = (grid({0: [5]}, intervals, Size(columns, 10)) for columns in (600, 200))

    assert len(single.columns) == 600
    assert len(triple.columns) == 200
    assert {column.state for column in (*single.columns, *triple.columns)} == {"ok"}


def test_a_long_interval_is_one_wide_column() -> None:
    """A collector that was stopped for 5 s wrote one interval of 5 s: drawn as such."""
    intervals = {0: Interval(0, SECOND), 1: Interval(SECOND, 6 * SECOND), 2: Interval(6 * SECOND, 7 * SECOND)}
    drawn = grid({1: [5]}, intervals)

    assert [(column.width, column.count) for column in drawn.columns] == [(1, 0), (5, 1), (1, 0)]


def test_a_gap_of_days_leaves_room_for_the_rest() -> None:
    """The width holds however long the collector slept."""
    intervals = every_second(30) | every_second(30, start=10**6)
    drawn = grid({0: [5], 10**6: [7]}, intervals, Size(60, 10))

    assert sum(column.width for column in drawn.columns) <= 60
    assert [column.state for column in drawn.columns] == ["ok", "gap", "ok"]
    assert int(drawn.counts.sum()) == 2


@pytest.mark.parametrize("limit", [0, 1, 999, 10_000_000, 123_456_789])
def test_rows_above_a_limit_hold_the_share_above_it(limit: int) -> None:
    """The line is where the number says it is, whatever the size of the picture."""
    rng = np.random.default_rng(5)
    some = rng.lognormal(np.log(max(limit, 1)), 1.5, 1009).astype(int).tolist()
    share = of_values(np.array(some, dtype=np.uint64)).share_above(limit)
    for rows in (8, 31, 200):
        drawn = grid({0: some}, every_second(1), Size(10, rows), (limit,))
        row = drawn.row_above(limit)

        assert row is not None
        assert int(drawn.counts[row:].sum()) == round(share * 1009)


def test_a_limit_far_from_all_values_makes_no_empty_space() -> None:
    """A limit of 10 s over values of 100 µs is said, not drawn."""
    drawn = grid({0: [100_000]}, every_second(1), limits=(10 * SECOND,))

    assert drawn.row_above(10 * SECOND) is None
    assert len(drawn.counts) == 1


def test_two_limits_in_a_row_are_two_edges() -> None:
    """A limit does not move the line of its neighbour."""
    limits = (1_000_000, 1_050_000)
    drawn = grid({0: [10_000, 10_000_000]}, every_second(1), Size(10, 24), limits)

    rows = [drawn.row_above(limit) for limit in limits]
    assert None not in rows
    assert rows[0] != rows[1]


def test_small_numbers_have_a_row_each() -> None:
    """Queue lengths are counted, not measured: 0, 1, 2, 3 are far apart."""
    drawn = grid({0: [0, 0, 1, 2, 3, 7]}, every_second(1))

    assert drawn.edges.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert drawn.counts[:, 0].tolist() == [2, 1, 1, 1, 0, 0, 0, 1]
    assert not drawn.folded


def test_a_few_tiny_values_do_not_flatten_the_rest() -> None:
    """Three events of 1 ns among 9,000 around 1 ms share the lowest row; the body keeps fine ones."""
    rng = np.random.default_rng(2)
    body = rng.lognormal(np.log(1e6), 0.4, 9000).astype(int).tolist()
    drawn = grid({0: [1, 1, 1, *body]}, every_second(1), Size(10, 32))

    assert drawn.folded
    assert drawn.counts[0, 0] >= 3
    assert drawn.counts[0, 0] <= 10
    assert int(np.count_nonzero(drawn.counts)) > 20


def test_without_tiny_values_there_is_no_row_for_them() -> None:
    """Coarse rows alone are no reason for an empty one at the bottom."""
    drawn = grid({0: [2**power for power in range(10, 24)]}, every_second(1), Size(10, 20))

    assert not drawn.folded
    assert drawn.counts[0, 0] > 0
    assert drawn.counts[-1, 0] > 0


def test_rows_are_as_fine_as_there_is_room() -> None:
    """Eight rows to a power of two at most, fewer where they do not fit, and always all values."""
    values = {0: [2**power for power in range(10, 24)]}
    fine, coarse = (grid(values, every_second(1), Size(10, rows)) for rows in (400, 60))

    assert len(fine.counts) == 13 * 8 + 1
    assert 13 * 4 <= len(coarse.counts) <= 60
    assert int(coarse.counts.sum()) == 14


def test_no_events_make_a_grid_too() -> None:
    """The shape holds; who draws decides what to say."""
    drawn = grid({}, every_second(4), Size(2, 10))

    assert drawn.counts.shape == (1, 2)
    assert not drawn.counts.any()
