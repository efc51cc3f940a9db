"""What a heat map says in words, the same in every picture."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import numpy as np

from tracekit.report.heatmap_axes import time_words, value_words
from tracekit.units import format_count, format_share, format_value, printable

if TYPE_CHECKING:
    from tracekit.analysis.heatmap import Column, Grid, State
    from tracekit.histogram import Histogram
    from tracekit.records import Clocks, Labels, Loss


@dataclass(frozen=True, eq=False)
class Subject:
    """
    What a heat map is about.

    Attributes:
        labels: those that all its series have in common as far as they were asked for.
        series: how many series are added up.
        histogram: all its events.
        limits: values worth a line, ascending.
        origin_ns: CLOCK_MONOTONIC of time 0.
        losses: of the whole recording.
    """

    metric: str
    unit: str
    labels: Labels
    series: int
    histogram: Histogram
    limits: tuple[int, ...]
    origin_ns: int
    clocks: Clocks
    losses: tuple[Loss, ...]


def name(subject: Subject) -> str:
    """Return `runq.wait{role="worker"}`, safe for one line."""
    pairs = ", ".join(f'{label}="{value}"' for label, value in subject.labels)
    together = f" ({subject.series} series)" if subject.series > 1 else ""
    return printable(subject.metric + (f"{{{pairs}}}" if pairs else "") + together)


def numbers(subject: Subject) -> str:
    """Return the number of events and their p50, p99 and largest value."""
    whole = subject.histogram
    values = {"p50": whole.quantile(0.5), "p99": whole.quantile(0.99), "max": whole.high}
    figures = ", ".join(f"{word} {format_value(value, subject.unit)}" for word, value in values.items())
    return f"{events(whole.count)}, {figures}"


def events(count: int) -> str:
    """Return `1 event`, `1,009 events`."""
    return "1 event" if count == 1 else f"{format_count(count)} events"


def moment(subject: Subject, at_ns: int) -> str:
    """Return the UTC date and time of a CLOCK_MONOTONIC time; "" if the recording's clocks are absurd."""
    realtime_ns = subject.clocks.realtime_ns + at_ns - subject.clocks.monotonic_ns
    try:
        return datetime.fromtimestamp(realtime_ns // 10**9, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return ""


def span(subject: Subject, columns: tuple[Column, ...]) -> str:
    """Return from when to when the map is: `30 s from 2026-09-22 14:13:20 UTC`."""
    start, end = columns[0].start_ns, columns[-1].end_ns
    moments = moment(subject, start)
    return f"{time_words(end - start)} from {moments}" if moments else time_words(end - start)


def usual_width(columns: tuple[Column, ...]) -> str:
    """Return the usual length of a column in time."""
    lengths = [column.end_ns - column.start_ns for column in columns if column.state != "gap" and column.width == 1]
    return time_words(int(np.median(lengths))) if lengths else "its own length of time"


def limit(subject: Subject, value: int) -> str:
    """Return the label of a limit line."""
    return f"limit {format_value(value, subject.unit)}"


def above_limit(subject: Subject, grid: Grid, value: int) -> str:
    """Return the share of events above a limit, and where its line is if it is not in the map."""
    share = subject.histogram.share_above(value)
    above = f"{format_share(share)} of the events ({format_count(round(share * subject.histogram.count))})"
    outside = "" if grid.row_above(value) is not None else ", which is outside of the map"
    return f"{above} are above the limit of {format_value(value, subject.unit)}{outside}"


def states(columns: tuple[Column, ...]) -> dict[State, str]:
    """Return what is to be said of the columns that are `incomplete` and `gap`, if there are any."""
    said: dict[State, str] = {}
    recorded = [column for column in columns if column.state != "gap"]
    incomplete = sum(column.state == "incomplete" for column in recorded)
    gaps_ns = sum(column.end_ns - column.start_ns for column in columns if column.state == "gap")
    if incomplete:
        said["incomplete"] = f"incomplete: {incomplete} of {len(recorded)} columns"
    if gaps_ns:
        said["gap"] = f"not recorded: {time_words(gaps_ns)}"
    return said


def lost(subject: Subject) -> str:
    """Return what was lost, by reason; "" if nothing was."""
    reasons = ", ".join(f"{printable(loss.reason)} {format_count(loss.count)}" for loss in subject.losses)
    return f"lost in the whole recording, of all series: {reasons}" if reasons else ""


def cell(subject: Subject, grid: Grid, row: int, column: Column, count: int) -> str:
    """Return all that one cell knows: time, values, events and their share of the column."""
    return (
        f"{times(subject, column)}\n{row_words(subject, grid, row)}\n"
        f"{events(count)}, {format_share(count / column.count)} of this column"
    )


def column_words(subject: Subject, column: Column) -> str:
    """Return what is known of a column as a whole."""
    return f"{times(subject, column)}\n{'not recorded' if column.state == 'gap' else 'incomplete: data was lost'}"


def times(subject: Subject, column: Column) -> str:
    """Return from when to when a column is, in time since the start."""
    return " to ".join(time_words(at_ns - subject.origin_ns) for at_ns in (column.start_ns, column.end_ns))


def row_words(subject: Subject, grid: Grid, row: int) -> str:
    """Return which values a row holds."""
    low, high = int(grid.edges[row]), int(grid.edges[row + 1])
    if subject.unit != "ns":
        high -= 1
    if high == low:
        return format_value(low, subject.unit)
    if row == 0 and grid.folded:
        return f"below {format_value(int(grid.edges[1]), subject.unit)}"
    return f"{value_words(low, subject.unit)} to {format_value(high, subject.unit)}"
