"""Folded-stack algebra: stacks are tuples of frames, root first, with a weight."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress, count
from operator import ne
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Stack = tuple[str, ...]
Weights = dict[Stack, float]
"""Weight of each stack: ns or samples, >= 0. Integers stay integers, so their sums are exact."""


@dataclass(frozen=True, eq=False)
class Tree:
    """
    Stacks by common prefix: lists of equal length, one element a node, parents before children.

    The nodes below a node follow it at once: they are `i + 1 .. i + sizes[i] - 1`. Node 0 is the
    root that all stacks share; siblings are in order of their names. All weights lie side by
    side on one axis in that order, and a node covers the half-open range [starts, ends) of it.
    """

    frames: list[str]
    parents: list[int]
    """Node number; -1 for the root."""
    starts: list[float]
    ends: list[float]
    sizes: list[int]
    """Nodes in the subtree, the node itself included."""

    def weight(self, node: int) -> float:
        """Return the weight of all stacks through *node*."""
        return self.ends[node] - self.starts[node]


def merge(parts: Iterable[Mapping[Stack, float]]) -> Weights:
    """Return the sum of *parts*, stack by stack."""
    merged: Weights = {}
    for part in parts:
        for stack, weight in part.items():
            merged[stack] = merged.get(stack, 0) + weight
    return merged


def below(weights: Mapping[Stack, float], root: Stack) -> Weights:
    """Return the stacks that begin with the frames of *root*, whole."""
    return {stack: weight for stack, weight in weights.items() if stack[: len(root)] == root}


def tree(weights: Mapping[Stack, float]) -> Tree:
    """
    Return the prefix tree of *weights*.

    Sorted stacks are walked once: what a stack does not share with the one before it closes
    nodes and opens new ones, so the cost is that of the nodes, not of stacks times depth.
    """
    grown = Tree([""], [-1], [0], [0], [1])
    before: Stack = ()
    position: float = 0
    path = [0]
    for stack in sorted(weights):
        shared = _shared(before, stack)
        _close(grown, path[shared + 1 :], position)
        del path[shared + 1 :]
        _open(grown, path, stack[shared:], position)
        position += weights[stack]
        before = stack
    _close(grown, path, position)
    return grown


def _shared(left: Stack, right: Stack) -> int:
    """Return how many frames both begin with."""
    return next(compress(count(), map(ne, left, right)), min(len(left), len(right)))


def _open(grown: Tree, path: list[int], frames: Stack, position: float) -> None:
    first = len(grown.frames)
    nodes = range(first, first + len(frames))
    grown.parents.extend([path[-1], *nodes][: len(nodes)])
    grown.frames.extend(frames)
    grown.starts.extend([position] * len(nodes))
    grown.ends.extend([position] * len(nodes))
    grown.sizes.extend([1] * len(nodes))
    path.extend(nodes)


def _close(grown: Tree, nodes: list[int], position: float) -> None:
    for node in nodes:
        grown.ends[node] = position
        grown.sizes[node] = len(grown.frames) - node
