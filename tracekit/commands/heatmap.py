"""tracekit heatmap"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracekit.analysis import heatmap
from tracekit.errors import EmptyHistogramError, MachineError, UsageError
from tracekit.histogram import HIGHEST, merge
from tracekit.recording.reader import Recording
from tracekit.records import Series, labels_of
from tracekit.report import heatmap_json, heatmap_svg, heatmap_terminal, palette
from tracekit.report.heatmap_words import Subject
from tracekit.units import format_ns, parse_ns, printable, split_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracekit.recording.reader import Between

    Build = Callable[[heatmap.Size], heatmap.Grid]

_PICTURES = (".svg", ".png")
_ALL_ROWS = heatmap.FINEST * HIGHEST.bit_length()


@dataclass(frozen=True)
class _Wanted:
    """What was asked for, as it was typed."""

    metric: str
    where: tuple[str, ...]
    limits: tuple[str, ...]
    between: tuple[str, str] | None


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--metric", default="", help="What to draw: runq.wait, offcpu, syscall.latency, ...")
@click.option("--where", multiple=True, metavar="LABEL=VALUE", help="Only series with this label; repeatable.")
@click.option("--limit", "limits", multiple=True, metavar="10ms", help="Draw a line there; repeatable.")
@click.option("--between", nargs=2, metavar="T1 T2", help="Only this time, since the start: 10s 2m.")
@click.option("-o", "output", type=click.Path(path_type=Path), metavar="FILE", help="Draw into FILE.svg or FILE.png.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers, one column an interval.")
def command(
    file: Path,
    metric: str,
    where: tuple[str, ...],
    limits: tuple[str, ...],
    between: tuple[str, str] | None,
    output: Path | None,
    as_json: bool,
) -> None:
    r"""
    Draw when which values occurred: time from left to right, latency upwards, colour for how often.

    All events of the series that match are in the picture, with a line each for
    the median and the p99 of every moment.

    \b
    Examples:
      tracekit heatmap run.tk --metric runq.wait --limit 10ms
      tracekit heatmap run.tk --metric offcpu --where reason=disk -o disk.svg
      tracekit heatmap run.tk --metric runq.wait --between 10s 20s --json
    """
    if output and (as_json or output.suffix.lower() not in _PICTURES):
        hint = "leave out -o or --json" if as_json else "a name that ends in .svg or .png"
        raise UsageError(f"cannot write {output}: {'--json goes to stdout' if as_json else 'no such format'}", hint)
    with Recording(file) as recording:
        subject, build = _read(recording, _Wanted(metric, where, limits, between))
    if as_json:
        grid = build(heatmap.Size(sys.maxsize, _ALL_ROWS))
        click.echo(json.dumps(heatmap_json.as_json(subject, grid)))
    elif output:
        _write(output, _drawing(output)(subject, build))
    else:
        click.echo("\n".join(heatmap_terminal.draw(subject, build, _screen())), color=True)


def _read(recording: Recording, wanted: _Wanted) -> tuple[Subject, Build]:
    """Return what the map is about and what builds its grid."""
    series = _series(recording, wanted)
    between = _between(recording, wanted.between)
    chosen = dict(recording.histograms(series[0].metric, _where(wanted), between))
    whole = merge(list(chosen.values()))
    if not whole.count:
        raise EmptyHistogramError(
            f"cannot draw {printable(series[0].metric)}: no events in this time", "another --between"
        )
    cells = recording.cells(series, between)
    limits = tuple(sorted({_limit(text, series[0].unit) for text in wanted.limits}))
    subject = Subject(
        metric=series[0].metric,
        unit=series[0].unit,
        labels=next(iter(chosen)).labels if len(chosen) == 1 else labels_of(_where(wanted)),
        series=len(chosen),
        histogram=whole,
        limits=limits,
        origin_ns=recording.start_ns,
        clocks=recording.clocks,
        losses=tuple(recording.losses()),
    )
    build = functools.partial(
        heatmap.build,
        heatmap.Events(cells.interval, cells.slot, cells.count),
        {number: recording.intervals[number] for number in range(*between)},
        recording.partial | recording.lossy,
        limits=limits,
    )
    return subject, build


def _series(recording: Recording, wanted: _Wanted) -> list[Series]:
    """Return the histogram series that match, at least one."""
    known = [series for series in recording.series() if series.kind == "histogram"]
    if not known:
        raise EmptyHistogramError(f"cannot draw {wanted.metric or 'anything'}: the recording has no histograms yet")
    metrics = ", ".join(sorted({printable(series.metric) for series in known}))
    if not any(series.metric == wanted.metric for series in known):
        what = f"no histogram {printable(wanted.metric)!r}" if wanted.metric else "no --metric"
        raise UsageError(
            f"cannot draw: {what}; the recording has {metrics}", "tracekit heatmap FILE --metric runq.wait"
        )
    matching = [series for series in recording.series(wanted.metric, _where(wanted)) if series.kind == "histogram"]
    if not matching:
        pairs = {
            f"{name}={value}" for series in known if series.metric == wanted.metric for name, value in series.labels
        }
        hint = "--where " + ", ".join(map(printable, sorted(pairs)[:12]))
        raise UsageError(f"cannot draw {wanted.metric}: no series has {' and '.join(wanted.where)}", hint)
    return matching


def _where(wanted: _Wanted) -> dict[str, str]:
    for pair in wanted.where:
        if "=" not in pair:
            raise UsageError(f"cannot use --where {pair}: no label=value", "--where role=worker")
    return dict(pair.split("=", 1) for pair in wanted.where)


def _limit(text: str, unit: str) -> int:
    try:
        limit = parse_ns(text) if unit == "ns" else round(split_number(text)[0])
    except ValueError as error:
        raise UsageError(f"cannot draw a limit: {error}", "--limit 10ms" if unit == "ns" else "--limit 3") from error
    if limit >= HIGHEST:
        raise UsageError(f"cannot draw a limit: {text} is above all that is recorded", f"at most {format_ns(HIGHEST)}")
    return limit


def _between(recording: Recording, times: tuple[str, str] | None) -> Between:
    """Return the intervals that have a part in the wanted time."""
    if times is None:
        return 0, len(recording.intervals)
    try:
        start, end = (recording.start_ns + parse_ns(time) for time in times)
    except ValueError as error:
        raise UsageError(f"cannot use --between: {error}", "--between 10s 20s") from error
    inside = [
        n for n, interval in enumerate(recording.intervals) if interval.start_ns < end and start < interval.end_ns
    ]
    if not inside:
        length = format_ns(recording.duration_ns)
        raise UsageError(f"cannot use --between {' '.join(times)}: the recording has nothing there", f"0s to {length}")
    return inside[0], inside[-1] + 1


def _screen() -> heatmap_terminal.Screen:
    size = shutil.get_terminal_size((80, 24))
    color = click.get_current_context().color
    depth = palette.depth_of(color, sys.stdout.isatty(), sys.stdout.encoding or "ascii", os.environ)
    return heatmap_terminal.Screen(size.columns, size.lines, depth)


def _drawing(path: Path) -> Callable[[Subject, Build], bytes]:
    """Return what draws the format that *path* is named after."""
    if path.suffix.lower() == ".svg":
        return heatmap_svg.draw
    try:
        from tracekit.report import heatmap_png  # noqa: PLC0415 - Pillow is an extra
    except ImportError as error:
        raise MachineError(f"cannot draw a PNG without Pillow ({error})", "pip install 'tracekit[png]'") from error
    return heatmap_png.draw


def _write(path: Path, picture: bytes) -> None:
    try:
        path.write_bytes(picture)
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror}", "another -o FILE") from error
    click.echo(f"wrote {path}", err=True)
