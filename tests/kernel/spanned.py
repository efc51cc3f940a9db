"""Programs with spans, recorded from before their first span: what tests of spans do first."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

from tests.kernel.lab import PATIENCE_S, ROOT, go, until
from tracekit.analysis import spans
from tracekit.analysis.summary import Summary

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run
    from tracekit.analysis.breakdown import Breakdown

PRELUDE = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
T = os.path.dirname(os.path.abspath(__file__))
def quietly(call, *arguments):
    try: call(*arguments)
    except OSError: pass
def a(times=1):
    for _ in range(times): quietly(os.close, 999)
def b(times=1):
    for _ in range(times): quietly(os.rmdir, "/missing/folder")
def c(times=1):
    for _ in range(times): quietly(os.chdir, "/missing/folder")
def truth(**facts):
    import json
    with open(T + "/truth.json", "w") as file: json.dump(facts, file)
"""
"""Calls that fail by the number: a with EBADF, b and c with ENOENT."""
CALLS = {"close": "a", "rmdir": "b", "chdir": "c"}
WAIT = """
open(T + "/ready", "w").close()
sys.stdin.readline()
"""
PROBE = "from tracekit.probe import *\nfrom tracekit import probe\n"


def record(lab: Lab, code: str, *options: str, before: str = PROBE, python: str = sys.executable) -> Run:
    """
    Record Python *code* from its first line to its end.

    Args:
        before: what runs before the attach; it imports the probe.
    """
    folder = lab.folder()
    program = folder / "program.py"
    program.write_text(PRELUDE + textwrap.dedent(before) + WAIT + textwrap.dedent(code))
    with lab.started(f"exec {python} {program}", folder) as target:
        until(lambda: (folder / "ready").exists() or target.poll() is not None, "the program to be ready")
        assert target.poll() is None, f"the program ended with {target.returncode}"
        with lab.attached("-p", str(target.pid), *options, folder=folder) as tracer:
            go(target)
            code_of_target = target.wait(PATIENCE_S)
            tracer.wait()
            assert code_of_target == 0, f"the program ended with {code_of_target}"
            return tracer.result()


def failed(run: Run) -> dict[tuple[str, str], int]:
    """Return how often each of a, b, c failed in each span; outside of spans is ""."""
    counts = run.counts("syscall.errors", "span", "syscall")
    found: dict[tuple[str, str], int] = {}
    for (span, call), count in counts.items():
        errno = "EBADF" if call == "close" else "ENOENT"
        if call in CALLS and run.count("syscall.errors", syscall=call, errno=errno):
            found[span, CALLS[call]] = count
    return found


def made_of(run: Run, name: str, **labels: str) -> Breakdown:
    """Return what all spans of a name were made of."""
    recording = run.recording
    read = Summary(recording.duration_ns, histograms=recording.histograms(), parts=recording.parts())
    found = spans.of_name(read, name, labels).anatomy
    assert found, f"there is nothing of {name}"
    return found.whole
