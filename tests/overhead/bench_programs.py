"""
How whole the stacks of real programs are, and whether they say what py-spy says: tracekit at 99 Hz on each for a while.

Programs are pyperformance's and ones that stand on well-known libraries; pip installs them into virtual environments
in a scratch folder, one for each CPython. py-spy records the same run at the same time, without stopping it: its stops
shift the shares. Those of servers are told and not judged, as py-spy can only guess which threads wait. As root, an
hour:
`sudo .venv/bin/python -m tests.overhead.bench_programs [--seconds N] [--version V] [--program NAME] [--scratch DIR]
[--keep DIR] [--markdown FILE]`.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.overhead.bench_overhead import insert
from tests.overhead.profilers import FULL, NONBLOCKING, Delivered, Stacks, profiling
from tests.overhead.programs import (
    DEBIAN,
    PROGRAMS,
    VERSIONS,
    Program,
    begins_at_the_outermost,
    installed,
    interpreter,
    running,
)
from tests.overhead.table import machine
from tracekit.recording.reader import Recording

if TYPE_CHECKING:
    from collections.abc import Iterable

MARKS = "<!-- bench programs: begin -->\n", "<!-- bench programs: end -->\n"
LEAST_WHOLE = 0.995
MOST_SIGMA = 5.0
"""By which the share of a function may differ from py-spy's, of those that have 2 % and more."""
_LEAST_SHARE = 0.02
_OWN = re.compile(r"(.*) \((.*):(\d+)\)", re.DOTALL)
_SPY = re.compile(r"(.*) \((.*?)(?::\d+)?\)", re.DOTALL)
_LAST = re.compile(r"(?:.*\.)?([^.]+)", re.DOTALL)
_UNKNOWN = re.compile(r"0x[0-9a-f]+ \(\?\)|\+0x[0-9a-f]+ \(.*\)", re.DOTALL)
_STARTING = "[thread start or exit]"
_MARK = re.compile(r"\[(?:deeper frames cut|unreadable frame)\]")


@dataclass
class Seen:
    """
    What one run of a program gave.

    Attributes:
        on_cpu: samples on a CPU. reasons: how many samples of what: oncpu, offcpu, errors.
        broken: samples on a CPU that are not whole, by why.
        native, unknown: native frames, and those without a name.
        leaves: samples on a CPU by the innermost Python function.
    """

    on_cpu: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    native: int = 0
    unknown: int = 0
    leaves: Counter[str] = field(default_factory=Counter)
    lost: str = ""
    cpu: float = 0.0

    @property
    def whole(self) -> float:
        """The share of samples on a CPU that are whole; 1 of none."""
        return 1 - self.broken.total() / self.on_cpu if self.on_cpu else 1.0

    def add(self, stack: tuple[str, ...], count: int) -> None:
        """Judge a stack on a CPU."""
        self.on_cpu += count
        why = broken(stack)
        if why:
            self.broken[why] += count
            self.examples.setdefault(why, stack)
        python = [found for frame in stack if (found := _OWN.fullmatch(frame))]
        self.leaves[_function(python[-1]) if python else "(native only)"] += count
        for frame in stack:
            if not _OWN.fullmatch(frame) and not frame.endswith("_[k]"):
                self.native += count
                self.unknown += count * bool(_UNKNOWN.fullmatch(frame))


class Cell(NamedTuple):
    """A program on a CPython: ours, and the leaves of py-spy; why: it could not be."""

    version: str
    program: Program
    ours: Seen
    spy: Counter[str]
    why: str = ""


def broken(stack: tuple[str, ...]) -> str:
    """Tell why a stack has not all Python frames that there were, "" if it has."""
    python = [frame for frame in stack if _OWN.fullmatch(frame)]
    if _STARTING in stack and not python:
        return ""  # it was in none
    own = [frame for frame in stack if not frame.endswith("_[k]") and not _MARK.fullmatch(frame)]
    if not python and own and _is_native_thread(own):
        return ""
    mark = next((frame for frame in stack if _MARK.fullmatch(frame)), "")
    if mark:
        return mark
    if not python:
        return "no Python frame" if own else "kernel frames only"
    is_root = begins_at_the_outermost(python[0]) or _begins_a_thread(own)  # a callback as a thread ends has no other
    return "" if is_root else "begins inside"


def _is_native_thread(own: list[str]) -> bool:
    """Tell whether a thread is one of a library, or is not or no more in Python: it has no such frames to show."""
    return _begins_a_thread(own) and not any("_PyEval" in frame for frame in own)


def _begins_a_thread(own: list[str]) -> bool:
    """Tell whether the native frames go back to where a thread begins."""
    return bool(own) and own[0].startswith(("clone", "__clone", "start_thread"))


def _function(found: re.Match[str]) -> str:
    """Return a function as both profilers may call it: its last name, and the last part of its file."""
    name = _LAST.fullmatch(found[1])
    return f"{name[1] if name else found[1]} ({Path(found[2]).name})"


def _read(seen: Seen, file: Path, _: Path) -> Delivered:
    with Recording(file) as recording:
        for series, samples in recording.samples().items():
            reason = series.metric.removeprefix("stack.")
            seen.reasons[reason] += int(samples.count.sum())
            if reason == "oncpu":
                for stack, count in zip(samples.stack.tolist(), samples.count.tolist(), strict=True):
                    seen.add(samples.frames[stack], count)
        seen.lost = ", ".join(f"{loss.count} {loss.reason}" for loss in recording.losses())
    return Delivered(Counter(), seen.lost)


def _spied(stacks: Stacks) -> Counter[str]:
    leaves: Counter[str] = Counter()
    for stack, count in stacks.items():
        found = _SPY.fullmatch(stack[-1])
        leaves[_function(found) if found else stack[-1]] += count
    return leaves


def difference(ours: Counter[str], spy: Counter[str]) -> tuple[float, float, str]:
    """
    Return what differs most between two counters of samples, of functions with a share worth speaking of.

    Returns:
        The difference of shares; the same in standard deviations of a sampled share; the function.
    """
    total, other = ours.total() - ours["(native only)"], spy.total()
    found = (0.0, 0.0, "")
    for name in ours.keys() | spy.keys() if total and other else ():
        p, q = ours[name] / total, spy[name] / other
        mean = (ours[name] + spy[name]) / (total + other)
        if name != "(native only)" and max(p, q) >= _LEAST_SHARE:
            sigma = abs(p - q) / math.sqrt(mean * (1 - mean) * (1 / total + 1 / other) or 1)
            found = max(found, (sigma, p - q, name))
    return found[1], found[0], found[2]


def measured(version: str, program: Program, python: Path, given: argparse.Namespace) -> Cell:
    """Run a program under both profilers at once."""
    seen = Seen()
    spy: Counter[str] = Counter()
    read = partial(_kept, given.keep / f"{version}-{program.name}.tk".replace(" ", "") if given.keep else None, seen)
    ours, cpus = replace(FULL, read=read), os.sched_getaffinity(0)
    try:
        with running(program, python) as pid, profiling(ours, pid, cpus) as process:
            with profiling(NONBLOCKING, pid, cpus) as peer:
                used_ns, start_ns = process.cpu_ns(), time.monotonic_ns()
                time.sleep(given.seconds)
                used = (process.cpu_ns() - used_ns) / (time.monotonic_ns() - start_ns)
            spy = _spied(peer.delivered.stacks) if peer.delivered else spy
        seen.cpu = used * 100
    except RuntimeError as error:
        return Cell(version, program, seen, spy, str(error).strip().splitlines()[-1])
    return Cell(version, program, seen, spy)


def _kept(keep: Path | None, seen: Seen, file: Path, said: Path) -> Delivered:
    if keep:
        shutil.copy(file, keep)
    return _read(seen, file, said)


def table(cells: Iterable[Cell], seconds: float) -> str:
    """Return what was found as Markdown."""
    head = (
        f"{machine()}; {time.strftime('%Y-%m-%d')}, {seconds:.0f} s each beside py-spy record --nonblocking at 99 Hz."
    )
    titles = "CPython", "program", "on CPU", "whole", "waits", "errors", "native frames without a name", "lost"
    titles = (*titles, "collector, % of a core", "largest difference from py-spy, share (σ)")
    lines = [head, "", f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    for cell in cells:
        ours = cell.ours
        if cell.why:
            lines.append(f"| {cell.version} | {cell.program.name} | did not run: {cell.why} |" + " |" * 7)
            continue
        share, sigma, name = difference(ours.leaves, cell.spy)
        told = f"{share * 100:+.1f} % ({sigma:.1f}) `{name}`" if name else "–"
        unknown = f"{ours.unknown / ours.native:.2%}" if ours.native else "–"
        lines.append(
            f"| {cell.version} | {cell.program.name} | {ours.on_cpu} | {ours.whole:.2%} | {ours.reasons['offcpu']} "
            f"| {ours.reasons['errors']} | {unknown} | {ours.lost or '0'} | {ours.cpu:.1f} | {told} |"
        )
    return "\n".join(lines) + "\n"


def missed(cells: Iterable[Cell]) -> list[str]:
    """Return a line for each cell that is beyond a limit."""
    lines = []
    for cell in (each for each in cells if not each.why):
        where = f"{cell.version}, {cell.program.name}"
        if cell.ours.whole < LEAST_WHOLE or not cell.ours.on_cpu:
            why = ", ".join(f"{count} {reason}" for reason, count in cell.ours.broken.most_common())
            lines.append(f"{where}: {cell.ours.whole:.2%} of {cell.ours.on_cpu} are whole ({why})")
        share, sigma, name = difference(cell.ours.leaves, cell.spy)
        if sigma > MOST_SIGMA and not cell.program.waits:
            lines.append(f"{where}: `{name}` differs by {share * 100:+.1f} % from py-spy, {sigma:.1f} σ")
    return lines


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    versions, names = (*VERSIONS, DEBIAN), [each.name for each in PROGRAMS]
    parser.add_argument("--seconds", type=float, default=10, help="length of one run [10]")
    parser.add_argument("--version", action="append", choices=versions, help="of CPython [all]")
    parser.add_argument("--program", action="append", choices=names, help="[all]")
    parser.add_argument("--scratch", type=Path, help="where programs are installed, and stay [removed]")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="recordings are kept here [removed]")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="the table, between its marks in a page")
    given = parser.parse_args()
    given.versions = [each for each in versions if not given.version or each in given.version]
    given.programs = tuple(each for each in PROGRAMS if not given.program or each.name in given.program)
    return given


def _cells(given: argparse.Namespace, scratch: Path) -> list[Cell]:
    cells = []
    for version in given.versions:
        if not interpreter(version):
            continue
        python, failed = installed(version, given.programs, scratch)
        for program in given.programs:
            if program in failed:
                cells.append(Cell(version, program, Seen(), Counter(), failed[program]))
                continue
            print(f"bench: {version}: {program.name}", file=sys.stderr)
            cells.append(measured(version, program, python, given))
            _tell(cells[-1])
    return cells


def _tell(cell: Cell) -> None:
    """Say what is odd at once: a run is long."""
    for reason, stack in cell.ours.examples.items():
        print(f"  {cell.ours.broken[reason]} {reason}: {';'.join(stack)[-400:]!r}", file=sys.stderr)
    for line in [f"did not run: {cell.why}"] if cell.why else missed([cell]):
        print(f"  {line}", file=sys.stderr)


def main() -> int:
    given = options()
    if os.geteuid() or not NONBLOCKING.program:
        why = "not root" if os.geteuid() else "py-spy is not installed"
        print(f"bench: cannot compare: {why}\n  try: sudo python -m tests.overhead.bench_programs", file=sys.stderr)
        return 4
    with tempfile.TemporaryDirectory(prefix="programs-") as folder:
        cells = _cells(given, given.scratch or Path(folder))
    beyond = missed(cells)
    text = table(cells, given.seconds) + "".join(f"- Beyond its limit: {line}.\n" for line in beyond)
    print(text, end="")
    if given.markdown:
        insert(given.markdown, text, MARKS)
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
