"""
A circuit breaker: after failures in a row nothing is tried for a while, then one use is.

Source:
    M. Nygard, Release It!, chapter 5; states as in https://martinfowler.com/bliki/CircuitBreaker.html.
"""

from __future__ import annotations

import threading
import time
from typing import Literal

from tracekit.units import parse_ns

State = Literal["closed", "open", "half-open"]


class Breaker:
    """
    Opens when *failures* uses failed in a row; *cool_down* later one is tried, and closes it or opens it again.

    Guards may share one. A use fails by an exception, the guard's own included; being cancelled is no failure.

    Args:
        failures: in a row.
        cool_down: `30s`, or seconds.

    Raises:
        ValueError: no such number or time.
    """

    def __init__(self, failures: int = 5, cool_down: str | float = "30s") -> None:
        if failures < 1:
            raise ValueError(f"failures={failures} would never close: use 1 or more")
        self.limit = failures
        self._cool_down_ns = parse_ns(str(cool_down))
        self._lock = threading.Lock()
        self._failures = 0
        self._opened_ns = 0
        self._trial: object = None
        """The use that tries while half-open."""

    @property
    def state(self) -> State:
        """closed: uses begin; open: none does; half-open: one may, or does."""
        if self._failures < self.limit:
            return "closed"
        cool = self._trial or time.monotonic_ns() - self._opened_ns >= self._cool_down_ns
        return "half-open" if cool else "open"

    @property
    def failures(self) -> int:
        """How many uses failed in a row."""
        return self._failures

    def lets_in(self) -> bool:
        """Tell whether a use would begin now."""
        return self.state == "closed" or (self.state == "half-open" and not self._trial)

    def enter(self, use: object) -> bool:
        """Begin *use*, if it may: the only one while half-open."""
        with self._lock:
            allowed = self.lets_in()
            if allowed and self._failures >= self.limit:
                self._trial = use
            return allowed

    def leave(self, use: object, *, failed: bool | None) -> None:
        """End *use*; failed is None if it was cancelled. That says nothing; nor does who began before it opened."""
        with self._lock:
            late = self._failures >= self.limit and use is not self._trial
            if use is self._trial:
                self._trial = None
            if late or failed is None:
                return
            self._failures = self._failures + 1 if failed else 0
            self._opened_ns = time.monotonic_ns()
