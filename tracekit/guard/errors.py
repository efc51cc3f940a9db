"""What went beyond a limit, and the exceptions that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tracekit.units import format_bytes, format_ns

Limit = Literal["concurrency", "time", "memory", "breaker"]


@dataclass(frozen=True)
class Violation:
    """
    A use of a guard that went beyond a limit, or was refused because it would have.

    Attributes:
        guard: name of the guard.
        limit: `time`, `memory`; `concurrency`: no place came free in time; `breaker`: too many uses failed.
        value: how long it ran or waited, in ns; growth in bytes; uses that failed in a row.
        allowed: the limit itself, in the same unit.
    """

    guard: str
    limit: Limit
    value: int
    allowed: int

    def __str__(self) -> str:
        if self.limit == "memory":
            return f"{self.guard}: memory grew by {format_bytes(self.value)}, limit {format_bytes(self.allowed)}"
        if self.limit == "breaker":
            return f"{self.guard}: {self.value} uses failed in a row, limit {self.allowed}"
        did = "ran for" if self.limit == "time" else "waited for a place for"
        return f"{self.guard}: {did} {format_ns(self.value)}, limit {format_ns(self.allowed)}"


class GuardError(Exception):
    """A guard's limit was hit; *violation* says which."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation)
        self.violation = violation


class GuardTimeoutError(GuardError, TimeoutError):
    """It ran too long."""


class GuardMemoryError(GuardError):
    """The memory of the process and its children grew too much while it ran."""


class GuardBusyError(GuardError):
    """No place came free in time: it did not begin."""


class GuardOpenError(GuardError):
    """The breaker is open after too many failures: it did not begin."""


ERRORS: dict[Limit, type[GuardError]] = {
    "time": GuardTimeoutError,
    "memory": GuardMemoryError,
    "concurrency": GuardBusyError,
    "breaker": GuardOpenError,
}
