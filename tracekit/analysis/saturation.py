"""Is a resource saturated: does work wait for it? By waiting, not by how busy it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tracekit.analysis.summary import Summary
    from tracekit.histogram import Histogram

Level = Literal["unknown", "fine", "pressure", "saturated"]

SATURATED = 0.10
"""Share of time lost to waiting from which work visibly suffers: every tenth second. Our choice."""
PRESSURE = 0.02
"""Share from which waiting is worth a word. Our choice."""


@dataclass(frozen=True)
class Queue:
    """Run-queue length of a CPU: tasks that wait beside the one that runs."""

    cpu: str
    mean: float
    samples: int


@dataclass(frozen=True, eq=False)
class Cpu:
    """
    Whether the target's threads waited for a CPU.

    Attributes:
        wait_share: run queue / (run queue + on-CPU); None: not measured.
        waits: the waits themselves, ns.
        length: run-queue length over all CPUs, tasks; longest: of the CPU with the longest.
        throttled_ns: time the cgroup's limit held threads back; periods: how often.
        throttled_share: throttled / (throttled + on-CPU).
        stalled: share of the recording in which some task of the host waited (PSI).
    """

    level: Level
    wait_share: float | None
    waits: Histogram
    length: Histogram
    longest: Queue | None
    throttled_ns: int | None
    throttled_share: float | None
    periods: int | None
    stalled: float | None


@dataclass(frozen=True)
class Pressure:
    """Pressure stall information of the host: shares of the recording in which some or all tasks stalled."""

    resource: str
    level: Level
    some: float | None
    full: float | None


def level_of(*shares: float | None) -> Level:
    """Return the level of the largest known share."""
    known = [share for share in shares if share is not None]
    if not known:
        return "unknown"
    worst = max(known)
    return "saturated" if worst >= SATURATED else "pressure" if worst >= PRESSURE else "fine"


def cpu(summary: Summary) -> Cpu:
    """Judge the CPU by the target's own waits; by the host's pressure only where those were not measured."""
    waits, ran = summary.histogram("runq.wait"), summary.histogram("oncpu").total
    throttled = summary.counter("throttle.time")
    wait_share = _part(waits.total, ran) if waits.count or ran else None
    throttled_share = None if throttled is None else _part(throttled, ran)
    stalled = summary.share(summary.counter("psi", resource="cpu", kind="some"))
    queues = _queues(summary)
    own = level_of(wait_share, throttled_share)
    return Cpu(
        level=level_of(stalled) if own == "unknown" else own,
        wait_share=wait_share,
        waits=waits,
        length=summary.histogram("runq.length"),
        longest=queues[0] if queues else None,
        throttled_ns=throttled,
        throttled_share=throttled_share,
        periods=summary.counter("throttle.periods"),
        stalled=stalled,
    )


def pressure(summary: Summary, resource: str) -> Pressure:
    """Judge `memory` or `io` by the host's pressure stall information."""
    some, full = (summary.share(summary.counter("psi", resource=resource, kind=kind)) for kind in ("some", "full"))
    return Pressure(resource, level_of(some, full), some, full)


def _queues(summary: Summary) -> list[Queue]:
    parts = [(s.label("cpu"), part) for s, part in summary.histograms.items() if s.metric == "runq.length"]
    queues = [Queue(name, part.mean, part.count) for name, part in parts if part.count]
    return sorted(queues, key=lambda queue: -queue.mean)


def _part(share: int, rest: int) -> float:
    return share / (share + rest) if share + rest else 0.0
