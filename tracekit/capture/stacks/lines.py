"""
Line tables of CPython's code objects. They come from a traced process: any bytes are some table.

Source:
    Objects/lnotab_notes.txt (3.8 to 3.10), Objects/locations.md (Objects/codeobject.c) from 3.11 on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NO_LINE_DELTA = -128
_LONG, _NO_COLUMNS, _NO_LOCATION, _ONE_LINE = 14, 13, 15, 10  # codes of entries
_MOST_SHIFT = 36
_END = 1 << 62


def lines(table: bytes, first: int, minor: int, units: Iterable[int]) -> dict[int, int]:
    """
    Return the line of each of *units*; where the compiler made up the code, or the table ends, it is *first*.

    Args:
        table: co_lnotab (3.8, 3.9) or co_linetable.
        first: co_firstlineno.
        minor: 11 for 3.11.
        units: code units of two bytes; 3.8 and 3.9: bytes.
    """
    rows = _rows(table, first, minor)
    end, line = 0, 0
    found = {}
    for unit in sorted(units):
        while unit >= end:
            end, line = next(rows, (_END, 0))
        found[unit] = line if line > 0 else first
    return found


def _rows(table: bytes, first: int, minor: int) -> Iterator[tuple[int, int]]:
    """Yield where each line ends, and the line; 0: none."""
    if minor >= 11:
        return _locations(iter(table), first)
    return _pairs(table, first) if minor == 10 else _notes(table, first)


def _notes(table: bytes, line: int) -> Iterator[tuple[int, int]]:
    at = 0
    for size, delta in zip(table[::2], table[1::2], strict=False):
        at += size
        yield at, line
        line += _signed(delta)
    yield _END, line


def _pairs(table: bytes, line: int) -> Iterator[tuple[int, int]]:
    at = 0
    for size, byte in zip(table[::2], table[1::2], strict=False):
        delta = _signed(byte)
        at += size
        line += 0 if delta == _NO_LINE_DELTA else delta
        yield at // 2, 0 if delta == _NO_LINE_DELTA else line


def _locations(table: Iterator[int], line: int) -> Iterator[tuple[int, int]]:
    at = 0
    for byte in table:
        code = byte >> 3 & 15
        line += _line_delta(table, code)
        at += (byte & 7) + 1
        yield at, 0 if code == _NO_LOCATION else line


def _line_delta(table: Iterator[int], code: int) -> int:
    """Return the lines between an entry and the one before, and go to its end."""
    if code == _NO_LOCATION:
        return 0
    if code in (_LONG, _NO_COLUMNS):
        number = _varint(table)
        for _ in range(3 if code == _LONG else 0):
            _varint(table)
        return -(number >> 1) if number & 1 else number >> 1
    for _ in range(1 if code < _ONE_LINE else 2):
        next(table, 0)
    return max(0, code - _ONE_LINE)


def _varint(table: Iterator[int]) -> int:
    number = shift = 0
    for byte in table:
        number |= (byte & 63) << min(shift, _MOST_SHIFT)
        shift += 6
        if not byte & 64:
            break
    return number


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte
