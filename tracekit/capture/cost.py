"""
What tracing costs, measured while it runs.

The kernel's own statistics of BPF programs cost 87 ns a run themselves, so they are on only
in short windows; the share of CPU time found there stands for the time until the next one.
The statistics read 46 ns for an empty program on the machine of docs/overhead.md: that floor
is left in, as it differs between machines; the figure is an upper bound.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from tracekit.capture import privileges
from tracekit.capture.bpf import syscall
from tracekit.capture.naming import counter

if TYPE_CHECKING:
    from tracekit.capture.kernel import Kernel
    from tracekit.records import Series

WINDOW_NS = 100_000_000
PERIOD_NS = 10**10
FIRST_NS = 200_000_000
_NEVER_NS = 1 << 62


class Meter:
    """
    Windows of BPF statistics.

    Args:
        kernel: whose programs.
        start_ns: when tracing began.
    """

    def __init__(self, kernel: Kernel, start_ns: int) -> None:
        self._kernel = kernel
        self._next_ns = start_ns + FIRST_NS
        self._window: ExitStack | None = None
        self._base = 0
        self._opened_ns = 0
        self._accounted_ns = start_ns
        self.missing: list[str] = []
        """Why nothing is measured, if so."""
        self._start_ns = start_ns
        self._spent_ns = 0
        self._share: float | None = None

    @property
    def share(self) -> float | None:
        """CPU time of the BPF programs per wall time so far, 1 is one core; None before the first window."""
        if self._share is None:
            return None
        elapsed = self._accounted_ns - self._start_ns
        return self._spent_ns / elapsed if self._spent_ns and elapsed else self._share

    @property
    def due_ns(self) -> int:
        """When `step` wants to be called next."""
        return self._next_ns

    def step(self, now_ns: int) -> None:
        """Open or close a window if it is time."""
        if now_ns < self._next_ns:
            return
        if self._window:
            self._close(now_ns)
        else:
            self._open(now_ns)

    def again(self, now_ns: int) -> None:
        """Have a window soon: there are more programs than before."""
        if self._window:
            self._close(now_ns)
        if not self.missing:
            self._next_ns = min(self._next_ns, now_ns + FIRST_NS)

    def increase(self, now_ns: int) -> tuple[Series, float] | None:
        """Return the cost since the last call, at the share of the last window."""
        if self._share is None:
            return None
        elapsed, self._accounted_ns = now_ns - self._accounted_ns, now_ns
        spent = round(elapsed * self._share)
        self._spent_ns += spent
        return counter("cost.bpf", "ns"), spent

    def finish(self, now_ns: int) -> None:
        """Close what is open."""
        if self._window:
            self._close(now_ns)

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
        self._base, self._opened_ns = self._run_time(), now_ns
        self._next_ns = now_ns + WINDOW_NS

    def _close(self, now_ns: int) -> None:
        spent = self._run_time() - self._base
        if self._window:
            self._window.close()
        self._window = None
        self._share = spent / max(1, now_ns - self._opened_ns)
        self._next_ns = now_ns + PERIOD_NS

    def _run_time(self) -> int:
        return sum(cost.run_time_ns for cost in self._kernel.costs().values())
