"""
Record without a pause and print the number of each interval once it is committed: what tests kill.

python -m tests.unit.committing FILE [INTERVALS]: with INTERVALS it finishes after so many, else never.
Interval number n (from 1) holds what `tick` says, so that a reader can check all of it.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from tests.sample import HOST, SECOND, SETTINGS, START_NS, TARGET
from tracekit.recording.writer import Writer
from tracekit.records import WAITS, Clocks, Exemplar, HistogramDelta, Interval, Loss, Process, Series, SpanParts, Tick

WAIT = Series("runq.wait", (("role", "worker"),), "histogram", "ns")
CALLS = Series("syscall.calls", (("syscall", "openat"),), "counter", "count")
SPAN = Series("span.latency", (("role", "worker"), ("span", "evaluation")), "histogram", "ns")
BUCKET = 77
STACK = ("worker", "worker", "on-CPU")
SEEN = Series("stack.span", (("role", "worker"), ("span", "evaluation"), ("state", "on-CPU")), "stacks", "ns")
CODE = ("main (app.py:1)", "run (app.py:7)")
CHECKPOINT_EVERY = 13


def begin(path: Path, *, owner: tuple[int, int] | None = None) -> Writer:
    return Writer(path, HOST, TARGET, Clocks(START_NS, 1, START_NS), SETTINGS, owner=owner)


def tick(writer: Writer, number: int) -> Tick:
    """
    Two events of n % 100 ns, a counter of n, a stack of n ns, process n, a lost event, the parts of a span of 100 n ns,
    nine slow spans, two rows of sampled stacks; now and then a new series.
    """
    start = START_NS + number * SECOND
    extra = Series("runq.wait", (("role", f"extra-{number // 10}"),), "histogram", "ns")
    return Tick(
        Interval(start, start + SECOND),
        histograms=[_one(writer.series(WAIT), number), _one(writer.series(extra), number)],
        values=[(writer.series(CALLS), number)],
        stacks=[(writer.stack(STACK), number, 1)],
        processes=[Process(number, 1, "worker", "spawned", start)],
        losses=[Loss("ring_full", 1)],
        parts=[_parts(writer, number)],
        exemplars=[slow(writer, number, rank) for rank in range(9)],
        samples=_samples(writer, number, 1),
    )


def checkpoint(writer: Writer, intervals: int) -> None:
    """The sums of intervals 1..*intervals*, as the collector writes them now and then."""
    numbers = range(1, intervals + 1)
    series = {writer.series(WAIT): list(numbers)}
    for number in numbers:
        extra = Series("runq.wait", (("role", f"extra-{number // 10}"),), "histogram", "ns")
        series.setdefault(writer.series(extra), []).append(number)
    writer.checkpoint(
        [_sum(ident, events) for ident, events in series.items()],
        [(writer.stack(STACK), sum(numbers), intervals)],
        [_parts(writer, sum(numbers))],
        _samples(writer, sum(numbers), intervals),
    )


def slow(writer: Writer, number: int, rank: int) -> Exemplar:
    """Exemplar *rank* of interval *number*: it took 1000 * number + rank ns, of which it waited for each reason."""
    waits = tuple(range(len(WAITS)))
    took = 1000 * number + rank
    return Exemplar(writer.series(SPAN), 7, 8, START_NS, took, rank == 1, rank == 2, rank != 3, waits, 5, 6)


def _samples(writer: Writer, weight: int, count: int) -> list[tuple[int, int, int, int, int]]:
    """Stack CODE of *weight* in BUCKET, and its caller of twice as much in the one before."""
    series = writer.series(SEEN)
    stacks = writer.stack(CODE), writer.stack(CODE[:1])
    return [(series, BUCKET, stacks[0], weight, count), (series, BUCKET - 1, stacks[1], 2 * weight, 3 * count)]


def _parts(writer: Writer, number: int) -> SpanParts:
    waits = tuple(number * kind for kind in range(len(WAITS)))
    return SpanParts(writer.series(SPAN), BUCKET, 100 * number, number, waits, waits[::-1], number, 0, number)


def _one(series: int, number: int) -> HistogramDelta:
    return HistogramDelta(series, [number % 100], [1], number % 100, number % 100, number % 100)


def _sum(series: int, numbers: list[int]) -> HistogramDelta:
    values = [number % 100 for number in numbers]
    slots = sorted(set(values))
    return HistogramDelta(series, slots, [values.count(slot) for slot in slots], sum(values), min(values), max(values))


def main() -> None:
    print("begin", flush=True)
    writer = begin(Path(sys.argv[1]))
    for number in range(1, int(sys.argv[2]) + 1) if sys.argv[2:] else count(1):
        writer.append(tick(writer, number))
        print(number, flush=True)
        if number % CHECKPOINT_EVERY == 0:
            checkpoint(writer, number)
    writer.finish([], {"reason": "duration"})
    print("finished", flush=True)


def made(path: Path, intervals: int, *, checkpoints: bool = False) -> Path:
    """Write a whole recording of so many intervals to *path*, and return it."""
    with begin(path) as writer:
        for number in range(1, intervals + 1):
            writer.append(tick(writer, number))
            if checkpoints and number % CHECKPOINT_EVERY == 0:
                checkpoint(writer, number)
        writer.finish([], {"reason": "duration"})
    return path


if __name__ == "__main__":
    main()
