"""Memory, threads, descriptors and I/O of the target: the sums over its processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tracekit.capture.resources.process import NO_IO, Io, Reader
from tracekit.records import Series

if TYPE_CHECKING:
    from pathlib import Path

    from tracekit.capture.resources.files import Missing
    from tracekit.capture.resources.increase import Sample
    from tracekit.capture.resources.process import Reading

_PROCESSES = Series("processes", (), "gauge", "count")
_THREADS = Series("threads", (), "gauge", "count")
_RSS = Series("rss", (), "gauge", "bytes")
_FDS = Series("fds", (), "gauge", "count")
_READ = Series("io.read", (), "counter", "bytes")
_WRITTEN = Series("io.write", (), "counter", "bytes")
_HIDDEN = "no process of the target in /proc (hidepid, or another pid namespace)"
_TICKS_PER_SECOND = 100  # USER_HZ, in which /proc gives start times


class Tree:
    """
    Sums over the processes of the target.

    I/O is what each thread did itself, up to when it was last read: what a process was given when it reaped a
    child may be from before the attach, or counted as the child's. So of a thread or process that came and
    went between two readings nothing is seen.

    One call spends *budget_ns* of CPU time: new processes first, then those not visited for longest. The
    others stand with what was last read of them, so in a big tree the sums lag.
    """

    def __init__(self, root: Path, missing: Missing, budget_ns: int) -> None:
        self._reader = Reader(root, missing)
        self._missing = missing
        self._budget_ns = budget_ns
        self._known: dict[int, Reading] = {}
        """By tgid, the one not visited for longest first."""
        self._first_tick = time.clock_gettime_ns(time.CLOCK_BOOTTIME) * _TICKS_PER_SECOND // 10**9
        self._based = False
        self._gone: set[int] = set()
        """Processes that could not be found the last time."""

    def sample(self, live: set[int]) -> list[Sample]:
        """Return the series of the target, whose processes are *live*; without one there is none, and no zero."""
        grown = self._visit(live)
        based, self._based = self._based, True
        return self._gauges(live - self._gone) + (self._increases(grown) if based else [])

    def _gauges(self, live: set[int]) -> list[Sample]:
        readings = [reading for tgid, reading in self._known.items() if tgid in live and reading.alive]
        samples: list[Sample] = [
            (_PROCESSES, len(readings) + len(live - self._known.keys())),
            (_THREADS, sum(reading.threads for reading in readings)),
            (_RSS, sum(reading.rss_bytes for reading in readings)),
        ]
        if self._reader.sees_fds:
            samples.append((_FDS, sum(reading.fds for reading in readings)))
        return [(series, value) for series, value in samples if value]

    def _increases(self, grown: list[Io]) -> list[Sample]:
        if not (grown and self._reader.sees_io):
            return []
        return [(_READ, sum(io.read_bytes for io in grown)), (_WRITTEN, sum(io.written_bytes for io in grown))]

    def _visit(self, live: set[int]) -> list[Io]:
        """Read as many processes as the budget allows; return the I/O of the threads of each since its last visit."""
        grown: list[Io] = []
        before, self._gone = self._gone, set()
        until_ns = time.thread_time_ns() + self._budget_ns
        for tgid in [*(live - self._known.keys()), *self._known]:
            reading = self._reader.read(tgid)
            if reading:
                grown += self._settle(tgid, reading)
            else:
                self._known.pop(tgid, None)
                self._gone.add(tgid)
            if time.thread_time_ns() > until_ns:
                break
        if not self._known and live & before & self._gone:
            self._missing.note("rss, threads, fds, io", _HIDDEN)
        return grown

    def _settle(self, tgid: int, reading: Reading) -> list[Io]:
        """Replace what is known of *tgid*; return the I/O of its threads that was not counted yet."""
        known = self._known.pop(tgid, None)
        self._known[tgid] = reading  # now the one visited last
        before: dict[int, Io] = {}
        if known and known.start_ticks == reading.start_ticks:
            before = known.io
        elif reading.start_ticks < self._first_tick:
            before = reading.io
        return [io.since(before.get(tid, NO_IO)) for tid, io in reading.io.items()]
