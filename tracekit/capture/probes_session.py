"""A recording without the kernel: what traced processes tell of their spans, and the counters of /proc."""

from __future__ import annotations

import os
import select
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from tracekit.capture import privileges
from tracekit.capture.batch import Batch
from tracekit.capture.file import create
from tracekit.capture.followed import Followed
from tracekit.capture.owner import owner
from tracekit.capture.probes import Boards
from tracekit.capture.resources import Resources
from tracekit.capture.session import (
    CHECKPOINT_TICKS,
    DURATION,
    ENDED,
    INTERRUPTED,
    LATE_BY,
    Progress,
    Summary,
    kept,
)
from tracekit.capture.signals import Signals
from tracekit.capture.workload import check_pids, open_pidfds
from tracekit.errors import MachineError, RecordingError
from tracekit.recording.writer import refuse_existing
from tracekit.records import Interval, Loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracekit.capture.options import Options
    from tracekit.recording.writer import Writer

_NOBODY = "spans: no process of the target has any; `from tracekit import span`, or `tracekit run -c` to add them"


def record(
    options: Options,
    attached: Callable[[float, list[str]], None],
    progress: Callable[[Progress], None],
    begin_ns: int,
) -> Summary:
    """
    Record until the duration is over, the target has ended, or a signal comes: as session.record.

    Raises:
        TracekitError: it cannot begin, or write; what was recorded is kept.
    """
    if not options.force:
        refuse_existing(options.output)
    pids = check_pids(options.pids, os.getpid())
    _check_permission(pids)
    with ExitStack() as stack:
        signals = stack.enter_context(closing(Signals()))
        ends = list(open_pidfds(pids).values())
        for descriptor in ends:
            stack.callback(os.close, descriptor)
        privileges.become(owner())
        writer = stack.enter_context(create(options, pids))
        privileges.keep(privileges.wanted(options), options.output.parent)
        session = stack.enter_context(closing(_Session(options, writer, pids)))
        attached((time.monotonic_ns() - begin_ns) / 1e6, [])
        try:
            reason = _run(session, signals, ends, progress)
            session.finish(reason)
        except RecordingError as error:
            raise kept(error, session.intervals) from error
        return session.summary(reason)


def _check_permission(pids: tuple[int, ...]) -> None:
    for pid in pids:
        try:
            os.scandir(f"/proc/{pid}/fd").close()
        except PermissionError as error:  # noqa: PERF203 - the one that fails is named
            raise MachineError(
                f"cannot read the spans of {pid}: it belongs to another user (or is not dumpable)",
                "as that user, or with sudo",
            ) from error
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended just now: the first tick will see that


class _Session:
    """What is known of the recording being made, and how an interval is gathered."""

    def __init__(self, options: Options, writer: Writer, pids: tuple[int, ...]) -> None:
        self.options = options
        self.intervals = 0
        self.start_ns = self._open_ns = time.monotonic_ns()
        self._writer = writer
        self._batch = Batch(writer)
        self.followed = Followed(pids, options.role, children=options.children)
        self._boards = Boards(self.followed.role_of, self.start_ns)
        self._boards.scan(self.followed.tgids)
        self._resources = Resources(lambda: self.followed.tgids, os.getpid())
        self._cpu_ns = time.process_time_ns()
        self._lost: dict[str, int] = {}
        self._events = self._threads = self._most_threads = 0
        self._has_board = len(self._boards) > 0
        self._sample()

    def tick(self, now: int) -> None:
        """Close the interval at *now*."""
        self.followed.look()
        self._boards.scan(self.followed.tgids)
        self._has_board |= len(self._boards) > 0
        self._collect()
        interval = Interval(self._open_ns, now)
        late = interval.duration_ns > LATE_BY * self.options.interval_ns
        self._writer.append(self._batch.tick(interval, self._new_losses(), partial=late))
        self.intervals += 1
        self._open_ns = now
        if self.intervals % CHECKPOINT_TICKS == 0:
            self._checkpoint()

    def finish(self, reason: str) -> None:
        """Write the last interval, and close the file as complete."""
        self.tick(time.monotonic_ns())
        self._checkpoint()
        progress = self.progress()
        cost = {"collector_share": progress.collector_share, "bpf_share": progress.bpf_share}
        facts = {"threads": self._most_threads, "events": progress.events}
        self._writer.finish([], {"reason": reason, **facts, "cost": cost, "missing": self._missing()})

    def progress(self) -> Progress:
        """Return what a status line says."""
        elapsed = max(1, time.monotonic_ns() - self.start_ns)
        share = (time.process_time_ns() - self._cpu_ns) / elapsed
        return Progress(elapsed, self._threads, self._events, sum(self._lost.values()), share, 0.0)

    def summary(self, reason: str) -> Summary:
        """Return how it ended."""
        losses = tuple(Loss(reason, count) for reason, count in self._lost.items())
        return Summary(reason, self.progress(), self.intervals, losses, tuple(self._missing()), 0)

    def close(self) -> None:
        """Let go of what is mapped."""
        self._boards.close()

    def _collect(self) -> None:
        """Gather what this interval added, from every source."""
        collected = self._boards.collect()
        for series, slots in collected.histograms:
            self._batch.histogram(series, slots)
            self._events += sum(slots.counts)
        for series, value in collected.values:
            self._batch.value(series, value)
        for tgid, at_ns in self._boards.ready():
            self.followed.mark_ready(tgid, at_ns)
        self._batch.processes = self.followed.take()
        self._sample()

    def _sample(self) -> None:
        for series, value in self._resources.sample():
            self._batch.value(series, value)
            if series.metric == "threads":
                self._threads = int(value)
                self._most_threads = max(self._most_threads, self._threads)

    def _new_losses(self) -> list[Loss]:
        found = []
        for loss in self._boards.losses():
            new = loss.count - self._lost.get(loss.reason, 0)
            if new > 0:
                found.append(Loss(loss.reason, new))
                self._lost[loss.reason] = loss.count
        return found

    def _checkpoint(self) -> None:
        """Write the sums since the start."""
        sums = Batch(self._writer)
        for series, slots in self._boards.whole():
            sums.histogram(series, slots)
        self._writer.checkpoint(sums.tick(Interval(0, 0), []).histograms, [])

    def _missing(self) -> list[str]:
        nobody = [] if self._has_board else [_NOBODY]
        return [*nobody, *self._boards.missing, *self._resources.missing]


def _run(session: _Session, signals: Signals, ends: list[int], progress: Callable[[Progress], None]) -> str:
    """Return why it ended."""
    waiting, poller = set(ends), select.poll()
    for descriptor in (*ends, signals.descriptor):
        poller.register(descriptor, select.POLLIN)
    options = session.options
    tick_ns = session.start_ns + options.interval_ns
    end_ns = session.start_ns + options.duration_ns if options.duration_ns else 0
    while True:
        due_ns = min(tick_ns, end_ns or tick_ns)
        for descriptor, _ in poller.poll(max(0, -(-(due_ns - time.monotonic_ns()) // 1_000_000))):
            if descriptor in waiting:
                poller.unregister(descriptor)
                waiting.discard(descriptor)
        now = time.monotonic_ns()
        if signals.received:
            return INTERRUPTED
        if end_ns and now >= end_ns:
            return DURATION
        if now >= tick_ns:
            session.tick(now)
            progress(session.progress())
            tick_ns = max(tick_ns + options.interval_ns, now)
        if not waiting and not _any_lives(session):
            return ENDED


def _any_lives(session: _Session) -> bool:
    session.followed.look()
    return bool(session.followed.tgids)
