"""Small recordings for tests of readers: series given by metric, labels and values, in one interval."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from tests.sample import HOST, SECOND, START_NS, TARGET
from tracekit.histogram import of_values
from tracekit.recording.writer import Writer
from tracekit.records import (
    Clocks,
    Exemplar,
    HistogramDelta,
    Host,
    InFlight,
    Interval,
    Loss,
    Process,
    Series,
    SpanParts,
    Target,
    Tick,
    labels_of,
)

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Content:
    """What a recording of one interval of 10 s holds."""

    histograms: list[tuple[str, dict[str, str], list[int]]] = field(default_factory=list)
    counters: list[tuple[str, dict[str, str], float]] = field(default_factory=list)
    gauges: list[tuple[str, dict[str, str], float]] = field(default_factory=list)
    stacks: dict[tuple[str, ...], int] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    in_flight: list[InFlight] = field(default_factory=list)
    parts: list[tuple[dict[str, str], SpanParts]] = field(default_factory=list)
    """With the labels of their span.latency; their own series does not matter. So for the exemplars."""
    exemplars: list[tuple[dict[str, str], Exemplar]] = field(default_factory=list)
    samples: list[tuple[str, dict[str, str], int, tuple[str, ...], int, int]] = field(default_factory=list)
    """(metric, labels, bucket, frames, weight, count)."""
    host: Host = HOST
    target: Target = TARGET
    unit: str = "ns"
    finish: bool = True
    intervals: int = 1


def write(path: Path, content: Content) -> Path:
    """Write *content* to *path* and return it."""
    with Writer(path, content.host, content.target, Clocks(START_NS, 0, START_NS), {}) as writer:
        for number in range(content.intervals):
            interval = Interval(START_NS + number * 10 * SECOND, START_NS + (number + 1) * 10 * SECOND)
            writer.append(_tick(writer, interval, content))
        if content.finish:
            writer.finish(content.in_flight, {"reason": "duration"})
    return path


def _tick(writer: Writer, interval: Interval, content: Content) -> Tick:
    values = [("counter", row) for row in content.counters] + [("gauge", row) for row in content.gauges]
    return Tick(
        interval,
        histograms=[_delta(writer, content.unit, *row) for row in content.histograms],
        values=[(writer.series(Series(m, labels_of(lb), kind, "count")), v) for kind, (m, lb, v) in values],
        stacks=[(writer.stack(frames), weight, 1) for frames, weight in content.stacks.items()],
        processes=content.processes,
        losses=content.losses,
        parts=[replace(part, series=_span(writer, labels)) for labels, part in content.parts],
        exemplars=[replace(one, series=_span(writer, labels)) for labels, one in content.exemplars],
        samples=[_sample(writer, *row) for row in content.samples],
    )


def _span(writer: Writer, labels: dict[str, str]) -> int:
    return writer.series(Series("span.latency", labels_of(labels), "histogram", "ns"))


def _sample(
    writer: Writer, metric: str, labels: dict[str, str], bucket: int, frames: tuple[str, ...], weight: int, count: int
) -> tuple[int, int, int, int, int]:
    series = Series(metric, labels_of(labels), "stacks", "count" if metric == "stack.errors" else "ns")
    return writer.series(series), bucket, writer.stack(frames), weight, count


def _delta(writer: Writer, unit: str, metric: str, labels: dict[str, str], values: list[int]) -> HistogramDelta:
    part = of_values(np.array(values, dtype=np.uint64))
    slots = np.flatnonzero(part.counts)
    series = writer.series(Series(metric, labels_of(labels), "histogram", unit))
    return HistogramDelta(series, slots.tolist(), part.counts[slots].tolist(), part.total, part.low, part.high)
