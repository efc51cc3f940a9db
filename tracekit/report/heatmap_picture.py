"""The shapes of a heat map, in pixels, for whatever draws them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

import numpy as np

from tracekit.analysis.heatmap import Size
from tracekit.report import heatmap_words as words
from tracekit.report import palette
from tracekit.report.heatmap_axes import place_of_value, time_ticks, units, value_ticks
from tracekit.report.terminal import fit
from tracekit.units import format_count, format_share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracekit.analysis.heatmap import Column, Grid, State
    from tracekit.report.heatmap_words import Subject

Point = tuple[float, float]
Cell = tuple[int, int]
"""Row and column of a grid."""


@dataclass(frozen=True)
class Box:
    """A filled rectangle; *ink* is a field of palette.Theme, or `cell1` to `cell16`; *cell*: its row and column."""

    x: float
    y: float
    width: float
    height: float
    ink: str
    title: str = ""
    cell: Cell | None = None


@dataclass(frozen=True)
class Hatch:
    """A hatched rectangle: time of which data lacks, or all of it."""

    x: float
    y: float
    width: float
    height: float
    state: State
    title: str = ""


@dataclass(frozen=True)
class Stroke:
    """A line through *points*."""

    points: tuple[Point, ...]
    ink: str
    width: float = 1
    dashed: bool = False


@dataclass(frozen=True)
class Label:
    """One line of text; *y* is its base line."""

    x: float
    y: float
    text: str
    ink: str = "text"
    size: int = 13
    anchor: Literal["start", "middle", "end"] = "start"


Shape = Box | Hatch | Stroke | Label


@dataclass(frozen=True)
class Picture:
    """Shapes in the order in which they are drawn, and the same in words for those who cannot see them."""

    width: int
    height: int
    title: str
    description: str
    shapes: tuple[Shape, ...]


WIDTH = 1200
_LEFT, _RIGHT, _TOP = 90, 206, 84
INSIDE = Size(columns=226, rows=56)
"""What there is room for."""
_PLOT_HEIGHT = 420
_WIDEST, _HIGHEST = 96, 28
"""A cell is not drawn larger than this."""
_TICKS_APART = 90, 24
"""Pixels between labels of the time and value axes."""
_LINE = 18
_BAR_STEP, _BAR_HEIGHT = 26, 14
_LEGEND_WORDS = 620


@dataclass(frozen=True, eq=False)
class _Plot:
    """A grid on the picture: pixels of a unit of time and of a row."""

    grid: Grid
    across: int
    down: int

    @property
    def right(self) -> int:
        return _LEFT + units(self.grid.columns) * self.across

    @property
    def bottom(self) -> int:
        return _TOP + len(self.grid.counts) * self.down

    def x(self, place: float) -> float:
        return _LEFT + place * self.across

    def y(self, place: float) -> float:
        return self.bottom - place * self.down


def lay_out(subject: Subject, grid: Grid) -> Picture:
    """Return the picture of *grid*, which is not larger than INSIDE."""
    across = min(_WIDEST, (WIDTH - _LEFT - _RIGHT) // units(grid.columns))
    plot = _Plot(grid, across, min(_HIGHEST, _PLOT_HEIGHT // len(grid.counts)))
    said = [words.above_limit(subject, grid, limit) for limit in subject.limits]
    said += [text for text in [words.lost(subject)] if text and "incomplete" in words.states(grid.columns)]
    foot = [Label(_LEFT, plot.bottom + 138 + _LINE * number, text) for number, text in enumerate(said)]
    shapes = [*_head(subject, grid), *_axes(subject, plot), *_cells(subject, plot), *_lines(plot)]
    shapes += [*_limits(subject, plot), *_names(subject, plot), *_legend(plot), *foot]
    description = ". ".join([words.numbers(subject), words.span(subject, grid.columns), *said])
    height = plot.bottom + 138 + _LINE * len(foot)
    return Picture(WIDTH, height, f"Heat map of {words.name(subject)}", description, tuple(shapes))


def _head(subject: Subject, grid: Grid) -> Iterator[Shape]:
    yield Label(_LEFT, 30, fit(words.name(subject), 100), size=20)
    yield Label(_LEFT, 54, f"{words.numbers(subject)}, {words.span(subject, grid.columns)}", "muted")
    if subject.unit != "ns":
        yield Label(_LEFT - 10, _TOP - 10, subject.unit, "muted", anchor="end")


def _axes(subject: Subject, plot: _Plot) -> Iterator[Shape]:
    """Yield the ground, then ticks with a faint line each for values."""
    yield Box(_LEFT, _TOP, plot.right - _LEFT, plot.bottom - _TOP, "plot")
    for place, text in value_ticks(plot.grid, subject.unit, _TICKS_APART[1] / plot.down):
        y = plot.y(place)
        yield Stroke(((_LEFT - 5, y), (plot.right, y)), "rule")
        yield Label(_LEFT - 10, y + 4, text, "muted", anchor="end")
    for place, text in time_ticks(plot.grid.columns, subject.origin_ns, _TICKS_APART[0] / plot.across):
        x = plot.x(place)
        yield Stroke(((x, plot.bottom), (x, plot.bottom + 5)), "muted")
        yield Label(x, plot.bottom + 20, text, "muted", anchor="middle")
    yield Stroke(((_LEFT, _TOP), (_LEFT, plot.bottom), (plot.right, plot.bottom)), "muted")
    yield Label(_LEFT, plot.bottom + 42, "time since the start of the recording", "muted")


def _cells(subject: Subject, plot: _Plot) -> Iterator[Shape]:
    """Yield what each column holds; nothing where nothing was."""
    starts = palette.thresholds(max(1, int(plot.grid.counts.max())), palette.STEPS)
    codes = np.searchsorted(np.array(starts, dtype=np.uint64), plot.grid.counts, side="right")
    place = 0
    for number, column in enumerate(plot.grid.columns):
        x, width = plot.x(place), column.width * plot.across
        place += column.width
        if column.state != "ok":
            yield Hatch(x, _TOP, width, plot.bottom - _TOP, column.state, words.column_words(subject, column))
        for row in np.flatnonzero(codes[:, number]).tolist():
            title = words.cell(subject, plot.grid, row, column, int(plot.grid.counts[row, number]))
            ink = f"cell{codes[row, number]}"
            yield Box(x, plot.y(row + 1), width, plot.down, ink, title, (row, number))


def _lines(plot: _Plot) -> Iterator[Shape]:
    """Yield the p50 and p99 of each column, as steps that stop where nothing happened."""
    for _, run in groupby(_placed(plot.grid.columns), key=lambda placed: placed[1].count > 0):
        columns = [(place, column) for place, column in run if column.count]
        for ink, values in (("p50", [c.p50 for _, c in columns]), ("p99", [c.p99 for _, c in columns])):
            points: list[Point] = []
            for (place, column), value in zip(columns, values, strict=True):
                y = plot.y(place_of_value(plot.grid, value or 0))
                points += [(plot.x(place), y), (plot.x(place + column.width), y)]
            if points:
                yield Stroke(tuple(points), "plot", 4)
                yield Stroke(tuple(points), ink, 1.8)


def _placed(columns: tuple[Column, ...]) -> Iterator[tuple[int, Column]]:
    place = 0
    for column in columns:
        yield place, column
        place += column.width


def _limits(subject: Subject, plot: _Plot) -> Iterator[Shape]:
    for limit in subject.limits:
        row = plot.grid.row_above(limit)
        if row is not None:
            ends = (_LEFT, plot.y(row)), (plot.right, plot.y(row))
            yield Stroke(ends, "plot", 4, dashed=True)
            yield Stroke(ends, "limit", 2, dashed=True)


def _names(subject: Subject, plot: _Plot) -> Iterator[Shape]:
    """Yield what the lines are called, right of their newest end, one below the other."""
    last = next(column for column in reversed(plot.grid.columns) if column.count)
    names = [
        (plot.y(place_of_value(plot.grid, value or 0)), text, text)
        for text, value in (("p50", last.p50), ("p99", last.p99))
    ]
    for limit in subject.limits:
        row = plot.grid.row_above(limit)
        if row is not None:
            above = format_share(subject.histogram.share_above(limit))
            names.append((plot.y(row), "limit", f"{words.limit(subject, limit)}: {above} above"))
    free = float(_TOP - _LINE)
    for y, ink, text in sorted(names):
        free = max(y, free + _LINE)
        yield Label(plot.right + 8, free + 4, text, ink)


def _legend(plot: _Plot) -> Iterator[Shape]:
    """Yield the scale of colours with numbers, and what hatching means."""
    top, largest = plot.bottom + 72, max(1, int(plot.grid.counts.max()))
    starts = palette.thresholds(largest, palette.STEPS)
    code_of = {start: code for code, start in enumerate(starts, 1)}
    every = -(-len(code_of) // 8)
    yield Label(_LEFT, top, f"events in a cell, each {words.usual_width(plot.grid.columns)} wide:", "muted")
    for number, (start, code) in enumerate(code_of.items()):
        x = _LEFT + number * _BAR_STEP
        yield Box(x, top + 8, _BAR_STEP, _BAR_HEIGHT, f"cell{code}")
        if number % every == 0:
            yield Label(x, top + 38, format_count(start), "muted", size=12)
    end = _LEFT + len(code_of) * _BAR_STEP
    if largest > starts[-1]:
        yield Label(end + 6, top + 20, f"to {format_count(largest)}", "muted", size=12)
    for number, (state, text) in enumerate(words.states(plot.grid.columns).items()):
        y = top + 8 + number * 24
        yield Hatch(_LEFT + _LEGEND_WORDS, y, 28, _BAR_HEIGHT, state)
        yield Label(_LEFT + _LEGEND_WORDS + 36, y + 12, text, "muted")
