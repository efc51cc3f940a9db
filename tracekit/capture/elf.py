"""
Functions of an ELF file, and where in the file they are.

Own code, as pyelftools takes 0.4 s for what this does in a few ms (libsqlite3: 1.4 MB, 300 symbols): it makes
an object of every symbol. The file belongs to a traced process, so nothing in it is believed: all that is wrong
with it is a NotElfError, and what is read of it is bounded.

Source:
    elf(5), System V ABI. Only ELF64 of x86_64, as nothing else runs on this machine.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

MOST_BYTES = 16 << 20
"""Of one table of symbols, or of their names."""
_MOST_SECTIONS, _MOST_SEGMENTS = 4096, 256
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little endian
_EXECUTABLE, _SHARED, _X86_64 = 2, 3, 62
_LOADED, _CODE = 1, 1  # PT_LOAD, PF_X
_SYMBOL_TABLES = (11, 2)  # SHT_DYNSYM, SHT_SYMTAB
_EMPTY = (0, 8)  # SHT_NULL, SHT_NOBITS
_OBJECT, _FUNCTION = 1, 2  # STT_OBJECT, STT_FUNC


class NotElfError(Exception):
    """What is wrong with a file that should be a library; one line."""


@dataclass(frozen=True)
class Function:
    """
    A function that a file defines.

    Attributes:
        offset: of its first byte in the file.
        address: the same in memory, before the file is put anywhere.
        before: bytes between the beginning of the segment of code and the function; code: bytes of that segment.
    """

    offset: int
    address: int
    before: int
    code: int


@dataclass(frozen=True)
class Segment:
    """A piece of a file that is loaded: where it is in the file, and in memory before the file is put anywhere."""

    offset: int
    address: int
    size: int

    def holds(self, address: int) -> bool:
        """Tell whether an address, before the file is put anywhere, is in it."""
        return self.address <= address < self.address + self.size


def read(file: int, names: Collection[str]) -> dict[str, list[Function]]:
    """
    Return where the functions *names* are that the ELF file with descriptor *file* defines itself.

    A name has several functions where the library has several versions of it.

    Raises:
        NotElfError: it is none for x86_64, or is torn.
        OSError: it cannot be read.
    """
    header = _header(file)
    segments = _code(file, *_table(header, 5, 9, _MOST_SEGMENTS, _SEGMENT.size))
    found: dict[str, dict[int, Function]] = {}
    for name, address in _symbols(file, *_table(header, 6, 11, _MOST_SECTIONS, _SECTION.size), names):
        segment = next((segment for segment in segments if segment.holds(address)), None)
        if segment:
            before = address - segment.address
            found.setdefault(name, {})[address] = Function(segment.offset + before, address, before, segment.size)
    return {name: list(each.values()) for name, each in found.items()}


def code(file: int) -> list[Segment]:
    """Return the segments of the ELF file with descriptor *file* that are executed. Raises as read()."""
    return _code(file, *_table(_header(file), 5, 9, _MOST_SEGMENTS, _SEGMENT.size))


def section(file: int, name: bytes, most: int = MOST_BYTES) -> tuple[int, bytes] | None:
    """
    Return the address and the bytes of a section; None: the file has no such section, or not its bytes.

    Raises:
        NotElfError: as read(), or it has more than *most* bytes.
        OSError: it cannot be read.
    """
    header = _header(file)
    at, count = _table(header, 6, 11, _MOST_SECTIONS, _SECTION.size)
    sections = list(_SECTION.iter_unpack(_piece(file, at, count * _SECTION.size)))
    if header[13] >= len(sections):
        return None
    names = _piece(file, sections[header[13]][4], sections[header[13]][5])
    for place, kind, _, address, offset, size, *_ in sections:
        if kind not in _EMPTY and names[place : place + len(name) + 1] == name + b"\0":
            return address, _piece(file, offset, size, most)
    return None


def objects(file: int, names: Collection[str]) -> dict[str, int]:
    """Return the addresses, as the file has them, of the variables *names* that it defines itself. Raises as read()."""
    table = _table(_header(file), 6, 11, _MOST_SECTIONS, _SECTION.size)
    return dict(_symbols(file, *table, names, _OBJECT))


def tables(file: int, most: int = MOST_BYTES) -> list[tuple[bytes, int, int]]:
    """
    Return the tables of symbols: entries of Elf64_Sym, and where in the file their names are and how many bytes.

    Raises:
        NotElfError: as read(), or a table has more than *most* bytes.
        OSError: it cannot be read.
    """
    at, count = _table(_header(file), 6, 11, _MOST_SECTIONS, _SECTION.size)
    sections = list(_SECTION.iter_unpack(_piece(file, at, count * _SECTION.size)))
    return [
        (_piece(file, offset, size - size % _SYMBOL.size, most), sections[link][4], sections[link][5])
        for _, kind, _, _, offset, size, link, *_ in sections
        if kind in _SYMBOL_TABLES and link < len(sections)
    ]


def _header(file: int) -> tuple[Any, ...]:
    header = _HEADER.unpack(_piece(file, 0, _HEADER.size))
    if header[0][:6] != _MAGIC or header[1] not in (_EXECUTABLE, _SHARED) or header[2] != _X86_64:
        raise NotElfError("it is not a library for x86_64")
    return header


def _table(header: tuple[Any, ...], where: int, entry: int, most: int, size: int) -> tuple[int, int]:
    """Return where a table of headers is, and how many entries it has."""
    count = header[entry + 1]
    if count and header[entry] != size:
        raise NotElfError("its headers have a size that is not known")
    return header[where], min(count, most)


def _code(file: int, at: int, count: int) -> list[Segment]:
    """Return the segments that are executed."""
    found = []
    for kind, flags, offset, address, _, size, _, _ in _SEGMENT.iter_unpack(_piece(file, at, count * _SEGMENT.size)):
        if kind == _LOADED and flags & _CODE and size and offset + size < 1 << 62 and address + size < 1 << 62:
            found.append(Segment(offset, address, size))
    return found


def _symbols(file: int, at: int, count: int, names: Collection[str], what: int = _FUNCTION) -> list[tuple[str, int]]:
    """Return (name, address) of the functions, or what else, that are called one of *names*."""
    sections = list(_SECTION.iter_unpack(_piece(file, at, count * _SECTION.size)))
    found = []
    for section in sections:
        kind, offset, size, link = section[1], section[4], section[5], section[6]
        if kind in _SYMBOL_TABLES and link < len(sections):
            texts = _piece(file, sections[link][4], sections[link][5])
            found += _matching(_piece(file, offset, size - size % _SYMBOL.size), texts, names, what)
    return found


def _matching(table: bytes, texts: bytes, names: Collection[str], what: int) -> list[tuple[str, int]]:
    """Compare by where the names stand among *texts*: none of the thousands that nobody asks for is taken out."""
    places = {place: name for name in names for place in _places(texts, name.encode() + b"\0")}
    return [
        (places[place], address)
        for place, info, _, section, address, _ in _SYMBOL.iter_unpack(table)
        if place in places and info & 0xF == what and section
    ]


def _places(texts: bytes, name: bytes) -> Iterator[int]:
    """Yield where *name* stands, also as the end of a longer one: both may share their bytes."""
    place = texts.find(name)
    while place >= 0:
        yield place
        place = texts.find(name, place + 1)


def _piece(file: int, at: int, size: int, most: int = MOST_BYTES) -> bytes:
    if not 0 <= size <= most or not 0 <= at < 1 << 62:
        raise NotElfError("it is larger than any library")
    piece = b""
    while len(piece) < size:
        more = os.pread(file, size - len(piece), at + len(piece))
        if not more:
            raise NotElfError("it ends too early")
        piece += more
    return piece
