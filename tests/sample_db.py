"""
A recording of a worker that calls databases, whose truth is known.

PostgreSQL is slow when its client is: a tail of calls whose answer was there while the thread was busy. Its calls are
seen at sockets and by spans of the program; those of SQLite by spans alone; those of MySQL through TLS.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tests import sample, sample_spans
from tests.sample_spans import Mode
from tracekit.histogram import of_values
from tracekit.recording.writer import Writer
from tracekit.records import Clocks, HistogramDelta, Interval, Series, Tick, labels_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

INTERVALS = 20
HOST = replace(sample.HOST, tiers=("sched", "errors", "db"))
POSTGRESQL = {"system": "postgresql", "peer": "127.0.0.1:5432", "source": "socket"}
REDIS = {"system": "redis", "peer": "/run/redis\x1b[31m.sock", "source": "socket"}
MYSQL = {"system": "mysql", "peer": "10.0.0.7:3306", "source": "socket", "tls": "yes", "operation": "-"}
SQLITE = {"system": "sqlite", "source": "probe"}
SPANS = {"system": "postgresql", "source": "probe"}
INSIDE = {"span": "evaluation"}
MS = 10**6


def _calls(labels: dict[str, str], rate: int, median_ns: int, **waits: float) -> Mode:
    return Mode("worker", labels, rate, median_ns, 0.2, waits, None, "db.latency")


MODES = [
    _calls(POSTGRESQL | {"operation": "SELECT"}, 97, 2 * MS, db=0.9, runq=0.03),
    _calls(POSTGRESQL | {"operation": "SELECT"} | INSIDE, 47, 2 * MS, db=0.9, runq=0.03),
    _calls(POSTGRESQL | {"operation": "SELECT"} | INSIDE, 3, 60 * MS, db=0.04, runq=0.02),
    _calls(POSTGRESQL | {"operation": "INSERT"}, 13, 5 * MS, db=0.95, runq=0.01),
    _calls(REDIS | {"operation": "GET"}, 101, 80_000, db=0.7, runq=0.05),
    _calls(MYSQL, 7, 9 * MS, db=0.97),
    _calls(SPANS, 163, 3 * MS, db=0.5, runq=0.05),
    _calls(SQLITE, 11, 400_000, disk=0.4, lock=0.1),
    Mode("worker", INSIDE, 50, 10 * MS, 0.15, {"db": 0.2, "runq": 0.1, "disk": 0.02}),
    Mode("worker", INSIDE, 3, 90 * MS, 0.1, {"db": 0.75, "runq": 0.05}),
]
COUNTERS = [
    ("db.errors", POSTGRESQL | {"operation": "SELECT", "error": "42P01"}, 2),
    ("db.errors", POSTGRESQL | {"operation": "SELECT", "error": "57014"} | INSIDE, 1),
    ("db.errors", POSTGRESQL | {"operation": "INSERT", "error": "closed"}, 1),
    ("db.errors", REDIS | {"operation": "CONNECT", "error": "refused"}, 3),
    ("db.errors", SPANS | {"error": "UndefinedTable"}, 2),
]
GAUGES = [
    ("db.connections", {"system": "postgresql", "peer": "127.0.0.1:5432"}, "count", 5),
    ("db.in_flight", {"system": "postgresql"}, "count", 2),
    ("db.in_flight.age", {"system": "postgresql"}, "ns", 2_100 * MS),
    ("db.in_flight", {"system": "redis"}, "count", 0),
]
WAITING = [
    {"role": "worker", **POSTGRESQL, "operation": "SELECT", "calls": 1, "age_ns": 2_100 * MS},
    {"role": "cron", "system": "mysql", "operation": "-", "calls": 3, "age_ns": 7 * MS},
]
STATEMENTS = [
    ("SELECT score FROM runs WHERE id = ?", 140, 2 * MS),
    ("INSERT INTO runs\n  VALUES (?, ?, ?)", 13, 5 * MS),
]


@dataclass(frozen=True)
class Values:
    """What each tick has beside latencies, and the end: (metric, labels, value), (metric, labels, unit, value)."""

    counters: Sequence[tuple[str, dict[str, str], float]] = ()
    gauges: Sequence[tuple[str, dict[str, str], str, float]] = ()
    calls: Sequence[dict[str, object]] = ()


USUAL = Values(COUNTERS, GAUGES, WAITING)


def write(
    path: Path, *, modes: list[Mode] = MODES, missing: tuple[str, ...] = (), values: Values | None = None
) -> None:
    """Write it; the same bytes of data every time."""
    values = values or (USUAL if modes is MODES else Values())
    rng = np.random.default_rng(31)
    clocks = Clocks(sample.START_NS, 1_790_000_000 * sample.SECOND, sample.START_NS)
    with Writer(path, HOST, sample.TARGET, clocks, sample.SETTINGS) as writer:
        ids = {mode.series: writer.series(mode.series) for mode in modes}
        of_spans = [mode for mode in modes if mode.metric == "span.latency"]
        for number in range(INTERVALS):
            start = sample.START_NS + number * sample.SECOND
            drawn = sample_spans.latencies(rng, modes)
            spans = [(mode, values) for mode, values in drawn if mode in of_spans]
            writer.append(
                Tick(
                    Interval(start, start + sample.SECOND),
                    histograms=_histograms(ids, drawn) + (_statements(writer, rng) if modes is MODES else []),
                    values=_values(writer, values),
                    parts=sample_spans.parts(ids, drawn, first=False),
                    exemplars=sample_spans.exemplars(ids, spans, start),
                )
            )
        writer.finish([], {"reason": "duration", "missing": list(missing), "calls": list(values.calls)})


def _histograms(ids: dict[Series, int], drawn: list[tuple[Mode, NDArray[np.uint64]]]) -> list[HistogramDelta]:
    by_series: dict[Series, list[NDArray[np.uint64]]] = {}
    for mode, values in drawn:
        by_series.setdefault(mode.series, []).append(values)
    return [_delta(ids[series], np.concatenate(values)) for series, values in by_series.items()]


def _statements(writer: Writer, rng: np.random.Generator) -> list[HistogramDelta]:
    found = []
    for text, rate, median in STATEMENTS:
        labels = labels_of({"system": "postgresql", "statement": text, "role": "worker"})
        values = np.exp(rng.normal(np.log(median), 0.2, rate)).astype(np.uint64)
        found.append(_delta(writer.series(Series("db.statement", labels, "histogram", "ns")), values))
    return found


def _values(writer: Writer, values: Values) -> list[tuple[int, float]]:
    rows = [(Series(m, labels_of(lb | {"role": "worker"}), "counter", "count"), v) for m, lb, v in values.counters]
    rows += [(Series(m, labels_of(lb | {"role": "worker"}), "gauge", unit), v) for m, lb, unit, v in values.gauges]
    return [(writer.series(series), value) for series, value in rows]


def _delta(series: int, values: NDArray[np.uint64]) -> HistogramDelta:
    part = of_values(values)
    slots = np.flatnonzero(part.counts)
    return HistogramDelta(series, slots.tolist(), part.counts[slots].tolist(), part.total, part.low, part.high)
