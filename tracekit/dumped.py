"""What the threads of some processes do at one moment. Times are ns, ids are those of the kernel: pid = thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["running", "runnable", "blocked"]


@dataclass(frozen=True)
class Thread:
    """
    A thread.

    Attributes:
        name: as the thread calls itself (hostile).
        state: of the moment; runnable: it waits for a CPU.
        reason, syscall: what it waits for or last waited for, as in the metrics; "": not known, or nothing.
        since_ns: how long it has been in this state; None: not known. Not *exactly*: at least so long.
        span: the innermost open span; "": none, or not known.
        frames: its stack, root first (hostile); empty: none could be taken.
        sampled: it does not stand still. State and stack are of one moment all the same, a sample of it taken shortly
            before; *since_ns* is then how long that wait lasted.
    """

    pid: int
    name: str
    state: State
    reason: str = ""
    syscall: str = ""
    since_ns: int | None = None
    exactly: bool = False
    span: str = ""
    frames: tuple[str, ...] = ()
    sampled: bool = False


@dataclass(frozen=True)
class Process:
    """
    A process.

    Attributes:
        command: with its arguments (hostile).
        python: version, `3.11`; "": it has none.
    """

    tgid: int
    command: str
    python: str
    threads: tuple[Thread, ...]


@dataclass(frozen=True)
class Dump:
    """Processes, and what could not be seen of them: each one line with its reason."""

    processes: tuple[Process, ...]
    missing: tuple[str, ...] = ()
