"""tracekit hist"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracekit.analysis.summary import QUANTILES, supported
from tracekit.commands import between as part
from tracekit.commands import sources
from tracekit.commands import where as chosen
from tracekit.commands.output import save
from tracekit.errors import UsageError
from tracekit.export import hgrm, hlog, json_
from tracekit.histogram import merge
from tracekit.histogram.confidence import of_parts
from tracekit.recording.hlog import tag_of
from tracekit.report import hist
from tracekit.report.terminal import say
from tracekit.units import parse_ns, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tracekit.commands.sources import Histograms, Wish
    from tracekit.histogram import Histogram
    from tracekit.records import Series

_FORMATS = ("text", "hgrm", "hlog")


def _due(_ctx: click.Context, _param: click.Parameter, text: str | None) -> int:
    try:
        due = parse_ns(text) if text else 0
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if text and not due:
        raise click.BadParameter("the interval is not positive")
    return due


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(readable=False, path_type=Path))
@click.option("--metric", default="", metavar="M", help="Only this metric, with its distribution.")
@chosen.option
@click.option("--by", "label", default="", metavar="LABEL", help="Add up the series with the same LABEL.")
@part.option
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only lines of a log with this tag; repeatable.")
@click.option("--merge", "merged", is_flag=True, help="Add up the same series of several FILEs.")
@click.option("--corrected", "due_ns", callback=_due, metavar="INTERVAL", help="Add calls omitted: one each INTERVAL.")
@click.option("--confidence", "sure", is_flag=True, help="How far each quantile may be from the service's: 95 %.")
@click.option("--format", "form", type=click.Choice(_FORMATS), help="hgrm and hlog as of HdrHistogram [text].")
@click.option("-o", "output", type=click.Path(path_type=Path), metavar="OUT", help="Write OUT.hgrm, OUT.hlog or text.")
@click.option("--json", "as_json", is_flag=True, help="The series as JSON, in ns.")
def command(
    files: tuple[Path, ...], sure: bool, form: str | None, output: Path | None, as_json: bool, **wanted: object
) -> None:
    """
    Show percentiles of each series, and with --metric its distribution.

    FILE is a recording, or a log of histograms (.hlog) as HdrHistogram, jHiccup
    or YCSB write it, taken to be of ns. A quantile that its number of events
    cannot support (a p99 of fewer than 100) is shown as `-`; JSON has them all,
    with the count.

    --corrected adds the calls that a load generator did not make while it waited
    for a slow one. Use it if calls were due each INTERVAL, and only once.

    --confidence gives the interval in which the quantile would be in the long
    run, as far as the recorded time tells, and how many independent events would
    tell as much.

    \b
    Examples:
      tracekit hist run.tk
      tracekit hist run.tk --metric runq.wait --by role
      tracekit hist run.tk --metric blocked --where syscall=fsync
      tracekit hist run.tk --metric runq.wait --between 10s 20s --json
      tracekit hist run.tk --metric runq.wait --by role --confidence
      tracekit hist jhiccup.hlog --format hgrm -o jhiccup.hgrm
      tracekit hist one.tk two.hlog --merge --format hlog -o both.hlog
    """  # noqa: D301 - click takes the control character, not the two letters
    wish = sources.Wish(**wanted)  # type: ignore[arg-type]  # click's names are the fields'
    form = _form(form, output, as_json)
    histograms, note = sources.histograms(files, wish)
    bounds = _bounds(files, wish, form) if sure else {}
    if as_json:
        click.echo(json_.series(histograms, bounds))
        return
    lines = hist.intervals(histograms, bounds, note) if bounds else _lines(form, files, wish, histograms, note)
    if output:
        _write(output, map(click.unstyle, lines), files)
    else:
        say(lines)


def _bounds(files: tuple[Path, ...], wish: Wish, form: str) -> hist.Bounds:
    """Return the intervals of the quantiles of each series, from its histograms by time."""
    if form != "text":
        raise UsageError(f"cannot use --confidence with {form}: it has no place for intervals", "--json")
    if len(files) > 1 and not wish.merged:
        raise UsageError("cannot use --confidence with several files: their times are one or they are not", "--merge")
    parts: dict[Series, list[Histogram]] = {}
    for each in sources.slices(files, wish):
        parts.setdefault(each.series, []).append(each.histogram)
    return {
        series: {q: of_parts(by_time, q) for q in QUANTILES if supported(q, sum(part.count for part in by_time))}
        for series, by_time in parts.items()
    }


def _form(form: str | None, output: Path | None, as_json: bool) -> str:
    if as_json and (form or output):
        raise UsageError("cannot use --json with -o or --format: it goes to stdout")
    suffix = output.suffix.lower().removeprefix(".") if output else ""
    return form or (suffix if suffix in _FORMATS else "text")


def _lines(form: str, files: tuple[Path, ...], wish: Wish, histograms: Histograms, note: str) -> Iterable[str]:
    if form == "hgrm":
        return _distribution(histograms)
    if form == "hlog":
        return _log(files, wish)
    return hist.distribution(wish.metric, note, histograms) if wish.metric else hist.percentiles(histograms)


def _distribution(histograms: Histograms) -> Iterator[str]:
    """Return the one distribution of all events of a metric."""
    metrics = sorted({series.metric for series in histograms})
    if len(metrics) > 1:
        raise chosen.unknown("metric", "", metrics)
    tags = sorted({series.label("tag") for series in histograms})
    if len(tags) > 1:
        names = ", ".join(printable(tag) or "none" for tag in tags[:20])
        raise UsageError(f"cannot add up tags: they may be of the same events ({names})", "--tag TAG")
    scale = 1e6 if next(iter(histograms)).unit == "ns" else 1.0
    return hgrm.distribution(merge(histograms.values()), scale)


def _log(files: tuple[Path, ...], wish: Wish) -> Iterator[str]:
    if len(files) > 1 and not wish.merged:
        raise UsageError("cannot write a log of several files: their series have the same names", "--merge")
    start, slices = sources.started(files), sources.slices(files, wish)
    first = next(slices)
    entries = (
        hlog.Entry(each.start - start, each.length, tag_of(each.series), each.histogram)
        for each in chain([first], slices)
    )
    return hlog.log(start, ", ".join(path.name for path in files), entries, first.histogram.corrected)


def _write(path: Path, lines: Iterable[str], files: tuple[Path, ...]) -> None:
    save(path, "".join(f"{line}\n" for line in lines).encode(), files)
    click.echo(f"wrote {path}", err=True)
