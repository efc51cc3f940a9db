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

from tracekit.analysis import heatmap, shed
from tracekit.commands import between as part
from tracekit.commands import cellcode
from tracekit.commands import where as chosen
from tracekit.commands.output import save
from tracekit.errors import EmptyHistogramError, MachineError, UsageError
from tracekit.histogram import HIGHEST, merge
from tracekit.recording.reader import Recording
from tracekit.records import labels_of
from tracekit.report import heatmap_json, heatmap_svg, heatmap_terminal, palette
from tracekit.report.heatmap_picture import INSIDE
from tracekit.report.heatmap_words import Subject, name
from tracekit.units import format_count, format_value, parse_ns, printable, split_number

if TYPE_CHECKING:
    from collections.abc import Callable

    Build = Callable[[heatmap.Size], heatmap.Grid]

_PICTURES = (".svg", ".png")
_WHOLE = heatmap.Size(columns=sys.maxsize, rows=heatmap.FINEST * HIGHEST.bit_length())


@dataclass(frozen=True)
class _Wanted:
    """What is to be in the picture."""

    metric: str
    where: dict[str, str]
    between: part.Times | None
    limits: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Read:
    """What the map is about, its series, and what builds its grid."""

    subject: Subject
    chosen: cellcode.Chosen
    build: functools.partial[heatmap.Grid]


@click.command()
@click.argument("file", type=click.Path(readable=False, path_type=Path))
@click.option("--metric", default="", metavar="M", help="What to draw: runq.wait, offcpu, syscall.latency, ...")
@chosen.option
@part.option
@click.option("--limit", "limits", multiple=True, metavar="10ms", help="Draw a line there; repeatable.")
@click.option("-o", "output", type=click.Path(path_type=Path), metavar="FILE", help="Write FILE.svg or FILE.png.")
@click.option("--json", "as_json", is_flag=True, help="The numbers as JSON, one column an interval.")
def command(
    file: Path,
    metric: str,
    where: dict[str, str],
    between: part.Times | None,
    limits: tuple[str, ...],
    output: Path | None,
    as_json: bool,
) -> None:
    """
    Show when which values occurred: time to the right, values upwards, colour for how often.

    Every event of the series that match is in the picture, even a single one;
    two lines follow the median and the p99 of each moment.

    In a browser, a click on a cell of FILE.svg shows its flame graph, where stacks
    were recorded: those of the spans in it (span.latency), or of all that the
    same threads did at that time (offcpu, blocked, syscall.latency, oncpu, runq.*).

    \b
    Examples:
      tracekit heatmap run.tk --metric runq.wait --limit 10ms
      tracekit heatmap run.tk --metric offcpu --where reason=disk -o disk.svg
      tracekit heatmap run.tk --metric span.latency --where span=evaluation -o x.svg
      tracekit heatmap run.tk --metric runq.wait --between 10s 20s --json
    """  # noqa: D301 - click takes the control character, not the two letters
    if output and as_json:
        raise UsageError("cannot use --json with -o: it goes to stdout")
    if output and output.suffix.lower() not in _PICTURES:
        raise UsageError(f"cannot write {output}: no picture of this kind", "a name in .svg or .png")
    with Recording(file) as recording:
        read = _read(recording, _Wanted(metric, where, between, limits))
        subject, build = read.subject, read.build
        picture = _draw(recording, read, output) if output else b""
    if as_json:
        click.echo(json.dumps(heatmap_json.as_json(subject, build(_WHOLE))))
    elif output:
        _write(output, picture, file)
    else:
        click.echo("\n".join(heatmap_terminal.draw(subject, build, _screen())), color=True)


def _draw(recording: Recording, read: _Read, output: Path) -> bytes:
    """Return the picture, an SVG with the flame graphs of its cells if stacks were recorded."""
    if output.suffix.lower() != ".svg":
        return _png()(read.subject, read.build)
    find = cellcode.flames(recording, read.chosen, name(read.subject))
    grid = read.build(INSIDE, step=cellcode.step(read.chosen.metric))
    flames = find(grid) if find else None
    if not flames:
        return heatmap_svg.draw(read.subject, read.build)
    if flames.left_out:
        cells = format_count(len(flames.left_out))
        click.echo(
            f"note: the flame graphs of {cells} cells are left out, the file would be too large: try --between",
            err=True,
        )
    return heatmap_svg.of_grid(read.subject, grid, flames)


def _read(recording: Recording, wanted: _Wanted) -> _Read:
    """Return what the map is about, and what builds its grid."""
    if not wanted.metric:
        raise chosen.unknown("metric", "", {one.metric for one in recording.series() if one.kind == "histogram"})
    series = chosen.counted(recording, chosen.histograms(recording, wanted.metric, wanted.where), wanted.where)
    intervals = part.intervals(recording, wanted.between) if wanted.between else (0, len(recording.intervals))
    every = recording.histograms(wanted.metric, wanted.where, intervals)
    histograms = {one: every[one] for one in series if one in every}
    if not histograms:
        raise EmptyHistogramError(f"cannot show {printable(wanted.metric)}: no events in this time")
    cells = recording.cells(series, intervals)
    unit = series[0].unit
    limits = tuple(sorted({_limit(text, unit) for text in wanted.limits}))
    subject = Subject(
        metric=wanted.metric,
        unit=unit,
        labels=next(iter(histograms)).labels if len(histograms) == 1 else labels_of(wanted.where),
        series=len(histograms),
        histogram=merge(list(histograms.values())),
        limits=limits,
        origin_ns=recording.start_ns,
        clocks=recording.clocks,
        losses=tuple(recording.losses()),
    )
    events = heatmap.Events(cells.interval, cells.slot, cells.count)
    times = {number: recording.intervals[number] for number in range(*intervals)}
    size = len(recording.intervals)
    whole = shed.whole(wanted.metric, recording.values(shed.METRIC, {}), size)
    lacking = recording.partial | recording.lossy | (set(range(size)) - set(whole.tolist()))
    build = functools.partial(heatmap.build, events, times, lacking, limits=limits)
    return _Read(subject, cellcode.Chosen(tuple(histograms), wanted.where), build)


def _limit(text: str, unit: str) -> int:
    try:
        limit = parse_ns(text) if unit == "ns" else _number(text, unit)
    except ValueError as error:
        raise UsageError(f"cannot draw a limit: {error}", "--limit 10ms" if unit == "ns" else "--limit 3") from error
    if limit >= HIGHEST:
        raise UsageError(f"cannot draw a limit at {text}: values go up to {format_value(HIGHEST, unit)}")
    return limit


def _number(text: str, unit: str) -> int:
    number, word = split_number(text)
    if word not in ("", unit):
        raise ValueError(f"{text!r} is not in {unit}")
    return int(number)


def _screen() -> heatmap_terminal.Screen:
    size = shutil.get_terminal_size((80, 24))
    color = click.get_current_context().color
    depth = palette.depth_of(color, sys.stdout.isatty(), sys.stdout.encoding or "ascii", os.environ)
    return heatmap_terminal.Screen(max(size.columns, heatmap_terminal.NARROWEST), size.lines, depth)


def _png() -> Callable[[Subject, Build], bytes]:
    """Return what draws a PNG."""
    try:
        from tracekit.report import heatmap_png  # noqa: PLC0415 - Pillow is an extra
    except ImportError as error:
        raise MachineError(f"cannot draw a PNG without Pillow ({error})", "pip install 'tracekit[png]'") from error
    return heatmap_png.draw


def _write(path: Path, picture: bytes, source: Path) -> None:
    save(path, picture, [source])
    click.echo(f"wrote {path}", err=True)
