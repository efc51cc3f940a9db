"""tracekit flamegraph"""

from __future__ import annotations

import stat
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from tracekit.analysis import flame
from tracekit.commands import between as part
from tracekit.commands import profiles, spanstacks, stackforms
from tracekit.commands import view as viewing
from tracekit.commands import where as chosen
from tracekit.commands.output import save
from tracekit.errors import RecordingError, UsageError
from tracekit.export import folded
from tracekit.report import flamegraph
from tracekit.stacks import starting
from tracekit.units import format_count, format_ns, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracekit.commands.found import Found
    from tracekit.commands.view import View
    from tracekit.recording.reader import Between, Recording

_SQLITE = b"SQLite format 3\0"
_BUFFER_BYTES = 1 << 16  # large files are read a third faster than with the usual 8 KiB
_HOW_TO_FOLD = "perf script | stackcollapse-perf.pl, py-spy record --format raw, bcc's profile -f"


@dataclass(frozen=True)
class _Source:
    """Stacks, what they are called, what they are weighed in, and what is not in them."""

    stacks: folded.Folded
    title: str
    unit: str
    notes: tuple[str, ...] = ()
    shape: flame.Shape | None = None


@dataclass(frozen=True)
class _Choice:
    """What of a recording is to be shown."""

    wish: spanstacks.Wish | None
    view: View
    role: str


@click.command()
@click.argument("file")
@click.option("-o", "output", type=click.Path(path_type=Path), metavar="FILE", help="Write to FILE, by its ending.")
@click.option("--format", "form", type=click.Choice(stackforms.FORMS), help="Default: as -o is named, or folded.")
@click.option("--title", metavar="T", help="Words above the picture.")
@viewing.option
@part.option
@click.option("--role", default="", help="Only this role: the first frame.")
@click.option("--span", default="", metavar="NAME", help="What spans NAME were made of.")
@click.option("--db", "of_calls", is_flag=True, help="What calls of databases were made of.")
@chosen.option
@click.option("--tail", type=click.Choice(list(spanstacks.TAILS)), help="Slow spans beside the usual ones, as means.")
@click.option("--diff", "later", metavar="OTHER", help="What changed from FILE to OTHER, as shares of each.")
@click.option("--unit", type=click.Choice(["samples", "ns", "bytes"]), help="What the weights of a folded file are.")
@click.option("--json", "as_json", is_flag=True, help="The stacks as JSON.")
def command(
    file: str,
    output: Path | None,
    form: str | None,
    title: str | None,
    between: part.Times | None,
    role: str,
    span: str,
    of_calls: bool,
    where: dict[str, str],
    tail: str | None,
    view: View,
    later: str | None,
    unit: str | None,
    as_json: bool,
) -> None:
    """
    Show where time went as folded stacks, or draw them as a flame graph.

    FILE is a recording, or any file of folded stacks (`main;work;read 12`); `-`
    reads those from stdin. A recording gives for each thread, in ns, with the
    code below where stacks were recorded:

    \b
      role;thread;on-CPU;main (app.py);score (model.py) 410000000
      role;thread;run queue 60000000
      role;thread;blocked;disk;fsync;main (app.py);save (store.py) 300000000

    With --on-cpu, --off-cpu or --errors:

    \b
      role;thread;main (app.py);score (model.py) 410000000
      role;thread;disk;fsync;main (app.py);save (store.py) 300000000
      role;openat;ENOENT;main (app.py);find (path.py) 97

    With --span or --db what these were made of, adding up to their latencies:

    \b
      role;span (labels that differ);blocked: disk;main (app.py) 300000000
      role;span (labels that differ);db;postgresql 127.0.0.1:5432;SELECT 70000000
      role;db.query;postgresql 127.0.0.1:5432;SELECT;server 70000000

    With --tail a mean span of the tail (`tail;role;...`) and one of the median.
    Samples stand for exact times: widths add up to those, however few there are.

    In folded lines `;` in a name becomes `:`, control codes become \\x0a text.
    The SVG needs a browser to zoom and search, and nothing else. Other programs
    read FILE.speedscope.json, FILE.pb.gz (pprof) and FILE.trace.json (Perfetto).

    With --diff the widths are OTHER's, blue is less than in FILE and orange more,
    and what is gone stands below. Lines are `stack SHARE-IN-FILE SHARE-IN-OTHER`.

    \b
    Examples:
      tracekit flamegraph run.tk
      tracekit flamegraph run.tk -o run.svg
      tracekit flamegraph run.tk --between 10s 20s --role worker -o worker.svg
      tracekit flamegraph run.tk --on-cpu --lines -o cpu.svg
      tracekit flamegraph run.tk --errors
      tracekit flamegraph run.tk --span evaluation -o evaluation.svg
      tracekit flamegraph run.tk --span evaluation --tail p99 -o slow.svg
      tracekit flamegraph run.tk --db --where system=postgresql
      tracekit flamegraph run.tk -o run.pb.gz && go tool pprof -http : run.pb.gz
      tracekit flamegraph before.tk --diff after.tk --on-cpu -o changed.svg
      perf script | stackcollapse-perf.pl | tracekit flamegraph - -o perf.svg
    """  # noqa: D301 - click takes the control character, not the two letters
    form = stackforms.chosen(output, form, as_json)
    _only_of_one(later, form, tail)
    wish = spanstacks.wish(span, of_calls, where, tail, role)
    viewing.refuse(view, of_calls, tail)
    read = partial(_chosen, between=between, unit=unit, choice=_Choice(wish, view, role))
    source = read(file)
    if later:
        changed = read(later)
        before, after = (stackforms.Side(each.stacks.weights, each.unit) for each in (source, changed))
        source = replace(changed, title=f"{changed.title}, against {source.title}", notes=_both(source, changed))
        data = stackforms.difference(before, after, title or source.title, source.notes, form)
    else:
        data = _encoded(replace(source, title=title or source.title), form)
    if output:
        _write(output, data, file)
    else:
        click.echo(data, nl=False)
    for note in source.notes:
        click.echo(f"note: {note}", err=True)


def _only_of_one(later: str | None, form: str, tail: str | None) -> None:
    """Refuse what only the stacks of one file have."""
    if later and form not in stackforms.OF_DIFFERENCES:
        raise UsageError(f"cannot write {form} of --diff: it has one weight a stack", "folded, svg or --json")
    if later and tail:
        raise UsageError("cannot use --diff with --tail: it compares already")


def _chosen(file: str, between: part.Times | None, unit: str | None, choice: _Choice) -> _Source:
    """Return the stacks of *file* that are asked for."""
    source = _read(file, between, unit, choice)
    spans = choice.wish and choice.view.what != "errors"
    return _of_role(source, choice.role) if choice.role and not spans else source


def _both(before: _Source, after: _Source) -> tuple[str, ...]:
    return (*after.notes, *(f"before: {note}" for note in before.notes))


def _encoded(source: _Source, form: str) -> bytes:
    if form in stackforms.PROFILES:
        return stackforms.PROFILES[form](source.stacks.weights, source.title, source.unit)
    if form == "json":
        return (folded.as_json(source.stacks, source.unit) + "\n").encode()
    if form == "folded":
        return folded.write(source.stacks.weights).encode()
    drawn = flame.layout(source.stacks.weights, shape=source.shape)
    return flamegraph.svg(flamegraph.Picture(drawn, source.title, source.unit, source.notes)).encode()


def _read(file: str, between: part.Times | None, unit: str | None, choice: _Choice) -> _Source:
    """Read a recording or folded stacks, whichever *file* holds; a pipe is read once."""
    name = "stdin" if file == "-" else file
    try:
        with _open(file) as stream:
            head = stream.read(len(_SQLITE))
            if head != _SQLITE:
                _only_recordings(name, between, choice)
                return _folded(name, stream, head, unit)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"cannot read {file}: no such file") from error
    except OSError as error:
        raise RecordingError(f"cannot read {name}: {error.strerror}") from error
    if file == "-" or not stat.S_ISREG(Path(file).stat().st_mode):
        raise UsageError(f"cannot read {name}: a recording cannot come through a pipe", "name its file")
    if unit:
        raise UsageError("cannot use --unit: the weights of a recording are ns")
    return _recorded(Path(file), between, choice)


def _only_recordings(name: str, between: part.Times | None, choice: _Choice) -> None:
    """Refuse what folded stacks cannot answer."""
    if between:
        raise UsageError(f"cannot use --between: {name} holds folded stacks, which have no times")
    if choice.wish:
        raise UsageError(f"cannot use {choice.wish.option}: {name} holds folded stacks, which have no spans")
    if choice.view.option:
        raise UsageError(f"cannot use {choice.view.option}: {name} holds folded stacks, which are shown as they are")


def _open(file: str) -> BinaryIO:
    return sys.stdin.buffer if file == "-" else Path(file).open("rb", buffering=_BUFFER_BYTES)


def _recorded(path: Path, between: part.Times | None, choice: _Choice) -> _Source:
    from tracekit.recording.reader import Recording  # noqa: PLC0415 - numpy, which folded files do not need

    with Recording(path) as recording:
        intervals = part.intervals(recording, between) if between else None
        found = _found(recording, choice, intervals)
        times = between or (0, recording.duration_ns)
        when = f"{format_ns(times[0])} to {format_ns(times[1])}" if between else format_ns(times[1])
        notes = (*found.notes, *_gaps(recording))
    return _Source(
        folded.Folded(found.weights, []), f"{path.name}: {found.what}, {when}", found.unit, notes, found.shape
    )


def _found(recording: Recording, choice: _Choice, intervals: Between | None) -> Found:
    wish, view, role = choice.wish, choice.view, choice.role
    if view.what == "errors":
        inside = {**wish.where, "span": wish.span} if wish else {"role": role} if role else {}
        return profiles.failures(recording, view, inside, intervals)
    if wish:
        return spanstacks.read(recording, wish, intervals, view)
    return profiles.read(recording, view, role, intervals)


def _gaps(recording: Recording) -> Iterable[str]:
    losses = [loss for loss in recording.losses() if loss.count]
    if losses:
        reasons = ", ".join(f"{format_count(loss.count)} {printable(loss.reason)}" for loss in losses)
        yield f"lost while recording: {reasons}"
    if recording.partial:
        yield f"{len(recording.partial)} of {len(recording.intervals)} intervals lack data"
    if not recording.complete:
        yield "the recording is not complete: still growing, or its collector was killed"


def _folded(name: str, stream: BinaryIO, head: bytes, unit: str | None) -> _Source:
    try:
        found = folded.read(stream, head)
    except ValueError as error:
        why = "neither a recording nor folded stacks (binary)"
        raise RecordingError(f"cannot read {name}: {why}", _HOW_TO_FOLD) from error
    if not found.weights:
        first = f"line {found.malformed[0][0]} is {_cut(found.malformed[0][1])}" if found.malformed else "it is empty"
        raise RecordingError(f"cannot read {name}: no folded stacks ({first})", _HOW_TO_FOLD)
    unit = unit or ("ns" if flame.shape_of(found.weights) != "code" else "samples")
    notes = (_malformed(found),) if found.malformed else ()
    return _Source(found, Path(name).name, unit, notes)


def _malformed(found: folded.Folded) -> str:
    number, text = found.malformed[0]
    count = len(found.malformed)
    lines = "1 line is not a folded stack" if count == 1 else f"{count:,} lines are not folded stacks"
    return f"{lines} and left out: line {number} is {_cut(text)}"


def _cut(text: str) -> str:
    return repr(printable(text if len(text) <= 40 else text[:39] + "…"))


def _of_role(source: _Source, role: str) -> _Source:
    found = starting(source.stacks.weights, (role,))
    if not found:
        known = sorted({printable(stack[0]) for stack in source.stacks.weights if stack})
        has = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
        raise UsageError(f"cannot show role {printable(role)}: no stack begins with it", f"one of: {has}")
    stacks = replace(source.stacks, weights=found)
    return replace(source, stacks=stacks, title=f"{source.title}, role {role}")


def _write(path: Path, data: bytes, source: str) -> None:
    save(path, data, [source] if source != "-" else [])
    click.echo(f"wrote {path}", err=True)
