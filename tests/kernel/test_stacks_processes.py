"""Stacks of processes that come and go, and become others."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.stacked import CUT, PERIOD_NS, UNREADABLE, count, record, rows
from tests.unit.pythons import PYTHONS

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run
    from tests.kernel.stacked import Row

PROGRAM = Path(__file__).parent / "workloads" / "families.py"
NAME = "family"


@pytest.fixture(scope="module")
def run(lab: Lab) -> Run:
    """Return the recording of a family of processes."""
    return record(lab, {NAME: [PYTHONS[0], PROGRAM, PYTHONS[-1]]})


def seen(run: Run, function: str) -> list[Row]:
    """Return the samples on CPU in *function*."""
    return [row for row in rows(run, "stack.oncpu") if row.has(function)]


@pytest.mark.parametrize("function", ["forked", "with_code_of_its_own", "brief", "alone"])
def test_children_that_stay_the_same_program(run: Run, function: str) -> None:
    """They are walked at once, from the function to the outermost one, with code of their own, and without a parent."""
    expected = run.truth[NAME]["cpu_ns"][function] / PERIOD_NS

    found = seen(run, function)

    assert abs(count(found) - expected) <= 1 + 4.5 * sqrt(expected)
    assert {row.python[0].name for row in found} == {"<module>"}
    assert [row.frames for row in found if "(?)" in "".join(row.frames) or CUT in row.frames] == []


def test_code_of_a_child(run: Run) -> None:
    """What it made after the fork has the name that it has there."""
    found = [row for row in seen(run, "with_code_of_its_own") if row.has("burn")]

    assert count(found) > 10
    assert [row.frames for row in found if not row.has("born_later") or UNREADABLE in row.frames] == []


def test_multiprocessing(run: Run) -> None:
    """By fork and by spawn: of a new interpreter the beginning alone is missing."""
    expected = run.truth[NAME]["cpu_ns"]["of_pool"] / PERIOD_NS

    found = seen(run, "of_pool")

    assert abs(count(found) - expected) <= 1 + 4.5 * sqrt(expected)
    assert {row.has("spawn_main") for row in found} == {True, False}


def test_another_program(run: Run) -> None:
    """It has no frame of what the process was before, and its own soon after."""
    found = seen(run, "replaced")
    libraries = {frame.rpartition(" (")[2] for row in found for frame in row.frames if "python3" in frame}

    assert count(found) > 0.5 * 0.6e9 / PERIOD_NS
    assert {row.python[0].name for row in found} == {"<module>"}
    assert {frame.file for row in found for frame in row.python} == {"<string>"}
    assert libraries <= {"libpython3.13.so.1.0)", "python3.13)"}


def test_all_samples_are_of_somebody(run: Run) -> None:
    """Most of what was seen in the family has Python frames, however short its members live."""
    found = rows(run, "stack.oncpu", role=NAME)

    assert count([row for row in found if row.python]) > 0.9 * count(found)
