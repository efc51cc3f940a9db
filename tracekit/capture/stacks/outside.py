"""One process, whose threads are walked from outside: what bpf/stacks.bpf.c does for those that run."""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING

from tracekit.capture.stacks.code import Codes
from tracekit.capture.stacks.interpreter import UnknownPythonError, find
from tracekit.capture.stacks.layout import PYTHON_ENTERED
from tracekit.capture.stacks.mappings import mappings, served
from tracekit.capture.stacks.memory import read
from tracekit.capture.stacks.merging import CUT, STARTING, UNREADABLE
from tracekit.capture.stacks.threads import End, Stack, walk
from tracekit.capture.stacks.unwinding import unwind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracekit.capture.stacks.layouts import Layouts, Library

Python = tuple["str | None", ...]
"""Frames innermost first; None where C called the interpreter."""

_PAGE = 4096
_MARKS = {End.CUT: CUT, End.STARTING: STARTING, End.UNREADABLE: UNREADABLE}


class PendingError(Exception):
    """The table of a file is being made: ask again."""


class Process:
    """
    A process.

    Args:
        layouts: has the tables to unwind by.

    Raises:
        OSError, UnfitError: it has gone, or may not be looked at.
    """

    def __init__(self, tgid: int, layouts: Layouts, root: Path = Path("/proc")) -> None:
        self.tgid = tgid
        self.problem = ""
        """Why it has no Python frames though it has a Python; one line."""
        self._layouts = layouts
        self._process = root / str(tgid)
        self._mappings = mappings(self._process)[0]
        self._starts = [mapping.start for mapping in self._mappings]
        self._avoided = served(self._process)
        read(tgid, [(start, 1) for start in self._starts[:1]])  # with CAP_PERFMON maps is readable, and memory is not
        self._libraries: dict[int, Library | None] = {}
        self._rows: dict[int, int] = {}
        self.python = None
        try:
            self.python = find(tgid)
        except UnknownPythonError as error:
            self.problem = str(error)
        self._codes = Codes(tgid, self.python, _cwd(self._process)) if self.python else None

    def pythons(self, deepest: int, deadline: float) -> dict[int, Python]:
        """Return the Python frames of each thread, by pthread_self; at the *deadline* walks end. Raises OSError."""
        if not self.python or not self._codes:
            return {}
        stacks = walk(self.tgid, self.python, deepest, deadline).stacks
        names = self._codes.names({word for stack in stacks.values() for word in stack.words})
        return {identity: _named(stack, names) for identity, stack in stacks.items()}

    def identities(self) -> list[int]:
        """Return pthread_self of the threads that the interpreter knows. Raises OSError."""
        return list(walk(self.tgid, self.python, 1).stacks) if self.python else []

    def natives(self, registers: tuple[int, int, int], most: int, *, patient: bool = True) -> tuple[list[int], int]:
        """
        Return the addresses that a thread with pc, sp and bp is at, and enum native_end.

        Raises:
            PendingError: a table is being made. If not *patient* it is done without, as well as that goes.
            OSError: the process has gone, or may not be looked at.
        """
        pages: dict[int, bytes | None] = {}

        def memory(address: int, size: int) -> bytes | None:
            page = address - address % _PAGE
            if address + size > page + _PAGE:
                return read(self.tgid, [(address, size)])[0]
            if page not in pages:
                pages[page] = read(self.tgid, [(page, _PAGE)])[0]
            content = pages[page]
            return content and content[address - page : address - page + size]

        def row_of(address: int) -> int:
            row = self._rows.get(address)
            if row is None:
                row = self._row(address)
                if row is not None:
                    self._rows[address] = row
                elif patient:
                    raise PendingError
            return row or 0

        return unwind(memory, row_of, *registers, most)

    def _row(self, address: int) -> int | None:
        number = bisect_right(self._starts, address) - 1
        if number < 0 or address >= self._mappings[number].end:
            return 0
        mapping = self._mappings[number]
        if number not in self._libraries:
            self._libraries[number] = self._layouts.library(self._process, mapping, self._avoided)
        return self._layouts.row(self._libraries[number], mapping, address)


def _named(stack: Stack, names: Mapping[int, str]) -> Python:
    frames = [None if word == PYTHON_ENTERED else names.get(word, UNREADABLE) for word in stack.words]
    frames = [frame for frame in frames if frame != ""]  # made by the interpreter: nobody wrote them
    if stack.end in _MARKS:
        frames.append(_MARKS[stack.end])
    return tuple(frames)


def _cwd(process: Path) -> str:
    with contextlib.suppress(OSError):
        return str((process / "cwd").readlink())
    return ""
