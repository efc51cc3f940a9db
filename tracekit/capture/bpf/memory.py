"""Maps as memory: reading one costs no system call."""

from __future__ import annotations

import mmap
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import struct
    from collections.abc import Iterator


def map_array(descriptor: int, size: int, offset: int = 0, *, write: bool = False) -> mmap.mmap:
    """Map *size* bytes of a BPF_F_MMAPABLE array from page-aligned *offset*."""
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)
    rounded = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    return mmap.mmap(descriptor, rounded, mmap.MAP_SHARED, protection, offset=offset)


@contextmanager
def window(descriptor: int, at: int, size: int) -> Iterator[memoryview]:
    """Map *size* bytes of such an array from byte *at*, to write, while this is open: what is mapped counts as ours."""
    begin = at // mmap.PAGESIZE * mmap.PAGESIZE
    memory = map_array(descriptor, at - begin + size, begin, write=True)
    with memory, memoryview(memory) as whole, whole[at - begin : at - begin + size] as view:
        yield view


class Table:
    """An array of structs, *entries* long, decoded element by element when asked."""

    def __init__(self, descriptor: int, layout: struct.Struct, entries: int) -> None:
        self._layout = layout
        self._memory = map_array(descriptor, layout.size * entries)

    def row(self, number: int) -> tuple[int, ...]:
        """Return the fields of element *number*."""
        return self._layout.unpack_from(self._memory, number * self._layout.size)

    def rows(self, first: int, last: int) -> Iterator[tuple[int, ...]]:
        """Yield the fields of elements [first, last)."""
        size = self._layout.size
        return self._layout.iter_unpack(memoryview(self._memory)[first * size : last * size])

    def raw(self, first: int, last: int) -> bytes:
        """Return the bytes of elements [first, last)."""
        return self._memory[first * self._layout.size : last * self._layout.size]
