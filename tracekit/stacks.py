"""Folded-stack algebra: stacks are tuples of frames, root first, with a weight."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, compress, count, pairwise
from operator import ne
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Stack = tuple[str, ...]
Weights = dict[Stack, float]
"""Weight of each stack: ns or samples, >= 0. Integers stay integers, so their sums are exact."""

_INTERPRETER = re.compile(r" \((?:lib)?python3[^():]*\)$")
"""How a native frame of a CPython ends. A Python frame ends in its line, also in a file named `python3.py`."""
_AROUND_SPANS = re.compile(r" \((?:[^()]*/)?tracekit/(?:auto|probe)/[^()]*:[0-9]+\)$")
"""How a frame of ours ends that is around a function which has a span."""
_BEGINNING = re.compile(r"(_start|__libc_start\w*|start_thread|__clone3?|clone3?|__GI___clone3?) \(")
_SAYS_LITTLE = re.compile(r"^\[|^\+?0x[0-9a-f]+ \(| \((?:libc|libpthread|ld-\w+|\[vdso\])[-.\w]*\)$")
_LINE = re.compile(r":[0-9]+\)$")


class Node(NamedTuple):
    """The stacks `first` to `last - 1` of a tree, which have their first `depth` frames in common."""

    depth: int
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class Tree:
    """
    Stacks by common prefix: the sorted stacks, and how much of each is in the one before.

    A node is a range of stacks and made when it is asked for, so a tree costs what its
    stacks do and not its nodes. All weights lie side by side on one axis, in
    the order of the stacks.
    """

    stacks: list[Stack]
    """Sorted and distinct."""
    shared: list[int]
    """How many of its first frames each stack has in common with the one before it."""
    branches: dict[int, list[int]]
    """By this number the stacks that have it, ascending: where under a node of that depth a child begins."""
    sums: list[float]
    """Weight of all stacks before each stack, and then that of all."""
    fresh: list[int]
    """Frames not shared of all stacks before each stack, and then those of all: the nodes but the root."""

    @property
    def root(self) -> Node:
        """The node of all stacks, which has no frame."""
        return Node(0, 0, len(self.stacks))

    def path(self, node: Node) -> Stack:
        """Return the frames from the root to *node*."""
        return self.stacks[node.first][: node.depth] if node.depth else ()

    def weight(self, node: Node) -> float:
        """Return the weight of all stacks through *node*."""
        return self.sums[node.last] - self.sums[node.first]

    def own(self, node: Node) -> float:
        """Return the weight of the stack that ends in *node*, 0 if none does."""
        return self.sums[self._beyond(node)] - self.sums[node.first]

    def below(self, node: Node) -> int:
        """Return how many nodes there are below *node*, down to the leaves."""
        if node.first == node.last:
            return 0
        return self.fresh[node.last] - self.fresh[node.first] + self.shared[node.first] - node.depth

    def children(self, node: Node) -> list[Node]:
        """Return the nodes right below *node*, in order of their frames."""
        begin = self._beyond(node)
        if begin == node.last:
            return []
        places = self.branches.get(node.depth, [])
        starts = places[bisect_right(places, begin) : bisect_left(places, node.last)]
        return [Node(node.depth + 1, first, last) for first, last in pairwise([begin, *starts, node.last])]

    def _beyond(self, node: Node) -> int:
        """Return the first stack that does not end in *node*; only the very first one can."""
        ends = node.first < node.last and len(self.stacks[node.first]) == node.depth
        return node.first + ends


def merge(parts: Iterable[Mapping[Stack, float]]) -> Weights:
    """Return the sum of *parts*, stack by stack."""
    merged: Weights = {}
    for part in parts:
        for stack, weight in part.items():
            merged[stack] = merged.get(stack, 0) + weight
    return merged


def starting(weights: Mapping[Stack, float], frames: Stack) -> Weights:
    """Return the stacks that begin with *frames*, whole."""
    return {stack: weight for stack, weight in weights.items() if stack[: len(frames)] == frames}


def scaled(weights: Mapping[Stack, int], total: int) -> dict[Stack, int]:
    """
    Return integers in proportion to *weights* that add up to *total* exactly: the largest remainders are rounded up.

    Of equal remainders that of the first stack comes first. No weight: nothing.
    """
    whole = sum(weights.values())
    if not whole:
        return {}
    shares = {stack: weight * total // whole for stack, weight in weights.items()}
    rest = total - sum(shares.values())
    for stack in sorted(weights, key=lambda stack: (-(weights[stack] * total % whole), stack))[:rest]:
        shares[stack] += 1
    return shares


def without_interpreter(stack: Stack) -> Stack:
    """
    Return *stack* without the frames that only run a program's code.

    These are the native ones of a CPython, `_PyEval_EvalFrameDefault (libpython3.11.so.1.0)`, how a process or thread
    began, `__libc_start_main_impl (libc.so.6)`, and ours around a function that has a span. Where no Python frame is
    known they all stay: they are what is known.
    """
    if not any(map(is_python, stack)):
        return stack
    frames = tuple(frame for frame in stack if not _only_runs(frame))
    begin = next((place for place, frame in enumerate(frames) if not _BEGINNING.match(frame)), 0)
    return frames[begin:]


@lru_cache(maxsize=1 << 16)  # a program has few names and many stacks
def is_python(frame: str) -> bool:
    """Tell whether *frame* is of Python code, as it was recorded: it ends in the line that runs."""
    return bool(_LINE.search(frame))


def innermost(stack: Stack) -> str:
    """
    Return the frame that says most of where *stack* stands: its innermost one of Python code, which somebody can open.

    Without any it is the innermost one of the program that has a name: neither in the kernel, `_[k]`, nor in the C
    library, nor a mark such as `[deeper frames cut]`. Without that it is the innermost of all but the kernel's, or of
    all.
    """
    ranks = sorted(range(len(stack)), key=lambda place: (_rank(stack[place]), -place))
    return stack[ranks[0]]


@lru_cache(maxsize=1 << 16)
def _rank(frame: str) -> int:
    if is_python(frame):
        return 0
    if frame.endswith("_[k]"):
        return 3
    return 2 if _SAYS_LITTLE.search(frame) else 1


def without_lines(stack: Stack) -> Stack:
    """Return *stack* with `name (file)` for Python's `name (file:line)`: the lines of a function are one frame."""
    return tuple(map(_without_line, stack))


@lru_cache(maxsize=1 << 16)
def _only_runs(frame: str) -> bool:
    return bool(_INTERPRETER.search(frame) or _AROUND_SPANS.search(frame))


@lru_cache(maxsize=1 << 16)
def _without_line(frame: str) -> str:
    return _LINE.sub(")", frame)


def tree(weights: Mapping[Stack, float]) -> Tree:
    """Return the prefix tree of *weights*."""
    stacks = sorted(weights)
    shared = [_shared(before, stack) for before, stack in zip([(), *stacks], stacks, strict=False)]
    branches: dict[int, list[int]] = {}
    for place, known in enumerate(shared):
        branches.setdefault(known, []).append(place)
    sums = list(accumulate((weights[stack] for stack in stacks), initial=0))
    fresh = list(accumulate((len(stack) - known for stack, known in zip(stacks, shared, strict=True)), initial=0))
    return Tree(stacks, shared, branches, sums, fresh)


def _shared(left: Stack, right: Stack) -> int:
    """Return how many frames both begin with."""
    return next(compress(count(), map(ne, left, right)), min(len(left), len(right)))
