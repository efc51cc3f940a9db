"""A dump without BPF: what /proc and the memory of the processes tell."""

from __future__ import annotations

import contextlib
import os
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from tracekit.capture import syscalls, wire
from tracekit.capture.dump import proc
from tracekit.capture.dump.asleep import slept_ns
from tracekit.capture.dump.spans import OpenSpans
from tracekit.capture.stacks.layout import MAX_UNWIND_PAGES, MAX_UNWIND_ROWS
from tracekit.capture.stacks.layouts import Layouts
from tracekit.capture.stacks.sleepers import Walk, stamps_of
from tracekit.capture.stacks.symbols import Symbols
from tracekit.dumped import Dump, Process, Thread
from tracekit.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracekit.capture.dump.proc import Seen
    from tracekit.capture.stacks.sleepers import Sleeper, Stood
    from tracekit.dumped import State

_STILL_S, _THREAD_S = 15.0, 0.005
MOST_PYTHON, MOST_NATIVE = 4096, 1024
_TRIES = 3
_REFUSED = "its memory may not be read (needs root, or CAP_SYS_PTRACE), or it has gone"


def patience_s(threads: int) -> float:
    """Return how long threads are looked at, at most: the tables of the largest libraries take seconds."""
    return _STILL_S + threads * _THREAD_S


def untraced(tgids: Iterable[int], why: str) -> Dump:
    """
    Return what processes do, as far as it can be seen without BPF; *why* there is none.

    Raises:
        MachineError: none of them may be looked at.
    """
    with ExitStack() as stack:
        rows, pages = (_array(stack, 8 * most) for most in (MAX_UNWIND_ROWS, MAX_UNWIND_PAGES))
        layouts = stack.enter_context(closing(Layouts(rows, pages)))
        symbols = stack.enter_context(closing(Symbols()))
        walk = Walk(layouts, symbols, MOST_PYTHON, MOST_NATIVE)
        wanted = list(tgids)
        refused = [tgid for tgid in wanted if walk.process(tgid) is None]
        if len(refused) == len(wanted):
            fact = f"cannot look at process {wanted[0]}: its memory may not be read, and {why}"
            hint = (
                "a process with no more rights than yours"
                if not os.geteuid()
                else "sudo with the full path of tracekit"
            )
            raise MachineError(fact, hint)
        spans = stack.enter_context(closing(OpenSpans(wanted)))
        processes = tuple(_Look(tgid, walk, spans).process() for tgid in wanted if tgid not in refused)
    return Dump(processes, (f"kernel frames, and what threads do that run: {why}", *problems(walk, wanted)))


def _array(stack: ExitStack, size: int) -> int:
    """Return the descriptor of an array of *size* bytes, which is there until *stack* ends."""
    file = os.memfd_create("array", os.MFD_CLOEXEC)
    stack.callback(os.close, file)
    os.ftruncate(file, size)
    return file


def problems(walk: Walk, tgids: Iterable[int]) -> list[str]:
    """Return why processes have no frames of their own, or no Python frames though they have a Python."""
    found = [(tgid, walk.process(tgid)) for tgid in tgids]
    lines = [f"frames of process {tgid}: {_REFUSED}" for tgid, process in found if not process]
    return lines + [f"Python frames of process {tgid}: {each.problem}" for tgid, each in found if each and each.problem]


def version(walk: Walk, tgid: int) -> str:
    """Return the version of the CPython in a process, "" if there is none that is known."""
    process = walk.process(tgid)
    return f"3.{process.python.minor}" if process and process.python else ""


class _Look:
    """One process."""

    def __init__(self, tgid: int, walk: Walk, spans: OpenSpans) -> None:
        self._tgid, self._walk, self._spans = tgid, walk, spans
        self._pointers: dict[int, int] = {}

    def process(self) -> Process:
        """Return what its threads do."""
        found: dict[int, Stood] = {}
        deadline = time.monotonic() + patience_s(len(proc.threads(self._tgid)))
        for _ in range(_TRIES):  # a thread that wakes now and then is met asleep once
            threads = proc.threads(self._tgid)
            missing = [(each.pid, each.tgid) for each in threads if each.letter != "R" and each.pid not in found]
            if not missing:
                break
            found |= self._walk.stacks(self._sleepers, stamps_of(missing), deadline)
        slept = slept_ns((each.pid, each.tgid) for each in threads)
        shown = tuple(self._thread(each, found.get(each.pid), slept.get(each.pid)) for each in threads)
        return Process(self._tgid, proc.command(self._tgid), version(self._walk, self._tgid), shown)

    def _sleepers(self) -> list[Sleeper]:
        threads = proc.threads(self._tgid)
        process = self._walk.process(self._tgid)
        with contextlib.suppress(OSError):  # it has gone
            identities = process.identities() if process else []
            self._pointers = proc.pointers(self._tgid, identities, (each.pid for each in threads))
        return proc.sleepers(threads, self._pointers)

    def _thread(self, seen: Seen, stood: Stood | None, slept: int | None) -> Thread:
        state: State = "running" if seen.letter == "R" else "blocked"
        call = syscalls.call_name(seen.number) if seen.number != wire.NR_NONE else ""
        span = self._spans.name(self._tgid, self._pointers.get(seen.pid, 0))
        frames = stood.frames(seen.kernel) if stood else seen.kernel[::-1]
        since = None if state == "running" else slept
        name = proc.name(self._tgid, seen.pid)
        return Thread(seen.pid, name, state, seen.reason, call, since, False, span, frames)
