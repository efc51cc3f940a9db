"""
What tracekit says that it costs, against what storms of four kinds pay for it; and with `--max-overhead 1%`.

In turn: untraced, with all tiers, with the limit, pinned to one CPU, the tracer on the others. The time of an operation
is that of the fastest round, as other programs only add time; the tracer's own figure is `cost.bpf` of all rounds, so
that of a busy machine is too high. On a quiet one, five minutes:
`python -m tests.overhead.bench_governor [--rounds N] [--markdown docs/overhead.md]`, as root.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.overhead.bench_overhead import insert
from tests.overhead.table import machine
from tracekit.recording.reader import Recording

HERE = Path(__file__).parent / "workloads"
ROOT = Path(__file__).parents[2]
MARKS = "<!-- bench governor: begin -->\n", "<!-- bench governor: end -->\n"
LIMIT, WITHIN = 0.01, 1.5
STORMS = {
    "getppid": ("syscalls", 500_000, 60),
    "failing opens": ("opens", 100_000, 50),
    "ping-pong": ("switches", 20_000, 50),
    "vfork + exec": ("spawns", 200, 50),
}
"""The workload, operations a round, and rounds: some six seconds."""
SETTLE = 1.5
"""With the limit, so many times as many rounds come first."""


@dataclass
class Found:
    """Of one storm, a value a round: ns an operation, and what the tracer says of itself."""

    untraced: list[float] = field(default_factory=list)
    traced: list[float] = field(default_factory=list)
    said: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)
    overhead: list[float] = field(default_factory=list)
    shed: set[str] = field(default_factory=set)

    @property
    def outside(self) -> float:
        """What the storm pays, ns an operation."""
        return statistics.median(self.traced) - statistics.median(self.untraced)

    @property
    def factor(self) -> float:
        """What the tracer says, as so many times what the storm pays."""
        return statistics.median(self.said) / self.outside if self.outside > 0 else float("inf")


def run(folder: Path, storm: str, options: list[str] | None) -> float:
    """Let a storm go, attached to with *options*, and return ns an operation; with a limit when it has settled."""
    name, count, rounds = STORMS[storm]
    cpu = max(os.sched_getaffinity(0))
    times = [rounds] if options is None or "--max-overhead=100%" in options else [int(SETTLE * rounds), rounds]
    script = "read go; " + "; ".join(f"{folder / name} {count} {each} {cpu}" for each in times)
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as target:
        tracer = _attach(target.pid, folder, options) if options is not None else None
        out, _ = target.communicate("go\n")
        if tracer:
            tracer.communicate()
    return float(out.split()[-1])


def _attach(pid: int, folder: Path, options: list[str]) -> subprocess.Popen[str]:
    others = ",".join(map(str, sorted(os.sched_getaffinity(0))[:-1])) or "0"
    command = ["taskset", "-c", others, sys.executable, "-m", "tracekit", "attach", "-p", str(pid), "-f", *options]
    tracer = subprocess.Popen([*command, "-o", str(folder / "run.tk")], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr
    while "attached in" not in (line := tracer.stderr.readline()):
        assert line, "tracekit did not attach"
    return tracer


def _measure(folder: Path, storm: str, found: Found) -> None:
    _, count, rounds = STORMS[storm]
    found.untraced.append(run(folder, storm, None))
    found.traced.append(run(folder, storm, ["--max-overhead=100%", "--syscalls"]))
    with Recording(folder / "run.tk") as recording:
        spent = sum(float(column.sum()) for column in recording.values("cost.bpf", {}).values())
    found.said.append(spent / (count * rounds))
    found.untraced.append(run(folder, storm, None))
    found.held.append(run(folder, storm, [f"--max-overhead={LIMIT:.0%}", "--syscalls"]))
    with Recording(folder / "run.tk") as recording:
        (shares,) = recording.values("cost.overhead", {}).values()
        found.overhead.append(float(np.nanmedian(shares[len(shares) // 2 : -1])))
        found.shed |= {series.label("tier") for series in recording.values("shed", {})}


def table(found: dict[str, Found], rounds: int) -> str:
    """Return the table."""
    head = "untraced", "all tiers, `--syscalls`: the storm pays", "tracekit says", "factor"
    lines = [
        f"{machine()}; {rounds} rounds, medians; the storm pays: [lowest–highest].",
        "",
        f"| storm | {' | '.join(head)} | with {LIMIT:.0%}: the storm pays | tracekit says | what was shed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for storm, of in found.items():
        base = statistics.median(of.untraced)
        held = sorted(share / base - 1 for share in of.held)
        cells = [
            storm,
            f"{base:,.0f} ns",
            f"+{of.outside:,.0f} ns [{min(of.traced) - base:,.0f}–{max(of.traced) - base:,.0f}]",
            f"{statistics.median(of.said):,.0f} ns",
            f"{of.factor:.2f}",
            f"{statistics.median(held):.1%} [{held[0]:.1%}–{held[-1]:.1%}]",
            f"{statistics.median(of.overhead):.2%}",
            ", ".join(sorted(of.shed)) or "nothing",
        ]
        lines.append(f"| {' | '.join(re.sub('%', ' %', cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, and fail where what tracekit says is off by more than the factor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=STORMS)
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="the table, between its marks")
    given = parser.parse_args()
    found: defaultdict[str, Found] = defaultdict(Found)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for workload in {workload for workload, *_ in STORMS.values()}:
            source = HERE / f"{workload}.c"
            subprocess.run(["gcc", "-O2", "-o", str(folder / workload), str(source)], check=True)
        for _ in range(given.rounds):
            for storm in [given.only] if given.only else STORMS:
                _measure(folder, storm, found[storm])
    text = table(found, given.rounds)
    print(text)
    if given.markdown:
        insert(given.markdown, text, MARKS)
    return 0 if all(1 / WITHIN <= of.factor <= WITHIN for of in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
