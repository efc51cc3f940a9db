"""Lives of the target's processes, from the records of the kernel: rows, and the latencies of spawning."""

from __future__ import annotations

import signal
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture import wire
from tracekit.capture.readings import Slots
from tracekit.records import Kind, Process, Series, labels_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tracekit.capture.readings import LifeRecord, Task

Identity = tuple[int, int]
"""tgid and start: ids are reused, starts are not."""


class Tally:
    """A histogram that the collector itself fills, in the layout of all others."""

    def __init__(self) -> None:
        self._counts: defaultdict[int, int] = defaultdict(int)
        self._total = 0
        self._low, self._high = 0, 0

    def add(self, value: int) -> None:
        """Count one event of *value* ns."""
        self._counts[slot_of(value)] += 1
        self._total += value
        self._low = min(self._low, value) if self._high else value
        self._high = max(self._high, value)

    def slots(self) -> Slots:
        """Return what was added."""
        slots = sorted(self._counts)
        return Slots(slots, [self._counts[slot] for slot in slots], self._total, self._low, self._high)


def slot_of(value: int) -> int:
    """Return the slot of *value* >= 0: tracekit.histogram's, without numpy."""
    octave = (value >> (wire.STEP_BITS + 1)).bit_length()
    return min((octave << wire.STEP_BITS) + (value >> octave), wire.SLOTS - 1)


class _About(NamedTuple):
    """What a series is about; the span by its small id, whose words may be known only later."""

    metric: str
    role: str
    born_in: int
    how: str = ""


@dataclass
class _Life:
    process: Process
    counted: bool = False
    """Its spawn latencies are in the histograms."""
    born_in: int = wire.SPAN_NONE
    """Small id of the kind of span in which it was forked."""
    marked_ns: int = 0
    """When it said itself that it was ready."""
    ready_at: int = 0
    """It was ready before any exec: counted at the next tick, unless an exec comes first."""


@dataclass
class Lives:
    """
    The living processes of the target, and what became known of any since the last `take`.

    Args:
        role: comm → role.
        span: small id of a kind of spans → its labels.
    """

    role: Callable[[str], str]
    span: Callable[[int], Mapping[str, str]]
    _living: dict[Identity, _Life] = field(default_factory=dict)
    _roles: dict[int, str] = field(default_factory=dict)
    _gone: list[int] = field(default_factory=list)
    """Their roles are still asked for until the interval is over."""
    _changed: dict[Identity, _Life] = field(default_factory=dict)
    _added: defaultdict[_About, Tally] = field(default_factory=lambda: defaultdict(Tally))
    _whole: defaultdict[_About, Tally] = field(default_factory=lambda: defaultdict(Tally))
    _counters: defaultdict[_About, int] = field(default_factory=lambda: defaultdict(int))

    def found(self, tasks: Iterable[Task]) -> None:
        """Note the processes that exist at the attach."""
        for task in tasks:
            identity = task.tgid, task.start_ns
            if identity not in self._living:
                process = Process(task.tgid, task.ppid, self.role(task.comm), "found", task.start_ns)
                self._living[identity] = self._changed[identity] = _Life(process, counted=True)
                self._roles[task.tgid] = process.role

    def record(self, new: LifeRecord) -> None:
        """Take one record of the kernel."""
        identity = new.tgid, new.start_ns
        life = self._living.get(identity)
        if life is None:
            process = Process(new.tgid, new.ppid, "", "found" if new.found else "spawned", new.start_ns)
            life = self._living[identity] = _Life(process, counted=bool(new.found), born_in=new.span)
        ppid = life.process.ppid if new.what == wire.LIFE_EXIT else new.ppid
        process = replace(life.process, ppid=ppid, role=self.role(new.comm))
        if not new.found:
            ready_ns = life.marked_ns or new.ready_ns
            process = replace(process, first_run_ns=new.first_run_ns, exec_ns=new.exec_ns, ready_ns=ready_ns)
        if new.what == wire.LIFE_EXIT:
            process = _ended(process, new.at_ns, new.exit_code, bool(new.flags & wire.LIFE_OOM))
        life.process = process
        self._changed[identity] = life
        self._roles[new.tgid] = process.role
        if new.what == wire.LIFE_READY and not new.exec_ns:
            life.ready_at = new.at_ns
        elif new.what != wire.LIFE_FORK:
            self._count(life)
        if new.what == wire.LIFE_EXIT:
            self._count_end(life)
            del self._living[identity]
            self._gone.append(new.tgid)

    def mark_ready(self, tgid: int, at_ns: int) -> None:
        """Take a process's own word for when it was ready, instead of its first blocking wait."""
        for life in self._living.values():
            process = life.process
            if process.tgid == tgid and process.seen == "spawned" and at_ns >= process.start_ns:
                life.marked_ns = at_ns
                life.process = replace(process, ready_ns=at_ns)
                self._changed[tgid, process.start_ns] = life

    def settle(self, before_ns: int) -> None:
        """Count the processes that were ready before *before_ns* and did not exec since: forks that stay forks."""
        for life in self._living.values():
            if not life.counted and 0 < life.ready_at < before_ns:
                self._count(life)

    def finish(self, tasks: Iterable[Task]) -> None:
        """Count what lives on; *tasks*, the threads of the target at the end, tell its names."""
        for task in tasks:
            identity, role = (task.tgid, task.start_ns), self.role(task.comm)
            life = self._living.get(identity)
            if life and life.process.role != role:
                life.process = replace(life.process, role=role)
                self._changed[identity] = life
        for life in self._living.values():
            self._count(life)

    def rename(self, tgid: int, comm: str) -> None:
        """Note what a process is called, which no record of its life has told yet."""
        self._roles[tgid] = self.role(comm)

    def role_of(self, tgid: int) -> str:
        """Return the role of a process that lives, or did in this interval; "" if there is none of that id."""
        return self._roles.get(tgid, "")

    @property
    def tgids(self) -> list[int]:
        """The process ids that live, in order of appearance."""
        return [tgid for tgid, _ in self._living]

    def take(self) -> tuple[list[Process], list[tuple[Series, Slots]], list[tuple[Series, float]]]:
        """Return changed processes, additions to histograms, increases of counters; and forget them."""
        processes = [replace(life.process, span=self._span(life)) for life in self._changed.values()]
        histograms = [(self._series(about, "histogram", "ns"), tally.slots()) for about, tally in self._added.items()]
        counters = [(self._series(about, "counter", "count"), float(n)) for about, n in self._counters.items()]
        alive = {tgid for tgid, _ in self._living}
        for tgid in self._gone:
            if tgid not in alive:  # ids are used again
                self._roles.pop(tgid, None)
        self._gone.clear()
        self._changed.clear()
        self._added.clear()
        self._counters.clear()
        return processes, histograms, counters

    def _span(self, life: _Life) -> str:
        return self.span(life.born_in).get("span", "")

    def whole(self) -> Iterator[tuple[Series, Slots]]:
        """Yield each histogram since the start."""
        for about, tally in self._whole.items():
            yield self._series(about, "histogram", "ns"), tally.slots()

    def _count(self, life: _Life) -> None:
        if life.counted:
            return
        life.counted = True
        process = life.process
        self._counters[_About("spawn.count", process.role, life.born_in)] += 1
        for metric, end in (
            ("spawn.first_run", process.first_run_ns),
            ("spawn.exec", process.exec_ns),
            ("spawn.ready", process.ready_ns),
        ):
            if end:
                self._add(metric, life, end)

    def _count_end(self, life: _Life) -> None:
        process = life.process
        if process.seen == "found":
            return
        self._add("process.lifetime", life, process.exit_ns)
        how = _failure(process)
        if how:
            self._counters[_About("spawn.failed", process.role, life.born_in, how)] += 1

    def _series(self, about: _About, kind: Kind, unit: str) -> Series:
        labels = {**self.span(about.born_in), "role": about.role} | ({"how": about.how} if about.how else {})
        return Series(about.metric, labels_of(labels), kind, unit)

    def _add(self, metric: str, life: _Life, end_ns: int) -> None:
        about = _About(metric, life.process.role, life.born_in)
        value = max(0, end_ns - life.process.start_ns)
        self._added[about].add(value)
        self._whole[about].add(value)


def _ended(process: Process, at: int, status: int, oom: bool) -> Process:
    """Read a wait(2) status as the kernel keeps it."""
    code, number, core = status >> 8 & 0xFF, status & 0x7F, bool(status & 0x80)
    return replace(process, exit_ns=at, exit_code=code, signal=number, core=core, oom=oom)


def _failure(process: Process) -> str:
    if process.oom:
        return "OOM kill"
    if process.signal:
        return signal_name(process.signal)
    return f"exit {process.exit_code}" if process.exit_code else ""


def signal_name(number: int) -> str:
    """Return `SIGKILL` for 9; real-time signals have numbers only."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
