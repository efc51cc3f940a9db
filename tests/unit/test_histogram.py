"""What the algebra of histograms says of single cases; tests/property guards its laws."""

from __future__ import annotations

import numpy as np
import pytest

from tracekit import histogram
from tracekit.errors import EmptyHistogramError
from tracekit.histogram import HIGHEST, LOWER_EDGE, SLOTS, UPPER_EDGE, of_values


def test_slots_tile_the_range_without_gap_or_overlap() -> None:
    """Every value up to HIGHEST has one slot."""
    assert LOWER_EDGE[0] == 0
    assert (LOWER_EDGE[1:] == UPPER_EDGE[:-1] + np.uint64(1)).all()
    assert UPPER_EDGE[-1] == HIGHEST
    assert len(UPPER_EDGE) == SLOTS


def test_every_edge_and_its_neighbours_find_their_slot() -> None:
    """The kernel is compared with these slots, so they must hold at each edge."""
    assert (histogram.slots_of(LOWER_EDGE) == np.arange(SLOTS)).all()
    assert (histogram.slots_of(UPPER_EDGE) == np.arange(SLOTS)).all()


def test_values_above_the_highest_are_clamped() -> None:
    """More than an hour is counted in the last slot, never dropped."""
    slots = histogram.slots_of(np.array([HIGHEST, HIGHEST + 1, 2**64 - 1], dtype=np.uint64))

    assert slots.tolist() == [SLOTS - 1] * 3


@pytest.mark.parametrize(
    ("q", "total", "rank"),
    [
        (0.5, 1, 1),
        (0.25, 5, 2),
        (0.07, 100, 7),
        (0.9, 7, 7),
        (0.99, 100, 99),
        (0.99, 101, 100),
        (1.0, 7, 7),
        (1e-9, 7, 1),
    ],
)
def test_ranks_follow_java(q: float, total: int, rank: int) -> None:
    """HdrHistogram's rule; the Python package takes rank 1 for the p25 of five and 6 for the p90 of seven."""
    assert histogram.rank_of(q, total) == rank


@pytest.mark.parametrize("q", [0, -0.5, 1.0000001, 99, float("nan")])
def test_a_quantile_outside_of_the_range_is_a_mistake(q: float) -> None:
    """99 for 0.99 is the usual one."""
    with pytest.raises(ValueError, match="share"):
        of_values(np.array([1], dtype=np.uint64)).quantile(q)


def test_statistics_of_nothing_are_errors() -> None:
    """No events is not the same as no latency."""
    nothing = histogram.empty()

    with pytest.raises(EmptyHistogramError, match="no events"):
        nothing.quantile(0.99)
    with pytest.raises(EmptyHistogramError, match="no events"):
        nothing.mean  # noqa: B018  a property that raises
    assert nothing.share_above(0) == 0
    assert nothing.count == 0


def test_a_quantile_is_never_above_the_largest_value() -> None:
    """The slot of 1,000,000 reaches further than the value itself."""
    one = of_values(np.array([1_000_000], dtype=np.uint64))

    assert histogram.quantile(one.counts, 1.0) > 1_000_000
    assert one.quantile(1.0) == 1_000_000


def test_the_share_above_a_limit_agrees_with_the_quantile() -> None:
    """What lies in the slot of the limit is not above it, as the quantile would report that slot."""
    values = of_values(np.array([10, 20, 1_000_000, 2_000_000], dtype=np.uint64))

    assert values.share_above(20) == 0.5
    assert values.share_above(1_000_000) == 0.25
    assert values.share_above(5 * HIGHEST) == 0


def test_nothing_merged_is_nothing() -> None:
    """The smallest value of no events does not become 0."""
    some = of_values(np.array([7, 9], dtype=np.uint64))

    merged = histogram.merge([histogram.empty(), some, histogram.empty()])

    assert (merged.low, merged.high, merged.total, merged.count) == (7, 9, 16, 2)
    assert histogram.merge([]).count == 0
