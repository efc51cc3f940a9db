"""What the workloads in Python share, as rounds.h is for those in C."""

from __future__ import annotations

import os
import sys
from time import perf_counter_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def main(operations: Callable[[int], object]) -> None:
    """Do `NAME COUNT ROUNDS CPU`: print ns per operation of the fastest round, pinned to CPU."""
    count, rounds, cpu = map(int, sys.argv[1:])
    os.sched_setaffinity(0, {cpu})
    print(f"{min(_took_ns(operations, count) for _ in range(rounds)) / count:.0f}")


def _took_ns(operations: Callable[[int], object], count: int) -> int:
    start = perf_counter_ns()
    operations(count)
    return perf_counter_ns() - start
