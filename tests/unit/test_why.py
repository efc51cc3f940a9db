"""Why an objective was missed: a known cause is found, with its share, and only what was measured is said."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sample import SECOND
from tests.unit.evidence import INTERVALS, MS, evidence
from tracekit.analysis.sla import parse
from tracekit.analysis.verdict import State, judge
from tracekit.histogram import slots_of
from tracekit.histogram.parts import Parts
from tracekit.records import BUCKET_SHIFT, WAITS, StackWeight

SPAN = ("span.latency", "role=worker span=evaluation")
MISSED = """[[objective]]\nseries = 'span.latency{span="evaluation"}'\np95 = "< 20ms"\n"""
N = 20_000


def requests(slow: dict[str, float], rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Latencies of N requests and their components, ns; one in ten waits longer, in the proportions of *slow*."""
    usual = np.exp(rng.normal(np.log(10 * MS), 0.15, N))
    more = np.where(rng.random(N) < 0.1, rng.exponential(40 * MS, N) + 20 * MS, 0)
    parts = {"disk": 0.3 * usual, "runq": 0.05 * usual, "on-CPU": 0.65 * usual}
    for name, share in slow.items():
        parts[name] = parts.get(name, 0) + more * share * rng.uniform(0.6, 1.4, N)
    parts = {name: np.round(part).astype(np.int64) for name, part in parts.items()}
    return sum(parts.values()), parts


def parts_of(latency: np.ndarray, components: dict[str, np.ndarray]) -> Parts:
    """What a recording keeps of them: sums by bucket."""
    buckets = slots_of(latency.astype(np.uint64)) >> BUCKET_SHIFT
    bucket, place = np.unique(buckets, return_inverse=True)

    def total(column):
        sums = np.zeros(len(bucket), dtype=np.uint64)
        np.add.at(sums, place, column.astype(np.uint64))
        return sums

    none = np.zeros(N, dtype=np.int64)
    waits = np.stack([total(components.get(kind, none)) for kind in WAITS], axis=1)
    nothing = np.zeros_like(waits)
    return Parts(bucket, total(latency), total(none), total(none), total(none), total(none), waits, nothing)


def missed(latency: np.ndarray, components: dict[str, np.ndarray], **more):
    """The verdict on those requests, spread over the recording."""
    rows = {SPAN: [part.tolist() for part in np.array_split(latency, INTERVALS)]}
    given = {"parts": lambda where, runs: [parts_of(latency, components)], "histograms": rows}
    (verdict,) = judge(parse(MISSED, "s"), evidence(**(given | more))).verdicts
    assert verdict.state is State.FAIL
    return verdict


@pytest.mark.parametrize(
    "cause",
    [
        {"runq": 1.0},
        {"runq": 0.6, "disk": 0.25, "on-CPU": 0.15},
        {"lock": 0.5, "network": 0.3, "runq": 0.2},
        {"child": 0.05, "fault": 0.95},
    ],
    ids=str,
)
def test_the_split_of_the_tail_is_the_cause_within_a_point(cause):
    """Against the requests themselves: the slowest 1 % beyond the middle fifth, by component."""
    latency, components = requests(cause, np.random.default_rng(3))
    slow, low, high = (np.quantile(latency, q) for q in (0.99, 0.4, 0.6))
    tail, usual = latency >= slow, (latency >= low) & (latency <= high)
    gap = {name: part[tail].mean() - part[usual].mean() for name, part in components.items()}
    truth = {name: each / sum(gap.values()) for name, each in gap.items()}

    split = dict(missed(latency, components).why.split.shares)

    assert sum(split.values()) == pytest.approx(1)
    for name in {*truth, *split}:
        assert split.get(name, 0) == pytest.approx(truth.get(name, 0), abs=0.01), name


def test_where_most_are_too_slow_the_whole_time_is_split():
    """The tail is not the matter if the median misses too."""
    latency, components = requests({"runq": 1.0}, np.random.default_rng(5))

    why = missed(latency * 4, {name: part * 4 for name, part in components.items()}).why

    assert why.split.of == "their whole time"
    assert dict(why.split.shares)["on-CPU"] == pytest.approx(components["on-CPU"].sum() / latency.sum(), abs=0.001)


def test_a_busy_machine_is_told_with_who_was_on_the_cpus():
    """Run queue: who had the CPU time, and how many threads waited."""
    latency, components = requests({"runq": 1.0}, np.random.default_rng(3))
    rows = {
        SPAN: [part.tolist() for part in np.array_split(latency, INTERVALS)],
        ("runq.wait", "role=worker"): [[300 * MS] * 10] * INTERVALS,
        ("oncpu", "role=worker"): [[100 * MS] * 5] * INTERVALS,
        ("oncpu", "role=backup"): [[100 * MS] * 15] * INTERVALS,
    }

    why = missed(latency, components, histograms=rows).why

    first = why.advice[0]
    assert (first.cause, first.share) == ("runq", dict(why.split.shares)["runq"])
    assert "3 threads at a time waited for a CPU" in first.text
    assert "backup 75 %, worker 25 %" in first.text
    assert why.command[:5] == ("hist", "--metric", "oncpu", "--by", "role")


def test_a_cgroup_that_holds_back_is_told_before_the_machine():
    """Throttled threads wait in the run queue too, but more CPUs would not help."""
    latency, components = requests({"runq": 1.0}, np.random.default_rng(3))
    rows = {
        SPAN: [part.tolist() for part in np.array_split(latency, INTERVALS)],
        ("runq.wait", "role=worker"): [[300 * MS] * 10] * INTERVALS,
    }
    held = {("throttle.time", "cgroup=web"): ("ns", [0.3 * SECOND] * INTERVALS)}

    why = missed(latency, components, histograms=rows, counters=held).why

    assert why.advice[0].text.startswith("raise the cgroup's CPU limit: it held threads back 300 ms a second")


def test_causes_are_ranked_by_their_share_and_small_ones_left_out():
    """Each with the calls it was seen in; 5 % are not worth a line."""
    latency, components = requests({"disk": 0.55, "lock": 0.4, "network": 0.05}, np.random.default_rng(3))
    stacks = {
        ("worker", "main", "blocked", "disk", "fsync"): StackWeight(7 * SECOND, 1),
        ("worker", "main", "blocked", "lock", "futex"): StackWeight(5 * SECOND, 1),
        ("worker", "main", "blocked", "network", "recvfrom"): StackWeight(SECOND, 1),
    }

    why = missed(latency, components, stacks=lambda first, last: stacks).why

    assert [advice.cause for advice in why.advice] == ["disk", "lock"]
    assert why.advice[0].text == "wait less for the disk: fsync in worker 7 s"
    assert why.advice[0].share > why.advice[1].share > 0.3


def test_a_cause_without_numbers_gets_no_advice():
    """Page faults, but no pressure was measured; children, but none was counted."""
    latency, components = requests({"fault": 0.6, "awaiting": 0.0, "poll": 0.4}, np.random.default_rng(3))

    assert missed(latency, components).why.advice == ()


def test_a_storm_of_look_ups_is_told():
    """Hundreds of ENOENT a second inside the span; the share of the miss is not known and not made up."""
    latency, components = requests({"runq": 1.0}, np.random.default_rng(3))
    labels = "errno=ENOENT role=worker span=evaluation syscall=openat"
    failed = {("syscall.errors", labels): ("count", [4000.0] * INTERVALS)}

    advice = missed(latency, components, counters=failed).why.advice

    assert [(one.cause, one.share) for one in advice] == [("ENOENT", None)]
    assert "4,000 look-ups a second failed (openat)" in advice[0].text


def test_a_storm_of_look_ups_names_the_code_that_makes_it():
    """The line of Python of most of the stacks that were seen, for the calls of this span alone."""
    latency, components = requests({"runq": 1.0}, np.random.default_rng(3))
    labels = "errno=ENOENT role=worker span=evaluation syscall=openat"
    failed = {("syscall.errors", labels): ("count", [4000.0] * INTERVALS)}
    asked = []

    def failures(where):
        asked.append(dict(where))
        return {
            ("main (a.py:1)", "find (path.py:3)", "openat (libc.so.6)"): 90,
            ("main (a.py:1)", "other (b.py:2)"): 10,
        }

    (advice,) = missed(latency, components, counters=failed, failures=failures).why.advice

    assert advice.text.endswith("look-ups a second failed (openat), 90 % of those seen in find (path.py:3)")
    assert asked == [{"errno": "ENOENT", "span": "evaluation", "syscall": "openat"}]


def test_pressure_is_a_share_of_the_time():
    """It is read a little after the interval ends, so that more than all of it can come out."""
    rows = {("runq.wait", "role=worker"): [[MS]] * 7 + [[400 * MS]] + [[MS]] * 2}
    busy = {("psi", "kind=some resource=cpu"): ("ns", [(0.05 + 1.04 * each) * SECOND for each in BUSY])}
    sla = "[[objective]]\nseries = 'runq.wait'\nmax = '< 10ms'\n"

    (verdict,) = judge(parse(sla, "s"), evidence(histograms=rows, counters=busy)).verdicts

    assert verdict.why.differences == ("pressure cpu some 100 % (else 5 %)",)


BUSY = [0.0] * 7 + [1.0] + [0.0] * 2
"""Something happens in the eighth interval alone."""


def test_what_was_different_when_it_was_worst():
    """The eighth second: pressure, throttling, failed calls and spawns rose; what did not is not told."""
    rows = {("runq.wait", "role=worker"): [[MS] * 50] * 7 + [[400 * MS] * 50] + [[MS] * 50] * 2}
    counters = {
        ("psi", "kind=some resource=cpu"): ("ns", [(0.05 + 0.6 * busy) * SECOND for busy in BUSY]),
        ("psi", "kind=some resource=io"): ("ns", [0.05 * SECOND] * INTERVALS),
        ("throttle.time", "cgroup=web"): ("ns", [0.5 * SECOND * busy for busy in BUSY]),
        ("syscall.errors", "errno=EAGAIN role=worker syscall=read"): ("count", [1 + 99 * busy for busy in BUSY]),
        ("spawn.count", "role=worker"): ("count", [2 + 20 * busy for busy in BUSY]),
    }
    sla = "[[objective]]\nseries = 'runq.wait'\nmax = '< 10ms'\n"

    (verdict,) = judge(parse(sla, "s"), evidence(histograms=rows, counters=counters)).verdicts

    assert (verdict.worst.start_ns, verdict.worst.end_ns) == (7 * SECOND, 8 * SECOND)
    assert set(verdict.why.differences) == {
        "throttled 500 ms a second (else 0 ns)",
        "read EAGAIN 100/s (else 1/s)",
        "pressure cpu some 65 % (else 5 %)",
        "spawns 22/s (else 2/s)",
    }
    assert verdict.why.differences[0].startswith("throttled")


def test_the_stack_that_rose_most_is_told():
    """Blocked wall time by role, reason and call; waits that exist to wait are none."""
    disk = ("worker", "main", "blocked", "disk", "fsync")
    idle = ("worker", "main", "blocked", "poll", "epoll_wait")

    def stacks(first, last):
        found = {disk: 0.05, idle: 0.9}
        return {k: StackWeight(int(v * (last - first) * SECOND + (k == disk and first <= 7 < last) * SECOND * 0.8), 1)
                for k, v in found.items()}  # fmt: skip

    rows = {("runq.wait", "role=worker"): [[MS]] * 7 + [[400 * MS]] + [[MS]] * 2}
    sla = "[[objective]]\nseries = 'runq.wait'\nmax = '< 10ms'\n"

    (verdict,) = judge(parse(sla, "s"), evidence(histograms=rows, stacks=stacks)).verdicts

    assert verdict.why.differences == ("worker blocked disk fsync 0.85 s a second (else 0.05 s)",)


def test_one_interval_has_nothing_to_compare_with():
    """The worst is all there is."""
    sla = "[[objective]]\nseries = 'rss'\nmax = '< 1MB'\nwindow = '10s'\n"

    (verdict,) = judge(parse(sla, "s"), evidence()).verdicts

    assert verdict.state is State.FAIL
    assert verdict.why.differences == ()
