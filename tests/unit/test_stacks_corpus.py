"""Stacks of every CPython that was kept: of many that are not on this machine."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.corpus.kept import FILES, Kept, Memory, load
from tests.corpus.walker import Walker
from tests.unit.pythons import PYTHONS
from tracekit.capture.stacks.interpreter import Interpreter, UnknownPythonError
from tracekit.capture.stacks.layout import MAX_PYTHON_FRAMES
from tracekit.capture.stacks.offsets import SAID, TABLE
from tracekit.capture.stacks.threads import End, walk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tracekit.capture.stacks.memory import Piece

WILD = [0x10, (1 << 64) - 8, 1 << 46, 1 << 63]


class Replayed:
    """A kept process, of which memory may be changed."""

    def __init__(self, kept: Kept, walker: Walker) -> None:
        self.kept, self.walker = kept, walker
        self.memory = Memory(kept.pieces)
        found = kept.find(self.memory.read)
        assert found
        self.interpreter: Interpreter = found
        self.at = found.offsets

    def pointer(self, address: int) -> int:
        (content,) = self.memory.read(0, [(address, 8)])
        assert content
        return int.from_bytes(content, "little")

    def write(self, address: int, word: int) -> None:
        self.memory = self.memory.changed({address: word.to_bytes(8, "little")})

    @property
    def head(self) -> int:
        return self.pointer(self.interpreter.interpreters)

    @property
    def first_thread(self) -> int:
        return self.pointer(self.head + self.at.interpreter_threads)

    @property
    def top(self) -> int:
        """Where the first thread in the list has its top frame."""
        top = self.first_thread + self.at.thread_frame
        return self.pointer(top) + self.at.cframe_frame if self.has_cframes else top

    @property
    def has_cframes(self) -> bool:
        return self.interpreter.minor in (11, 12)

    def words(self, pointer: int) -> tuple[list[int], int]:
        """Return what the walker of the kernel says of a thread."""
        return self.walker.words(self.interpreter.packed(), pointer, self.memory.read)


_load = cache(load)


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> Walker:
    return Walker(tmp_path_factory.mktemp("walker"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def replayed(request: pytest.FixtureRequest, walker: Walker) -> Replayed:
    return Replayed(_load(request.param), walker)


def test_every_version_was_kept():
    """Those of which the offsets are in a table here, and one that says them itself."""
    kept = [_load(file) for file in FILES]

    found = [each.find(Memory(each.pieces).read) for each in kept]

    assert {each.minor for each in found if each} >= set(TABLE) | {min(SAID)}


def test_files_are_small():
    """They are in every clone."""
    assert all(file.stat().st_size < 60_000 for file in FILES)


def test_a_cpython_is_added_by_one_command(tmp_path: Path):
    """What it writes says the same as what it was made of: it fails else."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.corpus.capture", PYTHONS[0], tmp_path / "new.xz"],
        check=False,
        capture_output=True,
        text=True,
        cwd=FILES[0].parents[2],
    )

    assert done.returncode == 0, done.stderr
    assert set(load(tmp_path / "new.xz").threads) == set(_load(FILES[0]).threads)


def test_frames_are_what_the_process_said(replayed: Replayed):
    """Function, file and line of every frame of every thread."""
    assert replayed.kept.shown(replayed.memory.read) == replayed.kept.truth


def test_the_walker_of_the_kernel_sees_the_same(replayed: Replayed):
    """Word by word: marks, and where it is cut, included."""
    walked = walk(0, replayed.interpreter, MAX_PYTHON_FRAMES, reader=replayed.memory.read)

    for scenario, (thread, _) in replayed.kept.threads.items():
        words, end = replayed.words(thread)
        stack = walked.stacks[thread]
        assert end == stack.end == (End.CUT if scenario == "deep" else End.WHOLE)
        assert words == (stack.words[: len(words)] if end == End.CUT else stack.words), scenario
        assert len(words) >= (MAX_PYTHON_FRAMES - 1 if end == End.CUT else 3)


def test_a_walker_may_read_many_frames_at_a_time(replayed: Replayed):
    """What lies between the frames was kept, too, from 3.11 on: there they lie one behind the other."""
    read: list[Piece] = []

    def reader(pid: int, pieces: Sequence[Piece]) -> list[bytes | None]:
        found = replayed.memory.read(pid, pieces)
        read.extend(piece for piece, content in zip(pieces, found, strict=True) if content is not None)
        return found

    for thread, _ in replayed.kept.threads.values():
        read.clear()
        replayed.walker.words(replayed.interpreter.packed(), thread, reader)
        assert (max(size for _, size in read) > 128) == (replayed.interpreter.minor >= 11)


@pytest.mark.parametrize("where", [*WILD, 0])
def test_frames_that_lead_nowhere_or_back(replayed: Replayed, where: int):
    """The thread says so, to both walkers, or is cut; all others are whole. 0 stands for the frame itself."""
    second = replayed.pointer(replayed.pointer(replayed.top) + replayed.at.frame_back)
    replayed.write(second + replayed.at.frame_back, where or second)
    torn = replayed.pointer(replayed.first_thread + replayed.at.thread_id)

    walked = walk(0, replayed.interpreter, reader=replayed.memory.read)
    words, end = replayed.words(torn)

    assert [thread for thread, stack in walked.stacks.items() if stack.end != End.WHOLE] == [torn]
    seen = walked.stacks[torn]
    assert (end, seen.end) == (End.UNREADABLE if where else End.CUT, End.UNREADABLE)
    assert (words if where else words[: len(seen.words)]) == seen.words


@pytest.mark.parametrize("where", [*WILD, 0])
def test_a_thread_about_to_enter_the_interpreter(replayed: Replayed, where: int):
    """From 3.11 to 3.12 it has linked a cframe that is not filled yet: both walkers begin from the one around it."""
    thread = replayed.pointer(replayed.first_thread + replayed.at.thread_id)
    before, _ = replayed.words(thread)
    replayed.write(replayed.top, where)

    seen = walk(0, replayed.interpreter, reader=replayed.memory.read).stacks[thread]

    assert replayed.words(thread) == (seen.words, seen.end)
    if replayed.has_cframes:
        assert seen.end == End.WHOLE
        assert 3 <= len(seen.words) < len(before)
        assert seen.words == before[-len(seen.words) :]
    else:
        assert (seen.words, seen.end) == ([], End.UNREADABLE if where else End.STARTING)


@pytest.mark.parametrize("where", [*WILD, 0])
def test_threads_that_lead_nowhere_or_back(replayed: Replayed, where: int):
    """An error is counted; those before it are walked, and so are they by the kernel's walker."""
    first, second = replayed.first_thread, replayed.pointer(replayed.first_thread + replayed.at.thread_next)
    replayed.write(second + replayed.at.thread_next, where or first)

    walked = walk(0, replayed.interpreter, reader=replayed.memory.read)

    assert (len(walked.stacks), walked.errors) == (2, 1)
    for thread, _ in replayed.kept.threads.values():
        known = walked.stacks.get(thread)
        assert replayed.words(thread) == ((known.words, known.end) if known else ([], 0))


@pytest.mark.parametrize("where", [*WILD, 0])
def test_interpreters_that_lead_nowhere_or_back(replayed: Replayed, where: int):
    """As above; and nobody says that it is a CPython that can be read."""
    replayed.write(replayed.head + replayed.at.interpreter_next, where or replayed.head)

    walked = walk(0, replayed.interpreter, reader=replayed.memory.read)

    assert (len(walked.stacks), walked.errors) == (len(replayed.kept.threads) + 1, 1)  # and the main thread
    with pytest.raises(UnknownPythonError, match="threads are not where"):
        replayed.kept.find(replayed.memory.read)


def test_offsets_that_are_not_aligned(replayed: Replayed):
    """An interpreter from 3.13 on tells its offsets, and any of them may be any number."""
    runtime = replayed.interpreter.interpreters - replayed.at.head
    for number in range(3, 3 + sum(section.words for section in SAID[min(SAID)])):
        replayed.memory = Memory(replayed.kept.pieces)
        replayed.write(runtime + 8 * number, 75)
        with suppress(UnknownPythonError):
            found = replayed.kept.find(replayed.memory.read)
            assert found is None or walk(0, found, reader=replayed.memory.read)
