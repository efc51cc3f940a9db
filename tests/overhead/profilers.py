"""The profilers that are compared: how each is started, what it takes itself, what it delivers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture.bpf import syscall
from tracekit.recording.reader import Recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Stacks = Counter[tuple[str, ...]]
"""Samples by stack, root first."""

SETTLE_S, SETTLED_S = 2.0, 8.0
"""From when a profiler, or tracekit, has begun until what it takes is measured: tables are made meanwhile."""
_PATIENCE_S = 60
_POLL_S = 0.01
_PROG_GET_FD_BY_ID = 13
_EVENT = "anon_inode:[perf_event]"
_SAID = re.compile(r"Samples: (\d+) Errors: (\d+)")
_PROGRAM = re.compile(r"^prog_id:\s*(\d+)$", re.MULTILINE)
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Delivered(NamedTuple):
    """What a profiler says it saw; lost: what it says it did not."""

    stacks: Stacks
    lost: str


@dataclass(frozen=True)
class Profiler:
    """
    A row of the table.

    Attributes:
        name: as `--only` takes it; title: as the table says it.
        command: {pid} is the target, {file} a new file it may write.
        ready: what it prints when it has begun; empty: it has when it has an event of perf.
        read: (its file, what it printed) to what it delivered.
        hz: samples a second; 0: none.
    """

    name: str
    title: str
    command: tuple[str, ...]
    ready: str = ""
    read: Callable[[Path, Path], Delivered] | None = None
    hz: int = 99

    @property
    def program(self) -> str:
        """Return where its program is, "" if it is missing here."""
        return shutil.which(self.command[0], path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or ""


def _recording(file: Path, _: Path) -> Delivered:
    with Recording(file) as recording:
        series = recording.samples("stack.oncpu").values()
        lost = ", ".join(f"{loss.count} {loss.reason}" for loss in recording.losses())
    stacks: Stacks = Counter()
    for found in series:
        for stack, count in zip(found.stack.tolist(), found.count.tolist(), strict=True):
            stacks[found.frames[stack]] += count
    return Delivered(stacks, lost)


def _folded(text: str) -> Stacks:
    stacks: Stacks = Counter()
    for line in text.splitlines():
        frames, _, count = line.rpartition(" ")
        if frames and count.isdigit():
            stacks[tuple(frames.split(";"))] += int(count)
    return stacks


def _py_spy(file: Path, said: Path) -> Delivered:
    found = _SAID.search(said.read_text())
    errors = int(found[2]) if found else 0
    return Delivered(_folded(file.read_text()), f"{errors} errors" if errors else "")


def _bcc(_: Path, said: Path) -> Delivered:
    return Delivered(_folded(said.read_text()), "")


def _perf(file: Path, said: Path) -> Delivered:
    command = ["perf", "script", "--no-inline", "-i", str(file), "-F", "ip,sym"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    samples = (reversed(sample.split("\n")) for sample in text.strip("\n").split("\n\n\n"))
    stacks = Counter(tuple(line.strip().partition(" ")[2] for line in lines if line.strip()) for lines in samples)
    lost = re.search(r"lost \d+ \w+", said.read_text(), re.IGNORECASE)
    return Delivered(stacks, lost[0] if lost else "")


def _attach(*options: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "tracekit", "attach", "-p", "{pid}", "-o", "{file}", *options)


def _spy(*options: str) -> tuple[str, ...]:
    return ("py-spy", "record", "-p", "{pid}", "-r", "99", "-f", "raw", "-o", "{file}", *options)


def _record(*options: str) -> tuple[str, ...]:
    return ("perf", "record", "-F", "99", *options, "-p", "{pid}", "-o", "{file}")


BARE = Profiler("none", "nothing: the noise of this comparison", (), hz=0)
DEFAULT = Profiler("tracekit", "tracekit, 49 Hz", _attach(), "attached in", _recording, 49)
FULL = Profiler("tracekit-99", "tracekit, 99 Hz", _attach("--stack-hz", "99"), "attached in", _recording)
PLAIN = Profiler("tracekit-no-stacks", "tracekit, no stacks", _attach("--no-stacks"), "attached in", hz=0)
PY_SPY = Profiler("py-spy", "py-spy record", _spy(), "Sampling process", _py_spy)
NONBLOCKING = Profiler("py-spy-nonblocking", "py-spy, nonblocking", _spy("--nonblocking"), "Sampling process", _py_spy)
PERF = Profiler("perf", "perf record -g", _record("-g"), read=_perf)
DWARF = Profiler("perf-dwarf", "perf record, dwarf", _record("--call-graph", "dwarf"), read=_perf)
BCC = Profiler("bcc-profile", "bcc profile", ("profile-bpfcc", "-f", "-F", "99", "-p", "{pid}"), read=_bcc)
OURS = (DEFAULT, FULL, PLAIN)
PEERS = (PY_SPY, NONBLOCKING, PERF, DWARF, BCC)


@dataclass
class Running:
    """A profiler that has begun; what it delivered and used in all is known when it has ended."""

    pid: int
    attach_ms: float = 0.0
    """Until it said that it has begun."""
    programs: set[int] = field(default_factory=set)
    """Ids of its BPF programs."""
    delivered: Delivered | None = None
    all_cpu_s: float = 0.0
    """From its start to its end."""

    def cpu_ns(self) -> int:
        """Return the CPU time so far of it and its children."""
        return sum(map(_cpu_ns, self._family()))

    def bpf_ns(self, seconds: float) -> float:
        """Return the run time of its BPF programs a second, measured for *seconds*."""
        if not self.programs:
            return 0.0
        with syscall.statistics():
            before, start = _run_time_ns(self.programs), time.monotonic()
            time.sleep(seconds)
            return (_run_time_ns(self.programs) - before) / (time.monotonic() - start)

    def rss_bytes(self) -> int:
        """Return the most memory that it had, its children left out."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def has_event(self) -> bool:
        """Tell whether it has an event of perf."""
        with suppress(OSError):
            return any(str(file.readlink()) == _EVENT for file in Path(f"/proc/{self.pid}/fd").iterdir())
        return False

    def _family(self) -> list[int]:
        found = [self.pid]
        for pid in found:
            with suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (task / "children").read_text().split())
        return found


def _cpu_ns(pid: int) -> int:
    """Return the CPU time of a process, and of its children that have ended (those to the tick)."""
    with suppress(OSError):
        ended = sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]))
        return time.clock_gettime_ns((~pid << 3) | 2) + ended * _TICK_NS  # CPUCLOCK_SCHED of the process
    return 0


def _programs(pid: int) -> set[int]:
    """Return the ids of the BPF programs that a process holds."""
    found = set()
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(OSError):
            found |= {int(ident) for ident in _PROGRAM.findall(file.read_text())}
    return found


def _run_time_ns(programs: set[int]) -> int:
    total = 0
    for program in programs:
        with suppress(FileNotFoundError):
            descriptor = syscall.bpf(_PROG_GET_FD_BY_ID, struct.pack("=I", program).ljust(128, b"\0"))
            total += syscall.program_run_time(descriptor)[0]
            os.close(descriptor)
    return total


@contextmanager
def profiling(profiler: Profiler, target: int, cpus: set[int], kept: Path | None = None) -> Iterator[Running]:
    """
    Run *profiler* on process *target* for the block, on *cpus*; *kept*: where its file is to stay.

    Raises:
        RuntimeError: it does not begin, or not end.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        said, file = Path(folder, "said"), kept or Path(folder, "file.tk")
        words = [word.replace("{pid}", str(target)).replace("{file}", str(file)) for word in profiler.command]
        start = time.monotonic()
        with said.open("wb") as output:
            child = subprocess.Popen(
                [profiler.program, *words[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        try:
            os.sched_setaffinity(child.pid, cpus)
            running = Running(child.pid)
            _await(child, profiler, running, said)
            running.attach_ms = (time.monotonic() - start) * 1e3
            time.sleep(SETTLED_S if profiler in OURS else SETTLE_S)
            running.programs = _programs(child.pid)
            yield running
            _end(child, running)
            if child.returncode not in {0, 130, -signal.SIGINT}:
                raise RuntimeError(f"{profiler.name} ended with {child.returncode}: {said.read_text()[-300:]}")
            running.delivered = profiler.read(file, said) if profiler.read else None
        finally:
            if child.returncode is None:
                child.kill()
                child.wait()


def _await(child: subprocess.Popen[bytes], profiler: Profiler, running: Running, said: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while profiler.ready not in said.read_text() if profiler.ready else not running.has_event():
        if child.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{profiler.name} did not begin: {said.read_text()[-300:]}")
        time.sleep(_POLL_S)


def _end(child: subprocess.Popen[bytes], running: Running) -> None:
    """Ctrl-C, and what it used in all."""
    child.send_signal(signal.SIGINT)
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        pid, status, used = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            running.all_cpu_s = used.ru_utime + used.ru_stime
            return
        time.sleep(_POLL_S)
    raise RuntimeError(f"process {child.pid} does not end")
