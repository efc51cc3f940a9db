"""
The flame graphs of the cells of a heat map, as data for the script that draws them.

Text is in one table; boxes are numbers: which frame, depth, own ns, and which words for their
ns. Callers come before callees, left before right, as the script wants them. Most boxes only carry
the next one: they are -1 - frame, and all else is as of that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, TypeVar

from tracekit.analysis.flame import layout
from tracekit.report import flame_page as page
from tracekit.report import flamegraph
from tracekit.report.terminal import fit
from tracekit.units import format_ns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tracekit.analysis.flame import Box, Flame, Shape
    from tracekit.report.heatmap_picture import Cell
    from tracekit.stacks import Stack

_Key = TypeVar("_Key")
LIMIT_BYTES = 4_000_000
"""Of all data in a picture: browsers open it in a second."""
_BOX_BYTES = 8
"""A box in the data at least, with its words: what is not known before there are some."""
_FEWEST, _MOST = 24, 2_000
"""Boxes of a graph. With fewer it shows no code any more, more are narrower than a pixel."""
_MIN_SHARE = 1 / 2_000
_TITLE = 100
"""Columns of the title: beside it stands what was clicked."""


@dataclass(frozen=True, eq=False)
class Part:
    """
    What some cells have in common.

    Attributes:
        cells: at least one.
        weights: stacks, in ns; they begin with two frames and a state.
        shape: `threads` or `spans`.
        notes: what is to be said of it.
        code: whether there is a stack of code.
    """

    cells: tuple[Cell, ...]
    weights: Mapping[Stack, float]
    shape: Shape
    notes: tuple[str, ...]
    code: bool


@dataclass(frozen=True, eq=False)
class Flames:
    """
    The flame graphs of the cells of a heatmap.

    Attributes:
        data: JSON for `web/heatmap.js`.
        of: which graph each cell has.
        left_out: cells that have one which is not in it, as it would grow too large.
    """

    data: str
    of: Mapping[Cell, int]
    left_out: frozenset[Cell]


class _Table:
    """Texts and frames, numbered as they come; `size`: bytes of both in the data."""

    def __init__(self) -> None:
        self.words: dict[str, int] = {}
        self.frames: dict[tuple[int, int], int] = {}
        self.size = 0

    def word(self, text: str) -> int:
        return self._place(self.words, text)

    def frame(self, name: str, look: str) -> int:
        return self._place(self.frames, (self.word(name), self.word(look)))

    def mark(self) -> tuple[int, int, int]:
        """Return where it is now, for `back`."""
        return len(self.words), len(self.frames), self.size

    def back(self, mark: tuple[int, int, int]) -> None:
        """Forget what came after *mark*."""
        words, frames, self.size = mark
        for places, count in ((self.words, words), (self.frames, frames)):
            while len(places) > count:
                places.popitem()

    def _place(self, places: dict[_Key, int], key: _Key) -> int:
        if key not in places:
            places[key] = len(places)
            self.size += len(escape(_json(key)).encode()) + 1
        return places[key]


@dataclass(frozen=True)
class About:
    """
    What is the same in all cells.

    Attributes:
        title: what the map is of.
        by_cell: whether the cells of a column differ.
        bare: depths of frames that are not shown, as they tell nothing.
    """

    title: str
    by_cell: bool
    bare: frozenset[int]


def embed(about: About, parts: Iterable[Part], count: int, limit: int = LIMIT_BYTES) -> Flames | None:
    """
    Return the flame graphs of *parts*; None if there is no code in any.

    Args:
        about: what they have in common.
        parts: taken one by one, as each may be large.
        count: how many there are at most: what one does not use is there for those after it.
        limit: bytes; boxes are merged, and at last graphs left out, to stay below it.
    """
    table, graphs = _Table(), list[str]()
    places: dict[Cell, int] = {}
    left_out: list[Cell] = []
    used = drawn = 0
    code = False
    for number, part in enumerate(parts):
        code = code or part.code
        mark, spent = table.mark(), used + table.size
        each = max(_BOX_BYTES, spent / max(1, drawn))
        most = int((limit - spent) / (max(1, count - number) * each))
        flame = without(layout(part.weights, _MIN_SHARE, min(_MOST, max(_FEWEST, most)), part.shape), about.bare)
        graph = _graph(flame, part.notes, table)
        if used + len(graph) + 1 + table.size > limit:
            table.back(mark)
            left_out += part.cells
            continue
        places |= dict.fromkeys(part.cells, len(graphs))
        graphs.append(graph)
        used += len(graph) + 1
        drawn += len(flame.boxes)
    if not code or not graphs:
        return None
    head = {"title": fit(page.safe(about.title), _TITLE), "byCell": about.by_cell, "caption": flamegraph.LEGEND}
    texts = {"words": list(table.words), "frames": list(table.frames)}
    data = f'{_json({**head, **texts})[:-1]},"graphs":[{",".join(graphs)}]}}'
    return Flames(data, places, frozenset(left_out))


def without(flame: Flame, depths: frozenset[int]) -> Flame:
    """Return *flame* without the boxes at *depths*, those on them moved down."""
    boxes = [
        box._replace(depth=box.depth - sum(depth < box.depth for depth in depths))
        for box in flame.boxes
        if box.depth not in depths
    ]
    looks = {box.look for box in boxes}
    parts = [part for part in flame.parts if part.share is not None or part.look in looks]
    return replace(flame, boxes=boxes, parts=parts)


def _graph(flame: Flame, notes: tuple[str, ...], table: _Table) -> str:
    """Return [boxes, legend, notes] as JSON: of the last two numbers of words, two a colour and one a note."""
    legend = [table.word(text) for item in flamegraph.legend(flame) for text in item]
    said = [table.word(page.safe(note)) for note in (flamegraph.summary(flame, "ns"), *notes)]
    return _json([list(_numbers(flame.boxes, table)), legend, said])


def _numbers(boxes: list[Box], table: _Table) -> Iterator[float]:
    for place, (box, own) in enumerate(_with_own(boxes)):
        name = flamegraph.merged(box.merged) if box.merged else page.safe(box.name)
        frame = table.frame(name, flamegraph.look_class(box.look, box.name))
        if place + 1 < len(boxes) and boxes[place + 1].depth > box.depth and boxes[place + 1].weight == box.weight:
            yield -1 - frame
        else:
            yield from (frame, box.depth, own, table.word(format_ns(box.weight)))


def _with_own(boxes: list[Box]) -> Iterator[tuple[Box, float]]:
    """Yield each box and what of its weight is not that of boxes on it."""
    own = [box.weight for box in boxes]
    path: list[int] = []
    for place, box in enumerate(boxes):
        del path[box.depth :]
        if path:
            own[path[-1]] -= box.weight
        path.append(place)
    return zip(boxes, own, strict=True)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
