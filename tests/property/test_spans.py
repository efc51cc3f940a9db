"""What a latency was made of always adds up to it, whatever the numbers are."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis import breakdown
from tracekit.analysis.breakdown import COMPONENTS
from tracekit.analysis.spans import Anatomy, anatomy
from tracekit.histogram import of_values, slots_of
from tracekit.histogram.parts import Parts
from tracekit.records import BUCKET_SHIFT, WAITS, Exemplar, SpanParts

u64 = st.integers(0, 2**64 - 1) | st.integers(0, 99)
waits_of = st.tuples(*[u64] * len(WAITS))
any_parts = st.builds(
    SpanParts,
    series=st.just(1),
    bucket=st.just(7),
    latency_ns=u64,
    awaited_ns=u64,
    waits=waits_of,
    async_waits=waits_of,
    sampled_ns=u64,
    unseen_ns=u64,
    errors=u64,
)
any_exemplar = st.builds(
    Exemplar,
    series=st.just(1),
    tgid=st.just(7),
    pid=st.just(7),
    start_ns=u64,
    duration_ns=u64,
    awaited=st.booleans(),
    failed=st.booleans(),
    seen=st.booleans(),
    waits=waits_of,
    sampled_ns=u64,
    errors=u64,
)


def whole(part: breakdown.Breakdown, latency_ns: int) -> bool:
    """All components are there, none is negative, and they add up."""
    amounts = list(part.components.values())
    return tuple(part.components) == COMPONENTS and min(amounts) >= 0 and sum(amounts) == latency_ns == part.latency_ns


@given(any_parts)
def test_components_add_up_to_the_latency(parts: SpanParts) -> None:
    """To the nanosecond, for numbers that contradict each other too."""
    assert whole(breakdown.of_parts(parts, 3), parts.latency_ns)


@given(any_exemplar)
def test_components_of_a_slow_span_add_up_to_its_latency(one: Exemplar) -> None:
    """Suspended or not, seen or not."""
    assert whole(breakdown.of_exemplar(one), one.duration_ns)


@given(st.lists(st.integers(0, 10**7), min_size=len(WAITS), max_size=len(WAITS)), st.data())
def test_numbers_that_fit_are_not_changed(waits: list[int], data: st.DataObject) -> None:
    """What was measured is what is shown: nothing is scaled unless it must be."""
    on_cpu, unseen = data.draw(st.integers(0, 10**9)), data.draw(st.integers(0, 10**9))
    latency = sum(waits) + on_cpu + unseen

    found = breakdown.of_parts(SpanParts(1, 7, latency, 0, tuple(waits), (0,) * len(WAITS), 0, unseen, 0), 1)

    assert list(found.components.values()) == [*waits, on_cpu, 0, unseen]


@given(st.lists(st.tuples(st.integers(0, 2**40), any_parts), min_size=1, max_size=300), st.integers(1, 40))
def test_bands_and_their_gap_add_up(spans: list[tuple[int, SpanParts]], copies: int) -> None:
    """Latencies from the probe, all else arbitrary: a band is whole and holds its ranks, the gap their difference."""
    values = np.array([value for value, _ in spans] * copies, dtype=np.uint64)

    found = anatomy(of_values(values), [summed(spans, copies)])

    n = len(values)
    assert isinstance(found, Anatomy)
    assert whole(found.whole, int(sum(values.tolist())))
    assert found.whole.count == n
    assert (found.median is None) == (n < 50)
    assert found.tail_q == (0.99 if n >= 1000 else 0.95 if n >= 200 else 0.9 if n >= 100 else 0)
    if found.median:
        assert whole(found.median, found.median.latency_ns)
        assert found.median.count >= n // 5
    if found.tail and found.median:
        assert whole(found.tail, found.tail.latency_ns)
        assert found.tail.count >= math.floor(n * (1 - found.tail_q) + 1e-9)
        assert found.tail.count + found.median.count <= n
        longer = found.tail.mean_ns - found.median.mean_ns
        assert longer > 0
        assert math.isclose(sum(found.gap.values()), longer, rel_tol=1e-6)


def summed(spans: list[tuple[int, SpanParts]], copies: int) -> Parts:
    """The parts as a recording gives them: the latency is that of the spans, everything else as drawn, below 2^50."""
    buckets = (slots_of(np.array([value for value, _ in spans], dtype=np.uint64)) >> BUCKET_SHIFT).tolist()
    rows: dict[int, list[int]] = {}
    for bucket, (value, parts) in zip(buckets, spans, strict=True):
        numbers = [parts.awaited_ns, parts.sampled_ns, parts.unseen_ns, parts.errors, *parts.waits, *parts.async_waits]
        row = rows.setdefault(bucket, [0] * len([value, *numbers]))
        for i, number in enumerate([value, *(number & (2**50 - 1) for number in numbers)]):
            row[i] += number * copies
    table = np.array([rows[bucket] for bucket in sorted(rows)], dtype=np.uint64)
    waits, async_waits = np.split(table[:, 5:], 2, axis=1)
    return Parts(np.array(sorted(rows), dtype=np.int64), *table[:, :5].T, waits, async_waits)
