"""tracekit hist"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracekit.analysis.summary import merged_by_label
from tracekit.commands import between as part
from tracekit.commands import where as chosen
from tracekit.errors import EmptyHistogramError
from tracekit.export import json_
from tracekit.recording.reader import Recording
from tracekit.report import hist
from tracekit.report.terminal import say
from tracekit.units import printable

if TYPE_CHECKING:
    from tracekit.recording.reader import Between


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--metric", default="", metavar="M", help="Only this metric, with its distribution.")
@chosen.option
@click.option("--by", "label", default="", metavar="LABEL", help="Add up the series with the same LABEL.")
@part.option
@click.option("--json", "as_json", is_flag=True, help="The series as JSON, in ns.")
def command(
    file: Path,
    metric: str,
    where: dict[str, str],
    label: str,
    between: part.Times | None,
    as_json: bool,
) -> None:
    """
    Show percentiles of each series, and with --metric its distribution.

    A quantile that its number of events cannot support (a p99 of fewer than
    100) is shown as `-`; JSON has them all, with the count.

    \b
    Examples:
      tracekit hist run.tk
      tracekit hist run.tk --metric runq.wait --by role
      tracekit hist run.tk --metric blocked --where syscall=fsync
      tracekit hist run.tk --metric runq.wait --between 10s 20s --json
    """  # noqa: D301 - click takes the control character, not the two letters
    with Recording(file) as recording:
        chosen.histograms(recording, metric, where, *([label] if label else []))
        intervals = part.intervals(recording, between) if between else None
        histograms = recording.histograms(metric, where, intervals)
        note = _note(recording, where, intervals)
    if not histograms:
        what = printable(metric or "histograms")
        raise EmptyHistogramError(f"cannot show {what}: no events {note}".rstrip(), "another --between")
    if label:
        histograms = merged_by_label(histograms, label)
    if as_json:
        click.echo(json_.series(histograms))
    else:
        say(hist.distribution(metric, note, histograms) if metric else hist.percentiles(histograms))


def _note(recording: Recording, where: dict[str, str], intervals: Between | None) -> str:
    """Say what was left out: `where role=worker, intervals 11 to 20 of 30`."""
    parts = [f"where {', '.join(f'{name}={printable(value)}' for name, value in where.items())}"] if where else []
    if intervals:
        parts.append(f"intervals {intervals[0] + 1} to {intervals[1]} of {len(recording.intervals)}")
    return ", ".join(parts)
