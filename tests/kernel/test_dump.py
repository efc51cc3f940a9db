"""What threads do at this moment, by BPF, against py-spy and what the programs say of themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.kernel.lab import ROOT, TRACEKIT
from tests.unit.pythons import PYTHONS, running
from tests.unit.spied import STILL, python_stacks, stacks_of, standing
from tracekit.capture import dump
from tracekit.capture.dump.untraced import untraced
from tracekit.stacks import is_python

if TYPE_CHECKING:
    from tracekit.dumped import Dump, Thread

BUSY = """
import threading, time
def spin():
    while True:
        sum(number * number for number in range(1000))
def nap():
    while True:
        time.sleep(0.0005)
for target in spin, nap:
    threading.Thread(target=target, daemon=True).start()
print("there", flush=True)
time.sleep(1000)
"""
TURNS = """
import threading, time
def computing():
    end = time.monotonic() + 0.02
    while time.monotonic() < end:
        pass
def sleeping():
    time.sleep(0.02)
def turns():
    while True:
        computing()
        sleeping()
for _ in range(3):
    threading.Thread(target=turns, daemon=True).start()
print("there", flush=True)
turns()
"""
TASKS = """
import asyncio, time, tracekit
async def one(turn):
    with tracekit.span("one"):
        await turn.wait()
        print("there", flush=True)
        time.sleep(1000)
async def two(turn):
    with tracekit.span("two"):
        turn.set()
        await asyncio.sleep(1000)
async def main():
    turn = asyncio.Event()
    first = asyncio.create_task(one(turn))
    await asyncio.sleep(0)
    await asyncio.gather(first, two(turn))
asyncio.run(main())
"""
FALLBACK = f"""
import sys
sys.modules["tracekit.probe._probe"] = None
sys.argv = ["still.py", "span"]
exec(open({str(STILL)!r}).read())
"""
FAMILY = "sleep 1000 & sleep 1000 & echo there; wait"


def threads(found: Dump) -> list[Thread]:
    return [thread for process in found.processes for thread in process.threads]


def by_function(found: Dump, name: str) -> Thread:
    """Return the thread that runs a Python function."""
    (thread,) = (each for each in threads(found) if any(frame.startswith(f"{name} (") for frame in each.frames))
    return thread


@pytest.mark.parametrize("python", PYTHONS)
def test_python_frames_are_those_that_py_spy_finds(python: str) -> None:
    """Name, file and line of every frame of every thread; each between what called it and what it called."""
    with standing(python) as process:
        found = dump.take((process.pid,), children=False)

        assert stacks_of(found) == python_stacks(process.pid, "/")
    selecting = by_function(found, "selecting").frames
    places = [
        next(place for place, frame in enumerate(selecting) if text in frame)
        for text in ("start_thread (libc", "(threading.py:", "selecting (", "select (libc.so.6)", "pselect6_[k]")
    ]
    assert places == sorted(places)
    assert (found.processes[0].python, found.missing) == (".".join(_version(python)[:2]), ())


def _version(python: str) -> list[str]:
    said = subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout
    return said.split()[1].split(".")


def test_threads_that_run_are_sampled() -> None:
    """One that runs, one that naps all the time, one that sleeps: states, and the code of all three."""
    with running(PYTHONS[0], "-c", BUSY) as (process, _):
        time.sleep(0.3)
        found = dump.take((process.pid,), children=False)

    spin, nap, main = (by_function(found, name) for name in ("spin", "nap", "<module>"))
    assert spin.sampled or spin.state != "running"  # it stood still while another had the CPU, or the interpreter
    assert spin.state in {"running", "runnable"} or spin.reason == "lock"
    assert nap.state == "running" or nap.since_ns is None or nap.since_ns < 1_000_000_000
    assert (main.state, main.reason, main.sampled, main.exactly) == ("blocked", "poll", False, False)
    assert main.since_ns > 300_000_000


def test_state_and_frames_are_of_one_moment() -> None:
    """A thread that computes in one function and sleeps in another: where it sleeps it is blocked, else it is not."""
    with running(PYTHONS[0], "-c", TURNS) as (process, _):
        seen = [thread for _ in range(5) for thread in threads(dump.take((process.pid,), children=False))]

    known = [thread for thread in seen if any(map(is_python, thread.frames))]
    for thread in known:
        computes = any(frame.startswith("computing (") for frame in thread.frames)
        asleep = thread.state == "blocked" and thread.syscall == "clock_nanosleep"
        assert not (computes and asleep)
        assert not asleep or any(frame.startswith("sleeping (") for frame in thread.frames)
    assert known


@pytest.mark.parametrize("look", [lambda pid: dump.take((pid,), children=False), lambda pid: untraced([pid], "")])
@pytest.mark.parametrize(("program", "span"), [
    ([STILL, "span"], "evaluation"), (["-c", TASKS], "one"), (["-c", FALLBACK], "evaluation"),
])  # fmt: skip
def test_the_span_of_a_thread(program: list[Any], span: str, look: Any) -> None:
    """The innermost one that is open, of the task that runs: not of the one that was entered last."""
    with running(sys.executable, *program, env={**os.environ, "PYTHONPATH": str(ROOT)}) as (process, said):
        assert said == "there\n"
        time.sleep(0.05)
        found = look(process.pid)

    assert {thread.span for thread in threads(found)} - {""} == {span}


def test_children_are_looked_at_if_they_are_wanted() -> None:
    """The shell alone; with its two children."""
    with running("sh", "-c", FAMILY) as (process, _):
        alone = _document("-p", str(process.pid))
        family = _document("-p", str(process.pid), "--children")
        for each in family["processes"]:
            os.kill(each["pid"], 9)

    assert [each["pid"] for each in alone["processes"]] == [process.pid]
    commands = [each["command"] for each in family["processes"]]
    assert commands == [f"sh -c {FAMILY}", "sleep 1000", "sleep 1000"]
    states = [(thread["state"], thread["syscall"]) for each in family["processes"] for thread in each["threads"]]
    assert states[0] in {("blocked", "wait4"), ("blocked", "rt_sigsuspend")}  # bash, dash
    assert states[1:] == [("blocked", "clock_nanosleep")] * 2


def test_without_the_right_to_read_memory_there_is_the_kernels_side() -> None:
    """CAP_BPF and CAP_PERFMON: states, calls and kernel frames of anybody's process, and a note of what is missing."""
    kept = "+bpf,+perfmon"
    before = ["setpriv", "--reuid=65534", "--clear-groups", "--inh-caps", kept, "--ambient-caps", kept]
    with running("sh", "-c", "echo there; exec sleep 1000") as (process, _):
        time.sleep(0.1)
        command = [*before, *TRACEKIT, "dump", "--json", "-p", str(process.pid)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    (thread,) = json.loads(done.stdout)["processes"][0]["threads"]
    assert (thread["state"], thread["syscall"], thread["reason"]) == ("blocked", "clock_nanosleep", "poll")
    assert {frame["kind"] for frame in thread["frames"]} == {"kernel"}
    assert f"note: frames of process {process.pid}: its memory may not be read" in done.stderr


def test_a_program_without_python() -> None:
    """Native and kernel frames, whole: from `_start` to where it sleeps in the kernel."""
    with running("sh", "-c", "echo there; exec sleep 1000") as (process, _):
        time.sleep(0.1)
        (thread,) = threads(dump.take((process.pid,), children=False))

    assert thread.frames[0].endswith(" (sleep)")
    assert "clock_nanosleep (libc.so.6)" in thread.frames
    assert thread.frames[-1].endswith("_[k]")
    assert not any(map(is_python, thread.frames))


def _document(*arguments: str) -> Any:
    command = [*TRACEKIT, "dump", "--json", *arguments]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
