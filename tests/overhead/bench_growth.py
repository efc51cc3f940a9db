"""
What a larger target costs: time to attach, CPU and memory of the collector, CPU of its BPF programs.

The target's parts (processes, threads, kinds of spans) only wake up now and then, a hundred a second of all
together, so what is seen is the price of their number. Sizes are visited in turn, each round all. As root:
`python -m tests.overhead.bench_growth [--rounds N] [--seconds N] [--markdown docs/overhead.md]`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.overhead.bench_overhead import cpu_seconds, insert
from tests.overhead.profilers import DEFAULT, profiling
from tests.overhead.table import machine
from tracekit.recording.reader import Recording

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKS = "<!-- bench growth: begin -->\n", "<!-- bench growth: end -->\n"
PROGRAM = Path(__file__).parent / "workloads" / "growing.py"
SIZES = (
    *(("processes", number) for number in (1, 10, 100, 1000, 5000)),
    *(("threads", number) for number in (10, 100, 1000, 10_000)),
    *(("spans", number) for number in (1, 50, 500)),
)
_BPF_S = 1.0


@dataclass
class Measured:
    """Samples of one size; CPU in percent of one core."""

    attach_ms: list[float] = field(default_factory=list)
    collector: list[float] = field(default_factory=list)
    bpf: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    file_kb: list[float] = field(default_factory=list)
    """Of the recording, a second."""
    lost: set[str] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)
    """Threads, or spans of a kind each, that the recordings say there were."""


@contextmanager
def target(kind: str, number: int) -> Iterator[int]:
    """Run a target of that size, and give its pid."""
    command = [sys.executable, str(PROGRAM), kind, str(number)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n", f"no room for {number} {kind}"
        time.sleep(1)
        yield process.pid
        process.kill()  # children see that they have another parent


def visit(kind: str, number: int, seconds: float, found: Measured) -> None:
    """Add a sample."""
    with target(kind, number) as pid, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder, "file.tk")
        with profiling(DEFAULT, pid, os.sched_getaffinity(0), file) as running:
            used_ns, start_ns = running.cpu_ns(), time.monotonic_ns()
            time.sleep(seconds)
            found.collector.append((running.cpu_ns() - used_ns) / (time.monotonic_ns() - start_ns) * 100)
            found.bpf.append(running.bpf_ns(_BPF_S) / 1e7)
            found.rss_mb.append(running.rss_bytes() / 1e6)
        found.attach_ms.append(running.attach_ms)
        with Recording(file) as recording:
            found.file_kb.append(file.stat().st_size / 1e3 / (recording.duration_ns / 1e9))
            found.lost |= {loss.reason for loss in recording.losses()}
            found.seen.add(_seen(recording, kind))


def _seen(recording: Recording, kind: str) -> int:
    if kind == "spans":
        return len({dict(series.labels)["span"] for series in recording.histograms("span.latency")})
    return int(recording.end["threads"])


def table(found: dict[tuple[str, int], Measured], rounds: int, others: float) -> str:
    """Return what was found as Markdown; *others* is the share of the machine that other programs used."""
    effort = f"{time.strftime('%Y-%m-%d')}, n = {rounds} a cell, other programs used {max(0.0, others) * 100:.0f} %"
    lines = [f"{machine()}; {effort} of the machine. Median [lowest–highest].", ""]
    head = (
        "target",
        "seen",
        "attach, ms",
        "collector, % of a core",
        "BPF programs",
        "RSS, MB",
        "recording, kB/s",
        "lost",
    )
    lines += [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for (kind, number), one in found.items():
        seen = "–".join(f"{each:,}" for each in sorted({min(one.seen), max(one.seen)}))
        cells = [_range(one.attach_ms, ".0f"), _range(one.collector, ".2f"), _range(one.bpf, ".2f")]
        cells += [_range(one.rss_mb, ".0f"), _range(one.file_kb, ".1f"), ", ".join(sorted(one.lost)) or "nothing"]
        lines.append(f"| {number:,} {kind} | {seen} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _range(samples: list[float], form: str) -> str:
    return f"{statistics.median(samples):{form}} [{min(samples):{form}}–{max(samples):{form}}]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--rounds", type=int, default=3, help="visits to each size [3]")
    parser.add_argument("--seconds", type=float, default=5, help="length of a visit [5]")
    parser.add_argument("--only", choices=("processes", "threads", "spans"), help="what grows")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="the table, between its marks")
    given = parser.parse_args()
    if os.geteuid():
        print("bench: cannot trace: not root\n  try: sudo python -m tests.overhead.bench_growth", file=sys.stderr)
        return 4
    (busy, own), start = cpu_seconds(), time.monotonic()
    found = {size: Measured() for size in SIZES if given.only in (None, size[0])}
    for number in range(1, given.rounds + 1):
        for size, one in found.items():
            print(f"bench: round {number} of {given.rounds}: {size[1]} {size[0]}", file=sys.stderr)
            visit(*size, given.seconds, one)
    busy_after, own_after = cpu_seconds()
    others = (busy_after - busy - own_after + own) / (time.monotonic() - start) / (os.cpu_count() or 1)
    text = table(found, given.rounds, others)
    print(text, end="")
    if given.markdown:
        insert(given.markdown, text, MARKS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
