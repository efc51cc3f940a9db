"""
Layout of a flame graph: stacks to boxes, each with the kind of its frame.

Nothing is left out silently: what is too narrow to draw is added up in one box at the
end of its caller, so the boxes above a box always fill what was drawn before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from tracekit.errors import EmptyHistogramError
from tracekit.stacks import tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tracekit.stacks import Stack, Tree

Kind = Literal["on-CPU", "run queue", "blocked", "python", "native", "kernel", "who", "merged", "all"]
"""In the order of a legend. `who` is a role or thread; `native` is code that is neither Python nor kernel."""

MIN_SHARE = 1 / 10_000
"""Narrower boxes are merged: a tenth of a pixel on a wide screen."""
MAX_BOXES = 20_000
"""The narrowest boxes beyond it are merged: browsers grow slow, files large (4 MB)."""

_STATES: dict[str, Kind] = {"on-CPU": "on-CPU", "run queue": "run queue", "blocked": "blocked"}
_ORDER = {kind: place for place, kind in enumerate(get_args(Kind))}
_PYTHON = re.compile(r"\.pyx?\b|<frozen ")


class Look(NamedTuple):
    """What the colour of a box tells. `reason` is why a thread was blocked, "" elsewhere."""

    kind: Kind
    reason: str = ""


class Box(NamedTuple):
    """
    A rectangle: a frame under its callers, or the frames of one caller that are too narrow to draw.

    Attributes:
        name: the frame as it is in the stacks; "" if `merged`.
        depth: frames below it; 0 is the root.
        start, share: place and width on the axis, of 1.
        weight: of all stacks through it.
        of_parent: share of the box below.
        merged: how many frames it stands for, 0 for a frame of its own.
    """

    name: str
    look: Look
    depth: int
    start: float
    share: float
    weight: float
    of_parent: float
    merged: int


@dataclass(frozen=True)
class Part:
    """The share of the stacks that end in frames of one look; None for one that only carries others."""

    look: Look
    share: float | None


@dataclass(frozen=True)
class Flame:
    """
    A flame graph to draw.

    Attributes:
        boxes: callers before callees, left before right.
        total: weight of all stacks.
        stacks: how many there are.
        parts: what the time ended in, by look; shares add up to 1.
        merged: frames that are too narrow to be drawn, none of them with a share above `min_share`.
    """

    boxes: list[Box]
    total: float
    stacks: int
    parts: list[Part]
    merged: int
    min_share: float


def layout(weights: Mapping[Stack, float], min_share: float = MIN_SHARE, max_boxes: int = MAX_BOXES) -> Flame:
    """
    Return the boxes of *weights*.

    Raises:
        EmptyHistogramError: no weight at all.
    """
    grown = tree(weights)
    total = grown.weight(0)
    if not total:
        raise EmptyHistogramError("cannot draw a flame graph: no stack has a weight")
    limit = _limit(grown, min_share * total, max_boxes)
    kept, merged = _prune(grown, limit)
    wall = is_wall_time(weights)
    placed, free = _place(grown, kept, wall)
    boxes = [*placed.values(), *_leftovers(placed, free, merged, limit)]
    boxes.sort(key=attrgetter("start", "depth"))
    parts = _parts(weights, wall, boxes)
    return Flame(boxes, total, len(weights), parts, len(grown.frames) - len(kept), limit / total)


def is_wall_time(weights: Mapping[Stack, float]) -> bool:
    """Return whether these are `role;thread;state...` stacks of a recording."""
    return all(len(stack) > 2 and stack[2] in _STATES for stack in weights)


def look_of(stack: Stack, wall: bool) -> Look:
    """Return the look of the last frame of *stack*; *wall*: it begins as those of a recording do."""
    if not stack:
        return Look("all")
    if wall and len(stack) < 3:
        return Look("who")
    state = _STATES[stack[2]] if wall else None
    if state and len(stack) == 3:
        return Look(state)
    if state == "blocked" and len(stack) < 6:  # the reason, and the system call
        return Look(state, stack[3])
    return Look(_code(stack[-1]))


def _code(frame: str) -> Kind:
    if frame.endswith("_[k]"):
        return "kernel"
    return "python" if _PYTHON.search(frame) else "native"


def _limit(grown: Tree, least: float, max_boxes: int) -> float:
    """Return the weight that a box must exceed, so that it is wide enough and there are not too many."""
    wide = [end - start for start, end in zip(grown.starts, grown.ends, strict=True) if end - start > least]
    return least if len(wide) <= max_boxes else sorted(wide, reverse=True)[max_boxes]


def _prune(grown: Tree, limit: float) -> tuple[list[int], dict[int, tuple[float, int]]]:
    """Return the nodes above *limit*, and by node the weight and number of frames cut off just above it."""
    kept: list[int] = []
    merged: dict[int, tuple[float, int]] = {}
    node = 0
    while node < len(grown.frames):
        size, weight = grown.sizes[node], grown.weight(node)
        if weight > limit or not node:
            kept.append(node)
            node += 1
            continue
        parent = grown.parents[node]
        before, frames = merged.get(parent, (0, 0))
        merged[parent] = (before + weight, frames + size)
        node += size
    return kept, merged


def _place(grown: Tree, kept: list[int], wall: bool) -> tuple[dict[int, Box], dict[int, float]]:
    """Return the box of each node, and where on the axis the room beside its children begins."""
    total = grown.weight(0)
    boxes = {0: Box("all", Look("all"), 0, 0.0, 1.0, total, 1.0, 0)}
    free: dict[int, float] = {0: 0}
    paths: dict[int, Stack] = {0: ()}
    for node in kept[1:]:
        parent, weight = grown.parents[node], grown.weight(node)
        stack = paths[node] = (*paths[parent], grown.frames[node])
        at = free[node] = free[parent]
        free[parent] += weight
        share = weight / boxes[parent].weight
        boxes[node] = Box(stack[-1], look_of(stack, wall), len(stack), at / total, weight / total, weight, share, 0)
    return boxes, free


def _leftovers(
    boxes: dict[int, Box], free: dict[int, float], merged: dict[int, tuple[float, int]], limit: float
) -> Iterator[Box]:
    """Yield one box for all that is too narrow on top of a box, where that is wide enough together."""
    total = boxes[0].weight
    for parent, (weight, frames) in merged.items():
        if weight > limit:
            below, at = boxes[parent], free[parent] / total
            share = weight / below.weight
            yield Box("", Look("merged"), below.depth + 1, at, weight / total, weight, share, frames)


def _parts(weights: Mapping[Stack, float], wall: bool, boxes: list[Box]) -> list[Part]:
    """Return what the stacks end in with its share, by kind and then the largest first, and the other looks drawn."""
    sums: dict[Look, float] = {}
    for stack, weight in weights.items():
        look = look_of(_ending(stack) if wall else stack, wall)
        sums[look] = sums.get(look, 0) + weight
    total = boxes[0].weight
    ends = [Part(look, weight / total) for look, weight in sums.items() if weight]
    others = {box.look for box in boxes} - {part.look for part in ends} - {Look("all"), Look("blocked")}
    parts = ends + [Part(look, None) for look in others]
    return sorted(parts, key=lambda part: (_ORDER[part.look.kind], -(part.share or 0), part.look.reason))


def _ending(stack: Stack) -> Stack:
    """Return the state that a wall-time stack was in, and the reason if it was blocked."""
    return stack[: 4 if stack[2] == "blocked" else 3]
