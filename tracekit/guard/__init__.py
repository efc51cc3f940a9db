"""
Limits for a named piece of work: how many at a time, how long, how much memory; and what happens beyond them.

    from tracekit.guard import Breaker, guard

    evaluation = guard("evaluation", concurrency=4, timeout="300s", memory_growth="500MB", breaker=Breaker())

    async with evaluation:      # or: with evaluation:      or: @evaluation over a function, async or not
        await evaluate()

Runs in the user's process. What it guards is a span of the same name, and each violation adds to the counter
`guard.violations` (in a recording `app.guard.violations{guard, limit}`). For asyncio, not for trio.
"""

from __future__ import annotations

from tracekit.guard.breaker import Breaker
from tracekit.guard.errors import (
    GuardBusyError,
    GuardError,
    GuardMemoryError,
    GuardOpenError,
    GuardTimeoutError,
    Violation,
)
from tracekit.guard.guarding import Guard, guard
from tracekit.guard.use import Use

__all__ = [
    "Breaker",
    "Guard",
    "GuardBusyError",
    "GuardError",
    "GuardMemoryError",
    "GuardOpenError",
    "GuardTimeoutError",
    "Use",
    "Violation",
    "guard",
]
