"""How findings are told: to people, to programs, and by the exit code."""

from __future__ import annotations

import json
from dataclasses import replace

import click
import pytest

from tests import golden
from tracekit.capture.stacks import offsets
from tracekit.commands.doctor import _machine
from tracekit.records import Check
from tracekit.report import doctor
from tracekit.report.terminal import WIDTH, columns_of

MACHINE = {"tracekit": "0.1.0", "kernel": "Linux 6.18.44 x86_64", "user": "1000", "capabilities": "BPF PERFMON"}
REFUSED = "Operation not permitted"
SUDO = "sudo /opt/tracekit/with/a/path/that/is/longer/than/a/line/of/eighty/columns/bin/tracekit attach ..."
CHECKS = [
    Check("bpf(2)", "attach", "ok", "created a map", "attach and run"),
    Check("sched_waking", "attach", "ok", "attached", "attach and run"),
    Check("sched_wakeup", "attach", "ok", "attached", "attach and run"),
    Check("iter/task", "attach", "ok", "attached", "attach and run"),
    Check("CPU sampling", "kernel", "ok", "attached", "runq.length"),
    Check("BPF statistics", "kernel", "missing", REFUSED, "cost.bpf: recordings cannot state what it costs", SUDO),
    Check("uprobes", "uprobes", "missing", "Permission denied", "probes on library functions", SUDO),
    Check("bcc", "extras", "missing", "No module named 'bcc'", "names", "sudo apt install python3-bpfcc"),
    Check("NVIDIA GPU (NVML)", "extras", "absent", "no NVIDIA device here", "use of GPUs"),
]
REFUSAL = [
    replace(CHECKS[0], state="missing", fact=REFUSED, fix=SUDO),
    *(replace(check, state="missing", fact="not tried: bpf(2) is refused") for check in CHECKS[1:5]),
]


def plain(lines):
    return click.unstyle("\n".join(lines)) + "\n"


def test_text_of_a_machine_that_lacks_something():
    """Tables by tier, fixes once each, one line of summary."""
    golden.check("doctor.txt", plain(doctor.text(MACHINE, CHECKS, plain=False)))


def test_text_in_ascii_of_a_machine_that_cannot():
    """A terminal without UTF-8; consequences are shown with their cause and have no advice of their own."""
    text = plain(doctor.text(MACHINE, REFUSAL, plain=True))

    assert text.isascii()
    golden.check("doctor-refused.txt", text)


def test_nothing_missing_needs_no_advice():
    """A healthy machine ends with one line."""
    lines = doctor.text(MACHINE, CHECKS[:5], plain=False)

    assert "What is missing" not in plain(lines)
    assert plain(lines).endswith("\n\ntracekit attach works here\n")


def test_lines_fit_and_fixes_are_never_broken():
    """80 columns, but a line to be typed is one line."""
    long = replace(CHECKS[0], state="missing", fact="verifier says " * 30 + "\nand more\n" * 99, fix=SUDO)

    lines = doctor.text(MACHINE, [long, *CHECKS], plain=False)

    assert [line for line in lines if columns_of(line) > WIDTH and SUDO not in line] == []
    assert any(click.unstyle(line).endswith(SUDO) for line in lines)
    assert "and more" not in plain(lines)


def test_control_characters_of_the_kernel_do_not_reach_the_terminal():
    """The verifier prints names that others chose."""
    evil = replace(CHECKS[0], state="missing", fact="\x1b[2J\x07")

    assert "\x1b[2J" not in "\n".join(doctor.text(MACHINE, [evil], plain=False))


@pytest.mark.parametrize(
    ("checks", "works", "summary"),
    [
        (CHECKS[:5], True, "tracekit attach works here"),
        (CHECKS, True, "tracekit attach works here, without: BPF statistics, uprobes, bcc"),
        (REFUSAL, False, "tracekit attach cannot work here: bpf(2): Operation not permitted"),
    ],
)
def test_document_says_the_same_to_programs(checks, works, summary):
    """`works`, `summary`, and each check with all its fields."""
    document = json.loads(doctor.document(MACHINE, checks))

    assert (document["works"], document["summary"], document["machine"]) == (works, summary, MACHINE)
    assert [Check(**check) for check in document["checks"]] == checks


def test_whose_stacks_can_be_walked_is_known_before():
    """A user need not record to learn that a CPython is understood; it is those that there are offsets of."""
    known = {*offsets.TABLE, *offsets.SAID}

    said = _machine()["stacks of"]

    assert f"3.{min(known)} to 3." in said
    assert f"3.{max(known)}" in said
