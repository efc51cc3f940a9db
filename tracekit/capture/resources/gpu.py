"""
GPUs, as NVIDIA's management library (NVML) tells of them: use, memory, power, throttling; and the target's part.

A call into NVML can take milliseconds, seconds (the first one, where the driver sleeps between users) or for
ever (a GPU that fell off the bus). So a thread of its own makes them: a tick takes what it has read since the
last one, and asks it to read again.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture import nvidia

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from tracekit.capture.resources.files import Missing
    from tracekit.capture.resources.increase import Sample

MOST_CPU = 0.005
"""Share of a CPU that reading may take. Where one reading takes more of a tick, not every tick has one."""
PATIENCE_NS = 10 * 10**9
"""NVML answers in milliseconds, or within seconds when it wakes the driver."""

_FOREIGN_IDS = "process ids here are not those of the driver: another pid namespace"
_HOST_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h


class Reading(NamedTuple):
    """What one round of calls gave."""

    samples: list[Sample]
    missing: list[tuple[str, str]]
    """What could not be read, and why."""


class Gpus:
    """
    All `gpu.*` series: gauges, each read at the beginning of its interval.

    Nothing is imported and no thread begun where there is no NVIDIA device.
    """

    def __init__(self, root: Path, missing: Missing) -> None:
        self._root = root
        self._missing = missing
        self._thread: _Reader | None = None
        self._absent = False

    def sample(self, live: Collection[int]) -> list[Sample]:
        """Return what was read since the last call, and have it read again for the target's tgids *live*."""
        if self._absent:
            return []
        if not self._thread:
            return self._begin(live)
        reading = self._thread.take()
        for what, why in reading.missing:
            self._missing.note(what, why)
        if self._thread.silent_ns() > PATIENCE_NS:
            self._missing.note("gpu", f"NVML did not answer for {PATIENCE_NS // 10**9} s")
        self._thread.ask(live)
        return reading.samples

    def _begin(self, live: Collection[int]) -> list[Sample]:
        if not nvidia.has_device(self._root):
            self._absent = True
            self._missing.note("gpu", nvidia.NO_DEVICE)
            return []
        foreign = self._has_foreign_ids()
        if foreign:
            self._missing.note("gpu.process.memory, gpu.process.utilisation", _FOREIGN_IDS)
        self._thread = _Reader(joins=not foreign)
        self._thread.start()
        self._thread.ask(live)
        return []

    def _has_foreign_ids(self) -> bool:
        try:
            return str((self._root / "proc/self/ns/pid").readlink()) != _HOST_PID_NAMESPACE
        except OSError:  # no /proc of this namespace
            return True


class _Reader(threading.Thread):
    """
    Reads once for each time it is asked, never twice at a time, and no more often than MOST_CPU allows.

    A daemon: a call that never returns does not keep the collector from its end.
    """

    def __init__(self, *, joins: bool) -> None:
        super().__init__(name="tracekit-gpu", daemon=True)
        self._joins = joins
        self._questions: queue.SimpleQueue[frozenset[int]] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Reading] = queue.SimpleQueue()
        self._since_ns = 0
        """When it was asked what it has not answered; 0: it waits, or rests."""
        self._ready = True

    def ask(self, live: Collection[int]) -> None:
        """Have it read, unless it still does or has to rest."""
        if self._ready:
            self._ready = False
            self._since_ns = time.monotonic_ns()
            self._questions.put(frozenset(live) if self._joins else frozenset())

    def take(self) -> Reading:
        """Return what was read, or nothing."""
        return Reading([], []) if self._answers.empty() else self._answers.get()

    def silent_ns(self) -> int:
        """Return for how long it has owed an answer."""
        since_ns = self._since_ns
        return time.monotonic_ns() - since_ns if since_ns else 0

    def run(self) -> None:
        """Start NVML, then answer questions; end if it does not start."""
        live = self._questions.get()
        from tracekit.capture.resources.nvml import CannotStartError, Nvml  # noqa: PLC0415 - where there is a GPU

        try:
            library = Nvml()
        except CannotStartError as error:
            self._answer(Reading([], [("gpu", str(error))]))
            return
        while True:
            before_ns = time.thread_time_ns()
            self._answer(library.read(live))
            time.sleep((time.thread_time_ns() - before_ns) / MOST_CPU / 1e9)
            self._ready = True
            live = self._questions.get()

    def _answer(self, reading: Reading) -> None:
        self._answers.put(reading)
        self._since_ns = 0
