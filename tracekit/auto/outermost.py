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


class Call:
    """A call under way. What a task or a child copied of it ends with it: a child is no part of the call."""

    __slots__ = ("_forks", "open")

    def __init__(self) -> None:
        self._forks = _Process.forks
        self.open = True

    @property
    def under_way(self) -> bool:
        """It has not returned, and this is still its process."""
        return self.open and self._forks == _Process.forks


class Family:
    """Calls of which only the outermost counts, in each Context."""

    def __init__(self, name: str) -> None:
        self._current: ContextVar[Call | None] = ContextVar(f"tracekit.{name}", default=None)

    def inside(self) -> bool:
        """Return True if a call is under way in this Context."""
        call = self._current.get()
        return call is not None and call.under_way

    def begin(self) -> Call:
        """Begin a call: until `open` is False, others in this Context are inside of it."""
        call = Call()
        self._current.set(call)
        return call

    def around(self, kind: Kind, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return *function* in a span of *kind*."""

        @functools.wraps(function)
        def call_in_span(*args: Any, **kwargs: Any) -> Any:
            if self.inside():
                return function(*args, **kwargs)
            call = self.begin()
            try:
                with kind():
                    return function(*args, **kwargs)
            finally:
                call.open = False

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
                call.open = False

        return await_in_span

    def carried(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return *function* as part of the call under way, whatever thread it will run in."""

        @functools.wraps(function)
        def inside_of_it(*args: Any, **kwargs: Any) -> Any:
            call = self.begin()
            try:
                return function(*args, **kwargs)
            finally:
                call.open = False

        return inside_of_it


SPAWNS = Family("spawn")
"""Calls that start a process."""

QUERIES = Family("db")
"""Calls of a database."""
