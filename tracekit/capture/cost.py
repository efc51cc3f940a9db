"""
What tracing costs, measured while it runs.

The kernel's own statistics of BPF programs cost 87 ns a run themselves, so they are on only
in short windows, whose cost is counted too; the share of CPU time found there stands for the time until the next one.

What they read is not all that a program costs. Of an empty one they read 46 ns, which is more than its 25 ns: that
stands for what it takes to get to it. A hook on system calls also takes every call off the kernel's short way: 26 ns
more than they read (docs/overhead.md, by tests/overhead/bench_governor.py).
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from tracekit.capture import privileges
from tracekit.capture.bpf import syscall
from tracekit.capture.naming import counter
from tracekit.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tracekit.capture.kernel import Kernel
    from tracekit.capture.readings import Cost
    from tracekit.records import Series

WINDOW_NS = 100_000_000
PERIOD_NS = 10**10
FIRST_NS = 200_000_000
STATISTICS_NS = 87
"""What a run of a program costs more while statistics are on."""
UNREAD_NS = {"on_call": 26, "on_return": 26, "on_moved": 26}
"""What a run costs that the statistics do not read."""
_NEVER_NS = 1 << 62


def check() -> None:
    """Raise MachineError if the cost of programs cannot be measured."""
    try:
        with privileges.raised(privileges.Capability.SYS_ADMIN), syscall.statistics():
            return
    except OSError as error:
        fact = f"BPF statistics: {error.strerror} (needs CAP_SYS_ADMIN, Linux 5.8)"
        raise MachineError(f"cannot hold --max-overhead: {fact}", "leave it out") from error


class Meter:
    """
    Windows of BPF statistics.

    Args:
        kernel: whose programs.
        start_ns: when tracing began.
        period_ns: from one window to the next; window_ns: its length.
    """

    def __init__(self, kernel: Kernel, start_ns: int, period_ns: int = PERIOD_NS, window_ns: int = WINDOW_NS) -> None:
        self._kernel = kernel
        self._period_ns, self._window_ns = period_ns, window_ns
        self._next_ns = start_ns + FIRST_NS
        self._window: ExitStack | None = None
        self._base: Mapping[str, Cost] = {}
        self._opened_ns = 0
        self._accounted_ns = start_ns
        self.missing: list[str] = []
        """Why nothing is measured, if so."""
        self.shares: Mapping[str, float] = {}
        """CPU time of each program per wall time, as of the last window; empty before the first."""
        self._start_ns = start_ns
        self._spent_ns = 0.0
        self._told_ns = 0

    @property
    def share(self) -> float | None:
        """CPU time of the BPF programs per wall time so far, 1 is one core; None before the first window."""
        if not self.shares:
            return None
        elapsed = self._accounted_ns - self._start_ns
        return self._spent_ns / elapsed if self._spent_ns and elapsed else sum(self.shares.values())

    @property
    def due_ns(self) -> int:
        """When `step` wants to be called next."""
        return self._next_ns

    def step(self, now_ns: int) -> bool:
        """Open or close a window if it is time. Tell whether there is a new reading."""
        if now_ns < self._next_ns:
            return False
        if self._window:
            self._close(now_ns)
            return True
        self._open(now_ns)
        return False

    def again(self, now_ns: int, in_ns: int = FIRST_NS) -> None:
        """Have a window soon, and not what one measures now: the programs are others than before."""
        if self._window:
            self._close(now_ns)
        if not self.missing:
            self._next_ns = min(self._next_ns, now_ns + in_ns)

    def drop(self, programs: Collection[str], now_ns: int) -> None:
        """Note that *programs* are not attached any more."""
        self._account(now_ns)
        self.shares = {name: share for name, share in self.shares.items() if name not in programs}

    def increase(self, now_ns: int) -> tuple[Series, float] | None:
        """Return the cost since the last call, at the shares of the windows."""
        if not self.shares:
            return None
        self._account(now_ns)
        told, self._told_ns = self._told_ns, round(self._spent_ns)
        return counter("cost.bpf", "ns"), self._told_ns - told

    def finish(self, now_ns: int) -> None:
        """Close what is open."""
        if self._window:
            self._close(now_ns)

    def _account(self, now_ns: int) -> None:
        elapsed, self._accounted_ns = now_ns - self._accounted_ns, now_ns
        self._spent_ns += elapsed * sum(self.shares.values())

    def _open(self, now_ns: int) -> None:
        window = ExitStack()
        try:
            with privileges.raised(privileges.Capability.SYS_ADMIN):
                window.enter_context(syscall.statistics())
        except OSError as error:
            self.missing.append(f"cost.bpf: BPF statistics: {error.strerror} (needs CAP_SYS_ADMIN)")
            self._next_ns = _NEVER_NS
            return
        self._window = window
        if self.shares:
            self._account(now_ns)
        self._base, self._opened_ns = self._kernel.costs(), now_ns
        self._next_ns = now_ns + self._window_ns

    def _close(self, now_ns: int) -> None:
        spent = self._kernel.costs()
        if self._window:
            self._window.close()
        self._window = None
        length = max(1, now_ns - self._opened_ns)
        shares, runs = {}, 0
        for name, cost in spent.items():
            before = self._base.get(name)
            added = cost.runs - before.runs if before else cost.runs
            read = cost.run_time_ns - before.run_time_ns if before else cost.run_time_ns
            shares[name] = (read + added * UNREAD_NS.get(name, 0)) / length
            runs += added
        self.shares = shares
        self._account(now_ns)
        self._spent_ns += runs * STATISTICS_NS
        self._next_ns = now_ns + self._period_ns
