"""What py-spy says of a process, in the words of a dump."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.unit.pythons import running
from tracekit.capture.stacks.code import shortened
from tracekit.stacks import is_python

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracekit.dumped import Dump

STILL = Path(__file__).parent / "still.py"
PY_SPY = Path(sys.executable).parent / "py-spy"


@contextmanager
def standing(python: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a process of still.py in whose threads all stand where they will stay."""
    with running(python, STILL, *arguments, cwd="/") as (process, said):
        assert said == "there\n"
        while any(task.read_text() == "running\n" for task in Path(f"/proc/{process.pid}/task").glob("*/syscall")):
            time.sleep(0.01)
        yield process


def python_stacks(pid: int, cwd: str) -> list[list[str]]:
    """Return the Python frames of all threads, innermost first, the threads in no order that means something."""
    said = subprocess.run([PY_SPY, "dump", "-p", str(pid), "--json"], capture_output=True, text=True, check=True)
    return sorted(
        [f"{frame['name']} ({shortened(frame['filename'], cwd)}:{frame['line']})" for frame in thread["frames"]]
        for thread in json.loads(said.stdout)
    )


def stacks_of(dump: Dump) -> list[list[str]]:
    """Return the same of a dump of one process."""
    (process,) = dump.processes
    return sorted([frame for frame in reversed(thread.frames) if is_python(frame)] for thread in process.threads)
