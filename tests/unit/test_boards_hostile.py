"""A process may lay traps on the way to its board: none of them is taken, or waited for."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.unit.board_writer import Board, Target, losses, spans
from tests.unit.users import NOBODY
from tracekit.capture.probes import Boards, opening

if TYPE_CHECKING:
    from collections.abc import Callable


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
