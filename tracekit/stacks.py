"""Folded-stack algebra: stacks are tuples of frames, root first, with a weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Stack = tuple[str, ...]
Weights = dict[Stack, int]
"""Weight of each stack: ns or samples, >= 0."""


def merge(parts: Iterable[Mapping[Stack, int]]) -> Weights:
    """Return the sum of *parts*, stack by stack."""
    merged: Weights = {}
    for part in parts:
        for stack, weight in part.items():
            merged[stack] = merged.get(stack, 0) + weight
    return merged
