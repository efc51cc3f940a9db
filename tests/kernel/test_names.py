"""Names that a program chose: they change, and they may be hostile."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import ROOT, TRACEKIT

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run

HOSTILE = [
    b"a\nb",
    b"\x1b[31mred",
    b"\x1b]0;owned\x07",
    b"a;b c",
    b"<b>&\"'",
    b"\xff\xfe",
    b"\xe2\x80\xaeevil",
    b"%s%n{}",
]
"""Line breaks, colours, a title, folded separators, markup, no text at all, right-to-left, formats."""


@pytest.fixture(scope="module")
def renamed(lab: Lab) -> Run:
    """A process that takes three names, and makes 101, 103 and 105 calls fail under them."""
    return lab.run("$W/rename $T/rename.json first second third")


@pytest.fixture(scope="module")
def hostile(lab: Lab) -> Run:
    """A process that takes one hostile name after the other; the shell passes them on unharmed."""
    folder = lab.folder()
    words = [b"'" + name.replace(b"'", b"'\\''") + b"'" for name in HOSTILE]
    script = folder / "names.sh"
    script.write_bytes(b"exec " + os.fsencode(lab.workloads) + b'/rename "$1" ' + b" ".join(words))
    return lab.run(f"sh {script} $T/rename.json")


def test_a_role_is_the_name_of_the_moment(renamed: Run) -> None:
    """What fails after a change of name is counted under the new one."""
    found = renamed.counts("syscall.errors", "role", syscall="close")

    assert renamed.truth["rename"] == {"0": 101, "1": 103, "2": 105}
    assert found == {("first",): 101, ("second",): 103, ("third",): 105}


def test_time_goes_to_the_name_of_the_moment(renamed: Run) -> None:
    """The 250 ms of sleep under each name are that name's."""
    for name in ("first", "second", "third"):
        waited_ns, _ = renamed.wall(name, name)[("blocked", "poll", "clock_nanosleep")]

        assert waited_ns == pytest.approx(250e6, rel=0.3)


def test_threads_keep_their_own_names_below_the_role(lab: Lab) -> None:
    """A thread's name is its stack's second frame; the role stays the process's."""
    run = lab.run("$W/threads $T/threads.json 200", "--no-errors")

    threads = {frames[1] for frames in run.recording.stacks() if frames[0] == "threads"}
    assert {"burner", "sleeper", "locker-1", "locker-2", "mixer"} <= threads


def test_hostile_names_are_recorded(hostile: Run) -> None:
    """Eight names, eight roles, each with its errors: no name breaks the recording or swallows another."""
    found = hostile.counts("syscall.errors", "role", syscall="close")

    counts = sorted(found.values())
    assert counts == [101 + 2 * i for i in range(len(HOSTILE))]


@pytest.mark.parametrize("command", [["report"], ["hist"], ["flamegraph"], ["report", "--json"]])
def test_hostile_names_are_harmless_to_read(hostile: Run, command: list[str]) -> None:
    """No command lets them reach the terminal: no escape, no control code, no text turned around."""
    done = subprocess.run(
        [*TRACEKIT, command[0], str(hostile.recording.path), *command[1:]],
        check=False,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"},
    )

    text = done.stdout.decode("utf-8")
    assert done.returncode == 0, done.stderr.decode()
    assert not {char for char in text if (ord(char) < 32 and char != "\n") or char in "\x7f\u202e"}
    assert "a\nb" not in text
    assert "Traceback" not in done.stderr.decode()
