"""Verdicts as JUnit XML, which every CI system shows: FAIL is a failure, NOT MEASURED a skipped test."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from tracekit.analysis.verdict import Judgement, State, Verdict, grounds, outcome

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold even escaped (section 2.2, production Char); ElementTree writes it all the same."""


def encode(judgement: Judgement, name: str) -> bytes:
    """
    Return *judgement* on the recording called *name* as an XML document.

    The elements and attributes are those of the schema of Jenkins' xUnit plugin (junit-10.xsd).
    """
    counts = {
        "tests": str(len(judgement.verdicts)),
        "failures": str(judgement.count(State.FAIL)),
        "errors": "0",
        "time": f"{judgement.duration_ns / 1e9:.3f}",
    }
    root = ET.Element("testsuites", {"name": "tracekit verdict", **counts})
    skipped = str(judgement.count(State.NOT_MEASURED))
    suite = ET.SubElement(root, "testsuite", {"name": _legal(name), **counts, "skipped": skipped})
    for verdict in judgement.verdicts:
        _append(suite, verdict)
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return text + b"\n"


def _append(suite: ET.Element, verdict: Verdict) -> None:
    objective = verdict.objective
    expression = objective.expression
    name = f"{objective.title}: {expression}" if objective.title else expression
    attributes = {"classname": f"tracekit.{objective.metric}", "name": _legal(name)}
    case = ET.SubElement(suite, "testcase", attributes)
    if verdict.state is State.FAIL:
        failure = ET.SubElement(case, "failure", {"message": outcome(verdict), "type": State.FAIL.value})
        failure.text = ", ".join(grounds(verdict))
    elif verdict.state is State.NOT_MEASURED:
        skipped = ET.SubElement(case, "skipped", {"message": _legal(verdict.reason)})
        skipped.text = _legal(f"try: {verdict.hint}") if verdict.hint else None


def _legal(text: str) -> str:
    return _FORBIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
