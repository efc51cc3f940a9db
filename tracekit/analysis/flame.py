"""
Layout of a flame graph: stacks to boxes, each with the kind of its frame.

Nothing is left out silently: what is too narrow to draw is added up in one box at the
end of its caller, so the boxes above a box always fill what was drawn before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappop, heappush
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from tracekit.errors import EmptyHistogramError
from tracekit.stacks import tree

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracekit.stacks import Node, Stack, Tree

Kind = Literal[
    "on-CPU",
    "client",
    "run queue",
    "server",
    "db",
    "blocked",
    "awaiting",
    "unattributed",
    "python",
    "native",
    "kernel",
    "who",
    "what",
    "merged",
    "all",
]
"""
In the order of a legend. `who` is a role or thread, `what` a role or span; `native` is code that is neither Python
nor kernel.
"""
Shape = Literal["code", "threads", "spans", "bands", "cpu", "waits", "failures"]
"""
What stacks are: `threads` are wall time as `role;thread;state...`; `spans` are `role;span;component...`, or calls
with more frames before the component; `bands` are means of a span of the tail and of the median, one beside the other.
Not told by the stacks themselves: `cpu` are `role;thread;code`, `waits` `role;thread;reason;syscall;code`, `failures`
`role;syscall;errno;code`.
"""

MIN_SHARE = 1 / 10_000
"""Narrower boxes are merged: a tenth of a pixel on a wide screen."""
MAX_BOXES = 20_000
"""The narrowest boxes beyond it are merged: browsers grow slow, files large (4 MB)."""

BANDS = ("median", "tail")
CALLS = "db.query"
"""What calls that were seen at sockets are called among spans, as those that the program makes spans of."""
BLOCKED = "blocked: "
"""How the component of a span begins that was blocked; the reason follows."""
_STATES: dict[str, Kind] = {"on-CPU": "on-CPU", "run queue": "run queue", "blocked": "blocked"}
_COMPONENTS: dict[str, Kind] = {
    "on-CPU": "on-CPU",
    "run queue": "run queue",
    "db": "db",
    "awaiting": "awaiting",
    "unattributed": "unattributed",
}
_OF_CALLS: dict[str, Kind] = {**_COMPONENTS, "client": "client", "server": "server"}
_HEADS: dict[Shape, int] = {"cpu": 2, "waits": 4, "failures": 3}
"""How many frames come before the code."""
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
        parts: what the time ended in, by look; shares add up to 1, and there are none of `bands`.
        merged: frames that are too narrow to be drawn, none of them with a share above `min_share`.
    """

    boxes: list[Box]
    total: float
    stacks: int
    parts: list[Part]
    merged: int
    min_share: float
    shape: Shape


def layout(
    weights: Mapping[Stack, float],
    min_share: float = MIN_SHARE,
    max_boxes: int = MAX_BOXES,
    shape: Shape | None = None,
) -> Flame:
    """
    Return the boxes of *weights*; *shape*: what they are, None: as they tell it.

    Raises:
        EmptyHistogramError: no weight at all.
    """
    grown = tree(weights)
    total = grown.weight(grown.root)
    if not total:
        raise EmptyHistogramError("cannot draw a flame graph: no stack has a weight")
    nodes, limit = _widest(grown, min_share * total, max_boxes)
    shape = shape or shape_of(weights)
    boxes = _place(grown, nodes, limit, shape)
    parts = _parts(weights, shape, boxes)
    merged = grown.below(grown.root) + 1 - len(nodes)
    return Flame(boxes, total, len(weights), parts, merged, limit / total, shape)


def shape_of(weights: Mapping[Stack, float]) -> Shape:
    """Return what the stacks are, by what all of them are."""
    if all(len(stack) > 2 and stack[2] in _STATES for stack in weights):
        return "threads"
    if all(stack and stack[0] in BANDS and _has_component(stack, "bands") for stack in weights):
        return "bands"
    return "spans" if all(_has_component(stack, "spans") for stack in weights) else "code"


def look_of(stack: Stack, shape: Shape) -> Look:
    """Return the look of the last frame of *stack*."""
    if not stack:
        return Look("all")
    if shape == "threads":
        return _of_thread(stack)
    if shape in _HEADS and len(stack) <= _HEADS[shape]:
        return _of_head(stack, shape)
    if shape == "code" or shape in _HEADS:
        return Look(_code(stack[-1]))
    at = _component(stack, shape)
    if at and len(stack) > at + 1 and _carries_code(stack[at]):
        return Look(_code(stack[-1]))
    return _of_component(stack[at]) if at else Look("what")


def _of_head(stack: Stack, shape: Shape) -> Look:
    """Return the look of a frame before the code: a wait has the colour of its reason."""
    if shape == "failures":
        return Look("what")
    return Look("blocked", stack[2]) if len(stack) > 2 else Look("who")


def _of_thread(stack: Stack) -> Look:
    if len(stack) < 3:
        return Look("who")
    state = _STATES.get(stack[2], "what")
    if len(stack) == 3:
        return Look(state)
    if state == "blocked" and len(stack) < 6:  # the reason, and the system call
        return Look(state, stack[3])
    return Look(_code(stack[-1]))


def _component(stack: Stack, shape: Shape) -> int:
    """Return where the component is: behind role and span, or behind peer and operation of a call; 0: there is none."""
    begin = 3 if shape == "bands" else 2
    if _is_component(stack[begin : begin + 1], _COMPONENTS):
        return begin
    of_call = stack[begin - 1 : begin] == (CALLS,) and _is_component(stack[begin + 2 : begin + 3], _OF_CALLS)
    return begin + 2 if of_call else 0


def _is_component(frame: Stack, known: Mapping[str, Kind]) -> bool:
    return any(name in known or name.startswith(BLOCKED) for name in frame)


def _carries_code(component: str) -> bool:
    """Tell whether code can stand below *component*."""
    return component == "on-CPU" or component.startswith(BLOCKED)


def _has_component(stack: Stack, shape: Shape) -> bool:
    """Tell whether nothing follows the component, but code, or what was asked of a database."""
    at = _component(stack, shape)
    return at > 0 and (_carries_code(stack[at]) or len(stack) <= at + (3 if stack[at] == "db" else 1))


def _of_component(frame: str) -> Look:
    if frame in _OF_CALLS:
        return Look(_OF_CALLS[frame])
    return Look("blocked", frame.removeprefix(BLOCKED))


@lru_cache(maxsize=10_000)  # a program has few names and many boxes
def _code(frame: str) -> Kind:
    if frame.endswith("_[k]"):
        return "kernel"
    return "python" if _PYTHON.search(frame) else "native"


def _widest(grown: Tree, least: float, max_boxes: int) -> tuple[list[Node], float]:
    """Return the root and the widest nodes, in the order of a walk, and a weight that none of the others exceeds."""
    chosen: list[Node] = []
    found = [(-grown.weight(grown.root), grown.root)]
    while found and len(chosen) <= max_boxes:
        _, node = heappop(found)
        chosen.append(node)
        for child in grown.children(node):
            weight = grown.weight(child)
            if weight > least:
                heappush(found, (-weight, child))
    limit = -found[0][0] if found else least
    return sorted(chosen, key=attrgetter("first", "depth")), limit


@dataclass
class _Room:
    """A box, where on the axis the next one on it goes, and what is below its node that no box shows yet."""

    box: Box
    free: float
    weight: float
    frames: int


def _place(grown: Tree, nodes: list[Node], limit: float, shape: Shape) -> list[Box]:
    """Return the boxes: on each, from its left edge, its children, and one for the others if they are wide enough."""
    rooms: list[_Room] = []
    path: list[_Room] = []
    for node in nodes:
        del path[node.depth :]
        path.append(_enter(grown, node, path[-1] if path else None, look_of(grown.path(node), shape)))
        rooms.append(path[-1])
    boxes = [room.box for room in rooms]
    boxes += [_leftover(room, grown.sums[-1]) for room in rooms if room.frames and 0 < room.weight >= limit]
    return sorted(boxes, key=attrgetter("start", "depth"))


def _enter(grown: Tree, node: Node, parent: _Room | None, look: Look) -> _Room:
    """Return the room on *node*, and take from its parent's what it fills."""
    weight, frames, total = grown.weight(node), grown.below(node), grown.sums[-1]
    at, of_parent = 0.0, 1.0
    if parent:
        at, of_parent = parent.free, weight / parent.box.weight
        parent.free += weight
        parent.weight -= weight
        parent.frames -= 1 + frames
    name = grown.stacks[node.first][node.depth - 1] if node.depth else "all"
    box = Box(name, look, node.depth, at / total, weight / total, weight, of_parent, 0)
    return _Room(box, at, weight - grown.own(node), frames)


def _leftover(room: _Room, total: float) -> Box:
    share, of_parent = room.weight / total, room.weight / room.box.weight
    depth, start = room.box.depth + 1, room.free / total
    return Box("", Look("merged"), depth, start, share, room.weight, of_parent, room.frames)


def _parts(weights: Mapping[Stack, float], shape: Shape, boxes: list[Box]) -> list[Part]:
    """Return what the stacks end in with its share, by kind and then the largest first, and the other looks drawn."""
    sums: dict[Look, float] = {}
    for stack, weight in weights.items():
        look = look_of(_ending(stack, shape), shape)
        sums[look] = sums.get(look, 0) + weight
    total = boxes[0].weight
    ends = [Part(look, None if shape == "bands" else weight / total) for look, weight in sums.items() if weight]
    others = {box.look for box in boxes} - {part.look for part in ends} - {Look("all"), Look("blocked")}
    parts = ends + [Part(look, None) for look in others]
    return sorted(parts, key=lambda part: (_ORDER[part.look.kind], -(part.share or 0), part.look.reason))


def _ending(stack: Stack, shape: Shape) -> Stack:
    """Return the state that a wall-time stack was in, and the reason if it was blocked; of spans, the component."""
    if shape == "waits":
        return stack[:3]
    if shape in ("code", "cpu", "failures"):
        return stack
    if shape == "threads":
        return stack[: 4 if stack[2] == "blocked" else 3]
    return stack[: _component(stack, shape) + 1]
