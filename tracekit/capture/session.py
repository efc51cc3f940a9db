"""One recording from start to end: the one loop, and the one file that knows every source."""

from __future__ import annotations

import os
import select
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.capture import cost, privileges
from tracekit.capture.batch import Batch
from tracekit.capture.db import Databases, ports
from tracekit.capture.file import create
from tracekit.capture.kernel import Kernel
from tracekit.capture.lives import Lives
from tracekit.capture.naming import Names, counter
from tracekit.capture.owner import owner
from tracekit.capture.resources import Resources
from tracekit.capture.shedding import PERIOD_NS, WINDOW_NS, Shedding
from tracekit.capture.signals import Signals
from tracekit.capture.spans import Spans
from tracekit.capture.spent import TICK, Spent
from tracekit.capture.tiers import DB, PROCESSES, STACKS
from tracekit.capture.wire import A_THREAD, LIFE_BOARD
from tracekit.capture.workload import Command, cgroup_id, check_pids, ended, open_pidfds
from tracekit.errors import DiskFullError, MachineError, RecordingError
from tracekit.recording.writer import Writer, refuse_existing
from tracekit.records import InFlight, Interval, Loss, Series

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tracekit.capture.options import Options
    from tracekit.capture.readings import Key, LifeRecord, Task
    from tracekit.capture.stacks.programs import Programs as StackPrograms
    from tracekit.capture.stacks.series import Stacks

CHECKPOINT_TICKS = 256
LATE_BY = 2
"""An interval this many times its length had no collector for a while: it is marked partial."""
STACKS_NS = 200_000_000
"""How often stacks are named: later the code that they speak of may be another."""
TEXTS_NS = 50_000_000
"""How often texts of calls are taken out of their ring, which holds 1870: to be woken for each would cost more."""
_SETTLE_S = 0.002
_ANSWERED_NS = 50_000_000
"""An answer of a database that has not grown for so long is whole, if its protocol does not say."""
_CPU = Series("cpu", (), "gauge", "share")

DURATION, ENDED, INTERRUPTED = "duration", "target ended", "interrupted"


@dataclass(frozen=True)
class Progress:
    """What a status line says."""

    elapsed_ns: int
    threads: int
    events: int
    lost: int
    collector_share: float
    """CPU time of the collector per wall time; 1 is one core."""
    bpf_share: float | None
    """The same of the BPF programs; None before it was measured."""
    shed: tuple[str, ...] = ()
    """What is not looked at now, to stay within the budget."""


@dataclass(frozen=True)
class Summary:
    """How a recording ended: by `duration`, `target ended` or `interrupted`."""

    reason: str
    progress: Progress
    intervals: int
    losses: tuple[Loss, ...]
    missing: tuple[str, ...]
    exit_code: int
    """Of the launched command; 0 for an attach."""
    shed: tuple[tuple[str, int], ...] = ()
    """What was not looked at to stay within the budget, and for how many ns."""


def record(
    options: Options,
    attached: Callable[[float, list[str]], None],
    progress: Callable[[Progress], None],
    begin_ns: int,
) -> Summary:
    """
    Record until the duration is over, the target has ended, or a signal comes.

    Args:
        options: what to capture, and where to.
        attached: called when all programs are attached, with the ms since *begin_ns*, and what probes of
            libraries cost their callers, a line each.
        progress: called at each tick.
        begin_ns: CLOCK_MONOTONIC when the user's command began.

    Raises:
        TracekitError: it cannot begin, or write; what was recorded is kept.
    """
    if not options.force:
        refuse_existing(options.output)
    if options.max_overhead:
        cost.check()
    pids = check_pids(options.pids, os.getpid())
    cgroup = cgroup_id(options.cgroup) if options.cgroup else 0
    with ExitStack() as stack:
        signals = stack.enter_context(closing(Signals()))
        command = None
        if options.command:
            command = stack.enter_context(closing(Command(options.command, options.environment)))
            pids = (command.pid,)
        ends = open_pidfds(pids)
        for descriptor in ends.values():
            stack.callback(os.close, descriptor)
        kernel = stack.enter_context(closing(Kernel(options, pids, cgroup)))
        if kernel.db_maps:
            ports.write(kernel.db_maps["db_ports"], options.db_ports)
        kernel.attach()
        privileges.become(owner())
        if options.stacks:
            kernel.load_stacks()
        start_ns = time.monotonic_ns()
        for pid in ended(pids, ends):
            kernel.drop(pid)
        tasks = kernel.mark()
        took_ms = (time.monotonic_ns() - begin_ns) / 1e6
        writer = stack.enter_context(create(options, pids))
        privileges.keep(privileges.wanted(options), options.output.parent)
        session = _Session(options, kernel, writer, tasks, start_ns)
        # not before: what users do on reading it is in the first interval of every source
        attached(took_ms, kernel.library_probes)
        if command:
            command.go()
        try:
            reason = _Loop(session, signals, command, list(ends.values()), progress, bool(pids)).run()
            session.finish(reason)
        except RecordingError as error:
            raise kept(error, session.intervals) from error
        return session.summary(reason, command.exit_code if command and command.poll() else 0)


def kept(error: RecordingError, intervals: int) -> RecordingError:
    """Return *error*, which ended a recording, with what its user has of that."""
    first = "free some space; " if isinstance(error, DiskFullError) else "another file system; "
    return type(error)(str(error), f"{first}the {intervals} finished intervals are kept and can be read")


class _Session:
    """What is known of the recording being made, and how an interval is gathered."""

    def __init__(self, options: Options, kernel: Kernel, writer: Writer, tasks: list[Task], start_ns: int) -> None:
        self.options = options
        self.kernel = kernel
        self.intervals = 0
        self.start_ns = self._open_ns = start_ns
        periods = (PERIOD_NS, WINDOW_NS) if options.max_overhead else ()
        self.meter = cost.Meter(kernel, self.start_ns, *periods)
        self._writer = writer
        self._heard: list[LifeRecord] = []
        self._lives = Lives(options.role, self._span_labels)
        self._spans = Spans(kernel, self._lives.role_of, options.role, self._open_boards, start_ns)
        self._databases = Databases(kernel.db_maps, options, self._role) if kernel.db_maps else None
        self._names = Names(kernel.name, options.role, self._spans.labels, self._call_labels)
        self._stacks: Stacks | None = None
        self._lives.found(tasks)
        self._spans.scan(self._lives.tgids)
        kernel.probe_libraries(self._lives.tgids)
        self._batch = Batch(writer)
        self.interval_ns = options.interval_ns
        """Length of the tick under way."""
        self._resources = Resources(lambda: self._lives.tgids, os.getpid(), cpu_ns=self._spent_ns)
        for series, value in self._resources.sample():
            self._batch.value(series, value)
        self._cpu_ns = self._spent_ns()
        self._spent = Spent(self._spent_ns)
        self.shedding = Shedding(options, kernel, self.meter, self._spent, self._lives.found, start_ns)
        self._lost: dict[str, int] = {}
        self._restarts = 0
        self._errors = 0
        self._most_threads = 0
        self._end_ns = 0

    def _spent_ns(self) -> int:
        """Return the CPU time of the collector so far, and of the process that works for it."""
        return time.process_time_ns() + (self._stacks.cpu_ns if self._stacks else 0)

    def _span_labels(self, number: int) -> Mapping[str, str]:
        return self._spans.labels(number)

    def _role(self, number: int) -> str:
        return self._names.role(number)

    def _call_labels(self, key: Key) -> Mapping[str, str]:
        return self._databases.labels(key) if self._databases else {}

    def drain(self) -> None:
        """Take what has come: records of processes, ends of spans, stacks, texts of calls of databases."""
        with self._spent.of(PROCESSES):
            self._drain_lives()  # first: a process with a board may be short
        if self._databases:
            with self._spent.of(DB):
                self._databases.drain()
        ended = self._spans.drain()
        stacks = self._take_stacks()
        if stacks:
            with self._spent.of(STACKS):
                stacks.drain(ended)

    def _drain_lives(self) -> None:
        self._open_boards()
        heard, self._heard = self._heard, []
        for record in heard:
            if record.what == LIFE_BOARD:
                self._lives.rename(record.tgid, record.comm)
            else:
                self._lives.record(record)

    def _open_boards(self) -> None:
        """Open the boards that are new, and keep what else has come: within a tick too, for a span without a name."""
        for record in self.kernel.lives():
            if record.what == LIFE_BOARD:
                self._spans.appeared(record.tgid, record.exit_code)
            self._heard.append(record)

    def _take_stacks(self) -> Stacks | None:
        self.kernel.take_stacks(self._prepare_stacks)
        return self._stacks

    def _prepare_stacks(self, programs: StackPrograms) -> None:
        from tracekit.capture.stacks.series import Stacks  # noqa: PLC0415 - there by now, from another thread

        try:
            self._stacks = Stacks(programs, self._names)
        except RuntimeError as error:  # too many threads, or too little memory
            raise MachineError(str(error)) from error
        self._stacks.know(self._lives.tgids)
        self.meter.again(time.monotonic_ns())

    def tick(self, now: int) -> None:
        """Close the interval at *now*."""
        with self._spent.of(TICK):
            self._tick(now)

    def _tick(self, now: int) -> None:
        self.kernel.settle_calls(now - _ANSWERED_NS)
        self.kernel.follow_cpus()
        self._spans.scan(self._lives.tgids)
        self.kernel.probe_libraries(self._lives.tgids)
        if self._stacks:
            self._stacks.forget(self._lives.tgids)
        self._lives.settle(self._open_ns)
        self._collect(now)
        self._append(now)
        if self.intervals % CHECKPOINT_TICKS == 0:
            self._checkpoint([])

    def finish(self, reason: str) -> None:
        """Detach, settle what is under way, write the last interval, and close the file as complete."""
        self.meter.finish(time.monotonic_ns())
        self.kernel.detach()
        now = self._end_ns = time.monotonic_ns()
        self.kernel.settle_calls(now)
        time.sleep(_SETTLE_S)  # programs that run on another CPU at this moment come to their end
        self.kernel.costs()
        under_way = self.kernel.report()
        self.drain()
        if self._stacks:
            self._stacks.finish(under_way, now)
        self._lives.finish(under_way)
        self._spans.scan(self._lives.tgids)
        rest = [(self._names.task_stack(task), max(0, now - task.since_ns)) for task in under_way]
        rest += [(self._names.wait_stack(task), task.waited_ns) for task in under_way if task.waited_ns]
        for frames, weight in rest:
            self._batch.stack(frames, weight, 0)
        self._collect(now)
        self._append(now)
        self._checkpoint(rest)
        self._spans.close()
        if self._stacks:
            self._stacks.close()
        self._writer.finish([self._in_flight(task, now) for task in under_way], self._end(reason, under_way, now))

    def progress(self) -> Progress:
        """Return what a status line says."""
        elapsed = max(1, time.monotonic_ns() - self.start_ns)
        recorded = self._end_ns - self.start_ns if self._end_ns else elapsed
        self._most_threads = max(self._most_threads, self.kernel.threads)
        share = (self._spent_ns() - self._cpu_ns) / elapsed
        events = self.kernel.totals().switches + self._errors
        shed = tuple(self.shedding.away)
        return Progress(recorded, self.kernel.threads, events, sum(self._lost.values()), share, self.meter.share, shed)

    def summary(self, reason: str, exit_code: int) -> Summary:
        """Return how it ended."""
        losses = tuple(Loss(reason, count) for reason, count in self._lost.items())
        missing, shed = tuple(self._missing()), self.shedding.shed
        return Summary(reason, self.progress(), self.intervals, losses, missing, exit_code, shed)

    def _missing(self) -> list[str]:
        stacks = self._stacks.missing if self._stacks else []
        ours = (*self.kernel.missing, *self.meter.missing, *self.shedding.missing)
        return [*ours, *self._resources.missing, *self._spans.missing, *stacks]

    def _collect(self, now: int) -> None:
        """Gather what this interval added, from every source."""
        self._spans.collect(
            self._batch, self._names.calls_of_parts, blind=self.shedding.is_blind
        )  # first: it learns the names of kinds
        for tgid, at_ns in self._spans.ready():
            self._lives.mark_ready(tgid, at_ns)
        on_cpu_ns = self._collect_kernel()
        self._collect_lives()
        if self._databases:
            self._databases.collect(self._batch, now)
        if self._stacks:
            self._stacks.collect(self._batch)
        for series, value in self._resources.sample():
            self._batch.value(series, value)
        self._batch.value(_CPU, on_cpu_ns / max(1, now - self._open_ns))
        self.shedding.used(on_cpu_ns, now - self._open_ns)
        self.shedding.collect(self._batch, now)
        spent = self.meter.increase(now)
        if spent:
            self._batch.value(*spent)

    def _collect_kernel(self) -> int:
        """Gather the kernel's side and return the time the target was on a CPU, ns."""
        on_cpu_ns = 0
        batch, names, kernel = self._batch, self._names, self.kernel
        for key, slots in kernel.histograms():
            batch.histogram(names.histogram(key), slots)
        for key, account in kernel.accounts():
            on_cpu_ns += account.ns if key.kind == A_THREAD else 0
            for series, increase in names.counters(key, account):
                batch.value(series, increase)
                self._errors += int(increase) if series.metric == "syscall.errors" else 0
            for frames, weight, count in names.stacks(key, account):
                batch.stack(frames, weight, count)
        for number, increase in kernel.calls():
            batch.value(names.calls(number), increase)
        restarts = kernel.totals().restarts
        if restarts > self._restarts:
            batch.value(counter("syscall.restarts"), restarts - self._restarts)
            self._restarts = restarts
        return on_cpu_ns

    def _collect_lives(self) -> None:
        self._batch.processes, histograms, counters = self._lives.take()
        for series, slots in histograms:
            self._batch.histogram(series, slots)
        for series, value in counters:
            self._batch.value(series, value)

    def _append(self, now: int) -> None:
        interval = Interval(self._open_ns, now)
        late = interval.duration_ns > LATE_BY * self.interval_ns
        self._writer.append(self._batch.tick(interval, self._new_losses(), partial=late))
        self.intervals += 1
        self._open_ns = now
        self.interval_ns = self.shedding.interval_ns

    def _new_losses(self) -> list[Loss]:
        found = []
        stacks = self._stacks.losses() if self._stacks else []
        for loss in (*self.kernel.losses(), *self._spans.losses(), *stacks):
            new = loss.count - self._lost.get(loss.reason, 0)
            if new > 0:
                found.append(Loss(loss.reason, new))
                self._lost[loss.reason] = loss.count
        return found

    def _checkpoint(self, rest: list[tuple[tuple[str, ...], int]]) -> None:
        """Write the sums since the start; *rest* is the time of stacks that no account holds."""
        sums = Batch(self._writer)
        for key, slots in self.kernel.histogram_sums():
            sums.histogram(self._names.histogram(key), slots)
        for series, slots in self._lives.whole():
            sums.histogram(series, slots)
        self._spans.whole(sums)
        if self._databases:
            self._databases.whole(sums)
        if self._stacks:
            self._stacks.whole(sums)
        for key, account in self.kernel.account_sums():
            for frames, weight, count in self._names.stacks(key, account):
                sums.stack(frames, weight, count)
        for frames, weight in rest:
            sums.stack(frames, weight, 0)
        tick = sums.tick(Interval(0, 0), [])
        self._writer.checkpoint(tick.histograms, tick.stacks, tick.parts, tick.samples)

    def _in_flight(self, task: Task, now: int) -> InFlight:
        role, thread, state, *wait = self._names.task_stack(task)
        known = "blocked" if wait else {"on-CPU": "running", "run queue": "runnable"}[state]
        reason, call = wait or ("", "")
        age_ns = max(0, now - task.since_ns)
        span = self._names.span(task.span)
        return InFlight(task.pid, task.tgid, role, thread, known, reason, call, age_ns, span)

    def _end(self, reason: str, under_way: list[Task], now: int) -> dict[str, object]:
        """
        Return what the recording says of its end.

        Switches seen + adopted == slices + running + cut, if none were lost.
        """
        progress, totals = self.progress(), self.kernel.totals()
        running = sum(not task.state for task in under_way)
        seen = {"switches": totals.switches, "adopted": self.kernel.adopted, "running": running, "cut": self.kernel.cut}
        cost = {"collector_share": progress.collector_share, "bpf_share": progress.bpf_share}
        facts = {"threads": self._most_threads, "events": progress.events, "samples": totals.samples}
        calls = {"calls": self._databases.under_way(now)} if self._databases else {}
        return {"reason": reason, **facts, "seen": seen, "cost": cost, "missing": self._missing(), **calls}


class _Loop:
    """Waits for ticks, records, the end of the target and signals."""

    def __init__(
        self,
        session: _Session,
        signals: Signals,
        command: Command | None,
        ends: list[int],
        progress: Callable[[Progress], None],
        has_processes: bool,
    ) -> None:
        self._session = session
        self._progress = progress
        self._signals = signals
        self._command = command
        self._waiting = set(ends)
        options = session.options
        every = (options.db_text, TEXTS_NS), (options.stacks, STACKS_NS), (True, options.interval_ns)
        self._longest_ns = min(length_ns for is_on, length_ns in every if is_on)
        self._has_processes = has_processes  # also where all had ended before they could be watched
        self._poller = select.poll()
        for descriptor in (*ends, signals.descriptor, session.kernel.ring.descriptor):
            self._poller.register(descriptor, select.POLLIN)

    def run(self) -> str:
        """Return why it ended."""
        session, options = self._session, self._session.options
        tick_ns = session.start_ns + options.interval_ns
        end_ns = session.start_ns + options.duration_ns if options.duration_ns else 0
        while True:
            self._wait(min(tick_ns, session.meter.due_ns, end_ns or tick_ns, time.monotonic_ns() + self._longest_ns))
            now = time.monotonic_ns()
            session.drain()
            if session.meter.step(now):
                session.shedding.step(now)
            if self._signals.received:
                return INTERRUPTED
            if self._target_has_ended():
                return ENDED
            if end_ns and now >= end_ns:
                return DURATION
            if now >= tick_ns:
                session.tick(now)
                self._progress(session.progress())
                tick_ns = max(tick_ns + session.interval_ns, now)

    def _wait(self, due_ns: int) -> None:
        timeout_ms = max(0, -(-(due_ns - time.monotonic_ns()) // 1_000_000))
        for descriptor, _ in self._poller.poll(timeout_ms):
            if descriptor in self._waiting:
                self._poller.unregister(descriptor)
                self._waiting.discard(descriptor)

    def _target_has_ended(self) -> bool:
        """Tell: a launched command ends the recording, attached processes when their descendants are gone too."""
        if self._waiting or not self._has_processes:
            return False
        if self._command:
            return self._command.ended
        return not self._session.kernel.threads
