"""
Verdicts as workflow commands, which GitHub shows at the line of the objective in a pull request.

Source:
    https://docs.github.com/actions/reference/workflow-commands-for-github-actions; how values are escaped:
    actions/toolkit, packages/core/src/command.ts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekit.analysis.verdict import Judgement, State, Verdict
from tracekit.analysis.wording import grounds, outcome, reasons
from tracekit.units import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = {**_DATA, ":": "%3A", ",": "%2C"}


def encode(judged: Sequence[tuple[str, Judgement]]) -> bytes:
    """Return a line for each verdict that is no PASS, and a notice for each recording."""
    return "".join(f"{line}\n" for name, judgement in judged for line in _lines(name, judgement)).encode()


def _lines(name: str, judgement: Judgement) -> Iterator[str]:
    for verdict in judgement.verdicts:
        if verdict.state is not State.PASS:
            yield _of_verdict(verdict, judgement, name)
    passed = f"{judgement.count(State.PASS)} of {len(judgement.verdicts)} objectives passed"
    title = _escaped(f"tracekit: {judgement.state.value}", _PROPERTY)
    yield f"::notice title={title}::{_escaped(f'{printable(name)}: {passed}', _DATA)}"


def _of_verdict(verdict: Verdict, judgement: Judgement, recording: str) -> str:
    objective = verdict.objective
    failed = verdict.state is State.FAIL or judgement.strict
    command = "error" if failed and (judgement.strict or not verdict.warns) else "warning"
    properties = {"title": f"{verdict.state.value}: {printable(objective.name)}"}
    if objective.line:
        properties = {"file": objective.source, "line": str(objective.line), **properties}
    words = [verdict.reason or outcome(verdict), ", ".join(grounds(verdict))]
    words += [f"{kind}: {text}" if kind else text for kind, text in reasons(verdict, recording)]
    words += [f"try: {verdict.hint}"] if verdict.hint else []
    pairs = ",".join(f"{key}={_escaped(value, _PROPERTY)}" for key, value in properties.items())
    message = "\n".join(filter(None, words))
    return f"::{command} {pairs}::{_escaped(message, _DATA)}"


def _escaped(text: str, table: dict[str, str]) -> str:
    return "".join(table.get(char, char) for char in text)
