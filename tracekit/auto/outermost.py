"""
Spans around calls that may call each other: of those of a family, only the outermost counts.

asyncio starts a process by subprocess, SQLAlchemy queries by a driver: it is one spawn, one query.
"""

from __future__ import annotations

import functools
import os
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tracekit.probe import Kind


class _Process:
    forks = 0


def _forked() -> None:
    _Process.forks += 1


os.register_at_fork(after_in_child=_forked)


Call = list[int]
"""A call under way: how often its process had forked when it began, [ENDED] when it has returned.

Tasks and children copy the reference to it: they are inside of it until it ends, children at no time,
as they have one fork more. A list, since to make an object of a class would be the half of what a
span around a query costs.
"""
ENDED = -1


class Family:
    """Calls of which only the outermost counts, in each Context."""

    def __init__(self, name: str) -> None:
        self._current: ContextVar[Call | None] = ContextVar(f"tracekit.{name}", default=None)

    def inside(self) -> bool:
        """Return True if a call is under way in this Context."""
        call = self._current.get()
        return call is not None and call[0] == _Process.forks

    def begin(self) -> Call:
        """Begin a call: until it is [ENDED], others in this Context are inside of it."""
        call = [_Process.forks]
        self._current.set(call)
        return call

    def around(self, kind: Kind, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return *function* in a span of *kind*."""
        current, begin = self._current.get, self._current.set

        @functools.wraps(function)
        def call_in_span(*args: Any, **kwargs: Any) -> Any:
            outer, forks = current(), _Process.forks  # inside() and begin(), whose calls would double the cost
            if outer is not None and outer[0] == forks:
                return function(*args, **kwargs)
            call = [forks]
            begin(call)
            try:
                with kind():
                    return function(*args, **kwargs)
            finally:
                call[0] = ENDED

        return call_in_span

    def around_async(self, kind: Kind, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return *function*, whose calls are awaited, in a span of *kind*."""

        @functools.wraps(function)
        async def await_in_span(*args: Any, **kwargs: Any) -> Any:
            if self.inside():
                return await function(*args, **kwargs)
            call = self.begin()
            try:
                with kind():
                    return await function(*args, **kwargs)
            finally:
                call[0] = ENDED

        return await_in_span

    def carried(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return *function* as part of the call under way, whatever thread it will run in."""

        @functools.wraps(function)
        def inside_of_it(*args: Any, **kwargs: Any) -> Any:
            call = self.begin()
            try:
                return function(*args, **kwargs)
            finally:
                call[0] = ENDED

        return inside_of_it


SPAWNS = Family("spawn")
"""Calls that start a process."""

QUERIES = Family("db")
"""Calls of a database."""
