"""
What a span costs the program that enters it, against two readings of the clock and against its peers.

The floor is `t0 = perf_counter_ns(); t1 = perf_counter_ns()` in the same loop. Each round takes the
floor, a candidate and the empty loop in turn, so drift of the machine reaches all three; the ratio
is of what is left when the empty loop is taken away. Peers are measured where they are installed.
Prints a Markdown table of ratios: median, lowest and highest round.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from time import perf_counter, perf_counter_ns, thread_time_ns
from typing import TYPE_CHECKING, Any

from tracekit.probe import Kind, counter, span, traced

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 31
ROUND_NS = 2_000_000
FORKS = 20
STEPS, TASKS = 100, 100
FLOOR = "t0 = pc(); t1 = pc()"


@dataclass(frozen=True)
class Ratio:
    """A cost in units of another, over all rounds."""

    rounds: list[float]

    def __str__(self) -> str:
        return f"{statistics.median(self.rounds):.2f} [{min(self.rounds):.2f}–{max(self.rounds):.2f}]"


def plain() -> None:
    """Nothing."""


def loop(body: str, **names: Any) -> Callable[[int], int]:
    """Return a function that repeats *body* and returns how many ns of CPU that took."""
    source = (
        f"def repeat(n):\n times = iter(range(n))\n start = cpu()\n for _ in times:\n  {body}\n return cpu() - start"
    )
    scope = {"pc": perf_counter_ns, "cpu": thread_time_ns, **names}
    exec(source, scope)
    return scope["repeat"]


def turns_for(repeat: Callable[[int], int]) -> int:
    turns = 100
    while (took := repeat(turns)) < ROUND_NS // 4:
        turns *= 4
    return max(100, turns * ROUND_NS // took)


def in_floors(body: str, **names: Any) -> Ratio:
    """Return what *body* costs in units of the floor."""
    loops = [loop(FLOOR), loop(body, **names), loop("pass")]
    turns = [turns_for(repeat) for repeat in loops]
    rounds = []
    for _ in range(ROUNDS):
        floor, cost, empty = (repeat(n) / n for repeat, n in zip(loops, turns, strict=True))
        rounds.append((cost - empty) / (floor - empty))
    return Ratio(rounds)


def ours() -> dict[str, tuple[Ratio, float | None]]:
    """Return ratio and promised limit of each way to say a span."""
    kind, hits = Kind("bench.kind", system="x"), counter("bench.hits")
    return {
        'with span("x"):': (in_floors('with span("x"): pass', span=span), 1.3),
        "with KIND():": (in_floors("with KIND(): pass", KIND=kind), None),
        "@traced, with the call": (in_floors("f()", f=traced("bench.call")(plain)), 1.2),
        "counter.add()": (in_floors("add()", add=hits.add), None),
        "the same call, not traced": (in_floors("f()", f=plain), None),
        "with nullcontext():": (in_floors("with nc(): pass", nc=contextlib.nullcontext), None),
    }


def prometheus() -> dict[str, Ratio]:
    from prometheus_client import CollectorRegistry, Histogram

    made = Histogram("h", "h", registry=CollectorRegistry())
    return {"prometheus_client Histogram.time()": in_floors("with h.time(): pass", h=made)}


def opentelemetry() -> dict[str, Ratio]:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    provider = TracerProvider()
    provider.add_span_processor(SpanProcessor())
    start = provider.get_tracer("bench").start_as_current_span
    return {"opentelemetry-sdk span, processor that does nothing": in_floors("with s('x'): pass", s=start)}


def hdrhistogram() -> dict[str, Ratio]:
    from hdrh.histogram import HdrHistogram

    record = HdrHistogram(1, 3600 * 10**9, 2).record_value
    return {"HdrHistogram_py record_value, two clocks": in_floors("t0 = pc(); record(pc() - t0)", record=record)}


def viztracer() -> dict[str, Ratio]:
    from viztracer import VizTracer

    tracer = VizTracer(tracer_entries=1_000_000, verbose=0, log_sparse=True)
    return {"viztracer log_event": in_floors("with log('x'): pass", log=tracer.log_event)}


def wrapt() -> dict[str, Ratio]:
    from wrapt import decorator

    @decorator
    def timed(wrapped: Any, _instance: object, args: Any, kwargs: Any) -> Any:
        start = perf_counter()
        try:
            return wrapped(*args, **kwargs)
        finally:
            perf_counter() - start

    return {"wrapt.decorator that takes the time, with the call": in_floors("f()", f=timed(plain))}


def peers() -> dict[str, Ratio]:
    """Return the ratios of those that are installed."""
    return {
        name: ratio
        for measure in (hdrhistogram, viztracer, wrapt, prometheus, opentelemetry)
        for name, ratio in measured(measure).items()
    }


def measured(measure: Callable[[], dict[str, Ratio]]) -> dict[str, Ratio]:
    """Return what *measure* returns, nothing if its peer is not installed."""
    try:
        return measure()
    except ImportError as missing:
        print(f"not measured: {missing.name}", file=sys.stderr)
        return {}


async def _steps(manager: Any) -> None:
    with manager:
        for _ in range(STEPS):
            await asyncio.sleep(0)


def _loop_ns(make: Callable[[], Any]) -> int:
    async def run() -> int:
        tasks = [asyncio.create_task(_steps(make())) for _ in range(TASKS)]
        start = thread_time_ns()
        await asyncio.gather(*tasks)
        return thread_time_ns() - start

    return asyncio.run(run())


def async_step() -> Ratio:
    """Return a task's step inside of an open span, in units of one inside of nullcontext()."""
    rounds = []
    for _ in range(ROUNDS):
        bare, held, again = (
            _loop_ns(make) for make in (contextlib.nullcontext, lambda: span("step"), contextlib.nullcontext)
        )
        rounds.append(2 * held / (bare + again))
    return Ratio(rounds)


FORKING = """
import os, sys, time
from tracekit.probe import span
for i in range(20):
    with span(f"kind {i}"): pass
sys.stdin.readline()
while True:
    took = []
    for _ in range(int(sys.argv[1])):
        start = time.perf_counter_ns()
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        took.append(time.perf_counter_ns() - start)
    print(min(took), flush=True)  # other programs only add time
    if not sys.stdin.readline():
        break
"""


# The same process but for the extension: its size is most of what a fork costs.
WITHOUT = """
import contextlib, sys, types
names = "Counter Gauge Span Steps Traced board counter gauge mark span".split()
module = types.ModuleType("tracekit.probe._probe")
vars(module).update(dict.fromkeys(names, lambda name: contextlib.nullcontext()), Kind=int)
sys.modules["tracekit.probe._probe"] = module
"""


def fork() -> Ratio:
    """Return fork, exit and wait with the probe in use, in units of the same without."""
    programs = [
        subprocess.Popen([sys.executable, "-c", first + FORKING, str(FORKS)], stdin=-1, stdout=-1, text=True)
        for first in (WITHOUT, "import contextlib\n")
    ]
    rounds = []
    for _ in range(ROUNDS * 2):
        took = []
        for program in programs:
            assert program.stdin
            assert program.stdout
            program.stdin.write("\n")
            program.stdin.flush()
            took.append(int(program.stdout.readline()))
        rounds.append(took[1] / took[0])
    for program in programs:
        program.communicate()
    return Ratio(rounds[2:])


def main() -> int:
    gc.collect()
    gc.freeze()
    found = ours()
    rest = peers()
    found |= {
        "a task's step inside of a held span, of one without": (async_step(), 1.03),
        "fork, _exit and wait until the child's first span, of those without": (fork(), 1.05),
    }
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs, {ROUNDS} rounds\n")
    print("| | floors, or of the same without | limit |\n| --- | --- | --- |")
    missed = 0
    for name, (ratio, limit) in found.items():
        missed += limit is not None and statistics.median(ratio.rounds) > limit
        print(f"| {name} | {ratio} | {limit or ''} |")
    ours_in_floors = statistics.median(found['with span("x"):'][0].rounds)
    for name, ratio in rest.items():
        print(f"| {name} | {ratio}, {statistics.median(ratio.rounds) / ours_in_floors:.0f} of our spans | |")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
