"""
How long threads have slept, though nobody watched them fall asleep.

The scheduler notes for each thread when it last ran, by a clock of the CPU that it ran on, and tells in
/proc/PID/task/TID/sched. What that clock shows now is what it notes of us, as we come to that CPU. It stands still
while the CPU has interrupts, or belongs to another virtual machine: threads slept at least so long.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_RAN = re.compile(rb"^se\.exec_start\s*:\s*(\d+)\.(\d{6})$", re.MULTILINE)
_CPU = 36  # field of stat, from behind the name of the program: the CPU that it last ran on


def slept_ns(threads: Iterable[tuple[int, int]], root: Path = Path("/proc")) -> dict[int, int]:
    """Return how long each thread, given as (pid, tgid), has not run, by pid; of running ones it says nothing."""
    noted: dict[int, dict[int, int]] = {}
    for pid, tgid in threads:
        task = root / str(tgid) / "task" / str(pid)
        with contextlib.suppress(OSError, IndexError, ValueError):
            cpu = int((task / "stat").read_bytes().rpartition(b")")[2].split()[_CPU])
            ran = _ran_ns(task)
            if ran:
                noted.setdefault(cpu, {})[pid] = ran
    found: dict[int, int] = {}
    for cpu, clock_ns in _clocks(noted).items():
        found |= {pid: clock_ns - ran for pid, ran in noted[cpu].items() if clock_ns >= ran}
    return found


def _ran_ns(task: Path) -> int:
    """Return when a thread last ran, 0: not known."""
    found = _RAN.search((task / "sched").read_bytes())
    return int(found[1] + found[2]) if found else 0


def _clocks(cpus: Iterable[int]) -> dict[int, int]:
    """Return what the clocks of CPUs show; those that we may not run on are left out."""
    found = {}
    allowed = os.sched_getaffinity(0)
    try:
        for cpu in cpus:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, {cpu})
                found[cpu] = _ran_ns(Path("/proc/thread-self"))
    finally:
        os.sched_setaffinity(0, allowed)
    return found
