"""Stacks of threads that stand still: whose, in what time, and of what memory."""

from __future__ import annotations

import os
import random
import struct
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.pythons import PYTHONS, running
from tests.unit.spied import standing
from tracekit.capture.dump import proc
from tracekit.capture.stacks.layout import MAX_UNWIND_PAGES, MAX_UNWIND_ROWS
from tracekit.capture.stacks.layouts import Layouts
from tracekit.capture.stacks.sleepers import Sleeper, Walk, stamps_of
from tracekit.capture.stacks.symbols import Symbols

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

PATIENCE_S = 20.0
NAPPING = "import time\nprint('there', flush=True)\nwhile True: time.sleep(0.0001)"


@pytest.fixture
def still() -> Iterator[subprocess.Popen[str]]:
    """Yield a process whose threads stay where they are."""
    with standing(PYTHONS[0]) as process:
        yield process


@contextmanager
def walking() -> Iterator[Walk]:
    files = os.memfd_create("rows"), os.memfd_create("pages")
    os.ftruncate(files[0], MAX_UNWIND_ROWS * 8)
    os.ftruncate(files[1], MAX_UNWIND_PAGES * 8)
    with closing(Layouts(*files)) as layouts, closing(Symbols()) as symbols:
        yield Walk(layouts, symbols)
    for file in files:
        os.close(file)


def sleepers(walk: Walk, pid: int) -> list[Sleeper]:
    threads = proc.threads(pid)
    process = walk.process(pid)
    assert process
    return proc.sleepers(threads, proc.pointers(pid, process.identities(), (each.pid for each in threads)))


def test_threads_that_stand_still(still: subprocess.Popen[str]):
    """All of them; the walk reaches the outermost frame of each."""
    with walking() as walk:
        stamps = stamps_of((each.pid, each.tgid) for each in proc.threads(still.pid))
        found = walk.stacks(lambda: sleepers(walk, still.pid), stamps, time.monotonic() + PATIENCE_S)

    assert set(found) == set(stamps)
    assert len(found) == 8
    assert {stood.native[-1] for stood in found.values() if stood.whole} <= {
        "_start (python3.11)",
        "clone3 (libc.so.6)",
    }
    assert sum(stood.whole for stood in found.values()) >= 7  # 200 deep, it is cut
    assert walk.late == 0


def test_a_thread_that_ran_since_has_no_stack():
    """What was read of it may be of two moments: it came on a CPU since its stamp was taken."""
    with running(PYTHONS[0], "-c", NAPPING) as (process, _), walking() as walk:
        stamps = stamps_of([(process.pid, process.pid)])
        time.sleep(0.05)

        found = walk.stacks(lambda: sleepers(walk, process.pid), stamps, time.monotonic() + PATIENCE_S)

    assert list(stamps) == [process.pid]
    assert found == {}


def test_what_there_is_no_time_for_is_counted(still: subprocess.Popen[str]):
    """A deadline that has passed: nothing is walked, and all of it is said to be late."""
    with walking() as walk:
        stamps = stamps_of((each.pid, each.tgid) for each in proc.threads(still.pid))
        seen = sleepers(walk, still.pid)

        found = walk.stacks(lambda: seen, stamps, time.monotonic() - 1)

    assert (found, walk.late) == ({}, len(stamps))


def test_memory_that_makes_no_sense_ends_a_stack(still: subprocess.Popen[str]):
    """Whatever stands on a stack and in the interpreter: marks, in bounded time, and no error."""
    chance = random.Random(1)
    with walking() as walk:
        stamps = stamps_of((each.pid, each.tgid) for each in proc.threads(still.pid))
        seen = sleepers(walk, still.pid)
        with Path(f"/proc/{still.pid}/mem").open("r+b", buffering=0) as memory:
            for sleeper in seen:
                pointers = [
                    chance.choice((sleeper.sp + 64, sleeper.pc, 0, 1 << 63, sleeper.pointer)) for _ in range(512)
                ]
                memory.seek(sleeper.sp)
                memory.write(struct.pack("<512Q", *pointers))
                memory.seek(sleeper.pointer & ~4095)
                memory.write(chance.randbytes(2048))
        began = time.monotonic()

        found = walk.stacks(lambda: seen, stamps, began + 1.0)

        assert time.monotonic() - began < 3
    assert set(found) == set(stamps)
    for stood in found.values():
        assert len(stood.frames(())) <= 256


def test_stamps_of_what_is_not_there():
    """A thread that has gone has none."""
    assert stamps_of([(999_999_999, 999_999_999)]) == {}
