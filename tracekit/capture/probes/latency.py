"""
The latencies of one kind on one board: what was added since the last look.

The sums of the buckets say which slots can have changed, so a look at a row where nothing happened is one
comparison of 2 KiB, and pages of slots that were never used are not touched: reading them would allocate them.

Numbers are taken many at a time, as one long integer of 64-bit lanes (capture.kernel does so too): a subtraction
is one operation, and a lane that fell or grew beyond reason shows in its upper bits. A process counts the slot
first, then adds to the sum of the bucket, then to what of it was awaited; the reader goes the other way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture.probes import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP = 128
"""Slots of one power of two, read together."""
GROUP_BYTES = 8 * GROUP
_OCTAVE_BITS = 64 * (GROUP >> layout.BUCKET_SHIFT)
"""Lanes of the buckets that a group of slots has."""
_OCTAVE = (1 << _OCTAVE_BITS) - 1
_EVENTS_BITS = 36
"""Of a slot between two looks: what a thousand CPUs count in 20 s if they do nothing but enter and leave spans."""
_SUM_BITS = 58
"""Of a bucket, likewise, ns: 20,000 spans of an hour that end at once, four times over."""
_WHOLE_BITS = 62
"""Of any number, ever: what falls from there shows above the limits of growth."""


def lanes(count: int, above: int) -> int:
    """Return the mask of the bits from *above* to 63 in each of *count* lanes."""
    lane = (1 << 64) - (1 << above)
    return int.from_bytes(lane.to_bytes(8, "little") * count, "little")


_SUMS_WHOLE, _SUMS_GROWN = lanes(layout.BUCKETS, _WHOLE_BITS), lanes(layout.BUCKETS, _SUM_BITS)
_SLOTS_WHOLE, _SLOTS_GROWN = lanes(GROUP, _WHOLE_BITS), lanes(GROUP, _EVENTS_BITS)


class AbsurdError(Exception):
    """A number on the board fell, or grew faster than anything can."""


class Gain(NamedTuple):
    """What was added."""

    groups: dict[int, int]
    """Number of a group of slots → counts, 128 lanes."""
    totals: int
    """ns by bucket, 288 lanes."""
    awaited: int
    """Likewise, of spans that were suspended."""
    low: int
    """Smallest latency if it is among what was added, else 0."""
    high: int


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
        self._raw = bytes(layout.NUMBERS.size)
        self._totals = self._awaited = 0
        self._groups: dict[int, int] = {}
        self._low = self._high = 0

    def advance(self, *, whole: bool = False) -> Gain | None:
        """
        Return what was added since the last time, None if nothing.

        Args:
            whole: look at every slot in use, the first and the last time: spans of 0 ns do not show in the sums.

        Raises:
            AbsurdError: the row cannot be true.
        """
        if self._bytes_at(layout.TOTALS_AT, layout.NUMBERS.size) == self._raw and not whole:
            return None
        awaited = int.from_bytes(self._bytes_at(layout.AWAITED_AT, layout.NUMBERS.size), "little")
        self._raw = self._bytes_at(layout.TOTALS_AT, layout.NUMBERS.size)
        totals = int.from_bytes(self._raw, "little")
        totals_grown = _grown(totals, self._totals, _SUMS_WHOLE, _SUMS_GROWN)
        awaited_grown = _grown(awaited, self._awaited, _SUMS_WHOLE, _SUMS_GROWN)
        self._totals, self._awaited = totals, awaited
        found = [0, *_octaves(totals)] if whole else _octaves(totals_grown)
        groups = {group: count for group in found if (count := self._advance_group(group))}
        if not (groups or totals_grown):
            return None
        return Gain(groups, totals_grown, awaited_grown, *self._extremes())

    def _advance_group(self, group: int) -> int:
        raw = self._bytes_at(layout.COUNTS_AT + group * GROUP_BYTES, GROUP_BYTES)
        now = int.from_bytes(raw, "little")
        grown = _grown(now, self._groups.get(group, 0), _SLOTS_WHOLE, _SLOTS_GROWN)
        if grown:
            self._groups[group] = now
        return grown

    def _extremes(self) -> tuple[int, int]:
        """Return the smallest and the largest latency, 0 for one that is not new."""
        _, low, high = layout.LATENCY.unpack_from(self._view, self._at)
        new_low = low if not self._high or low < self._low else 0
        new_high = high if high > self._high else 0
        self._low, self._high = low, high
        return new_low, new_high

    def _bytes_at(self, offset: int, size: int) -> bytes:
        at = self._at + offset
        return self._view[at : at + size].tobytes()


def _grown(now: int, before: int, too_large: int, too_fast: int) -> int:
    """Return by how much each lane grew. A lane that fell has borrowed from the next, and is too large by far."""
    grown = now - before
    if now & too_large or grown & too_fast:
        raise AbsurdError
    return grown


def _octaves(buckets: int) -> Iterator[int]:
    """Yield the numbers of the groups of slots whose buckets are not all zero."""
    number = 0
    while buckets:
        skipped = ((buckets & -buckets).bit_length() - 1) // _OCTAVE_BITS
        yield number + skipped
        number += skipped + 1
        buckets >>= (skipped + 1) * _OCTAVE_BITS
