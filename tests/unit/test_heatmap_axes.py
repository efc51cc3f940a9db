"""Axes of heat maps: round values where they belong, as many as fit, in words of people."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tests.sample import SECOND
from tracekit.analysis.heatmap import Column, Grid
from tracekit.report.heatmap_axes import place_of_time, place_of_value, time_ticks, value_ticks


def seconds(*parts: tuple[float, float, int]) -> tuple[Column, ...]:
    """Return columns of (start, end, width)."""
    return tuple(Column(round(start * SECOND), round(end * SECOND), width, "ok") for start, end, width in parts)


def rows(*edges: int) -> Grid:
    """Return an empty grid with *edges*."""
    return Grid((), np.array(edges, dtype=np.uint64), np.zeros((len(edges) - 1, 0), dtype=np.uint64))


def octaves(first: int, last: int) -> Grid:
    return rows(*(2**power for power in range(first, last + 1)))


def test_time_lies_where_its_column_is() -> None:
    """A gap of ten units has its inside too; a time between columns lies at the next one's start."""
    columns = seconds((0, 1, 1), (1, 11, 10), (11.2, 12.2, 1))

    places = [place_of_time(columns, round(at * SECOND)) for at in (0, 0.5, 1, 6, 11.1, 11.7, 99)]
    assert places == [0, 0.5, 1, 6, 11, 11.5, 12]


@pytest.mark.parametrize(
    ("length", "apart", "words"),
    [
        (30, 10, ["0 s", "10 s", "20 s", "30 s"]),
        (60, 12, ["0 s", "15 s", "30 s", "45 s", "60 s"]),
        (150, 40, ["0 s", "60 s", "2 min"]),
        (3600, 900, ["0 s", "15 min", "30 min", "45 min", "1 h"]),
        (7200, 3600, ["0 s", "1 h", "2 h"]),
    ],
)
def test_ticks_of_time_are_round(length: int, apart: float, words: list[str]) -> None:
    """Steps people count in: 10 s, 15 s, 1 min, 15 min, 1 h."""
    columns = seconds(*((n, n + 1, 1) for n in range(length)))

    assert [word for _, word in time_ticks(columns, 0, apart)] == words


def test_ticks_of_time_count_from_the_start_of_the_recording() -> None:
    """A part of a recording keeps its times."""
    columns = seconds(*((n, n + 1, 1) for n in range(1012, 1020)))

    assert time_ticks(columns, 1000 * SECOND, 4) == [(3, "15 s"), (8, "20 s")]


def test_a_year_has_ticks() -> None:
    """No length is too long for the table of steps."""
    columns = (Column(0, 400 * 86_400 * SECOND, 10, "ok"),)

    assert 2 <= len(time_ticks(columns, 0, 2)) <= 6


def test_values_lie_on_a_log_scale_inside_their_row() -> None:
    """Halfway up an octave is its square root of two."""
    grid = octaves(10, 14)

    assert place_of_value(grid, 1024) == 0
    assert place_of_value(grid, 2048 * 2**0.5) == pytest.approx(1.5, abs=0.001)
    assert place_of_value(grid, 2**14) == 4


def test_whole_numbers_lie_amid_their_row() -> None:
    """The label of 3 tasks stands beside their row, not between two."""
    assert [place_of_value(rows(0, 1, 2, 3, 4), value) for value in (0, 1, 3)] == [0.5, 1.5, 3.5]


@pytest.mark.parametrize(
    ("apart", "words"),
    [
        (0.9, ["1 µs", "2 µs", "5 µs", "10 µs", "20 µs", "50 µs", "100 µs", "200 µs", "500 µs", "1 ms"]),
        (3, ["1 µs", "10 µs", "100 µs", "1 ms"]),
        (9, ["1 µs", "1 ms"]),
    ],
)
def test_ticks_of_values_as_dense_as_fits(apart: float, words: list[str]) -> None:
    """1, 2, 5, or powers of ten, or of a thousand."""
    assert [word for _, word in value_ticks(rows(1000, *(2**n for n in range(10, 21))), "ns", apart)] == words


def test_ticks_of_long_times_are_minutes() -> None:
    """Nobody reads 100 s or 1000 s."""
    words = [word for _, word in value_ticks(octaves(33, 42), "ns", 1.9)]

    assert words == ["10 s", "60 s", "10 min", "1 h"]


def test_ticks_of_small_numbers_are_all_of_them() -> None:
    """Up to as many as fit; then some."""
    grid = rows(*range(14))

    assert [word for _, word in value_ticks(grid, "tasks", 1)] == [str(n) for n in range(13)]
    assert [word for _, word in value_ticks(grid, "tasks", 2)] == ["0", "2", "5", "10"]


def test_values_between_two_round_ones_are_labelled_at_the_ends() -> None:
    """An axis without a number says nothing."""
    words = [word for _, word in value_ticks(rows(1_100_000, 1_300_000, 1_500_000), "ns", 1)]

    assert words == ["1.1 ms", "1.5 ms"]


def test_a_row_of_all_that_is_smaller_says_so() -> None:
    """The clipped end is labelled, never mistaken for a value."""
    ticks = value_ticks(rows(0, 100_000, 1_000_000, 10_000_000), "ns", 1)

    assert ticks[0] == (0.5, "< 100 µs")
    assert all(above - below >= 0.5 for (below, _), (above, _) in pairwise(ticks))
