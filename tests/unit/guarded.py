"""What tests of guards share: a name for each, what was counted, and programs of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from tracekit import probe

ROOT = Path(__file__).parents[2]
NUMBERS = iter(range(10**6))


@pytest.fixture
def name():
    """Return the name of most guards: the board of a process has room for some 250."""
    return "evaluation"


@pytest.fixture
def own_name():
    """Return a name that no other test has, for those that look at what was counted."""
    return f"evaluation-{next(NUMBERS)}"


def violations(name):
    counters = probe.snapshot()["counters"]
    return {
        each["labels"]["limit"]: each["value"]
        for each in counters
        if each["name"] == "guard.violations" and each["labels"]["guard"] == name and each["value"]
    }


def span(name):
    return next(each for each in probe.snapshot()["spans"] if each["name"] == name)


class Told(list):
    """Violations, and when and in which thread they were told."""

    def __call__(self, violation):
        self.append((violation, time.monotonic(), threading.current_thread().name))

    @property
    def limits(self):
        return [violation.limit for violation, *_ in self]


def in_child(program):
    """Run a program of its own: memory that a test gives back may stay with its process. Python 3.12 warns of forks."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()
