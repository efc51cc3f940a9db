"""
How long commands take on a recording of many sampled stacks: seconds, and the peak of their memory.

Ten minutes of a worker of 8 threads with 20,000 distinct stacks of 20 to 40 frames, few of them hot: 1.2 million
samples and waits, half of them by the latency of the spans that they were seen in. Each run is a process of its own, as
a user starts it. Given the folder of another tracekit, both run in turns; the ratio is what to quote.

usage: python -m tests.overhead.bench_samples [FOLDER]    FOLDER: a checkout to compare with
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from tests.sample import HOST, SECOND, SETTINGS, START_NS, TARGET
from tracekit.histogram import of_values, slots_of
from tracekit.recording.writer import Writer
from tracekit.records import BUCKET_SHIFT, WAITS, Clocks, HistogramDelta, Interval, Series, SpanParts, Tick, labels_of

BUDGET_S = 5.0
STACKS, INTERVALS, THREADS, ROUNDS = 20_000, 600, 8, 3
SPANS, OF_SPANS, OF_THREADS = 400, 1000, 1000
"""Each second: spans, samples that were seen in them, and samples and waits of threads."""
PERIOD_NS = SECOND // 99
_EVAL = "_PyEval_EvalFrameDefault (libpython3.11.so.1.0)"
_ROLE = {"role": "worker"}
_SPAN = {"role": "worker", "span": "evaluation"}
COMMANDS = {
    "heatmap of spans": ["heatmap", "--metric", "span.latency", "-o", "x.svg"],
    "heatmap of waits": ["heatmap", "--metric", "offcpu", "-o", "x.svg"],
    "flamegraph --wall": ["flamegraph", "--wall", "-o", "x.svg"],
    "flamegraph --tail": ["flamegraph", "--span", "evaluation", "--tail", "p99", "-o", "x.svg"],
    "report": ["report"],
}


def stacks(count: int) -> list[tuple[str, ...]]:
    """Return distinct stacks of Python frames, each with one of its interpreter, and of libraries and the kernel."""
    rng = random.Random(7)
    names = [f"function_{n} (package/module_{n % 97}.py:{n})" for n in range(3000)]
    callees: dict[tuple[int, str], list[str]] = {}
    found: dict[tuple[str, ...], None] = {}
    while len(found) < count:
        frames = ["_start (python3.11)", "main (app.py:1)"]
        for depth in range(rng.randrange(9, 18)):
            choices = [rng.choice(names) for _ in range(rng.choice((1, 1, 2, 3, 4)))]
            frames += [_EVAL, rng.choice(callees.setdefault((depth, frames[-1]), choices))]
        found[(*frames, "read (libc.so.6)", f"vfs_read_{rng.randrange(9)}_[k]")] = None
    return list(found)


class Load:
    """A worker, second by second."""

    def __init__(self, writer: Writer) -> None:
        self._rng = np.random.default_rng(1)
        self._writer = writer
        self._stacks = np.array([writer.stack(frames) for frames in stacks(STACKS)])
        hot = self._rng.pareto(0.9, STACKS)
        self._shares = hot / hot.sum()
        self._latency = self._id("span.latency", _SPAN, "histogram")
        self._offcpu = self._id("offcpu", {**_ROLE, "reason": "disk"}, "histogram")
        self._in_span = self._id("stack.span", {**_SPAN, "state": "on-CPU"}, "stacks")
        kinds = (("stack.oncpu", {}), ("stack.offcpu", {"reason": "disk", "syscall": "fsync"}))
        self._of_threads = [
            self._id(metric, {**_ROLE, "thread": f"t{n}", **why}, "stacks")
            for metric, why in kinds
            for n in range(THREADS)
        ]

    def second(self, number: int) -> Tick:
        """Draw the spans, samples and waits of a second."""
        interval = Interval(START_NS + number * SECOND, START_NS + (number + 1) * SECOND)
        spans = np.exp(self._rng.normal(np.log(11_000_000), 0.4, SPANS)).astype(np.uint64)
        waits = np.exp(self._rng.normal(np.log(2_000_000), 0.9, OF_THREADS // 2)).astype(np.uint64)
        held = [(self._writer.stack(frames), SECOND // 2, 100) for frames in self._accounts()]
        histograms = [_delta(self._latency, spans), _delta(self._offcpu, waits)]
        return Tick(interval, histograms, stacks=held, parts=self._parts(spans), samples=self._samples(spans))

    def _samples(self, spans: np.ndarray) -> list[tuple[int, int, int, int, int]]:
        buckets = (self._rng.choice(slots_of(spans), OF_SPANS) >> BUCKET_SHIFT).tolist()
        drawn = self._rng.choice(self._stacks, OF_SPANS + OF_THREADS, p=self._shares).tolist()
        series = self._rng.choice(self._of_threads, OF_THREADS).tolist()
        rows = zip([self._in_span] * OF_SPANS + series, buckets + [0] * OF_THREADS, drawn, strict=True)
        return [(*row, PERIOD_NS, 1) for row in rows]

    def _parts(self, spans: np.ndarray) -> list[SpanParts]:
        buckets = slots_of(spans) >> BUCKET_SHIFT
        none = (0,) * len(WAITS)
        sums = [(int(bucket), int(spans[buckets == bucket].sum())) for bucket in np.unique(buckets)]
        return [SpanParts(self._latency, bucket, total, 0, none, none, 0, 0, 0) for bucket, total in sums]

    def _accounts(self) -> list[tuple[str, ...]]:
        states = (("on-CPU",), ("blocked", "disk", "fsync"))
        return [("worker", f"t{n}", *state) for n in range(THREADS) for state in states]

    def _id(self, metric: str, labels: dict[str, str], kind: str) -> int:
        return self._writer.series(Series(metric, labels_of(labels), kind, "ns"))


def _delta(ident: int, values: np.ndarray) -> HistogramDelta:
    part = of_values(values)
    slots = np.flatnonzero(part.counts)
    return HistogramDelta(ident, slots.tolist(), part.counts[slots].tolist(), part.total, part.low, part.high)


def record(path: Path) -> None:
    """Write the recording."""
    with Writer(path, HOST, TARGET, Clocks(START_NS, 0, START_NS), SETTINGS) as writer:
        load = Load(writer)
        for number in range(INTERVALS):
            writer.append(load.second(number))
        writer.finish([], {"reason": "duration", "threads": THREADS, "events": INTERVALS * (OF_SPANS + OF_THREADS)})


def cost(program: Path, command: list[str], path: Path) -> tuple[float, float, float]:
    """Return seconds, seconds of CPU, and the peak of resident MB of *command* as the tracekit in *program* does it."""
    name, *options = command
    options = [str(path.parent / option) if option == "x.svg" else option for option in options]
    begin = perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "tracekit", name, str(path), *options],
        cwd=program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} of {program} ended with {status}")
    return perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def main() -> int:
    programs = [Path.cwd(), *(Path(folder).resolve() for folder in sys.argv[1:2])]
    slow = False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.tk")
        record(path)
        print(f"{path.stat().st_size / 1e6:.0f} MB; budget {BUDGET_S} s")
        for title, command in COMMANDS.items():
            costs = [[cost(program, command, path) for program in programs] for _ in range(ROUNDS)]
            medians = [
                [statistics.median(column) for column in zip(*of_one, strict=True)]
                for of_one in zip(*costs, strict=True)
            ]
            words = [f"{wall:.2f} s, {cpu:.2f} s of CPU, {mb:.0f} MB" for wall, cpu, mb in medians]
            print(f"  {title}: {'; other: '.join(words)}")
            slow |= medians[0][1] > BUDGET_S
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
