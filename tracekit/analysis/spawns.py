"""How long did new processes take to run, to exec and to be ready, and how did they fail?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracekit.analysis.summary import Summary
    from tracekit.histogram import Histogram


@dataclass(frozen=True, eq=False)
class Spawns:
    """
    The new processes of a recording.

    Attributes:
        count: forked while traced.
        stages: (words, latencies from the fork on), in order of time; only those with events.
        failed: (how, count), most first.
        oom, cores: processes killed for memory; that dumped core.
    """

    count: int
    stages: list[tuple[str, Histogram]]
    failed: list[tuple[str, int]]
    oom: int
    cores: int


_STAGES = {
    "spawn.first_run": "to the first run",
    "spawn.exec": "to the exec",
    "spawn.ready": "to ready",
    "process.lifetime": "lifetime",
}


def spawns(summary: Summary) -> Spawns | None:
    """Return what is known of new processes, None if they were not measured."""
    spawned = sum(1 for process in summary.processes if process.seen == "spawned")
    counted = summary.counter("spawn.count")
    if not spawned and counted is None and "sched" not in summary.tiers:
        return None
    stages = [(words, summary.histogram(metric)) for metric, words in _STAGES.items()]
    return Spawns(
        count=max(spawned, counted or 0),  # the counter waits until a process is ready; each is a lower bound
        stages=[(words, part) for words, part in stages if part.count],
        failed=_failed(summary),
        oom=sum(process.oom for process in summary.processes),
        cores=sum(process.core for process in summary.processes),
    )


def _failed(summary: Summary) -> list[tuple[str, int]]:
    found = [(how, summary.counter("spawn.failed", how=how) or 0) for how in summary.labels("spawn.failed", "how")]
    return sorted([row for row in found if row[1]], key=lambda row: (-row[1], row[0]))
