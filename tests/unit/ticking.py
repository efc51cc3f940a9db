"""Recordings in which time is irregular, for what draws over time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tests.sample import HOST, SECOND, START_NS, TARGET
from tracekit.histogram import of_values
from tracekit.recording.writer import Writer
from tracekit.records import Clocks, HistogramDelta, Interval, Loss, Series, Tick, labels_of

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Ticks:
    """
    What a recording of one series holds.

    Attributes:
        values: of each interval.
        starts: of each interval, seconds since the start of the recording; one a second if empty.
        lossy: numbers of intervals in which 13 events were lost.
    """

    values: list[list[int]]
    starts: list[float] = field(default_factory=list)
    lossy: set[int] = field(default_factory=set)
    metric: str = "runq.wait"
    labels: dict[str, str] = field(default_factory=lambda: {"role": "worker"})
    unit: str = "ns"


def write(path: Path, ticks: Ticks) -> Path:
    """Write *ticks* to *path*, each interval one second long, and return it."""
    starts = ticks.starts or range(len(ticks.values))
    clocks = Clocks(START_NS, 1_790_000_000 * SECOND, START_NS)
    with Writer(path, HOST, TARGET, clocks, {}) as writer:
        series = writer.series(Series(ticks.metric, labels_of(ticks.labels), "histogram", ticks.unit))
        for number, (start, values) in enumerate(zip(starts, ticks.values, strict=True)):
            start_ns = START_NS + round(start * SECOND)
            losses = [Loss("ring_full", 13)] if number in ticks.lossy else []
            deltas = [_delta(series, values)] if values else []
            writer.append(Tick(Interval(start_ns, start_ns + SECOND), histograms=deltas, losses=losses))
        writer.finish([], {"reason": "duration"})
    return path


def _delta(series: int, values: list[int]) -> HistogramDelta:
    part = of_values(np.array(values, dtype=np.uint64))
    slots = np.flatnonzero(part.counts)
    return HistogramDelta(series, slots.tolist(), part.counts[slots].tolist(), part.total, part.low, part.high)
