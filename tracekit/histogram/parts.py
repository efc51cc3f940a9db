"""Decomposed histograms: with each bucket of latencies, where their time went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.histogram.layout import NS
from tracekit.records import BUCKET_SHIFT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BUCKETS = NS.slots >> BUCKET_SHIFT
"""A bucket is 16 slots: eight to a power of two."""


@dataclass(frozen=True, eq=False)
class Parts:
    """
    Where the time of the spans of one series went: sums over those of each bucket, in ns.

    `records.SpanParts` says what each sum is of.

    Attributes:
        bucket: int64[n], ascending; only those that the recording has.
        latency_ns, awaited_ns, sampled_ns, unseen_ns, errors: uint64[n].
        waits, async_waits: uint64[n, len(WAITS)].
    """

    bucket: NDArray[np.int64]
    latency_ns: NDArray[np.uint64]
    awaited_ns: NDArray[np.uint64]
    sampled_ns: NDArray[np.uint64]
    unseen_ns: NDArray[np.uint64]
    errors: NDArray[np.uint64]
    waits: NDArray[np.uint64]
    async_waits: NDArray[np.uint64]
