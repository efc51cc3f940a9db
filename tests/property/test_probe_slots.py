"""The slots of the probe are those of hdrhistogram and of tracekit.histogram, value by value."""

from __future__ import annotations

from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from tracekit.histogram import HIGHEST, LOWER_EDGE, UPPER_EDGE
from tracekit.probe import _layout as layout

HOUR_NS = 3600 * 10**9
ORACLE = HdrHistogram(1, HOUR_NS, 2)

spread = st.integers(0, 42).flatmap(lambda bits: st.integers((1 << bits) // 2, (1 << bits) - 1))


@given(spread)
def test_a_latency_has_the_slot_that_hdrhistogram_gives_it(latency: int) -> None:
    """One layout everywhere: exports lose nothing."""
    assert layout.slot_of(latency) == ORACLE._counts_index_for(latency)


def test_every_edge_is_in_its_slot() -> None:
    """And what is larger than the largest is in the last one."""
    for slot in range(layout.SLOTS):
        low, high = int(LOWER_EDGE[slot]), int(UPPER_EDGE[slot])
        assert layout.slot_of(low) == layout.slot_of(high) == slot
        assert layout.upper_edge(slot) == high
    assert layout.slot_of(HIGHEST + 1) == layout.slot_of(1 << 60) == layout.SLOTS - 1
