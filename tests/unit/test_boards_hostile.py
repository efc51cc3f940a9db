"""A process may lie on its board, and lay traps on the way to it; the collector goes on, and tells the truth."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.board_writer import Board, Target, slot_of
from tracekit.capture.probes import _DENIED as DENIED
from tracekit.capture.probes import Boards, opening, words
from tracekit.capture.probes.search import Search

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOBODY = 65534


@pytest.fixture
def target() -> Iterator[Callable[..., Target]]:
    """Return a function that starts a process."""
    started: list[Target] = []

    def start(*command: str, **how: object) -> Target:
        started.append(Target(*command, **how))
        return started[-1]

    yield start
    for process in started:
        process.end()


@pytest.fixture
def boards() -> Iterator[Boards]:
    """Return the boards of a recording that begins now."""
    found = Boards(lambda _tgid: "worker", time.monotonic_ns())
    yield found
    found.close()


def spans(boards: Boards) -> dict[str, int]:
    """Return the number of spans by name that are new."""
    return {series.label("span"): sum(slots.counts) for series, slots in boards.collect().histograms}


def losses(boards: Boards) -> dict[str, int]:
    return {loss.reason: loss.count for loss in boards.losses()}


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("size=BYTES // 2", "bytes"),
        ("size=BYTES * 2", "bytes"),
    ],
)
def test_a_board_of_another_size_is_refused(target: Callable[..., Target], boards: Boards, how: str, why: str) -> None:
    """What is not as large as a board is none, and is counted and named."""
    process = target()

    opened = boards.appeared(process.tgid, process.publish(how))

    assert not opened
    assert losses(boards) == {"probe": 1}
    assert why in boards.missing[0]


@pytest.mark.parametrize("seals", ["0", "fcntl.F_SEAL_SHRINK", "fcntl.F_SEAL_GROW"])
def test_a_board_that_could_shrink_is_never_mapped(target: Callable[..., Target], boards: Boards, seals: str) -> None:
    """To read beyond the end of a file is death: without its seals a board does not exist."""
    process = target()
    descriptor = process.publish(f"seals={seals}")
    process.do("board.span(b'x', 100)")

    opened = boards.appeared(process.tgid, descriptor)
    boards.scan([process.tgid])

    assert not opened
    assert spans(boards) == {}


@pytest.mark.parametrize("fields", ["version=2", "size=4096", "size=BYTES + 8"])
def test_a_board_of_another_version_is_refused(target: Callable[..., Target], boards: Boards, fields: str) -> None:
    """A board that says it is different is not read as if it were not."""
    process = target()
    descriptor = process.publish()
    process.do(f"board.header({fields})")

    assert not boards.appeared(process.tgid, descriptor)
    assert losses(boards) == {"probe": 1}


def test_another_process_s_board_is_not_taken(target: Callable[..., Target], boards: Boards) -> None:
    """A board says whose it is; one that was handed on counts for nobody else."""
    process = target()
    descriptor = process.publish()
    process.do("board.header(pid=1), board.span(b'x', 100)")

    assert not boards.appeared(process.tgid, descriptor)
    boards.scan([process.tgid])
    assert spans(boards) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root to be somebody else")
def test_another_user_s_board_is_not_taken(target: Callable[..., Target], boards: Boards) -> None:
    """What a stranger handed to a process of the target is refused: memory of another user's is not its word."""
    board = Board()
    os.fchown(board.descriptor, NOBODY, NOBODY)
    process = target(pass_fds=[board.descriptor])
    board.header(pid=process.tgid)
    board.span(b"x", 100)

    opened = boards.appeared(process.tgid, board.descriptor)

    os.close(board.descriptor)
    assert not opened
    assert "belongs to user 65534" in boards.missing[0]
    assert spans(boards) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root to stop being it")
def test_a_process_that_gave_up_root_keeps_its_board(target: Callable[..., Target], boards: Boards) -> None:
    """Its board belongs to root, who it was."""
    process = target()
    descriptor = process.publish()
    process.do("board.span(b'x', 100)")
    process.do(f"os.setuid({NOBODY})")

    assert boards.appeared(process.tgid, descriptor)
    assert spans(boards) == {"x": 1}


@pytest.mark.parametrize(
    "trap",
    [
        "os.mkfifo('FOLDER/memfd:tracekit') or os.open('FOLDER/memfd:tracekit', os.O_RDWR)",
        "os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY)",
        "os.open('FOLDER', os.O_RDONLY)",
        "os.open('FOLDER/tracekit (deleted)', os.O_RDWR | os.O_CREAT)",
        "os.pipe()[0]",
        "__import__('socket').socket().detach()",
    ],
)
def test_what_is_no_memfd_is_not_opened(
    target: Callable[..., Target], boards: Boards, trap: str, tmp_path: object
) -> None:
    """Pipes, devices, sockets and files behind a descriptor are left alone, and nothing waits for them."""
    process = target()
    descriptor = int(process.do(trap.replace("FOLDER", str(tmp_path))))
    began = time.monotonic()

    opened = boards.appeared(process.tgid, descriptor)

    assert not opened
    assert time.monotonic() - began < 1
    assert spans(boards) == {}


def test_a_lease_does_not_make_us_wait(target: Callable[..., Target], boards: Boards) -> None:
    """Who holds a lease on a file can hold up for 45 s whoever opens it: not us."""
    process = target()
    process.publish()
    process.do("__import__('signal').signal(29, lambda *_: None)")
    descriptor = int(process.do("os.open(f'/proc/self/fd/{board.descriptor}', os.O_RDWR)"))
    leased = process.do(f"fcntl.fcntl({descriptor}, fcntl.F_SETLEASE, fcntl.F_WRLCK)")
    began = time.monotonic()

    opened = boards.appeared(process.tgid, descriptor)
    boards.scan([process.tgid])

    assert time.monotonic() - began < 1
    assert leased == "0"
    assert not opened


def test_a_crowd_of_descriptors_is_not_all_looked_at(target: Callable[..., Target], boards: Boards) -> None:
    """A process with very many descriptors costs a bounded look, and a board that is found so is still read."""
    process = target()
    process.do("__import__('resource').setrlimit(7, (20_000, 20_000))")
    process.publish()
    process.do("board.span(b'x', 100), [os.dup(0) for _ in range(15_000)]")
    began = time.thread_time()

    found = list(opening.candidates(process.tgid))

    assert len(found) == 2  # mmap of CPython has a copy
    assert time.thread_time() - began < 0.5


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


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root to be somebody else")
def test_who_may_not_look_says_so(target: Callable[..., Target], boards: Boards) -> None:
    """A process that cannot be looked at may have a board or not: it is named, and no loss."""
    process = target()
    process.publish()

    def look() -> object:
        boards.scan([process.tgid, process.tgid + 1])
        return boards.missing, losses(boards)

    assert as_nobody(look) == repr((["spans of some processes: " + DENIED], {}))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root to be somebody else")
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
