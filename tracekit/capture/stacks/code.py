"""
Names of Python frames: function, file and line, read from the code objects of a process.

A code object can be freed and another take its place, even with all its pointers the same. So what a name was made
of is compared each time: the text of the function and of the file, and the beginning of the line table.
"""

from __future__ import annotations

import contextlib
import re
import struct
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from tracekit.capture.stacks import memory
from tracekit.capture.stacks.codeobject import ENCODINGS, Code, Head, Parts, Text
from tracekit.capture.stacks.layout import PYTHON_ENTERED, PYTHON_NO_UNIT, PYTHON_UNIT_BITS
from tracekit.capture.stacks.lines import lines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracekit.capture.stacks.interpreter import Interpreter
    from tracekit.capture.stacks.memory import Read, Reader

UNREADABLE = "[unreadable frame]"
_MOST_CODES = 1 << 14
_MOST_TEXT = 1024  # characters
_MOST_TABLE = 1 << 18  # bytes, as the next two
_ALL_TABLES = 1 << 22
_BATCH = memory.MOST_PIECES // 4  # of code objects, each with four pieces
_STATE_SHIFT, _STATE_SHIFT_14 = 2, 16  # where the kind is in the state of a str: behind `interned`
_TEXT, _SIZE, _FIRST = struct.Struct("<16xq8xI"), struct.Struct("<16xq"), struct.Struct("<i")
_POINTER = struct.Struct("<Q")
_MOST_REFERENCES, _COUNT_14 = 1 << 40, (1 << 32) - 1  # from 3.14 on flags are above the count
_CODE, _MOST_KINDS = b"code\0", 64
_TYPE, _TYPE_NAME, _TABLE_DATA = 8, 24, 32  # ob_type, tp_name, ob_sval
_INSTALLED = re.compile(r".*/(?:site-packages|dist-packages)/(.+)", re.DOTALL)
_LIBRARY = re.compile(r".*/lib/python3\.\d+/(.+)", re.DOTALL)


class Codes:
    """Names of the frames of one process; it reads only what is asked for."""

    def __init__(self, pid: int, interpreter: Interpreter, cwd: str = "", reader: Reader = memory.read) -> None:
        """*cwd*: from which files are named; "": not known. *reader* stands in for memory.read."""
        self._read, self._interpreter, self._cwd = partial(reader, pid), interpreter, cwd
        self._whole = partial(memory.whole, pid) if reader is memory.read else None
        self._codes: dict[int, Code] = {}
        self._kinds: dict[int, bool] = {}
        at = interpreter.offsets
        self._head_size = max(at.code_name, at.code_file, at.code_table, at.code_first) + 16

    def names(self, words: Iterable[int]) -> dict[int, str]:
        """
        Return the text of each frame: `qualname (file:line)`; marks are left out.

        "" is a frame that the interpreter made for itself and nobody wrote: leave it out. UNREADABLE is one that
        cannot be read. Names of a process that has gone are the last known ones.
        """
        wanted: dict[int, set[int]] = {}
        for word in words:
            if word != PYTHON_ENTERED:
                wanted.setdefault(code_of(word), set()).add(word & PYTHON_NO_UNIT)
        with contextlib.suppress(OSError):  # it has gone: what was known of it stays
            self._refresh(wanted)
        return {
            address >> 4 << PYTHON_UNIT_BITS | unit: self._text(self._codes.get(address), unit)
            for address, units in wanted.items()
            for unit in units
        }

    def hold(self, addresses: Iterable[int]) -> bool:
        """
        Tell whether there are known code objects at all *addresses*, as they were when they were last compared.

        A quick look: one read, and what changes as code runs counts as a change. Of a process that has gone all hold.
        """
        codes = [self._codes.get(address) for address in addresses]
        if not codes:
            return True
        try:
            return all(self._are_the_same(codes[at : at + _BATCH]) for at in range(0, len(codes), _BATCH))
        except OSError:
            return None not in codes

    def _are_the_same(self, codes: list[Code | None]) -> bool:
        known = [code for code in codes if code]
        if len(known) < len(codes) or not self._whole:
            return False
        content = self._whole(b"".join([code.vectors for code in known]), sum([code.size for code in known]))
        if content is None:
            return False
        at = 0
        for code in known:
            end = at + code.size
            if hash(content[at + _TYPE : end]) != code.bytes_seen or not self._is_alive(_pointer(content, at)):
                return False
            at = end
        return True

    def _text(self, code: Code | None, unit: int) -> str:
        if code is None:
            return UNREADABLE
        if not code.parts.texts:
            return ""
        return f"{code.name} ({code.file}:{code.lines.get(unit, code.first)})"

    def _refresh(self, wanted: dict[int, set[int]]) -> None:
        """Make `_codes` say of each address what is there now."""
        stale = [address for address in wanted if address not in self._codes]
        known = [address for address in wanted if address in self._codes]
        stale += [] if self.hold(known) else self._changed(known)
        fresh = self._fresh(stale)
        for address in stale:
            self._codes.pop(address, None)
        if len(self._codes) + len(fresh) > _MOST_CODES:
            self._codes = {address: code for address, code in self._codes.items() if address in wanted}
        self._codes |= fresh
        self._add_lines(wanted)

    def _changed(self, addresses: list[int]) -> list[int]:
        """
        Return those of the known *addresses* where another code object is by now, or none.

        Memory that is not there any more says nothing: the process became another program.
        """
        codes = [self._codes[address] for address in addresses]
        contents = self._read(list(chain.from_iterable(code.compared for code in codes)))
        changed, at = [], 0
        for address, code in zip(addresses, codes, strict=True):
            head, *parts = contents[at : at + len(code.compared)]
            at += len(code.compared)
            if head is not None and not self._is_same(code, head, parts):
                changed.append(address)
        return changed

    def _is_same(self, code: Code, head: bytes, parts: list[bytes | None]) -> bool:
        """Tell by all bytes, of which a few change as it runs; else by what they say."""
        seen = _bytes_of(head, parts)
        if seen != code.bytes_seen or not self._is_alive(_pointer(head)):
            if _made_of(self._head(head), parts) != code.made_of:
                return False
            code.bytes_seen = seen
        return True

    def _fresh(self, addresses: list[int]) -> dict[int, Code]:
        """Return the code objects that are at *addresses*."""
        contents = self._read([(address, self._head_size) for address in addresses])
        raw = dict(zip(addresses, contents, strict=True))
        heads = {address: head for address, content in raw.items() if (head := self._head(content))}
        found = self._parts(heads)
        contents = self._read([piece for parts in found.values() for piece in parts.compared()])
        rest, fresh = iter(contents), {}
        for address, parts in found.items():
            compared = parts.compared()
            pieces = [next(rest) for _ in compared]
            if made_of := _made_of(heads[address], pieces):
                texts = [text.decoded(piece or b"") for text, piece in zip(parts.texts, pieces, strict=False)]
                name, file = texts or ("", "")
                file, compared = shortened(file, self._cwd), [(address, self._head_size), *compared]
                known = memory.vectors(compared), sum(size for _, size in compared), made_of
                seen = _bytes_of(raw[address] or b"", pieces)
                fresh[address] = Code(parts, compared, *known, seen, name, file, heads[address].first, {})
        return fresh

    def _head(self, content: bytes | None) -> Head | None:
        """Return the head of a code object, None if it is none. An address may be 8 less: words have no room for it."""
        if content is None:
            return None
        at = self._interpreter.offsets
        for skipped in (0, 8):
            kind = _pointer(content, skipped + _TYPE)
            if self._is_code(kind) and self._is_alive(_pointer(content, skipped)):
                fields = (_pointer(content, skipped + field) for field in (at.code_name, at.code_file, at.code_table))
                return Head(kind, *fields, *_FIRST.unpack_from(content, skipped + at.code_first))
        return None

    def _is_alive(self, references: int) -> bool:
        """Tell by its count of references whether an object is not freed: there the allocator keeps a pointer or 0."""
        return 0 < references < _MOST_REFERENCES or (self._interpreter.minor >= 14 and references & _COUNT_14 > 0)

    def _is_code(self, kind: int) -> bool:
        if kind not in self._kinds:
            if len(self._kinds) >= _MOST_KINDS:
                self._kinds.clear()
            self._kinds[kind] = is_code_type(self._read, kind, self._interpreter)
        return self._kinds[kind]

    def _parts(self, heads: dict[int, Head]) -> dict[int, Parts]:
        """Return where the parts of code objects are, without those that make no sense."""
        pieces = [
            piece
            for head in heads.values()
            for piece in ((head.name, _TEXT.size), (head.file, _TEXT.size), (head.table, _SIZE.size))
        ]
        contents = self._read(pieces)
        found = {}
        for (address, head), name, file, table in zip(
            heads.items(), contents[::3], contents[1::3], contents[2::3], strict=True
        ):
            if head.is_made_up:
                found[address] = Parts((), (head.table, 0))
            elif name and file and table:
                found |= self._sensible(address, head, name, file, table)
        return found

    def _sensible(self, address: int, head: Head, name: bytes, file: bytes, table: bytes) -> dict[int, Parts]:
        texts = [text for text in (self._text_at(head.name, name), self._text_at(head.file, file)) if text]
        (size,) = _SIZE.unpack(table)
        if len(texts) < 2 or size < 0:
            return {}
        return {address: Parts(tuple(texts), (head.table + _TABLE_DATA, min(size, _MOST_TABLE)))}

    def _text_at(self, address: int, content: bytes) -> Text | None:
        """Return where the characters of a str are, None if it is none."""
        length, state = _TEXT.unpack(content)
        state >>= _STATE_SHIFT_14 if self._interpreter.minor >= 14 else _STATE_SHIFT
        width, is_compact, is_ascii = state & 7, state >> 3 & 1, state >> 4 & 1
        if width not in ENCODINGS or not is_compact or length < 0:
            return None
        at = self._interpreter.offsets
        shown = min(length, _MOST_TEXT)
        piece = address + (at.text_ascii if is_ascii else at.text_compact), (shown + 1) * width
        return Text(piece, width, shown < length)

    def _add_lines(self, wanted: dict[int, set[int]]) -> None:
        """Read the line tables of code objects of which other units are known only."""
        missing = {}
        room = _ALL_TABLES
        for address, units in wanted.items():
            code = self._codes.get(address)
            if code and code.parts.texts and (left := units - code.lines.keys() - {PYTHON_NO_UNIT}):
                room -= code.parts.table[1]
                if room >= 0:
                    missing[address] = left
        contents = self._read([self._codes[address].parts.table for address in missing])
        for (address, units), content in zip(missing.items(), contents, strict=True):
            if content is not None:
                code = self._codes[address]
                code.lines |= lines(content, code.first, self._interpreter.minor, units)


def code_of(word: int) -> int:
    """Return the address of the code object of a frame, down to a multiple of 16."""
    return word >> PYTHON_UNIT_BITS << 4


def is_code_type(read: Read, address: int, interpreter: Interpreter) -> bool:
    """Tell whether the type of an object is PyCode_Type: by its address, else by its name."""
    if interpreter.code_type:
        return address == interpreter.code_type
    (name,) = read([(address + _TYPE_NAME, 8)])
    return name is not None and read([(_pointer(name), len(_CODE))]) == [_CODE]


def shortened(file: str, cwd: str) -> str:
    """Return how a file is shown: behind where packages or modules are installed, else from *cwd* on, else whole."""
    installed = _INSTALLED.fullmatch(file) or _LIBRARY.fullmatch(file)
    if installed:
        return installed[1]
    inside = cwd.rstrip("/") + "/"
    return file[len(inside) :] if cwd and file.startswith(inside) and file != inside else file


def _bytes_of(head: bytes, parts: list[bytes | None]) -> int:
    """Return what is the same where nothing but the count of references is another."""
    return hash(b"".join([head[_TYPE:], *(part or b"" for part in parts)]))


def _made_of(head: Head | None, parts: list[bytes | None]) -> int:
    """Return what tells a code object from another one at its place; 0: it cannot be read."""
    return 0 if head is None or None in parts else hash((head, *parts)) or 1


def _pointer(content: bytes, at: int = 0) -> int:
    found: int = _POINTER.unpack_from(content, at)[0]
    return found
