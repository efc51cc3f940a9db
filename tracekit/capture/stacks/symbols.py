"""
Names of native frames.

What must be asked while a process lives is asked at once: where it has code, and which files that is. A thread
looks into the files, so that nobody waits; who asks for a name that is not known yet asks again. What is known is
known by library and place in it: a function is looked up once for all processes.

Own tables instead of bcc's symbol cache, which tests compare them with: to load libbcc costs 60 MB, four times what
the whole collector has; it knows functions by process and not by library, and only of processes that live; and it
opens every path that a process names.
"""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_right
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING

from tracekit.capture import elf
from tracekit.capture.libraries.mapped import Identity, UnfitError
from tracekit.capture.stacks.functions import MOST_NAME, Functions, functions
from tracekit.capture.stacks.jit import Jit
from tracekit.capture.stacks.mangled import plain
from tracekit.capture.stacks.mappings import VDSO, Mapping, bias_of, identity, mappings, opened, served, vdso_file

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

MADE = "JIT"
"""Stands for the library of code that a process made itself."""

_MOST_FILES, _MOST_TEXTS = 256, 1 << 16
_OF_KERNEL = Identity(0, 0, 0, 0)
_DELETED = b" (deleted)"


class _Library:
    """A library's file, and what is in it once somebody asks; texts: names of addresses of the file."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._functions: Functions | None = None
        self._segments: list[elf.Segment] | None = None
        self._texts: dict[int, str] = {}

    def name(self, mapping: Mapping, address: int) -> tuple[int, str]:
        """Return the address of the file that is at *address* by *mapping*, and the function there; "": unknown."""
        bias = bias_of(mapping, self._read())
        if bias is None:
            return address - mapping.start + mapping.offset, ""
        place = address - bias
        if place not in self._texts:
            if len(self._texts) >= _MOST_TEXTS:
                self._texts.clear()
            self._texts[place] = self._look_up(place)
        return place, self._texts[place]

    def close(self) -> None:
        """Let go of the file."""
        if self._functions:
            self._functions.close()
        elif self._segments is None:
            os.close(self._file)

    def _look_up(self, place: int) -> str:
        with contextlib.suppress(OSError):
            return self._functions.name(place) if self._functions else ""
        return ""

    def _read(self) -> list[elf.Segment]:
        if self._segments is None:
            self._segments = []
            with contextlib.suppress(OSError, elf.NotElfError):
                self._segments = elf.code(self._file)
            with contextlib.suppress(OSError, elf.NotElfError):
                self._functions = functions(self._file)
        return self._segments


class _Process:
    """Where a process has code, and the names of addresses in it."""

    def __init__(self, jit: Jit) -> None:
        self.jit = jit
        self.mappings: list[Mapping] = []
        self.files: dict[Mapping, Identity] = {}
        self.texts: dict[int, str] = {}
        self.asked: set[int] = set()

    def at(self, address: int) -> Mapping | None:
        place = bisect_right(self.mappings, address, key=lambda mapping: mapping.start) - 1
        return self.mappings[place] if place >= 0 and address < self.mappings[place].end else None


class Symbols:
    """Names of native frames; nothing waits but settle(). *root*: of /proc."""

    def __init__(self, root: Path = Path("/proc")) -> None:
        self._root = root
        self._processes: dict[int, _Process] = {}
        self._libraries: dict[Identity, _Library] = {}
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="symbols", daemon=True)
        self._thread.start()

    def know(self, pid: int) -> None:
        """
        Look where a process has code: when it is first seen, and when it has loaded or become something else.

        One that has gone has it where it was.
        """
        process = _Process(Jit(pid, self._root))
        self._processes.setdefault(pid, process)
        with contextlib.suppress(OSError):
            found, _ = mappings(self._root / str(pid))
            if found:
                self._processes[pid] = process
            avoided = served(self._root / str(pid))
            process.mappings = found
            for mapping in found:
                with contextlib.suppress(OSError, UnfitError):
                    process.files[mapping] = self._have(pid, mapping, avoided)

    def forget(self, living: Collection[int]) -> None:
        """Let go of processes that have ended."""
        for pid in set(self._processes) - set(living):
            del self._processes[pid]

    def names(self, pid: int, addresses: Sequence[int]) -> dict[int, str]:
        """
        Return the frames at *addresses* that are known by now, `symbol (library)`; the others are being looked up.

        An address at which a function goes on after a call is to be given as the one before: the call may be the
        last thing in its function. Without a symbol it is `+0x1f2e3 (library)`, by the address in the file; of code
        that the process made itself `symbol (JIT)`; else `0x7f0012 (?)`.
        """
        if pid not in self._processes:
            self.know(pid)
        process = self._processes[pid]
        known = {address: text for address in addresses if (text := process.texts.get(address))}
        wanted = [address for address in addresses if address not in known and address not in process.asked]
        if len(process.texts) >= _MOST_TEXTS:
            process.texts.clear()
        if wanted:
            process.asked.update(wanted)
            self._jobs.put(partial(self._look_up, process, wanted))
        return known

    def settle(self, timeout_s: float) -> bool:
        """Wait until everything that was asked for is known; tell whether it is."""
        done = Event()
        self._jobs.put(done.set)
        return done.wait(timeout_s)

    def close(self) -> None:
        """Let go of all files, once what was asked for is done."""
        self._jobs.put(None)

    def _have(self, pid: int, mapping: Mapping, avoided: frozenset[bytes]) -> Identity:
        """Return which library is behind a mapping, which is open from now on. Raises as opened()."""
        process = self._root / str(pid)
        which = _OF_KERNEL if mapping.path == VDSO else identity(process, mapping, avoided)
        if which not in self._libraries:
            file, which = (vdso_file(), which) if mapping.path == VDSO else opened(process, mapping)
            self._drop(which)
            self._libraries[which] = _Library(file)
            if len(self._libraries) > _MOST_FILES:
                self._drop(next(iter(self._libraries)))
        return which

    def _drop(self, which: Identity) -> None:
        library = self._libraries.pop(which, None)
        if library:
            self._jobs.put(library.close)  # once nobody looks into it

    def _work(self) -> None:
        while job := self._jobs.get():
            job()
        for each in self._libraries.values():
            each.close()

    def _look_up(self, process: _Process, addresses: Sequence[int]) -> None:
        unnamed = {address: text for address in addresses if (text := self._in_library(process, address))}
        if unnamed:
            with contextlib.suppress(OSError):
                process.jit.refresh()
        for address, text in unnamed.items():
            made = plain(process.jit.name(address))[:MOST_NAME]
            process.texts[address] = f"{made} ({MADE})" if made else text
        process.asked.difference_update(addresses)

    def _in_library(self, process: _Process, address: int) -> str:
        """Name an address; where that cannot be done return what to call it instead."""
        mapping = process.at(address)
        if mapping is None:
            return f"{address:#x} (?)"
        library = self._libraries.get(process.files[mapping]) if mapping in process.files else None
        place, name = library.name(mapping, address) if library else (address - mapping.start + mapping.offset, "")
        if not name:
            return f"+{place:#x} ({_base(mapping.path)})"
        process.texts[address] = f"{name} ({_base(mapping.path)})"
        return ""


def _base(path: bytes) -> str:
    name = path.removesuffix(_DELETED).rpartition(b"/")[2]
    return name.decode(errors="backslashreplace")
