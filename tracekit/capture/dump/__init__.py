"""
What the threads of processes do at this moment: nothing is stopped, and no signal sent.

With BPF the kernel tells of each thread what it does, and whether it runs; without, /proc tells some of it.
"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tracekit.capture.dump import proc
from tracekit.capture.dump.traced import traced
from tracekit.capture.dump.untraced import untraced
from tracekit.capture.kernel import Kernel
from tracekit.capture.options import Options
from tracekit.capture.wire import SAMPLE_HZ
from tracekit.capture.workload import check_pid_namespace, check_pids
from tracekit.errors import MachineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracekit.dumped import Dump


def take(pids: tuple[int, ...], *, children: bool, attached: Callable[[], None] = lambda: None) -> Dump:
    """
    Return what the threads of processes do, of their descendants too if *children*.

    *attached* is called when all is attached, before anything of these processes is read.

    Raises:
        UsageError: a process is not there. MachineError: none of them may be looked at.
    """
    tgids = check_pids(pids, os.getpid(), "look at")
    options = Options(Path(os.devnull), pids=tgids, children=children, errors=False, db=False, stack_hz=SAMPLE_HZ)
    why = "the iterator of tasks in the kernel does not show it"
    try:
        check_pid_namespace()
        with closing(Kernel(options, tgids)) as kernel:
            found = traced(kernel, attached)
    except MachineError as error:
        why = str(error)
    else:
        if found.processes:
            return found
    if not any(Path("/proc", str(tgid)).exists() for tgid in tgids):
        raise UsageError(f"cannot look at {tgids[0]}: it has gone", "pgrep -af NAME")
    return untraced(proc.children(tgids) if children else tgids, why)
