"""What the overhead benchmark found, as text for a terminal and as a table for docs/overhead.md."""

from __future__ import annotations

import platform
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.overhead.tracers import Tracer

LIMITS = {
    ("tracekit-no-errors", "syscalls"): 1.05,
    ("tracekit", "syscalls"): 1.6,
    ("tracekit-syscalls", "syscalls"): 2.4,
    ("tracekit-no-errors", "switches"): 1.16,
    ("tracekit", "switches"): 1.3,
    ("tracekit", "spawns"): 1.03,
    ("tracekit", "attach_ms"): 250,
    ("tracekit", "rss_mb"): 45,
    ("tracekit", "collector_paced"): 0.5,
}
"""Upper limits of medians, by tracer and column: what docs/overhead.md promises."""
PACE = 10
"""Agent turns a second, each with a process of its own: what the collector's limit is meant for."""


@dataclass(frozen=True)
class Workload:
    """
    A program that does `count` operations `rounds` times and prints ns per operation.

    `count` takes about 40 ms; fewer than `least` mean nothing.
    """

    name: str
    title: str
    program: str
    count: int
    rounds: int
    least: int


@dataclass
class Measured:
    """All samples of one tracer; ratios and ns per untraced operation by workload."""

    ratios: dict[str, list[float]] = field(default_factory=dict)
    base_ns: dict[str, list[float]] = field(default_factory=dict)
    attach_ms: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    collector_paced: list[float] = field(default_factory=list)
    """CPU of our collector, percent of one core, while an agent makes PACE turns a second."""
    collector_full: list[float] = field(default_factory=list)
    """The same while an agent makes as many turns as a core can."""

    def samples(self, column: str) -> list[float]:
        """Return the samples of a workload, or of another column."""
        others = {"attach_ms": self.attach_ms, "rss_mb": self.rss_mb, "collector_paced": self.collector_paced}
        return others[column] if column in others else self.ratios.get(column, [])


@dataclass(frozen=True)
class Results:
    """Everything that was measured, and how."""

    workloads: list[Workload]
    found: dict[Tracer, Measured]
    failed: dict[str, str]
    """Why a tracer did not run, by its name."""
    notes: list[str]
    rounds: int
    collector_s: float
    others: float
    """Share of the machine that other programs used meanwhile."""


def missed(results: Results) -> list[str]:
    """Return a line for each limit that a median is above."""
    lines = []
    for tracer, found in results.found.items():
        for (name, column), limit in LIMITS.items():
            samples = found.samples(column)
            if name == tracer.name and samples and statistics.median(samples) > limit:
                lines.append(f"{name}, {column}: {statistics.median(samples):.3g}, limit {limit:g}")
    return lines


def text(results: Results) -> str:
    """Return medians in 80 columns, then what was missed or failed."""
    head = f"{'tracer':19}" + "".join(f"{each.name:>9}" for each in results.workloads) + f"{'attach':>8}{'RSS':>6}"
    lines = [machine(), _effort(results), "slowdown (traced / untraced), ms to attach, peak MB: medians", head]
    for tracer, found in results.found.items():
        cells = "".join(f"{_median(found.samples(each.name), '.2f'):>9}" for each in results.workloads)
        lines.append(f"{tracer.name:19}{cells}{_median(found.attach_ms, '.0f'):>8}{_median(found.rss_mb, '.0f'):>6}")
    lines += [fill(line, 80) for line in _collectors(results) + results.notes]
    lines += [f"{tracer.name} lost {lost}" for tracer, found in results.found.items() for lost in found.lost if lost]
    lines += [f"failed: {reason}" for reason in results.failed.values()]
    lines += [f"above its limit: {line}" for line in missed(results)] or ["every limit is kept"]
    return "\n".join(lines)


def markdown(results: Results) -> str:
    """Return the table for docs/overhead.md."""
    titles = [each.title for each in results.workloads]
    head = ["", "captures", *titles, "attach, ms", "peak RSS, MB"]
    rows = [_row(tracer, found, results) for tracer, found in results.found.items() if found.ratios]
    lines = [f"{machine()}; {_effort(results)}.", "", _cells(head), _cells(["---"] * len(head)), _untraced(results)]
    lines += [_cells(row) for row in rows]
    failed = [f"{name} did not run here." for name in results.failed]
    return "\n".join([*lines, "", *(f"- {line}" for line in _collectors(results) + results.notes + failed)]) + "\n"


def _row(tracer: Tracer, found: Measured, results: Results) -> list[str]:
    name = f"**{tracer.name}**" if tracer.ours else tracer.name
    columns = [each.name for each in results.workloads]
    ratios = [_range(found.samples(column), ".2f") + _limit(tracer, column) for column in columns]
    whole = [_range(found.samples(column), ".0f") + _limit(tracer, column) for column in ("attach_ms", "rss_mb")]
    return [name, tracer.does, *ratios, *whole]


def _untraced(results: Results) -> str:
    """Return the row of what one operation takes; samples of slow tracers did fewer and are left out."""
    full = [found for tracer, found in results.found.items() if tracer.scale == 1]
    bases = [[ns for found in full for ns in found.base_ns.get(each.name, [])] for each in results.workloads]
    return _cells(["untraced", "", *(_time(statistics.median(base)) if base else "–" for base in bases), "", ""])


def _collectors(results: Results) -> list[str]:
    """Return what our collector takes itself, a line for each of our variants."""
    effort = f"{results.collector_s:.0f} s each, 1 s ticks"
    return [
        f"{tracer.name}: its collector used {found.collector_paced[0]:.2f} % of one core at {PACE} agent turns a second"
        f"{_limit(tracer, 'collector_paced')}, {found.collector_full[0]:.2f} % at as many as a core can ({effort})."
        for tracer, found in results.found.items()
        if found.collector_paced
    ]


def _limit(tracer: Tracer, column: str) -> str:
    limit = LIMITS.get((tracer.name, column))
    return f" (limit {limit:g})" if limit else ""


def _time(ns: float) -> str:
    scale, unit = next(step for step in ((1e6, "ms"), (1e3, "µs"), (1, "ns")) if ns >= step[0] or step[0] == 1)
    return f"{ns / scale:.3g} {unit}"


def _median(samples: list[float], form: str) -> str:
    return format(statistics.median(samples), form) if samples else "–"


def _range(samples: list[float], form: str) -> str:
    if not samples:
        return "–"
    return f"{statistics.median(samples):{form}} [{min(samples):{form}}–{max(samples):{form}}]"


def _cells(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def machine() -> str:
    """Return what this was measured on."""
    model = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{len(model)} × {model[0] if model else platform.machine()}, Linux {platform.release()}"


def _cpuinfo() -> list[str]:
    return Path("/proc/cpuinfo").read_text().splitlines()


def _effort(results: Results) -> str:
    day = time.strftime("%Y-%m-%d")
    return f"{day}, {results.rounds} rounds, other programs used {results.others * 100:.0f} % of the machine"
