"""The least that stacks must be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kernel.stacked import record, rows

if TYPE_CHECKING:
    from tests.kernel.lab import Lab

TIMES, SLEEP_NS = 11, 30_000_000
PROGRAM = f"""
import sys, time
def outer():
    inner()
def inner():
    time.sleep({SLEEP_NS / 1e9})
def absent():
    try: open("/nowhere")
    except OSError: pass
def busy():
    until = time.thread_time() + 0.6
    while time.thread_time() < until: pass
open(sys.argv[2] + ".ready", "w").close()
sys.stdin.readline()
for n in range({TIMES}): outer()
for n in range(3): absent()
busy()
"""


def test_where_a_program_runs_waits_and_fails(lab: Lab) -> None:
    """Python frames down to the module, the kernel's on top; a wait as long as it was."""
    run = record(lab, {"short": ["/usr/bin/python3", "-c", PROGRAM]})

    waits = [row for row in rows(run, "stack.offcpu", syscall="clock_nanosleep") if row.has("inner")]
    runs = [row for row in rows(run, "stack.oncpu") if row.has("busy")]
    fails = [row for row in rows(run, "stack.errors", syscall="openat", errno="ENOENT") if row.has("absent")]

    assert {tuple(frame.name for frame in row.python) for row in waits} == {("<module>", "outer", "inner")}
    assert sum(row.count for row in waits) == TIMES
    assert sum(row.weight for row in waits) >= TIMES * SLEEP_NS
    assert all(row.frames[-1].endswith("_[k]") for row in waits)
    assert runs
    assert fails
