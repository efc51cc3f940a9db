"""Sums of what boards gained, which become histograms and the parts of spans."""

from __future__ import annotations

from itertools import compress, count
from typing import TYPE_CHECKING

from tracekit.capture.lives import slot_of
from tracekit.capture.probes import layout
from tracekit.capture.probes.latency import GROUP, lanes
from tracekit.capture.readings import Slots

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracekit.capture.probes.latency import Gain

_MOST = (1 << 63) - 1
"""What a recording holds; only lies are larger."""


class Lanes:
    """Numbers of 64 bits, added as one long integer as long as none can carry into the next."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._nearly_full = lanes(width, 63)
        self._packed = 0
        self._spilled: dict[int, int] = {}

    def add(self, packed: int) -> None:
        """Add lane by lane."""
        if (self._packed | packed) & self._nearly_full:
            self._spill()
        self._packed += packed

    def items(self) -> Iterator[tuple[int, int]]:
        """Yield (lane, number) of those that are not 0, ascending."""
        if self._spilled:
            self._spill()
            yield from sorted(self._spilled.items())
        else:
            yield from self._unpacked()

    def _spill(self) -> None:
        for lane, number in self._unpacked():
            self._spilled[lane] = self._spilled.get(lane, 0) + number
        self._packed = 0

    def _unpacked(self) -> Iterator[tuple[int, int]]:
        numbers = memoryview(self._packed.to_bytes(8 * self._width, "little")).cast("Q").tolist()
        return compress(zip(count(), numbers), numbers)


class Sum:
    """Gains of one series in one interval, over the processes of a role."""

    def __init__(self) -> None:
        self._groups: dict[int, Lanes] = {}
        self._totals, self._awaited = Lanes(layout.BUCKETS), Lanes(layout.BUCKETS)
        self._low = self._high = 0

    def add(self, gain: Gain) -> None:
        """Add what one board gained."""
        for group, packed in gain.groups.items():
            if group not in self._groups:
                self._groups[group] = Lanes(GROUP)
            self._groups[group].add(packed)
        self._totals.add(gain.totals)
        if gain.awaited:
            self._awaited.add(gain.awaited)
        self._low = min(self._low or gain.low, gain.low or self._low)
        self._high = max(self._high, gain.high)

    def slots(self) -> Slots:
        """Return the histogram."""
        slots: list[int] = []
        counts: list[int] = []
        for group in sorted(self._groups):
            for lane, number in self._groups[group].items():
                slots.append(group * GROUP + lane)
                counts.append(min(number, _MOST))
        total = sum(number for _, number in self._totals.items())
        return Slots(slots, counts, min(total, _MOST), *_extremes(slots, self._low, self._high))

    def parts(self) -> Iterator[tuple[int, int, int]]:
        """Yield (bucket, latency, as much of it as was awaited), ns."""
        awaited = dict(self._awaited.items())
        for bucket, total in self._totals.items():
            yield bucket, min(total, _MOST), min(awaited.get(bucket, 0), total, _MOST)


class Whole:
    """A histogram since the recording began."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._total = self._low = self._high = 0

    def add(self, found: Slots) -> None:
        """Add what one interval added."""
        for slot, number in zip(found.slots, found.counts, strict=True):
            self._counts[slot] = self._counts.get(slot, 0) + number
        self._total += found.total
        self._low = min(self._low or found.low, found.low or self._low)
        self._high = max(self._high, found.high)

    def slots(self) -> Slots:
        """Return it."""
        slots = sorted(self._counts)
        counts = [min(self._counts[slot], _MOST) for slot in slots]
        return Slots(slots, counts, min(self._total, _MOST), *_extremes(slots, self._low, self._high))


def _extremes(slots: list[int], low: int, high: int) -> tuple[int, int]:
    """Return extremes; one that is not in the first or last slot is of other spans, and becomes 0."""
    if not slots:
        return 0, 0
    return low * (slot_of(low) == slots[0]), high * (slot_of(high) == slots[-1])
