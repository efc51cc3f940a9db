"""Where a value is counted: the slots of HdrHistogram, for any precision and range."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.uint64]
"""uint64[slots], events per slot."""

_MANTISSA = 52
_EXACT = 1 << 53
"""Integers below have a float64 of their own."""


@dataclass(frozen=True)
class Layout:
    """
    The slots of a histogram: `1 << step_bits` linear steps for each power of two.

    Attributes:
        lowest: smallest difference between values that must be seen; its power of two is the unit.
        highest: largest value that must be tracked; the last slot may reach further.
        digits: significant digits, 0 to 5: 2 is 128 steps, an error below 1/128; 3 is 1024.

    Source:
        HdrHistogram (Java, AbstractHistogram.init, getBucketsNeededToCoverValue).
    """

    lowest: int = 1
    highest: int = 3_600_000_000_000
    digits: int = 2

    def __post_init__(self) -> None:
        if not (0 <= self.digits <= 5 and 1 <= self.lowest <= self.highest // 2 and self.highest < 1 << 63):
            raise ValueError(f"no histogram has {self}")
        if self.unit_bits + self.step_bits > 61:
            raise ValueError(f"{self} has more digits than values")

    @cached_property
    def unit_bits(self) -> int:
        """Values are counted in units of 1 << unit_bits."""
        return self.lowest.bit_length() - 1

    @cached_property
    def step_bits(self) -> int:
        """A slot is at most 1 / (1 << step_bits) of its values wide."""
        return int(2 * 10**self.digits - 1).bit_length() - 1

    @cached_property
    def octaves(self) -> int:
        """Powers of two that have steps of their own; HdrHistogram's bucketCount."""
        return max((self.highest >> self.unit_bits).bit_length() - self.step_bits, 1)

    @cached_property
    def slots(self) -> int:
        """Number of slots."""
        return (self.octaves + 1) << self.step_bits

    @cached_property
    def top(self) -> int:
        """Largest value that has a slot; larger ones are clamped into the last."""
        return (1 << (self.octaves + self.step_bits + self.unit_bits)) - 1

    @cached_property
    def lower(self) -> Counts:
        """uint64[slots]: smallest value of each slot, ascending."""
        octave, step = self._steps
        edges: Counts = step << (octave + np.uint64(self.unit_bits))
        return edges

    @cached_property
    def upper(self) -> Counts:
        """uint64[slots]: largest value of each slot, ascending."""
        octave, step = self._steps
        edges: Counts = ((step + np.uint64(1)) << (octave + np.uint64(self.unit_bits))) - np.uint64(1)
        return edges

    @cached_property
    def middle(self) -> Counts:
        """uint64[slots]: HdrHistogram's median-equivalent value, from which it takes mean and deviation."""
        middles: Counts = self.lower + ((self.upper - self.lower + np.uint64(1)) >> np.uint64(1))
        return middles

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        """float64[slots]: `middle`, to compute with."""
        return self.middle.astype(np.float64)

    @property
    def _steps(self) -> tuple[Counts, Counts]:
        slot = np.arange(self.slots, dtype=np.uint64)
        octave = np.maximum(slot >> np.uint64(self.step_bits), np.uint64(1)) - np.uint64(1)
        return octave, slot - (octave << np.uint64(self.step_bits))

    def slots_of(self, values: NDArray[np.uint64]) -> NDArray[np.int64]:
        """
        Return the slot of each value; values above `top` are clamped.

        The bits of a float64 are exponent and mantissa, that is octave and step, so that a shift gives the slot.
        """
        units = np.minimum(np.asarray(values, dtype=np.uint64), np.uint64(self.top)) >> np.uint64(self.unit_bits)
        if self.top >> self.unit_bits >= _EXACT:
            units = np.where(units >= np.uint64(_EXACT), units & ~np.uint64(0x7FF), units)  # never rounded up a step
        linear = units.view(np.int64)
        slots: NDArray[np.int64] = linear.astype(np.float64).view(np.int64)
        slots >>= _MANTISSA - self.step_bits
        slots -= (1022 + self.step_bits) << self.step_bits
        np.maximum(slots, np.minimum(linear, (1 << self.step_bits) - 1), out=slots)
        return slots

    def slot_of(self, value: int) -> int:
        """Return the slot of one value, as `slots_of` does of many."""
        units = min(value, self.top) >> self.unit_bits
        octave = max(units.bit_length() - self.step_bits - 1, 0)
        return (octave << self.step_bits) + (units >> octave)

    def joined(self, other: Layout) -> Layout:
        """
        Return the finest layout whose slots are unions of those of both: what both can be counted in.

        A histogram moved there is the one that it would be, had its values been counted there.
        """
        if self == other:
            return self
        lowest, digits = max(self.lowest, other.lowest), min(self.digits, other.digits)
        return Layout(lowest, max(self.highest, other.highest, 2 * lowest), digits)


NS = Layout()
"""The one layout of recordings, of the kernel and of the probe: 1 ns to 1 h, two digits, 4608 slots."""
