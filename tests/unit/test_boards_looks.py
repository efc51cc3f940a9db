"""Looking at boards of processes that come, hide and end: nothing of theirs is held, and nobody is forgotten."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tests.unit.board_writer import Target, losses, slot_of, spans
from tests.unit.users import NOBODY, root_only
from tracekit.capture.probes import _DENIED as DENIED
from tracekit.capture.probes import Boards, opening
from tracekit.capture.probes.search import Search

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def test_the_other_kind_is_read_when_it_is_used(target: Callable[..., Target], boards: Boards) -> None:
    """Spans that found no row are counted as <other>; a kind cannot take that name to hide."""
    process = target()
    descriptor = process.publish()
    boards.appeared(process.tgid, descriptor)
    boards.collect()

    process.do("board.span(b'<other>', 1000, 7), board.header(lost_kinds=7)")

    assert spans(boards) == {"<other>": 7}


def test_a_look_allocates_no_memory_of_the_target(target: Callable[..., Target], boards: Boards) -> None:
    """A board is sparse: reading it does not fill the holes."""
    process = target()
    descriptor = process.publish()
    process.do("board.span(b'x', 1000), board.span(b'y', 10**9)")
    boards.appeared(process.tgid, descriptor)
    before = int(process.do("os.fstat(board.descriptor).st_blocks"))

    for _ in range(3):
        boards.collect()
        process.do("board.span(b'x', 1000)")
    boards.scan([])
    boards.collect()

    after = int(process.do("os.fstat(board.descriptor).st_blocks"))
    assert slot_of(10**9) > 2000
    assert (after - before) * 512 <= 5 * 4096  # the tables of errors and values, and the first slots


def test_a_board_is_let_go_with_its_process(target: Callable[..., Target], boards: Boards) -> None:
    """No descriptor is kept for a board, and no mapping after the end."""

    def mappings() -> int:
        return Path("/proc/self/maps").read_text().count("/memfd:tracekit")

    process = target()
    before, mapped = len(list(Path("/proc/self/fd").iterdir())), mappings()
    boards.appeared(process.tgid, process.publish())
    held = len(list(Path("/proc/self/fd").iterdir())) - before, mappings() - mapped
    process.end()
    boards.scan([])
    boards.collect()

    assert held == (0, 1)
    assert mappings() == mapped


def test_more_boards_than_there_is_room_for_are_a_loss(
    target: Callable[..., Target], boards: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of mappings is bounded; what is not read is counted."""
    monkeypatch.setattr("tracekit.capture.probes.MOST_BOARDS", 1)
    one, two = target(), target()

    opened = [boards.appeared(process.tgid, process.publish()) for process in (one, two)]

    assert opened == [True, False]
    assert losses(boards) == {"probe": 1}


def as_nobody(work: Callable[[], object]) -> str:
    """Return what *work* gives in a process of another user."""
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setuid(NOBODY)
            os.write(tell, repr(work()).encode())
        finally:
            os._exit(0)
    os.close(tell)
    os.waitpid(child, 0)
    with os.fdopen(told) as answer:
        return answer.read()


DUMPABLE = "__import__('ctypes').CDLL(None).prctl(4, {})"


@root_only
def test_who_may_not_look_says_so(target: Callable[..., Target], boards: Boards) -> None:
    """A process that cannot be looked at may have a board or not: it is named, and no loss."""
    process = target()
    process.publish()

    def look() -> object:
        boards.scan([process.tgid, process.tgid + 1])
        return boards.missing, losses(boards)

    assert as_nobody(look) == repr((["spans of some processes: " + DENIED], {}))


@root_only
def test_a_process_that_hides_is_read_on(target: Callable[..., Target], boards: Boards) -> None:
    """What is mapped stays readable when its process may not be looked at any more."""
    process = target()
    process.do(f"os.setuid({NOBODY})")
    process.do(DUMPABLE.format(1))
    process.publish()
    process.do("board.span(b'x', 100)")

    def look() -> object:
        boards.scan([process.tgid])
        first = spans(boards)
        process.do(DUMPABLE.format(0) + ", board.span(b'x', 100, 5)")
        for _ in range(3):
            boards.scan([process.tgid])
        return first, spans(boards), losses(boards), boards.missing

    assert as_nobody(look) == repr(({"x": 1}, {"x": 5}, {}, []))


def test_a_process_that_is_ending_is_not_missed(target: Callable[..., Target]) -> None:
    """A zombie's descriptors are root's: that is no lack of permission."""
    process = target()
    alive = opening.is_ending(process.tgid)
    process.process.kill()
    os.waitid(os.P_PID, process.tgid, os.WEXITED | os.WNOWAIT)

    assert (alive, opening.is_ending(process.tgid)) == (False, True)


def test_looks_become_seldom() -> None:
    """Who has no board is looked at after 1, 2, 4... ticks, and then every 64."""
    found = Search()
    ticks = []
    for tick in range(200):
        for tgid in found.tick([1]):
            ticks.append(tick)
            found.looked_at(tgid)

    assert ticks == [0, 1, 3, 7, 15, 31, 63, 127, 191]


def test_who_was_not_looked_at_is_first_the_next_time() -> None:
    """Where the time of a tick does not suffice, nobody is forgotten."""
    found = Search()
    looked: list[int] = []
    for tick in range(6):
        for tgid in found.tick(range(10 + 10 * tick))[:20]:
            looked.append(tgid)
            found.looked_at(tgid)

    assert set(looked) >= set(range(30))
    assert found.tick([]) == []
