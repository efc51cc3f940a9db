"""Verdicts as Markdown: for a pull request, a job summary, a wiki."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracekit.analysis.verdict import Judgement, State, Verdict
from tracekit.analysis.wording import grounds, notes, outcome, reasons
from tracekit.units import format_ns, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+.!|<>~&@:-])")
"""ASCII punctuation that could begin something; CommonMark 2.4 lets each be escaped. `@` and `:` ping and link."""


def encode(judged: Sequence[tuple[str, Judgement]]) -> bytes:
    """Return each judgement on the recording of a name as a heading, a table, and what missed below it."""
    return "\n".join(line for name, judgement in judged for line in _lines(name, judgement)).encode() + b"\n"


def _lines(name: str, judgement: Judgement) -> Iterator[str]:
    yield f"## {judgement.state.value}: {_safe(name)}"
    yield ""
    yield "| | objective | value | stands on |"
    yield "| --- | --- | --- | --- |"
    for verdict in judgement.verdicts:
        yield f"| {_state(verdict)} | {_name(verdict)} | {_safe(outcome(verdict))} | {_safe(_stands(verdict))} |"
    yield ""
    for verdict in judgement.verdicts:
        yield from _below(verdict, name)
    for note in notes(judgement):
        yield f"- {_safe(note)}"
    yield f"- {format_ns(judgement.duration_ns)} recorded"
    yield ""


def _state(verdict: Verdict) -> str:
    severity = verdict.objective.severity
    word = verdict.state.value
    return (
        f"**{word}**" + (f" ({severity})" if severity != "error" else "") if verdict.state is not State.PASS else word
    )


def _name(verdict: Verdict) -> str:
    objective = verdict.objective
    return _safe(objective.title or objective.series)


def _stands(verdict: Verdict) -> str:
    hint = f"; try: {verdict.hint}" if verdict.hint else ""
    return (", ".join(grounds(verdict)) or verdict.reason) + hint


def _below(verdict: Verdict, recording: str) -> Iterator[str]:
    found = list(reasons(verdict, recording))
    if verdict.state is State.PASS or not found:
        return
    yield f"### {_name(verdict)}"
    yield ""
    for kind, text in found:
        yield f"- {f'{kind}: ' if kind else ''}{_code(text) if kind == 'run' else _safe(text)}"
    yield ""


def _code(text: str) -> str:
    """Return *text* as code: between more backticks than it has in a row."""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence} {printable(text)} {fence}" if len(fence) > 1 else f"`{printable(text)}`"


def _safe(text: str) -> str:
    """Return *text* so that Markdown shows it and does nothing else."""
    return _SPECIAL.sub(r"\\\1", printable(text))
