"""Payloads and logs: what is written is read, by us and by others, and nothing that is read can hurt."""

from __future__ import annotations

import binascii
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.property.test_histogram_layouts import latencies, layouts, made_of, within
from tracekit.errors import TracekitError
from tracekit.export import hlog as writer
from tracekit.histogram import Histogram, Layout, payload
from tracekit.recording.hlog import Log

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGS = sorted((Path(__file__).parents[1] / "golden" / "hlog").glob("*.hlog"))
counted = st.lists(st.tuples(st.integers(0, 4607), st.integers(1, payload.LIMIT_COUNT - 1)), max_size=40)


def filled(pairs: list[tuple[int, int]]) -> Histogram:
    counts = np.zeros(4608, dtype=np.uint64)
    for slot, count in pairs:
        counts[slot] = count
    return Histogram(counts, 0, 0, 0)


def unpacked(texts: list[bytes], layout: Layout) -> Iterator[list[int]]:
    slots, counts, ends = payload.decode([payload.unpack(text) for text in texts])
    start = 0
    for end in ends.tolist():
        dense = np.zeros(layout.slots, dtype=np.int64)
        np.add.at(dense, slots[start:end], counts[start:end])
        start = end
        yield dense.tolist()


@given(layouts, st.lists(latencies, min_size=1, max_size=5))
def test_hdrhistogram_and_we_read_the_same_of_both(layout: Layout, batches: list[list[int]]) -> None:
    """Its payloads and ours, apart and in a batch."""
    made = [made_of(within(values, layout), layout) for values in batches]
    texts = []
    for values in batches:
        oracle = HdrHistogram(layout.lowest, layout.highest, layout.digits)
        for value in within(values, layout):
            oracle.record_value(value)
        texts.append(oracle.encode())

    ours = [payload.encode(each) for each in made]

    wanted = [each.counts.tolist() for each in made]
    assert list(unpacked(texts, layout)) == wanted
    assert list(unpacked(ours, layout)) == wanted
    for text, each in zip(ours, made, strict=True):
        theirs = HdrHistogram.decode(text)
        assert [theirs.get_count_at_index(slot) for slot in range(layout.slots)] == each.counts.tolist()


@given(st.lists(counted, min_size=1, max_size=6))
def test_counts_of_every_size_come_back(rows: list[list[tuple[int, int]]]) -> None:
    """Varints of one to eight bytes, runs, and histograms of nothing among them."""
    made = [filled(pairs) for pairs in rows]

    back = list(unpacked([payload.encode(each) for each in made], made[0].layout))

    assert back == [each.counts.tolist() for each in made]


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_are_anything_but_a_payload_or_a_reason(text: bytes, wrapped: bool) -> None:
    """ValueError, with words, and nothing else."""
    try:
        payload.decode([payload.unpack(binascii.b2a_base64(text) if wrapped else text)])
    except ValueError as error:
        assert str(error)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(LOGS), st.data())
def test_a_log_with_any_damage_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, source: Path, data: st.DataObject
) -> None:
    """Cut, overwritten, repeated: a histogram, or one line that says why not. It neither hangs nor raises else."""
    text = bytearray(b"".join(source.read_bytes().splitlines(keepends=True)[:12]))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, max(len(text) - 1, 0)))
        piece = data.draw(st.one_of(st.binary(max_size=8), st.sampled_from([b"\n", b",", b"Tag=", b"#[StartTime: 1"])))
        text[at : at + data.draw(st.integers(0, 40))] = piece
    path = tmp_path_factory.getbasetemp() / "damaged.hlog"
    path.write_bytes(bytes(text))
    log = Log(path)

    try:
        found = log.histograms()
    except TracekitError as error:
        assert "\n" not in str(error)
        return

    apart = [histogram.count for _, histogram in log.intervals()]
    assert sum(each.count for each in found.values()) == sum(apart)
    assert all(each.quantile(0.5) <= each.high for each in found.values() if each.count)


@given(
    st.lists(
        st.tuples(st.floats(0, 1e6), st.floats(0, 1e4), st.sampled_from(["", "A", "x y,z"]), latencies), max_size=8
    ),
    st.integers(0, 2_000_000_000),
)
def test_a_log_reads_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float, str, list[int]]], start: int
) -> None:
    """Times to the ms, tags without what would end them, counts exactly."""
    layout = Layout(1, 1 << 46, 3)
    entries = [writer.Entry(at, length, tag, made_of(values, layout)) for at, length, tag, values in rows]
    path = tmp_path_factory.getbasetemp() / "written.hlog"
    path.write_text("\n".join(writer.log(start, "a test", entries)) + "\n", encoding="ascii")
    log = Log(path)

    back = list(log.intervals())

    assert log.skipped == []
    for (line, histogram), entry in zip(back, entries, strict=True):
        assert (line.offset, line.length) == pytest.approx((entry.offset, entry.length), abs=0.00051)
        assert line.tag == entry.tag.replace(" ", "%20").replace(",", "%2C")
        assert (histogram.counts == entry.histogram.counts).all()
