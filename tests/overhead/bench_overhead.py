"""
What tracing costs the traced, against other tracers: `scripts/bench` runs it.

Workloads run untraced, traced, and untraced again; the ratio is traced over the mean of the
two. Every tracer has its turn in every round, so drift of the machine reaches all of them.
Also how long each takes to attach, its peak memory, and the CPU of our collector.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.overhead.outside import wrk
from tests.overhead.table import PACE, Measured, Results, Workload, markdown, missed, text
from tests.overhead.tracers import TRACERS, Tracer, attached, let_bcc_compile

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
SETTLE_S = 0.3
COLLECTOR_S = 30
MARKS = "<!-- bench: begin -->\n", "<!-- bench: end -->\n"

WORKLOADS = (
    Workload("syscalls", "getppid storm", "syscalls", 200_000, 5, 1000),
    Workload("opens", "failing opens", "opens", 50_000, 5, 1000),
    Workload("switches", "pipe ping-pong", "switches", 10_000, 5, 500),
    Workload("spawns", "vfork + exec", "spawns", 100, 4, 20),
    Workload("tasks", "20,000 asyncio tasks", "tasks.py", 20_000, 3, 1000),
    Workload("agent", "agent turns", "agent.py", 15, 4, 5),
    Workload("evaluator", "evaluator, computes", "evaluator.py", 2000, 4, 200),
    Workload("web", "web service under wrk", "web.py", 2000, 1, 2000),
)


class Target:
    """A shell that runs workloads as its children: what the tracers attach to."""

    def __init__(self, programs: Path, cpu: int) -> None:
        self._programs, self._cpu = programs, cpu
        self._shell = subprocess.Popen(["sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._shell.pid

    def run(self, workload: Workload) -> float:
        """Return ns per operation."""
        self.begin(workload)
        return self.result()

    def begin(self, workload: Workload, pace: int = 0) -> None:
        assert self._shell.stdin
        folder = HERE / "workloads" if workload.program.endswith(".py") else self._programs
        python = f"{sys.executable} " if workload.program.endswith(".py") else ""
        words = f"{workload.count} {workload.rounds} {self._cpu} {pace or ''}"
        self._shell.stdin.write(f"{python}{folder / workload.program} {words}\n")
        self._shell.stdin.flush()

    def result(self) -> float:
        assert self._shell.stdout
        return float(self._shell.stdout.readline())

    def end(self) -> None:
        self._shell.communicate()


def build(folder: Path) -> None:
    """Compile the workloads in C."""
    for source in (HERE / "workloads").glob("*.c"):
        subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-o", folder / source.stem, source], check=True)


@contextmanager
def untimed_bpf() -> Iterator[None]:
    """Keep the kernel from timing BPF programs, which would be paid by the traced."""
    before = STATS.read_text()
    STATS.write_text("0")
    try:
        yield
    finally:
        STATS.write_text(before)


def compare(tracer: Tracer, target: Target, workloads: list[Workload], found: Measured) -> None:
    """Add one sample of each workload: untraced, traced, untraced."""
    sized = [replace(each, count=max(each.least, round(each.count * tracer.scale))) for each in workloads]
    before = [target.run(each) for each in sized]
    if tracer.command:
        with attached(tracer, target.pid) as running:
            time.sleep(SETTLE_S)
            traced = [target.run(each) for each in sized]
        found.rss_mb.append(running.rss_bytes / 1e6)
        found.lost.append(running.lost)
        if tracer.ready:
            found.attach_ms.append(running.attach_ms)
    else:
        traced = [target.run(each) for each in sized]
    for each, first, middle in zip(sized, before, traced, strict=True):
        base = (first + target.run(each)) / 2
        found.base_ns.setdefault(each.name, []).append(base)
        found.ratios.setdefault(each.name, []).append(middle / base)


def collector_percent(tracer: Tracer, target: Target, seconds: float, pace: int = 0) -> float:
    """Return CPU of the collector, percent of one core, while an agent makes *pace* turns a second; 0: all it can."""
    agent = next(each for each in WORKLOADS if each.name == "agent")
    per_second = pace or 1e9 / target.run(replace(agent, rounds=1))
    with attached(tracer, target.pid) as running:
        target.begin(replace(agent, count=int((seconds + 3) * per_second), rounds=1), pace)
        time.sleep(1)
        before, start = running.cpu_ns(), time.monotonic_ns()
        time.sleep(seconds)
        share = (running.cpu_ns() - before) / (time.monotonic_ns() - start)
        target.result()
    return share * 100


def cpu_seconds() -> tuple[float, float]:
    """Return CPU seconds of the whole machine, idle left out, and of this process and its ended children."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    busy = sum(ticks) - ticks[3] - ticks[4]
    return busy / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4])


def measure(tracers: list[Tracer], workloads: list[Workload], rounds: int, collector_s: float) -> Results:
    """Visit every tracer in every round. A tracer that fails is left out from then on."""
    found = {tracer: Measured() for tracer in tracers}
    failed: dict[str, str] = {}
    (busy, own), start = cpu_seconds(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, untimed_bpf(), wrk():
        programs, headers = Path(folder, "programs"), Path(folder, "headers")
        programs.mkdir()
        headers.mkdir()
        build(programs)
        bcc = any(each.name.startswith("bcc") for each in tracers)
        notes = [note] if bcc and (note := let_bcc_compile(headers)) else []
        target = Target(programs, max(os.sched_getaffinity(0)))
        for number in range(1, rounds + 1):
            for tracer in [each for each in tracers if each.name not in failed]:
                print(f"bench: round {number} of {rounds}: {tracer.name}", file=sys.stderr)
                try:
                    compare(tracer, target, workloads, found[tracer])
                except RuntimeError as error:
                    failed[tracer.name] = str(error)
        for tracer in [each for each in tracers if each.ours and each.name not in failed and collector_s]:
            print(f"bench: {tracer.name}: CPU of the collector, 2 × {collector_s:.0f} s", file=sys.stderr)
            found[tracer].collector_paced.append(collector_percent(tracer, target, collector_s, PACE))
            found[tracer].collector_full.append(collector_percent(tracer, target, collector_s))
        target.end()
    busy_after, own_after = cpu_seconds()
    others = (busy_after - busy - own_after + own) / (time.monotonic() - start) / (os.cpu_count() or 1)
    return Results(workloads, found, failed, notes, rounds, collector_s, others)


def chosen(names: list[str]) -> list[Tracer]:
    """Return the tracers to compare: those named, or all; without those that are not installed."""
    wanted = [each for each in TRACERS if not names or each.name in names]
    missing = [each.name for each in wanted if each.command and not shutil.which(each.command[0])]
    for name in missing:
        print(f"bench: {name} is not installed", file=sys.stderr)
    return [each for each in wanted if each.name not in missing]


def insert(page: Path, table: str, marks: tuple[str, str] = MARKS) -> None:
    """Put *table* between the marks of *page*."""
    before, _, rest = page.read_text().partition(marks[0])
    _, mark, after = rest.partition(marks[1])
    if not mark:
        raise SystemExit(f"bench: {page} has no line {marks[0].strip()} with {marks[1].strip()} after it")
    page.write_text(before + marks[0] + table + marks[1] + after)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.split("\n")[1])
    parser.add_argument("--quick", action="store_true", help="two short rounds: does it work, not how much is it")
    parser.add_argument("--rounds", type=int, default=9, help="visits to each tracer [9]")
    for option, names in (
        ("--only", [each.name for each in TRACERS]),
        ("--workload", [each.name for each in WORKLOADS]),
    ):
        about = f"one of {', '.join(names)}; repeat it"
        parser.add_argument(option, metavar="NAME", action="append", default=[], choices=names, help=about)
    parser.add_argument("--json", metavar="FILE", type=Path, help="every sample, to a file")
    parser.add_argument(
        "--markdown", metavar="FILE", type=Path, help="the table, between the marks of docs/overhead.md"
    )
    return parser.parse_args()


def main() -> int:
    given = options()
    if os.geteuid():
        print("bench: cannot trace: not root\n  try: sudo scripts/bench", file=sys.stderr)
        return 4
    tracers = chosen(given.only)
    workloads = [each for each in WORKLOADS if not given.workload or each.name in given.workload]
    if given.quick:
        workloads = [replace(each, count=max(each.least, each.count // 4)) for each in workloads]
    results = measure(tracers, workloads, 2 if given.quick else given.rounds, 5 if given.quick else COLLECTOR_S)
    print(text(results))
    if given.json:
        given.json.write_text(json.dumps({each.name: asdict(found) for each, found in results.found.items()}, indent=1))
    if given.markdown:
        insert(given.markdown, markdown(results))
    return 1 if missed(results) or any(name.startswith("tracekit") for name in results.failed) else 0


if __name__ == "__main__":
    sys.exit(main())
