"""A dump by BPF: the kernel tells what each thread does, where it is, and samples those that run."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture import syscalls, wire
from tracekit.capture.dump import proc
from tracekit.capture.dump.asleep import slept_ns
from tracekit.capture.dump.spans import OpenSpans
from tracekit.capture.dump.untraced import MOST_NATIVE, MOST_PYTHON, patience_s, problems, version
from tracekit.capture.stacks import layout
from tracekit.capture.stacks.memories import Memories
from tracekit.capture.stacks.samples import Samples
from tracekit.capture.stacks.sleepers import Stood, Walk, sleepers, stamps_of
from tracekit.capture.stacks.texts import Texts
from tracekit.dumped import Dump, Process, Thread
from tracekit.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tracekit.capture.kernel import Kernel
    from tracekit.capture.readings import Task
    from tracekit.capture.stacks.programs import Programs
    from tracekit.capture.stacks.samples import Sample, User
    from tracekit.dumped import State

_SAMPLED_S, _MOST_SAMPLED_S = 0.2, 1.0
"""How long threads are sampled that run; the longest, where one has not come on a CPU by then."""
_PAUSE_S = 0.01
_NAMES_S = 10.0
_LOADING_S = 10.0
_STATES: tuple[State, ...] = ("running", "runnable", "blocked")


def traced(kernel: Kernel, attached: Callable[[], None]) -> Dump:
    """
    Return what the target of *kernel* does; *attached* is called before it is looked at.

    Raises:
        MachineError: its programs cannot be attached.
    """
    kernel.attach()
    attached()
    lacks = kernel.missing
    kernel.load_stacks()
    kernel.mark()
    marked_ns = time.monotonic_ns()
    with ExitStack() as stack:
        look = stack.enter_context(closing(_Look(kernel, _programs(kernel, lacks), marked_ns)))
        found = look.dump()
    return replace(found, missing=(*lacks, *found.missing))


def _programs(kernel: Kernel, lacks: list[str]) -> Programs:
    """Return the programs that walk, once they are attached; *lacks*: what the kernel could do without before."""
    deadline = time.monotonic() + _LOADING_S
    while time.monotonic() < deadline and kernel.missing == lacks:
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


class _Moment(NamedTuple):
    """What a thread did at a time of the monotonic clock; `slept_ns`: how long the scheduler says it had not run."""

    task: Task
    at_ns: int
    slept_ns: int


class _Look:
    def __init__(self, kernel: Kernel, programs: Programs, marked_ns: int) -> None:
        self._kernel, self._programs, self._marked_ns = kernel, programs, marked_ns
        self._texts = Texts()
        self._texts.prepare()
        self._memories = Memories(programs, self._texts.symbols, at_once=True)
        self._walk = Walk(self._memories.layouts, self._texts.symbols, MOST_PYTHON, MOST_NATIVE)
        self._samples = Samples(programs.records, programs.forget)
        self._seen: dict[int, _Seen] = {}
        self._frames: dict[int, tuple[str, ...]] = {}
        self._pointers: dict[int, int] = {}

    def dump(self) -> Dump:
        """Return what all threads do: state and frames of each are of one moment."""
        moments = self._look_at_sleepers()
        restless = moments.keys() - self._frames.keys()
        if restless:
            self._sample(restless, {moments[pid].task.tgid for pid in restless})
            latest = self._look_at_sleepers(restless)
            moments = {pid: latest.get(pid, moment) for pid, moment in moments.items()}
            self._show_samples(restless)
        tgids = list(dict.fromkeys(moment.task.tgid for moment in moments.values()))
        with closing(OpenSpans(tgids)) as spans:
            threads = [self._thread(moment, spans) for moment in moments.values()]
        groups: dict[int, list[Thread]] = {}
        for moment, thread in zip(moments.values(), threads, strict=True):
            groups.setdefault(moment.task.tgid, []).append(thread)
        processes = tuple(self._process(tgid, group) for tgid, group in groups.items())
        return Dump(processes, (*self._texts.missing, *problems(self._walk, tgids)))

    def _look_at_sleepers(self, pids: Collection[int] = ()) -> dict[int, _Moment]:
        """
        Take the stacks of threads that stand still, and return what all did at that moment; of some *pids*, if any.

        A thread that has a stack did not run since before its state was read.
        """
        tasks = self._tasks(pids)
        stamps = stamps_of((task.pid, task.tgid) for task in tasks)
        moments = self._moments(self._tasks(pids))
        rows = [row for row in self._programs.sleepers() if not pids or row[4] in pids]
        self._pointers |= {row[4]: row[3] for row in rows}
        asleep = {row[4] for row in rows if not row[6]}
        wanted = {pid: stamp for pid, stamp in stamps.items() if pid in asleep}
        deadline = time.monotonic() + patience_s(len(wanted))
        found = self._walk.stacks(lambda: sleepers(self._programs.sleepers()), wanted, deadline)
        for sleeper in sleepers(rows):  # of a process that may not be looked at there is the kernel's side
            if sleeper.pid not in found and not self._walk.process(sleeper.tgid):
                found[sleeper.pid] = Stood(sleeper, (), (), whole=True)
        for pid, stood in found.items():
            if pid in moments and moments[pid].task.state:
                self._frames[pid] = self._texts.standing(stood, _NAMES_S)
        return moments

    def _tasks(self, pids: Collection[int]) -> list[Task]:
        return [task for task in self._kernel.report() if not pids or task.pid in pids]

    def _moments(self, tasks: list[Task]) -> dict[int, _Moment]:
        now = time.monotonic_ns()
        slept = slept_ns((task.pid, task.tgid) for task in tasks if task.since_ns <= self._marked_ns)
        return {task.pid: _Moment(task, now, slept.get(task.pid, 0)) for task in tasks}

    def _show_samples(self, pids: Collection[int]) -> None:
        """Give threads that never stood still the frames of a sample, which has a state of its own."""
        self._seen = {pid: seen for pid, seen in self._seen.items() if pid in pids and pid not in self._frames}
        for pid, seen in list(self._seen.items()):
            frames = self._named(seen)
            if frames:
                self._frames[pid] = frames
            else:
                del self._seen[pid]

    def _sample(self, pids: Collection[int], tgids: set[int]) -> None:
        """Take samples of threads that run, or did not stand still."""
        self._memories.learn(tgids, set())
        began = time.monotonic()
        while (passed := time.monotonic() - began) < _MOST_SAMPLED_S:
            if passed > _SAMPLED_S and all(pid in self._seen and self._seen[pid].user for pid in pids):
                break
            time.sleep(_PAUSE_S)
            self._take(pids)

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

    def _thread(self, moment: _Moment, spans: OpenSpans) -> Thread:
        task, seen = moment.task, self._seen.get(moment.task.pid)
        frames, name = self._frames.get(task.pid, ()), proc.name(task.tgid, task.pid)
        span = spans.name(task.tgid, self._pointers.get(task.pid, 0))
        if seen:
            return _sampled(seen.sample, name, span, frames)
        state = _STATES[task.state]
        if state == "running":
            return Thread(task.pid, name, state, span=span, frames=frames)
        exactly = task.since_ns > self._marked_ns
        since = max(0, moment.at_ns - task.since_ns)
        if state == "blocked" and not exactly:
            since = max(since, moment.slept_ns)
        return Thread(task.pid, name, state, *_wait(task.reason, task.nr), since, exactly, span, frames)

    def _process(self, tgid: int, threads: list[Thread]) -> Process:
        shown = tuple(sorted(threads, key=lambda thread: thread.pid))
        return Process(tgid, proc.command(tgid), version(self._walk, tgid), shown)

    def close(self) -> None:
        """End whoever makes tables and names."""
        self._memories.close()
        self._texts.close()


def _sampled(sample: Sample, name: str, span: str, frames: tuple[str, ...]) -> Thread:
    """Return a thread as it was when a sample was taken of it: as it ran, or as it left the CPU to wait."""
    if sample.kind != layout.STACK_WAIT:
        return Thread(sample.pid, name, "running", span=span, frames=frames, sampled=True)
    reason, call = _wait(sample.reason, sample.nr)
    if not sample.weight:  # it had only begun: why and how long was not known yet
        return Thread(sample.pid, name, "blocked", "", call, span=span, frames=frames, sampled=True)
    return Thread(sample.pid, name, "blocked", reason, call, sample.weight, True, span, frames, sampled=True)


def _wait(reason: int, number: int) -> tuple[str, str]:
    """Return what for a thread waits, and in which system call."""
    return wire.REASONS[reason], syscalls.call_name(number) if number != wire.NR_NONE else ""
