"""The option --where: only series with some labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

from tracekit.analysis import sources
from tracekit.errors import EmptyHistogramError, UsageError
from tracekit.units import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from tracekit.recording.reader import Recording
    from tracekit.records import Series

_Command = TypeVar("_Command", bound="Callable[..., object]")


def option(command: _Command) -> _Command:
    """Give *command* the option --where LABEL=VALUE, repeatable, and the argument `where: dict[str, str]`."""
    words = "Only series with this label; repeatable."
    return click.option("--where", multiple=True, callback=_pairs, metavar="LABEL=VALUE", help=words)(command)


def histograms(recording: Recording, metric: str, where: dict[str, str], *labels: str) -> list[Series]:
    """
    Return the histogram series of *metric* ("" is any) that have all of *where*, at least one.

    Raises as `among`.
    """
    return among([one for one in recording.series() if one.kind == "histogram"], metric, where, *labels)


def counted(recording: Recording, found: Iterable[Series], labels: Collection[str]) -> list[Series]:
    """Return *found* without calls of databases that do not count, and say so; *labels*: those asked for."""
    every = list(found)
    once = sources.once(every, recording.series(), labels)
    kept = sources.timed(once, labels)
    twice = set(every) - set(once)
    for source in sorted({each.label("source") for each in twice}):
        systems = sorted({each.label("system") for each in twice if each.label("source") == source})
        _note(f"calls of {', '.join(systems)} that {source} saw too are left out: --where source={source}")
    waits = sorted({each.label("operation") for each in set(once) - set(kept)})
    if waits:
        _note(f"calls that exist to wait are left out ({', '.join(waits)}): --where operation={waits[0]}")
    return kept


def among(known: list[Series], metric: str, where: dict[str, str], *labels: str) -> list[Series]:
    """
    Return those of *known* that are of *metric* ("" is any) and have all of *where*, at least one.

    The names *labels* must be known too.

    Raises:
        UsageError: there is no such metric, or the metric has no such label.
        EmptyHistogramError: no series has these values.
    """
    found = [one for one in known if metric in ("", one.metric)]
    if not found and known:
        raise unknown("metric", metric, {one.metric for one in known})
    names = {name for one in found for name, _ in one.labels}
    for name in (*where, *labels):
        if found and name not in names:
            raise unknown("label", name, names)
    chosen = [one for one in found if all(one.label(name) == value for name, value in where.items())]
    if not chosen:
        pairs = " and ".join(f"{name}={value}" for name, value in where.items())
        values = sorted({f"{name}={one.label(name)}" for name in where for one in found if one.label(name)})
        fact = f"no events where {printable(pairs)}" if where else "no events"
        raise EmptyHistogramError(f"cannot show {printable(metric or 'histograms')}: {fact}", _few(values))
    return chosen


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a metric or label that no histogram has, with those there are."""
    what = f"cannot show {printable(name)}: no histogram has this {kind}" if name else f"cannot show: no --{kind}"
    return UsageError(f"{what}, the recording has {_few(sorted(known)) or 'none'}")


def _note(text: str) -> None:
    click.echo(f"note: {printable(text)}", err=True)


def _few(names: list[str]) -> str:
    shown = ", ".join(map(printable, names[:20]))
    return f"{shown}, …" if len(names) > 20 else shown


def _pairs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Split each `label=value`."""
    pairs = [value.partition("=") for value in values]
    for (label, mark, _), value in zip(pairs, values, strict=True):
        if not label or not mark:
            raise click.BadParameter(f"{value!r} is not label=value")
    if len({label for label, _, _ in pairs}) < len(pairs):
        raise click.BadParameter("a label is given twice: no series has two values of it")
    return {label: wanted for label, _, wanted in pairs}
