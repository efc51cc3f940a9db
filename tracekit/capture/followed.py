"""The target without the kernel's help: processes and their descendants, as /proc shows them at each tick."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from tracekit.capture.readings import comm_text
from tracekit.records import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class _Stat(NamedTuple):
    """What /proc/PID/stat tells."""

    comm: str
    ppid: int
    start_ticks: int
    """Since boot; with the tgid it is the identity, as ids are used again."""


class Followed:
    """
    Processes and those that they start.

    A process that came and went between two looks is not seen, nor one whose parent had ended before the look that
    would have found it.

    Args:
        tgids: of the target. children: follow what they start.
        role: comm → role.
    """

    def __init__(self, tgids: Iterable[int], role: Callable[[str], str], *, children: bool) -> None:
        self._role = role
        self._children = children
        self._stats: dict[int, _Stat] = {}
        self._living: dict[int, Process] = {}
        self._changed: dict[tuple[int, int], Process] = {}
        self._strangers: set[int] = set()
        for tgid in tgids:
            self._see(tgid, "found")
        self._follow("found")

    @property
    def tgids(self) -> list[int]:
        """Those that lived at the last look."""
        return list(self._living)

    def role_of(self, tgid: int) -> str:
        """Return the role of a process, "" if it has gone."""
        process = self._living.get(tgid)
        return process.role if process else ""

    def look(self) -> None:
        """See who has ended, who has another name, and who is new."""
        for tgid in self.tgids:
            self._see(tgid, "spawned")
        self._follow("spawned")

    def mark_ready(self, tgid: int, at_ns: int) -> None:
        """Take a process's own word for when it was ready."""
        process = self._living.get(tgid)
        if process:
            self._note(replace(process, ready_ns=at_ns))

    def take(self) -> list[Process]:
        """Return the processes that are new or have changed since the last call."""
        found = list(self._changed.values())
        self._changed.clear()
        return found

    def _see(self, tgid: int, seen: Literal["found", "spawned"]) -> None:
        """Look at one process: *seen* is how, if it is a new one."""
        stat, before = _stat(tgid), self._stats.pop(tgid, None)
        process = self._living.get(tgid)
        if stat is None:
            self._living.pop(tgid, None)
            return
        self._stats[tgid] = stat
        if process is None or before is None or before.start_ticks != stat.start_ticks:
            self._note(Process(tgid, stat.ppid, self._role(stat.comm), seen, _monotonic_ns(stat.start_ticks)))
        elif before.comm != stat.comm:
            self._note(replace(process, role=self._role(stat.comm)))

    def _note(self, process: Process) -> None:
        self._living[process.tgid] = self._changed[process.tgid, process.start_ns] = process

    def _follow(self, seen: Literal["found", "spawned"]) -> None:
        """Find the children; who is no descendant when first seen is not looked at again."""
        if not self._children:
            return
        present = {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208 - 3 times as fast
        self._strangers &= present
        parents = {tgid: stat.ppid for tgid in present - self._strangers - self._living.keys() if (stat := _stat(tgid))}
        while children := [tgid for tgid, ppid in parents.items() if ppid in self._living]:
            for tgid in children:
                del parents[tgid]
                self._see(tgid, seen)
        self._strangers.update(parents)


def _stat(tgid: int) -> _Stat | None:
    """Return what is known of a process, None if it has ended."""
    try:
        text = Path(f"/proc/{tgid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    head, _, tail = text.rpartition(b")")
    state, ppid, *fields = tail.split()
    if state in b"ZX":
        return None
    return _Stat(comm_text(head.partition(b"(")[2]), int(ppid), int(fields[17]))


def _monotonic_ns(ticks: int) -> int:
    """Return when *ticks* since boot were, on CLOCK_MONOTONIC."""
    since_boot_ns = ticks * 10**9 // os.sysconf("SC_CLK_TCK")
    return max(1, since_boot_ns + time.monotonic_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME))
