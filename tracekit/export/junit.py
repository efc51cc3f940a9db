"""Verdicts as JUnit XML, which every CI system shows: FAIL is a failure; UNDECIDED and NOT MEASURED are skipped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from tracekit.analysis.verdict import Judgement, State, Verdict
from tracekit.analysis.wording import grounds, outcome, reasons

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold even escaped (section 2.2, production Char); ElementTree writes it all the same."""


def encode(judged: Sequence[tuple[str, Judgement]]) -> bytes:
    """
    Return each judgement on the recording of a name as a test suite of one XML document.

    The elements and attributes are those of the schema of Jenkins' xUnit plugin (junit-10.xsd).
    What would end a build ends it here too: a FAIL that is only a warning is skipped, and if strict, all that is
    no PASS is a failure.
    """
    suites = [_counts(judgement) for _, judgement in judged]
    sums = {key: str(sum(int(suite[key]) for suite in suites)) for key in ("tests", "failures", "errors")}
    seconds = sum(judgement.duration_ns for _, judgement in judged) / 1e9
    root = ET.Element("testsuites", {"name": "tracekit verdict", **sums, "time": f"{seconds:.3f}"})
    for counts, (name, judgement) in zip(suites, judged, strict=True):
        suite = ET.SubElement(root, "testsuite", {"name": _legal(name), **counts})
        for verdict in judgement.verdicts:
            _append(suite, verdict, judgement, name)
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return text + b"\n"


def _counts(judgement: Judgement) -> dict[str, str]:
    failed = [_failed(verdict, judgement) for verdict in judgement.verdicts]
    passed = judgement.count(State.PASS)
    return {
        "tests": str(len(failed)),
        "failures": str(sum(failed)),
        "errors": "0",
        "time": f"{judgement.duration_ns / 1e9:.3f}",
        "skipped": str(len(failed) - sum(failed) - passed),
    }


def _failed(verdict: Verdict, judgement: Judgement) -> bool:
    if judgement.strict:
        return verdict.state is not State.PASS
    return verdict.state is State.FAIL and not verdict.warns


def _append(suite: ET.Element, verdict: Verdict, judgement: Judgement, recording: str) -> None:
    objective = verdict.objective
    expression = objective.expression
    name = f"{objective.title}: {expression}" if objective.title else expression
    attributes = {"classname": f"tracekit.{objective.metric}", "name": _legal(name)}
    case = ET.SubElement(suite, "testcase", attributes)
    if verdict.state is State.PASS:
        return
    message = verdict.reason or f"{verdict.state.value}: {outcome(verdict)}"
    kind = {"type": verdict.state.value} if _failed(verdict, judgement) else {}
    element = ET.SubElement(case, "failure" if kind else "skipped", {"message": _legal(message), **kind})
    below = [", ".join(grounds(verdict)), *(f"{k}: {t}" if k else t for k, t in reasons(verdict, recording))]
    below += [f"try: {verdict.hint}"] if verdict.hint else []
    element.text = _legal("\n".join(filter(None, below))) or None


def _legal(text: str) -> str:
    return _FORBIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
