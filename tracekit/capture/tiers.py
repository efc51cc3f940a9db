"""
The tiers of a recording: which of them are attached, and how one is taken away and comes back.

To close the links is the only way that frees the traced of a program: one that does nothing still costs its entry.
What was under way when a tier went is not known when it comes back, so each of them says since when it has been
there (struct shared), and the programs count nothing that began before. Who belongs to the target is followed
always: forks, execs and exits are few.
"""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING

from tracekit.capture import wire
from tracekit.capture.bpf import syscall
from tracekit.capture.bpf.memory import map_array

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterable, Mapping

    from tracekit.capture.bpf.loader import Loaded
    from tracekit.capture.db.programs import Programs
    from tracekit.capture.stacks.programs import Programs as StackPrograms

SYSCALLS, STACKS, DB, ERRORS, PROCESSES, SCHED = "syscalls", "stacks", "db", "errors", "processes", "sched"
ORDER = (SYSCALLS, STACKS, DB, ERRORS, PROCESSES, SCHED)
"""Which goes first: what is missed least for what it costs."""
NEEDS: Mapping[str, tuple[str, ...]] = {SYSCALLS: (ERRORS, SCHED), STACKS: (SCHED,), ERRORS: (SCHED,)}
"""What a tier is nothing without."""
HOOKS: Mapping[str, tuple[str, ...]] = {
    SCHED: ("on_waking", "on_wakeup", "on_wakeup_new", "on_switch"),
    ERRORS: ("on_return",),
    SYSCALLS: ("on_call",),
}
OWN: Mapping[str, tuple[str, ...]] = {**HOOKS, DB: ("on_sent", "on_received", "on_ready", "on_moved")}
"""The programs that run for a tier alone."""
PROGRAMS: Mapping[str, tuple[str, ...]] = {**OWN, STACKS: ("on_switch", "on_return", "on_sample")}
"""Those that a tier may be the cost of: stacks are taken behind programs of others, in the time of these."""
SETTLE_S = 0.002
"""So long, at most, a program goes on that was running when it was detached."""
_NEVER_NS = (1 << 64) - 1
_SINCE = {ERRORS: 0, SYSCALLS: 1, STACKS: 2, DB: 3}
"""enum tier."""
_ON_CPU, _CALL = struct.Struct("=4Q"), struct.Struct("=Q")
_CALL_AT = 40


class Tiers:
    """
    The links of each tier.

    Args:
        loaded: the first object.
        shared: its map of that name, to be written to.
        cpus: how many there may be.
    """

    def __init__(self, loaded: Loaded, shared: mmap.mmap, cpus: int) -> None:
        self._programs = loaded.programs
        self._shared = shared
        self._cpus = map_array(loaded.maps["cpus"], wire.CPU.size * cpus, write=True)
        self._size = wire.CPU.size * cpus
        self._links: dict[str, list[int]] = {}
        self._always: list[int] = []
        self.databases: Programs | None = None
        self.stacks: StackPrograms | None = None
        self.cut = 0
        """Slices that were under way when the scheduler went out of sight: they came in, and never left."""

    def follow(self, names: Iterable[str], links: Iterable[int] = ()) -> None:
        """Attach programs for good, and keep *links*. Raises OSError."""
        self._always += links
        for name in names:
            self._always.append(self._attach(name))

    def attach(self, tier: str) -> None:
        """Attach *tier*, for the first time or again. Raises OSError: it is not attached."""
        try:
            self._begin(tier)
        except OSError:
            self.detach(tier)
            raise

    def detach(self, tier: str) -> None:
        """Take *tier* away."""
        if tier == PROCESSES:
            self._set("=I", wire.QUIET_AT, 1)
            return
        if tier == SCHED:
            self._set("=I", wire.PAUSE_AT, self._pause | 1)
        else:
            self._set("=Q", wire.SINCE_AT + 8 * _SINCE[tier], _NEVER_NS)
        if tier == STACKS and self.stacks:
            self.stacks.detach()
        for link in self._links.pop(tier, []):
            os.close(link)
        if tier in (SCHED, DB):
            time.sleep(SETTLE_S)
            self._forget(tier)

    def detach_all(self) -> None:
        """Take everything away, and note nothing: this is the end."""
        if self.stacks:
            self.stacks.detach()
        for links in (self._always, *self._links.values()):
            while links:
                os.close(links.pop())

    def _begin(self, tier: str) -> None:
        links = self._links[tier] = []
        self._forget(tier)
        if tier == PROCESSES:
            self._set("=I", wire.QUIET_AT, 0)
        elif tier != SCHED:
            self._set("=Q", wire.SINCE_AT + 8 * _SINCE[tier], time.monotonic_ns() if self._was_shed(tier) else 0)
        links.extend(map(self._attach, HOOKS.get(tier, ())))
        if tier == SCHED:  # not before: what comes in until all is attached is to be made anew
            self._set("=I", wire.PAUSE_AT, self._pause + 1 & ~1)
        elif tier == DB and self.databases:
            links += self.databases.attach()
        elif tier == STACKS and self.stacks:
            self.stacks.attach()

    def _was_shed(self, tier: str) -> bool:
        (since_ns,) = struct.unpack_from("=Q", self._shared, wire.SINCE_AT + 8 * _SINCE[tier])
        return bool(since_ns)

    def _attach(self, name: str) -> int:
        return syscall.raw_tracepoint(self._programs[name])

    @property
    def _pause(self) -> int:
        (number,) = struct.unpack_from("=I", self._shared, wire.PAUSE_AT)
        return int(number)

    def _set(self, form: str, at: int, value: int) -> None:
        struct.pack_into(form, self._shared, at, value)

    def _forget(self, tier: str) -> None:
        """Forget what is under way, of a tier whose programs do not run."""
        if tier == DB and self.databases:
            self.databases.forget_calls()
        if tier != SCHED or not self._pause & 1:
            return
        for at in range(0, self._size, wire.CPU.size):
            task, *_ = _ON_CPU.unpack_from(self._cpus, at)
            self.cut += bool(task)
            _ON_CPU.pack_into(self._cpus, at, 0, 0, 0, 0)
            _CALL.pack_into(self._cpus, at + _CALL_AT, 0)
