"""
What watching the calls of databases costs their clients: of pgbench and redis-benchmark, which do nothing else.

The client is the target, the server never is. Each round visits every variant, with an untraced run before
and after it; a ratio is the throughput traced, to the mean of these two. What a call takes of CPU in the client,
programs of the tracer included, is the least of all runs: other programs only add to it. As root, on a quiet
machine, ten minutes: `python -m tests.overhead.bench_db [--rounds N] [--seconds N] [--only NAME] [--markdown FILE]`.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests import servers
from tests.overhead.bench_overhead import cpu_seconds, insert, untimed_bpf
from tests.overhead.table import machine
from tests.overhead.tracers import Tracer, attached

MARKS = "<!-- bench db: begin -->\n", "<!-- bench db: end -->\n"
LIMIT = 0.97
"""Of the throughput untraced, with sockets watched: the median of each load must reach it."""


def _attach(*options: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "tracekit", "attach", "-p", "{pid}", "-o", "{file}", *options)


PLAIN, SOCKETS = (
    Tracer("--no-db", "the rest alone", _attach("--no-db"), "attached in"),
    Tracer("default", "calls of databases too", _attach(), "attached in"),
)
UNTRACED = "untraced"
LOADS = {
    "pgbench -S -c 1": "pgbench -n -S -c 1 -T {seconds} -h 127.0.0.1 -p {postgresql} -U postgres postgres",
    "pgbench -S -c 4": "pgbench -n -S -c 4 -T {seconds} -h 127.0.0.1 -p {postgresql} -U postgres postgres",
    "redis-benchmark -c 1": "redis-benchmark -c 1 -t get -n {requests} --csv -p {redis}",
    "redis-benchmark -c 50": "redis-benchmark -c 50 -t get -n {requests} --csv -p {redis}",
    "redis-benchmark -c 50 -P 16": "redis-benchmark -c 50 -P 16 -t get -n {requests} --csv -p {redis}",
}


@dataclass
class Target:
    """A shell that runs the clients as its children: what is attached to."""

    seconds: int
    ports: dict[str, int]
    requests: dict[str, int] = field(default_factory=dict)
    """How many take so long, by load."""

    def __post_init__(self) -> None:
        self._shell = subprocess.Popen(["sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._shell.pid
        self._cpu_s = 0.0  # of all clients so far

    def run(self, load: str) -> tuple[float, float]:
        """Return calls, or transactions, per second, and µs of CPU that one took."""
        requests = self.requests.get(load, 20_000)
        command = LOADS[load].format(seconds=self.seconds, requests=requests, **self.ports)
        assert self._shell.stdin
        assert self._shell.stdout
        self._shell.stdin.write(f"{command} 2>&1; times; echo done\n")
        self._shell.stdin.flush()
        said = "".join(iter(self._shell.stdout.readline, "done\n"))
        found = re.search(r'^tps = ([\d.]+)|^"GET","([\d.]+)"', said, re.MULTILINE)
        made = re.search(r"actually processed: (\d+)", said)
        assert found, said
        cpu_s = sum(float(minutes) * 60 + float(rest) for minutes, rest in re.findall(r"(\d+)m([\d.]+)s", said)[-2:])
        used, self._cpu_s = cpu_s - self._cpu_s, cpu_s
        return float(found[1] or found[2]), used / (int(made[1]) if made else requests) * 1e6

    def size(self) -> None:
        """Find out how many requests take as long as they should."""
        for load in LOADS:
            self.requests[load] = int(self.run(load)[0] * self.seconds)

    def end(self) -> None:
        self._shell.communicate()


@dataclass
class Measured:
    """Samples of one load: calls per second untraced, ratios by variant, µs of CPU a call by variant."""

    base: list[float] = field(default_factory=list)
    ratios: dict[str, list[float]] = field(default_factory=dict)
    cpu_us: dict[str, list[float]] = field(default_factory=dict)


def visit(target: Target, load: str, found: Measured) -> list[str]:
    """Add a sample of each variant, and return what was lost."""
    lost = []
    before, cpu_us = target.run(load)
    found.cpu_us.setdefault(UNTRACED, []).append(cpu_us)
    for tracer in (PLAIN, SOCKETS):
        with attached(tracer, target.pid) as running:
            time.sleep(0.3)
            traced, cpu_us = target.run(load)
        found.cpu_us.setdefault(tracer.name, []).append(cpu_us)
        lost += [f"{tracer.name} lost {running.lost}"] if running.lost else []
        after, cpu_us = target.run(load)
        found.cpu_us[UNTRACED].append(cpu_us)
        found.base.append((before + after) / 2)
        found.ratios.setdefault(tracer.name, []).append(traced / found.base[-1])
        before = after
    return lost


def measure(target: Target, loads: list[str], rounds: int) -> tuple[dict[str, Measured], list[str]]:
    """Return what each load gave, and what was lost meanwhile."""
    found = {load: Measured() for load in loads}
    lost: list[str] = []
    with untimed_bpf():
        target.size()
        for number in range(1, rounds + 1):
            for load in loads:
                print(f"bench: round {number} of {rounds}: {load}", file=sys.stderr)
                lost += visit(target, load, found[load])
    return found, lost


def table(found: dict[str, Measured], rounds: int, others: float, lost: list[str]) -> str:
    """Return what was found as Markdown; *others* is the share of the machine that other programs used."""
    used = max(0.0, others) * 100
    effort = f"{time.strftime('%Y-%m-%d')}, {rounds} rounds, other programs used {used:.0f} % of the machine"
    lines = [f"{machine()}; {effort}.", ""]
    head = ["", "untraced, calls/s", "`--no-db`", f"default (limit {LIMIT})"]
    head += ["µs of CPU a call: untraced", "`--no-db`", "default"]
    lines += [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for load, one in found.items():
        ratios = [_range(one.ratios[tracer.name]) for tracer in (PLAIN, SOCKETS)]
        cpu = [f"{min(one.cpu_us[name]):.3g}" for name in (UNTRACED, PLAIN.name, SOCKETS.name)]
        lines.append(f"| `{load}` | {' | '.join([f'{statistics.median(one.base):.0f}', *ratios, *cpu])} |")
    return "\n".join([*lines, *(["", *(f"- {line}" for line in sorted(set(lost)))] if lost else [])]) + "\n"


def _range(samples: list[float]) -> str:
    return f"{statistics.median(samples):.2f} [{min(samples):.2f}–{max(samples):.2f}]"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--rounds", type=int, default=9, help="visits to each variant [9]")
    parser.add_argument("--seconds", type=int, default=2, help="length of one run [2]")
    parser.add_argument("--only", metavar="LOAD", action="append", choices=list(LOADS), help="repeat it")
    parser.add_argument(
        "--markdown", metavar="FILE", type=Path, help="the table, between its marks in docs/overhead.md"
    )
    return parser.parse_args()


def main() -> int:
    given = options()
    if os.geteuid():
        print("bench: cannot trace: not root\n  try: sudo python -m tests.overhead.bench_db", file=sys.stderr)
        return 4
    (busy, own), start = cpu_seconds(), time.monotonic()
    with ExitStack() as stack:
        postgresql = stack.enter_context(servers.postgresql())
        redis = stack.enter_context(servers.redis())
        make = ["pgbench", "-i", "-q", "-s", "5", "-h", "127.0.0.1", "-p", str(postgresql.port), "-U", "postgres"]
        subprocess.run([*make, "postgres"], check=True, capture_output=True)
        target = Target(given.seconds, {"postgresql": postgresql.port, "redis": redis.port})
        found, lost = measure(target, given.only or list(LOADS), given.rounds)
        target.end()
    busy_after, own_after = cpu_seconds()
    others = (busy_after - busy - own_after + own) / (time.monotonic() - start) / (os.cpu_count() or 1)
    text = table(found, given.rounds, others, lost)
    print(text, end="")
    if given.markdown:
        insert(given.markdown, text, MARKS)
    below = [load for load, one in found.items() if statistics.median(one.ratios[SOCKETS.name]) < LIMIT]
    for load in below:
        print(f"below its limit: {load}", file=sys.stderr)
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main())
