"""Calls of databases as text: how long, how often failed, and whether the database or its client took the time."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import click

from tracekit.analysis import db
from tracekit.analysis.summary import quantile
from tracekit.report.terminal import WIDTH, columns_of, fit, fit_end, flow, heading, table
from tracekit.units import format_count, format_ns, format_share
from tracekit.waiting import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracekit.analysis.breakdown import Breakdown
    from tracekit.analysis.db import Calls, Database, Databases
    from tracekit.analysis.spans import Detail
    from tracekit.analysis.summary import Summary
    from tracekit.histogram import Histogram
    from tracekit.records import OpenCalls

_SOURCES = {"library": "seen in client libraries", "probe": "as the program's spans"}
"""Beside sockets, which need no words."""
_WORDS = {db.SERVER: "server", db.QUEUE: "run queue", db.CLIENT: "client"}
_OTHERS = {"fault": "page fault", "child": "child process", "other": "other waits", "runq": "run queue"}
_BLAMES = {db.CLIENT: "its thread did something else for", db.QUEUE: "its thread waited for a CPU for"}
_MISSING = ("calls of databases", "library probes")
"""How lines on what could not be measured of them begin."""
_PEERS, _OPERATIONS, _WAITS, _ERRORS, _STATEMENTS, _OPEN = 6, 5, 3, 5, 5, 5
_MOSTLY = 0.5
_NO_ROOM = "<other>"
_NAME = 36
_STATEMENT = 46
_LEAST = 0.005
"""Shares below half a percent are not worth a word."""


def section(summary: Summary, missing: Sequence[str]) -> list[str]:
    """Return the lines on all databases, and what of *missing* is of them; none if nothing was called or missing."""
    found = db.of(summary)
    gaps = [f"  {fit(line, WIDTH - 2)}" for line in missing if is_of_databases(line)]
    if not found:
        return [heading("Databases", "not measured"), *gaps] if gaps else []
    gaps = ["  not measured:", *(f"  {line}" for line in gaps)] if gaps else []
    return [heading("Databases", "calls, from the request to the end of the answer"), *_body(summary, found), *gaps]


def is_of_databases(line: str) -> bool:
    """Tell whether *line*, on what could not be measured, is of databases."""
    return line.startswith(_MISSING)


def inside(detail: Detail) -> list[str]:
    """Return the lines on the calls that spans made; none without any."""
    found = db.of(detail.inside)
    waited = detail.span.anatomy.whole.components[db.SERVER] if detail.span.anatomy else 0
    known = sum(each.calls.latency.total + each.calls.waits.total for each in found.found)
    if known < _MOSTLY * waited:
        nested = [f"  {'most of' if found else 'all'} its waits for them are in calls of the spans inside of it"]
    else:
        nested = []
    body = [*_body(detail.inside, found), *nested]
    return [heading("Calls of databases inside"), *body] if body else []


def _body(summary: Summary, found: Databases) -> list[str]:
    shown = found.found[:_PEERS]
    lines = _blocks(summary, shown) if shown else []
    rest = found.found[_PEERS:]
    if rest:
        lines.append(f"  and {len(rest)} more: {_calls(sum(each.calls.tried for each in rest))} (--json has all)")
    lines += [*_under_way(found), *_open(summary.open_calls)]
    starred = [*(each.waits for each in shown), *(each.operation for each in found.flights)]
    if any(starred) or any(map(_is_wait, summary.open_calls[:_OPEN])):
        lines.append("  * exists to wait: long is usual, and not in the times of its database")
    return [*lines, *_statements(found), *_seen_too(found)]


def _blocks(summary: Summary, shown: Sequence[Database]) -> list[str]:
    """Return a table of all databases and their operations, with what else is to say below each."""
    heads = ["", "n", "a second", "failed", "p50", "p99", "max"]
    blocks = [[_row(summary, "", each.calls), *_operations(summary, each)] for each in shown]
    room = _room([heads, *chain(*blocks)])
    for each, block in zip(shown, blocks, strict=True):
        block[0][0] = _title(each, room)
    head, *lines = table([heads, *chain(*blocks)], "<>>>>>>")
    found, at = [head], 0
    for each, block in zip(shown, blocks, strict=True):
        found += [*lines[at : at + len(block)], *_facts(each)]
        at += len(block)
    return found


def _room(rows: Sequence[Sequence[str]]) -> int:
    """Return how many columns numbers leave to names."""
    numbers = [max(map(columns_of, column)) for column in list(zip(*rows, strict=True))[1:]]
    return min(_NAME, WIDTH - sum(numbers) - 2 * len(rows[0]))


def _title(each: Database, room: int) -> str:
    system = fit(each.system or _NO_ROOM, 12)
    return f"{system} {fit_end(each.peer, room - 1 - columns_of(system))}".rstrip()


def _operations(summary: Summary, each: Database) -> list[list[str]]:
    named = [(f"  {fit(name, 16)}", part) for name, part in _named(each)[:_OPERATIONS]]
    waits = [(f"  {name} *", part) for name, part in each.waits[:_WAITS]]
    return [_row(summary, name, part) for name, part in named + waits]


def _named(each: Database) -> list[tuple[str, Calls]]:
    return [(name, part) for name, part in each.operations if name not in ("", "-")]


def _row(summary: Summary, name: str, calls: Calls) -> list[str]:
    failed = click.style(format_count(calls.failed), fg="red") if calls.failed else "0"
    numbers = [format_count(calls.tried), format_count(summary.rate(calls.tried)), failed]
    return [name, *numbers, *(_marks(calls.latency) if calls.latency.count else ["-"] * 3)]


def _marks(part: Histogram) -> list[str]:
    marks = ["-" if value is None else format_ns(value) for value in (quantile(part, q) for q in (0.5, 0.99))]
    return [*marks, format_ns(part.high)]


def _facts(each: Database) -> list[str]:
    lines = _unnamed(each) + _failed(each.calls) + _anatomy(each)
    if each.connections and each.connections.max:
        most = each.connections.max
        lines.append(f"    {format_count(most)} connection{'' if most == 1 else 's'} at most")
    if each.encrypted:
        lines.append(f"    {_calls(each.encrypted)} through TLS: of what, and how they failed, cannot be seen")
    if each.source in _SOURCES:
        lines.append(f"    {_SOURCES[each.source]}")
    return lines


def _unnamed(each: Database) -> list[str]:
    rest = [part for _, part in [*_named(each)[_OPERATIONS:], *each.waits[_WAITS:]]]
    if not rest:
        return []
    return [f"    and {len(rest)} more: {_calls(sum(part.tried for part in rest))}"]


def _failed(calls: Calls) -> list[str]:
    if not calls.errors:
        return []
    items = [_error(calls, *each) for each in calls.errors[:_ERRORS]]
    items += [f"{len(calls.errors) - _ERRORS} more kinds"] if len(calls.errors) > _ERRORS else []
    return flow([f"    failed: {items[0]}", *items[1:]], 6)


def _error(calls: Calls, error: str, count: int) -> str:
    share = f" ({format_share(count / calls.tried)})" if calls.tried >= count else ""
    return f"{fit(error, 24)} {format_count(count)}{share}"


def _anatomy(each: Database) -> list[str]:
    """Say where the time of the median and of the tail went, and when it is not the database's."""
    found = each.calls.anatomy
    if not found:
        return []
    bands = [("median", found.median)] if found.median else [("mean", found.whole)]
    bands += [(f"from p{100 * found.tail_q:g} on, mean", found.tail)] if found.tail else []
    words = _WORDS if each.calls.served else _OTHERS
    lines = []
    for name, band in bands:
        first, *more = _shares(band, words)
        lines += flow([f"    {name} {format_ns(band.mean_ns)}: {first}", *more], 6)
    return lines + _blame(each.calls)


def _shares(band: Breakdown, words: Mapping[str, str]) -> list[str]:
    shown = [(name, share) for name, share in band.ranked() if share >= _LEAST]
    return [f"{words.get(name, name)} {format_share(round(share, 2))}" for name, share in shown] or ["nothing"]


def _blame(calls: Calls) -> list[str]:
    if not calls.blames:
        return []
    component, share = calls.blames
    part = f"{_BLAMES[component]} {format_share(round(share, 2))} of the tail"
    fact = "    it is not the database: "
    lines = flow([f"{fact}the answer was there", part], 6) if calls.served else [f"{fact}{part}"]
    return [click.style(line, fg="yellow") for line in lines]


def _calls(number: float) -> str:
    count = format_count(number)
    return f"{count} call{'' if count == '1' else 's'}"


def _under_way(found: Databases) -> list[str]:
    lines = []
    for each in found.flights:
        words = [f"{_calls(each.mean)} under way on average"]
        words += [f"one of them for {format_ns(each.oldest_ns)}"] if each.oldest_ns else []
        name = f"{fit(each.system, 16)} {fit(each.operation, 16)} *" if each.operation else fit(each.system, 16)
        lines += flow([f"  {name}: {words[0]}", *words[1:]], 4)
    return lines


def _open(found: Sequence[OpenCalls]) -> list[str]:
    """Return the calls that were never answered while recorded, the oldest first."""
    rows = []
    for each in found[:_OPEN]:
        name = " ".join(word for word in (each.system, each.peer, each.operation) if word not in ("", "-"))
        name += " *" if _is_wait(each) else ""
        count = "" if each.calls == 1 else f", {format_count(each.calls)} such calls"
        rows.append([f"  {format_ns(each.age_ns)}", f"{fit(name, 52)}{count}", fit(each.role, 16)])
    more = len(found) - _OPEN
    rest = [f"  and {more} more: --json has all"] if more > 0 else []
    return ["  not answered at the end, for so long:", *table(rows, "><<"), *rest] if rows else []


def _is_wait(each: OpenCalls) -> bool:
    return (each.system, each.operation) in OPERATIONS


def _statements(found: Databases) -> list[str]:
    """Return the statements that say more than their operation, and what came without its text beside such."""
    operations = {(each.system, name) for each in found.found for name, _ in (*each.operations, *each.waits)}
    words = {(system, text.split()[0]) for system, text, _ in found.statements if len(text.split()) > 1}
    every = []
    for system, text, part in found.statements:
        if (system, text) not in operations:
            every.append((" ".join(text.split()), part))
        elif (system, text) in words:
            every.append((f"{text} (prepared, text not seen)", part))
    if not every:
        return []
    rows = [["statements, without their values", "n", "sum", "p50", "p99", "max"]]
    for text, part in every[:_STATEMENTS]:
        numbers = [format_count(part.count), format_ns(part.total), *_marks(part)]
        rows.append([fit(text, _STATEMENT), *numbers])
    more = len(every) - _STATEMENTS
    return [*table(rows, "<>>>>>"), *([f"  and {more} more: --json has all"] if more > 0 else [])]


def _seen_too(found: Databases) -> list[str]:
    """Say which calls are the same as those above, seen by another source."""
    items = [f"{fit(system, 16)} by {source} {format_count(count)}" for system, source, count in found.others]
    return flow([f"  the same calls, not added: {items[0]}", *items[1:]], 4) if items else []
