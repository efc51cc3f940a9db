"""Spans that run at once and what one kind costs another, against single spans whose times are known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sample import SECOND, START_NS
from tests.unit.evidence import INTERVALS, MS, evidence
from tracekit.analysis import concurrency
from tracekit.analysis.sla import parse
from tracekit.analysis.verdict import State, judge
from tracekit.errors import UsageError
from tracekit.histogram import of_values, slots_of
from tracekit.histogram.parts import Parts
from tracekit.records import BUCKET_SHIFT, WAITS, Exemplar

EVALUATION = ("span.latency", "role=worker span=evaluation")
STEP = ("span.latency", "role=trainer span=training.step")
WHERE = (("span", "evaluation"),)


def ended(spans: list[tuple[float, float]]) -> list[list[int]]:
    """Latencies by interval of spans given as (start, duration) in seconds."""
    rows: list[list[int]] = [[] for _ in range(INTERVALS)]
    for start, duration in spans:
        rows[min(int(start + duration), INTERVALS - 1)].append(round(duration * SECOND))
    return rows


def known(spans: list[tuple[float, float]]):
    """All of them as exemplars of the interval in which they ended."""
    none = (0,) * len(WAITS)
    return [
        (int(a + d), Exemplar(1, 1, 1, START_NS + round(a * SECOND), round(d * SECOND), False, False, True, none, 0, 0))
        for a, d in spans
    ]


def running(spans, exemplars=()):
    given = evidence({EVALUATION: ended(spans)}, exemplars=lambda where: exemplars)
    return concurrency.of(given, WHERE).mean(*concurrency.bounds(given))


def test_spans_that_are_known_are_placed_exactly():
    """Three of 2.5 s from 1 s, 2 s and 6 s on: by seconds, whatever interval they ended in."""
    spans = [(1.0, 2.5), (2.0, 2.5), (6.0, 2.5)]

    assert running(spans, known(spans)).tolist() == [0, 1, 2, 1.5, 0.5, 0, 1, 1, 0.5, 0]


def test_a_span_begun_before_the_recording_runs_from_its_start_on():
    """What was before is none of the recording."""
    assert running([(-3.0, 5.5)], known([(-3.0, 5.5)])).tolist() == [1, 1, 0.5, 0, 0, 0, 0, 0, 0, 0]


def test_many_short_spans_are_as_many_as_littles_law_says():
    """40 a second of 50 ms are two at a time; none of them is known by itself."""
    spans = [(number * 0.025, 0.05) for number in range(395)]

    found = running(spans)

    assert found[1:9] == pytest.approx(np.full(8, 2.0), abs=0.1)


def test_some_known_and_some_not_are_not_counted_twice():
    """The slowest are placed by themselves, the others by the histogram."""
    spans = [(number * 0.5, 0.25) for number in range(18)]
    slow = [(2.0, 3.0)]

    assert running(spans + slow, known(slow)).sum() == pytest.approx(18 * 0.25 + 3.0, abs=0.1)


@pytest.mark.parametrize("later", [-1, 1, 3])
def test_a_span_that_was_counted_in_another_interval_than_known_is_one(later):
    """A process counts its spans, the kernel knows the slow ones: they come on their own ways, near a tick apart."""
    spans = [(1.0, 2.5), (2.0, 2.5), (6.0, 2.0)]
    counted = ended([(3.9, 0.0)])
    counted[2] = counted[4] = [round(2.5 * SECOND)]  # ended in 3 and 4, the first was counted before
    counted[3], counted[8] = [], [2 * SECOND]
    seen = [(min(number + later, INTERVALS - 1), span) for number, span in known(spans)]

    given = evidence({EVALUATION: counted}, exemplars=lambda where: seen)

    found = concurrency.of(given, WHERE).mean(*concurrency.bounds(given))
    assert found.tolist() == [0, 1, 2, 1.5, 0.5, 0, 1, 1, 0, 0]


def verdict(sla: str, spans, **more):
    (found,) = judge(parse(sla, "s"), evidence({EVALUATION: ended(spans)}, **more)).verdicts
    return found


@pytest.mark.parametrize(("most", "state"), [(2, State.PASS), (1, State.FAIL)])
def test_at_most_so_many_at_once(most, state):
    """A gauge that no collector records."""
    spans = [(1.0, 2.5), (2.0, 2.5), (6.0, 2.5)]
    sla = f"[[objective]]\nseries = 'span.concurrency{{span=\"evaluation\"}}'\nmax = '<= {most}'\n"

    found = verdict(sla, spans, exemplars=lambda where: known(spans))

    assert (found.state, found.value, found.n, found.counted) == (state, 2, 10, "samples")


def test_no_such_span_is_no_zero():
    """Nothing that was named has run: that is not measured, and no pass."""
    found = verdict("[[objective]]\nseries = 'span.concurrency{span=\"evaluatoin\"}'\nmax = '<= 4'\n", [(1.0, 1.0)])

    assert (found.state, found.hint) == (State.NOT_MEASURED, 'span="evaluation"')


def test_during_looks_only_at_the_intervals_in_which_the_span_ran():
    """rss is 1 MB more each second; the span ran from the fifth to the seventh."""
    sla = "[[objective]]\nseries = 'rss'\nduring = 'evaluation'\ngrowth = '< 5MB'\nmin = '> 1B'\nmax = '< 1GB'\n"
    spans = [(4.5, 2.0)]
    given = evidence({EVALUATION: ended(spans)}, exemplars=lambda where: known(spans))

    growth, least, most = judge(parse(sla, "s"), given).verdicts

    assert (growth.value, least.value, most.value) == (2 * MS, 5 * MS, 7 * MS)
    assert most.n == 3


def test_during_what_never_ran_is_not_measured():
    """No interval to look at."""
    found = verdict("[[objective]]\nseries = 'rss'\nduring = 'evaluatoin'\nmax = '< 1GB'\n", [(1.0, 1.0)])

    assert (found.state, found.reason) == (State.NOT_MEASURED, 'no span "evaluatoin" ran while recorded')


SLOWDOWN = "[[objective]]\nseries = 'training.slowdown'\nmean = '< 5%'\n"
AT_TIMES = [(2.0, 3.0), (7.0, 2.0)]


def steps(factor: float, rng: np.random.Generator, length: float = 0.02) -> list[tuple[float, float]]:
    """Steps one after another, *factor* as long while an evaluation runs."""
    found, now = [], 0.0
    while now < INTERVALS - 0.1:
        busy = any(start <= now < start + duration for start, duration in AT_TIMES)
        took = length * rng.uniform(0.9, 1.1) * (factor if busy else 1)
        found.append((now, took))
        now += took
    return found


def slowdown(factor: float, seed: int = 1, sla: str = SLOWDOWN, length: float = 0.02):
    rows = {STEP: ended(steps(factor, np.random.default_rng(seed), length)), EVALUATION: ended(AT_TIMES)}
    (found,) = judge(
        parse(sla, "s"),
        evidence(rows, exemplars=lambda where: known(AT_TIMES) if where == WHERE else ()),
    ).verdicts
    return found


@pytest.mark.parametrize("factor", [1.0, 1.1, 1.5, 3.0])
@pytest.mark.parametrize("sla", [SLOWDOWN, SLOWDOWN.replace("mean", "p50")])
def test_the_slowdown_is_what_the_evaluations_cost(factor, sla):
    """
    Steps in another process, slower by a known factor while evaluations run.

    Those that ended as an evaluation began or ended are taken for the wrong kind: a bias towards none.
    """
    found = slowdown(factor, sla=sla)

    assert found.value == pytest.approx(factor - 1, abs=0.02 + 0.06 * (factor - 1))
    assert found.confidence.low <= factor - 1 <= found.confidence.high
    assert found.state is (State.PASS if factor == 1 else State.FAIL)
    assert [fact.split(":")[0] for fact in found.facts] == ["inside", "outside"]


def test_no_slowdown_is_hardly_ever_taken_for_one():
    """A/A: thirty trainings that evaluations do not slow down."""
    assert sum(slowdown(1.0, seed).state is State.FAIL for seed in range(30)) == 0


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ({EVALUATION: ended(AT_TIMES)}, "no span training.step ended while recorded"),
        ({STEP: ended([(0.5, 0.1)] * 20)}, "no span evaluation ended while recorded"),
        ({STEP: ended([(0.5, 0.1)] * 20), EVALUATION: ended(AT_TIMES)}, "0 steps ran wholly inside evaluation"),
        ({STEP: ended([(t / 4, 0.1) for t in range(9, 18)]), EVALUATION: ended(AT_TIMES)}, "wholly outside evaluation"),
    ],
)
def test_without_both_there_is_no_slowdown(rows, reason):
    """Not measured, never a pass."""
    given = evidence(rows, exemplars=lambda where: known(AT_TIMES) if where == WHERE else ())

    (found,) = judge(parse(SLOWDOWN, "s"), given).verdicts

    assert found.state is State.NOT_MEASURED
    assert reason in found.reason


def test_steps_longer_than_the_evaluations_cannot_be_told_apart():
    """Most are partly inside."""
    found = slowdown(1.0, length=1.9)

    assert found.state is State.NOT_MEASURED


@pytest.mark.parametrize(
    "sla",
    [
        SLOWDOWN.replace("mean = '< 5%'", "max = '< 5%'"),
        SLOWDOWN.replace("< 5%", "< 5ms"),
        SLOWDOWN.replace("slowdown", 'slowdown{role="x"}'),
    ],
)
def test_nonsense_of_a_slowdown_is_refused(sla):
    """It has a mean and quantiles, is a share, and is not counted by role."""
    with pytest.raises(UsageError, match=r"training\.slowdown"):
        judge(parse(sla, "s"), evidence({STEP: ended([(0.5, 0.1)]), EVALUATION: ended(AT_TIMES)}))


def test_the_middle_of_slots_is_what_spans_are_taken_for():
    """Half of a slot is the largest error of a length: 0.4 %."""
    value = 123_456_789

    part = of_values(np.array([value]))

    assert concurrency.MIDDLE[np.flatnonzero(part.counts)[0]] == pytest.approx(value, rel=0.004)


def parts(runs: list[tuple[int, int]], latency_ns: int, runq_ns: int) -> Parts:
    """What the steps of some intervals were made of: one bucket, a hundred steps an interval."""
    steps = 100 * sum(last - first for first, last in runs)
    waits = np.zeros((1, len(WAITS)), dtype=np.uint64)
    waits[0, WAITS.index("runq")] = steps * runq_ns
    bucket = slots_of(np.array([latency_ns], dtype=np.uint64)) >> BUCKET_SHIFT
    total, none = np.array([steps * latency_ns], dtype=np.uint64), np.zeros(1, dtype=np.uint64)
    return Parts(bucket, total, none, none, none, none, waits, np.zeros_like(waits))


def test_the_slowdown_says_what_the_longer_steps_waited_for():
    """Outside 5 ms, all on-CPU; inside 8 ms, 2.4 of the 3 ms more in the run queue: 80 %."""
    busy = [(2.0, 3.0)]
    asked = []

    def made_of(where, runs):
        asked.append(runs)
        return [parts(runs, 8 * MS, 2_400_000) if runs == [(2, 5)] else parts(runs, 5 * MS, 0)]

    rows = {STEP: [[(8 if 2 <= n < 5 else 5) * MS] * 100 for n in range(INTERVALS)], EVALUATION: ended(busy)}
    given = evidence(rows, exemplars=lambda where: known(busy) if where == WHERE else (), parts=made_of)

    (found,) = judge(parse(SLOWDOWN, "s"), given).verdicts

    assert found.state is State.FAIL
    assert asked == [[(2, 5)], [(0, 2), (5, 10)]]
    assert dict(found.why.split.shares) == pytest.approx({"runq": 0.8, "on-CPU": 0.2})
    assert found.why.split.of == "what a step took more inside"


def test_what_was_different_is_looked_for_while_the_slow_span_ran():
    """It ended in the ninth second and ran from the fifth on: pressure in the sixth counts, where it was."""
    spans = [(0.2, 0.3), (4.1, 4.4)]
    pressure = {("psi", "kind=some resource=cpu"): ("ns", [0.0] * 4 + [0.9 * SECOND] * 4 + [0.0] * 2)}
    sla = "[[objective]]\nseries = 'span.latency{span=\"evaluation\"}'\nmax = '< 1s'\n"

    found = verdict(sla, spans, counters=pressure)

    assert (found.why.start_ns, found.why.end_ns) == (4 * SECOND, 9 * SECOND)
    assert found.why.differences == ("pressure cpu some 72 % (else 0 %)",)
