"""Percentile distributions are Java's, digit by digit: tests/golden/java*.hgrm were written by HdrHistogram itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tracekit.export import hgrm
from tracekit.histogram import Histogram, Layout, empty, of_values
from tracekit.histogram.omission import corrected

GOLDEN = Path(__file__).parents[1] / "golden"


def java_values() -> Histogram:
    """Return the histogram of the 10,000 xorshift values that the Java program recorded."""
    state, values = 88172645463325252, []
    for _ in range(10_000):
        state ^= state << 13 & (1 << 64) - 1
        state ^= state >> 7
        state ^= state << 17 & (1 << 64) - 1
        values.append(state >> 1 & (1 << 10 + (state >> 60 & 15)) - 1)
    return of_values(np.array(values, dtype=np.uint64))


def text(histogram: Histogram, **options: float) -> str:
    return "".join(f"{line}\n" for line in hgrm.distribution(histogram, **options))


def test_rows_are_those_of_java() -> None:
    """Ladder, counts, mean, deviation, padding: a diff with Java's file is empty."""
    assert text(java_values()) == (GOLDEN / "java.hgrm").read_text(encoding="ascii")


def test_a_correction_is_that_of_java() -> None:
    """copyCorrectedForCoordinatedOmission(100000) of the same values."""
    whole = corrected(java_values(), 100_000)

    assert text(whole) == (GOLDEN / "java-corrected.hgrm").read_text(encoding="ascii")


def test_digits_round_half_up_as_java_does() -> None:
    """Java prints 0.13 for 0.125 and 1.01 for 1.005; Python's own format says 0.12 and 1.00."""
    assert hgrm._fixed(0.125, 2) == "0.13"
    assert hgrm._fixed(1.005, 2) == "1.01"
    assert hgrm._fixed(1e-7, 3) == "0.000"
    assert hgrm._fixed(3e22, 0) == "30000000000000000000000"


def test_of_no_events_there_are_no_rows() -> None:
    """As in Java: a head, and zeros below."""
    lines = text(empty(Layout(1, 1000, 1)), scale=1.0).splitlines()

    assert lines == [
        "       Value     Percentile TotalCount 1/(1-Percentile)",
        "",
        "#[Mean    =          0.0, StdDeviation   =          0.0]",
        "#[Max     =          0.0, Total count    =            0]",
        "#[Buckets =            6, SubBuckets     =           32]",
    ]


def test_the_largest_of_zeros_is_zero() -> None:
    """Java keeps 0 apart from the rest of its slot, though its rows do not; only a unit above 1 shows it."""
    lines = text(of_values(np.zeros(3, dtype=np.uint64), Layout(16, 1000, 1)), scale=1.0).splitlines()

    assert "#[Max     =          0.0, Total count    =            3]" in lines
    assert lines[2].split() == ["15.0", "0.000000000000", "3", "1.00"]
