"""CPU, memory and I/O of the target: the sum over its processes, dead ones included."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.capture.resources.process import NOTHING, Reader, Totals
from tracekit.records import Series

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tracekit.capture.resources.files import Missing
    from tracekit.capture.resources.increase import Sample
    from tracekit.capture.resources.process import Reading

_CPU = Series("cpu", (), "gauge", "share")
_PROCESSES = Series("processes", (), "gauge", "count")
_THREADS = Series("threads", (), "gauge", "count")
_RSS = Series("rss", (), "gauge", "bytes")
_FDS = Series("fds", (), "gauge", "count")
_READ = Series("io.read", (), "counter", "bytes")
_WRITTEN = Series("io.write", (), "counter", "bytes")
_HIDDEN = "no process of the target in /proc (hidepid, or another pid namespace)"
_TICKS_PER_SECOND = 100  # USER_HZ, in which /proc gives start times


@dataclass
class _Known:
    last: Reading
    owed: Totals = NOTHING
    """What gone children had used and was counted as theirs; reaping them adds it to this process once more."""
    owed_visits: int = 0


class Tree:
    """
    Sums over the processes of the target.

    The kernel adds the CPU time and the I/O of a child to its parent's when that reaps it. So what a process
    used after its last visit, and short processes that were never visited, are found in their parents; and
    what had been counted before must not be counted again (`_Known.owed`).

    One call spends *budget_ns* of CPU time: new processes first, then those not visited for longest. The
    others stand with what was last read of them, so in a big tree the sums lag; nothing is left out.
    """

    def __init__(self, root: Path, missing: Missing, budget_ns: int) -> None:
        self._reader = Reader(root, missing)
        self._missing = missing
        self._budget_ns = budget_ns
        self._known: dict[int, _Known] = {}
        """By tgid, the one not visited for longest first."""
        self._first_tick = time.clock_gettime_ns(time.CLOCK_BOOTTIME) * _TICKS_PER_SECOND // 10**9
        self._sampled_ns: int | None = None
        self._gone: set[int] = set()
        """Processes that could not be found the last time."""

    def sample(self, live: set[int], now_ns: int) -> list[Sample]:
        """Return the series of the target, whose processes are *live*; *now_ns* is CLOCK_MONOTONIC."""
        used = self._visit(live)
        before_ns, self._sampled_ns = self._sampled_ns, now_ns
        gauges = self._gauges(live - self._gone)
        return gauges + (self._increases(used, now_ns - before_ns) if before_ns is not None else [])

    def _gauges(self, live: set[int]) -> list[Sample]:
        readings = [known.last for tgid, known in self._known.items() if tgid in live and known.last.alive]
        samples: list[Sample] = [
            (_PROCESSES, len(readings) + len(live - self._known.keys())),
            (_THREADS, sum(reading.threads for reading in readings)),
            (_RSS, sum(reading.rss_bytes for reading in readings)),
        ]
        if self._reader.sees_fds:
            samples.append((_FDS, sum(reading.fds for reading in readings)))
        return samples

    def _increases(self, used: Totals, elapsed_ns: int) -> list[Sample]:
        samples: list[Sample] = [(_CPU, used.cpu_ns / elapsed_ns)]
        if self._reader.sees_io:
            samples += [(_READ, used.read_bytes), (_WRITTEN, used.written_bytes)]
        return samples

    def _visit(self, live: set[int]) -> Totals:
        """Read as many processes as the budget allows; return what the target used since their last visits."""
        found, replaced = self._read([*(live - self._known.keys()), *self._known])
        self._bequeath({tgid: self._known.pop(tgid) for tgid in replaced if tgid in self._known})
        before, self._gone = self._gone, replaced - found.keys()
        if not found and live & before & self._gone:
            self._missing.note("cpu, rss, threads, fds, io", _HIDDEN)
        used = NOTHING
        for tgid, reading in found.items():
            used = used.plus(self._settle(tgid, reading))
        return used

    def _read(self, queue: Iterable[int]) -> tuple[dict[int, Reading], set[int]]:
        """Return what was read, and the tgids that have gone or belong to another process now."""
        found: dict[int, Reading] = {}
        gone = set()
        until_ns = time.thread_time_ns() + self._budget_ns
        for tgid in queue:
            known = self._known.get(tgid)
            reading = self._reader.read(tgid)
            if reading:
                found[tgid] = reading
            if not reading or (known and known.last.start_ticks != reading.start_ticks):
                gone.add(tgid)
            if time.thread_time_ns() > until_ns:
                break
        return found, gone

    def _bequeath(self, gone: dict[int, _Known]) -> None:
        """Note for each process that has gone what its reaper, if of the target, will be given of it again."""
        for known in gone.values():
            heir = self._known.get(_reaper(known.last.ppid, gone))
            if heir:
                heir.owed = heir.owed.plus(known.last.totals).plus(known.owed)
                heir.owed_visits = 0

    def _settle(self, tgid: int, reading: Reading) -> Totals:
        """Replace what is known of *tgid*; return what it used that was not counted yet."""
        known = self._known.pop(tgid, None)
        if known is None:
            self._known[tgid] = _Known(reading)
            return reading.totals if reading.start_ticks >= self._first_tick else NOTHING
        self._known[tgid] = known  # now the one visited last
        used = reading.totals.minus(known.last.totals)
        if reading.reaped_faults > known.last.reaped_faults:
            used, known.owed = used.minus(known.owed), known.owed.minus(used)
        known.owed_visits += 1
        if known.owed_visits > 1:  # its children went without being reaped (SIGCHLD ignored)
            known.owed = NOTHING
        known.last = reading
        return used


def _reaper(ppid: int, gone: dict[int, _Known]) -> int:
    """Return the first process above that has not gone. Ids are used again, so the way up may be a circle."""
    for _ in gone:
        if ppid not in gone:
            break
        ppid = gone[ppid].last.ppid
    return ppid
