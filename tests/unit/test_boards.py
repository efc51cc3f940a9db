"""What processes tell of their spans is found, and counted once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.unit.board_writer import Target, slot_of
from tracekit.capture.probes import Boards
from tracekit.records import Series

if TYPE_CHECKING:
    from collections.abc import Callable


def latency(span: str, role: str = "worker", **labels: str) -> Series:
    return Series("span.latency", tuple(sorted({"role": role, "span": span, **labels}.items())), "histogram", "ns")


def counts(collected: object, series: Series) -> dict[int, int]:
    slots = dict(collected.histograms)[series]
    return dict(zip(slots.slots, slots.counts, strict=True))


def test_spans_of_a_process_that_told_the_kernel(target: Callable[..., Target], boards: Boards) -> None:
    """Each span is counted once, in the slot of its latency; extremes and sums are exact."""
    process = target()
    descriptor = process.publish()
    process.do("board.span(b'evaluation', 1_000_003, 3), board.span(b'evaluation', 5_000_000)")

    opened = boards.appeared(process.tgid, descriptor)
    first = boards.collect()
    process.do("board.span(b'evaluation', 2_000_000, 2, awaited=True)")
    second = boards.collect()
    third = boards.collect()

    series = latency("evaluation")
    assert opened
    assert counts(first, series) == {slot_of(1_000_003): 3, slot_of(5_000_000): 1}
    assert dict(first.histograms)[series][2:] == (8_000_009, 1_000_003, 5_000_000)
    assert counts(second, series) == {slot_of(2_000_000): 2}
    assert dict(second.histograms)[series][2:] == (4_000_000, 0, 0)
    assert third.histograms == []
    assert first.parts == {
        (series, slot_of(1_000_003) >> 4): (3_000_009, 0),
        (series, slot_of(5_000_000) >> 4): (5_000_000, 0),
    }
    assert second.parts == {(series, slot_of(2_000_000) >> 4): (4_000_000, 4_000_000)}
    assert boards.losses() == []


def test_whole_is_the_sum_of_what_was_collected(target: Callable[..., Target], boards: Boards) -> None:
    """What `whole` says is what all intervals said together, processes that ended included."""
    one, two = target(), target()
    for process in (one, two):
        boards.appeared(process.tgid, process.publish())
    boards.scan([one.tgid, two.tgid])
    one.do("board.span(b'x', 100, 2)")
    boards.collect()
    one.do("board.span(b'x', 7000)")
    two.do("board.span(b'x', 100)")
    one.end()
    boards.scan([two.tgid])
    boards.collect()

    whole = dict(boards.whole())[latency("x")]

    assert dict(zip(whole.slots, whole.counts, strict=True)) == {100: 3, slot_of(7000): 1}
    assert whole[2:] == (7300, 100, 7000)


def test_equal_series_of_two_processes_add_up(target: Callable[..., Target], boards: Boards) -> None:
    """Spans, errors, counters and gauges of a role are the sums over its processes."""
    for number in (1, 2):
        process = target()
        boards.appeared(process.tgid, process.publish())
        process.do(f"board.span(b'x', 50, {number}), board.error(b'x', b'ValueError', {number})")
        process.do(f"board.value(COUNTER, b'tokens', {number}.5), board.value(GAUGE, b'depth', {number})")
        process.do("board.value(MARK, b'warm', 0)")

    found = boards.collect()

    assert counts(found, latency("x")) == {50: 3}
    values = {(series.metric, *series.labels): (series.kind, value) for series, value in found.values}
    worker = ("role", "worker")
    assert values == {
        ("span.errors", worker, ("span", "x"), ("type", "ValueError")): ("counter", 3),
        ("app.tokens", worker): ("counter", 4.0),
        ("app.depth", worker): ("gauge", 3.0),
        ("mark", ("mark", "warm"), worker): ("counter", 2),
    }


def test_a_gauge_is_sampled_at_each_tick_while_its_process_lives(target: Callable[..., Target], boards: Boards) -> None:
    """A gauge that did not change is still a sample; that of a process that ended is none."""
    process = target()
    boards.appeared(process.tgid, process.publish())
    process.do("board.value(GAUGE, b'depth', 7)")

    living = [boards.collect().values for _ in range(2)]
    process.end()
    boards.scan([])
    after = boards.collect().values

    assert [[value for _, value in found] for found in living] == [[7.0], [7.0]]
    assert after == []


def test_labels_of_a_kind_are_labels_of_its_series(target: Callable[..., Target], boards: Boards) -> None:
    """Kinds of one name and different labels are different series; kind ids lead to them."""
    process = target()
    boards.appeared(process.tgid, process.publish())
    process.do("board.span(b'db.query', 80, labels=b'system=postgresql\\n')")

    found = boards.collect()

    series = latency("db.query", system="postgresql")
    assert counts(found, series) == {80: 1}
    kind = next(kind for kind in boards.kinds.values() if kind.name == "db.query")
    assert boards.latency_series(kind.id, "worker") == series
    assert boards.latency_series(12345, "worker") is None


def test_what_is_older_than_the_recording_does_not_count(target: Callable[..., Target]) -> None:
    """Of a process that was there already, only what it adds is counted."""
    process = target()
    process.publish()
    process.do("board.span(b'x', 100, 1000), board.error(b'x', b'E', 9), board.value(COUNTER, b'c', 5)")
    process.do("board.value(MARK, b'ready', 0, first=time.monotonic_ns())")
    time.sleep(0.02)  # /proc tells start times in units of 10 ms
    boards = Boards(lambda _tgid: "worker", time.monotonic_ns())

    boards.scan([process.tgid])
    before = boards.collect()
    process.do("board.span(b'x', 100, 2), board.error(b'x', b'E'), board.value(COUNTER, b'c', 7)")
    after = boards.collect()

    assert (before.histograms, boards.ready()) == ([], [])
    assert [(series.metric, value) for series, value in before.values] == [("app.c", 0)]
    assert counts(after, latency("x")) == {100: 2}
    assert sorted(value for _, value in after.values) == [1, 2]
    boards.close()


def test_a_counter_that_did_not_move_is_there(target: Callable[..., Target], boards: Boards) -> None:
    """No violation was counted: that is an answer, once."""
    process = target()
    boards.appeared(process.tgid, process.publish())
    process.do("board.value(COUNTER, b'c', 0)")

    first, second = boards.collect(), boards.collect()

    assert [(series.metric, value) for series, value in first.values] == [("app.c", 0)]
    assert second.values == []


def test_a_board_made_after_the_attach_counts_whole(target: Callable[..., Target]) -> None:
    """An old process that begins to use spans is found by later looks, and loses none."""
    process = target()
    time.sleep(0.02)
    boards = Boards(lambda _tgid: "worker", time.monotonic_ns())
    boards.scan([process.tgid])
    process.publish()
    process.do("board.span(b'x', 100, 5)")

    for _ in range(2):
        boards.scan([process.tgid])

    assert counts(boards.collect(), latency("x")) == {100: 5}
    boards.close()


def test_the_last_counts_of_a_process_are_kept(target: Callable[..., Target], boards: Boards) -> None:
    """What a process counted between the last tick and its end is not lost, and its memory is let go."""
    process = target()
    boards.appeared(process.tgid, process.publish())
    boards.scan([process.tgid])
    boards.collect()
    process.do("board.span(b'x', 0, 3), board.span(b'x', 100)")
    process.end()

    boards.scan([])
    found = boards.collect()

    assert counts(found, latency("x")) == {0: 3, 100: 1}
    assert len(boards) == 0
    assert boards.collect().histograms == []
    assert boards.losses() == []


def test_a_board_that_is_not_ready_is_tried_again(target: Callable[..., Target], boards: Boards) -> None:
    """The kernel's word may come before the board is whole: the next tick finds it."""
    process = target()
    descriptor = process.publish("ready=False")
    process.do("board.span(b'x', 100)")

    early = boards.appeared(process.tgid, descriptor)
    boards.scan([process.tgid])
    process.do("board.ready()")
    boards.scan([process.tgid])

    assert not early
    assert counts(boards.collect(), latency("x")) == {100: 1}
    assert boards.losses() == []


def test_a_process_that_ended_before_its_board_was_read_is_a_loss(
    target: Callable[..., Target], boards: Boards
) -> None:
    """It is counted once, whatever the kernel said how often."""
    process = target()
    descriptor = process.publish()
    process.end()

    opened = [boards.appeared(process.tgid, descriptor) for _ in range(3)]

    assert opened == [False] * 3
    assert [(loss.reason, loss.count) for loss in boards.losses()] == [("probe", 1)]


def test_a_child_has_no_board_before_its_first_span(target: Callable[..., Target], boards: Boards) -> None:
    """What a fork left in the child's descriptors is its parent's, and counts once."""
    process = target()
    process.publish()
    process.do("board.span(b'x', 100)")
    child = int(process.do("globals().__setitem__('child', os.fork()) or child or time.sleep(99)"))

    boards.scan([child])
    of_child = boards.collect()
    boards.scan([child, process.tgid])
    of_both = boards.collect()

    process.do(f"os.kill({child}, 9)")
    assert of_child.histograms == []
    assert counts(of_both, latency("x")) == {100: 1}
    assert boards.losses() == []


def test_a_program_that_is_executed_has_its_own_board(target: Callable[..., Target], boards: Boards) -> None:
    """One process, two programs: both boards count, each once."""
    process = target()
    boards.appeared(process.tgid, process.publish())
    process.do("board.span(b'x', 100)")
    boards.scan([process.tgid])

    process.do("board.span(b'x', 200)")
    process.publish()
    descriptor = int(process.do("board.descriptor"))
    process.do("board.span(b'y', 300)")
    opened = boards.appeared(process.tgid, descriptor)
    found = boards.collect()
    process.do("board.span(b'y', 400)")
    later = boards.collect()

    assert opened
    assert counts(found, latency("x")) == {100: 1, slot_of(200): 1}
    assert counts(found, latency("y")) == {slot_of(300): 1}
    assert counts(later, latency("y")) == {slot_of(400): 1}


def test_the_role_is_the_last_one_known(target: Callable[..., Target]) -> None:
    """A process that has gone has no name any more; what it counted last belongs to the one it had."""
    process = target()
    roles = {process.tgid: "worker"}
    boards = Boards(lambda tgid: roles.get(tgid, ""), time.monotonic_ns())
    boards.appeared(process.tgid, process.publish())
    process.do("board.span(b'x', 100)")
    process.end()
    roles.clear()

    boards.scan([])

    assert counts(boards.collect(), latency("x")) == {100: 1}


def test_ready_is_told_once(target: Callable[..., Target], boards: Boards) -> None:
    """The mark `ready` says when a process was ready."""
    process = target()
    boards.appeared(process.tgid, process.publish())
    at = int(process.do("globals().__setitem__('at', time.monotonic_ns()) or at"))
    process.do("board.value(MARK, b'ready', 0, first=at), board.value(MARK, b'ready', 0, first=at)")

    boards.collect()
    told = [boards.ready() for _ in range(2)]

    assert told == [[(process.tgid, at)], []]


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ("mode=1, offset=-4096", (1, -4096, 0, 0, 0)),
        ("mode=2, offset=16, module=3", (2, 16, 3, 0, 0)),
        ("mode=3, threads=0x7f0000001000", (3, 0, 0, 0x7F0000001000, 1023)),
        ("mode=1, offset=-(1 << 40)", (0, 0, 0, 0, 0)),
        ("mode=1, offset=-4097", (0, 0, 0, 0, 0)),
        ("mode=2, offset=16, module=0", (0, 0, 0, 0, 0)),
        ("mode=2, offset=16, module=1 << 40", (0, 0, 0, 0, 0)),
        ("mode=3, threads=1 << 63", (0, 0, 0, 0, 0)),
        ("mode=77", (0, 0, 0, 0, 0)),
    ],
)
def test_facts_for_the_kernel_make_sense(
    target: Callable[..., Target], boards: Boards, fields: str, found: tuple[int, ...]
) -> None:
    """Where a thread's span is found is told once, and as `nowhere` if it cannot be true."""
    process = target()
    descriptor = process.publish()
    process.do(f"board.header({fields})")

    boards.appeared(process.tgid, descriptor)

    (facts,) = boards.opened()
    assert (facts.mode, facts.tls_offset, facts.tls_module, facts.threads_at, facts.mask) == found
    assert facts.tgid == process.tgid
    assert boards.opened() == []


def test_a_daemon_that_closed_its_descriptors_is_found(target: Callable[..., Target], boards: Boards) -> None:
    """Its board is still mapped: the kernel has the way to it in map_files."""
    process = target()
    process.publish()
    process.do("board.span(b'x', 100), os.closerange(3, 64)")

    boards.scan([process.tgid])

    assert counts(boards.collect(), latency("x")) == {100: 1}
