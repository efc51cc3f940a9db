"""
The algebra of histograms against the PyPI package hdrhistogram, on one layout: 1 ns to 1 h, three digits.

The two alternate on the same data, so drift of the machine reaches both; times are of the CPU. Of each ratio the
median and the middle half are shown, and the ratios are what to quote. `--markdown FILE` puts the table there,
between the marks; the exit code says whether all promises hold.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from time import process_time_ns
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from tracekit.export import hlog as writer
from tracekit.histogram import Layout, merge, of_values
from tracekit.recording.hlog import Log

if TYPE_CHECKING:
    from collections.abc import Callable

LAYOUT = Layout(1, 3600 * 10**9, 3)
QS = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0)
MARKS = ("<!-- bench_histogram -->", "<!-- end -->")
ROUND_NS = 20e6
INTERVALS = 500
DRAW = np.random.default_rng(7)


class Contest(NamedTuple):
    name: str
    theirs: Callable[[], object]
    ours: Callable[[], object]
    budget: float
    rounds: int


def latencies(count: int, spread: float = 0.5) -> np.ndarray:
    """Return *count* values around 1.2 ms: 95 % within a factor of 2.7, or of 7 at a *spread* of 1."""
    return DRAW.lognormal(14, spread, count).astype(np.uint64)


def new() -> HdrHistogram:
    return HdrHistogram(LAYOUT.lowest, LAYOUT.highest, LAYOUT.digits)


def recording(values: np.ndarray) -> Contest:
    numbers = values.tolist()

    def theirs() -> HdrHistogram:
        made = new()
        for value in numbers:
            made.record_value(value)
        return made

    assert list(theirs().counts) == of_values(values, LAYOUT).counts.tolist()
    return Contest(f"record {len(numbers):,} values", theirs, lambda: of_values(values, LAYOUT), 40, 15)


def reading(values: np.ndarray) -> list[Contest]:
    theirs, ours = new(), of_values(values, LAYOUT)
    for value in values.tolist():
        theirs.record_value(value)
    percents = [100 * q for q in QS]
    assert ours.slot_mean == theirs.get_mean_value()
    other = of_values(values, Layout(1, 3600 * 10**9, 2))
    oracle = HdrHistogram(1, 3600 * 10**9, 2)
    for value in values.tolist():
        oracle.record_value(value)
    return [
        Contest(
            "eight percentiles",
            lambda: theirs.get_percentile_to_value_dict(percents),
            lambda: ours.quantiles(QS),
            50,
            31,
        ),
        Contest("mean of slots", theirs.get_mean_value, lambda: ours.slot_mean, 1000, 9),
        Contest("deviation", theirs.get_stddev, lambda: ours.deviation, 0, 9),
        Contest("add another precision", lambda: new().add(oracle), lambda: merge([ours, other]), 0, 9),
    ]


def log_reading(path: Path, size: int, spread: float, budget: float) -> Contest:
    """Add up a log of intervals of *size* values each."""
    intervals = INTERVALS
    entries = [writer.Entry(float(n), 1.0, "", of_values(latencies(size, spread), LAYOUT)) for n in range(intervals)]
    path.write_text("\n".join(writer.log(1.7e9, "bench", entries)) + "\n", encoding="ascii")

    def theirs() -> int:
        whole = new()
        reader = HistogramLogReader(str(path), whole)
        while reader.add_next_interval_histogram():
            pass
        return int(whole.get_total_count())

    def ours() -> int:
        return Log(path).histograms()[""].count

    assert theirs() == ours() == size * intervals
    wide = ", wide" * (spread > 0.5)
    return Contest(f"read a log, {size:,} values an interval{wide}", theirs, ours, budget, 9)


def timed(work: Callable[[], object], loops: int) -> float:
    start = process_time_ns()
    for _ in range(loops):
        work()
    return (process_time_ns() - start) / loops


def loops_of(work: Callable[[], object]) -> int:
    """Return how often *work* fits into a round."""
    work()
    return max(1, int(ROUND_NS / timed(work, 1)))


def row(contest: Contest) -> tuple[str, bool]:
    """Alternate the two, each for a while; return a row of the table and whether the promise holds."""
    loops = [loops_of(work) for work in (contest.theirs, contest.ours)]
    pairs = [(timed(contest.theirs, loops[0]), timed(contest.ours, loops[1])) for _ in range(contest.rounds)]
    ratios = [theirs / ours for theirs, ours in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    theirs, ours = (statistics.median(column) / 1e3 for column in zip(*pairs, strict=True))
    budget = f"{contest.budget:,}" if contest.budget else "-"
    text = f"| {contest.name} | {theirs:,.0f} | {ours:,.0f} | {middle:,.1f} | {low:,.1f}–{high:,.1f} | {budget} |"
    return text, middle >= contest.budget


def main(words: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        contests = [recording(latencies(100_000)), *reading(latencies(100_000))]
        contests += [
            log_reading(Path(folder, f"{size}-{spread}.hlog"), size, spread, budget)
            for size, spread, budget in ((60, 0.5, 5.0), (1000, 0.5, 3.0), (20_000, 0.5, 2.0), (20_000, 1.0, 0.0))
        ]
        rows = [row(contest) for contest in contests]
    head = [
        "| | hdrhistogram, µs | tracekit, µs | times faster | middle half | promised |",
        "|---|---|---|---|---|---|",
    ]
    table = "\n".join([*head, *(text for text, _ in rows)])
    print(table)
    if words[:1] == ["--markdown"]:
        page = Path(words[1])
        before, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
        page.write_text(f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}", encoding="utf-8")
    return 0 if all(kept for _, kept in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
