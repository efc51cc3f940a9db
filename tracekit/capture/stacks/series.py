"""
Stacks: in which functions the target runs, waits, and has calls that fail.

The kernel's side walks (bpf/stacks.bpf.c) and sends words; here they get names, while the process that they
speak of is still as it was. What belongs to a span waits until it is known how long the span became.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture import syscalls, wire
from tracekit.capture.lives import slot_of
from tracekit.capture.stacks import layout
from tracekit.capture.stacks.memories import Memories
from tracekit.capture.stacks.samples import Samples
from tracekit.capture.stacks.sleepers import Walk, sleepers, stamps_of
from tracekit.capture.stacks.texts import Texts
from tracekit.records import BUCKET_SHIFT, Loss, Series, labels_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from tracekit.capture.batch import Batch
    from tracekit.capture.naming import Names
    from tracekit.capture.readings import SlowSpan, Task
    from tracekit.capture.stacks.programs import Programs
    from tracekit.capture.stacks.samples import Sample
    from tracekit.capture.stacks.texts import Frames

MOST_OPEN = 1 << 15
"""Spans whose stacks wait for their end; beyond it the oldest are given up, and counted."""
ON_CPU = "on-CPU"
PATIENCE_S = 5.0
"""How long the end of a recording waits for names."""
STANDING_S = 1.0
"""How long it looks where threads stand that wait still: the longest waits come first."""
_BLOCKED = wire.TASK_STATES.index("blocked")
_PAUSE_S = 0.02
_MOST_PLACES = 1 << 14


class _About(NamedTuple):
    """What a stack is of: a series by small ids. `bucket` -1: of no span; `nr` and `err` as the kind has them."""

    kind: int
    role: int
    thread: int
    span: int
    reason: int
    nr: int
    err: int
    bucket: int = -1


class _Stack(NamedTuple):
    """Identities of the user's and the kernel's side, and of the names of the Python frames as they were."""

    user: int
    python: int
    kernel: int


class Stacks:
    """The stacks of one recording, from its programs to its series."""

    def __init__(self, programs: Programs, names: Names) -> None:
        self._names = names
        self._samples = Samples(programs.records, programs.forget)
        self._has_news = programs.has_news
        self._ended: list[SlowSpan] = []
        self._texts = Texts()
        self._memories = Memories(programs, self._texts.symbols)
        self._rows: defaultdict[tuple[_About, _Stack], list[int]] = defaultdict(lambda: [0, 0])
        self._spans: dict[tuple[int, int], dict[tuple[int, int, _Stack], list[int]]] = {}
        self._places: dict[tuple[_About, _Stack], tuple[int, int, int]] = {}
        self._whole: defaultdict[tuple[int, int, int], list[int]] = defaultdict(lambda: [0, 0])
        self._given_up = 0
        self._sleepers = programs.sleepers
        self._walk = Walk(self._memories.layouts, self._texts.symbols)
        self._standing: list[tuple[_About, Frames, int]] = []

    @property
    def missing(self) -> list[str]:
        """What has no names, each one line with its reason."""
        return [*self._texts.missing, *self._memories.missing]

    @property
    def cpu_ns(self) -> int:
        """CPU time that was spent for stacks in other processes."""
        return self._memories.cpu_ns

    def losses(self) -> list[Loss]:
        """Return what was lost since the start."""
        found = {"span_stack": self._given_up, "wait_stack": self._walk.late}
        return [Loss(reason, count) for reason, count in found.items() if count]

    def know(self, living: Iterable[int]) -> None:
        """Look at processes before they are walked: the stacks that are taken until then have no Python frames."""
        self._memories.learn(set(living), set())

    def drain(self, ended: Iterable[SlowSpan]) -> None:
        """
        Take the stacks that have come, if they cannot wait; *ended*: spans that ended before, and have some.

        Those that are known wait for collect(): they only have to be counted, and their code objects compared.
        """
        self._ended += ended
        if self._has_news() or self._memories.is_busy:
            self._take()

    def _take(self) -> None:
        found = list(self._samples.drain())
        known = self._samples.users
        users = {sample.user: known[sample.user] for sample in found if sample.user in known}
        self._memories.adopt(users.values())
        self._texts.learn(users, self._memories)  # before what has become another program is looked at
        self._memories.learn(self._samples.wanted, self._samples.outgrown)
        for sample in found:
            if sample.weight:
                self._add(sample)
        for slow in self._ended:
            self._end(slow)
        self._ended = []

    def _add(self, sample: Sample) -> None:
        stack = _Stack(sample.user, self._texts.python_of(sample.user), sample.kernel)
        where = sample.role, sample.thread, sample.span, sample.reason
        if sample.kind == layout.STACK_ERROR:
            self._count(_About(sample.kind, *where, sample.nr, sample.err), stack, sample.weight, 1)
            return
        self._count(_About(sample.kind, *where, sample.nr, 0), stack, sample.weight, 1)
        for start_ns in sample.spans:
            inside = self._spans.setdefault((sample.tgid, start_ns), {})
            row = inside.setdefault((sample.kind, sample.reason, stack), [0, 0])
            row[0] += sample.weight
            row[1] += 1
        while len(self._spans) > MOST_OPEN:
            del self._spans[next(iter(self._spans))]
            self._given_up += 1

    def _count(self, about: _About, stack: _Stack, weight: int, count: int) -> None:
        row = self._rows[about, stack]
        row[0] += weight
        row[1] += count

    def _end(self, slow: SlowSpan) -> None:
        bucket = slot_of(slow.duration_ns) >> BUCKET_SHIFT
        for (kind, reason, stack), row in self._spans.pop((slow.tgid, slow.start_ns), {}).items():
            self._count(_About(kind, slow.role, 0, slow.span, reason, 0, 0, bucket), stack, *row)

    def collect(self, batch: Batch) -> None:
        """Gather what has its names; the rest stays for the next interval."""
        self._take()
        rows, later = self._rows, []
        self._rows = defaultdict(lambda: [0, 0])
        for row, (weight, count) in rows.items():
            place = self._places.get(row) or self._place(batch, *row)
            if place is None:
                later.append((row, [weight, count]))
            else:
                self._sample(batch, place, weight, count)
        self._rows.update(later)
        for about, frames, weight in self._standing:
            self._sample(batch, batch.place(self._series(about), 0, frames), weight, 1)
        self._standing = []

    def _place(self, batch: Batch, about: _About, stack: _Stack) -> tuple[int, int, int] | None:
        """Return where in the recording a stack is counted; None: it has no names yet."""
        frames = self._frames(stack)
        if frames is None or not self._names.is_known(about.span):
            return None
        if len(self._places) >= _MOST_PLACES:
            self._places.clear()
        place = self._places[about, stack] = batch.place(self._series(about), max(0, about.bucket), frames)
        return place

    def _sample(self, batch: Batch, place: tuple[int, int, int], weight: int, count: int) -> None:
        batch.sample(place, weight, count)
        whole = self._whole[place]
        whole[0] += weight
        whole[1] += count

    def _frames(self, stack: _Stack) -> Frames | None:
        user, kernel = self._samples.users.get(stack.user), self._samples.kernels.get(stack.kernel, ())
        return self._texts.frames(stack, user, kernel, self._memories)

    def _series(self, about: _About) -> Series:
        labels = {**self._names.span_labels(about.span), "role": self._names.role(about.role)}
        reason = wire.REASONS[about.reason]
        if about.bucket >= 0:
            labels["state"] = ON_CPU if about.kind == layout.STACK_CPU else reason
            return Series("stack.span", labels_of(labels), "stacks", "ns")
        if about.kind == layout.STACK_ERROR:
            labels |= {"syscall": syscalls.call_name(about.nr), "errno": syscalls.error_name(about.err)}
            return Series("stack.errors", labels_of(labels), "stacks", "count")
        labels["thread"] = self._names.thread(about.thread)
        if about.kind == layout.STACK_CPU:
            return Series("stack.oncpu", labels_of(labels), "stacks", "ns")
        labels |= {"reason": reason, "syscall": syscalls.call_name(about.nr)}
        return Series("stack.offcpu", labels_of(labels), "stacks", "ns")

    def whole(self, batch: Batch) -> None:
        """Gather all since the recording began, as of the last `collect`."""
        for place, (weight, count) in self._whole.items():
            batch.sample(place, weight, count)

    def forget(self, living: Collection[int]) -> None:
        """Let go of processes that have ended, and of spans that nobody will end."""
        self._memories.forget(living)
        if len(self._spans) > MOST_OPEN // 2:
            self._spans = {key: inside for key, inside in self._spans.items() if key[0] in living}

    def finish(self, under_way: Iterable[Task], now: int) -> None:
        """Find where those threads are that wait still, at *now* (ns), and wait for the names of all that has come."""
        self._take()
        self._stand(under_way, now)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and not self._is_named():
            self._texts.settle(PATIENCE_S)
            time.sleep(_PAUSE_S)

    def _stand(self, under_way: Iterable[Task], now: int) -> None:
        """Take the stacks of waits that have not ended: those of a thread that never ran have no other."""
        waits = [(task.waited_ns or (now - task.since_ns if task.state == _BLOCKED else 0), task) for task in under_way]
        waits = sorted((wait for wait in waits if wait[0] > 0), key=lambda wait: -wait[0])
        stamps = stamps_of((task.pid, task.tgid) for _, task in waits)
        found = self._walk.stacks(lambda: sleepers(self._sleepers()), stamps, time.monotonic() + STANDING_S)
        for weight, task in waits:
            if task.pid in found:
                about = _About(layout.STACK_WAIT, task.role, task.thread, task.span, task.reason, task.nr, 0)
                self._standing.append((about, self._texts.standing(found[task.pid], PATIENCE_S), weight))

    def _is_named(self) -> bool:
        stacks = {stack for _, stack in self._rows}
        return None not in [self._frames(stack) for stack in stacks]

    def close(self) -> None:
        """Let go of the target's memory, and of whoever makes tables and names."""
        self._memories.close()
        self._texts.close()
