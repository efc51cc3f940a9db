"""What threads do at this moment: without BPF, and how it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from tests import golden
from tests.unit.pythons import PYTHONS, running
from tests.unit.spied import STILL, python_stacks, stacks_of, standing
from tracekit.capture.dump import proc
from tracekit.capture.dump.asleep import slept_ns
from tracekit.capture.dump.untraced import untraced
from tracekit.dumped import Dump, Process, Thread
from tracekit.report import dump as report

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
KERNEL = ("do_syscall_64_[k]", "__x64_sys_epoll_wait_[k]", "ep_poll_[k]")
PYTHON = ("<module> (app.py:90)", "main (app.py:80)", "_PyEval_EvalFrameDefault (libpython3.11.so.1.0)")
HOSTILE = "worker\x1b[31m\n\u202eexe.py"
DUMP = Dump(
    (
        Process(
            4242,
            "python3 app.py --workers 4",
            "3.11",
            (
                Thread(
                    *(4242, "python3", "blocked", "poll", "epoll_wait", 1_234_000_000, False, "evaluation"),
                    ("_start (python3.11)", *PYTHON, "select (selectors.py:468)", "epoll_wait (libc.so.6)", *KERNEL),
                ),
                Thread(4243, "python3", "running", frames=("_start (python3.11)", *PYTHON), sampled=True),
                Thread(4244, HOSTILE, "runnable", since_ns=250_000, exactly=True, frames=(f"{HOSTILE} (x.py:1)",)),
                Thread(4245, "napper", "blocked", "lock", "futex", 90_000, True, "", PYTHON[:1], sampled=True),
                Thread(4246, "stopped", "blocked", "stopped"),
                Thread(4247, "kernel", "blocked", "disk", "fsync", 5_000_000_000, False, "", KERNEL),
            ),
        ),
        Process(4300, "/usr/bin/redis-server " + "x" * 100, "", (Thread(4300, "redis-server", "running"),)),
    ),
    ("kernel frames: not allowed",),
)


@pytest.fixture
def still(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """Yield a process whose threads stay where they are."""
    with standing(getattr(request, "param", PYTHONS[0])) as process:
        yield process


def plain(dump: Dump) -> str:
    return click.unstyle("\n".join(report.text(dump))) + "\n"


def test_text():
    """State, age, call, reason, span; frames innermost first; what is not known says so; no name does harm."""
    text = plain(report.shown(DUMP, native=False))

    assert "\x1b" not in text
    golden.check("dump.txt", text)


def test_frames_of_the_interpreter_are_left_out_unless_they_are_wanted():
    """As in flame graphs."""
    assert "_PyEval_EvalFrameDefault" not in plain(report.shown(DUMP, native=False))
    assert plain(report.shown(DUMP, native=True)).count("_PyEval_EvalFrameDefault (libpython3.11.so.1.0)") == 2


def test_document():
    """Frames in parts, innermost first; nothing that is not known has a value; names are as they were."""
    document = json.loads(report.document(report.shown(DUMP, native=False)))

    threads = document["processes"][0]["threads"]
    assert threads[0]["frames"][0] == {"kind": "kernel", "name": "ep_poll"}
    assert threads[0]["frames"][3] == {"kind": "native", "name": "epoll_wait", "library": "libc.so.6"}
    assert threads[0]["frames"][4] == {"kind": "python", "name": "select", "file": "selectors.py", "line": 468}
    assert (threads[0]["since_ns"], threads[0]["since_is_exact"], threads[0]["span"]) == (
        1234000000,
        False,
        "evaluation",
    )
    assert (threads[1]["state"], threads[1]["syscall"], threads[1]["sampled"]) == ("running", None, True)
    assert threads[2]["name"] == HOSTILE
    assert document["missing"] == ["kernel frames: not allowed"]


@pytest.mark.parametrize("still", PYTHONS, indirect=True)
def test_python_frames_are_those_that_py_spy_finds(still: subprocess.Popen[str]):
    """Name, file and line of every frame of every thread, from each CPython of this machine."""
    found = untraced([still.pid], "")

    assert stacks_of(found) == python_stacks(still.pid, "/")
    assert len(stacks_of(found)) == 8


def test_threads_that_wait(still: subprocess.Popen[str]):
    """The call, the reason, the age; Python, native and kernel frames in their order."""
    began = time.monotonic_ns()
    time.sleep(0.3)

    ((process,), missing) = (found := untraced([still.pid], "it was not asked")).processes, found.missing

    states = {(thread.state, thread.reason) for thread in process.threads}
    calls = [thread.syscall for thread in process.threads]
    assert states == {("blocked", "poll")}
    assert sorted(calls) == ["clock_nanosleep"] * 7 + ["pselect6"]
    assert all(300_000_000 < thread.since_ns < time.monotonic_ns() - began + 10**9 for thread in process.threads)
    assert not any(thread.exactly for thread in process.threads)
    assert missing == ("kernel frames, and what threads do that run: it was not asked",)
    assert process.command == f"{PYTHONS[0]} {STILL}"
    selecting = next(thread for thread in process.threads if thread.syscall == "pselect6").frames
    places = [next(i for i, frame in enumerate(selecting) if text in frame) for text in (
        "start_thread (libc", "Thread.run (", "selecting (", "select (libc.so.6)", "pselect6_[k]")]  # fmt: skip
    assert places == sorted(places)


def test_how_long_threads_slept():
    """The scheduler's word of a sleep that nobody watched begin."""
    with subprocess.Popen(["sleep", "100"]) as process:
        time.sleep(0.1)  # until it sleeps
        began = time.monotonic_ns()
        time.sleep(0.25)

        slept = slept_ns([(process.pid, process.pid)])[process.pid]

        assert 200_000_000 < slept < time.monotonic_ns() - began + 150_000_000
        process.kill()


def test_states_that_are_no_sleep():
    """A thread that runs waits for nothing; one that is stopped waits for who stopped it."""
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as process:
        time.sleep(0.1)
        (runs,) = proc.threads(process.pid)
        process.send_signal(19)
        time.sleep(0.1)
        (stopped,) = proc.threads(process.pid)
        process.kill()

    assert (runs.letter, runs.reason) == ("R", "")
    assert (stopped.letter, stopped.reason) == ("T", "stopped")


@pytest.mark.parametrize(("script", "reason"), [("read x <$0", "pipe"), ("sleep 9 & wait", "child")])
def test_what_a_read_waits_for_depends_on_the_file(tmp_path: Path, script: str, reason: str):
    """A FIFO is a pipe; a shell that waits for its child says so."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    keeper = os.open(fifo, os.O_RDWR)
    with subprocess.Popen(["bash", "-c", script, str(fifo)]) as process:
        time.sleep(0.2)
        (found,) = (seen.reason for seen in proc.threads(process.pid))
        family = proc.children([process.pid])
        for pid in family:
            os.kill(pid, 9)
    os.close(keeper)

    assert found == reason
    assert len(family) == (2 if reason == "child" else 1)


def test_of_a_process_that_is_somebody_elses_nothing_is_said(still: subprocess.Popen[str]):
    """One line, what to do, exit 4: no BPF, and its memory may not be read."""
    done = _tracekit(["dump", "-p", str(still.pid)], user=65534)

    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith(f"tracekit: cannot look at process {still.pid}: its memory may not be read, and")
    assert "try: sudo" in done.stderr


def test_your_own_process_needs_no_rights():
    """Without BPF and root there are Python's and native frames, the call and the reason, and a note."""
    with running("/usr/bin/python3", "-c", STILL.read_text(), cwd="/", user=65534) as (process, _):
        done = _tracekit(["dump", "-p", str(process.pid), "--json"], user=65534)

    threads = json.loads(done.stdout)["processes"][0]["threads"]
    selecting = next(thread for thread in threads if thread["syscall"] == "pselect6")
    names = [frame["name"] for frame in selecting["frames"]]
    assert done.returncode == 0
    assert done.stderr.startswith("note: kernel frames, and what threads do that run: cannot load BPF programs")
    assert names[names.index("selecting") - 1].endswith("select")
    assert selecting["reason"] == "poll"


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["-p", "999999999"], 2, "cannot look at 999999999: no such process"),
    (["-p", "x"], 2, "is not a process id"),
    ([], 2, "cannot dump nothing"),
])  # fmt: skip
def test_usage(arguments: list[str], code: int, said: str):
    """A line, and the exit code that the help promises."""
    done = _tracekit(["dump", *arguments])

    assert done.returncode == code
    assert said in done.stderr


def _tracekit(arguments: list[str], **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tracekit", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
