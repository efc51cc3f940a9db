"""Why was an objective missed: what the slow ones were made of, what was different when it was worst, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracekit.analysis.advice import Advice, advise, calls_of
from tracekit.analysis.differences import differences
from tracekit.analysis.gpu import GPU
from tracekit.analysis.sources import CALLS
from tracekit.analysis.split import Split, split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracekit.analysis.evidence import Evidence
    from tracekit.analysis.measurement import Measurement
    from tracekit.analysis.objectives import Objective
    from tracekit.records import Labels

_FLAME = ("on-CPU", "disk", "network", "lock", "pipe", "poll", "fault", "stopped", "other", GPU)
"""Causes whose stacks say more."""


@dataclass(frozen=True)
class Worst:
    """The stretch furthest on the wrong side of the limit; times count from the start of the recording."""

    start_ns: int
    end_ns: int
    value: float


@dataclass(frozen=True)
class Why:
    """
    What a miss was made of.

    Attributes:
        split: by component, and in which code.
        differences: what was different in the worst stretch, each a line.
        start_ns, end_ns: of the time that the differences are of, from the start of the recording.
        advice: what measured causes suggest, the one that explains most of the miss first.
        command: the one to run next: its name, and what follows the file.
    """

    split: Split
    differences: tuple[str, ...]
    start_ns: int
    end_ns: int
    advice: tuple[Advice, ...]
    command: tuple[str, ...]


def why(objective: Objective, found: Measurement, worst: Worst | None, evidence: Evidence) -> Why:
    """Say what the miss of *objective*, measured as *found*, was made of."""
    parts = split(objective, found, evidence)
    first, last = _stretch(objective, found, worst, evidence)
    bounds = [interval.start_ns - evidence.start_ns for interval in evidence.intervals[first : first + 1]]
    bounds += [interval.end_ns - evidence.start_ns for interval in evidence.intervals[max(last - 1, 0) : last]]
    start, end = bounds if len(bounds) == 2 else (0, 0)
    return Why(
        parts,
        tuple(differences(objective, evidence, first, last)),
        start,
        end,
        tuple(advise(objective, parts, evidence, first, last)),
        _command(objective, parts, (start, end) if worst else None, evidence),
    )


def _stretch(objective: Objective, found: Measurement, worst: Worst | None, evidence: Evidence) -> tuple[int, int]:
    """Return the numbers [first, last) of the intervals of the *worst* stretch, and of those its events began in."""
    if worst is None:
        return 0, 0
    starts = np.array([interval.start_ns - evidence.start_ns for interval in evidence.intervals])
    last = int(np.searchsorted(starts, worst.end_ns))
    lasted = worst.value if found.unit == "ns" and found.counted.startswith("events") else 0
    begun = worst.start_ns if objective.statistic.key == "total" else min(worst.start_ns, worst.end_ns - lasted)
    first = int(np.searchsorted(starts, begun, "right")) - 1
    return max(min(first, last - 1), 0), last


def _command(objective: Objective, parts: Split, times: tuple[int, int] | None, evidence: Evidence) -> tuple[str, ...]:
    """Return the one command that shows most of the cause."""
    metric, labels = objective.metric, dict(objective.where)
    between = ("--between", *map(_time, times)) if times else ()
    cause = (
        parts.shares[0][0]
        if parts.shares
        else {"runq.wait": "runq", "offcpu": labels.get("reason", "other")}.get(metric, "")
    )
    if cause in _FLAME and parts.code and "span" in labels:
        others = tuple(pair for pair in objective.where if pair[0] != "span")
        tail = ("--tail", f"p{100 * parts.tail:g}") if parts.tail else ()
        return ("flamegraph", "--span", labels["span"], *_where(others), *tail, "-o", "slow.svg")
    if cause in _FLAME:
        role = ("--role", labels["role"]) if "role" in labels else ()
        return ("flamegraph", *between, *role, "-o", "worst.svg")
    calls = calls_of(objective, evidence)
    if cause == "db" and evidence.every(CALLS, calls):
        return ("hist", "--metric", CALLS, *_where(calls), "--by", "operation", *between)
    by = {"runq": ("oncpu", "role"), "child": ("spawn.ready", "role"), "awaiting": ("loop.busy", "thread")}
    if cause in by:
        return ("hist", "--metric", by[cause][0], "--by", by[cause][1], *between)
    of_events = any(series.kind == "histogram" for series in evidence.matching(metric, objective.where))
    if of_events and objective.limit.unit == "ns" and not objective.limit.relative:
        return (
            "heatmap",
            "--metric",
            metric,
            *_where(objective.where),
            "--limit",
            f"{objective.limit.value / 1e6:g}ms",
        )
    return ("report", "--all-errors") if metric == "syscall.errors" else ("report",)


def _where(labels: Labels) -> Iterator[str]:
    for name, value in labels:
        yield from ("--where", f"{name}={value}")


def _time(ns: int) -> str:
    return f"{round(ns / 1e9, 3):.9g}s"
