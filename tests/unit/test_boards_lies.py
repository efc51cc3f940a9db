"""A process may write what it likes on its board: names and numbers that cannot be are refused, and counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.board_writer import Target, losses, spans
from tracekit.capture.probes import Boards, words

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_name_is_shown_as_text_whatever_is_in_it(target: Callable[..., Target], boards: Boards) -> None:
    """Bytes that are no UTF-8 become escapes; control characters and HTML stay in the data, for printing to escape."""
    process = target()
    boards.appeared(process.tgid, process.publish())
    process.do(r"board.span(b'\x1b[31m<b>\xff\nx', 100), board.span(b'n' * 64, 100)")
    process.do(r"board.span(b'labels', 100, labels=b'a=\x1b]0;\xfe<i>\nb=x=y\n')")

    found = {series.labels for series, _ in boards.collect().histograms}

    worker = ("role", "worker")
    assert found == {
        (worker, ("span", "\x1b[31m<b>\\xff\nx")),
        (worker, ("span", "n" * 64)),
        (("a", "\x1b]0;\\xfe<i>"), ("b", "x=y"), worker, ("span", "labels")),
    }


@pytest.mark.parametrize(
    "labels",
    [
        rb"role=other\n",
        rb"span=other\n",
        rb"type=x\n",
        rb"a=1\na=2\n",
        rb"b=1\na=2\n",
        rb"a=1",
        rb"=1\n",
        rb"A=1\n",
        rb"a b=1\n",
        rb"a\n\n",
        rb"\n",
    ],
)
def test_labels_that_are_not_its_own_to_give_are_refused(
    target: Callable[..., Target], boards: Boards, labels: bytes
) -> None:
    """A kind cannot claim a role, another name, or two values for one label; other rows are still read."""
    process = target()
    boards.appeared(process.tgid, process.publish())
    process.do(f"board.span(b'bad', 100, labels=b'{labels.decode()}'), board.span(b'good', 100)")
    process.do(f"board.value(COUNTER, b'bad', 1, labels=b'{labels.decode()}')")

    found = boards.collect()

    assert {series.label("span") for series, _ in found.histograms} == {"good"}
    assert found.values == []
    assert losses(boards) == {"probe_rows": 2}


def test_an_id_that_is_not_that_of_the_text_is_refused(target: Callable[..., Target], boards: Boards) -> None:
    """Names are what their ids say: nobody gives another name to a kind that others use."""
    honest, liar = target(), target()
    for process in (honest, liar):
        boards.appeared(process.tgid, process.publish())
    honest.do("board.span(b'evaluation', 100)")
    boards.collect()
    (ident,) = [kind.id for kind in boards.kinds.values() if kind.name == "evaluation"]
    liar.do(f"board.kind(b'nonsense', b'', {ident}), board.span(b'nonsense', 100)")

    found = spans(boards)

    assert found == {}
    assert boards.kinds[ident].name == "evaluation"
    assert losses(boards) == {"probe_rows": 1}


def test_of_two_texts_with_one_id_the_first_stands(boards: Boards, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds two texts of equal id confuses nobody but himself."""
    from tracekit.capture.probes.rows import Kind

    found = words.Words()

    assert found.accept(Kind(7, "one", ()))
    assert not found.accept(Kind(7, "two", ()))
    assert found.kinds[7].name == "one"


def test_names_without_end_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that makes up kinds and roles does not fill the collector's memory."""
    from tracekit.capture.probes.rows import Kind

    monkeypatch.setattr(words, "MOST_KINDS", 3)
    monkeypatch.setattr(words, "MOST_SERIES", 2)
    found = words.Words()

    accepted = [found.accept(Kind(number, str(number), ())) for number in range(1, 5)]
    series = [found.series(Kind(1, "1", ()), str(role)) for role in range(4)]

    assert accepted == [True, True, False, False]
    assert [len(one) for one in series] == [1, 1, 0, 0]
    assert found.crowded == 2


def test_rows_beyond_the_tables_are_not_read(target: Callable[..., Target], boards: Boards) -> None:
    """A header that counts more rows than there are leads nowhere."""
    process = target()
    descriptor = process.publish()
    process.do("board.span(b'x', 100), board.error(b'x', b'E'), board.value(COUNTER, b'c', 1)")
    process.do("board.header(kinds=0xffffffff, errors=0xffffffff, values=0xffffffff)")

    boards.appeared(process.tgid, descriptor)
    found = boards.collect()

    assert [sum(slots.counts) for _, slots in found.histograms] == [1]
    assert [value for _, value in found.values] == [1, 1]


@pytest.mark.parametrize(
    "lie",
    [
        "board.put(board.latency_at(1) + 32 + 2 * 2304 + 8 * 100, (1 << 64) - 1)",
        "board.put(board.latency_at(1) + 32 + 2 * 2304 + 8 * 100, 0)",
        "board.put(board.latency_at(1) + 32 + 8 * 6, (1 << 64) - 1)",
        "board.put(board.latency_at(1) + 32 + 8 * 6, 1 << 61)",
        "board.put(board.latency_at(1) + 32 + 8 * 6, 1)",
        "board.put(board.latency_at(1) + 32 + 2304 + 8 * 6, (1 << 64) - 1)",
        "board.put(board.latency_at(1) + 32 + 8 * 287, (1 << 64) - 1)",
    ],
)
def test_numbers_that_cannot_be_end_their_row(target: Callable[..., Target], boards: Boards, lie: str) -> None:
    """A count that falls, or that nothing could have reached, is refused with its kind; the other kinds go on."""
    process = target()
    boards.appeared(process.tgid, process.publish())
    process.do("board.span(b'bad', 100, 5), board.span(b'good', 100)")
    boards.collect()

    process.do(f"board.span(b'bad', 101, 1), board.span(b'good', 100), {lie}")
    first = spans(boards)
    process.do("board.span(b'bad', 100), board.span(b'good', 100)")
    second = spans(boards)

    assert (first, second) == ({"good": 1}, {"good": 1})
    assert losses(boards) == {"probe_rows": 1}


def test_a_sum_that_nears_its_end_ends_its_row(target: Callable[..., Target], boards: Boards) -> None:
    """Steps that are each believed do not lead beyond the 64 bits, where a sum would begin anew."""
    process = target()
    boards.appeared(process.tgid, process.publish())
    process.do("board.span(b'x', 100)")
    boards.collect()

    believed = 0
    while process.do("board.add(board.latency_at(1) + 32 + 8 * 6, 1 << 57)") and boards.collect().parts:
        believed += 1

    assert believed == 31
    assert losses(boards) == {"probe_rows": 1}


def test_extremes_that_no_slot_knows_are_not_told(target: Callable[..., Target], boards: Boards) -> None:
    """The smallest and largest value are believed only where the slots agree."""
    process = target()
    boards.appeared(process.tgid, process.publish())
    process.do("board.span(b'x', 100), board.put(board.latency_at(1) + 8, 3)")
    process.do("board.put(board.latency_at(1) + 16, (1 << 64) - 1)")

    ((_, slots),) = boards.collect().histograms

    assert (slots.slots, slots.low, slots.high) == ([100], 0, 0)


@pytest.mark.parametrize("value", ["float('nan')", "float('inf')", "-float('inf')", "1e301"])
@pytest.mark.parametrize("what", ["COUNTER", "GAUGE"])
def test_values_that_are_no_numbers_are_refused(
    target: Callable[..., Target], boards: Boards, what: str, value: str
) -> None:
    """NaN, infinity and what would become it in a sum end their row."""
    process = target()
    boards.appeared(process.tgid, process.publish())
    process.do(f"board.value({what}, b'x', {value})")

    assert boards.collect().values == []
    assert losses(boards) == {"probe_rows": 1}


def test_a_counter_that_falls_is_refused(target: Callable[..., Target], boards: Boards) -> None:
    """A counter only grows, and so does the number of errors."""
    process = target()
    boards.appeared(process.tgid, process.publish())
    process.do("board.value(COUNTER, b'x', 5), board.error(b'x', b'E', 5)")
    boards.collect()
    process.do("board.value(COUNTER, b'x', 4), board.error(b'x', b'E', -1)")

    assert boards.collect().values == []
    assert losses(boards) == {"probe_rows": 2}


def test_sums_of_many_lies_are_still_numbers_that_can_be_stored() -> None:
    """Each lie for itself is small enough to be believed; together they go beyond 64 bits, and are cut there."""
    from tracekit.capture.probes.latency import Gain
    from tracekit.capture.probes.sums import Sum, Whole

    huge = 1 << 61
    total, whole = Sum(), Whole()
    for _ in range(20):
        total.add(Gain({0: huge | 5 << 64, 1: huge << (64 * 127)}, huge | 7 << 64, huge, 0, 0))
    slots = total.slots()
    for _ in range(3):
        whole.add(slots)

    most = (1 << 63) - 1
    assert (slots.slots, slots.counts, slots.total) == ([0, 1, 255], [most, 100, most], most)
    assert list(total.parts()) == [(0, most, most), (1, 140, 0)]
    assert (whole.slots().counts, whole.slots().total) == ([most, 300, most], most)


def test_lost_counts_that_are_huge_or_fall_make_sense(target: Callable[..., Target], boards: Boards) -> None:
    """What a process says it lost only grows, and fits into the recording."""
    process = target()
    descriptor = process.publish()
    boards.appeared(process.tgid, descriptor)

    process.do("board.header(lost_errors=(1 << 64) - 1, lost_values=(1 << 64) - 1)")
    first = losses(boards)["probe_room"]
    process.do("board.header(lost_errors=0)")
    second = losses(boards)["probe_room"]

    assert first == second == 1 << 48
