"""
What one use of a guard costs, beside a span alone and beside what programs do without it.

All variants alternate in each round, so drift of the machine reaches all; quote the ratios.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from contextlib import asynccontextmanager, nullcontext
from time import perf_counter_ns

from tracekit.guard import Breaker, guard
from tracekit.probe import Kind

ROUNDS = 15
USES = 2000
BUDGET_US = 100
"""Of a use with all limits: what is guarded takes milliseconds at least."""


def blocks(make) -> int:
    start = perf_counter_ns()
    for _ in range(USES):
        with make():
            pass
    return perf_counter_ns() - start


def async_blocks(make) -> int:
    async def run() -> int:
        start = perf_counter_ns()
        for _ in range(USES):
            async with make():
                pass
        return perf_counter_ns() - start

    return asyncio.run(run())


def asyncio_itself():
    """Return what asyncio offers: it does not fire if the body never yields."""
    places = asyncio.Semaphore(4)
    timeout = asyncio.timeout if sys.version_info >= (3, 11) else lambda _: places

    @asynccontextmanager
    async def use():
        async with places, timeout(300):
            yield

    return use


def variants():
    span = Kind("bench")
    places = guard("bench-places", timeout=None, memory_growth=None)
    timed = guard("bench-time", memory_growth=None)
    full = guard("bench-all", breaker=Breaker())
    return {
        "with nullcontext()": (blocks, nullcontext),
        "with span alone": (blocks, span),
        "with guard: concurrency": (blocks, lambda: places),
        "with guard: and time": (blocks, lambda: timed),
        "with guard: and memory, breaker": (blocks, lambda: full),
        "async with Semaphore and timeout": (async_blocks, asyncio_itself()),
        "async with guard: concurrency, time": (async_blocks, lambda: timed),
        "async with guard: all": (async_blocks, lambda: full),
    }


def main() -> int:
    tried = variants()
    found = {name: [] for name in tried}
    for _ in range(ROUNDS):
        for name, (run, make) in tried.items():
            found[name].append(run(make) / USES / 1000)
    medians = {name: statistics.median(costs) for name, costs in found.items()}
    print("| a use | µs |\n| --- | --- |")
    for name, cost in medians.items():
        print(f"| {name} | {cost:.2f} |")
    return 0 if medians["with guard: and memory, breaker"] <= BUDGET_US else 1


if __name__ == "__main__":
    sys.exit(main())
