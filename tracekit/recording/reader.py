"""Reading a recording, finished or still growing. Needs only the file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tracekit.histogram import HIGHEST, LOWER_EDGE, SLOTS, UPPER_EDGE, Histogram
from tracekit.recording import payload
from tracekit.recording.opening import Damage, open_file
from tracekit.recording.parts import PartSums
from tracekit.recording.samples import Frames, SampleSums
from tracekit.recording.writer import EXEMPLAR_COLUMNS
from tracekit.records import (
    WAITS,
    Clocks,
    Exemplar,
    Host,
    InFlight,
    Interval,
    Labels,
    Loss,
    OpenCalls,
    Process,
    Series,
    StackWeight,
    Target,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from tracekit.histogram.parts import Parts
    from tracekit.samples import StackSamples

Between = tuple[int, int]
"""Half-open range [first, last) of interval numbers, from 0."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Events of some series by time and slot, sparse: arrays of equal length, one element a cell."""

    interval: NDArray[np.int64]
    """Interval number, from 0."""
    slot: NDArray[np.int64]
    count: NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Rows:
    """
    The histograms of some series in each interval, sparse: arrays of equal length for the rows, and for the cells.

    Attributes:
        names: the series.
        interval, series: int64[rows], number of the interval, and which of *names*; intervals ascend.
        total, low, high: uint64[rows], sum, smallest and largest value.
        row, slot, count: int64[cells], which of the rows, and events by slot.
    """

    names: list[Series]
    interval: NDArray[np.int64]
    series: NDArray[np.int64]
    total: NDArray[np.uint64]
    low: NDArray[np.uint64]
    high: NDArray[np.uint64]
    row: NDArray[np.int64]
    slot: NDArray[np.int64]
    count: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Payload:
    """The histograms payload of one interval or checkpoint, decoded."""

    series: NDArray[np.int64]
    pairs: NDArray[np.int64]
    total: NDArray[np.uint64]
    low: NDArray[np.uint64]
    high: NDArray[np.uint64]
    slot: NDArray[np.int64]
    count: NDArray[np.uint64]


class Recording:
    """
    An open recording. Use as a context manager.

    Raises:
        UsageError: no such file.
        RecordingError: not a recording, newer than this tracekit, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db, self._format = open_file(path)
        self._frames = Frames(self._db)
        with Damage(path):
            meta = {key: json.loads(value) for key, value in self._db.execute("SELECT key, value FROM meta")}
            self.host = Host(**_tuples(meta["host"]))
            self.target = Target(**_tuples(meta["target"]))
            self.clocks = Clocks(**meta["clocks"])
            self.settings: dict[str, Any] = meta["settings"]
            self.end: dict[str, Any] = meta.get("end", {})
            self.complete = "end" in meta
            """False while it grows, and forever if the collector was killed."""
            rows = self._db.execute("SELECT id, start_ns, end_ns, partial FROM interval ORDER BY id").fetchall()
            self.intervals = [Interval(start, end) for _, start, end, _ in _numbered(rows)]
            self.partial = {number for number, row in enumerate(rows) if row[3]}
            """Numbers of intervals known to lack data."""
            self._ids = {
                ident: Series(metric, _labels(labels), kind, unit)
                for ident, metric, labels, kind, unit in self._db.execute("SELECT * FROM series ORDER BY id")
            }

    @property
    def start_ns(self) -> int:
        """Start of the first interval, CLOCK_MONOTONIC; the attach if there is none."""
        return self.intervals[0].start_ns if self.intervals else self.clocks.monotonic_ns

    @property
    def duration_ns(self) -> int:
        """From the start of the first interval to the end of the last, ns."""
        return self.intervals[-1].end_ns - self.start_ns if self.intervals else 0

    @property
    def missing(self) -> list[str]:
        """What could not be measured, each one line with its reason."""
        lines = self.end.get("missing", [])
        said = [line for line in lines if isinstance(line, str)] if isinstance(lines, list) else []
        return [*self.host.findings, *said]

    def series(self, metric: str = "", where: Mapping[str, str] | None = None) -> list[Series]:
        """Return the series of *metric* ("" is any) whose labels include all of *where*."""
        return [series for series in self._ids.values() if _matches(series, metric, where or {})]

    def histograms(
        self, metric: str = "", where: Mapping[str, str] | None = None, between: Between | None = None
    ) -> dict[Series, Histogram]:
        """Return the histogram of each matching series that has events, over all or some intervals."""
        wanted = [i for i, s in self._ids.items() if s.kind == "histogram" and _matches(s, metric, where or {})]
        if not wanted:
            return {}
        sums = _Sums(wanted)
        with Damage(self.path):
            for part in self._parts(between):
                sums.add(part)
        return {self._ids[ident]: histogram for ident, histogram in sums.histograms().items()}

    def cells(self, series: Collection[Series], between: Between | None = None) -> Cells:
        """Return the events of *series*, added up, by interval and slot."""
        chosen = set(series)
        wanted = np.array([i for i, s in self._ids.items() if s in chosen], dtype=np.int64)
        found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]] = []
        with Damage(self.path):
            for number, part in self._interval_parts(between):
                keep = np.repeat(np.isin(part.series, wanted), part.pairs)
                counts = np.zeros(SLOTS, dtype=np.uint64)
                np.add.at(counts, part.slot[keep], part.count[keep])
                slots = np.flatnonzero(counts)
                found.append((np.full(len(slots), number, dtype=np.int64), slots, counts[slots]))
        if not found:
            none = np.zeros(0, dtype=np.int64)
            return Cells(none, none, none.astype(np.uint64))
        return Cells(*(np.concatenate(column) for column in zip(*found, strict=True)))

    def rows(self, metric: str) -> Rows:
        """Return the histograms of the series of *metric* in each interval: one pass over the file."""
        names = {i: s for i, s in self._ids.items() if s.kind == "histogram" and s.metric == metric}
        wanted = np.array(list(names), dtype=np.int64)
        found: list[list[NDArray[Any]]] = []
        rows = 0
        with Damage(self.path):
            for number, part in self._interval_parts(None):
                use = np.isin(part.series, wanted) & (part.pairs > 0)
                found.append(_rows_of(number, rows, part, use, wanted))
                rows += int(use.sum())
        if not found:
            none, sums = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint64)
            return Rows(list(names.values()), none, none, sums, sums, sums, none, none, none)
        return Rows(list(names.values()), *(np.concatenate(column) for column in zip(*found, strict=True)))

    def values(self, metric: str = "", where: Mapping[str, str] | None = None) -> dict[Series, NDArray[np.float64]]:
        """
        Return float64[intervals] of each matching counter or gauge.

        A counter holds the increase of each interval, 0 where it has none; a gauge its
        sample, NaN where there is none.
        """
        blank = {"counter": 0.0, "gauge": np.nan}
        shapes = {"histogram", "stacks"}
        wanted = {i: s for i, s in self._ids.items() if s.kind not in shapes and _matches(s, metric, where or {})}
        with Damage(self.path):
            table = {i: np.full(len(self.intervals), blank[s.kind]) for i, s in wanted.items()}
            for number, (blob,) in enumerate(self._db.execute("SELECT vals FROM interval ORDER BY id")):
                if number >= len(self.intervals):
                    break
                ids, values = payload.decode(blob)
                for ident, value in zip(
                    np.frombuffer(ids, "<u4").tolist(), np.frombuffer(values, "<f8").tolist(), strict=True
                ):
                    if ident in table:
                        table[ident][number] = value
        return {wanted[ident]: column for ident, column in table.items()}

    def stacks(self, between: Between | None = None) -> dict[tuple[str, ...], StackWeight]:
        """Return weight and events of each stack (frames, root first), over all or some intervals."""
        weights: dict[int, list[int]] = {}
        with Damage(self.path):
            for blob in self._blobs("stacks", between):
                columns = payload.decode(blob)
                ids, *sums = (np.frombuffer(c, t).tolist() for c, t in zip(columns, ("<u4", "<u8", "<u8"), strict=True))
                for ident, weight, count in zip(ids, *sums, strict=True):
                    entry = weights.setdefault(ident, [0, 0])
                    entry[0] += weight
                    entry[1] += count
            frames = self._frames.of(weights)
            return {frames[ident]: StackWeight(*entry) for ident, entry in sorted(weights.items())}

    def parts(
        self, where: Mapping[str, str] | None = None, between: Between | None = None, metric: str = "span.latency"
    ) -> dict[Series, Parts]:
        """Return where the time of each matching series of *metric* went, over all or some intervals."""
        wanted = [i for i, s in self._ids.items() if _matches(s, metric, where or {})]
        if not wanted or self._format < _SINCE_SPANS:
            return {}
        sums = PartSums(wanted, len(WAITS) - (self._format < _SINCE_DB))
        with Damage(self.path):
            for blob in self._blobs("parts", between):
                sums.add(blob)
        return {self._ids[ident]: parts for ident, parts in sums.parts().items()}

    def samples(
        self, metric: str = "", where: Mapping[str, str] | None = None, between: Between | None = None
    ) -> dict[Series, StackSamples]:
        """Return the sampled stacks of each matching series of kind `stacks`, over all or some intervals."""
        wanted = [i for i, s in self._ids.items() if s.kind == "stacks" and _matches(s, metric, where or {})]
        if not wanted or self._format < _SINCE_STACKS:
            return {}
        sums = SampleSums(wanted)
        with Damage(self.path):
            for blob in self._blobs("samples", between):
                sums.add(blob)
            found = sums.samples(self._frames.of(sums.stacks()))
            return {self._ids[ident]: samples for ident, samples in found.items()}

    def exemplars(
        self, where: Mapping[str, str] | None = None, between: Between | None = None, most: int = 8
    ) -> list[tuple[Series, Exemplar]]:
        """Return the slowest spans of the matching `span.latency`, at most *most*, the slowest first."""
        first, last = between or (0, len(self.intervals))
        wanted = [i for i, s in self._ids.items() if _matches(s, "span.latency", where or {})]
        if self._format < _SINCE_SPANS:
            return []
        with Damage(self.path):
            query = f"""
                SELECT {self._columns(EXEMPLAR_COLUMNS)} FROM exemplar
                WHERE interval > ? AND interval <= ? AND series IN ({", ".join(f"{ident:d}" for ident in wanted)})
                ORDER BY duration_ns DESC, start_ns, pid LIMIT ?"""
            rows = self._db.execute(query, (first, last, most)).fetchall()
            return [(self._ids[row[0]], _exemplar(row)) for row in rows]

    def processes(self) -> list[Process]:
        """Return the processes of the target, by start."""
        fields = list(Process.__dataclass_fields__)
        query = f"SELECT {self._columns(fields)} FROM process ORDER BY start_ns, tgid"
        flags = {"core", "oom"}
        with Damage(self.path):
            table: list[dict[str, Any]] = [dict(zip(fields, row, strict=True)) for row in self._db.execute(query)]
        for row in table:
            row.update({flag: bool(row[flag]) for flag in flags})
        return [Process(**row) for row in table]

    def in_flight(self) -> list[InFlight]:
        """Return what had not ended when the recording did, oldest first."""
        query = f"SELECT {self._columns(list(InFlight.__dataclass_fields__))} FROM in_flight ORDER BY age_ns DESC"
        with Damage(self.path):
            return [InFlight(*row) for row in self._db.execute(query)]

    def open_calls(self) -> list[OpenCalls]:
        """Return the calls of databases that had not been answered when the recording did end, the oldest first."""
        with Damage(self.path):
            found = [_open_calls(row) for row in self.end.get("calls", [])]
        return sorted(found, key=lambda calls: -calls.age_ns)

    def losses(self) -> list[Loss]:
        """Return lost events by reason, most first."""
        query = "SELECT reason, SUM(count) FROM loss GROUP BY reason ORDER BY 2 DESC"
        with Damage(self.path):
            return [Loss(*row) for row in self._db.execute(query)]

    @cached_property
    def lossy(self) -> set[int]:
        """Numbers of intervals in which something was lost."""
        with Damage(self.path):
            return {row[0] - 1 for row in self._db.execute("SELECT DISTINCT interval FROM loss WHERE count > 0")}

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _columns(self, fields: list[str]) -> str:
        """Return what to select for *fields*; what the format did not know yet is nothing."""
        since = {"span": (_SINCE_SPANS, "''"), "db_ns": (_SINCE_DB, "0")}
        lacks = {field: nothing for field, (first, nothing) in since.items() if self._format < first}
        return ", ".join(lacks.get(field, field) for field in fields)

    def _parts(self, between: Between | None) -> Iterator[_Payload]:
        for blob in self._blobs("histograms", between):
            yield _unpack(blob)

    def _interval_parts(self, between: Between | None) -> Iterator[tuple[int, _Payload]]:
        first, last = between or (0, len(self.intervals))
        query = "SELECT id, histograms FROM interval WHERE id > ? AND id <= ? ORDER BY id"
        for ident, blob in self._db.execute(query, (first, last)):
            yield ident - 1, _unpack(blob)

    def _blobs(self, column: str, between: Between | None) -> Iterator[bytes]:
        """Yield payloads that add up to the wanted intervals: the last checkpoint and what came after."""
        first, last = between or (0, len(self.intervals))
        if first == 0:
            query = f"SELECT interval, {column} FROM checkpoint WHERE interval <= ? ORDER BY interval DESC LIMIT 1"
            row = self._db.execute(query, (last,)).fetchone()
            if row:
                first = row[0]
                yield row[1]
        query = f"SELECT {column} FROM interval WHERE id > ? AND id <= ? ORDER BY id"
        yield from (blob for (blob,) in self._db.execute(query, (first, last)))


class _Sums:
    """Histograms of some series being added up, a row each."""

    def __init__(self, wanted: list[int]) -> None:
        self.wanted = np.array(wanted, dtype=np.int64)
        self.counts = np.zeros((len(wanted), SLOTS), dtype=np.uint64)
        self.total = np.zeros(len(wanted), dtype=np.uint64)
        self.low = np.full(len(wanted), HIGHEST, dtype=np.uint64)
        self.high = np.zeros(len(wanted), dtype=np.uint64)

    def add(self, part: _Payload) -> None:
        row = np.searchsorted(self.wanted, part.series)
        row[row == len(self.wanted)] = 0
        use = (self.wanted[row] == part.series) & (part.pairs > 0)
        keep = np.repeat(use, part.pairs)
        cell = np.repeat(row * SLOTS, part.pairs) + part.slot
        np.add.at(self.counts.reshape(-1), cell[keep], part.count[keep])
        ends, row = np.cumsum(part.pairs)[use], row[use]
        low, high = LOWER_EDGE[part.slot[ends - part.pairs[use]]], UPPER_EDGE[part.slot[ends - 1]]
        np.add.at(self.total, row, part.total[use])
        np.minimum.at(self.low, row, np.where(part.low[use], part.low[use], low))
        np.maximum.at(self.high, row, np.where(part.high[use], part.high[use], high))

    def histograms(self) -> dict[int, Histogram]:
        """Return the histogram of each series that has events."""
        columns = zip(self.wanted.tolist(), self.total.tolist(), self.low.tolist(), self.high.tolist(), strict=True)
        rows = zip(self.counts, columns, strict=True)
        return {ident: Histogram(counts, *facts) for counts, (ident, *facts) in rows if counts.any()}


def _unpack(blob: bytes) -> _Payload:
    types = ("<u4", "<u2", "<u8", "<u8", "<u8", "<u2", "<u8")
    columns = [np.frombuffer(c, t) for c, t in zip(payload.decode(blob), types, strict=True)]
    series, pairs, steps = (columns[i].astype(np.int64) for i in (0, 1, 5))
    if {len(column) for column in columns[:5]} != {len(series)} or not pairs.sum() == len(steps) == len(columns[6]):
        raise ValueError("a histogram lacks numbers")
    running = np.cumsum(steps)
    starts = np.cumsum(pairs) - pairs
    filled = pairs > 0
    before = np.zeros(len(pairs), dtype=np.int64)
    before[filled] = running[starts[filled]] - steps[starts[filled]]
    slots = running - np.repeat(before, pairs)
    if len(slots) and (slots.min() < 0 or slots.max() >= SLOTS):
        raise ValueError("a histogram has a slot out of range")
    return _Payload(series, pairs, columns[2], columns[3], columns[4], slots, columns[6])


def _rows_of(
    number: int, before: int, part: _Payload, use: NDArray[np.bool_], wanted: NDArray[np.int64]
) -> list[NDArray[Any]]:
    """Return the arrays of Rows for the rows of *part* to *use*; *before*: how many rows came before."""
    keep = np.repeat(use, part.pairs)
    ends, pairs = np.cumsum(part.pairs)[use], part.pairs[use]
    low, high = LOWER_EDGE[part.slot[ends - pairs]], UPPER_EDGE[part.slot[ends - 1]]
    return [
        np.full(int(use.sum()), number, dtype=np.int64),
        np.searchsorted(wanted, part.series[use]),
        part.total[use].astype(np.uint64),
        np.where(part.low[use], part.low[use], low).astype(np.uint64),
        np.where(part.high[use], part.high[use], high).astype(np.uint64),
        np.repeat(np.arange(before, before + len(pairs)), pairs),
        part.slot[keep],
        part.count[keep].astype(np.int64),
    ]


def _exemplar(row: tuple[int, ...]) -> Exemplar:
    """Check and name the EXEMPLAR_COLUMNS of a row. Raises ValueError."""
    if any(type(cell) is not int or cell < 0 for cell in row):
        raise ValueError("a slow span is not made of numbers")
    series, tgid, pid, start_ns, duration_ns, awaited, failed, seen, *waits, sampled_ns, errors = row
    flags = bool(awaited), bool(failed), bool(seen)
    return Exemplar(series, tgid, pid, start_ns, duration_ns, *flags, tuple(waits), sampled_ns, errors)


_SINCE_SPANS = 2
"""The format that brought parts, exemplars, and the span of a process and of a wait."""
_SINCE_DB = 3
"""The format that brought the last of WAITS."""
_SINCE_STACKS = 4
"""The format that brought samples of stacks."""


def _numbered(rows: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Return *rows* of intervals if they are whole numbers, counted from 1 without a gap. Raises ValueError."""
    if any(type(cell) is not int for row in rows for cell in row) or any(
        row[0] != number for number, row in enumerate(rows, 1)
    ):
        raise ValueError("its intervals are not in sequence")
    return rows


def _open_calls(row: dict[str, Any]) -> OpenCalls:
    """Check and name what the end of a recording says of some calls. Raises ValueError, TypeError or AttributeError."""
    words = [row.get(name, "") for name in ("role", "system", "peer", "operation")]
    numbers = [row.get(name, 0) for name in ("calls", "age_ns")]
    if not all(isinstance(word, str) for word in words) or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("calls that are under way are not what they should be")
    return OpenCalls(*words, *numbers)


def _labels(text: str) -> Labels:
    return tuple(sorted(json.loads(text).items()))


def _matches(series: Series, metric: str, where: Mapping[str, str]) -> bool:
    labels = dict(series.labels)
    return metric in ("", series.metric) and all(labels.get(name) == value for name, value in where.items())


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
