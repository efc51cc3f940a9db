"""Memory of every CPython that was kept, with any of its words changed: as a hostile process would, or a torn read."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.kept import CWD, FILES, Kept, Memory, load
from tests.corpus.walker import Walker
from tracekit.capture.stacks import offsets
from tracekit.capture.stacks.code import UNREADABLE, Codes
from tracekit.capture.stacks.interpreter import Interpreter, UnknownPythonError
from tracekit.capture.stacks.layout import MAX_PYTHON_FRAMES, PYTHON_ENTERED, PYTHON_UNIT_BITS
from tracekit.capture.stacks.threads import End, Walked, walk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tracekit.capture.stacks.memory import Piece

MOST_PIECES = 200_000
"""A walk of untouched memory reads a hundredth of them."""
MOST_CALLS = 2 * 512 * 4 + 4 * 128
"""Of the kernel's walker: threads of four interpreters, and two walks."""


class Watched:
    """Reads memory, and tells of what."""

    def __init__(self, memory: Memory, most: int) -> None:
        self._memory, self._most = memory, most
        self.pieces: list[Piece] = []
        self.refused = 0
        """Pieces that cannot be read, though it was no null pointer that led there."""

    def read(self, pid: int, pieces: Sequence[Piece]) -> list[bytes | None]:
        self.pieces += pieces
        assert len(self.pieces) <= self._most, "it has no end"
        found = self._memory.read(pid, pieces)
        self.refused += sum(
            content is None and address >= 4096 for content, (address, _) in zip(found, pieces, strict=True)
        )
        return found


class Process:
    """A kept process, and where changes of its memory would be seen."""

    def __init__(self, kept: Kept) -> None:
        self.kept, self.memory = kept, Memory(kept.pieces)
        watched = Watched(self.memory, MOST_PIECES)
        kept.shown(watched.read)
        found = kept.find(self.memory.read)
        assert found
        self.interpreter: Interpreter = found
        self.words = sorted({word for at, size in watched.pieces for word in range(at & ~7, at + size - 7, 8)})
        self.links = [word for word in self.words if self._is_link(word)]
        """Words that lead to others."""
        runtime = found.interpreters - found.offsets.head
        self.told = range(runtime, runtime + offsets.SAID_BYTES, 8)
        """Words that may tell its offsets."""
        self.starts = sorted({at for at, _ in watched.pieces})

    def _is_link(self, address: int) -> bool:
        (content,) = self.memory.read(0, [(address, 8)])
        return content is not None and self.memory.read(0, [(int.from_bytes(content, "little"), 8)]) != [None]


@functools.cache
def process(path: Path) -> Process:
    return Process(load(path))


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> Walker:
    return Walker(tmp_path_factory.mktemp("walker"))


@st.composite
def changed(draw: st.DrawFn) -> tuple[Process, Memory]:
    """Return a process, and its memory with some words that lead elsewhere."""
    which = process(draw(st.sampled_from(FILES)))
    pointers = st.builds(int.__add__, st.sampled_from(which.starts), st.sampled_from([0, 0, 0, 8, -8, 1, 16]))
    wild = st.sampled_from([0, 1, 0x10, 4096, 1 << 46, (1 << 47) - 8, 1 << 63, (1 << 64) - 8, (1 << 64) - 1])
    content = st.one_of(
        st.one_of(pointers, wild, st.integers(0, 300)).map(lambda word: (word % (1 << 64)).to_bytes(8, "little")),
        st.binary(min_size=1, max_size=8),
    )
    address = st.one_of(*map(st.sampled_from, (which.links, which.words, which.told)))
    changes: Mapping[int, bytes] = draw(st.dictionaries(address, content, min_size=1, max_size=12))
    return which, which.memory.changed(changes)


def named(found: Interpreter, memory: Memory) -> tuple[Walked, int]:
    """Walk all threads, name all frames, and return how many pieces could not be read for the walk."""
    watched = Watched(memory, MOST_PIECES)
    walked = walk(0, found, reader=watched.read)
    words = {word for stack in walked.stacks.values() for word in stack.words}
    names = Codes(0, found, CWD, Watched(memory, MOST_PIECES).read).names(words)
    assert all(len(text.encode()) < 10_000 for text in names.values())
    assert all(text in {UNREADABLE, ""} or text.endswith(")") for text in names.values())
    return walked, watched.refused


@settings(max_examples=100)
@given(changed())
def test_any_memory_is_walked_and_named(given: tuple[Process, Memory]):
    """It ends, each frame has a text of bounded size, and that something could not be read is said."""
    which, memory = given
    found, threads = which.interpreter, which.kept.threads

    walked, refused = named(found, memory)

    torn = [stack for stack in walked.stacks.values() if stack.end == End.UNREADABLE]
    if refused and len(walked.stacks) > len(threads) and found.minor not in (11, 12):
        assert torn or walked.errors


@settings(max_examples=60)
@given(changed())
def test_any_memory_is_asked_for_its_cpython(given: tuple[Process, Memory]):
    """It has one whose threads can be walked, or none, or it is said why it cannot be read."""
    which, memory = given

    try:
        found = which.kept.find(Watched(memory, MOST_PIECES).read)
    except UnknownPythonError as error:
        assert str(error)
    else:
        assert found is None or found.packed()
        if found:
            named(found, memory)


@settings(max_examples=60)
@given(changed())
def test_any_memory_is_walked_by_the_kernel(walker: Walker, given: tuple[Process, Memory]):
    """It ends within the room that it has; a stack that both walkers find whole, and of code, is the same."""
    which, memory = given
    found = which.interpreter
    walked = walk(0, found, MAX_PYTHON_FRAMES, reader=memory.read)

    for thread, _ in which.kept.threads.values():
        watched = Watched(memory, MOST_PIECES)
        words, end = walker.words(found.packed(), thread, watched.read)
        known = walked.stacks.get(thread)

        assert 0 <= len(words) <= MAX_PYTHON_FRAMES
        assert len(watched.pieces) <= MOST_CALLS
        assert end in {0, *End}
        is_code = all(word >> PYTHON_UNIT_BITS or word == PYTHON_ENTERED for word in words)
        if is_code and known and known.end == end == End.WHOLE:
            assert words == known.words
