"""
One thread that looks at all guarded uses of the process when a limit of theirs is due.

It is outside every event loop, so it is on time also where the body never yields. It begins with the first use,
is a daemon, and sleeps for as long as nothing can be due. A forked child has none, until it guards something.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Protocol

_NEVER_S = 1 << 40


class Watched(Protocol):
    """What has something due."""

    due_s: float
    """When it wants to be looked at, on time.monotonic()."""

    def look(self, now_s: float) -> None:
        """See whether it went beyond a limit, and set when it is due again."""


class Watcher:
    """The uses that are open."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._open: dict[Watched, None] = {}
        self._wakes_s = 0.0
        self._thread: threading.Thread | None = None

    def add(self, use: Watched) -> None:
        """Look at *use* when it is due. Wakes the thread only if that is sooner than it would wake anyway."""
        with self._condition:
            self._open[use] = None
            if not self._thread:
                self._thread = threading.Thread(target=self._run, name="tracekit-guard", daemon=True)
                self._thread.start()
            elif use.due_s < self._wakes_s:
                self._wakes_s = use.due_s
                self._condition.notify()

    def remove(self, use: Watched) -> None:
        """Look at it no more, but for a look that has begun."""
        with self._condition:
            self._open.pop(use, None)

    def _run(self) -> None:
        while True:
            with self._condition:
                planned_s, now_s = self._wakes_s, time.monotonic()
                self._wakes_s = min((use.due_s for use in self._open), default=_NEVER_S)
                if now_s < planned_s:  # keep to it though that use has ended: the next one need not wake this thread
                    self._wakes_s = min(self._wakes_s, planned_s)
                pause_s = self._wakes_s - now_s
                if pause_s > 0:
                    self._condition.wait(min(pause_s, threading.TIMEOUT_MAX))
                now_s = time.monotonic()
                due = [use for use in self._open if use.due_s <= now_s]
            for use in due:
                use.look(now_s)


WATCHER = Watcher()
"""The one of this process."""


def _begin_anew() -> None:
    WATCHER.__init__()  # type: ignore[misc]  # the object stays, as others hold it; the child has no such thread


os.register_at_fork(after_in_child=_begin_anew)
