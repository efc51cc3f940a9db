"""Reading a BPF ring buffer through its two memory mappings (kernel/bpf/ringbuf.c)."""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUSY, _DISCARD = 1 << 31, 1 << 30
_POSITION = struct.Struct("=Q")
_HEADER = struct.Struct("=II")


class Ring:
    """
    The consumer of a ring map of *size* bytes.

    The kernel would map the data twice in a row, so that no record wraps; each time would count as our memory. On
    x86-64 loads are not reordered with loads: no barrier is needed between position and data.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self._mask = size - 1
        self._peeked = 0
        self._consumer = mmap.mmap(descriptor, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        length = mmap.PAGESIZE + size
        self._producer = mmap.mmap(descriptor, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=mmap.PAGESIZE)

    def drain(self) -> Iterator[bytes]:
        """Yield all records that are complete, oldest first, and free their room."""
        (at,) = _POSITION.unpack_from(self._consumer)
        for after, record in self._from(at):
            _POSITION.pack_into(self._consumer, 0, after)
            if record is not None:
                yield record

    def peek(self) -> Iterator[bytes]:
        """Yield the complete records that drain() will, but for those that this has yielded before."""
        (at,) = _POSITION.unpack_from(self._consumer)
        for after, record in self._from(max(at, self._peeked)):
            self._peeked = after
            if record is not None:
                yield record

    @property
    def used_bytes(self) -> int:
        """How much room is taken."""
        end, at = _POSITION.unpack_from(self._producer)[0], _POSITION.unpack_from(self._consumer)[0]
        return int(end - at)

    def _from(self, at: int) -> Iterator[tuple[int, bytes | None]]:
        """Yield where each complete record ends, and the record; None: it was given up."""
        (end,) = _POSITION.unpack_from(self._producer)
        while at < end:
            start = mmap.PAGESIZE + (at & self._mask)
            length, _ = _HEADER.unpack_from(self._producer, start)
            if length & _BUSY:
                break
            size = length & ~_DISCARD
            record = self._producer[start + _HEADER.size : start + _HEADER.size + size]
            record += self._producer[mmap.PAGESIZE : mmap.PAGESIZE + size - len(record)]
            at += -(-(size + _HEADER.size) // 8) * 8
            yield at, None if length & _DISCARD else record
