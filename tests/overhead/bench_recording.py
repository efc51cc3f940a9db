"""
What an hour of 100 busy series costs: MB on disk, CPU to append, seconds to read.

Each series has events at a rate between 5 and 2000 a second (log-uniform) and latencies that
spread over 61 of 32 steps per octave in an interval (lognormal, sigma 0.46); the recording keeps
128 steps per octave. Ten minutes are made and scaled to an hour; --hour makes all of it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from tests.sample import HOST, SECOND, SETTINGS, TARGET
from tracekit.histogram import SLOTS, slots_of
from tracekit.recording.reader import Recording
from tracekit.recording.writer import Writer
from tracekit.records import Clocks, HistogramDelta, Interval, Series, Tick

SERIES = 100
HOUR = 3600
SIGMA = 0.46
CHECKPOINT_TICKS = 256
BUDGET_MB = 40
BUDGET_READ_S = 1.0


class Load:
    """A machine with SERIES busy histograms."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(1)
        self._rates = np.exp(self._rng.uniform(np.log(5), np.log(2000), SERIES)).astype(int)
        self._medians = self._rng.uniform(8, 15, SERIES)
        self.sums = np.zeros((SERIES, SLOTS), dtype=np.int64)
        self.steps_of_32: list[float] = []

    def interval(self, ids: list[int]) -> list[HistogramDelta]:
        """Draw the events of one second."""
        deltas = []
        occupied = 0
        for number, ident in enumerate(ids):
            values = np.exp(self._rng.normal(self._medians[number], SIGMA, self._rates[number])).astype(np.uint64)
            slots, counts = np.unique(slots_of(values), return_counts=True)
            self.sums[number, slots] += counts
            occupied += len(np.unique(slots >> 2))
            deltas.append(delta(ident, slots, counts, int(values.sum())))
        self.steps_of_32.append(occupied / SERIES)
        return deltas

    def whole(self, ids: list[int]) -> list[HistogramDelta]:
        """All events so far, for a checkpoint."""
        filled = [np.flatnonzero(row) for row in self.sums]
        rows = zip(ids, filled, self.sums, strict=True)
        return [delta(ident, slots, row[slots], int(row.sum())) for ident, slots, row in rows]


def delta(ident: int, slots: np.ndarray, counts: np.ndarray, total: int) -> HistogramDelta:
    return HistogramDelta(ident, slots.tolist(), counts.tolist(), total, 0, 0)


def record(path: Path, intervals: int) -> tuple[list[float], float]:
    """Write the recording; return CPU seconds of each append, and the mean occupancy of 32 steps per octave."""
    load, costs = Load(), []
    with Writer(path, HOST, TARGET, Clocks(0, 0, 0), SETTINGS) as writer:
        ids = [writer.series(Series("load", (("n", str(n)),), "histogram", "ns")) for n in range(SERIES)]
        for number in range(intervals):
            tick = Tick(Interval(number * SECOND, (number + 1) * SECOND), load.interval(ids))
            start = process_time()
            writer.append(tick)
            costs.append(process_time() - start)
            if (number + 1) % CHECKPOINT_TICKS == 0:
                writer.checkpoint(load.whole(ids), [])
        writer.checkpoint(load.whole(ids), [])
        writer.finish([], {"reason": "duration"})
    return costs, statistics.mean(load.steps_of_32)


def timed(read) -> float:
    start = perf_counter()
    read()
    return perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--hour", action="store_true", help="make the full hour (3 minutes) instead of a sixth of it")
    intervals = HOUR if parser.parse_args().hour else HOUR // 6
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.tk")
        costs, occupied = record(path, intervals)
        megabytes = path.stat().st_size / 1e6 * HOUR / intervals
        with Recording(path) as recording:
            whole = timed(recording.histograms)
            every = timed(lambda: recording.histograms(between=(1, intervals)))
            one = timed(lambda: recording.cells(recording.series("load", {"n": "7"})))
    scale = HOUR / intervals
    print(f"{intervals} intervals of {SERIES} series, {occupied:.1f} of 32 steps per octave occupied in each")
    print(f"size              {megabytes:.1f} MB an hour (budget {BUDGET_MB})")
    print(f"append            {statistics.median(costs) * 1e3:.2f} ms of CPU an interval (median)")
    print(f"read the whole    {whole:.2f} s by its checkpoint (budget {BUDGET_READ_S:.0f})")
    print(f"read each one     {every * scale:.2f} s an hour with no checkpoint, as after a kill or for a part")
    print(f"one heat map      {one * scale:.2f} s an hour")
    return 0 if megabytes <= BUDGET_MB and whole <= BUDGET_READ_S else 1


if __name__ == "__main__":
    sys.exit(main())
