"""
Two sets of stacks, an earlier and a later one, by the share that each stack has of its own total.

So a run that was twice as long, or sampled twice as often, is no change.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import compress, count
from operator import ne
from typing import TYPE_CHECKING

from tracekit.analysis import flame
from tracekit.errors import EmptyHistogramError
from tracekit.stacks import tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tracekit.analysis.flame import Box, Flame
    from tracekit.stacks import Stack, Tree, Weights


@dataclass(frozen=True)
class Gone:
    """A frame with its callers of which no later stack has any, and its share of the earlier total."""

    path: Stack
    share: float


@dataclass(frozen=True)
class Difference:
    """
    What changed.

    Attributes:
        flame: of the later stacks.
        before: of each of its boxes the share of the earlier total; None for merged ones, whose frames differ.
        gone: largest first. What is upon a frame that is gone is part of it.
        total, stacks: weight and number of the earlier stacks.
    """

    flame: Flame
    before: list[float | None]
    gone: list[Gone]
    total: float
    stacks: int


def compare(before: Mapping[Stack, float], after: Mapping[Stack, float]) -> Difference:
    """
    Return what changed from *before* to *after*.

    Raises:
        EmptyHistogramError: one of them has no weight at all.
    """
    earlier, later = tree(_weighing(before)), tree(_weighing(after))
    drawn = flame.layout(after)
    shares = [None if box.merged else _weight(earlier, path) / earlier.sums[-1] for box, path in _paths(drawn.boxes)]
    return Difference(drawn, shares, _gone(earlier, later), earlier.sums[-1], len(earlier.stacks))


def shares(before: Mapping[Stack, float], after: Mapping[Stack, float]) -> dict[Stack, tuple[float, float]]:
    """
    Return the shares of each stack of its total, before and after; 0 where it is not.

    Raises:
        EmptyHistogramError: one of them has no weight at all.
    """
    totals = [sum(_weighing(weights).values()) for weights in (before, after)]
    known = sorted(stack for stack in {**before, **after} if before.get(stack) or after.get(stack))
    return {stack: (before.get(stack, 0) / totals[0], after.get(stack, 0) / totals[1]) for stack in known}


def _weighing(weights: Mapping[Stack, float]) -> Weights:
    found = {stack: weight for stack, weight in weights.items() if weight}
    if not found:
        raise EmptyHistogramError("cannot compare stacks: none of one side has a weight")
    return found


def _paths(boxes: list[Box]) -> Iterator[tuple[Box, Stack]]:
    """Yield each box with its frames from the root; *boxes* are callers before callees."""
    path: list[str] = []
    for box in boxes:
        path[box.depth - 1 :] = [box.name] if box.depth else []
        yield box, tuple(path)


def _weight(grown: Tree, path: Stack) -> float:
    """Return the weight of all stacks that begin with *path*."""
    if not path:
        return grown.sums[-1]
    first = bisect_left(grown.stacks, path)
    behind = (*path[:-1], path[-1] + "\0")  # the next text after the last frame
    return grown.sums[bisect_left(grown.stacks, behind, first)] - grown.sums[first]


def _gone(earlier: Tree, later: Tree) -> list[Gone]:
    found: Weights = {}
    for place, stack in enumerate(earlier.stacks):
        known = _known(later.stacks, stack)
        if known < len(stack):
            path = stack[: known + 1]
            found[path] = found.get(path, 0) + earlier.sums[place + 1] - earlier.sums[place]
    parts = [Gone(path, weight / earlier.sums[-1]) for path, weight in found.items()]
    return sorted(parts, key=lambda part: (-part.share, part.path))


def _known(stacks: list[Stack], stack: Stack) -> int:
    """Return how many of the first frames of *stack* one of the sorted *stacks* begins with: a neighbour has most."""
    place = bisect_left(stacks, stack)
    return max(_common(stack, neighbour) for neighbour in stacks[max(place - 1, 0) : place + 1])


def _common(left: Stack, right: Stack) -> int:
    return next(compress(count(), map(ne, left, right)), min(len(left), len(right)))
