"""What `tracekit doctor` found, as text and as a document."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from tracekit.report.terminal import WIDTH, columns_of
from tracekit.units import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracekit.records import Check

_TITLES = {
    "attach": "Needed by attach and run",
    "kernel": "More from the kernel",
    "uprobes": "Further probes",
    "extras": "Extras",
}
_MARKS = {"ok": ("✓", "ok", "green"), "missing": ("✗", "no", "red"), "absent": ("–", "--", "bright_black")}
_NAME_COLUMNS = 24


def text(machine: Mapping[str, str], checks: Sequence[Check], *, plain: bool) -> list[str]:
    """
    Return lines: the machine, every check by tier, what is missing with its fix, one line of summary.

    Args:
        machine: what to say of it, by name.
        checks: in the order to show them.
        plain: the terminal has only ASCII.
    """
    lines = [line for name, value in machine.items() for line in _hung(f"{name:<14}", printable(value), 0)]
    for tier, found in groupby(checks, key=lambda check: check.tier):
        lines += ["", click.style(_TITLES[tier], bold=True), *_rows(list(found), plain=plain)]
    lacking = [check for check in checks if check.state == "missing" and not check.fact.startswith("not tried")]
    if lacking:
        lines += ["", click.style("What is missing", bold=True), *_advice(lacking)]
    return [*lines, "", *(click.style(line, bold=True) for line in _hung("", summary(checks), 2))]


def document(machine: Mapping[str, str], checks: Sequence[Check]) -> str:
    """Return JSON: `works`, `summary`, `machine`, and `checks` with the fields of records.Check."""
    whole = {
        "works": not _blocking(checks),
        "summary": summary(checks),
        "machine": dict(machine),
        "checks": [asdict(check) for check in checks],
    }
    return json.dumps(whole, indent=2)


def summary(checks: Sequence[Check]) -> str:
    """Return one line: attach works here, or without what, or why not."""
    blocking = _blocking(checks)
    if blocking:
        return f"tracekit attach cannot work here: {blocking[0].name}: {_first_line(blocking[0].fact)}"
    without = [check.name for check in checks if check.state == "missing"]
    return "tracekit attach works here" + (f", without: {', '.join(without)}" if without else "")


def _blocking(checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if check.tier == "attach" and check.state != "ok"]


def _rows(checks: list[Check], *, plain: bool) -> list[str]:
    """Return a row a check; neighbours of which the same is to be said share one."""
    lines = []
    for (state, fact), alike in groupby(checks, key=lambda check: (check.state, _first_line(check.fact))):
        mark, ascii_mark, color = _MARKS[state]
        shown = click.style(ascii_mark if plain else mark, fg=color)
        names = [check.name for check in alike]
        text = f"{names[0]:<{_NAME_COLUMNS}} {fact}" if len(names) == 1 else f"{', '.join(names)}: {fact}"
        indent = _NAME_COLUMNS + 1 if len(names) == 1 else 0
        lines += _hung(f"  {shown} ", text, indent)
    return lines


def _advice(lacking: list[Check]) -> list[str]:
    """Return what is missing, what that costs, and the line that fixes it, which is never broken; once a fix."""
    lines = []
    for fix in dict.fromkeys(check.fix for check in lacking):
        alike = [check for check in lacking if check.fix == fix]
        lines += _hung("  ", ", ".join(check.name for check in alike), 0)
        for number, costs in enumerate(dict.fromkeys(check.costs for check in alike)):
            lines += _hung(f"    {'' if number else 'costs':<7}", costs, 0)
        lines += [click.style(f"    fix    {printable(fix)}", fg="cyan")] if fix else []
    return lines


def _hung(head: str, text: str, indent: int) -> list[str]:
    """Return *head* and *text* on lines of at most WIDTH, the later ones *indent* columns further in than the first."""
    columns = columns_of(head)
    first, *rest = wrap(text, WIDTH - columns, subsequent_indent=" " * indent, break_on_hyphens=False)
    return [head + first.rstrip(), *(" " * columns + line for line in rest)]


def _first_line(fact: str) -> str:
    """Return the first line: what the verifier says to a program goes on for pages."""
    return printable(fact.partition("\n")[0])
