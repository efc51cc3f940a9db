"""
Memory of another process, mapped read-only.

Not by the mmap module: before CPython 3.13 it keeps a descriptor open for every mapping.
"""

from __future__ import annotations

import ctypes
import mmap
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_FAILED = ctypes.c_void_p(-1).value


class Memory:
    """
    The first *size* bytes of a file, shared with whoever writes them.

    The file must have been sealed against shrinking: a read beyond its end kills.

    Raises:
        OSError: it cannot be mapped.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        address = _LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        if address == _FAILED:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self._address, self._size = address, size
        self.view = memoryview((ctypes.c_char * size).from_address(address)).cast("B").toreadonly()
        """Its bytes; ValueError for who reads them after `close`."""

    def close(self) -> None:
        """Unmap it."""
        self.view.release()
        _LIBC.munmap(self._address, self._size)
