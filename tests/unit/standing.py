"""Registers and memory of a thread that stands still."""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SEIZE, _INTERRUPT, _REGISTERS, _DETACH = 0x4206, 0x4207, 12, 17
_ANY = 0x40000000  # __WALL
_RBP, _RIP, _RSP = 4, 16, 19  # in struct user_regs_struct
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


def _ptrace(request: int, thread: int, to: ctypes.Array[ctypes.c_uint64] | None = None) -> None:
    if _libc.ptrace(request, thread, None, to) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request}")


@contextmanager
def stopped(thread: int) -> Iterator[tuple[int, int, int]]:
    """Stop a thread, yield its pc, sp and bp, and let it go on."""
    words = (ctypes.c_uint64 * 27)()
    _ptrace(_SEIZE, thread)
    try:
        _ptrace(_INTERRUPT, thread)
        os.waitpid(thread, _ANY)
        _ptrace(_REGISTERS, thread, words)
        yield words[_RIP], words[_RSP], words[_RBP]
    finally:
        _ptrace(_DETACH, thread)


def reader(pid: int) -> Callable[[int, int], bytes | None]:
    """Return a function that reads the memory of a process."""
    file = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)

    def read(address: int, size: int) -> bytes | None:
        try:
            content = os.pread(file, size, address)
        except (OSError, OverflowError):
            return None
        return content if len(content) == size else None

    return read


def words(content: bytes) -> list[int]:
    """Return numbers of 8 bytes each."""
    return [word for (word,) in struct.iter_unpack("<Q", content)]
