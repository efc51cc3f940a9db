"""A heat map on a terminal: two rows a line in colour, one in ASCII, never larger than the screen."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import click
import numpy as np

from tracekit.analysis.heatmap import Size
from tracekit.report import heatmap_words as words
from tracekit.report import palette
from tracekit.report.heatmap_axes import time_ticks, units, value_ticks
from tracekit.report.terminal import columns_of, in_encoding
from tracekit.units import format_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tracekit.analysis.heatmap import Grid, State
    from tracekit.report.heatmap_words import Subject

_P50, _P99, _INCOMPLETE, _GAP = -1, -2, -3, -4
"""What a dot shows: one of these; 0, nothing; 1 and more, a colour of the ramp."""
_BLANK: dict[State, int] = {"ok": 0, "incomplete": _INCOMPLETE, "gap": _GAP}
_ASCII = {_P50: "o", _P99: "x", _INCOMPLETE: "/", _GAP: "\\"}
_HATCHES = {_INCOMPLETE: "╱", _GAP: "╳"}

_MARGIN = 12
"""Columns left of the map: the longest value and the axis."""
NARROWEST = 24
"""Columns that hold the axis and a map that is worth a look."""
_FRAME = 3
"""Lines for the time axis and the next prompt."""
_FEWEST = 4
"""Rows on the smallest screen."""
_WIDEST, _HIGHEST = 8, 4
"""A cell is not drawn larger than this: columns of the screen, dots."""
_LABEL = 12
"""Columns from one label of the time axis to the next."""
_GROUPS = 5
"""Numbers along the colour scale."""
_RESET = "\x1b[0m"
_THEME = palette.DARK
"""The map paints its own background, so it looks the same on a light terminal."""


@dataclass(frozen=True)
class Screen:
    """What there is to draw on; `columns` at least NARROWEST."""

    columns: int
    lines: int
    depth: palette.Depth

    @property
    def dots(self) -> int:
        """Rows in a line."""
        return 1 if self.depth == "ascii" else 2

    @property
    def width(self) -> int:
        """Columns for the map itself; the last one stays free, as some terminals wrap there."""
        return self.columns - _MARGIN - 1


@dataclass(frozen=True)
class _Line:
    """One line of the map: dots as (row of the grid, part of that row), top first, None is blank; or a limit."""

    dots: tuple[tuple[int, int] | None, ...]
    limit: int | None = None


@dataclass(frozen=True, eq=False)
class _Codes:
    """What the dots show, a column of the screen each: rows, the marks on top (0: none), and where no row is."""

    base: NDArray[np.int8]
    marks: NDArray[np.int8]
    blank: NDArray[np.int8]


def draw(subject: Subject, build: Callable[[Size], Grid], screen: Screen) -> list[str]:
    """
    Return the lines of the map and of what is said about it: all that is said, and a map that leaves room for it.

    *build* makes the grid of at most a given size.
    """
    head = _wrap(f"{words.name(subject)}: {words.numbers(subject)}", screen)
    limits, foot = len(subject.limits), _foot(subject, build(Size(screen.width, 2)), screen)
    lines = screen.lines - len(head) - len(foot) - _FRAME - limits
    room = max(_FEWEST, lines * screen.dots - limits * (screen.dots - 1))  # a limit may leave half a line blank
    grid = build(Size(screen.width, room))
    return [*head, *_map(subject, grid, screen, room), *_foot(subject, grid, screen)]


def _map(subject: Subject, grid: Grid, screen: Screen, room: int) -> list[str]:
    """Return the map with both axes, its rows at most *room* dots together."""
    across = _across(units(grid.columns), screen.width)
    down = min(_HIGHEST, room // len(grid.counts))
    lines = _layout(subject, grid, down, screen.dots)
    labels = _value_labels(grid, subject.unit, lines, down, screen)
    codes = _codes(grid, across, len(palette.ASCII_RAMP) if screen.depth == "ascii" else palette.STEPS)
    drawn = [_paint(line, codes, down, screen, subject) for line in lines]
    return [*map(str.__add__, labels, drawn), *_time_axis(subject, grid, across, screen)]


def _across(columns: int, width: int) -> float:
    """Return how wide a column is drawn: all alike, unless that leaves a third of the screen empty."""
    alike = min(_WIDEST, width // columns)
    return alike if alike == _WIDEST or alike * columns * 3 >= width * 2 else width / columns


def _ends(grid: Grid, across: float) -> NDArray[np.int64]:
    """Return int64[columns + 1]: where each column begins on the screen, and the end of the last."""
    widths = np.array([0, *(column.width for column in grid.columns)])
    return np.floor(np.cumsum(widths) * across).astype(np.int64)


def _layout(subject: Subject, grid: Grid, down: int, dots: int) -> list[_Line]:
    """Return the lines, top first; a limit has one of its own between the rows above and below it."""
    limits = {grid.row_above(limit): limit for limit in subject.limits}
    borders = sorted({0, len(grid.counts), *(row for row in limits if row is not None)}, reverse=True)
    lines: list[_Line] = []
    for above, below in pairwise(borders):
        parts = [(row, part) for row in range(above - 1, below - 1, -1) for part in range(down - 1, -1, -1)]
        blank = [None] * (-len(parts) % dots)
        padded = [*blank, *parts]
        lines += [_Line(tuple(padded[at : at + dots])) for at in range(0, len(padded), dots)]
        lines += [_Line((), limits[below])] if below in limits else []
    return lines


def _codes(grid: Grid, across: float, steps: int) -> _Codes:
    starts = palette.thresholds(max(1, int(grid.counts.max())), steps)
    base = np.searchsorted(np.array(starts, dtype=np.uint64), grid.counts, side="right").astype(np.int8)
    marks = np.zeros_like(base)
    blank = np.array([_BLANK[column.state] for column in grid.columns], dtype=np.int8)
    for number, column in enumerate(grid.columns):
        if column.p50 is not None and column.p99 is not None:
            marks[grid.row_of(column.p50), number] = _P50
            marks[grid.row_of(column.p99), number] = _P99
    widths = np.diff(_ends(grid, across))
    shown = np.where(base == 0, blank, base)
    return _Codes(np.repeat(shown, widths, axis=1), np.repeat(marks, widths, axis=1), np.repeat(blank, widths))


def _paint(line: _Line, codes: _Codes, down: int, screen: Screen, subject: Subject) -> str:
    """Return the text of one line of the map, escape sequences included."""
    if line.limit is not None:
        label = f" {_plain(words.limit(subject, line.limit), screen)} "
        return _ruler(label, max(len(codes.blank), min(len(label) + 4, screen.width)), screen)
    rows = [_dots(dot, codes, down) for dot in line.dots]
    if screen.depth == "ascii":
        return "".join(_ascii(code) for code in rows[0]).rstrip()
    pairs = zip(rows[0], rows[1], strict=True)
    runs = [(style, len(list(run))) for style, run in groupby(_half_block(top, bottom) for top, bottom in pairs)]
    return "".join(_escape(front, back, screen.depth) + char * length for (front, back, char), length in runs) + _RESET


def _dots(dot: tuple[int, int] | None, codes: _Codes, down: int) -> list[int]:
    """Return the codes of one dot of each column; a mark is one dot high however high its row is."""
    if dot is None:
        return [int(code) for code in codes.blank]
    row, part = dot
    marked = (codes.marks[row] != 0) & (part == down // 2)
    return [int(code) for code in np.where(marked, codes.marks[row], codes.base[row])]


def _ascii(code: int) -> str:
    return _ASCII[code] if code < 0 else f" {palette.ASCII_RAMP}"[code]


def _half_block(top: int, bottom: int) -> tuple[str, str, str]:
    """Return foreground, background and character that show *top* over *bottom*."""
    if top == bottom:
        return _color(top), _color(0 if top in _HATCHES else top), _HATCHES.get(top, " ")
    return _color(0 if top in _HATCHES else top), _color(0 if bottom in _HATCHES else bottom), "▀"


def _color(code: int) -> str:
    if code > 0:
        return _THEME.cells[code - 1]
    return {_P50: _THEME.p50, _P99: _THEME.p99, _INCOMPLETE: _THEME.hatch, _GAP: _THEME.hatch}.get(code, _THEME.plot)


def _escape(front: str, back: str, depth: palette.Depth) -> str:
    return f"\x1b[38;{palette.sgr(front, depth)};48;{palette.sgr(back, depth)}m"


def _ruler(label: str, width: int, screen: Screen) -> str:
    """Return a line across the map that is labelled near its new end."""
    line = "~" if screen.depth == "ascii" else "─"
    text = (line * max(0, width - len(label) - 2) + label + line * 2)[:width]
    return text if screen.depth == "ascii" else _escape(_THEME.limit, _THEME.plot, screen.depth) + text + _RESET


def _value_labels(grid: Grid, unit: str, lines: list[_Line], down: int, screen: Screen) -> list[str]:
    """Return what stands left of each line: values not closer than every other line."""
    line_of = {dot: number for number, line in enumerate(lines) for dot in line.dots}
    axis, tick = ("|", "+") if screen.depth == "ascii" else ("│", "┤")
    labels = [f"{'':{_MARGIN - 1}}{axis}"] * len(lines)
    for place, label in value_ticks(grid, unit, 2 * screen.dots / down):
        row = min(int(place), len(grid.counts) - 1)
        part = min(int((place - row) * down), down - 1)
        labels[line_of[row, part]] = f"{_plain(label, screen):>{_MARGIN - 2}} {tick}"
    return labels


def _time_axis(subject: Subject, grid: Grid, across: float, screen: Screen) -> list[str]:
    """Return the line below the map with its ticks, and the line with their times."""
    corner, line, tick = "+-+" if screen.depth == "ascii" else "└─┴"
    lacking = _ASCII[_INCOMPLETE] if screen.depth == "ascii" else _HATCHES[_INCOMPLETE]
    widths = np.diff(_ends(grid, across)).tolist()
    marks = (line if column.state == "ok" else lacking for column in grid.columns)
    axis = [mark for mark, width in zip(marks, widths, strict=True) for _ in range(width)]
    labels = " " * screen.columns
    for place, label in time_ticks(grid.columns, subject.origin_ns, _LABEL / across):
        at = min(int(place * across), len(axis) - 1)
        axis[at] = tick
        start = min(_MARGIN + at - len(label) // 2, screen.columns - 1 - len(label))
        labels = labels[:start] + label + labels[start + len(label) :]
    return [" " * (_MARGIN - 1) + corner + "".join(axis), _plain(labels.rstrip(), screen)]


def _foot(subject: Subject, grid: Grid, screen: Screen) -> list[str]:
    """Return the legend and what is said of limits, gaps and losses."""
    said = words.states(grid.columns)
    marks = [(_P50, "p50"), (_P99, "p99"), *((_BLANK[state], text) for state, text in said.items())]
    items = [f"{_sample([code], screen)} {_plain(text, screen)}" for code, text in marks]
    items.append(_plain(f"column: {words.usual_width(grid.columns)}", screen))
    texts = [words.above_limit(subject, grid, limit) for limit in subject.limits]
    texts += [words.lost(subject)] if "incomplete" in said else []
    return [
        *_flow(_scale(grid, screen), screen.columns - 1),
        *_flow(items, screen.columns - 1),
        *(line for text in texts if text for line in _wrap(text, screen)),
    ]


def _scale(grid: Grid, screen: Screen) -> list[str]:
    """Return which colours or characters stand for how many events."""
    largest = max(1, int(grid.counts.max()))
    steps = len(palette.ASCII_RAMP) if screen.depth == "ascii" else palette.STEPS
    code_of = {start: code for code, start in enumerate(palette.thresholds(largest, steps), 1)}
    starts = list(code_of)
    together = 1 if screen.depth == "ascii" else -(-len(starts) // _GROUPS)
    groups = [starts[at : at + together] for at in range(0, len(starts), together)]
    items = [f"{format_count(g[0])} {_sample([code_of[start] for start in g], screen)}" for g in groups]
    return ["events in a cell:", *items, *([f"to {format_count(largest)}"] if largest > starts[-1] else [])]


def _sample(codes: list[int], screen: Screen) -> str:
    """Return what *codes* look like in the map."""
    if screen.depth == "ascii":
        return "".join(_ascii(code) for code in codes)
    cells = (_half_block(code, code) for code in codes)
    return "".join(f"{_escape(front, back, screen.depth)}{char * 2}" for front, back, char in cells) + _RESET


def _flow(items: list[str], width: int) -> list[str]:
    """Put *items*, which may hold escape sequences, into lines of at most *width*, two blanks between them."""
    lines = [items[0]]
    for item in items[1:]:
        longer = f"{lines[-1]}  {item}"
        if columns_of(click.unstyle(longer)) <= width:
            lines[-1] = longer
        else:
            lines.append(item)
    return lines


def _wrap(text: str, screen: Screen) -> list[str]:
    return textwrap.wrap(_plain(text, screen), screen.columns - 1)


def _plain(text: str, screen: Screen) -> str:
    return in_encoding(text, "ascii") if screen.depth == "ascii" else text
