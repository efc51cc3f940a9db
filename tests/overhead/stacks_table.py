"""What the benchmark of stacks found, as tables for docs/overhead.md, and what is beyond its limit."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.overhead.profilers import BARE, FULL, OURS, PEERS, PY_SPY, SETTLE_S, SETTLED_S
from tests.overhead.table import machine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.overhead.bench_stacks import Program
    from tests.overhead.profilers import Profiler
    from tests.overhead.walks import Walk

    All = Mapping[tuple[Program, Profiler], "Found"]

MOST_SLOWDOWN = 1.005
MOST_OF_PY_SPY = 0.2
LEAST_WHOLE = 0.995
MOST_WALK_US = {10: 2.5, 50: 4.0}
"""A Python walk, by its depth."""


@dataclass
class Found:
    """Of one profiler on one program, a sample a round; cpu, bpf: percent of one core while it takes samples."""

    base: list[float] = field(default_factory=list)
    slowdown: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    bpf: list[float] = field(default_factory=list)
    all_cpu_s: list[float] = field(default_factory=list)
    samples: int = 0
    whole: int = 0
    lost: set[str] = field(default_factory=set)
    walk: Walk | None = None

    @property
    def collector(self) -> float:
        """Return the median of what it uses itself, programs in the kernel included."""
        return statistics.median(sum(each) for each in zip(self.cpu, self.bpf, strict=True))


def missed(found: All) -> list[str]:
    """Return a line for each median that is beyond its limit, by more than noise."""
    lines, noise = [], noise_of(found)
    for (program, profiler), ours in found.items():
        if profiler == FULL and ours.slowdown:
            peers = {peer: found[program, peer] for peer in PEERS if (program, peer) in found}
            lines += [f"{program.name}: {line}" for line in _beyond(ours, peers, noise)]
        if ours.walk and ours.walk.python_us > MOST_WALK_US[program.depth]:
            limit = MOST_WALK_US[program.depth]
            lines.append(f"{program.name}: a Python walk takes {ours.walk.python_us:.1f} µs, limit {limit}")
    return lines


def noise_of(found: All) -> float:
    """Return how far untraced work was from untraced work, at most: what is less is no slowdown of anybody's making."""
    ratios = [ratio for (_, profiler), each in found.items() if profiler == BARE for ratio in each.slowdown]
    return max((abs(ratio - 1) for ratio in ratios), default=0.0)


def _beyond(ours: Found, peers: Mapping[Profiler, Found], noise: float) -> list[str]:
    slowdown = statistics.median(ours.slowdown)
    lines = [f"slowdown {slowdown:.4f}, limit {MOST_SLOWDOWN}"] if slowdown > MOST_SLOWDOWN + noise else []
    for peer, other in peers.items():
        least = statistics.median(other.slowdown) if other.slowdown else slowdown
        if slowdown > least + noise:
            lines.append(f"slowdown {slowdown:.4f}, {peer.title} {least:.4f} (noise {noise:.4f})")
        if peer == PY_SPY and other.cpu and ours.collector > MOST_OF_PY_SPY * other.collector:
            lines.append(f"collector {ours.collector:.2f} % of a core, py-spy {other.collector:.2f} %, limit a fifth")
    if ours.whole < LEAST_WHOLE * ours.samples or not ours.samples:
        lines.append(f"{ours.whole} of {ours.samples} stacks are whole, limit {LEAST_WHOLE:.1%}")
    return lines


def table(found: All, rounds: int, others: float, notes: list[str]) -> str:
    """Return what was found as Markdown; *others* is the share of the machine that other programs used."""
    programs = list(dict.fromkeys(program for program, _ in found))
    used = max(0.0, others) * 100
    effort = f"{time.strftime('%Y-%m-%d')}, n = {rounds} a cell, other programs used {used:.0f} % of the machine"
    lines = [f"{machine()}; {effort}. Median [lowest–highest].", ""]
    for title, cell in (
        ("work a second untraced / traced", _slowdown),
        (f"% of a core, {SETTLE_S:.0f} s (tracekit {SETTLED_S:.0f} s) after its start: collector + BPF programs", _cpu),
        ("CPU seconds of a whole run, its start and end included", _all),
        ("stacks that are whole, of those delivered", _whole),
    ):
        lines += [_cells([title, *(each.name for each in programs)]), "| --- " * (len(programs) + 1) + "|"]
        for profiler in (BARE, *OURS, *PEERS):
            cells = [cell(found[each, profiler]) if (each, profiler) in found else "" for each in programs]
            if any(cells):
                name = f"**{profiler.title}**" if profiler in OURS else profiler.title
                lines.append(_cells([name, *cells]))
        lines.append("")
    noise = f"Untraced work was up to {noise_of(found):.1%} off untraced work: what is less than that is no slowdown."
    return (
        "\n".join([*lines, *_walks(found, programs), *(f"- {note}" for note in [noise, *_losses(found), *notes])])
        + "\n"
    )


def _walks(found: All, programs: list[Program]) -> list[str]:
    walks = {each: walk for each in programs if (each, BARE) in found and (walk := found[each, BARE].walk)}
    if not walks:
        return []
    lines = [_cells(["µs in the kernel a sample", *(each.name for each in walks)]), "| --- " * (len(walks) + 1) + "|"]
    limits = [f" (limit {MOST_WALK_US[each.depth]})" for each in walks]
    python = [f"{walk.python_us:.1f}{limit}" for walk, limit in zip(walks.values(), limits, strict=True)]
    lines.append(_cells(["Python walk", *python]))
    lines.append(_cells(["native walk", *(f"{walk.native_us:.1f}" for walk in walks.values())]))
    lines.append(_cells(["kernel frames, spans, the record", *(f"{walk.rest_us:.1f}" for walk in walks.values())]))
    return [*lines, ""]


def _losses(found: All) -> list[str]:
    by_profiler: dict[str, set[str]] = {}
    for (_, profiler), each in found.items():
        by_profiler.setdefault(profiler.title, set()).update(each.lost)
    return [f"{title} said: {', '.join(sorted(lost))}." for title, lost in by_profiler.items() if lost]


def _slowdown(found: Found) -> str:
    return _range(found.slowdown, ".3f")


def _cpu(found: Found) -> str:
    programs = statistics.median(found.bpf) if found.bpf else 0
    return _range(found.cpu, ".2f") + (f" + {programs:.2f}" if programs else "") if found.cpu else ""


def _all(found: Found) -> str:
    return _range(found.all_cpu_s, ".2f")


def _whole(found: Found) -> str:
    return f"{found.whole / found.samples * 100:.2f} % of {found.samples}" if found.samples else ""


def _range(samples: list[float], form: str) -> str:
    if not samples:
        return ""
    return f"{statistics.median(samples):{form}} [{min(samples):{form}}–{max(samples):{form}}]"


def _cells(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
