"""Histogram rows of the kernel: what was added to each since the last look."""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING

from tracekit.capture import wire
from tracekit.capture.readings import Slots

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

    from tracekit.capture.readings import Key

_GROUP_BYTES = 8 * wire.GROUP


class Row:
    """
    One histogram row, over its shards.

    128 slots at a time are taken as one long integer: shards add and snapshots subtract in
    one operation, as no lane of 64 bits ever carries into the next. That is what lets the
    collector do without numpy and its 30 MB.
    """

    def __init__(self, key: Key, windows: list[mmap.mmap]) -> None:
        self.key = key
        self._windows = windows
        self._groups: dict[int, int] = {}
        self._head = (0, 0, 0, 0)

    def advance(self, heads: list[tuple[int, ...]]) -> Slots | None:
        """Return what was added since the last time, None if nothing."""
        head = _merge_heads(heads)
        if head[0] == self._head[0]:
            return None
        touched = 0
        for each in heads:
            touched |= each[4]
        slots: list[int] = []
        counts: list[int] = []
        for group in _bits(touched):
            at = group * _GROUP_BYTES
            now = sum(int.from_bytes(window[at : at + _GROUP_BYTES], "little") for window in self._windows)
            added = now - self._groups.get(group, 0)
            if added:
                self._groups[group] = now
                _spread(added, group, slots, counts)
        _, total, low, high = self._head
        known_low = head[2] if not high or head[2] < low else 0
        known_high = head[3] if head[3] > high else 0
        self._head = head
        return Slots(slots, counts, head[1] - total, known_low, known_high)

    def whole(self) -> Slots:
        """Return all that was ever added, as of the last `advance`."""
        slots: list[int] = []
        counts: list[int] = []
        for group in sorted(self._groups):
            _spread(self._groups[group], group, slots, counts)
        return Slots(slots, counts, *self._head[1:])


def _merge_heads(heads: list[tuple[int, ...]]) -> tuple[int, int, int, int]:
    used = [head for head in heads if head[0]]
    count, total = sum(head[0] for head in used), sum(head[1] for head in used)
    return count, total, min(head[2] for head in used), max(head[3] for head in used)


def _spread(packed: int, group: int, slots: list[int], counts: list[int]) -> None:
    """Append the non-zero lanes of a group."""
    found = lanes(packed, _GROUP_BYTES)
    slots.extend(compress(range(group * wire.GROUP, (group + 1) * wire.GROUP), found))
    counts.extend(filter(None, found))


def lanes(packed: int, size: int) -> list[int]:
    """Return the numbers of 64 bits that *packed* was read from, *size* bytes."""
    return memoryview(packed.to_bytes(size, "little")).cast("Q").tolist()


def _bits(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest
