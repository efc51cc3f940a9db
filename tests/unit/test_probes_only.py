"""Spans are recorded without the kernel: no root, no BPF, the same file."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.unit.probing import ROOT
from tracekit.capture import followed, probes_session
from tracekit.errors import MachineError
from tracekit.recording.reader import Recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.unit.conftest import Run

PROGRAM = """
import os, sys, time
from tracekit import counter, gauge, mark, span

input()
child = os.fork()
mark("ready")
gauge("depth").set(2)
for _ in range(101 if child else 23):
    with span("evaluation"):
        time.sleep(0.001)
try:
    with span("parse"):
        raise ValueError
except ValueError:
    counter("tokens").add(5)
time.sleep(1)
if child:
    os.waitpid(child, 0)
"""
POWERLESS = (
    ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if shutil.which("setpriv") and not os.geteuid() else []
)
"""Who is root here keeps the name and loses the power."""


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a Python process without any privilege."""
    processes: list[subprocess.Popen[str]] = []

    def start(*words: object) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [*POWERLESS, sys.executable, *map(str, words)]
        processes.append(subprocess.Popen(command, cwd=ROOT, text=True, **pipes))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def attach(started: Callable[..., subprocess.Popen[str]], pid: int, path: Path, *more: str) -> subprocess.Popen[str]:
    """Return a collector that has begun."""
    words = ["-m", "tracekit", "attach", "--probes-only", "-p", pid, "-o", path, "-i", "200ms", *more]
    collector = started(*words)
    assert "attached" in collector.stderr.readline()
    return collector


def test_spans_of_a_process_and_its_child_are_recorded(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """Counts equal the program's own; the recording ends with the last process of the target."""
    program = started("-c", PROGRAM)
    collector = attach(started, program.pid, tmp_path / "x.tk")
    program.stdin.write("go\n")
    program.stdin.flush()

    said = collector.communicate(timeout=30)[1]

    with Recording(tmp_path / "x.tk") as recording:
        histograms = {
            series.label("span"): histogram for series, histogram in recording.histograms("span.latency").items()
        }
        counters = {s.metric: v.sum() for s, v in recording.values().items() if s.label("role") and s.kind == "counter"}
        depth = next(values for series, values in recording.values("app.depth").items())
        processes = {process.seen: process for process in recording.processes()}
        tiers, end, losses = recording.host.tiers, recording.end, recording.losses()
    assert (collector.returncode, tiers, end["reason"], losses) == (0, ("probes",), "target ended", [])
    assert "lost      nothing" in said
    assert {name: histogram.count for name, histogram in histograms.items()} == {"evaluation": 124, "parse": 2}
    assert histograms["evaluation"].low >= 1_000_000
    assert counters == {"span.errors": 2, "app.tokens": 10, "mark": 2}
    assert max(depth) == 4
    assert processes["found"].tgid == program.pid
    assert processes["spawned"].ppid == program.pid
    assert processes["spawned"].ready_ns > processes["spawned"].start_ns - 10_000_000


def test_an_interrupt_ends_it_cleanly(started: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """Ctrl-C saves what there is, and says so by the exit code."""
    program = started("-c", "import time; time.sleep(60)")
    collector = attach(started, program.pid, tmp_path / "x.tk")
    time.sleep(0.3)
    collector.send_signal(signal.SIGINT)

    said = collector.communicate(timeout=30)[1]

    with Recording(tmp_path / "x.tk") as recording:
        assert recording.end["reason"] == "interrupted"
        assert len(recording.intervals) >= 2
    assert collector.returncode == 130
    assert "missing   spans: no process of the target has any" in said


def test_a_duration_ends_it(started: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """As with the kernel, -d is the length of the recording; the target goes on."""
    program = started("-c", "import time; time.sleep(60)")
    collector = attach(started, program.pid, tmp_path / "x.tk", "-d", "500ms")

    collector.communicate(timeout=30)

    with Recording(tmp_path / "x.tk") as recording:
        assert 450_000_000 <= recording.duration_ns < 5_000_000_000
    assert collector.returncode == 0
    assert program.poll() is None


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--comm", "python3"], "cannot attach to --comm with --probes-only"),
        (["--all"], "cannot attach to --all with --probes-only"),
        (["-p", "1", "--syscalls"], "cannot time system calls with --probes-only"),
        ([], "give one of -p"),
    ],
)
def test_what_makes_no_sense_is_said(run: Run, words: list[str], why: str) -> None:
    """What only the kernel could tell is refused before anything begins."""
    code, _, err = run("attach", "--probes-only", *words)

    assert code == 2
    assert why in err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root to be somebody else")
def test_another_user_s_process_is_refused() -> None:
    """Who may not look at a process is told so at once."""
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setuid(65534)
            probes_session._check_permission((1,))
        except MachineError as error:
            os.write(tell, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)

    said = os.read(told, 1000).decode()

    os.close(told)
    os.close(tell)
    assert said == "cannot read the spans of 1: it belongs to another user (or is not dumpable)"


def wait_for(found: followed.Followed, count: int) -> list[int]:
    """Return the processes, as soon as there are *count*."""
    until = time.monotonic() + 10
    while len(found.tgids) != count and time.monotonic() < until:
        time.sleep(0.02)
        found.look()
    return found.tgids


def test_descendants_are_followed(started: Callable[..., subprocess.Popen[str]]) -> None:
    """Children and theirs belong to the target when they begin, and no more when they have ended."""
    program = started("-c", "import os, time; input(); os.fork() or os.fork(); time.sleep(60)")
    found = followed.Followed([program.pid], str, children=True)
    alone = followed.Followed([program.pid], str, children=False)
    before = found.tgids
    program.stdin.write("go\n")
    program.stdin.flush()

    three = wait_for(found, 3)
    alone.look()
    os.kill(three[-1], signal.SIGKILL)
    two = wait_for(found, 2)

    processes = found.take()
    assert before == alone.tgids == [program.pid]
    assert {process.seen for process in processes if process.tgid != program.pid} == {"spawned"}
    assert set(two) == set(three[:2])
    for tgid in two:
        os.kill(tgid, signal.SIGKILL)


def test_a_name_that_changes_is_noticed(started: Callable[..., subprocess.Popen[str]]) -> None:
    """The role follows the name; how the process was found does not change."""
    rename = "open('/proc/self/comm', 'w').write('a) b\\\\n')"
    program = started("-c", f"input(); {rename}; print(1, flush=True); input()")
    found = followed.Followed([program.pid], lambda comm: f"role of {comm}", children=True)
    found.take()
    program.stdin.write("go\n")
    program.stdin.flush()
    program.stdout.readline()

    found.look()

    (process,) = found.take()
    assert (process.role, process.seen) == ("role of a) b\\n", "found")
    assert found.role_of(program.pid) == "role of a) b\\n"
    assert found.role_of(1) == ""
