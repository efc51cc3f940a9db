"""A dump by BPF: the kernel tells what each thread does, where it is, and samples those that run."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture import syscalls, wire
from tracekit.capture.dump import proc
from tracekit.capture.dump.asleep import slept_ns
from tracekit.capture.dump.spans import OpenSpans
from tracekit.capture.dump.untraced import MOST_NATIVE, MOST_PYTHON, STILL_S, problems, version
from tracekit.capture.stacks import layout
from tracekit.capture.stacks.memories import Memories
from tracekit.capture.stacks.samples import Samples
from tracekit.capture.stacks.sleepers import Stood, Walk, sleepers, stamps_of
from tracekit.capture.stacks.texts import Texts
from tracekit.dumped import Dump, Process, Thread
from tracekit.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Collection

    from tracekit.capture.kernel import Kernel
    from tracekit.capture.readings import Task
    from tracekit.capture.stacks.programs import Programs
    from tracekit.capture.stacks.samples import Sample, User
    from tracekit.dumped import State

SAMPLED_S = 0.2
"""How long threads are sampled that run."""
_PAUSE_S = 0.01
_NAMES_S = 2.0
_LOADING_S = 10.0
_STATES: tuple[State, ...] = ("running", "runnable", "blocked")


def traced(kernel: Kernel) -> Dump:
    """
    Return what the target of *kernel* does.

    Raises:
        MachineError: its programs cannot be attached.
    """
    kernel.attach()
    kernel.load_stacks()
    kernel.mark()
    marked_ns = time.monotonic_ns()
    with ExitStack() as stack:
        look = stack.enter_context(closing(_Look(kernel, _programs(kernel))))
        return look.dump(marked_ns)


def _programs(kernel: Kernel) -> Programs:
    """Return the programs that walk, once they are attached."""
    deadline = time.monotonic() + _LOADING_S
    while time.monotonic() < deadline and not kernel.missing:
        found = kernel.take_stacks()
        if found:
            return found
        time.sleep(_PAUSE_S / 2)
    raise MachineError("; ".join(kernel.missing) or "the programs that walk stacks take too long to load")


class _Seen(NamedTuple):
    """A sample with its words."""

    sample: Sample
    user: User | None
    python: int

    @property
    def worth(self) -> tuple[bool, bool, bool]:
        """What makes one better than another: it has frames, it is of a thread that runs, it has all frames."""
        whole = self.user is not None and self.user.native_end == layout.NATIVE_WHOLE
        return self.user is not None, self.sample.kind == layout.STACK_CPU, whole


class _Look:
    def __init__(self, kernel: Kernel, programs: Programs) -> None:
        self._kernel, self._programs = kernel, programs
        self._texts = Texts()
        self._texts.prepare()
        self._memories = Memories(programs, self._texts.symbols)
        self._walk = Walk(self._memories.layouts, self._texts.symbols, MOST_PYTHON, MOST_NATIVE)
        self._samples = Samples(programs.records, programs.forget)
        self._seen: dict[int, _Seen] = {}
        self._frames: dict[int, tuple[str, ...]] = {}
        self._pointers: dict[int, int] = {}

    def dump(self, marked_ns: int) -> Dump:
        """Return what all threads do; states that began before *marked_ns* may have begun at any time."""
        tasks = self._look_at_sleepers()
        restless = tasks.keys() - self._frames.keys()
        if restless:
            self._sample(restless, {tasks[pid].tgid for pid in restless})
            latest = {task.pid: task for task in self._kernel.report()}
            tasks = {pid: latest.get(pid, task) if pid in restless else task for pid, task in tasks.items()}
        now = time.monotonic_ns()
        tgids = list(dict.fromkeys(task.tgid for task in tasks.values()))
        slept = slept_ns((task.pid, task.tgid) for task in tasks.values() if task.since_ns <= marked_ns)
        with closing(OpenSpans(tgids)) as spans:
            threads = [self._thread(task, now, slept.get(task.pid), marked_ns, spans) for task in tasks.values()]
        groups: dict[int, list[Thread]] = {}
        for task, thread in zip(tasks.values(), threads, strict=True):
            groups.setdefault(task.tgid, []).append(thread)
        processes = tuple(self._process(tgid, group) for tgid, group in groups.items())
        return Dump(processes, (*self._texts.missing, *problems(self._walk, tgids)))

    def _look_at_sleepers(self) -> dict[int, Task]:
        """Take the stacks of threads that stand still, and return what all did at that moment."""
        stamps = stamps_of((task.pid, task.tgid) for task in self._kernel.report())
        before = {task.pid: task for task in self._kernel.report()}
        rows = list(self._programs.sleepers())
        self._pointers = {row[4]: row[3] for row in rows}
        asleep = {row[4] for row in rows if not row[6]}
        wanted = {pid: stamp for pid, stamp in stamps.items() if pid in asleep}
        found = self._walk.stacks(lambda: sleepers(self._programs.sleepers()), wanted, time.monotonic() + STILL_S)
        for sleeper in sleepers(rows):  # of a process that may not be looked at there is the kernel's side
            if sleeper.pid not in found and not self._walk.process(sleeper.tgid):
                found[sleeper.pid] = Stood(sleeper, (), (), whole=True)
        for pid, stood in found.items():
            if pid in before and before[pid].state:
                self._frames[pid] = self._texts.standing(stood, _NAMES_S)
        return before

    def _sample(self, pids: Collection[int], tgids: set[int]) -> None:
        """Take samples of threads that run, or did not stand still."""
        self._memories.learn(tgids, set())
        deadline = time.monotonic() + SAMPLED_S
        while time.monotonic() < deadline:
            time.sleep(_PAUSE_S)
            self._take(pids)
        for pid, seen in self._seen.items():
            frames = self._named(seen)
            if frames:
                self._frames[pid] = frames

    def _take(self, pids: Collection[int]) -> None:
        found = [sample for sample in self._samples.drain() if sample.pid in pids]
        self._memories.learn(self._samples.wanted, self._samples.outgrown)
        users = self._samples.users
        self._texts.learn({each.user: users[each.user] for each in found if each.user in users}, self._memories)
        for sample in found:
            seen = _Seen(sample, users.get(sample.user), self._texts.python_of(sample.user))
            if sample.pid not in self._seen or seen.worth >= self._seen[sample.pid].worth:
                self._seen[sample.pid] = seen

    def _named(self, seen: _Seen) -> tuple[str, ...]:
        stack = seen.sample.user, seen.python, seen.sample.kernel
        words = self._samples.kernels.get(seen.sample.kernel, ())
        deadline = time.monotonic() + _NAMES_S
        while (frames := self._texts.frames(stack, seen.user, words, self._memories)) is None:
            if time.monotonic() > deadline:
                return ()
            self._texts.settle(_NAMES_S)
            time.sleep(_PAUSE_S)
        return frames

    def _thread(self, task: Task, now: int, slept: int | None, marked_ns: int, spans: OpenSpans) -> Thread:
        state = _STATES[task.state]
        exactly = state != "running" and task.since_ns > marked_ns
        since = None if state == "running" else max(0, now - task.since_ns)
        if state == "blocked" and not exactly:
            since = max(since or 0, slept or 0)
        reason, call = "", ""
        if state != "running":
            reason = wire.REASONS[task.reason]
            call = syscalls.call_name(task.nr) if task.nr != wire.NR_NONE else ""
        frames, name = self._frames.get(task.pid, ()), proc.name(task.tgid, task.pid)
        span = spans.name(task.tgid, self._pointers.get(task.pid, 0))
        sampled = bool(frames) and task.pid in self._seen
        return Thread(task.pid, name, state, reason, call, since, exactly, span, frames, sampled)

    def _process(self, tgid: int, threads: list[Thread]) -> Process:
        shown = tuple(sorted(threads, key=lambda thread: thread.pid))
        return Process(tgid, proc.command(tgid), version(self._walk, tgid), shown)

    def close(self) -> None:
        """End whoever makes tables and names."""
        self._memories.close()
        self._texts.close()
