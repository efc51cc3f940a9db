"""A heat map as JSON: the numbers of the pictures, one column an interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracekit.analysis.heatmap import Grid
    from tracekit.report.heatmap_words import Subject


def as_json(subject: Subject, grid: Grid) -> dict[str, Any]:
    """
    Return values that json.dumps takes.

    `counts[r][c]` are the events with row_edges[r] <= value < row_edges[r + 1] in column c.
    Times are ns since the start of the recording, which `start_realtime_ns` places in the
    world. `incomplete` and `gaps` are numbers of columns.
    """
    whole = subject.histogram
    start_ns = subject.clocks.realtime_ns + subject.origin_ns - subject.clocks.monotonic_ns
    return {
        "metric": subject.metric,
        "labels": dict(subject.labels),
        "series": subject.series,
        "unit": subject.unit,
        "count": whole.count,
        "quantiles": {"0.5": whole.quantile(0.5), "0.99": whole.quantile(0.99)},
        "max": whole.high,
        "start_realtime_ns": start_ns,
        "row_edges": [int(edge) for edge in grid.edges],
        "columns": [
            {
                "start_ns": column.start_ns - subject.origin_ns,
                "end_ns": column.end_ns - subject.origin_ns,
                "count": column.count,
                "p50": column.p50,
                "p99": column.p99,
            }
            for column in grid.columns
        ],
        "counts": [[int(count) for count in row] for row in grid.counts],
        "incomplete": [number for number, column in enumerate(grid.columns) if column.state == "incomplete"],
        "gaps": [number for number, column in enumerate(grid.columns) if column.state == "gap"],
        "limits": [{"limit": limit, "share_above": whole.share_above(limit)} for limit in subject.limits],
        "lost": {loss.reason: loss.count for loss in subject.losses},
    }
