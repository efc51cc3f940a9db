"""Where values and times lie on the axes of a heat map, and which of them a human wants to see there."""

from __future__ import annotations

import math
from itertools import count, pairwise
from typing import TYPE_CHECKING

from tracekit.units import format_count, format_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracekit.analysis.heatmap import Column, Grid

Tick = tuple[float, str]
"""Place on the axis, and what to write there."""

_SECOND = 10**9
_MINUTES = [_SECOND * s for s in (60, 120, 300, 600, 1800, 3600)]
_STEPS = [digit * 10**power for power in range(6, 10) for digit in (1, 2, 5)]
_STEPS += [_SECOND * s for s in (10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400)]


def units(columns: tuple[Column, ...]) -> int:
    """Return how many columns of the usual width *columns* take together."""
    return sum(column.width for column in columns)


def place_of_time(columns: tuple[Column, ...], at_ns: int) -> float:
    """Return the place of *at_ns* on the time axis: 0 (oldest) to units(columns)."""
    place = 0
    for column in columns:
        if at_ns < column.end_ns:
            share = (at_ns - column.start_ns) / max(1, column.end_ns - column.start_ns)
            return place + max(share, 0.0) * column.width
        place += column.width
    return float(place)


def place_of_value(grid: Grid, value: float) -> float:
    """Return the place of *value* on the value axis: 0 (lowest) to the number of rows; amid a row of its own."""
    row = grid.row_of(int(value))
    low, high = int(grid.edges[row]), int(grid.edges[row + 1])
    if high - low == 1:
        return row + 0.5
    if value <= low:
        return float(row)
    share = math.log2(value / low) / math.log2(high / low) if low else value / high
    return row + min(share, 1.0)


def time_ticks(columns: tuple[Column, ...], origin_ns: int, apart: float) -> list[Tick]:
    """Return round times since *origin_ns*, about *apart* units or more from each other."""
    start, end = columns[0].start_ns - origin_ns, columns[-1].end_ns - origin_ns
    most = max(1, int(units(columns) / apart))
    step = next(step for step in _time_steps() if end - start <= step * most)
    times = range(-(-start // step) * step, end + 1, step)
    return [(place_of_time(columns, origin_ns + time), time_words(time)) for time in times]


def _time_steps() -> Iterator[int]:
    yield from _STEPS
    yield from (_STEPS[-1] << doubled for doubled in count(1))


def time_words(since_ns: int) -> str:
    """Format a time since the start: `0 s`, `12.3 s`, `2 min`, `1 h`."""
    return value_words(since_ns, "ns") if since_ns else "0 s"


def value_ticks(grid: Grid, unit: str, apart: float) -> list[Tick]:
    """
    Return round values, *apart* rows or more from each other: as many as fit.

    The lowest row is named by its upper edge if it takes in all smaller values.
    """
    fold: list[Tick] = [(0.5, f"< {value_words(int(grid.edges[1]), unit)}")] if grid.folded else []
    lowest, highest = int(grid.edges[len(fold)]), int(grid.edges[-1])
    ends = [(float(len(fold)), value_words(lowest, unit)), (float(len(grid.counts)), value_words(highest, unit))]
    for values in _round_values(highest, unit):
        ticks = [(place_of_value(grid, value), value_words(value, unit)) for value in values if value >= lowest]
        if all(above - below >= apart for (below, _), (above, _) in pairwise(ticks)):
            break
    else:
        ticks = _thinned(ticks, apart)
    if len(ticks) < 2:
        ticks = [ends[0], *(tick for tick in ticks if ends[0][0] + apart <= tick[0] <= ends[1][0] - apart), ends[1]]
    return fold + [tick for tick in ticks if not fold or tick[0] >= fold[0][0] + apart / 2]


def _thinned(ticks: list[Tick], apart: float) -> list[Tick]:
    kept = ticks[:1]
    for tick in ticks[1:]:
        if tick[0] >= kept[-1][0] + apart:
            kept.append(tick)
    return kept


def value_words(value: int, unit: str) -> str:
    """Format a value for an axis whose unit is said elsewhere, unless it is a time."""
    return format_ns(value).removesuffix(" 0 s").removesuffix(" 0 min") if unit == "ns" else format_count(value)


def _round_values(highest: int, unit: str) -> list[list[int]]:
    """Return choices of round values below *highest*, the densest first."""
    top = 60 * _SECOND if unit == "ns" else highest
    decades = [10**power for power in range(len(str(highest)))]
    fine = [digit * decade for decade in decades for digit in (1, 2, 5) if digit * decade < top]
    coarse = [decade for decade in decades if decade < top]
    thousands = coarse[::3]
    if unit == "ns":
        choices = [fine + _MINUTES, coarse + _MINUTES[::3] + _MINUTES[-1:], thousands + _MINUTES[::3]]
    else:
        choices = [list(range(highest))] if highest <= 100 else []
        choices.append([0, *fine])
    return [[value for value in choice if value < highest] for choice in choices]
