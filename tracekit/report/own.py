"""What a program counts of itself, as text: its counters, marks and gauges."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from tracekit.report.terminal import fit, heading, table
from tracekit.units import format_count

if TYPE_CHECKING:
    from tracekit.analysis.summary import Summary
    from tracekit.records import Series

_PREFIX = "app."
_OURS = "app.tracekit."
_ROWS = 8
_NAME, _ROLE = 36, 16


def section(summary: Summary) -> list[str]:
    """Return the tables of counters and marks, and of gauges; no lines if the program has none."""
    lines = [*_counted(summary), *_gauges(summary)]
    return [heading("The program's own numbers"), *lines] if lines else []


def _counted(summary: Summary) -> list[str]:
    sums: defaultdict[tuple[str, str], int] = defaultdict(int)
    for series, value in summary.counters.items():
        if value and (_is_own(series) or series.metric == "mark"):
            sums[_name(series), series.label("role")] += value
    if not sums:
        return []
    rows = [["", "sum", "a second", "role"]]
    for (name, role), value in sorted(sums.items(), key=lambda item: -item[1])[:_ROWS]:
        rows.append([name, format_count(value), format_count(summary.rate(value)), fit(role, _ROLE)])
    return [*table(rows, "<>><"), *_more(len(sums))]


def _gauges(summary: Summary) -> list[str]:
    mine = {
        series: of
        for series, of in summary.gauges.items()
        if _is_own(series) and summary.role in ("", series.label("role"))
    }
    found = sorted((_name(series), series.label("role"), of) for series, of in mine.items())
    if not found:
        return []
    rows = [["", "mean", "max", "last", "role"]]
    for name, role, of in found[:_ROWS]:
        rows.append([name, *map(format_count, (of.mean, of.max, of.last)), fit(role, _ROLE)])
    return [*table(rows, "<>>><"), *_more(len(found))]


def _is_own(series: Series) -> bool:
    return series.metric.startswith(_PREFIX) and not series.metric.startswith(_OURS)


def _name(series: Series) -> str:
    """Return the name and labels as the program knows them."""
    if series.metric == "mark":
        return f"mark {fit(series.label('mark'), _NAME - 5)}"
    labels = ", ".join(f"{name}={value}" for name, value in series.labels if name != "role")
    return fit(f"{series.metric.removeprefix(_PREFIX)} {labels}".rstrip(), _NAME)


def _more(count: int) -> list[str]:
    return [f"  and {count - _ROWS} more: --json has all"] if count > _ROWS else []
