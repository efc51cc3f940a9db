"""Payloads: any numbers come back, and no bytes do harm."""

from __future__ import annotations

from array import array
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekit.histogram.parts import BUCKETS
from tracekit.recording import parts, payload, reader, writer
from tracekit.records import WAITS, SpanParts

_BITS = {"B": 8, "H": 16, "I": 32, "Q": 64}
HISTOGRAM = ("I", "H", "Q", "Q", "Q", "H", "Q")
"""Type codes of the columns of a histograms payload."""

u64 = st.integers(0, 2**64 - 1) | st.integers(0, 9)
waits_of = st.tuples(*[u64] * len(WAITS))
span_parts = st.builds(
    SpanParts,
    series=st.integers(1, 3),
    bucket=st.integers(0, BUCKETS - 1),
    latency_ns=u64,
    awaited_ns=u64,
    waits=waits_of,
    async_waits=waits_of,
    sampled_ns=u64,
    unseen_ns=u64,
    errors=u64,
)


def columns_of(code: str) -> st.SearchStrategy[tuple[str, list[float]]]:
    numbers = st.floats() if code == "d" else st.integers(0, (1 << _BITS[code]) - 1) | st.integers(0, 9)
    return st.lists(numbers, max_size=40).map(lambda column: (code, column))


any_column = st.sampled_from("BHIQd").flatmap(columns_of)


@given(st.lists(any_column, max_size=8))
def test_numbers_come_back_bit_by_bit(columns: list[tuple[str, list[float]]]) -> None:
    """Every width, empty columns, NaN and infinity included."""
    packed = payload.encode(columns)

    assert payload.decode(packed) == [array(code, numbers).tobytes() for code, numbers in columns]


@given(st.lists(any_column, max_size=4), st.data())
def test_a_torn_payload_is_refused_or_a_whole_number_of_columns(
    columns: list[tuple[str, list[float]]], data: st.DataObject
) -> None:
    """Nothing is made up: what comes back is the beginning of what was written."""
    packed = payload.encode(columns)
    torn = packed[: data.draw(st.integers(0, len(packed)))]

    try:
        found = payload.decode(torn)
    except ValueError:
        return

    assert found == payload.decode(packed)[: len(found)]


@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_but_valueerror(blob: bytes) -> None:
    """A hostile file ends in one clear line."""
    with suppress(ValueError):
        payload.decode(blob)


@given(st.lists(any_column, min_size=1, max_size=8), st.data())
def test_flipped_bits_raise_nothing_but_valueerror(columns: list[tuple[str, list[float]]], data: st.DataObject) -> None:
    """A damaged disk too: nearly valid payloads reach further into the decoder than noise does."""
    packed = bytearray(payload.encode(columns))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))

    with suppress(ValueError):
        payload.decode(bytes(packed))
        reader._unpack(bytes(packed))
    with suppress(ValueError):
        parts.PartSums([1, 2]).add(bytes(packed))


@given(st.lists(span_parts, max_size=12, unique_by=lambda part: (part.series, part.bucket)))
def test_parts_of_spans_come_back(written: list[SpanParts]) -> None:
    """Of the series that were asked for, each number in its place, up to 2^64 - 1."""
    sums = parts.PartSums([1, 3])

    sums.add(writer._pack_parts(written))

    read = [
        SpanParts(series, bucket, latency, awaited, tuple(waits), tuple(async_waits), sampled, unseen, errors)
        for series, found in sums.parts().items()
        for bucket, latency, awaited, sampled, unseen, errors, waits, async_waits in zip(
            *(column.tolist() for column in vars(found).values()), strict=True
        )
    ]
    wanted = [part for part in written if part.series != 2]
    assert read == sorted(wanted, key=lambda part: (part.series, part.bucket))


@given(st.lists(span_parts, min_size=1, max_size=4), st.data())
def test_damaged_parts_raise_nothing_but_valueerror(written: list[SpanParts], data: st.DataObject) -> None:
    """Bits flipped, or torn."""
    packed = bytearray(writer._pack_parts(written))
    for _ in range(data.draw(st.integers(0, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))

    with suppress(ValueError):
        parts.PartSums([1, 2]).add(bytes(packed[: data.draw(st.integers(0, len(packed)))]))


@given(st.tuples(*(columns_of(code) for code in HISTOGRAM)))
def test_columns_that_disagree_are_refused(columns: tuple[tuple[str, list[float]], ...]) -> None:
    """Each column is valid, but together they are no histograms: never an IndexError, never a wrong shape."""
    series, pairs, *facts, steps, counts = (np.array(numbers) for _, numbers in columns)
    fits = len({len(series), len(pairs), *map(len, facts)}) == 1 and pairs.sum() == len(steps) == len(counts)

    if fits and not len(steps):
        assert len(reader._unpack(payload.encode(columns)).pairs) == len(series)
    else:
        with pytest.raises(ValueError, match=r"lacks numbers|out of range"):
            reader._unpack(payload.encode(columns))
