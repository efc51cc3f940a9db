"""One use of a guard: from the place it takes to the place it gives back."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import AsyncExitStack, ExitStack
from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any

from tracekit.guard.errors import ERRORS, Violation
from tracekit.guard.memory import Growth
from tracekit.guard.watcher import WATCHER

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracekit.guard.guarding import Guard

FIRST_LOOK_S = 0.05
"""When memory is looked at first: what was there before is taken then."""
LOOK_EVERY_S = 0.25
MOST_CPU = 0.02
"""Share of a CPU that looking at memory may take: a look that takes long makes the next one late."""
_LOG = logging.getLogger("tracekit.guard")
_NEVER_S = float("inf")


class Use:
    """
    What `with` or `async with` gives.

    Attributes:
        due_s: when the watcher wants to look, on time.monotonic().
    """

    def __init__(self, guard: Guard, task: asyncio.Task[Any] | None) -> None:
        limits = guard.limits
        self._guard = guard
        self._begin_s = time.monotonic()
        self._deadline_s = self._begin_s + limits.timeout_ns / 1e9 if limits.timeout_ns else _NEVER_S
        self._growth = Growth(limits.memory_bytes) if limits.memory_bytes else None
        self._next_look_s = self._begin_s + FIRST_LOOK_S if self._growth else _NEVER_S
        self.due_s = min(self._deadline_s, self._next_look_s)
        self._lock = threading.Lock()
        self._violations: list[Violation] = []
        self._open = True
        self._task = task
        self._cleanups: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self._untold: list[Violation] = []
        self._telling: list[asyncio.Task[None]] = []
        self._cancelled = False
        self._cancelling = _cancelling(task) if task else 0

    @property
    def violation(self) -> Violation | None:
        """The first limit it went beyond, None if it did not; a body that cannot be cancelled can ask and stop."""
        return self._violations[0] if self._violations else None

    def cleanup(self, function: Callable[..., object], *arguments: object) -> None:
        """
        Call *function* when the use ends, however it ends; the last one given first.

        Under `async with` it may be async: it is awaited then.
        """
        if iscoroutinefunction(function) and not self._task:
            raise TypeError("an async clean-up needs `async with`")
        self._cleanups.append((function, arguments))

    # --- called by the watcher's thread ---

    def look(self, now_s: float) -> None:
        """See whether it went beyond a limit."""
        if now_s >= self._deadline_s:
            self._deadline_s = _NEVER_S
            ran_ns = round((now_s - self._begin_s) * 1e9)
            self._violate(Violation(self._guard.name, "time", ran_ns, self._guard.limits.timeout_ns))
        if self._growth and now_s >= self._next_look_s:
            self._look_at_memory(self._growth)
        self.due_s = min(self._deadline_s, self._next_look_s)

    def _look_at_memory(self, growth: Growth) -> None:
        before_s = time.thread_time()
        grown, allowed = growth.look(), self._guard.limits.memory_bytes
        pause_s = max(LOOK_EVERY_S, (time.thread_time() - before_s) / MOST_CPU)
        self._next_look_s = time.monotonic() + pause_s
        if grown > allowed:
            self._next_look_s = _NEVER_S
            self._violate(Violation(self._guard.name, "memory", grown, allowed))

    def _violate(self, violation: Violation) -> None:
        with self._lock:
            if not self._open:
                return
            self._violations.append(violation)
            self._untold.append(violation)
        self._guard.count(violation)
        if not self._guard.tells_async:
            self._tell_here()
        if self._task:
            try:
                self._task.get_loop().call_soon_threadsafe(self._on_loop)
            except RuntimeError:  # closed with the task still in it
                return

    def _tell_here(self) -> None:
        for violation in self._take_untold():
            call(self._guard.on_violation, violation)

    def _take_untold(self) -> list[Violation]:
        with self._lock:
            told, self._untold = self._untold, []
            return told

    # --- called on the loop ---

    def _on_loop(self) -> None:
        """Tell, and cancel, as soon as the body yields."""
        if not self._open or not self._task:
            return
        told = self._take_untold()
        self._telling += [asyncio.ensure_future(await_call(self._guard.on_violation, each)) for each in told]
        if self._guard.limits.enforce and not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    # --- called by whoever ends it ---

    def watch(self) -> None:
        """Have its limits watched from now on."""
        if self.due_s < _NEVER_S:
            WATCHER.add(self)

    def end(self, error: BaseException | None) -> None:
        """End it. Raises GuardError if it went beyond a limit and *error* is not the body's own."""
        self._close()
        if not (self._cleanups or self._violations):
            return
        with ExitStack() as stack:
            stack.callback(self._judge, error)
            for function, arguments in self._cleanups:
                stack.callback(function, *arguments)

    async def end_async(self, error: BaseException | None) -> None:
        """End it in its task. Raises GuardError if it went beyond a limit and *error* is not the body's own."""
        self._close()
        if not (self._cleanups or self._violations):
            return
        async with AsyncExitStack() as stack:
            stack.callback(self._judge, error)
            for told in self._telling:
                stack.push_async_callback(asyncio.wait, [told])
            for violation in self._take_untold():
                stack.push_async_callback(await_call, self._guard.on_violation, violation)
            for function, arguments in self._cleanups:
                stack.push_async_callback(_call_either, function, *arguments)

    def _close(self) -> None:
        with self._lock:
            self._open = False
        WATCHER.remove(self)

    def _judge(self, error: BaseException | None) -> None:
        """Raise what is to be raised in place of *error*."""
        ours = self._cancelled and self._is_ours(error)
        if self._violations and self._guard.limits.enforce and (error is None or ours):
            raise ERRORS[self._violations[0].limit](self._violations[0]) from error

    def _is_ours(self, error: BaseException | None) -> bool:
        """Take back our cancelling; tell whether *error* came of it alone, as asyncio.timeout() does."""
        assert self._task
        if not hasattr(self._task, "uncancel"):  # before Python 3.11
            return isinstance(error, asyncio.CancelledError)
        return self._task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError)


def call(function: Callable[[Violation], object] | None, violation: Violation) -> None:
    """Call the user's *function*, which must not break what it is told of."""
    try:
        if function is not None:
            function(violation)
    except Exception:  # noqa: BLE001 - the user's code, told in passing
        _LOG.exception("on_violation failed")


async def await_call(function: Callable[[Violation], object] | None, violation: Violation) -> None:
    """Call and await the user's *function*, which must not break what it is told of."""
    try:
        if function is not None:
            await _call_either(function, violation)
    except Exception:  # noqa: BLE001 - the user's code, told in passing
        _LOG.exception("on_violation failed")


async def _call_either(function: Callable[..., object], *arguments: object) -> None:
    result = function(*arguments)
    if isawaitable(result):
        await result


def _cancelling(task: asyncio.Task[Any]) -> int:
    return task.cancelling() if hasattr(task, "cancelling") else 0  # before Python 3.11
