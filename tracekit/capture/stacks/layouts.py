"""
Where processes have their code, as the stack walkers of the kernel want to know it: struct layout of bpf/abi/stacks.h.

    layouts = Layouts(rows, pages)
    content = layouts.pack(pid, python)
    if layouts.poll(): ...  # tables have come: pack what was packed before again

The rows of a library are in the arrays once, whatever the number of processes that have it mapped. Until its table
has come a library has none, and is walked by frame pointers. Most of what a process has mapped is never seen in a
stack: the table of a large library, but for those that all stacks lead through, is made when an address of it is.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tracekit.capture.bpf.memory import window
from tracekit.capture.libraries.mapped import Identity, UnfitError
from tracekit.capture.stacks.cfa import ADDRESS
from tracekit.capture.stacks.layout import (
    CODE,
    LAYOUT_BYTES,
    LAYOUT_HEAD,
    MAX_UNWIND_PAGES,
    MAX_UNWIND_ROWS,
)
from tracekit.capture.stacks.mappings import VDSO, Mapping, bias_of, identity, mappings, opened, served, vdso, vdso_file
from tracekit.capture.stacks.tables import MOST_CPU_NS, Made, Tables

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from tracekit.capture.elf import Segment

_MOST_LIBRARIES = 4096
_AT_ONCE = re.compile(rb"/(libc|libpython[0-9.]*|libpthread|ld-musl)[-.][^/]*$")
"""Libraries that most stacks lead through."""
_LARGE = 1 << 20
"""Bytes of code. The table of a smaller library takes milliseconds."""
_WORD = 8
_AGAIN_S = 1.0
_U64 = (1 << 64) - 1
_VERSIONS = 1 << 32
_OF_KERNEL = Identity(0, 0, 0, 0)


@dataclass
class Library:
    """A file, and where its rows are; base and segments as a Table has them, as far as they are known."""

    is_made: bool = False
    base: int = 0
    first_row: int = 0
    rows: int = 0
    first_page: int = 0
    pages: int = 0
    segments: list[Segment] = field(default_factory=list)


class Layouts:
    """
    The tables of all libraries, and who has them mapped.

    Args:
        rows, pages: descriptors of the arrays unwind_rows and unwind_pages, 8 bytes an element. They are mapped only
            where and while they are needed: all of it would be half of what the collector has.
        root: of /proc.
        at_once: have all tables made that a process may need, not only those that it is seen to.
    """

    def __init__(self, rows: int, pages: int, root: Path = Path("/proc"), *, at_once: bool = False) -> None:
        self.full = 0
        """Libraries that there is no room or no time for; the same ones may be counted again."""
        self.torn = 0
        """Files without a table, as they are none for x86_64, torn, or too large."""
        self.left_out = 0
        """Mappings of processes that have too many; again each time such a process is packed."""
        self._rows, self._pages = rows, pages
        self._root = root
        self._at_once = at_once
        self._unseen: dict[int, list[Mapping]] = {}
        """By process: what has no table, as nobody was seen there."""
        self._tables = Tables()
        self._libraries: dict[Identity, Library] = {}
        self._asked: dict[int, Library] = {}
        self._refused: set[tuple[bytes, int]] = set()
        self._questions = 0
        self._version = 0
        self._changed = False
        self._told = 0.0
        self._next_row = self._next_page = 0

    @property
    def descriptor(self) -> int:
        """Readable when poll() should be called; call it every few seconds anyway."""
        return self._tables.descriptor

    @property
    def refused(self) -> int:
        """Files without a table, as they cannot be opened, or nobody knows when they would answer."""
        return len(self._refused)

    @property
    def cpu_ns(self) -> int:
        """What making the tables has taken, in another process."""
        return self._tables.cpu_ns

    def pack(self, pid: int, python: bytes) -> bytes:
        """
        Return struct layout of a process; *python* is struct python.

        Raises:
            OSError: it has gone, or may not be looked at.
        """
        process = self._root / str(pid)
        found, left_out = mappings(process)
        avoided = served(process)
        self.left_out += left_out
        known: dict[tuple[bytes, int, bytes], Library | None] = {}
        program = _program(process)
        self._unseen[pid] = []
        for mapping in found:
            file = mapping.device, mapping.inode, mapping.path
            if file not in known:
                wanted = self._at_once or is_usual(mapping, program)
                known[file] = self.library(process, mapping, avoided, make=wanted)
            if known[file] is None:
                self._unseen[pid].append(mapping)
        codes = b"".join(_code(each, known[each.device, each.inode, each.path]) for each in found)
        self._version = (self._version + 1) % _VERSIONS
        return (LAYOUT_HEAD.pack(python, len(found), self._version) + codes).ljust(LAYOUT_BYTES, b"\0")

    def see(self, pid: int, addresses: Iterable[int]) -> None:
        """Have the tables made of what these addresses of a packed process are in."""
        unseen = self._unseen.get(pid)
        if not unseen:
            return
        for address in addresses:
            at = bisect_right(unseen, address, key=_start) - 1
            if at >= 0 and address < unseen[at].end:
                self._make(pid, unseen.pop(at))

    def _make(self, pid: int, mapping: Mapping) -> None:
        process = self._root / str(pid)
        with contextlib.suppress(OSError):  # it has gone
            library = self.library(process, mapping, served(process))
            self._changed |= library is not None and library.is_made  # for another process meanwhile

    def forget(self, living: Collection[int]) -> None:
        """Let go of processes that have ended."""
        for pid in self._unseen.keys() - set(living):
            del self._unseen[pid]

    def poll(self) -> bool:
        """Take the tables that have come, and tell whether layouts must be packed again: once a second at most."""
        for made in self._tables.made():
            self._take(made, self._asked.pop(made.number))
            self._changed = True
        now = time.monotonic()
        if not self._changed or (self._asked and now - self._told < _AGAIN_S):
            return False
        self._changed, self._told = False, now
        return True

    @property
    def is_waiting(self) -> bool:
        """Tables will come, or have."""
        return bool(self._asked) or self._changed

    def row(self, library: Library | None, mapping: Mapping, address: int) -> int | None:
        """Return the row for an address in a mapping of a library; 0: none; None: poll(), and ask again."""
        if library and not library.is_made:
            return None
        bias = bias_of(mapping, library.segments) if library else None
        if not library or bias is None:
            return 0
        if not library.rows:
            return 0
        with window(self._rows, library.first_row * _WORD, library.rows * _WORD) as memory, memory.cast("Q") as rows:
            found = bisect_right(rows, address - bias - library.base, key=ADDRESS.__and__) - 1
            return rows[found] if found >= 0 else 0

    def close(self) -> None:
        """End the process that makes tables."""
        self._tables.close()

    def library(
        self, process: Path, mapping: Mapping, avoided: frozenset[bytes], *, make: bool = True
    ) -> Library | None:
        """
        Return the library behind a mapping of a process, its table asked for if nobody did so and *make* says so.

        None: it has none. *avoided* is what mappings.served() says.
        """
        if mapping.path == VDSO and mapping.end - mapping.start != len(vdso()):
            return None  # of another kind of process
        try:
            which = _OF_KERNEL if mapping.path == VDSO else identity(process, mapping, avoided)
            known = self._libraries.get(which)
            return known or (self._ask(process, mapping, which) if make else None)
        except (FileNotFoundError, ProcessLookupError):
            return None  # it is not mapped any more
        except (OSError, UnfitError):
            if len(self._refused) < _MOST_LIBRARIES:
                self._refused.add((mapping.device, mapping.inode))
            return None

    def _ask(self, process: Path, mapping: Mapping, which: Identity) -> Library | None:
        if len(self._libraries) >= _MOST_LIBRARIES or self._tables.cpu_ns > MOST_CPU_NS:
            self.full += 1
            return None
        file, which = (vdso_file(), which) if mapping.path == VDSO else opened(process, mapping)
        try:
            asked = self._tables.ask(self._questions, file)
        finally:
            os.close(file)
        if not asked:
            return None  # it will be, when answers have come
        library = self._libraries[which] = self._asked[self._questions] = Library()
        self._questions += 1
        return library

    def _take(self, made: Made, library: Library) -> None:
        """Copy a table to where the walkers see it."""
        library.is_made = True
        if made.file < 0:
            self.torn += 1
            return
        try:
            library.base, library.segments = made.base, made.segments
            if self._next_row + made.rows > MAX_UNWIND_ROWS or self._next_page + made.pages > MAX_UNWIND_PAGES:
                self.full += 1
                return
            _copy(made.file, 0, self._rows, self._next_row, made.rows)
            _copy(made.file, made.rows, self._pages, self._next_page, made.pages)
        finally:
            os.close(made.file)
        library.first_row, library.rows = self._next_row, made.rows
        library.first_page, library.pages = self._next_page, made.pages
        self._next_row += made.rows
        self._next_page += made.pages


def is_usual(mapping: Mapping, program: bytes) -> bool:
    """Tell whether the table of a mapping is made before anybody is seen there; *program*: path of what runs."""
    if mapping.path in (VDSO, program) or mapping.end - mapping.start < _LARGE:
        return True
    return _AT_ONCE.search(mapping.path) is not None


def _start(mapping: Mapping) -> int:
    return mapping.start


def _program(process: Path) -> bytes:
    """Return the path of what a process runs, as maps shows it."""
    try:
        return os.fsencode((process / "exe").readlink())
    except OSError:
        return b""


def _copy(file: int, first: int, array: int, to: int, count: int) -> None:
    """Read *count* words from the file, to word *to* of the array."""
    at, size = 0, count * _WORD
    if not size:
        return
    with window(array, to * _WORD, size) as memory:
        while at < size:
            with memory[at:] as rest:
                got = os.preadv(file, [rest], first * _WORD + at)
            if not got:
                raise OSError(0, "a table is shorter than its maker said")
            at += got


def _code(mapping: Mapping, library: Library | None) -> bytes:
    """Return struct code."""
    if library:
        bias = bias_of(mapping, library.segments)
        rows = library.first_row, library.rows, library.first_page, library.pages
        if bias is not None:
            return CODE.pack(mapping.start, mapping.end, bias + library.base & _U64, *rows)
    return CODE.pack(mapping.start, mapping.end, mapping.start - mapping.offset & _U64, 0, 0, 0, 0)
