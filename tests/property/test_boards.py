"""Whatever is written on a board, the collector neither fails nor counts backwards."""

from __future__ import annotations

import math
import os
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit import board_writer
from tests.unit.board_writer import Board
from tracekit.capture.probes import Boards, opening
from tracekit.recording import payload

TABLES = board_writer.LATENCIES_AT
WORDS = [0, 1, 255, 1 << 31, 1 << 36, 1 << 58, 1 << 61, 1 << 62, 1 << 63, (1 << 64) - 1]
LABELS = [b"", b"a=1\n", b"role=x\n", b"a=\xff\nb=\x1b[2J\n", b"=", b"\n\n"]

places = st.one_of(
    st.integers(0, 511),
    st.integers(0, TABLES - 1),
    st.integers(0, 5).map(lambda row: board_writer.KINDS_AT + 256 * row),
    st.integers(0, 5).map(lambda row: board_writer.ERRORS_AT + 64 * row),
    st.integers(0, 5).map(lambda row: board_writer.VALUES_AT + 256 * row),
    st.integers(TABLES, TABLES + 4 * board_writer.LATENCY_BYTES),
)
raw = st.one_of(st.binary(min_size=1, max_size=64), st.sampled_from(WORDS).map(lambda n: n.to_bytes(8, "little")))
corruption = st.tuples(st.just("write"), places, raw)
spans = st.tuples(st.just("span"), st.sampled_from([b"a", b"b", b"\xff\x1b"]), st.integers(0, 1 << 42))
labelled = st.tuples(st.just("kind"), st.binary(max_size=64), st.sampled_from(LABELS))
errors = st.tuples(st.just("error"), st.just(b"a"), st.binary(max_size=52))
values = st.tuples(st.just("value"), st.integers(0, 4), st.floats())
look = st.tuples(st.just("look"), st.just(0), st.just(0))
DURATIONS = [1, 20, 300, 1 << 42]
SLOTS = [board_writer.slot_of(duration) for duration in DURATIONS]
AT = [at for slot in SLOTS for at in (32 + 8 * (slot >> 4), 32 + 2304 + 8 * (slot >> 4), 32 + 4608 + 8 * slot)]
few = st.tuples(st.just("span"), st.just(b"a"), st.sampled_from(DURATIONS))
lies = st.tuples(st.just("lie"), st.sampled_from([8, 16, *AT]), st.sampled_from(WORDS))
steps = st.lists(st.one_of(corruption, spans, labelled, errors, values, look), max_size=60)
false = st.lists(st.tuples(st.booleans(), st.one_of(few, lies)), max_size=12)


def do(board: Board, what: str, first: object, second: object) -> None:
    if what == "write":
        end = min(first + len(second), len(board.memory))
        board.memory[first:end] = second[: end - first]
    elif what == "lie":
        board.put(board.latency_at(1) + first, second)
    elif what == "span":
        board.span(first, second, awaited=second % 2 == 1)
    elif what == "kind":
        board.kind(first, second)
    elif what == "error":
        board.error(first, second)
    elif what == "value":
        board.value(first, b"name", second)


def check(boards: Boards) -> None:
    """Everything can be stored, and nothing is below zero."""
    found = boards.collect()
    for _, slots in (*found.histograms, *boards.whole()):
        assert slots.slots == sorted(set(slots.slots))
        assert all(0 <= slot < board_writer.SLOTS for slot in slots.slots)
        assert all(count > 0 for count in slots.counts)
        payload.encode([("Q", [*slots.counts, slots.total, slots.low, slots.high])])
    assert all(math.isfinite(value) for _, value in found.values)
    assert all(value >= 0 for series, value in found.values if series.kind == "counter")
    assert all(0 <= awaited <= latency for latency, awaited in found.parts.values())
    assert all(0 < loss.count < 1 << 62 for loss in boards.losses())
    assert all(abs(facts.tls_offset) <= 64 << 20 and 0 <= facts.mode <= 3 for facts in boards.opened())


@settings(max_examples=150)
@given(steps)
def test_nothing_on_a_board_can_do_harm(steps: list[tuple[str, object, object]]) -> None:
    """Random bytes at any place, at any time between two looks, end rows, not the collector."""
    board, boards = Board(), Boards(lambda _tgid: "worker", time.monotonic_ns())
    boards.appeared(os.getpid(), board.descriptor)
    for what, first, second in steps:
        if what == "look":
            boards.scan([os.getpid()])
            check(boards)
        else:
            do(board, what, first, second)
    check(boards)
    boards.scan([])

    check(boards)

    assert len(boards) == 0
    boards.close()
    board.memory.close()
    os.close(board.descriptor)


@settings(max_examples=300)
@given(false)
def test_no_number_can_do_harm(steps: list[tuple[bool, tuple[str, object, object]]]) -> None:
    """A number that is another one at the next look ends its row, or is believed; never is it less than nothing."""
    board, boards = Board(), Boards(lambda _tgid: "worker", time.monotonic_ns())
    board.kind(b"a")
    boards.appeared(os.getpid(), board.descriptor)

    for looks, (what, first, second) in steps:
        do(board, what, first, second)
        if looks:
            check(boards)

    check(boards)
    boards.close()
    board.memory.close()
    os.close(board.descriptor)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 104), raw), min_size=1, max_size=8))
def test_a_header_of_any_bytes_is_opened_or_refused(changes: list[tuple[int, bytes]]) -> None:
    """There is no third way, and what is refused is not mapped."""
    board = Board()
    for at, more in changes:
        board.memory[at : at + len(more)] = more

    try:
        found = opening.open_board(os.getpid(), f"/proc/self/fd/{board.descriptor}")
    except (opening.NotReadyError, opening.NoBoardError):
        found = None

    if found:
        assert found.header.pid == os.getpid()
        found.memory.close()
    board.memory.close()
    os.close(board.descriptor)


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.integers(0, 1 << 43), st.booleans(), st.booleans())))
def test_each_span_is_counted_once(recorded: list[tuple[bytes, int, bool, bool]]) -> None:
    """However the looks fall between the spans, their sum is what was recorded."""
    board, boards = Board(), Boards(lambda _tgid: "worker", 0)
    boards.appeared(os.getpid(), board.descriptor)
    found = []
    for name, duration, awaited, look in recorded:
        board.span(name, duration, awaited=awaited)
        if look:
            found.append(boards.collect())
    boards.scan([])
    found.append(boards.collect())

    for name in (b"a", b"b"):
        mine = [(duration, awaited) for one, duration, awaited, _ in recorded if one == name]
        histograms = [s for each in found for series, s in each.histograms if series.label("span") == name.decode()]
        parts = [p for each in found for (series, _), p in each.parts.items() if series.label("span") == name.decode()]
        assert sum(sum(slots.counts) for slots in histograms) == len(mine)
        assert sum(slots.total for slots in histograms) == sum(duration for duration, _ in mine)
        assert sum(latency for latency, _ in parts) == sum(duration for duration, _ in mine)
        assert sum(waited for _, waited in parts) == sum(duration for duration, awaited in mine if awaited)
        assert [max(s.high for s in histograms)] == [max(d for d, _ in mine)] if mine else not histograms
    boards.close()
    board.memory.close()
    os.close(board.descriptor)
