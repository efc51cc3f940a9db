"""
What taking stacks costs, and how many of them are whole: tracekit, py-spy, perf and bcc's profile, interleaved.

The target computes at the end of a chain of Python calls, pinned to one CPU; the profiler has the others. Each round
visits every profiler on every program, with an untraced run before and after it: the slowdown is the work a second
untraced, the mean of the two, to that traced. As root, on a quiet machine, an hour:
`python -m tests.overhead.bench_stacks [--rounds N] [--seconds N] [--only NAME] [--program NAME] [--markdown FILE]`.
"""

from __future__ import annotations

import argparse
import mmap
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.overhead.bench_overhead import cpu_seconds, insert, untimed_bpf
from tests.overhead.profilers import BARE, BCC, OURS, PEERS, Profiler, Stacks, profiling
from tests.overhead.stacks_table import Found, missed, table
from tests.overhead.tracers import let_bcc_compile
from tests.overhead.walks import walk
from tests.unit.pythons import PYTHONS

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAIN = Path(__file__).parent / "workloads" / "chain.py"
MARKS = "<!-- bench stacks: begin -->\n", "<!-- bench stacks: end -->\n"
DEPTHS = 10, 50
VERSIONS = "3.11", "3.12", "3.13"
_FRAME = re.compile(r"(.+) \((?:.*/)?chain\.py(?::\d+)?\)")
_STATE = struct.Struct("=qq")
_WARM_S, _BPF_S, _WALK_S = 0.5, 1.0, 1.0


class Program(NamedTuple):
    """CPython *version*, and how many frames deep it computes."""

    version: str
    depth: int

    @property
    def name(self) -> str:
        return f"{self.version}, depth {self.depth}"

    @property
    def python(self) -> str:
        """Return the interpreter, "" if it is missing here: Debian's for 3.11."""
        return next((each for each in PYTHONS if f"python{self.version}" in str(Path(each).resolve())), "")

    def is_whole(self, stack: tuple[str, ...]) -> bool:
        """Tell whether a stack has every Python frame that there was."""
        names = [found[1] for found in map(_FRAME.fullmatch, stack) if found]
        chain = ["<module>", *(f"level_{number}" for number in range(self.depth - 3)), "work"]
        return names in (chain, [*chain, "leaf"])


@dataclass
class Target:
    """A program that runs, and says how much it has done."""

    pid: int
    state: mmap.mmap

    def rate(self, seconds: float) -> float:
        """Return rounds a second from now on."""
        first = self._read()
        time.sleep(seconds)
        last = self._read()
        return (last[0] - first[0]) / (last[1] - first[1]) * 1e9

    def _read(self) -> tuple[int, int]:
        """Return rounds and when they were done, read twice the same."""
        found: tuple[int, int] = _STATE.unpack(self.state)
        again = _STATE.unpack(self.state)
        while found != again:
            found, again = again, _STATE.unpack(self.state)
        return found


@contextmanager
def running(program: Program, cpu: int) -> Iterator[Target]:
    """Run *program* on *cpu* for the block."""
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(_STATE.size)
        command = [program.python, str(CHAIN), str(program.depth), str(cpu), file.name]
        child = subprocess.Popen(command)
        try:
            time.sleep(_WARM_S)
            yield Target(child.pid, mmap.mmap(file.fileno(), _STATE.size))
        finally:
            child.kill()
            child.wait()


@dataclass
class Session:
    """What is measured, and all that was found: by program and profiler."""

    programs: list[Program]
    profilers: list[Profiler]
    seconds: float
    cpu: int = field(default_factory=lambda: max(os.sched_getaffinity(0)))
    found: defaultdict[tuple[Program, Profiler], Found] = field(default_factory=lambda: defaultdict(Found))
    failed: dict[Profiler, str] = field(default_factory=dict)

    def round(self, number: int) -> None:
        """Visit every program and profiler once, every second time in the other order."""
        for program in self.programs:
            with running(program, self.cpu) as target:
                before = target.rate(self.seconds)
                for profiler in self.profilers[:: 1 if number % 2 else -1]:
                    if profiler not in self.failed:
                        print(f"bench: round {number}: {program.name}: {profiler.name}", file=sys.stderr)
                        before = self._visit(program, profiler, target, before)

    def _visit(self, program: Program, profiler: Profiler, target: Target, before: float) -> float:
        """Add a sample, and return the rate after it."""
        found = self.found[program, profiler]
        try:
            traced = self._traced(program, profiler, target)
        except RuntimeError as error:
            self.failed[profiler] = str(error)
            return target.rate(self.seconds)
        after = target.rate(self.seconds)
        found.base.append((before + after) / 2)
        found.slowdown.append(found.base[-1] / traced)
        return after

    def _traced(self, program: Program, profiler: Profiler, target: Target) -> float:
        if not profiler.command:
            return target.rate(self.seconds)
        found = self.found[program, profiler]
        with profiling(profiler, target.pid, os.sched_getaffinity(0) - {self.cpu}) as process:
            used_ns, start_ns = process.cpu_ns(), time.monotonic_ns()
            traced = target.rate(self.seconds)
            found.cpu.append((process.cpu_ns() - used_ns) / (time.monotonic_ns() - start_ns) * 100)
            found.bpf.append(process.bpf_ns(_BPF_S) / 1e7)
        found.all_cpu_s.append(process.all_cpu_s)
        if process.delivered:
            self._judge(program, found, process.delivered.stacks)
            found.lost |= {process.delivered.lost} - {""}
        return traced

    def _judge(self, program: Program, found: Found, stacks: Stacks) -> None:
        found.samples += stacks.total()
        found.whole += sum(count for stack, count in stacks.items() if program.is_whole(stack))

    def walks(self, rounds: int) -> None:
        """Measure the walks of each program."""
        for program in self.programs:
            print(f"bench: walks of {program.name}", file=sys.stderr)
            with running(program, self.cpu) as target, tempfile.TemporaryDirectory() as folder:
                self.found[program, BARE].walk = walk(target.pid, Path(folder), rounds, _WALK_S)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    programs = [Program(version, depth) for version in VERSIONS for depth in DEPTHS]
    parser.add_argument("--rounds", type=int, default=5, help="visits to each profiler [5]")
    parser.add_argument("--seconds", type=float, default=4, help="length of one run [4]")
    parser.add_argument("--walk-rounds", type=int, default=9, help="rounds of seconds in which walks are timed [9]")
    names = [each.name for each in (BARE, *OURS, *PEERS)]
    parser.add_argument("--only", metavar="PROFILER", action="append", choices=names, help=f"{', '.join(names)}")
    names = [each.name for each in programs]
    parser.add_argument("--program", metavar="PROGRAM", action="append", choices=names, help="'3.11, depth 10', ...")
    parser.add_argument(
        "--markdown", metavar="FILE", type=Path, help="the tables, between their marks in docs/overhead.md"
    )
    given = parser.parse_args()
    given.programs = [each for each in programs if not given.program or each.name in given.program]
    given.profilers = [each for each in (BARE, *OURS, *PEERS) if not given.only or each.name in given.only]
    return given


def _session(given: argparse.Namespace) -> tuple[Session, list[str]]:
    """Return what can be measured here, and what is missing, a line each."""
    here = [each for each in given.profilers if not each.command or each.program]
    programs = [each for each in given.programs if each.python]
    missing = [f"{each.title} is not installed here: not compared." for each in given.profilers if each not in here]
    missing += [f"CPython {each.name}: not here." for each in given.programs if each not in programs]
    return Session(programs, here, given.seconds), missing


def main() -> int:
    given = options()
    if os.geteuid():
        print("bench: cannot trace: not root\n  try: sudo python -m tests.overhead.bench_stacks", file=sys.stderr)
        return 4
    session, notes = _session(given)
    (busy, own), start = cpu_seconds(), time.monotonic()
    with tempfile.TemporaryDirectory() as headers, untimed_bpf():
        if BCC in session.profilers and (note := let_bcc_compile(Path(headers))):
            notes.append(note)
        for number in range(1, given.rounds + 1):
            session.round(number)
        if given.walk_rounds:
            session.walks(given.walk_rounds)
    busy_after, own_after = cpu_seconds()
    others = (busy_after - busy - own_after + own) / (time.monotonic() - start) / (os.cpu_count() or 1)
    notes += [f"{profiler.title} did not run: {why}" for profiler, why in session.failed.items()]
    beyond = missed(session.found)
    text = table(session.found, given.rounds, others, [*notes, *(f"Beyond its limit: {line}." for line in beyond)])
    print(text, end="")
    if given.markdown:
        insert(given.markdown, text, MARKS)
    return 1 if beyond or session.failed else 0


if __name__ == "__main__":
    sys.exit(main())
