"""Frozen values that cross rooms. Integers in SI base units; kernel words for ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["histogram", "counter", "gauge", "stacks"]
Labels = tuple[tuple[str, str], ...]
"""Label pairs, sorted by name, so that equal labels are equal values."""


def labels_of(mapping: Mapping[str, str]) -> Labels:
    """Return *mapping* as sorted pairs."""
    return tuple(sorted(mapping.items()))


@dataclass(frozen=True)
class Series:
    """
    A metric with labels.

    Attributes:
        metric: `runq.wait`, `blocked`, `syscall.errors`, `host.cpu`, ...
        labels: sorted pairs.
        kind: histogram; counter (each interval holds its increase); gauge (a sample); stacks (samples of them).
        unit: `ns`, `bytes`, `share` (0..1), `count`, `tasks`.
    """

    metric: str
    labels: Labels
    kind: Kind
    unit: str

    def label(self, name: str) -> str:
        """Return the value of label *name*, "" if the series has none."""
        return dict(self.labels).get(name, "")


@dataclass(frozen=True)
class Interval:
    """One tick of the session: [start_ns, end_ns) of CLOCK_MONOTONIC."""

    start_ns: int
    end_ns: int

    @property
    def duration_ns(self) -> int:
        """Length in ns."""
        return self.end_ns - self.start_ns


@dataclass(frozen=True)
class Clocks:
    """The same moment on three clocks, in ns, so that times can be placed anywhere."""

    monotonic_ns: int
    realtime_ns: int
    boottime_ns: int


@dataclass(frozen=True)
class Host:
    """The machine a recording was made on."""

    hostname: str
    kernel: str
    machine: str
    cpus: int
    cpu_model: str
    memory_bytes: int
    boot_id: str
    tracekit: str
    tiers: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    """What could not be measured, each one line with its reason."""


@dataclass(frozen=True)
class Check:
    """
    One thing that tracekit can make use of, as tried on this machine.

    Attributes:
        name: `task storage`, `sched_switch`, ...
        tier: `attach`, which cannot do without it; `kernel`, `uprobes` and `extras`, which are worth having.
        state: `ok`; `missing`; `absent`: not here, and tracekit goes without nothing (no GPU to measure).
        fact: what was seen, or `not tried` and for the lack of what.
        costs: what a user goes without if it is missing.
        fix: the line to type, or what to ask for; "" if nothing can be done.
    """

    name: str
    tier: Literal["attach", "kernel", "uprobes", "extras"]
    state: Literal["ok", "missing", "absent"]
    fact: str
    costs: str
    fix: str = ""


@dataclass(frozen=True)
class Target:
    """What was traced: `how` is `attach` or `run`; empty fields were not used."""

    how: str
    pids: tuple[int, ...] = ()
    comm: str = ""
    cgroup: str = ""
    everything: bool = False
    command: tuple[str, ...] = ()
    children: bool = True


@dataclass(frozen=True)
class Process:
    """
    One process of the target. Times are ns of CLOCK_MONOTONIC; 0: did not happen, or before the attach.

    Attributes:
        tgid: process id; ppid: its parent's.
        start_ns: fork; with tgid it is the identity, as ids are reused.
        first_run_ns: first time on a CPU.
        exec_ns: the first exec; ready_ns: first blocking wait after the last exec, or the fork.
        exit_ns: when the last thread had gone.
        exit_code: 0..255; signal: number that killed it, 0: none.
        seen: `spawned` (forked while traced) or `found` (existed at the attach).
        span: the span of the parent in which it was forked, "" outside of one.
    """

    tgid: int
    ppid: int
    role: str
    seen: Literal["spawned", "found"]
    start_ns: int
    first_run_ns: int = 0
    exec_ns: int = 0
    ready_ns: int = 0
    exit_ns: int = 0
    exit_code: int = 0
    signal: int = 0
    core: bool = False
    oom: bool = False
    span: str = ""


@dataclass(frozen=True)
class InFlight:
    """A wait or call that had not ended when the recording did: no histogram holds it."""

    pid: int
    tgid: int
    role: str
    thread: str
    state: str
    """`running`, `runnable` or `blocked`."""
    reason: str
    syscall: str
    age_ns: int
    span: str = ""
    """The span it is part of, "" outside of one."""


@dataclass(frozen=True)
class OpenCalls:
    """Calls of a database that had not been answered when the recording ended; peer and operation "": not known."""

    role: str
    system: str
    peer: str
    operation: str
    calls: int
    age_ns: int
    """Of the oldest."""


@dataclass(frozen=True)
class Loss:
    """Events that were seen but not recorded, by reason."""

    reason: str
    count: int


@dataclass(frozen=True)
class StackWeight:
    """What one stack holds: nanoseconds (or samples) and events."""

    weight: int
    count: int


@dataclass(frozen=True)
class HistogramDelta:
    """
    What one interval added to a histogram series, sparse.

    Attributes:
        series: id given by the writer.
        slots: ascending slot numbers with a count; counts: as long, each > 0.
        total: sum of the values.
        low, high: smallest and largest value; 0: not known better than by the slots.
    """

    series: int
    slots: list[int]
    counts: list[int]
    total: int
    low: int
    high: int


WAITS = ("runq", "disk", "network", "lock", "poll", "pipe", "child", "fault", "stopped", "other", "db")
"""
What a span can wait for: a CPU, then the reasons of `offcpu`, then the answer of a database, which is then none of
the others. The order of `SpanParts.waits`.
"""
BUCKET_SHIFT = 4
"""A latency bucket is a histogram slot >> 4: eight to a power of two."""


@dataclass(frozen=True)
class SpanParts:
    """
    Where the time of the spans of one latency bucket went: sums over the spans that one interval saw end.

    The same is kept of calls of databases: then `db` is from the request until the answer arrived, `runq` from then
    until its thread had a CPU, and the rest the work of the client.

    Attributes:
        series: id of their `span.latency` or `db.latency`.
        bucket: slot of the latency >> BUCKET_SHIFT.
        latency_ns: sum of the latencies, from the probe.
        awaited_ns: as much of it is of spans that were suspended (async): their rest is not all on-CPU.
        waits: ns by WAITS, as the kernel saw it, of spans that were not suspended.
        async_waits: the same of those that were.
        sampled_ns: on-CPU time of suspended spans, from samples.
        unseen_ns: latency of spans that the kernel did not see whole: begun before the attach, or lost.
        errors: system calls that failed inside.
    """

    series: int
    bucket: int
    latency_ns: int
    awaited_ns: int
    waits: tuple[int, ...]
    async_waits: tuple[int, ...]
    sampled_ns: int
    unseen_ns: int
    errors: int


@dataclass(frozen=True)
class Exemplar:
    """
    One of the slowest spans of an interval.

    Attributes:
        series: id of its `span.latency`.
        start_ns, duration_ns: CLOCK_MONOTONIC, ns.
        awaited: it was suspended; failed: it ended by an exception.
        waits: ns by WAITS; sampled_ns: on-CPU time by samples, if awaited.
        seen: the kernel saw it whole; else only the latency is true.
    """

    series: int
    tgid: int
    pid: int
    start_ns: int
    duration_ns: int
    awaited: bool
    failed: bool
    seen: bool
    waits: tuple[int, ...]
    sampled_ns: int
    errors: int


@dataclass(frozen=True)
class Tick:
    """All that one interval adds to a recording. Ids come from the writer's dictionaries."""

    interval: Interval
    histograms: list[HistogramDelta] = field(default_factory=list)
    values: list[tuple[int, float]] = field(default_factory=list)
    """(series, increase or sample)."""
    stacks: list[tuple[int, int, int]] = field(default_factory=list)
    """(stack, weight, count)."""
    processes: list[Process] = field(default_factory=list)
    """New or changed ones; (tgid, start_ns) is the identity."""
    losses: list[Loss] = field(default_factory=list)
    parts: list[SpanParts] = field(default_factory=list)
    exemplars: list[Exemplar] = field(default_factory=list)
    samples: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    """(series of kind stacks, latency bucket or 0, stack, weight, count)."""
    partial: bool = False
    """The interval is known to lack data (collector stopped); what was shed is told by series `shed`."""
