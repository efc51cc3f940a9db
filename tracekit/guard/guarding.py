"""Guards: the limits, and who uses a guard at the moment."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from dataclasses import dataclass
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tracekit import probe
from tracekit.guard.errors import ERRORS, Violation
from tracekit.guard.places import Places
from tracekit.guard.use import Use, await_call, call
from tracekit.units import parse_bytes, parse_ns

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from tracekit.guard.breaker import Breaker

    Told = Callable[[Violation], object]

_Function = TypeVar("_Function", bound="Callable[..., Any]")


@dataclass(frozen=True)
class Limits:
    """What a guard allows; 0: no limit."""

    concurrency: int
    patience_s: float | None
    """How long to wait for a place; None: for ever."""
    timeout_ns: int
    memory_bytes: int
    enforce: bool
    """False: time and memory are told and counted, but nothing is cancelled or raised."""


def guard(
    name: str,
    *,
    concurrency: int | None = 4,
    patience: str | float | None = None,
    timeout: str | float | None = "300s",
    memory_growth: str | int | None = "500MB",
    breaker: Breaker | None = None,
    on_violation: Told | None = None,
    enforce: bool = True,
) -> Guard:
    """
    Return a guard. Make it once and use it many times: its uses share the limit of concurrency.

    Args:
        name: of the span that each use is.
        concurrency: uses at a time, of threads and tasks together; None: no limit.
        patience: how long to wait for a place, `10s` or seconds; None: for ever.
        timeout: how long a use may take, `300s` or seconds; None: no limit.
        memory_growth: by how much this process and all below it may grow during a use, `500MB` or bytes; None: no
            limit.
        breaker: refuses uses after failures in a row; may be shared.
        on_violation: called with a Violation when it happens. An async one is awaited on the loop of the use;
            another is called in a thread of the guard's for time and memory, in the user of the guard for the rest.
        enforce: False: time and memory are told and counted, but nothing is cancelled or raised.

    Raises:
        ValueError: a limit that is none, or a name that no span can have.
    """
    if concurrency is not None and concurrency < 1:
        raise ValueError(f"concurrency={concurrency} lets nothing in: use 1 or more, or None")
    limits = Limits(
        concurrency=concurrency or 0,
        patience_s=None if patience is None else parse_ns(str(patience)) / 1e9,
        timeout_ns=parse_ns(str(timeout)) if timeout else 0,
        memory_bytes=parse_bytes(str(memory_growth)) if memory_growth else 0,
        enforce=enforce,
    )
    return Guard(name, limits, breaker, on_violation)


class Guard:
    """
    A name with limits. Use it by `with`, `async with`, or over a function; many at a time, of both kinds.

    Leave it in the task or thread that entered it: where a generator is closed elsewhere, its oldest use ends.
    """

    def __init__(self, name: str, limits: Limits, breaker: Breaker | None, on_violation: Told | None) -> None:
        self.name = name
        self.limits = limits
        self.on_violation = on_violation
        self.tells_async = iscoroutinefunction(on_violation) or iscoroutinefunction(
            getattr(on_violation, "__call__", None)  # noqa: B004 - of an object with an async one
        )
        self._breaker = breaker
        self._kind = probe.Kind(name)
        self._counters = {limit: probe.counter("guard.violations", guard=name, limit=limit) for limit in ERRORS}
        self.begin_anew()
        _GUARDS.add(self)

    def begin_anew(self) -> None:
        """Forget all uses: in a forked child they are the parent's."""
        self._places = Places(self.limits.concurrency) if self.limits.concurrency else None
        self._lock = threading.Lock()
        self._uses: dict[object, list[tuple[Use, probe.Span]]] = {}

    def count(self, violation: Violation) -> None:
        """Say in the recording that a limit was hit."""
        self._counters[violation.limit].add()
        probe.mark(f"guard.{violation.limit}")

    def __call__(self, function: _Function) -> _Function:
        """Guard each call of *function*. Raises TypeError for generators: guard what they do instead."""
        if isgeneratorfunction(function) or isasyncgenfunction(function):
            raise TypeError(f"{self.name}: a generator is not one piece of work: put `with` inside it")
        wrapper = self._around_async(function) if iscoroutinefunction(function) else self._around(function)
        return cast("_Function", wraps(function)(wrapper))

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return guarded

    def _around_async(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            async with self:
                return await function(*args, **kwargs)

        return guarded

    def __enter__(self) -> Use:
        if self.tells_async:
            raise TypeError(f"{self.name}: on_violation is async: use `async with`")
        span = self._kind()
        refusal = self._refusal() or self._wait() or self._pass_breaker(span)
        if refusal:
            self.count(refusal)
            call(self.on_violation, refusal)
            raise ERRORS[refusal.limit](refusal)
        return self._begin(span, threading.get_ident(), None)

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        entry = self._take(threading.get_ident())
        if not entry:
            return
        use, span = entry
        try:
            use.end(error)
        except BaseException as other:
            self._finish(span, other)
            raise
        self._finish(span, error)

    async def __aenter__(self) -> Use:
        span = self._kind()
        refusal = self._refusal() or await self._wait_async() or self._pass_breaker(span)
        if refusal:
            self.count(refusal)
            await await_call(self.on_violation, refusal)
            raise ERRORS[refusal.limit](refusal)
        task = asyncio.current_task()
        return self._begin(span, task, task)

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        entry = self._take(asyncio.current_task())
        if not entry:
            return
        use, span = entry
        try:
            await use.end_async(error)
        except BaseException as other:
            self._finish(span, other)
            raise
        self._finish(span, error)

    def _refusal(self) -> Violation | None:
        """Return why nobody may begin now, whether there is a place or not."""
        if not self._breaker or self._breaker.lets_in():
            return None
        return Violation(self.name, "breaker", self._breaker.failures, self._breaker.limit)

    def _pass_breaker(self, span: probe.Span) -> Violation | None:
        """Let the breaker have the last word: it may have opened while this use waited for its place."""
        if not self._breaker or self._breaker.enter(span):
            return None
        self._give_place()
        return Violation(self.name, "breaker", self._breaker.failures, self._breaker.limit)

    def _wait(self) -> Violation | None:
        if not self._places or self._places.take():
            return None
        begin_ns = time.monotonic_ns()
        # a wait in the thread of a loop would stop those that could give their place back
        patience_s = 0 if _in_loop() else self.limits.patience_s
        return None if self._places.wait(patience_s) else self._busy(begin_ns, patience_s)

    async def _wait_async(self) -> Violation | None:
        if not self._places or self._places.take():
            return None
        begin_ns = time.monotonic_ns()
        patience_s = self.limits.patience_s
        return None if await self._places.wait_async(patience_s) else self._busy(begin_ns, patience_s)

    def _busy(self, begin_ns: int, patience_s: float | None) -> Violation:
        waited_ns = time.monotonic_ns() - begin_ns
        return Violation(self.name, "concurrency", waited_ns, round((patience_s or 0) * 1e9))

    def _begin(self, span: probe.Span, key: object, task: asyncio.Task[Any] | None) -> Use:
        try:
            use = Use(self, task)
            use.watch()
        except BaseException as error:  # no /proc, no more threads
            self._leave(span, error)
            raise
        with self._lock:
            self._uses.setdefault(key, []).append((use, span))
        span.__enter__()
        return use

    def _take(self, key: object) -> tuple[Use, probe.Span] | None:
        """Return the innermost use of this task or thread, else the oldest of all; none in a forked child."""
        with self._lock:
            owner = key if key in self._uses else next(iter(self._uses), None)
            if owner is None:
                return None
            uses = self._uses[owner]
            last = uses.pop()
            if not uses:
                del self._uses[owner]
            return last

    def _finish(self, span: probe.Span, error: BaseException | None) -> None:
        span.__exit__(type(error) if error else None, error, None)
        self._leave(span, error)

    def _leave(self, span: probe.Span, error: BaseException | None) -> None:
        if self._breaker:
            cancelled = error is not None and not isinstance(error, Exception)
            self._breaker.leave(span, failed=None if cancelled else error is not None)
        self._give_place()

    def _give_place(self) -> None:
        if self._places:
            self._places.give()


_GUARDS: weakref.WeakSet[Guard] = weakref.WeakSet()


def _begin_anew() -> None:
    for each in _GUARDS:
        each.begin_anew()


os.register_at_fork(after_in_child=_begin_anew)


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
