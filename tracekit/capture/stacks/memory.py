"""
Memory of another process, in few calls.

What is read may be torn: the process runs on meanwhile. A process can make a read wait, by memory that it
serves itself (userfaultfd): nothing of it is read but what its interpreter points at.

Source:
    process_vm_readv(2): it ends at the first byte that cannot be read.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, chain

Piece = tuple[int, int]
"""Address and size in bytes."""
Read = Callable[[Sequence[Piece]], list[bytes | None]]
"""read() of one process."""
Reader = Callable[[int, Sequence[Piece]], list[bytes | None]]
"""read(), or what stands in for it: memory that was kept."""
MOST_BYTES = 1 << 20
"""Of one piece; what is larger counts as not readable."""
MOST_PIECES = 1024
"""Of one call (IOV_MAX)."""
_CALL_BYTES = 16 << 20
_MOST_ADDRESS = 1 << 56


_VECTOR_BYTES = 16
_readv = ctypes.CDLL(None, use_errno=True).process_vm_readv
_readv.restype = ctypes.c_ssize_t
_readv.argtypes = (ctypes.c_int, *(ctypes.c_void_p, ctypes.c_ulong) * 2, ctypes.c_ulong)


def read(pid: int, pieces: Sequence[Piece]) -> list[bytes | None]:
    """
    Return the bytes of each piece of the memory of a process, None for those that cannot be read whole.

    Raises:
        ProcessLookupError: the process has gone.
        PermissionError: its memory may not be read.
    """
    if _fit_one_call(pieces):
        return _contents(pid, pieces)
    found: list[bytes | None] = [None] * len(pieces)
    fit = [i for i, (address, size) in enumerate(pieces) if _can_be(address, size)]
    while fit:
        batch = _batch(fit, pieces)
        for i, content in zip(batch, _contents(pid, [pieces[i] for i in batch]), strict=True):
            found[i] = content
        fit = fit[len(batch) :]
    return found


def vectors(pieces: Sequence[Piece]) -> bytes:
    """Return *pieces* as whole() takes them; joined they are those of all."""
    return struct.pack(f"{2 * len(pieces)}Q", *chain.from_iterable(pieces))


def whole(pid: int, there: bytes, size: int) -> bytes | None:
    """
    Return the memory of at most MOST_PIECES vectors() that have *size* bytes together, None if any cannot be read.

    Raises as read().
    """
    here = ctypes.create_string_buffer(size or 1)
    return here.raw[:size] if _call(pid, ctypes.addressof(here), size, there) == size else None


def _fit_one_call(pieces: Sequence[Piece]) -> bool:
    """Tell whether one call can read them, as it almost always can."""
    sizes = [size for address, size in pieces if 0 < address < _MOST_ADDRESS and 0 <= size <= MOST_BYTES]
    return len(sizes) == len(pieces) <= MOST_PIECES and sum(sizes) <= _CALL_BYTES


def _can_be(address: int, size: int) -> bool:
    return 0 < address < _MOST_ADDRESS and 0 <= size <= MOST_BYTES


def _batch(wanted: list[int], pieces: Sequence[Piece]) -> list[int]:
    """Return the first of *wanted* that one call can read."""
    room, batch = _CALL_BYTES, []
    for i in wanted[:MOST_PIECES]:
        room -= pieces[i][1]
        if room < 0:
            break
        batch.append(i)
    return batch


def _contents(pid: int, pieces: Sequence[Piece]) -> list[bytes | None]:
    """Read *pieces*: by one call, and one more for each piece that cannot be read."""
    ends = [0, *accumulate(size for _, size in pieces)]
    here = ctypes.create_string_buffer(ends[-1] or 1)
    there = vectors(pieces)
    bad, first = set(), 0
    while first < len(pieces):
        got = _call(pid, ctypes.addressof(here) + ends[first], ends[-1] - ends[first], there[first * _VECTOR_BYTES :])
        first = bisect_right(ends, ends[first] + got) - 1  # the piece in which it ended
        if first < len(pieces):
            bad.add(first)
        first += 1
    content = here.raw
    return [None if i in bad else content[ends[i] : ends[i + 1]] for i in range(len(pieces))]


def _call(pid: int, here: int, size: int, there: bytes) -> int:
    """Read the vectors *there* to *here*; returns how many bytes."""
    got: int = _readv(pid, struct.pack("2Q", here, size), 1, there, len(there) // _VECTOR_BYTES, 0)
    if got < 0 and (error := ctypes.get_errno()) != errno.EFAULT:
        raise OSError(error, os.strerror(error))
    return max(0, got)
