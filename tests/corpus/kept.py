"""The memory of a process of tests/unit/stacks_truth.py, as far as stacks are in it, and what its threads said."""

from __future__ import annotations

import json
import lzma
from bisect import bisect_right
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.unit.pythons import text_of
from tracekit.capture.elf import Segment
from tracekit.capture.stacks import interpreter
from tracekit.capture.stacks.code import Codes
from tracekit.capture.stacks.threads import End, walk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracekit.capture.stacks.interpreter import Interpreter
    from tracekit.capture.stacks.memory import Piece, Reader

FILES = sorted(Path(__file__).parent.glob("*.xz"))
CWD = "/srv/app"
"""Of the process, as its file says."""


class Memory:
    """Pieces of memory by their addresses; they do not touch each other."""

    def __init__(self, pieces: Mapping[int, bytes]) -> None:
        self._starts = sorted(pieces)
        self._contents = [pieces[start] for start in self._starts]

    def read(self, pid: int, pieces: Sequence[Piece]) -> list[bytes | None]:
        """Stand in for memory.read: what was not kept cannot be read."""
        return [self._read(address, size) for address, size in pieces]

    def _read(self, address: int, size: int) -> bytes | None:
        number = bisect_right(self._starts, address) - 1
        if number < 0:
            return None
        at = address - self._starts[number]
        content = self._contents[number][at : at + size]
        return content if len(content) == size else None

    def changed(self, changes: Mapping[int, bytes]) -> Memory:
        """Return it with other bytes at the addresses of *changes*, which are in it."""
        changed = Memory({})
        changed._starts, changed._contents = self._starts, list(self._contents)
        for address, content in changes.items():
            number = bisect_right(self._starts, address) - 1
            at, old = address - self._starts[number], changed._contents[number]
            changed._contents[number] = (old[:at] + content + old[at + len(content) :])[: len(old)]
        return changed


@dataclass(frozen=True)
class Binary:
    """
    What was known of the CPython before its memory was looked at.

    Attributes:
        start, offset, path: of its mapping with code; paths: of all mappings with code.
        runtime, code_type, version, code: as its file has them.
    """

    start: int
    offset: int
    path: str
    paths: list[str]
    runtime: int
    code_type: int
    version: int
    code: list[tuple[int, int, int]]


@dataclass(frozen=True)
class Kept:
    """
    A file of the corpus.

    Attributes:
        python: sys.version.
        threads: by scenario: pthread_self, and [function, file, line] of each frame, innermost first.
        pieces: of memory, by address.
    """

    python: str
    binary: Binary
    threads: dict[str, tuple[int, list[Any]]]
    pieces: dict[int, bytes]

    @property
    def truth(self) -> dict[str, list[str]]:
        """What the thread of each scenario said of itself, as it is shown."""
        return {name: [text_of(row, CWD) for row in rows] for name, (_, rows) in self.threads.items()}

    def shown(self, read: Reader) -> dict[str, list[str]]:
        """Return what the walker in user space says of it; a thread without a whole stack is left out."""
        found = self.find(read)
        assert found
        walked = walk(0, found, reader=read)
        words = {word for stack in walked.stacks.values() for word in stack.words}
        names = Codes(0, found, CWD, read).names(words)
        whole = {name: walked.stacks.get(thread) for name, (thread, _) in self.threads.items()}
        return {
            name: [names[word] for word in stack.words if names.get(word)]
            for name, stack in whole.items()
            if stack and stack.end == End.WHOLE
        }

    def find(self, read: Reader) -> Interpreter | None:
        """Return the interpreter as interpreter.find() would. Raises UnknownPythonError."""
        known = self.binary
        mappings = [interpreter._Mapping(0, "", 0, b"", 0, path.encode()) for path in known.paths]
        mapping = interpreter._Mapping(known.start, "", known.offset, b"", 0, known.path.encode())
        code = tuple(Segment(*segment) for segment in known.code)
        binary = interpreter._Binary(known.runtime, known.code_type, known.version, code, needs_library=False)
        return interpreter._asked(0, mapping, binary, mappings, read)


def write(path: Path, kept: Kept) -> None:
    """Write a file: a line of JSON, and behind it the bytes of all pieces, compressed."""
    head = {
        "python": kept.python,
        "binary": asdict(kept.binary),
        "threads": kept.threads,
        "pieces": [(address, len(content)) for address, content in kept.pieces.items()],
    }
    content = json.dumps(head).encode() + b"\n" + b"".join(kept.pieces.values())
    path.write_bytes(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))


def load(path: Path) -> Kept:
    """Return what write() wrote."""
    line, _, content = lzma.decompress(path.read_bytes()).partition(b"\n")
    head = json.loads(line)
    pieces, at = {}, 0
    for address, size in head["pieces"]:
        pieces[address] = content[at : at + size]
        at += size
    return Kept(head["python"], Binary(**head["binary"]), head["threads"], pieces)
