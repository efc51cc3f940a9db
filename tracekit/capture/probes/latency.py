"""
The latencies of one kind on one board: what was added since the last look.

The sums of the buckets say which slots can have changed, so a look at a row where nothing happened is one
comparison of 2 KiB, and pages of slots that were never used are not touched: reading them would allocate them.
A process counts the slot first, then adds to the sum of the bucket, then to what was awaited.
"""

from __future__ import annotations

from itertools import compress
from operator import ne, sub
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture.probes import layout

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_EVENTS = 1 << 36
"""Between two looks; 20 s of a thousand CPUs that do nothing but enter and leave spans."""
MOST_NS = 1 << 58
"""Likewise; 20,000 spans of an hour that end at once, twice over."""
_NOTHING = (0, 0, bytes(layout.SIXTEEN.size))


class AbsurdError(Exception):
    """A number on the board fell, or grew faster than anything can."""


class Gain(NamedTuple):
    """What was added: as capture.kernel.Slots, and what the buckets hold of it."""

    slots: list[int]
    counts: list[int]
    total: int
    low: int
    high: int
    parts: list[tuple[int, int, int]]
    """(bucket, latency, awaited), ns."""


class Latency:
    """
    One struct probe_latency.

    Args:
        view: the board.
        row: number of the kind.
    """

    def __init__(self, view: memoryview, row: int) -> None:
        self._view = view
        self._at = layout.LATENCIES_AT + row * layout.LATENCY_BYTES
        self._sums = bytes(layout.NUMBERS.size)
        self._seen: dict[int, tuple[int, int, bytes]] = {}
        """bucket → (awaited, total, counts of its slots)."""
        self._low, self._high = 0, 0

    def advance(self, *, whole: bool = False) -> Gain | None:
        """
        Return what was added since the last time, None if nothing.

        Args:
            whole: look at every slot in use: the first and the last time.

        Raises:
            AbsurdError: the row cannot be true.
        """
        start = self._at + layout.TOTALS_AT
        sums = self._view[start : start + layout.NUMBERS.size].tobytes()
        if sums == self._sums and not whole:
            return None
        numbers = layout.NUMBERS.unpack(sums)
        grown = numbers if whole else map(ne, numbers, layout.NUMBERS.unpack(self._sums))
        self._sums = sums
        return self._gather(sorted({0, *compress(range(layout.BUCKETS), grown)}))  # bucket 0 may hold spans of 0 ns

    def _gather(self, buckets: Iterable[int]) -> Gain | None:
        _, low, high = layout.LATENCY.unpack_from(self._view, self._at)
        gain = Gain([], [], 0, 0, 0, [])
        for bucket in buckets:
            self._add_bucket(bucket, gain)
        total = sum(latency for _, latency, _ in gain.parts)
        if sum(gain.counts) > MOST_EVENTS or total > MOST_NS:
            raise AbsurdError
        if not gain.slots and not total:
            return None
        known_low = low if not self._high or low < self._low else 0
        known_high = high if high > self._high else 0
        self._low, self._high = low, high
        return gain._replace(total=total, low=known_low, high=known_high)

    def _add_bucket(self, bucket: int, gain: Gain) -> None:
        """Add what one bucket gained; read backwards, so that no sum is ahead of what it is a part of."""
        at, view = self._at + 8 * bucket, self._view
        (awaited,) = layout.NUMBER.unpack_from(view, at + layout.AWAITED_AT)
        (total,) = layout.NUMBER.unpack_from(view, at + layout.TOTALS_AT)
        first = self._at + layout.COUNTS_AT + bucket * layout.SIXTEEN.size
        counts = view[first : first + layout.SIXTEEN.size].tobytes()
        awaited_before, total_before, counts_before = self._seen.get(bucket, _NOTHING)
        grown = total - total_before
        suspended = min(awaited - awaited_before, grown)
        if grown < 0 or awaited < awaited_before:
            raise AbsurdError
        if counts != counts_before:
            _add_slots(counts, counts_before, bucket << layout.BUCKET_SHIFT, gain)
        if grown:
            gain.parts.append((bucket, grown, suspended))
        self._seen[bucket] = awaited_before + suspended, total, counts


def _add_slots(now: bytes, before: bytes, first: int, gain: Gain) -> None:
    grown = list(map(sub, layout.SIXTEEN.unpack(now), layout.SIXTEEN.unpack(before)))
    if min(grown) < 0:
        raise AbsurdError
    gain.slots.extend(compress(range(first, first + layout.BUCKET_SLOTS), grown))
    gain.counts.extend(compress(grown, grown))
