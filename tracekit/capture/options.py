"""What a user asked to be captured, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SECOND = 10**9


@dataclass(frozen=True)
class Options:
    """
    What to capture, of whom, and where to.

    Attributes:
        pids, comm, cgroup, everything: the target, one of them.
        command: launched and traced from its first instruction; empty: attach.
        environment: what the command's differs in from ours.
        errors, latency: the system call tiers.
        db: calls of databases, seen at their sockets; db_libraries: in client libraries too, by uprobes.
        db_text: keep what is asked of databases, without its literals.
        db_ports: (port, system) of databases that listen where none is expected.
        stacks: take stacks, stack_hz times a second on each CPU, and of waits and failures.
        probes_only: no kernel: what processes tell of their spans, and /proc.
        max_overhead: what tracekit may take, as a share of the CPU time of the target or of one core; 0: no limit.
        interval_ns: length of a tick; duration_ns: 0 is until the target ends or a signal.
        roles: (name, glob of comm) in order; the first that matches names the role.
    """

    output: Path
    pids: tuple[int, ...] = ()
    comm: str = ""
    cgroup: str = ""
    everything: bool = False
    command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    children: bool = True
    errors: bool = True
    latency: bool = False
    db: bool = True
    db_libraries: bool = False
    db_text: bool = False
    db_ports: tuple[tuple[int, str], ...] = ()
    stacks: bool = True
    stack_hz: int = 49
    probes_only: bool = False
    max_overhead: float = 0.0
    interval_ns: int = SECOND
    duration_ns: int = 0
    force: bool = False
    roles: tuple[tuple[str, str], ...] = ()

    def role(self, comm: str) -> str:
        """Return the role of a process named *comm*."""
        return next((name for name, pattern in self.roles if fnmatchcase(comm, pattern)), comm)

    @property
    def tiers(self) -> tuple[str, ...]:
        """What is captured, for the recording: `sched`, `errors`, `syscalls`, `db`, `stacks`; or `probes` alone."""
        if self.probes_only:
            return ("probes",)
        chosen = {
            "sched": True,
            "errors": self.errors,
            "syscalls": self.latency,
            "db": self.db,
            "stacks": self.stacks,
        }
        return tuple(tier for tier, is_on in chosen.items() if is_on)
