"""Verdicts as text: a line to scan for each objective, and what it stands on below it."""

from __future__ import annotations

import shlex
import textwrap
from typing import TYPE_CHECKING

import click

from tracekit.analysis.verdict import Judgement, State, Verdict
from tracekit.analysis.wording import grounds, notes, outcome, reasons
from tracekit.report.terminal import WIDTH, pad
from tracekit.units import format_ns, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_COLOURS = {State.PASS: "green", State.FAIL: "red", State.UNDECIDED: "yellow", State.NOT_MEASURED: "yellow"}
_STATE = len(State.NOT_MEASURED.value) + 2
_NAME = 34
"""Columns where the values line up; longer names push them to the right."""
_COUNTS = {
    State.PASS: "passed",
    State.FAIL: "failed",
    State.UNDECIDED: "undecided",
    State.NOT_MEASURED: "not measured",
}


def lines(judged: Sequence[tuple[str, Judgement]]) -> Iterator[str]:
    """Yield the lines of each judgement on the recording of a name; only the state words have colour."""
    for number, (name, judgement) in enumerate(judged):
        yield from [""] if number else []
        for verdict in judgement.verdicts:
            yield from _of_verdict(verdict, name)
        yield ""
        for note in notes(judgement):
            yield from _wrapped(f"note: {note}", 6)
        yield from _last(summary(judgement, name))


def encode(judged: Sequence[tuple[str, Judgement]]) -> bytes:
    """Return the same lines for a file: UTF-8, no colour."""
    return "".join(f"{click.unstyle(line)}\n" for line in lines(judged)).encode()


def summary(judgement: Judgement, name: str) -> str:
    """Return the one line that says it all."""
    counts = ", ".join(f"{judgement.count(state)} {word}" for state, word in _COUNTS.items() if judgement.count(state))
    warnings = sum(verdict.warns for verdict in judgement.verdicts)
    if warnings and not judgement.strict:
        counts += f" ({warnings} only {'a warning' if warnings == 1 else 'warnings'})"
    return f"{_word(judgement.state)}: {counts}, {format_ns(judgement.duration_ns)} of {printable(name)}"


def _of_verdict(verdict: Verdict, recording: str) -> Iterator[str]:
    objective = verdict.objective
    name = printable(objective.title) or objective.series
    space = " " * (_STATE - len(verdict.state.value))
    severity = "" if objective.severity == "error" else f" [{objective.severity}]"
    head = f"{_word(verdict.state)}{space}{pad(name, _NAME)}  {outcome(verdict)}{severity}"
    yield from _head(head)
    whole = (ground.replace(" ", "\xa0") for ground in grounds(verdict))  # lines break between grounds, not in them
    below = ", ".join(whole) or verdict.reason
    yield from _wrapped(" " * _STATE + below, _STATE)
    for kind, text in reasons(verdict, recording):
        if kind == "run":
            yield from _shell(f"{' ' * _STATE}run: ", text)
            continue
        label = f"{kind}: " if kind else ""
        yield from _wrapped(f"{' ' * _STATE}{label}{text}", _STATE + len(label))
    if verdict.hint:
        yield from _wrapped(f"{' ' * _STATE}try: {verdict.hint}", _STATE + 5)


def _shell(label: str, command: str) -> Iterator[str]:
    """Yield a command on lines that a shell takes as one."""
    words = [shlex.quote(word).replace(" ", "\xa0") for word in shlex.split(command)]
    indent = " " * len(label)
    lines = textwrap.wrap(
        label + " ".join(words), WIDTH - 2, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    for number, line in enumerate(lines, 1):
        yield line.replace("\xa0", " ") + (" \\" if number < len(lines) else "")


def _head(line: str) -> list[str]:
    """Break a line that is too long before the value; colour takes no columns."""
    if len(click.unstyle(line)) <= WIDTH:
        return [line]
    name, _, rest = line.rpartition("  ")
    return [name.rstrip(), *_wrapped(" " * _STATE + rest, _STATE)] if name else [line]


def _last(line: str) -> list[str]:
    """Break the summary before its last part if it is too long."""
    head, _, tail = line.rpartition(", ")
    return [line] if len(click.unstyle(line)) <= WIDTH else [f"{head},", " " * 6 + tail]


def _word(state: State) -> str:
    return click.style(state.value, fg=_COLOURS[state], bold=True)


def _wrapped(text: str, indent: int) -> list[str]:
    filled = textwrap.wrap(text, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in filled]
