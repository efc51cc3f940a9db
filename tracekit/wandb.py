"""
What tracekit measured, as rows of a Weights & Biases run: one row for each window of time.

    import wandb
    from tracekit.wandb import Live, log_recording

    with wandb.init(project="agents") as run, Live(run, every="10s"):   # spans and counters of this process
        train()

    log_recording("run.tk", run, window="10s")                         # all series of a recording, afterwards

The run is given, so nothing of wandb is imported here. Keys are `tracekit/<metric>/<label=value>.../<statistic>`;
their x axis is `tracekit/seconds`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from tracekit import probe
from tracekit.units import parse_ns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from tracekit.histogram import Histogram
    from tracekit.probe._snapshot import Snapshot
    from tracekit.recording.reader import Recording
    from tracekit.records import Series

Row = dict[str, float]
SECONDS = "tracekit/seconds"
"""Key of the x axis: the end of the window, since the beginning of the recording, or of Live."""
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_MS = 1e6


class Run(Protocol):
    """What is used of wandb.Run."""

    def log(self, data: dict[str, Any], *, commit: bool | None = None) -> None:
        """Add *data* to the row under way, and end that if *commit*."""

    def define_metric(self, name: str, *, step_metric: str) -> Any:
        """Say what is the x axis of keys."""


def log_recording(path: str | Path, run: Run, window: str | float = "10s", metrics: Collection[str] = ()) -> int:
    """
    Log a recording, one row for each *window*, and return how many.

    Needs numpy, but no privileges, and the recording may be of another machine.

    Args:
        path: of the recording.
        run: an open run.
        window: `10s`, or seconds; not shorter than an interval of the recording.
        metrics: beginnings of names, as `span.` or `gpu.utilisation`; none: all.

    Raises:
        TracekitError: it cannot be read.
        ValueError: no such time.
    """
    from pathlib import Path  # noqa: PLC0415 - as below: not for who only uses Live

    from tracekit.recording.reader import Recording  # noqa: PLC0415 - numpy

    _define(run)
    with Recording(Path(path)) as recording:
        rows = 0
        for row in _rows(recording, parse_ns(str(window)), tuple(metrics) or ("",)):
            run.log(row, commit=True)
            rows += 1
        return rows


class Live:
    """
    Logs what the probe of this process counted, one row for each time *every* has passed, and one at the end.

    Spans: how many, how many failed, and the mean latency of those that ended in the window. Counters by their
    increase per second, gauges as they are. Quantiles of windows are in a recording, not here.

    Args:
        run: an open run; it is not closed.
        every: `10s`, or seconds.
        commit: False: the values go into the row that the program ends next by its own `run.log`. Needed where
            that numbers its steps; of several windows in one row, the last one stays.
    """

    def __init__(self, run: Run, every: str | float = "10s", *, commit: bool = True) -> None:
        self._run = run
        self._every_s = parse_ns(str(every)) / 1e9
        self._commit = commit
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._log_rows, name="tracekit-wandb", daemon=True)

    def __enter__(self) -> Live:
        _define(self._run)
        self._begin_s = self._last_s = time.monotonic()
        self._before = probe.snapshot()
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _log_rows(self) -> None:
        ended = False
        while not ended:
            ended = self._stop.wait(self._every_s)
            now, now_s = probe.snapshot(), time.monotonic()
            row = dict(_grown(self._before, now, now_s - self._last_s))
            self._before, self._last_s = now, now_s
            self._run.log({SECONDS: now_s - self._begin_s, **row}, commit=self._commit)


def _define(run: Run) -> None:
    run.define_metric("tracekit/*", step_metric=SECONDS)


def _key(metric: str, labels: Mapping[str, str], statistic: str) -> str:
    """Return a key that no name can break; different names have different keys."""
    parts = [metric, *(f"{name}={value}" for name, value in sorted(labels.items())), statistic]
    return "/".join(["tracekit", *(quote(part, safe=" =.:<>-_()") for part in parts if part)])


def _grown(before: Snapshot, now: Snapshot, seconds: float) -> Iterator[tuple[str, float]]:
    """Yield what one window added."""
    old = {(span["name"], *span["labels"].items()): span for span in before["spans"]}
    for span in now["spans"]:
        name, labels = span["name"], span["labels"]
        last = old.get((name, *labels.items()))
        count = span["count"] - (last["count"] if last else 0)
        failed = sum(span["errors"].values()) - (sum(last["errors"].values()) if last else 0)
        yield _key(name, labels, "n"), count
        yield _key(name, labels, "failed"), failed
        if count:
            total_ns = span["total_ns"] - (last["total_ns"] if last else 0)
            yield _key(name, labels, "mean_ms"), total_ns / count / _MS
    sums = {(counter["name"], *counter["labels"].items()): counter["value"] for counter in before["counters"]}
    for counter in now["counters"]:
        added = counter["value"] - sums.get((counter["name"], *counter["labels"].items()), 0)
        yield _key(f"app.{counter['name']}", counter["labels"], "per_s"), added / seconds
    for gauge in now["gauges"]:
        yield _key(f"app.{gauge['name']}", gauge["labels"], ""), gauge["value"]


def _rows(recording: Recording, window_ns: int, beginnings: tuple[str, ...]) -> Iterator[Row]:
    """Yield one row for each window that has intervals: those that end in it."""
    values = {s: column for s, column in recording.values().items() if s.metric.startswith(beginnings)}
    for first, last in _windows(recording, window_ns):
        intervals = recording.intervals[first:last]
        wall_ns = sum(interval.duration_ns for interval in intervals)
        row = {SECONDS: (intervals[-1].end_ns - recording.start_ns) / 1e9}
        for series, part in recording.histograms(between=(first, last)).items():
            if series.metric.startswith(beginnings):
                row |= _of_histogram(series, part)
        for series, column in values.items():
            row |= _of_values(series, column[first:last], wall_ns)
        yield row


def _windows(recording: Recording, window_ns: int) -> Iterator[tuple[int, int]]:
    first = 0
    ends = [(interval.end_ns - recording.start_ns - 1) // max(window_ns, 1) for interval in recording.intervals]
    for number, window in enumerate(ends):
        if number + 1 == len(ends) or ends[number + 1] != window:
            yield first, number + 1
            first = number + 1


def _of_histogram(series: Series, part: Histogram) -> Row:
    """Return its statistics; a quantile only where the events support it."""
    from tracekit.analysis.summary import quantile  # noqa: PLC0415 - numpy

    scale, unit = (_MS, "_ms") if series.unit == "ns" else (1, "")
    found = {name: quantile(part, q) for name, q in _QUANTILES.items()}
    statistics = {"mean": part.mean, "max": part.high, **found}
    row = {f"{name}{unit}": value / scale for name, value in statistics.items() if value is not None}
    return {_key(series.metric, dict(series.labels), name): value for name, value in {**row, "n": part.count}.items()}


def _of_values(series: Series, column: Any, wall_ns: int) -> Row:
    """Return the mean of a gauge, NaN left out; of a counter its increase per second, of time per time."""
    labels = dict(series.labels)
    if series.kind == "gauge":
        known = column[column == column]  # noqa: PLR0124 - NaN is not itself
        return {_key(series.metric, labels, ""): float(known.mean())} if known.size else {}
    if series.unit == "ns":
        return {_key(series.metric, labels, "share"): float(column.sum()) / wall_ns}
    return {_key(series.metric, labels, "per_s"): float(column.sum()) * 1e9 / wall_ns}
