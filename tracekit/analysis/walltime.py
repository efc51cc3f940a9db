"""Where did the time of the target's threads go: on-CPU, run queue, blocked by reason and by call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit import waiting
from tracekit.analysis.summary import merged_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracekit.analysis.summary import Summary
    from tracekit.histogram import Histogram
    from tracekit.records import InFlight

ON_CPU, RUN_QUEUE = "on-CPU", "run queue"
_HISTOGRAM = {ON_CPU: "oncpu", RUN_QUEUE: "runq.wait"}


@dataclass(frozen=True, eq=False)
class Part:
    """A part of the wall time: its weight, its share of the whole, and how long one slice or wait was."""

    name: str
    weight_ns: int
    share: float
    slices: Histogram


@dataclass(frozen=True, eq=False)
class Blocked:
    """Waits inside one system call; *usual*: the call exists to wait."""

    syscall: str
    waits: Histogram
    usual: bool


def parts(summary: Summary) -> list[Part]:
    """Return on-CPU, run queue, then the reasons of blocking, largest first. Empty if nothing was observed."""
    weights: dict[str, int] = {}
    for frames, stack in summary.stacks.items():
        state, reason = (*frames[2:4], "-", "-")[:2]
        name = reason if state == "blocked" else state
        weights[name] = weights.get(name, 0) + stack.weight
    whole = sum(weights.values())
    order = sorted(
        filter(weights.get, weights), key=lambda name: (name != ON_CPU, name != RUN_QUEUE, -weights[name], name)
    )
    return [Part(name, weights[name], weights[name] / whole, _slices(summary, name)) for name in order]


def roles(summary: Summary) -> list[tuple[str, float]]:
    """Return each role's share of the target's CPU time, largest first."""
    parts_ = {series: part for series, part in summary.histograms.items() if series.metric == "oncpu"}
    by_role = merged_by(parts_, lambda series: (series.label("role"),))
    whole = sum(part.total for part in by_role.values())
    return [(name, part.total / whole) for (name,), part in by_role.items() if whole]


def calls(summary: Summary) -> list[Blocked]:
    """Return blocked time by system call: the longest sum first, calls that exist to wait last."""
    parts_ = {series: part for series, part in summary.histograms.items() if series.metric == "blocked"}
    by_call = merged_by(parts_, lambda series: (series.label("syscall"),))
    found = [Blocked(name, part, name in waiting.SYSTEM_CALLS) for (name,), part in by_call.items()]
    return sorted(found, key=lambda call: call.usual)


def open_waits(waits: Sequence[InFlight]) -> tuple[list[InFlight], list[InFlight]]:
    """Split what had not ended into waits worth a look and idle ones, both oldest first."""
    by_age = sorted((wait for wait in waits if wait.state != "running"), key=lambda wait: -wait.age_ns)
    return [w for w in by_age if not _idle(w)], [w for w in by_age if _idle(w)]


def _idle(wait: InFlight) -> bool:
    return wait.state == "blocked" and (wait.reason == "poll" or wait.syscall in waiting.SYSTEM_CALLS)


def _slices(summary: Summary, name: str) -> Histogram:
    if name in _HISTOGRAM:
        return summary.histogram(_HISTOGRAM[name])
    return summary.histogram("offcpu", reason=name)
