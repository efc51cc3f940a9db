"""Verdicts as text: a line to scan for each objective, and what it stands on below it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

from tracekit.analysis.verdict import Judgement, State, Verdict, grounds, outcome
from tracekit.report.terminal import WIDTH, pad
from tracekit.units import format_count, format_ns, format_share, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLOURS = {State.PASS: "green", State.FAIL: "red", State.NOT_MEASURED: "yellow"}
_STATE = len(State.NOT_MEASURED.value) + 2
_NAME = 34
"""Columns where the values line up; longer names push them to the right."""


def lines(judgement: Judgement, name: str) -> Iterator[str]:
    """Yield the lines of *judgement* on the recording called *name*; only the state words have colour."""
    for verdict in judgement.verdicts:
        yield from _of_verdict(verdict)
    yield ""
    for note in _notes(judgement):
        yield from _wrapped(f"note: {note}", 6)
    yield summary(judgement, name)


def encode(judgement: Judgement, name: str) -> bytes:
    """Return the same lines for a file: UTF-8, no colour."""
    return "".join(f"{click.unstyle(line)}\n" for line in lines(judgement, name)).encode()


def summary(judgement: Judgement, name: str) -> str:
    """Return the one line that says it all."""
    words = {State.PASS: "passed", State.FAIL: "failed", State.NOT_MEASURED: "not measured"}
    counts = ", ".join(f"{judgement.count(state)} {word}" for state, word in words.items() if judgement.count(state))
    return f"{_word(judgement.state)}: {counts}, {format_ns(judgement.duration_ns)} of {printable(name)}"


def _of_verdict(verdict: Verdict) -> Iterator[str]:
    objective = verdict.objective
    name = printable(objective.title) or objective.series
    space = " " * (_STATE - len(verdict.state.value))
    yield f"{_word(verdict.state)}{space}{pad(name, _NAME)}  {outcome(verdict)}"
    whole = (ground.replace(" ", "\xa0") for ground in grounds(verdict))  # lines break between grounds, not in them
    below = ", ".join(whole) or verdict.reason
    yield from _wrapped(" " * _STATE + below, _STATE)
    if verdict.hint:
        yield from _wrapped(f"{' ' * _STATE}try: {verdict.hint}", _STATE + 5)


def _notes(judgement: Judgement) -> Iterator[str]:
    if not judgement.complete:
        yield "the recording is not finished: it still grows, or its collector was killed"
    if judgement.partial:
        yield f"{judgement.partial} of {judgement.intervals} intervals are known to lack data"
    if judgement.lost:
        reasons = ", ".join(f"{printable(loss.reason)} {format_count(loss.count)}" for loss in judgement.losses)
        share = format_share(judgement.lost / (judgement.events + judgement.lost))
        yield f"{format_count(judgement.lost)} events were lost, {share} of all ({reasons})"


def _word(state: State) -> str:
    return click.style(state.value, fg=_COLOURS[state], bold=True)


def _wrapped(text: str, indent: int) -> list[str]:
    filled = textwrap.wrap(text, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in filled]
