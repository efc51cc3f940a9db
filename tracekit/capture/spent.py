"""CPU time of the collector, by what it was for."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from statistics import median_low
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TICK = "tick"
_LAST = 3


class Spent:
    """
    CPU time since the last `take`.

    Args:
        whole: gives the CPU time of the collector so far, ns, with all that works for it.
    """

    def __init__(self, whole: Callable[[], int]) -> None:
        self._whole = whole
        self._taken_ns, self._others_ns = whole(), 0
        self._of: defaultdict[str, int] = defaultdict(int)
        self._ticks: list[int] = []

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Count what this thread does while this is open as *what*: a tier, or a `TICK`."""
        begin_ns = time.thread_time_ns()
        try:
            yield
        finally:
            spent_ns = time.thread_time_ns() - begin_ns
            self._of[what] += spent_ns
            if what == TICK:
                self._ticks = [*self._ticks, spent_ns][-_LAST:]

    @property
    def tick_ns(self) -> int:
        """What a tick takes: the middle one of the last three."""
        return median_low(self._ticks) if self._ticks else 0

    def take(self) -> tuple[int, dict[str, int]]:
        """Return what was spent beside ticks, all and by tier, and begin anew."""
        now_ns = self._whole()
        spent_ns, self._taken_ns = now_ns - self._taken_ns, now_ns
        found, self._of = dict(self._of), defaultdict(int)
        return max(0, spent_ns - found.pop(TICK, 0)), found
