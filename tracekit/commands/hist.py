"""tracekit hist"""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracekit.analysis.summary import merged_by_label
from tracekit.errors import EmptyHistogramError, UsageError
from tracekit.export import json_
from tracekit.recording.reader import Recording
from tracekit.report import hist
from tracekit.report.terminal import say
from tracekit.units import format_ns, parse_ns, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tracekit.recording.reader import Between


def _pairs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    """Split each `label=value`."""
    pairs = [value.partition("=") for value in values]
    for (label, mark, _), value in zip(pairs, values, strict=True):
        if not label or not mark:
            raise click.BadParameter(f"{value!r} is not label=value")
    if len({label for label, _, _ in pairs}) < len(pairs):
        raise click.BadParameter("a label is given twice: no series has two values of it")
    return [(label, wanted) for label, _, wanted in pairs]


def _times(_ctx: click.Context, _param: click.Parameter, values: tuple[str, str] | None) -> tuple[int, int] | None:
    """Parse both times, ns from the start of the recording."""
    try:
        return (parse_ns(values[0]), parse_ns(values[1])) if values else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--metric", default="", metavar="M", help="Only this metric, with its distribution.")
@click.option("--where", multiple=True, metavar="LABEL=VALUE", callback=_pairs, help="Only such series; repeatable.")
@click.option("--by", "label", default="", metavar="LABEL", help="Add up the series with the same LABEL.")
@click.option("--between", nargs=2, callback=_times, metavar="T1 T2", help="Only this time, from the start on.")
@click.option("--json", "as_json", is_flag=True, help="The series as JSON, in ns.")
def command(
    file: Path,
    metric: str,
    where: list[tuple[str, str]],
    label: str,
    between: tuple[int, int] | None,
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
        _check(recording, metric, dict(where), label)
        intervals = _intervals(recording, between) if between else None
        histograms = recording.histograms(metric, dict(where), intervals)
        note = _note(recording, where, intervals)
        if not histograms:
            what = printable(metric or "histograms")
            fact = f"no events {note}".rstrip()
            raise EmptyHistogramError(f"cannot show {what}: {fact}", _values(recording, metric, where))
    if label:
        histograms = merged_by_label(histograms, label)
    if as_json:
        click.echo(json_.series(histograms))
    else:
        say(hist.distribution(metric, note, histograms) if metric else hist.percentiles(histograms))


def _check(recording: Recording, metric: str, where: Mapping[str, str], label: str) -> None:
    """Refuse names the recording does not have, with those it has. Raises UsageError."""
    found = [one for one in recording.series(metric) if one.kind == "histogram"]
    if metric and not found:
        raise _unknown("metric", metric, {one.metric for one in recording.series() if one.kind == "histogram"})
    known = {name for one in found for name, _ in one.labels}
    for name in (*where, *([label] if label else [])):
        if found and name not in known:
            raise _unknown("label", name, known)


def _unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    has = ", ".join(printable(one) for one in sorted(known)) or "none"
    return UsageError(f"cannot show {printable(name)}: no histogram has this {kind}, the recording has {has}")


def _values(recording: Recording, metric: str, where: list[tuple[str, str]]) -> str:
    """Return what could be asked for instead: `role=supervisor, role=worker`."""
    named = {f"{name}={one.label(name)}" for name, _ in where for one in recording.series(metric) if one.label(name)}
    return ", ".join(map(printable, sorted(named)))


def _intervals(recording: Recording, between: tuple[int, int]) -> Between:
    """Return the intervals whose middle lies in [T1, T2). Raises UsageError, EmptyHistogramError."""
    first_ns, last_ns = between
    times = f"{format_ns(first_ns)} to {format_ns(last_ns)}"
    if first_ns >= last_ns:
        raise UsageError(f"cannot show {times}: it ends before it begins")
    middles = [(one.start_ns + one.end_ns) // 2 - recording.start_ns for one in recording.intervals]
    first, last = bisect_left(middles, first_ns), bisect_left(middles, last_ns)
    if first == last:
        length = format_ns(recording.duration_ns)
        raise EmptyHistogramError(f"cannot show {times}: no interval of the recording ({length}) lies in it")
    return first, last


def _note(recording: Recording, where: list[tuple[str, str]], intervals: Between | None) -> str:
    """Say what was left out: `where role=worker, intervals 11 to 20 of 30`."""
    parts = [f"where {', '.join(f'{name}={printable(value)}' for name, value in where)}"] if where else []
    if intervals:
        parts.append(f"intervals {intervals[0] + 1} to {intervals[1]} of {len(recording.intervals)}")
    return ", ".join(parts)
