"""What the rows of boards are called in a recording, as docs/metrics.md has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekit.capture.probes import layout, queries
from tracekit.capture.probes.rows import OTHER_KIND, Error, Kind, Value
from tracekit.records import Series, labels_of

if TYPE_CHECKING:
    from tracekit.records import Kind as Shape
    from tracekit.records import Labels

MOST_KINDS = 4096
MOST_SERIES = 16384
"""Of one recording; programs that make up names would fill the memory of the collector."""
_SHAPES: dict[int, Shape] = {layout.COUNTER: "counter", layout.GAUGE: "gauge"}


class Words:
    """The kinds of all processes, and the series of all rows."""

    def __init__(self) -> None:
        self.kinds: dict[int, Kind] = {OTHER_KIND.id: OTHER_KIND}
        self.crowded = 0
        """Additions that were dropped, as they would have needed one more series."""
        self._series: dict[tuple[Kind | Error | Value, str], tuple[Series, ...]] = {}

    def accept(self, kind: Kind) -> bool:
        """Tell whether *kind* is known, or can be: its id may stand for no other text."""
        if len(self.kinds) < MOST_KINDS:
            self.kinds.setdefault(kind.id, kind)
        return self.kinds.get(kind.id) == kind

    def series(self, row: Kind | Error | Value, role: str) -> tuple[Series, ...]:
        """
        Return the series of *row* in processes of *role*; none if there is no room for it.

        Queries have two: their span, and the call of a database that it is.
        """
        known = self._series.get((row, role))
        if known:
            return known
        if len(self._series) >= MOST_SERIES:
            self.crowded += 1
            return ()
        series = _series_of(row, role)
        call = queries.call_of(series)
        return self._series.setdefault((row, role), (series, call) if call else (series,))


def _series_of(row: Kind | Error | Value, role: str) -> Series:
    if isinstance(row, Kind):
        return Series("span.latency", _labels(row.labels, role=role, span=row.name), "histogram", "ns")
    if isinstance(row, Error):
        labels = _labels(row.kind.labels, role=role, span=row.kind.name, type=row.type)
        return Series("span.errors", labels, "counter", "count")
    if row.type == layout.MARK:
        return Series("mark", _labels(row.labels, role=role, mark=row.name), "counter", "count")
    return Series(f"app.{row.name}", _labels(row.labels, role=role), _SHAPES[row.type], "count")


def _labels(own: Labels, **ours: str) -> Labels:
    return labels_of({**dict(own), **ours})
