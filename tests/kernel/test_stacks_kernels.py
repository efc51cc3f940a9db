"""Stacks as each kernel must give them: one recording of seconds, that asks nothing of how fast the machine is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import SLACK
from tests.kernel.stacked import CUT, STARTING, UNREADABLE, Frame, Row, record, rows, weight

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run

TIMES, WAIT_NS, LOCK_NS = 7, 30_000_000, 300_000_000
"""Fewer than are shed: each wait, and each call that fails, has a stack."""
PROGRAM = f"""
import os, select, sys, threading, time
def outer(function):
    function()
def busy():
    until = time.thread_time() + 1
    while time.thread_time() < until: pass
def sleeps():
    time.sleep({WAIT_NS / 1e9})
def locks():
    lock.acquire()
def fails():
    try: os.rmdir("/missing/folder")
    except OSError: pass
def waits():
    helper = threading.Timer({LOCK_NS / 1e9}, lock.release)  # so long that who is to wait is there before
    lock.acquire()
    helper.start()
    outer(locks)
    helper.join()
    lock.release()
lock = threading.Lock()
with open("/proc/self/comm", "w") as comm: comm.write(sys.argv[1])
open(sys.argv[2] + ".ready", "w").close()
while not select.select([sys.stdin], [], [], 0.02)[0]: pass
for _ in range({TIMES}):
    outer(sleeps)
    waits()
    outer(fails)
outer(busy)
time.sleep({0.5 if SLACK == 1 else 10})  # names are read five times a second, and on an emulated CPU later
"""
NATIVE = {
    "outer_a": ["main", "outer_a", "middle_b", "inner_c"],
    "sized": ["main", "sized", "middle_b", "inner_c"],
    "sorted": ["main", "sorted", "compared", "inner_c"],
    "of_thread": ["begin_thread", "of_thread", "middle_b", "inner_c"],
}
"""Functions of workloads/native.c, by the one that is only in this chain."""
MARKS = {CUT, STARTING, UNREADABLE}
ROOTS = {"_start", "clone", "clone3", "__clone", "__clone3"}


@pytest.fixture(scope="module")
def run(lab: Lab) -> Run:
    """A program of Python, and one of C without frame pointers, one after the other."""
    python = ["/usr/bin/python3", "-c", PROGRAM]
    interval = "100ms" if SLACK == 1 else "2s"  # an emulated CPU would do nothing but collect
    return record(lab, {"python": python, "native": [lab.workloads / "native"]}, "-i", interval)


def names(row: Row) -> tuple[str, ...]:
    return tuple(frame.name for frame in row.python)


def test_python_that_computes(run: Run) -> None:
    """From the module down to the function that works, each with its line."""
    found = [row for row in rows(run, "stack.oncpu", role="python") if row.has("busy")]

    assert sum(row.count for row in found) > 10
    assert {names(row) for row in found} == {("<module>", "outer", "busy")}
    assert {row.python[1] for row in found} == {Frame("outer", "<string>", 4)}
    assert {row.python[2].line for row in found} <= {6, 7}
    assert not [row for row in found if MARKS & set(row.frames)]


@pytest.mark.parametrize(
    ("function", "chain", "ns", "reason", "call", "inside"),
    [
        ("sleeps", ("<module>", "outer", "sleeps"), WAIT_NS, "poll", "clock_nanosleep", {"do_nanosleep_[k]"}),
        (
            "locks",
            ("<module>", "waits", "outer", "locks"),
            LOCK_NS,
            "lock",
            "futex",
            {"futex_wait_[k]", "do_futex_[k]"},
        ),
    ],
)
def test_python_that_waits(
    run: Run, function: str, chain: tuple[str, ...], ns: int, reason: str, call: str, inside: set[str]
) -> None:
    """Each wait is there, or counted as lost: under its function and the kernel's, with reason and system call."""
    found = [row for row in rows(run, "stack.offcpu", role="python") if row.has(function)]
    longest = [row for row in found if row.weight >= 0.5 * row.count * ns]  # not for the interpreter's lock

    times = sum(row.count for row in longest)
    _, all_times = run.wall("python", "python")["blocked", reason, call]  # some are for the interpreter's lock

    assert TIMES - run.lost.get("stack", 0) <= times <= all_times
    assert {names(row) for row in found} == {chain}
    assert {(row.labels["reason"], row.labels["syscall"]) for row in longest} == {(reason, call)}
    assert all(inside & set(row.kernel) for row in longest)
    assert all(row.frames[-1].startswith(("schedule", "__schedule")) for row in longest)
    assert weight(longest) + run.lost.get("stack", 0) * ns >= 0.8 * TIMES * ns


def test_python_that_fails(run: Run) -> None:
    """Each call that failed is there, or counted as lost, under the function that made it."""
    found = [row for row in rows(run, "stack.errors", syscall="rmdir", errno="ENOENT") if row.weight]

    assert {names(row) for row in found} == {("<module>", "outer", "fails")}
    assert weight(found) <= TIMES <= weight(found) + run.lost.get("stack", 0)
    assert run.count("syscall.errors", syscall="rmdir") == TIMES


@pytest.mark.parametrize("function", NATIVE)
def test_native_code_by_its_rows(run: Run, function: str) -> None:
    """From where a thread begins down to who works; also by a frame of any size, and through the C library."""
    found = [row for row in rows(run, "stack.oncpu", role="native") if f"{function} (native)" in row.frames]
    own = [[frame.rpartition(" (")[0] for frame in row.frames if not frame.endswith("_[k]")] for row in found]
    known = {name for chain in NATIVE.values() for name in chain}

    chains = [[name for name in chain if name in known] for chain in own]

    assert sum(row.count for row in found) > 3
    assert NATIVE[function] in chains
    assert [chain for chain in chains if chain != NATIVE[function][: len(chain)]] == []
    assert {chain[0] for chain in own} <= ROOTS
    assert not [row for row in found if MARKS & set(row.frames)]
