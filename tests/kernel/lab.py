"""Recording a known workload: what every kernel test does first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tracekit.histogram import Histogram, merge
from tracekit.recording.reader import Recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PATIENCE_S = 400
"""Longer than any step takes, on an emulated CPU too: only a hang gets there."""
SLACK = 4 if "QEMU TCG" in Path("/proc/cpuinfo").read_text() else 1
"""How much worse two clocks may agree: on an emulated CPU a switch takes 100 µs, and an interrupt is never free."""
HOLES = ("switch", "wake")
TRACEKIT = [sys.executable, "-m", "tracekit"]
ROOT = Path(__file__).parents[2]


def until(true: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> None:
    """Wait until *true* returns something true. Raises TimeoutError that names *what*."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.005)


@dataclass(frozen=True)
class Run:
    """A finished recording and the truth it is compared with."""

    recording: Recording
    truth: dict[str, Any]
    """What each workload said of itself, by the stem of its file."""
    code: int
    """Exit code of tracekit."""
    stdout: str
    stderr: str

    def count(self, metric: str, **labels: str) -> int:
        """Return all that the counters of *metric* with *labels* counted."""
        return int(sum(values.sum() for values in self.recording.values(metric, labels).values()))

    def counts(self, metric: str, *names: str, **labels: str) -> dict[tuple[str, ...], int]:
        """Return what the counters of *metric* counted, by the values of labels *names*; zeros left out."""
        found: dict[tuple[str, ...], int] = {}
        for series, values in self.recording.values(metric, labels).items():
            key = tuple(series.label(name) for name in names)
            if values.sum():
                found[key] = found.get(key, 0) + int(values.sum())
        return found

    def events(self, metric: str, **labels: str) -> Histogram:
        """Return the histogram of all events of *metric* with *labels*."""
        return merge(list(self.recording.histograms(metric, labels).values()))

    def wall(self, role: str, thread: str) -> dict[tuple[str, ...], tuple[int, int]]:
        """Return (ns, events) of what a thread did, by the frames below it; numbers of threads of one name add."""
        stacks = self.recording.stacks()
        return {frames[2:]: (w.weight, w.count) for frames, w in stacks.items() if frames[:2] == (role, thread)}

    @property
    def lost(self) -> dict[str, int]:
        """
        Lost events by reason, but for those that no tool can see.

        Some virtual machines run no tracepoint on a CPU that comes out of idle (`perf record
        -e sched:sched_switch` shows the holes too). tracekit counts these, and what it puts
        together in their place is as exact as the tests are; that they happen says nothing of it.
        """
        return {reason: count for reason, count in self._losses().items() if reason not in HOLES}

    @property
    def holes(self) -> dict[str, int]:
        """The others: switches and wake-ups that were not reported."""
        return {reason: count for reason, count in self._losses().items() if reason in HOLES}

    def _losses(self) -> dict[str, int]:
        return {loss.reason: loss.count for loss in self.recording.losses() if loss.count}


class Tracer:
    """
    A tracekit that runs, its standard error in a file; what it leaves of temporary files is in its folder.

    Args:
        begin: called in the new process, before it is a tracekit.
        environment: variables that it has besides.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str | Path,
        stdin: int = subprocess.DEVNULL,
        begin: Callable[[], object] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.file = folder / "run.tk"
        self._stderr = folder / "stderr"
        self._stdout = folder / "stdout"
        with self._stderr.open("wb") as stderr, self._stdout.open("wb") as stdout:
            command = [*TRACEKIT, *map(str, arguments)]
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**_environment(), "TMPDIR": str(folder), **(environment or {})},
                preexec_fn=begin,  # noqa: PLW1509 - the process that starts it has no other threads
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,  # a process group of its own, for Ctrl-C
            )

    @property
    def stderr(self) -> str:
        """All it has said so far."""
        return self._stderr.read_text(errors="surrogateescape")

    @property
    def stdout(self) -> str:
        return self._stdout.read_text(errors="surrogateescape")

    def wait_attached(self) -> None:
        """Return when all programs are attached. Fails with what tracekit said if it ends before."""
        until(lambda: "attached in" in self.stderr or self.process.poll() is not None, "tracekit to attach")
        assert "attached in" in self.stderr, f"tracekit did not attach:\n{self.stderr}"

    def wait(self) -> int:
        """Return the exit code, when it has ended."""
        return self.process.wait(PATIENCE_S)

    def stop(self, number: int) -> int:
        """Send a signal, and return the exit code when it has ended."""
        self.process.send_signal(number)
        return self.wait()

    def result(self) -> Run:
        """Return the recording of a tracekit that has ended."""
        return Run(Recording(self.file), truths(self.folder), self.wait(), self.stdout, self.stderr)


def truths(folder: Path) -> dict[str, Any]:
    """Return what the workloads in *folder* said of themselves."""
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", "HOME": "/root"}


@dataclass
class Lab:
    """
    A place to record workloads in.

    A workload is a line of shell in which `$W` is the folder of the compiled workloads
    and `$T` the folder for their truths.
    """

    workloads: Path
    scratch: Path
    used: int = 0

    def folder(self) -> Path:
        """Return a new, empty folder."""
        self.used += 1
        path = self.scratch / str(self.used)
        path.mkdir()
        return path

    def shell(self, script: str, folder: Path) -> list[str]:
        """Return the command that runs *script*, in a shell that stays: each command is a child of its own."""
        return ["/bin/sh", "-c", f"W={self.workloads} T={folder}\n{script}\nexit $?"]

    def run(self, script: str, *options: str) -> Run:
        """Record *script* with `tracekit run`, from its first instruction to its end."""
        folder = self.folder()
        tracer = Tracer(folder, "run", *_options(folder, options), "--", *self.shell(script, folder))
        code = tracer.wait()
        assert (folder / "run.tk").exists(), f"tracekit ended with {code}:\n{tracer.stderr}"
        return tracer.result()

    def tracer(self, folder: Path, command: str, *arguments: str | Path, **how: Any) -> Tracer:
        """Start a tracekit that records to run.tk in *folder*; *how*: as a Tracer takes it."""
        return Tracer(folder, command, *_options(folder, arguments), **how)

    @contextmanager
    def started(self, script: str, folder: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Start *script*, killed at the end if it has not ended; its standard input is a pipe."""
        folder = folder or self.folder()
        process = subprocess.Popen(self.shell(script, folder), cwd=folder, stdin=subprocess.PIPE)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    @contextmanager
    def attached(self, *arguments: str, folder: Path | None = None) -> Iterator[Tracer]:
        """Yield an attached `tracekit attach`, killed at the end if it has not ended."""
        with _attached(folder or self.folder(), "attach", arguments) as tracer:
            yield tracer

    @contextmanager
    def launched(self, script: str, *options: str, folder: Path | None = None) -> Iterator[Tracer]:
        """Yield a `tracekit run` that has launched *script*; its standard input ends at the end."""
        folder = folder or self.folder()
        with _attached(folder, "run", options, "--", *self.shell(script, folder)) as tracer:
            yield tracer

    def attach(self, script: str, *options: str) -> Run:
        """Record *script* with `tracekit attach -p`, from before its first line to its end."""
        folder = self.folder()
        with (
            self.started(f"read go; {script}", folder) as target,
            self.attached("-p", str(target.pid), *options, folder=folder) as tracer,
        ):
            go(target)
            target.wait(PATIENCE_S)
            tracer.wait()
            return tracer.result()


@contextmanager
def _attached(folder: Path, command: str, options: tuple[str, ...], *words: str) -> Iterator[Tracer]:
    tracer = Tracer(folder, command, *_options(folder, options), *words, stdin=subprocess.PIPE)
    try:
        tracer.wait_attached()
        yield tracer
    finally:
        tracer.process.kill()
        tracer.process.communicate()


def go(target: subprocess.Popen[bytes]) -> None:
    """Let a script that begins with `read go` go on."""
    stream: IO[bytes] | None = target.stdin
    assert stream
    stream.write(b"go\n")
    stream.flush()


def _options(folder: Path, options: tuple[str | Path, ...]) -> list[str | Path]:
    return ["-i", "100ms", "-o", folder / "run.tk", *options]


def added(parts: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the sums of (ns, events) pairs."""
    return reduce(lambda a, b: (a[0] + b[0], a[1] + b[1]), parts, (0, 0))


def has_disk() -> bool:
    """Is there a block device, and temporary files on it?"""
    device = Path(tempfile.gettempdir()).stat().st_dev
    return Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").exists()


@contextmanager
def memory_cgroup(limit_bytes: int) -> Iterator[Path]:
    """Yield a cgroup whose processes may use *limit_bytes*, version 1 or 2 as the host has it."""
    old = Path("/sys/fs/cgroup/memory")
    if old.is_dir():
        with new_cgroup(old) as path:
            (path / "memory.limit_in_bytes").write_text(str(limit_bytes))
            yield path
        return
    (CGROUP2 / "cgroup.subtree_control").write_text("+memory")
    with new_cgroup(CGROUP2) as path:
        (path / "memory.max").write_text(str(limit_bytes))
        yield path


@contextmanager
def pids_cgroup(limit: int) -> Iterator[Path]:
    """Yield a cgroup that may have so many threads, version 1 or 2 as the host has it."""
    old = Path("/sys/fs/cgroup/pids")
    if not old.is_dir():
        (CGROUP2 / "cgroup.subtree_control").write_text("+pids")
    with new_cgroup(old if old.is_dir() else CGROUP2) as path:
        (path / "pids.max").write_text(str(limit))
        yield path


@contextmanager
def quota_cgroup(percent: int) -> Iterator[tuple[Path, Callable[[], int]]]:
    """Yield a cgroup that may use *percent* of a CPU, and what tells for how many ns it was throttled."""
    old = Path("/sys/fs/cgroup/cpu")
    period_us = 50_000
    quota_us = period_us * percent // 100
    if old.is_dir():
        with new_cgroup(old) as path:
            (path / "cpu.cfs_period_us").write_text(str(period_us))
            (path / "cpu.cfs_quota_us").write_text(str(quota_us))
            yield path, lambda: _field(path / "cpu.stat", "throttled_time")
        return
    (CGROUP2 / "cgroup.subtree_control").write_text("+cpu")
    with new_cgroup(CGROUP2) as path:
        (path / "cpu.max").write_text(f"{quota_us} {period_us}")
        yield path, lambda: 1000 * _field(path / "cpu.stat", "throttled_usec")


def _field(path: Path, name: str) -> int:
    fields = dict(line.split() for line in path.read_text().splitlines())
    return int(fields[name])


@contextmanager
def new_cgroup(parent: Path) -> Iterator[Path]:
    """Yield a new cgroup below *parent*; at the end it must be empty."""
    path = parent / f"tracekit-test-{os.getpid()}"
    path.mkdir()
    try:
        yield path
    finally:
        until(lambda: not (path / "cgroup.procs").read_text(), f"{path} to be empty", 20)
        path.rmdir()


def _cgroup2() -> Path:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return Path("/sys/fs/cgroup")


CGROUP2 = _cgroup2()
"""Root of the version 2 hierarchy; hybrid hosts have it beside those of version 1."""
