"""The tracers that are compared: how each is started, when it has attached, what it takes itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracekit.recording.reader import Recording

if TYPE_CHECKING:
    from collections.abc import Iterator

_WAKEUPS = "tracepoint:sched:sched_wakeup,tracepoint:sched:sched_wakeup_new"
BPFTRACE_RUNQLAT = (
    _WAKEUPS
    + """ { @since[args->pid] = nsecs; }
tracepoint:sched:sched_switch {
    if (args->prev_state == 0) { @since[args->prev_pid] = nsecs; }
    $since = @since[args->next_pid];
    if ($since) { @wait = hist((nsecs - $since) / 1000); delete(@since[args->next_pid]); }
}
"""
)
BPFTRACE_ERRORS = """
tracepoint:raw_syscalls:sys_exit { if (args->ret < 0) { @errors[args->id, args->ret] = count(); } }
"""
BPFTRACE_SYSCALLS = """
tracepoint:raw_syscalls:sys_enter { @since[tid] = nsecs; }
tracepoint:raw_syscalls:sys_exit {
    $since = @since[tid];
    if ($since) { @latency[args->id] = hist(nsecs - $since); delete(@since[tid]); }
    if (args->ret < 0) { @errors[args->id, args->ret] = count(); }
}
"""
_READY = 'BEGIN { printf("READY\\n"); }\n'
"""bpftrace prints nothing before it has attached everything and begins to read its buffers."""


@dataclass(frozen=True)
class Tracer:
    """
    A row of the table.

    Attributes:
        name: as `--only` takes it; does: what it captures, in the words of the table.
        command: {pid} is the target, {file} a new file it may write.
        ready: what it prints when it has attached; empty: nothing, it is given SETTLE_S.
        scale: share of the usual operations, for what is hundreds of times slower.
    """

    name: str
    does: str
    command: tuple[str, ...]
    ready: str = ""
    scale: float = 1.0

    @property
    def ours(self) -> bool:
        return self.name.startswith("tracekit")


def _attach(*options: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "tracekit", "attach", "-p", "{pid}", "-o", "{file}", *options)


def _bpftrace(*programs: str) -> tuple[str, ...]:
    return ("bpftrace", "-B", "none", "-e", _READY + "\n".join(programs))


TRACERS = (
    Tracer("none", "nothing: the noise of this comparison", ()),
    Tracer("tracekit-no-errors", "run queue, off-CPU, blocked by syscall", _attach("--no-errors"), "attached in"),
    Tracer("tracekit-no-db", "the default without calls of databases", _attach("--no-db"), "attached in"),
    Tracer("tracekit", "the same, and failed syscalls", _attach(), "attached in"),
    Tracer("tracekit-syscalls", "the same, and latency of each syscall", _attach("--syscalls"), "attached in"),
    Tracer("bcc-runqlat", "run queue", ("runqlat-bpfcc",), "Tracing"),
    Tracer("bcc-syscount-L", "syscall latency totals", ("syscount-bpfcc", "-L"), "Tracing"),
    Tracer("bpftrace-runqlat", "run queue", _bpftrace(BPFTRACE_RUNQLAT), "READY"),
    Tracer("bpftrace-errors", "failed syscalls", _bpftrace(BPFTRACE_ERRORS), "READY"),
    Tracer("bpftrace-syscalls", "failed syscalls, latency of each syscall", _bpftrace(BPFTRACE_SYSCALLS), "READY"),
    Tracer("bpftrace-all", "run queue and syscalls", _bpftrace(BPFTRACE_RUNQLAT, BPFTRACE_SYSCALLS), "READY"),
    Tracer("perf-trace-s", "syscall latency totals", ("perf", "trace", "-s", "-a", "-o", "{file}"), scale=0.1),
    Tracer("strace-c-f", "syscall totals", ("strace", "-c", "-f", "-p", "{pid}", "-o", "{file}"), "attached", 0.02),
)

SETTLE_S = 2.0
PATIENCE_S = 60
_POLL_S = 0.001


def let_bcc_compile(folder: Path) -> str:
    """
    Give bcc kernel headers by its environment, laid out in *folder*; return what must be said of them.

    Where there are none of the running kernel, it compiles with Debian's of another one: its
    programs then read wrong fields, at the same cost.
    """
    if Path(f"/lib/modules/{os.uname().release}/build/include").is_dir() or "BCC_KERNEL_SOURCE" in os.environ:
        return ""
    parts = sorted(path for path in Path("/usr/src").glob("linux-headers-*") if (path / "include/generated").is_dir())
    if not parts:
        return ""
    common = parts[-1].with_name(parts[-1].name.rpartition("-")[0] + "-common")
    for part in (common, parts[-1]):
        subprocess.run(["cp", "--archive", "--symbolic-link", "--force", f"{part}/.", folder], check=True)
    os.environ["BCC_KERNEL_SOURCE"] = str(folder)
    return f"bcc compiled with headers of another kernel ({parts[-1].name[14:]}): its cost counts, its numbers do not."


@dataclass
class Running:
    """A tracer that has attached, and what it took; peak memory and losses are known when it has ended."""

    pid: int
    attach_ms: float
    rss_bytes: int = 0
    lost: str = ""

    def cpu_ns(self) -> int:
        """Return the CPU time of all its threads so far."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)

    def measure(self) -> None:
        """Take note of its peak memory, until it is gone."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return
        peaks = [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")]
        self.rss_bytes = max([self.rss_bytes, *peaks])


@contextmanager
def attached(tracer: Tracer, target: int) -> Iterator[Running]:
    """Run *tracer* on process *target* for the block. Raises RuntimeError if it does not attach or end."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        said, file = Path(folder, "said"), Path(folder, "file.tk")
        command = [word.replace("{pid}", str(target)).replace("{file}", str(file)) for word in tracer.command]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        start = time.perf_counter()
        with said.open("wb") as output:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
            )
        try:
            _await(child, tracer, said)
            running = Running(child.pid, (time.perf_counter() - start) * 1e3)
            if not tracer.ready:
                time.sleep(SETTLE_S)
            yield running
            _end(child, running)
            if child.returncode not in {0, 130, -signal.SIGINT}:
                raise RuntimeError(f"{tracer.name} ended with {child.returncode}: {said.read_text()[-300:]}")
            if tracer.ours:
                running.lost = _lost(file)
        finally:
            if child.returncode is None:
                child.kill()
                child.wait()


def _await(child: subprocess.Popen[bytes], tracer: Tracer, said: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while tracer.ready.encode() not in said.read_bytes():
        if child.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{tracer.name} did not attach: {said.read_text()[-300:]}")
        time.sleep(_POLL_S)


def _lost(file: Path) -> str:
    with Recording(file) as recording:
        return ", ".join(f"{loss.count} {loss.reason}" for loss in recording.losses())


def _end(child: subprocess.Popen[bytes], running: Running) -> None:
    """Ctrl-C, then watch its memory to the last."""
    running.measure()
    child.send_signal(signal.SIGINT)
    deadline = time.monotonic() + PATIENCE_S
    while child.poll() is None and time.monotonic() < deadline:
        running.measure()
        time.sleep(_POLL_S)
