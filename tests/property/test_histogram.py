"""The laws of histograms, with the exact sample and the PyPI package `hdrhistogram` as oracles."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from tracekit import histogram
from tracekit.histogram import HIGHEST, LOWER_EDGE, STEPS, UPPER_EDGE, Histogram, of_values

HOUR_NS = 3600 * 10**9

spread = st.integers(0, 42).flatmap(lambda bits: st.integers((1 << bits) // 2, (1 << bits) - 1))
"""Values of every magnitude, 0 to HIGHEST: uniform integers would nearly all be minutes."""
latencies = st.lists(spread, min_size=1, max_size=60)
percentages = st.sampled_from(["0.001", "0.07", "0.1", "0.25", "0.5", "0.9", "0.95", "0.99", "0.999", "0.9999", "1"])


def made_of(values: list[int]) -> Histogram:
    return of_values(np.array(values, dtype=np.uint64))


def same(left: Histogram, right: Histogram) -> bool:
    facts = [(each.total, each.low, each.high) for each in (left, right)]
    return facts[0] == facts[1] and (left.counts == right.counts).all()


@given(spread)
def test_a_value_has_the_slot_that_hdrhistogram_gives_it(value: int) -> None:
    """One layout everywhere: exports lose nothing."""
    oracle = HdrHistogram(1, HOUR_NS, 2)

    slot = int(histogram.slots_of(np.array([value], dtype=np.uint64))[0])

    assert slot == oracle._counts_index_for(value)
    assert UPPER_EDGE[slot] == oracle.get_highest_equivalent_value(value)
    assert LOWER_EDGE[slot] == oracle.get_lowest_equivalent_value(value)


@given(latencies)
def test_counts_are_those_of_hdrhistogram(values: list[int]) -> None:
    """Slot by slot, and so in total."""
    oracle = HdrHistogram(1, HOUR_NS, 2)

    for value in values:
        oracle.record_value(value)

    assert made_of(values).counts.tolist() == list(oracle.counts)
    assert made_of(values).count == oracle.get_total_count()


@given(latencies, percentages)
def test_a_quantile_is_never_low_and_at_most_one_slot_high(values: list[int], q: str) -> None:
    """The documented error bound, against the exact sample quantile; the rank is taken in exact arithmetic."""
    exact = sorted(values)[math.ceil(Fraction(q) * len(values)) - 1]

    read = made_of(values).quantile(float(q))

    assert exact <= read <= exact + exact // STEPS


@given(st.integers(1, 10**9), st.data())
def test_every_event_can_be_named_by_its_rank(total: int, data: st.DataObject) -> None:
    """k of n is rank k, however k / n rounds as a float: HdrHistogram steps one ulp down for that."""
    rank = data.draw(st.integers(1, total))

    assert histogram.rank_of(rank / total, total) == rank


@given(latencies, st.floats(0, 1, exclude_min=True), st.floats(0, 1, exclude_min=True))
def test_a_higher_share_is_never_a_lower_quantile(values: list[int], one: float, other: float) -> None:
    """Quantiles ascend, from the slot of the smallest value to the largest value."""
    made = made_of(values)

    assert made.quantile(min(one, other)) <= made.quantile(max(one, other))
    assert made.low <= made.quantile(min(one, other))
    assert made.quantile(1.0) == max(values)


@given(latencies, percentages)
def test_no_more_than_the_rest_lies_above_a_quantile(values: list[int], q: str) -> None:
    """`quantile` and `share_above` are two readings of one histogram."""
    made = made_of(values)

    above = made.share_above(histogram.quantile(made.counts, float(q)))

    assert above <= 1 - float(q) + 1e-12


@given(latencies, latencies)
def test_merging_is_adding(left: list[int], right: list[int]) -> None:
    """Histograms of two CPUs, added, are the histogram of both."""
    merged = histogram.merge([made_of(left), made_of(right)])

    assert same(merged, made_of(left + right))


@given(latencies, latencies, latencies)
def test_merging_knows_no_order(first: list[int], second: list[int], third: list[int]) -> None:
    """Machines may be merged in any order and grouping."""
    one, two, three = made_of(first), made_of(second), made_of(third)

    left = histogram.merge([histogram.merge([one, two]), three])
    right = histogram.merge([three, histogram.merge([two, one, histogram.empty()])])

    assert same(left, right)


@given(latencies)
def test_sums_and_extremes_are_exact(values: list[int]) -> None:
    """Only quantiles pay for the slots."""
    made = made_of(values)

    assert (made.total, made.low, made.high) == (sum(values), min(values), max(values))
    assert made.mean == sum(values) / len(values)


@given(st.integers(HIGHEST, 2**63), latencies)
def test_an_hour_and_more_stays_in_the_count(huge: int, values: list[int]) -> None:
    """A value with no slot of its own is clamped into the last one; sum and maximum keep it."""
    made = made_of([huge, *values])

    assert made.count == len(values) + 1
    assert (made.high, made.total) == (huge, huge + sum(values))
