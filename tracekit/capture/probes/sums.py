"""Sums of what boards gained, which become histograms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekit.capture.kernel import Slots
from tracekit.capture.lives import slot_of

if TYPE_CHECKING:
    from tracekit.capture.probes.latency import Gain

_MOST = (1 << 63) - 1
"""What a recording holds; only lies are larger."""


class Sum:
    """Gains of one series, over the processes of a role, and over time."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._total = self._low = self._high = 0

    def add(self, gain: Gain) -> None:
        """Add what one board gained."""
        counts = self._counts
        for slot, count in zip(gain.slots, gain.counts, strict=True):
            counts[slot] = counts.get(slot, 0) + count
        self._total += gain.total
        self._low = min(self._low, gain.low) if self._low and gain.low else self._low or gain.low
        self._high = max(self._high, gain.high)

    def slots(self) -> Slots:
        """Return the sum; an extreme that is not in the first or last slot is somebody else's, and not told."""
        slots = sorted(self._counts)
        counts = [min(self._counts[slot], _MOST) for slot in slots]
        low = self._low if slots and slot_of(self._low) == slots[0] else 0
        high = self._high if slots and slot_of(self._high) == slots[-1] else 0
        return Slots(slots, counts, min(self._total, _MOST), low, high)
