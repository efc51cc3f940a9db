"""What is read of the kernel: the rows and records of bpf/abi/wire.h as tuples, and what was added to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tracekit.capture import wire


class Key(NamedTuple):
    """struct key: what a row is about. Names are ids until `Kernel.name` translates them."""

    role: int
    thread: int
    nr: int
    err: int
    kind: int
    reason: int
    span: int = 0


class Slots(NamedTuple):
    """Part of a histogram: ascending slots, their counts, sum; low and high are 0 where only the slots tell."""

    slots: list[int]
    counts: list[int]
    total: int
    low: int
    high: int


class Account(NamedTuple):
    """struct account, or what was added to one."""

    ns: int
    events: int
    queued_ns: int
    queued: int
    involuntary: int
    migrations: int


class Parts(NamedTuple):
    """struct parts, or what was added to one: where the time of spans went that have ended."""

    waits: tuple[int, ...]
    """ns by reason (wire.REASONS), the wait for a CPU in the place of `preempted`."""
    sampled_ns: int
    errors: int
    unseen_ns: int
    latency_ns: int
    ended: int
    """How many."""


class SlowSpan(NamedTuple):
    """struct span_record: one of the slowest spans."""

    start_ns: int
    duration_ns: int
    waits: tuple[int, ...]
    sampled_ns: int
    errors: int
    tgid: int
    pid: int
    role: int
    span: int
    awaited: bool
    flags: int


class LifeRecord(NamedTuple):
    """struct life_record: a process was forked, is ready, has gone, or has a board."""

    at_ns: int
    start_ns: int
    first_run_ns: int
    exec_ns: int
    ready_ns: int
    tgid: int
    ppid: int
    exit_code: int
    span: int
    what: int
    flags: int
    found: int
    unused: int
    comm: str


class Task(NamedTuple):
    """struct task_record: a traced task and what it does."""

    since_ns: int
    start_ns: int
    waited_ns: int
    """The wait it has come out of, if it has not run since; `reason` and `nr` say what for."""
    pid: int
    tgid: int
    ppid: int
    role: int
    thread: int
    span: int
    nr: int
    state: int
    reason: int
    comm: str


@dataclass(frozen=True)
class Totals:
    """Sums over the CPUs since the start."""

    switches: int
    restarts: int
    samples: int
    losses: tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """Run time of one program while statistics were on."""

    run_time_ns: int
    runs: int
    misses: int


def parts_of(fields: tuple[int, ...]) -> Parts:
    """Return the fields of struct parts as one."""
    return Parts(fields[: wire.WAITS], *fields[wire.WAITS :])


def comm_text(raw: bytes) -> str:
    """Decode a name that a program gave itself: any bytes but NUL."""
    return raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
