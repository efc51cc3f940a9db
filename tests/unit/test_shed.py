"""What was shed: how the report tells it, and what a verdict makes of it."""

from __future__ import annotations

import pytest

from tests.sample import SECOND
from tests.unit.evidence import INTERVALS, MS, evidence
from tests.unit.test_verdict import verdict
from tracekit.analysis import shed
from tracekit.analysis.verdict import State

READY = {("runq.wait", "role=worker"): [[5 * MS] * 100] * 8 + [[80 * MS] * 100] * 2}
FAILED = {("syscall.errors", "errno=ENOENT role=worker syscall=openat"): ("count", [10.0] * 8 + [0.0] * 2)}


def gone(tier: str, intervals: int) -> dict[tuple[str, str], tuple[str, list[float]]]:
    """The series of a tier that was shed for some intervals at the end, as long as a second each."""
    column = [0.0] * (INTERVALS - intervals) + [float(SECOND)] * intervals
    return {("shed", f"tier={tier}"): ("ns", column)}


def test_what_was_shed_is_told_in_words() -> None:
    """In the order of the tiers, with the time and the intervals."""
    offered = evidence(counters={**gone("sched", 1), **gone("syscalls", 4)})

    found = shed.found(offered.values, offered.intervals)

    assert [(one.tier, one.first, one.last) for one in found] == [("syscalls", 6, 9), ("sched", 9, 9)]
    assert found[0].text == "system call latency 4 s of 10 s"


@pytest.mark.parametrize(
    ("metric", "tier"),
    [
        ("runq.wait", "sched"),
        ("runq.length", ""),
        ("blocked", "sched"),
        ("syscall.latency", "syscalls"),
        ("syscall.errors", "errors"),
        ("db.latency", "db"),
        ("stack.oncpu", "stacks"),
        ("spawn.exec", "processes"),
        ("spawn.ready", "sched"),
        ("span.latency", ""),
        ("host.cpu", ""),
    ],
)
def test_metrics_know_their_tier(metric: str, tier: str) -> None:
    """What boards and /proc tell is never shed."""
    assert shed.tier_of(metric) == tier


def test_intervals_without_the_tier_are_not_judged() -> None:
    """The slow waits came while only tries were made: the verdict is of the rest, and says so."""
    found = verdict("runq.wait", "p50", "< 50ms", histograms=READY, counters=gone("sched", 2))

    assert found.state is State.PASS
    assert found.n == 800
    assert any("2 of 10 intervals" in fact and "--max-overhead" in fact for fact in found.facts)


def test_a_rate_is_of_the_time_that_was_looked_at() -> None:
    """Ten failures a second, not eight: nobody looked for two of ten seconds."""
    found = verdict("syscall.errors", "rate", "< 9/s", counters={**FAILED, **gone("errors", 2)})

    assert found.state is not State.PASS
    assert found.value == 10


def test_what_was_shed_for_the_most_part_is_not_measured() -> None:
    """No verdict by the smaller part."""
    found = verdict("runq.wait", "p50", "< 50ms", histograms=READY, counters=gone("sched", 6))

    assert found.state is State.NOT_MEASURED
    assert "shed for 6 s of 10 s" in found.reason
    assert "--max-overhead" in found.hint


def test_other_tiers_are_no_reason_to_doubt() -> None:
    """Stacks are missing, run queues are not."""
    found = verdict("runq.wait", "p50", "< 50ms", histograms=READY, counters=gone("stacks", 6))

    assert found.n == 1000
    assert not found.facts
