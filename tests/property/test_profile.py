"""Code is held to exact totals: whatever was sampled, widths add up to what was measured, to the ns."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis import profile, spanstacks
from tracekit.analysis.spans import Band
from tracekit.histogram import of_values, slots_of
from tracekit.histogram.parts import BUCKETS, Parts
from tracekit.records import BUCKET_SHIFT, WAITS, Series, StackWeight, labels_of
from tracekit.samples import StackSamples
from tracekit.stacks import scaled, without_lines

names = st.sampled_from(["a", "b"])
codes = st.lists(st.sampled_from(["f (x.py:1)", "f (x.py:2)", "g (libx.so)", "h_[k]"]), max_size=3).map(tuple)
numbers = st.integers(0, 10**12)
huge = st.integers(0, 2**64 - 1)
rows = st.lists(st.tuples(st.integers(0, BUCKETS - 1), codes, huge, st.integers(0, 100)), max_size=6)


def samples(found):
    """Return StackSamples of (bucket, stack, weight, count)."""
    sums = {}
    for bucket, stack, weight, count in found:
        before = sums.get((bucket, stack), (0, 0))
        sums[bucket, stack] = (before[0] + weight) % 2**64, before[1] + count
    order = sorted(sums)
    frames = dict(enumerate({stack for _, stack in order}))
    ids = {stack: ident for ident, stack in frames.items()}
    return StackSamples(
        np.array([bucket for bucket, _ in order], dtype=np.int64),
        np.array([ids[stack] for _, stack in order], dtype=np.int64),
        np.array([sums[row][0] for row in order], dtype=np.uint64),
        np.array([sums[row][1] for row in order], dtype=np.uint64),
        frames,
    )


def series(metric, **labels):
    return Series(metric, labels_of(labels), "stacks", "ns")


accounts = st.dictionaries(
    st.one_of(
        st.tuples(names, names, st.sampled_from(["on-CPU", "run queue"])),
        st.tuples(names, names, st.just("blocked"), st.sampled_from(["disk", "lock"]), st.sampled_from(["futex", "-"])),
    ),
    numbers,
    max_size=8,
)
cpu = st.dictionaries(
    st.builds(
        lambda role, thread, span: series("stack.oncpu", role=role, thread=thread, span=span), names, names, names
    ),
    rows.map(samples),
    max_size=4,
)
waits = st.dictionaries(
    st.builds(
        lambda role, thread, reason, syscall: series(
            "stack.offcpu", role=role, thread=thread, reason=reason, syscall=syscall
        ),
        names,
        names,
        st.sampled_from(["disk", "lock"]),
        st.sampled_from(["futex", "-"]),
    ),
    rows.map(samples),
    max_size=4,
)


def folded(weights, length):
    """Return the sum by the first frames of a stack."""
    sums = {}
    for stack, weight in weights.items():
        sums[stack[:length]] = sums.get(stack[:length], 0) + weight
    return {key: weight for key, weight in sums.items() if weight}


@given(accounts, cpu, waits)
def test_wall_time_with_code_is_that_without(known, ran, waited):
    """Each thread's time in each state is what it was, and no box is wider than nothing."""
    exact = {stack: StackWeight(weight, 1) for stack, weight in known.items()}

    found = profile.wall(exact, ran, waited, without_lines)

    states = {stack[:5] if stack[2] == "blocked" else stack[:3]: 0 for stack in found.weights}
    for stack, weight in found.weights.items():
        states[stack[:5] if stack[2] == "blocked" else stack[:3]] += weight
    assert {key: weight for key, weight in states.items() if weight} == {k: w for k, w in known.items() if w}
    assert all(weight >= 0 and isinstance(weight, int) for weight in found.weights.values())
    assert found.placed <= sum(found.weights.values())


@given(accounts, cpu, waits)
def test_the_halves_are_those_of_the_whole(known, ran, waited):
    """On and off a CPU are parts of all time, frame by frame; the run queue is the rest."""
    exact = {stack: StackWeight(weight, 1) for stack, weight in known.items()}

    whole = profile.wall(exact, ran, waited, without_lines)
    on_cpu = profile.on_cpu(exact, ran, without_lines)
    off_cpu = profile.off_cpu(exact, waited, without_lines)

    parts = {(*s[:2], "on-CPU", *s[2:]): w for s, w in on_cpu.weights.items()}
    parts |= {(*s[:2], "blocked", *s[2:]): w for s, w in off_cpu.weights.items()}
    assert parts == {stack: weight for stack, weight in whole.weights.items() if stack[2] != "run queue"}
    assert on_cpu.placed + off_cpu.placed == whole.placed
    assert on_cpu.strange + off_cpu.strange == whole.strange


failed = st.builds(lambda *names: dict(zip(("role", "syscall", "errno", "span"), names, strict=True)), *[names] * 4)


@given(
    st.dictionaries(failed.map(lambda one: series("syscall.errors", **one)), st.integers(0, 1000), max_size=6),
    st.dictionaries(failed.map(lambda one: series("stack.errors", **one)), rows.map(samples), max_size=6),
)
def test_failures_are_as_many_as_were_counted(counted, seen):
    """By role, call and errno, whatever the span."""
    found = profile.errors(counted, seen, without_lines)

    exact = {}
    for one, count in counted.items():
        key = one.label("role"), one.label("syscall"), one.label("errno")
        exact[key] = exact.get(key, 0) + count
    assert folded(found.weights, 3) == {key: count for key, count in exact.items() if count}
    assert all(isinstance(count, int) and count > 0 for count in found.weights.values())


@given(st.dictionaries(codes, huge, max_size=8), huge)
def test_shares_add_up(weights, total):
    """To the total exactly, each at most one away from its share."""
    shares = scaled(weights, total)

    whole = sum(weights.values())
    assert sum(shares.values()) == (total if whole else 0)
    assert all(abs(shares[stack] * whole - weight * total) < whole for stack, weight in weights.items() if whole)


SPAN = Series("span.latency", labels_of({"role": "w", "span": "s"}), "histogram", "ns")


@st.composite
def spans(draw):
    """Latencies, where their time went, and what code they were seen in, by state."""
    latencies = draw(st.lists(st.integers(1, 10**9), min_size=1, max_size=12))
    by_bucket = {}
    for value in latencies:
        bucket = int(slots_of(np.array([value], dtype=np.uint64))[0]) >> BUCKET_SHIFT
        by_bucket[bucket] = by_bucket.get(bucket, 0) + value
    buckets = sorted(by_bucket)
    sums = np.array([by_bucket[bucket] for bucket in buckets], dtype=np.uint64)

    def part():
        return np.array([draw(st.integers(0, by_bucket[bucket])) for bucket in buckets], dtype=np.uint64)

    waits = np.column_stack([part() if kind in ("disk", "lock", "runq", "db") else sums * 0 for kind in WAITS])
    parts = Parts(np.array(buckets), sums, part(), part(), part(), sums * 0, waits, waits[:, ::-1] * 0)
    near = st.sampled_from([*buckets, 0, BUCKETS - 1])
    found = st.lists(st.tuples(near, codes, huge, st.integers(0, 9)), max_size=6).map(samples)
    seen = {
        series("stack.span", role="w", span="s", state=state): draw(found)
        for state in draw(st.sets(st.sampled_from(["on-CPU", "disk", "lock", "poll"])))
    }
    return of_values(np.array(latencies, dtype=np.uint64)), parts, seen


@given(spans())
def test_spans_with_code_are_as_long_as_they_were(found):
    """All of them, and by component what they were made of without code."""
    latency, parts, seen = found
    plain, coded = (
        spanstacks.of_spans({SPAN: latency}, {SPAN: parts}, {}, spanstacks.Code(code, without_lines))
        for code in ({}, seen)
    )

    weights = spanstacks.whole(coded)

    assert folded(weights, 3) == spanstacks.whole(plain)
    assert sum(weights.values()) == latency.total


@given(spans(), st.integers(0, BUCKETS - 1), st.integers(1, 50))
def test_a_band_of_spans_is_as_long_as_it_was(found, first, count):
    """From any bucket on, as a mean: what the components are with code is what they are without, but for rounding."""
    latency, parts, seen = found
    band = Band(first, BUCKETS - 1, count)
    plain, coded = (
        spanstacks.within(
            spanstacks.of_spans({SPAN: latency}, {SPAN: parts}, {}, spanstacks.Code(code, without_lines)), band
        )
        for code in ({}, seen)
    )

    assert sum(coded.values()) == sum(plain.values())
    exact, rounded = folded(plain, 3), folded(coded, 3)
    assert all(abs(exact.get(key, 0) - rounded.get(key, 0)) <= 6 for key in exact.keys() | rounded.keys())
