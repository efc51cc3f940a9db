"""What the rows of the kernel are called in a recording: the metrics and stacks of docs/metrics.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekit.capture import syscalls, wire
from tracekit.records import Series, labels_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tracekit.capture.readings import Account, Key, Task

_METRICS = {
    wire.H_RUNQ_WAIT: "runq.wait",
    wire.H_RUNQ_WAKE: "runq.wake",
    wire.H_RUNQ_LENGTH: "runq.length",
    wire.H_ONCPU: "oncpu",
    wire.H_OFFCPU: "offcpu",
    wire.H_BLOCKED: "blocked",
    wire.H_SYSCALL: "syscall.latency",
    wire.H_LOOP: "loop.busy",
    wire.H_DB: "db.latency",
}
_BY_CALL = (wire.H_BLOCKED, wire.H_SYSCALL)

UNKNOWN = "<unknown>"
"""A kind of spans that the kernel has met, and no board has told of yet."""

Frames = tuple[str, ...]


class Names:
    """
    Rows to series and stacks.

    Args:
        name: id → comm. role: comm → role.
        span: small id of a kind of spans → its labels, `span` among them; none outside of spans.
        call: row of calls of databases → its labels, without role and span.
    """

    def __init__(
        self,
        name: Callable[[int], str],
        role: Callable[[str], str],
        span: Callable[[int], Mapping[str, str]],
        call: Callable[[Key], Mapping[str, str]],
    ) -> None:
        self._name = name
        self._role = role
        self._span = span
        self._call = call
        self._histograms: dict[Key, Series] = {}
        self._counters: dict[Key, tuple[Series, ...]] = {}

    def histogram(self, key: Key) -> Series:
        """Return the series of a histogram row; each is put together once, as a tick asks for hundreds."""
        known = self._histograms.get(key)
        if known is None:
            known = self._histogram(key)
            if self.is_known(key.span):
                self._histograms[key] = known
        return known

    def _histogram(self, key: Key) -> Series:
        if key.kind == wire.H_RUNQ_LENGTH:
            return Series("runq.length", labels_of({"cpu": str(key.nr)}), "histogram", "tasks")
        labels = {**self._span(key.span), "role": self._role_of(key)}
        if key.kind == wire.H_LOOP:
            labels["thread"] = self._name(key.thread)
        if key.kind == wire.H_OFFCPU:
            labels["reason"] = wire.REASONS[key.reason]
        if key.kind in _BY_CALL:
            labels["syscall"] = syscalls.call_name(key.nr)
        if key.kind == wire.H_DB:
            labels |= self._call(key)
        return Series(_METRICS[key.kind], labels_of(labels), "histogram", "ns")

    def counters(self, key: Key, account: Account) -> Iterator[tuple[Series, float]]:
        """Yield the counters in what an account gained."""
        known = self._counters.get(key)
        if known is None:
            known = self._counts(key)
            if self.is_known(key.span):
                self._counters[key] = known
        counts: tuple[int, ...] = ()
        if key.kind in (wire.A_ERROR, wire.A_DB_ERROR):
            counts = (account.events,)
        elif key.kind == wire.A_THREAD:
            counts = (account.events - account.involuntary, account.involuntary, account.migrations)
        yield from ((series, count) for series, count in zip(known, counts, strict=True) if count > 0)

    def _counts(self, key: Key) -> tuple[Series, ...]:
        labels = {**self._span(key.span), "role": self._role_of(key)}
        if key.kind == wire.A_ERROR:
            labels |= {"syscall": syscalls.call_name(key.nr), "errno": syscalls.error_name(key.err)}
            return (_count("syscall.errors", labels),)
        if key.kind == wire.A_DB_ERROR:
            return (_count("db.errors", labels | dict(self._call(key))),)
        if key.kind == wire.A_THREAD:
            kinds = [_count("switches", labels | {"kind": kind}) for kind in ("voluntary", "involuntary")]
            return (*kinds, _count("migrations", labels))
        return ()

    def stacks(self, key: Key, account: Account) -> Iterator[tuple[Frames, int, int]]:
        """Yield (frames, ns, events) of the wall time in what an account gained."""
        thread = (self._role_of(key), self._name(key.thread))
        if key.kind == wire.A_BLOCKED:
            yield (*thread, "blocked", wire.REASONS[key.reason], syscalls.call_name(key.nr)), account.ns, account.events
        elif key.kind == wire.A_THREAD:
            if account.ns or account.events:
                yield (*thread, "on-CPU"), account.ns, account.events
            if account.queued:
                yield (*thread, "run queue"), account.queued_ns, account.queued

    def calls_of_parts(self, key: Key) -> Series:
        """Return the latencies of the calls of databases whose parts are in the row of *key*, a P_DB."""
        return self.histogram(key._replace(kind=wire.H_DB, nr=key.err, err=0))

    def is_known(self, number: int) -> bool:
        """Tell whether what a kind of spans is called is known for good."""
        return self.span(number) != UNKNOWN

    def span(self, number: int) -> str:
        """Return the name of a kind of spans by its small id, "" outside of spans."""
        return self._span(number).get("span", "")

    def span_labels(self, number: int) -> Mapping[str, str]:
        """Return the labels of a kind of spans by its small id, none outside of spans."""
        return self._span(number)

    def thread(self, number: int) -> str:
        """Return the name of threads whose name has id *number*."""
        return self._name(number)

    def role(self, number: int) -> str:
        """Return the role of the processes whose name has id *number*."""
        return self._role(self._name(number))

    def calls(self, number: int) -> Series:
        """Return the counter of the calls of one system call."""
        return counter("syscall.calls", syscall=syscalls.call_name(number))

    def task_stack(self, task: Task) -> Frames:
        """Return the stack of what a task is doing."""
        state = wire.TASK_STATES[task.state]
        if state == "running":
            return (*self._thread_of(task), "on-CPU")
        if state == "runnable":
            return (*self._thread_of(task), "run queue")
        return self.wait_stack(task)

    def wait_stack(self, task: Task) -> Frames:
        """Return the stack of what a task waits for, or has waited for before it became runnable."""
        return (*self._thread_of(task), "blocked", wire.REASONS[task.reason], syscalls.call_name(task.nr))

    def _thread_of(self, task: Task) -> Frames:
        return self._role(self._name(task.role)), self._name(task.thread)

    def _role_of(self, key: Key) -> str:
        return self.role(key.role)


def _count(metric: str, labels: Mapping[str, str]) -> Series:
    return Series(metric, labels_of(labels), "counter", "count")


def counter(metric: str, unit: str = "count", **labels: str) -> Series:
    """Return a counter series."""
    return Series(metric, labels_of(labels), "counter", unit)
