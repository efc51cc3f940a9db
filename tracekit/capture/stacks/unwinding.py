"""
The native frames of one thread, from outside: what bpf/native.bpf.h does, by the same rules.

    codes = Codes(pid)
    addresses, end = unwind(read, codes.row, pc, sp, bp)

For a thread that stands still, by its registers and its memory. The tables are made here, of those files only that
the thread is in.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture.elf import NotElfError
from tracekit.capture.libraries.mapped import UnfitError
from tracekit.capture.stacks import ehframe
from tracekit.capture.stacks.cfa import ADDRESS
from tracekit.capture.stacks.layout import (
    MAX_NATIVE_FRAMES,
    NATIVE_CUT,
    NATIVE_ENDS,
    NATIVE_WHOLE,
    UNWIND_DEREF,
    UNWIND_END,
    UNWIND_NONE,
    UNWIND_PLT,
    UNWIND_RBP,
    UNWIND_RBP_LOST,
    UNWIND_RSP,
    UNWIND_SIGNAL,
)
from tracekit.capture.stacks.mappings import VDSO, Mapping, bias_of, mappings, opened, vdso_file

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[int, int], bytes | None]
    """From address and size to bytes; None: they cannot be read."""
    RowOf = Callable[[int], int]
    """From an address of the process to its row; 0: there is none."""

_NO_ROW, _UNKNOWN, _UNREADABLE, _SIGNAL = range(NATIVE_ENDS.index("no row"), len(NATIVE_ENDS))
_U64 = (1 << 64) - 1
_PUSHED = 11  # the byte of 16 of an entry of the PLT from which on its number is on the stack


class Frame(NamedTuple):
    """Registers of a frame."""

    pc: int
    sp: int
    bp: int


class _EndError(Exception):
    """A walk is over; says how."""

    def __init__(self, end: int) -> None:
        super().__init__(NATIVE_ENDS[end])
        self.end = end


def unwind(
    read: Read, row_of: RowOf, pc: int, sp: int, bp: int, most: int = MAX_NATIVE_FRAMES
) -> tuple[list[int], int]:
    """
    Return the addresses a thread is at, innermost first, at most *most*, and enum native_end.

    All but the first are return addresses.
    """
    frame = Frame(pc, sp, bp)
    found: list[int] = []
    while frame.pc and len(found) < most:
        found.append(frame.pc)
        row = row_of(frame.pc - bool(len(found) > 1))  # a call may be the last instruction of its function
        try:
            frame = _by_row(read, frame, row) if row and row >> 32 & 7 != UNWIND_NONE else _by_pointer(read, frame)
        except _EndError as ended:
            return found, ended.end
    return found, NATIVE_CUT if frame.pc else NATIVE_WHOLE


def _by_pointer(read: Read, frame: Frame) -> Frame:
    """Return the caller's frame by the frame pointer."""
    if frame.bp < frame.sp or frame.bp & 7:
        raise _EndError(_NO_ROW)
    return Frame(_word(read, frame.bp + 8, _NO_ROW), frame.bp + 16, _word(read, frame.bp, _NO_ROW))


def _by_row(read: Read, frame: Frame, row: int) -> Frame:
    """Return the caller's frame by a row."""
    kind, rbp = row >> 32 & 7, row >> 51
    cfa = _cfa(read, frame, kind, ((row >> 35 & 0xFFFF) ^ 0x8000) - 0x8000)
    back = _word(read, cfa - 8)
    if rbp not in {0, UNWIND_RBP_LOST}:
        return Frame(back, cfa, _word(read, cfa - rbp * 8))
    if kind == UNWIND_DEREF:  # its stack was aligned anew
        return Frame(back, cfa, _word(read, frame.bp))
    return Frame(back, cfa, frame.bp)


def _cfa(read: Read, frame: Frame, kind: int, units: int) -> int:
    """Return the address behind the return address."""
    if kind == UNWIND_RSP:
        return frame.sp + units * 8
    if kind == UNWIND_RBP:
        return frame.bp + units * 8
    if kind == UNWIND_PLT:
        return frame.sp + (16 if frame.pc & 15 >= _PUSHED else 8)
    if kind == UNWIND_DEREF:
        return _word(read, frame.bp + units * 8)
    raise _EndError({UNWIND_END: NATIVE_WHOLE, UNWIND_SIGNAL: _SIGNAL}.get(kind, _UNKNOWN))


def _word(read: Read, address: int, otherwise: int = _UNREADABLE) -> int:
    """Return 8 bytes of memory; the walk ends so *otherwise*."""
    content = read(address & _U64, 8)
    if content is None:
        raise _EndError(otherwise)
    return int.from_bytes(content, "little")


class Codes:
    """
    The code of a process, and how to unwind from it.

    Raises:
        OSError: the process has gone, or may not be looked at.
    """

    def __init__(self, pid: int, root: Path = Path("/proc")) -> None:
        self._process = root / str(pid)
        self._mappings = mappings(self._process)[0]
        self._starts = [mapping.start for mapping in self._mappings]
        self._tables: dict[tuple[bytes, int, bytes], ehframe.Table | None] = {}

    def row(self, address: int) -> int:
        """Return the row for an address; 0: there is none, or the file behind it cannot be read."""
        number = bisect_right(self._starts, address) - 1
        if number < 0 or address >= self._mappings[number].end:
            return 0
        mapping = self._mappings[number]
        table = self._table(mapping)
        bias = bias_of(mapping, table.segments) if table else None
        if not table or bias is None:
            return 0
        found = bisect_right(table.rows, address - bias - table.base, key=ADDRESS.__and__) - 1
        return table.rows[found] if found >= 0 else 0

    def _table(self, mapping: Mapping) -> ehframe.Table | None:
        file = mapping.device, mapping.inode, mapping.path
        if file not in self._tables:
            self._tables[file] = self._made(mapping)
        return self._tables[file]

    def _made(self, mapping: Mapping) -> ehframe.Table | None:
        try:
            descriptor = vdso_file() if mapping.path == VDSO else opened(self._process, mapping)[0]
        except (OSError, UnfitError):
            return None
        try:
            return ehframe.table(descriptor)
        except (OSError, NotElfError):
            return None
        finally:
            os.close(descriptor)
