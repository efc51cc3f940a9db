"""Two children, one after the other, that have one process id, but each its own code. Arguments: TRUTH."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

BUSY = "def {0}(end):\n    import time\n    while time.process_time() < end:\n        sum(range(100))\n"
TRIES = 1000


def child(name: str, seconds: float) -> int:
    """Start a child that is busy in a function *name* of its own; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    scope: dict[str, object] = {}
    exec(compile(BUSY.format(name), f"{name}.py", "exec"), scope)
    scope[name](time.process_time() + seconds)  # type: ignore[operator]
    os._exit(0)


def first() -> int:
    """Return the process id of the first child, which has ended."""
    pid = child("earlier", 0.5)
    os.waitpid(pid, 0)
    return pid


def second(wanted: int) -> int:
    """Return the process id of the second child, which has ended: the one that is *wanted*, or 0."""
    for _ in range(TRIES):
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(wanted - 1))
        pid = child("later", 0.5)
        if pid == wanted:
            os.waitpid(pid, 0)
            return pid
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return 0


pid = first()
Path(sys.argv[1]).write_text(json.dumps({"pids": [pid, second(pid)]}))
