"""A target that does nothing: a recording shows where it does that."""

from __future__ import annotations

import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import ROOT, TRACEKIT
from tests.unit.pythons import PYTHONS
from tests.unit.spied import standing

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run

FUNCTIONS = ("Thing.attribute", "by_c.<locals>.<lambda>", "recursion", "generator", "library", "coroutine", "selecting")


@pytest.fixture(scope="module")
def idle(lab: Lab) -> Run:
    """One second of threads that never move, each in another way."""
    with (
        standing(PYTHONS[0]) as process,
        lab.attached("-p", str(process.pid), "-d", "1s") as tracer,
    ):
        assert tracer.wait() == 0
        return tracer.result()


def folded(run: Run, *options: str) -> Counter[tuple[str, ...]]:
    command = [*TRACEKIT, "flamegraph", str(run.recording.path), *options]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found: Counter[tuple[str, ...]] = Counter()
    for line in said.splitlines():
        stack, _, weight = line.rpartition(" ")
        found[tuple(stack.split(";"))] += int(weight)
    return found


def test_every_wait_has_the_stack_of_its_thread(idle: Run) -> None:
    """What they wait for adds up as without stacks, and all of it is in code: Python's, native and the kernel's."""
    stacks = folded(idle)

    exact: Counter[tuple[str, ...]] = Counter()
    for frames, weight in idle.recording.stacks().items():
        exact[frames[2:]] += weight.weight
    shown: Counter[tuple[str, ...]] = Counter()
    for frames, width in stacks.items():
        shown[frames[2:5]] += width
    assert shown == exact
    assert set(+exact) == {("blocked", "poll", "clock_nanosleep"), ("blocked", "poll", "pselect6")}
    assert all(len(frames) > 8 and frames[-1].endswith("_[k]") for frames in stacks)
    for function in FUNCTIONS:
        assert any(f" {function} (" in f" {' '.join(frames)}" for frames in stacks), function


def test_nothing_was_lost(idle: Run) -> None:
    """Eight threads take a fraction of the time that there is."""
    assert idle.lost == {}
