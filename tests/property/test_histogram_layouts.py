"""The laws of histograms of any precision and range, with hdrhistogram and plain loops as oracles."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from tracekit.errors import UsageError
from tracekit.histogram import Histogram, Layout, merge, of_counts, of_values, quantiles, subtract
from tracekit.histogram.omission import corrected


def layout_of(lowest: int, factor: int, digits: int) -> Layout:
    return Layout(lowest, 2 * lowest * factor, digits)


layouts = st.builds(layout_of, st.integers(1, 50_000), st.integers(1, 10**9), st.integers(1, 4))
spread = st.integers(0, 46).flatmap(lambda bits: st.integers((1 << bits) // 2, (1 << bits) - 1))
latencies = st.lists(spread, min_size=1, max_size=60)
shares = st.sampled_from([0.001, 0.07, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0])


def made_of(values: list[int], layout: Layout) -> Histogram:
    return of_values(np.array(values, dtype=np.uint64), layout)


def within(values: list[int], layout: Layout) -> list[int]:
    return [min(value, layout.highest) for value in values]


@given(layouts, spread)
def test_a_slot_is_that_of_hdrhistogram(layout: Layout, value: int) -> None:
    """Any unit, precision and range."""
    oracle = HdrHistogram(layout.lowest, layout.highest, layout.digits)
    value = min(value, layout.highest)

    slot = int(layout.slots_of(np.array([value], dtype=np.uint64))[0])

    assert (layout.slots, layout.octaves) == (oracle.counts_len, oracle.bucket_count)
    assert slot == oracle._counts_index_for(value)
    assert layout.lower[slot] == oracle.get_lowest_equivalent_value(value)
    assert layout.upper[slot] == oracle.get_highest_equivalent_value(value)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20), st.integers(0, 3))
def test_values_that_no_float_holds_have_their_slot(values: list[int], digits: int) -> None:
    """Slots are found through a float's bits: above 2^53 it must not round a value up into the next slot."""
    layout = Layout(1, 2**63 - 1, digits)

    slots = layout.slots_of(np.array(values, dtype=np.uint64))

    assert all(layout.lower[slot] <= value <= layout.upper[slot] for slot, value in zip(slots, values, strict=True))


@settings(max_examples=25)
@given(layouts, latencies)
def test_mean_and_deviation_are_those_of_hdrhistogram(layout: Layout, values: list[int]) -> None:
    """Of the middles of slots; the other mean is of the values."""
    values = within(values, layout)
    oracle = HdrHistogram(layout.lowest, layout.highest, layout.digits)
    for value in values:
        oracle.record_value(value)

    made = made_of(values, layout)

    assert made.slot_mean == pytest.approx(oracle.get_mean_value(), rel=1e-12)
    assert made.deviation == pytest.approx(oracle.get_stddev(), rel=1e-9, abs=1e-6)
    assert made.mean == sum(values) / len(values)


@given(layouts, latencies, st.lists(shares, min_size=1))
def test_many_quantiles_at_once_are_each_of_them(layout: Layout, values: list[int], qs: list[float]) -> None:
    """In any order; each the upper edge of the slot of the exact one."""
    values = sorted(within(values, layout))
    made = made_of(values, layout)

    found = quantiles(made.counts, qs, layout)

    exact = [values[math.ceil(Fraction(str(q)) * len(values)) - 1] for q in qs]
    assert found == layout.upper[layout.slots_of(np.array(exact, dtype=np.uint64))].tolist()
    assert made.quantiles(qs) == [min(value, values[-1]) for value in found]


@given(layouts, layouts, latencies, latencies)
def test_merging_any_precision_is_recording_in_what_both_have(
    one: Layout, other: Layout, left: list[int], right: list[int]
) -> None:
    """A slot of the finer layout lies in one slot of the coarser: no event moves."""
    left, right = within(left, one), within(right, other)

    merged = merge([made_of(left, one), made_of(right, other)])

    directly = made_of(left + right, one.joined(other))
    assert merged.layout == directly.layout
    assert (merged.counts == directly.counts).all()
    assert (merged.total, merged.low, merged.high) == (directly.total, directly.low, directly.high)


@given(layouts, layouts, latencies, latencies)
def test_subtracting_undoes_merging(one: Layout, other: Layout, left: list[int], right: list[int]) -> None:
    """What was added is gone; what was not there cannot be taken."""
    first, second = made_of(within(left, one), one), made_of(within(right, other), other)
    whole = merge([first, second])

    rest = subtract(whole, second)

    assert (rest.counts == first.to(rest.layout).counts).all()
    assert rest.total == first.total
    assert rest.low <= first.low <= first.high <= rest.high or rest.high == whole.high
    with pytest.raises(UsageError, match="no part"):
        subtract(rest, merge([whole, first]))


@given(layouts, latencies)
def test_counts_alone_bound_what_they_do_not_hold(layout: Layout, values: list[int]) -> None:
    """A log has no more: extremes lie in their slots, the mean within half a slot."""
    values = within(values, layout)
    made = made_of(values, layout)

    known = of_counts(made.counts, layout)

    assert known.low <= made.low <= made.high <= known.high
    width = int((layout.upper - layout.lower)[made.counts > 0].max()) + 1
    assert abs(known.mean - made.mean) <= width
    assert not known.exact


@given(layouts, st.lists(st.integers(0, 20_000), min_size=1, max_size=20), st.integers(1, 3000))
def test_a_correction_is_that_of_java(layout: Layout, values: list[int], interval: int) -> None:
    """Each value, and then one less by the interval until it is shorter than that: HdrHistogram's loop."""
    values = within(values, layout)
    edges = [int(layout.upper[layout.slots_of(np.array([value], dtype=np.uint64))[0]]) for value in values]

    found = corrected(made_of(values, layout), interval)

    every = [each for edge in edges for each in due(edge, interval)]
    assert (found.counts == made_of(every, layout).counts).all()
    with pytest.raises(UsageError, match="already"):
        corrected(found, interval)
    with pytest.raises(UsageError, match="already"):
        corrected(merge([found, made_of(values, layout)]), interval)


def due(value: int, interval: int) -> list[int]:
    return [value, *range(value - interval, interval - 1, -interval)]


def test_a_correction_of_a_billion_calls_takes_no_time() -> None:
    """An hour where a call was due each microsecond: they are counted, not made."""
    whole = corrected(of_values(np.array([3600 * 10**9], dtype=np.uint64)), 1000)

    assert whole.count == pytest.approx(3.6e9, rel=0.01)


def test_sums_pass_64_bits() -> None:
    """A million years in ns, added up."""
    made = of_values(np.full(1000, 2**62, dtype=np.uint64), Layout(1, 2**63 - 1, 2))

    assert made.total == 1000 * 2**62


@pytest.mark.parametrize("facts", [(0, 10, 2), (1, 1, 2), (1, 10, 6), (1, 10, -1), (1, 2**63, 2), (2**60, 2**62, 3)])
def test_layouts_that_cannot_be_are_refused(facts: tuple[int, int, int]) -> None:
    """Headers of logs are not believed."""
    with pytest.raises(ValueError, match="Layout"):
        Layout(*facts)
