"""Stacks of spans: which functions made them what they were, and the slow ones slow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import ROOT, TRACEKIT
from tests.kernel.stacked import HZ, PERIOD_NS, count, record, rows, weight
from tests.kernel.test_span_parts import close_to
from tracekit.capture import wire

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run

PROGRAM = Path(__file__).parent / "workloads" / "requests.py"
NAME = "requests"


@pytest.fixture(scope="module")
def run(lab: Lab) -> Run:
    """Return the recording of requests, some of which are slow, and of spans in spans."""
    return record(lab, {NAME: [sys.executable, PROGRAM, ROOT]})


def states(run: Run, span: str) -> dict[tuple[int, str], int]:
    """Return what the spans of a name were seen in: ns by bucket of latency and state."""
    found: dict[tuple[int, str], int] = defaultdict(int)
    for row in rows(run, "stack.span", span=span):
        found[row.bucket, row.labels["state"]] += row.weight
    return found


def waits(run: Run, span: str) -> dict[tuple[int, str], int]:
    """Return how long they waited: ns by bucket of latency and reason."""
    found: dict[tuple[int, str], int] = defaultdict(int)
    for series, parts in run.recording.parts().items():
        if series.label("span") == span:
            for bucket, row in zip(parts.bucket, parts.waits, strict=True):
                for reason, ns in zip(wire.REASONS, row, strict=False):
                    found[int(bucket), reason] += int(ns)
    return found


@pytest.mark.parametrize("span", ["request", "outer", "inner"])
def test_waits_are_those_of_the_parts(run: Run, span: str) -> None:
    """By bucket of latency and reason: never more, and hardly less."""
    known = waits(run, span)

    found = {place: ns for place, ns in states(run, span).items() if place[1] != "on-CPU"}

    assert found
    assert {place: ns for place, ns in found.items() if ns > known[place]} == {}
    slept = {place: ns for place, ns in known.items() if place[1] == "poll" and ns}
    assert {place: ns for place, ns in slept.items() if not close_to(found.get(place, 0), ns, 0.02, 500_000)} == {}


@pytest.mark.parametrize(("span", "function"), [("request", "quick"), ("request", "slow"), ("inner", "nested")])
def test_samples_are_those_of_the_spans(run: Run, span: str, function: str) -> None:
    """As many as the work inside of the spans has periods, and all of them in functions that spans call."""
    expected = run.truth[NAME]["cpu_ns"][function] / PERIOD_NS
    found = [row for row in rows(run, "stack.span", span=span, state="on-CPU") if row.has(function)]

    assert abs(count(found) - expected) <= 1 + 4.5 * sqrt(expected)
    assert weight(found) == count(found) * (10**9 // HZ)


def test_spans_around_others_have_the_same(run: Run) -> None:
    """What inner ones did is of the outer one too, and not the other way round."""
    inner, outer = (rows(run, "stack.span", span=span) for span in ("inner", "outer"))

    of_both = {row.frames: row.weight for row in inner}

    assert of_both
    assert weight(inner, "nested") == weight(outer, "nested")
    assert {frames for frames in of_both if frames not in {row.frames for row in outer}} == set()
    assert weight(inner, "around") == 0 < weight(outer, "around")


def flamegraph(run: Run, *options: str) -> dict[tuple[str, ...], float]:
    """Return the stacks that a flame graph is drawn of."""
    command = [*TRACEKIT, "flamegraph", str(run.recording.path), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return {tuple(stack["frames"]): stack["weight"] for stack in json.loads(done.stdout)["stacks"]}


def with_function(stacks: dict[tuple[str, ...], float], name: str) -> float:
    """Return the weight of the stacks in which a function is."""
    return sum(ns for frames, ns in stacks.items() if any(frame.startswith(f"{name} (") for frame in frames))


def test_widths_add_up(run: Run) -> None:
    """All stacks of a span together are as long as all spans were."""
    found = flamegraph(run, "--span", "request")

    assert sum(found.values()) == run.events("span.latency", span="request").total


def test_the_tail_names_what_made_it_slow(run: Run) -> None:
    """A mean slow span beside a mean usual one: the function that only slow ones call has their time."""
    found = flamegraph(run, "--span", "request", "--tail", "p95")
    tail, median = ({frames: ns for frames, ns in found.items() if frames[0] == root} for root in ("tail", "median"))
    truth = run.truth[NAME]

    ran = sum(ns for frames, ns in tail.items() if frames[3] != "run queue")

    assert min(truth["slow_ns"]) < sum(tail.values()) < max(truth["slow_ns"])
    assert 0.95 * min(truth["waited_ns"]) < with_function(tail, "waits_for_long") < max(truth["waited_ns"])
    assert with_function(tail, "slow") > 0.9 * ran
    assert with_function(median, "slow") == 0 < with_function(median, "quick")


def test_spans_that_never_end_are_not_kept(run: Run) -> None:
    """Rows are of spans that ended in the recording."""
    ended = {series.label("span") for series in run.recording.histograms("span.latency")}

    assert {row.labels["span"] for row in rows(run, "stack.span")} <= ended
    assert "endless" not in ended
