"""
Stacks of threads that stand still, walked from outside.

    walk = Walk(layouts, symbols)
    for pid, stood in walk.stacks(look, stamps_of(threads), deadline).items():
        frames = stood.frames(kernel_frames)

A thread that runs meanwhile changes what is read, and nothing in its memory tells. But the kernel counts how often
each thread came on a CPU: a stack is given only of one that did not since the count was taken.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture.libraries.mapped import UnfitError
from tracekit.capture.stacks import layout
from tracekit.capture.stacks.merging import merge
from tracekit.capture.stacks.outside import PendingError, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tracekit.capture.stacks.layouts import Layouts
    from tracekit.capture.stacks.outside import Python
    from tracekit.capture.stacks.symbols import Symbols

_PAUSE_S = 0.005
_PATIENT = 0.7
"""The share of the time in which tables are waited for; in the rest it is done without those that are missing."""
_NAMES_S = 0.2
"""That names may take beyond the deadline: without them a stack is worth nothing."""
_CAME = 2  # in schedstat: how often it came on a CPU


class Sleeper(NamedTuple):
    """
    A thread that is off the CPU.

    Attributes:
        pc, sp, bp: of its user's side. bp 0: not known; pc 0: only its Python frames can be told.
        pointer: pthread_self.
        kernel: addresses it is at in the kernel, innermost first.
    """

    pc: int
    sp: int
    bp: int
    pointer: int
    pid: int
    tgid: int
    kernel: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stood:
    """
    A thread that stood still: the user's side innermost first.

    Attributes:
        whole: the native walk reached the outermost frame.
    """

    sleeper: Sleeper
    python: Python
    native: tuple[str, ...]
    whole: bool

    def frames(self, kernel: Sequence[str]) -> tuple[str, ...]:
        """Return the stack of three, root first."""
        return merge(self.python, self.native, kernel, native_whole=self.whole)


class _Words(NamedTuple):
    """What was read of a thread; native addresses have no names yet."""

    sleeper: Sleeper
    python: Python
    native: list[int]
    end: int

    @property
    def places(self) -> list[int]:
        """The native addresses as names are asked for: a call may be the last instruction of its function."""
        return [address - (number > 0) for number, address in enumerate(self.native)]


def stamps_of(threads: Iterable[tuple[int, int]], root: Path = Path("/proc")) -> dict[int, int]:
    """Return how often each thread, given as (pid, tgid), came on a CPU; where that is not known it is left out."""
    found = {}
    for pid, tgid in threads:
        with contextlib.suppress(OSError, IndexError, ValueError):
            came = int((root / str(tgid) / "task" / str(pid) / "schedstat").read_bytes().split()[_CAME])
            if came:
                found[pid] = came
    return found


def sleepers(rows: Iterable[tuple[int, ...]]) -> list[Sleeper]:
    """Return the threads that are off the CPU, of rows that are layout.SLEEPER."""
    return [
        Sleeper(pc, sp, bp, pointer, pid, tgid, tuple(kernel[:kernels]))
        for pc, sp, bp, pointer, pid, tgid, running, kernels, *kernel in rows
        if not running
    ]


class Walk:
    """
    Walks threads of any number of processes; what it learns of a process holds as long as it does.

    Args:
        layouts: has the tables to unwind by; those that are missing are made. symbols: names native frames.
        pythons, natives: how many frames of a thread are walked, the innermost.
    """

    def __init__(
        self,
        layouts: Layouts,
        symbols: Symbols,
        pythons: int = layout.MAX_PYTHON_FRAMES,
        natives: int = layout.MAX_NATIVE_FRAMES,
    ) -> None:
        self._layouts, self._symbols = layouts, symbols
        self._most = pythons, natives
        self.late = 0
        """Threads that there was no time for, or whose process may not be looked at."""
        self._processes: dict[int, Process | None] = {}

    def stacks(
        self, look: Callable[[], Iterable[Sleeper]], stamps: Mapping[int, int], deadline: float
    ) -> dict[int, Stood]:
        """
        Return the stacks of threads by their id (pid).

        Args:
            look: returns the threads that are off the CPU at this moment.
            stamps: of the wanted threads, the most wanted first: one that has come on a CPU since then is left out.
            deadline: on the monotonic clock, s: what is not walked by then is left out.
        """
        found: dict[int, _Words] = {}
        now = time.monotonic()
        patience = now + (deadline - now) * _PATIENT
        wanted = set(stamps)
        while wanted:
            patient = time.monotonic() < patience
            pending: set[int] = set()
            for group in _by_process(look(), wanted, stamps):
                seen = self._walk(group, deadline, pending if patient else None)
                after = stamps_of((words.sleeper.pid, words.sleeper.tgid) for words in seen)
                found |= {pid: words for words in seen if after.get(pid := words.sleeper.pid) == stamps[pid]}
            wanted = pending
            if wanted:
                time.sleep(_PAUSE_S)
                self._layouts.poll()
        return self._named(found, deadline)

    def _walk(self, group: list[Sleeper], deadline: float, pending: set[int] | None) -> list[_Words]:
        """Walk threads of one process; add to *pending* those whose tables are being made; None: do without."""
        seen: list[_Words] = []
        process = self.process(group[0].tgid) if time.monotonic() < deadline else None
        if not process:
            self.late += len(group)
            return seen
        with contextlib.suppress(OSError):  # it has gone
            for sleeper in group:
                if time.monotonic() > deadline:
                    self.late += 1
                    continue
                try:
                    native = process.natives(sleeper[:3], self._most[1], patient=pending is not None)
                except PendingError:
                    if pending is not None:
                        pending.add(sleeper.pid)
                else:
                    seen.append(_Words(sleeper, (), *native))
            pythons = process.pythons(self._most[0], deadline) if seen else {}
            seen = [words._replace(python=pythons.get(words.sleeper.pointer, ())) for words in seen]
        return seen

    def process(self, tgid: int) -> Process | None:
        """Return what is known of a process; None: it has gone, or may not be looked at."""
        if tgid not in self._processes:
            self._processes[tgid] = None
            with contextlib.suppress(OSError, UnfitError):
                self._processes[tgid] = Process(tgid, self._layouts)
        return self._processes[tgid]

    def _named(self, found: Mapping[int, _Words], deadline: float) -> dict[int, Stood]:
        """Give native frames their names."""
        for words in found.values():
            self._symbols.names(words.sleeper.tgid, words.places)
        self._symbols.settle(max(0.0, deadline - time.monotonic()) + _NAMES_S)
        return {pid: self._stood(words) for pid, words in found.items()}

    def _stood(self, words: _Words) -> Stood:
        names = self._symbols.names(words.sleeper.tgid, words.places)
        native = tuple(names.get(place, f"{place:#x} (?)") for place in words.places)
        return Stood(words.sleeper, words.python, native, words.end == layout.NATIVE_WHOLE)


def _by_process(found: Iterable[Sleeper], wanted: set[int], order: Iterable[int]) -> list[list[Sleeper]]:
    """Return the wanted threads of each process, in the *order* of their ids."""
    standing = {sleeper.pid: sleeper for sleeper in found if sleeper.pid in wanted}
    groups: dict[int, list[Sleeper]] = {}
    for sleeper in (standing[pid] for pid in order if pid in standing):
        groups.setdefault(sleeper.tgid, []).append(sleeper)
    return list(groups.values())
