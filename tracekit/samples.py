"""Stacks that were sampled, by the latency of the spans they were seen in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from tracekit.stacks import Stack

ROUGH = 100
"""Shares of fewer samples are off by a tenth of the whole, and more."""


@dataclass(frozen=True, eq=False)
class StackSamples:
    """
    What a series of kind `stacks` holds: arrays of equal length, one element a row, each (bucket, stack) once.

    Attributes:
        bucket: int64[n], ascending: slot of a span's latency >> records.BUCKET_SHIFT; 0 of what is no span.
        stack: int64[n], key of *frames*.
        weight: uint64[n], ns, or how many calls.
        count: uint64[n], samples or waits.
        frames: stacks, root first; of all series that were read together.
    """

    bucket: NDArray[np.int64]
    stack: NDArray[np.int64]
    weight: NDArray[np.uint64]
    count: NDArray[np.uint64]
    frames: Mapping[int, Stack]

    @property
    def samples(self) -> int:
        """How many samples or waits there are."""
        return sum(self.count.tolist())

    def within(self, first: int, last: int) -> StackSamples:
        """Return the rows of the buckets *first* to *last*."""
        use = (self.bucket >= first) & (self.bucket <= last)
        return StackSamples(self.bucket[use], self.stack[use], self.weight[use], self.count[use], self.frames)

    def weights(self, shown: Callable[[Stack], Stack]) -> dict[Stack, int]:
        """Return the weight of each stack as *shown*, over all buckets, in Python's integers."""
        found: dict[Stack, int] = {}
        for stack, weight in zip(self.stack.tolist(), self.weight.tolist(), strict=True):
            frames = shown(self.frames[stack])
            found[frames] = found.get(frames, 0) + weight
        return found
