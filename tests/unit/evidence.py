"""Evidence for tests of verdicts: series given by metric, labels and values, ten intervals of a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.sample import SECOND, START_NS
from tracekit.analysis import slices as sliced
from tracekit.analysis.evidence import Evidence
from tracekit.histogram import merge, of_values
from tracekit.records import Interval, Series, labels_of

if TYPE_CHECKING:
    from tracekit.records import Labels

INTERVALS = 10
MS = 10**6

Key = tuple[str, str]
"""Metric and labels: ("syscall.errors", "syscall=openat errno=ENOENT")."""

HISTOGRAMS: dict[Key, list[list[int]]] = {
    ("spawn.ready", "role=worker"): [[20 * MS] * 10] * INTERVALS,
    ("runq.length", "cpu=0"): [[1, 2]] * INTERVALS,
}
COUNTERS: dict[Key, tuple[str, list[float]]] = {
    ("syscall.calls", "syscall=openat"): ("count", [100.0] * INTERVALS),
    ("syscall.calls", "syscall=read"): ("count", [900.0] * INTERVALS),
    ("spawn.count", "role=worker"): ("count", [10.0] * INTERVALS),
    ("switches", "kind=voluntary role=worker"): ("count", [7.0] * INTERVALS),
    ("io.read", ""): ("bytes", [4096.0] * INTERVALS),
    ("psi", "resource=cpu kind=some"): ("ns", [0.25 * SECOND] * INTERVALS),
    ("psi", "resource=io kind=some"): ("ns", [0.0] * INTERVALS),
}
GAUGES: dict[Key, tuple[str, list[float]]] = {
    ("rss", ""): ("bytes", [float(number) * MS for number in range(1, INTERVALS + 1)]),
    ("host.cpu", "cpu=0"): ("share", [0.9] * INTERVALS),
    ("host.cpu", "cpu=1"): ("share", [0.1] * INTERVALS),
    ("fds", ""): ("count", [float("nan")] * INTERVALS),
}


def evidence(
    histograms: dict[Key, list[list[int]]] | None = None,
    counters: dict[Key, tuple[str, list[float]]] | None = None,
    gauges: dict[Key, tuple[str, list[float]]] | None = None,
    **more: Any,
) -> Evidence:
    """Evidence of the series above and those given, which replace them."""
    by_interval = {
        series_of(key, "histogram", "tasks" if key[0] == "runq.length" else "ns"): [
            of_values(np.array(part)) for part in parts
        ]
        for key, parts in (HISTOGRAMS | (histograms or {})).items()
    }
    values = {
        series_of(key, kind, unit): np.array(column)
        for kind, rows in (("counter", COUNTERS | (counters or {})), ("gauge", GAUGES | (gauges or {})))
        for key, (unit, column) in rows.items()
    }
    wholes = {series: merge(parts) for series, parts in by_interval.items()}

    def slices(metric: str, where: Labels) -> sliced.Slices:
        rows = [
            parts
            for series, parts in by_interval.items()
            if series.metric == metric and set(where) <= set(series.labels)
        ]
        return sliced.of(merge([parts[number] for parts in rows]) for number in range(INTERVALS))

    start = [START_NS + number * SECOND for number in range(INTERVALS)]
    given = {
        "series": [*by_interval, *values],
        "histograms": {series: part for series, part in wholes.items() if part.count},
        "values": values,
        "intervals": [Interval(ns, ns + SECOND) for ns in start],
        "partial": 0,
        "tiers": frozenset({"sched", "errors"}),
        "losses": [],
        "complete": True,
        "slices": slices,
        "start_ns": START_NS,
    }
    return Evidence(**(given | more))


def series_of(key: Key, kind: Any, unit: str) -> Series:
    """The series of *key*; a label is `name=value`, with `+` for a blank."""
    labels = dict(pair.replace("+", " ").split("=", 1) for pair in key[1].split())
    return Series(key[0], labels_of(labels), kind, unit)
