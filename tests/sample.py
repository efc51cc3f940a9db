"""A recording with every shape in it, whose truth is known: what tests of readers and reports work on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests import sample_spans, sample_stacks
from tracekit.histogram import of_values
from tracekit.recording.writer import Writer
from tracekit.records import (
    Clocks,
    HistogramDelta,
    Host,
    InFlight,
    Interval,
    Loss,
    Process,
    Series,
    Target,
    Tick,
    labels_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SECOND = 10**9
START_NS = 1000 * SECOND
INTERVALS = 30
HOST = Host("box", "6.18.44", "x86_64", 2, "AMD EPYC", 24 * 10**9, "0000", "0.1.0", ("sched", "errors"), ())
TARGET = Target("attach", (4242,))
SETTINGS = {"interval_ns": SECOND}

# metric, labels, median in ns, spread (sigma of the logarithm), events per second
HISTOGRAMS = [
    ("runq.wait", {"role": "worker"}, 80_000, 1.2, 397),
    ("runq.wait", {"role": "supervisor"}, 20_000, 0.8, 53),
    ("runq.wake", {"role": "worker"}, 5_000, 0.6, 311),
    ("oncpu", {"role": "worker"}, 900_000, 0.7, 401),
    ("oncpu", {"role": "supervisor"}, 90_000, 0.7, 53),
    ("offcpu", {"role": "worker", "reason": "disk"}, 2_000_000, 0.9, 101),
    ("offcpu", {"role": "worker", "reason": "network"}, 700_000, 1.0, 211),
    ("offcpu", {"role": "worker", "reason": "preempted"}, 120_000, 1.1, 89),
    ("offcpu", {"role": "supervisor", "reason": "child"}, 15_000_000, 0.5, 53),
    ("blocked", {"role": "worker", "syscall": "fsync"}, 2_000_000, 0.9, 101),
    ("blocked", {"role": "worker", "syscall": "recvfrom"}, 700_000, 1.0, 211),
    ("blocked", {"role": "supervisor", "syscall": "wait4"}, 15_000_000, 0.5, 53),
    ("spawn.first_run", {"role": "worker", "span": "agent.spawn"}, 150_000, 0.4, 7),
    ("spawn.exec", {"role": "worker", "span": "agent.spawn"}, 900_000, 0.4, 7),
    ("spawn.ready", {"role": "worker", "span": "agent.spawn"}, 21_000_000, 0.3, 7),
    ("process.lifetime", {"role": "worker"}, 400_000_000, 0.3, 7),
]

LOOPS = [("loop.busy", {"role": "worker", "thread": "worker"}, 400_000, 1.6, 97)]

# metric, labels, kind, unit, value per interval
VALUES = [
    ("syscall.errors", {"syscall": "openat", "errno": "ENOENT", "role": "worker"}, "counter", "count", 101),
    ("syscall.errors", {"syscall": "recvfrom", "errno": "EAGAIN", "role": "worker"}, "counter", "count", 997),
    (
        "syscall.errors",
        {"syscall": "connect", "errno": "ECONNREFUSED", "role": "worker", "span": "evaluation"},
        "counter",
        "count",
        3,
    ),
    ("syscall.calls", {"syscall": "openat"}, "counter", "count", 1009),
    ("syscall.calls", {"syscall": "recvfrom"}, "counter", "count", 4001),
    ("syscall.calls", {"syscall": "connect"}, "counter", "count", 11),
    ("switches", {"kind": "voluntary", "role": "worker"}, "counter", "count", 312),
    ("switches", {"kind": "involuntary", "role": "worker"}, "counter", "count", 89),
    ("migrations", {"role": "worker"}, "counter", "count", 17),
    ("spawn.count", {"role": "worker", "span": "agent.spawn"}, "counter", "count", 7),
    ("spawn.failed", {"role": "worker", "how": "exit 1", "span": "agent.spawn"}, "counter", "count", 1),
    ("span.errors", {"role": "worker", "span": "evaluation", "type": "TimeoutError"}, "counter", "count", 2),
    ("span.errors", {"role": "worker", "span": "evaluation", "type": "ValueError"}, "counter", "count", 1),
    ("mark", {"role": "worker", "mark": "ready"}, "counter", "count", 7),
    ("app.cache_hits", {"role": "worker", "cache": "scores"}, "counter", "count", 61),
    ("app.queue_depth", {"role": "worker"}, "gauge", "count", 4),
    ("psi", {"resource": "cpu", "kind": "some"}, "counter", "ns", 210_000_000),
    ("psi", {"resource": "io", "kind": "some"}, "counter", "ns", 90_000_000),
    ("psi", {"resource": "memory", "kind": "full"}, "counter", "ns", 0),
    ("io.read", {}, "counter", "bytes", 40_960),
    ("io.write", {}, "counter", "bytes", 819_200),
    ("cpu", {}, "gauge", "share", 0.41),
    ("rss", {}, "gauge", "bytes", 150_000_000),
    ("threads", {}, "gauge", "count", 23),
    ("processes", {}, "gauge", "count", 7),
    ("fds", {}, "gauge", "count", 61),
    ("host.cpu", {"cpu": "0"}, "gauge", "share", 0.93),
    ("host.cpu", {"cpu": "1"}, "gauge", "share", 0.35),
    ("host.steal", {}, "gauge", "share", 0.01),
    ("host.memory.used", {}, "gauge", "bytes", 3_000_000_000),
    ("host.memory.available", {}, "gauge", "bytes", 21_000_000_000),
    ("host.disk.write", {"disk": "vda"}, "counter", "bytes", 1_000_000),
    ("host.disk.busy", {"disk": "vda"}, "counter", "ns", 300_000_000),
    ("host.net.received", {"nic": "lo"}, "counter", "bytes", 500_000),
    ("cost.collector", {}, "counter", "ns", 2_100_000),
    ("cost.bpf", {}, "counter", "ns", 900_000),
    ("cost.rss", {}, "gauge", "bytes", 31_000_000),
]

STACKS = {
    ("worker", "worker", "on-CPU"): (410_000_000, 401),
    ("worker", "worker", "run queue"): (60_000_000, 397),
    ("worker", "worker", "blocked", "disk", "fsync"): (300_000_000, 101),
    ("worker", "worker", "blocked", "network", "recvfrom"): (220_000_000, 211),
    ("worker", "bg-flush", "blocked", "lock", "futex"): (990_000_000, 2),
    ("supervisor", "supervisor", "on-CPU"): (6_000_000, 53),
    ("supervisor", "supervisor", "blocked", "child", "wait4"): (990_000_000, 53),
}


def write(path: Path, *, intervals: int = INTERVALS, losses: bool = True, finish: bool = True) -> None:
    """Write the sample recording; the same bytes of data every time."""
    rng, rng_spans = np.random.default_rng(23), np.random.default_rng(29)
    clocks = Clocks(START_NS, 1_790_000_000 * SECOND, START_NS)
    with Writer(path, HOST, TARGET, clocks, SETTINGS) as writer:
        ids = {mode.series: writer.series(mode.series) for mode in sample_spans.MODES}
        for number in range(intervals):
            interval = Interval(START_NS + number * SECOND, START_NS + (number + 1) * SECOND)
            spans = sample_spans.latencies(rng_spans)
            deltas = [_drawn(writer, rng, row) for row in HISTOGRAMS]
            deltas += [_drawn(writer, rng_spans, row) for row in LOOPS]
            writer.append(
                Tick(
                    interval,
                    histograms=deltas + _spans(writer, spans),
                    values=[(writer.series(Series(m, labels_of(lb), k, u)), v) for m, lb, k, u, v in VALUES],
                    stacks=[(writer.stack(frames), *weight) for frames, weight in STACKS.items()],
                    processes=[_process(number)],
                    losses=[Loss("ring_full", 13)] if losses and number == 11 else [],
                    parts=sample_spans.parts(ids, spans, first=number == 0),
                    exemplars=sample_spans.exemplars(ids, spans, interval.start_ns),
                    samples=sample_stacks.rows(writer, spans),
                    partial=losses and number == 11,
                )
            )
        if finish:
            waits = [
                InFlight(4250, 4242, "worker", "bg-flush", "blocked", "lock", "futex", 29 * SECOND, "evaluation"),
            ]
            writer.finish(waits, {"reason": "duration", "threads": 23, "events": 123_457})


def _drawn(
    writer: Writer, rng: np.random.Generator, row: tuple[str, dict[str, str], int, float, int]
) -> HistogramDelta:
    metric, labels, median, sigma, rate = row
    values = np.exp(rng.normal(np.log(median), sigma, rate)).astype(np.uint64)
    return _delta(writer, Series(metric, labels_of(labels), "histogram", "ns"), values)


def _spans(writer: Writer, drawn: list[tuple[sample_spans.Mode, NDArray[np.uint64]]]) -> list[HistogramDelta]:
    by_series: dict[Series, list[NDArray[np.uint64]]] = {}
    for mode, values in drawn:
        by_series.setdefault(mode.series, []).append(values)
    return [_delta(writer, series, np.concatenate(values)) for series, values in by_series.items()]


def _delta(writer: Writer, series: Series, values: NDArray[np.uint64]) -> HistogramDelta:
    part = of_values(values)
    slots = np.flatnonzero(part.counts)
    return HistogramDelta(
        writer.series(series), slots.tolist(), part.counts[slots].tolist(), part.total, part.low, part.high
    )


def _process(number: int) -> Process:
    start = START_NS + number * SECOND
    code = 1 if number % 7 == 3 else 0
    times = {"first_run_ns": start + 150_000, "exec_ns": start + 900_000, "ready_ns": start + 21_000_000}
    end = {"exit_ns": start + 4 * 10**8, "exit_code": code}
    return Process(4300 + number, 4242, "worker", "spawned", start, **times, **end, span="agent.spawn")
