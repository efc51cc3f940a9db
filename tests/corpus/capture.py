"""
Keep the memory of a CPython: `python -m tests.corpus.capture PYTHON OUT`.

PYTHON runs tests/unit/stacks_truth.py. When all its threads stand still, what the walker reads of their memory goes
into OUT, with what they say of themselves. It needs the right to read the memory of its children, nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from tests.corpus.kept import CWD, Binary, Kept, Memory, load, write
from tests.unit.pythons import running
from tracekit.capture.libraries.mapped import contents
from tracekit.capture.stacks import interpreter, memory, threads
from tracekit.capture.stacks.code import Codes
from tracekit.capture.stacks.threads import walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracekit.capture.stacks.interpreter import Interpreter
    from tracekit.capture.stacks.memory import Piece, Read

PROGRAM = Path(__file__).parents[1] / "unit" / "stacks_truth.py"
BEGIN = f"import sys; exec(compile(sys.stdin.read(), '{CWD}/stacks_truth.py', 'exec'))"
"""It is read from a pipe, so that the same file is named wherever this runs."""
BLOCK = 256
MOST_GAP = 4
"""Blocks between two that are read: kept as well, so that walkers may read more at a time than they do today."""


class Recorder:
    """Reads memory of a process, and remembers which."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.pieces: list[Piece] = []

    def read(self, pid: int, pieces: Sequence[Piece]) -> list[bytes | None]:
        """Stand in for memory.read, whatever process is asked for."""
        found = memory.read(self._pid, pieces)
        self.pieces += [piece for piece, content in zip(pieces, found, strict=True) if content is not None]
        return found


def main(python: str, out: str) -> None:
    """Keep it, and replay what was kept."""
    write(Path(out), capture(python))
    kept = load(Path(out))
    if kept.shown(Memory(kept.pieces).read) != kept.truth:
        raise SystemExit(f"{out}: what is replayed is not what the process said")
    size = sum(map(len, kept.pieces.values()))
    print(f"{out}: {Path(out).stat().st_size} bytes, {size} of memory, of {kept.python}")


def capture(python: str) -> Kept:
    """Run *python* and return what is to be kept of it."""
    version = subprocess.check_output([python, "-c", "import sys; print(sys.version)"], text=True).strip()
    with PROGRAM.open() as program, running(python, "-c", BEGIN, stdin=program, cwd="/", env={}) as (process, said):
        found = json.loads(said)
        binary = _binary(process.pid)
        read = _recorded(process.pid, Kept(version, binary, {}, {}))
        pieces = _kept(process.pid, read)
    truths = {name: (thread, found["truths"][str(thread)]) for name, thread in found["scenarios"].items()}
    return Kept(version, binary, truths, pieces)


def _binary(pid: int) -> Binary:
    process = Path(f"/proc/{pid}")
    mappings = interpreter._mappings(contents(process / "maps", 1 << 24))
    for mapping in interpreter._candidates(process, mappings):
        found = interpreter._binary(process, mapping)
        if found.runtime:
            code = [(segment.offset, segment.address, segment.size) for segment in found.code]
            paths = list(dict.fromkeys(each.path.decode() for each in mappings))
            place = mapping.start, mapping.offset, mapping.path.decode()
            return Binary(*place, paths, found.runtime, found.code_type, found.version, code)
    raise SystemExit("it has no CPython")


def _recorded(pid: int, kept: Kept) -> list[Piece]:
    """Return what is read of a process to find its CPython, and to walk and name all its threads, once they stand."""
    before = None
    while True:
        recorder = Recorder(pid)
        found = kept.find(recorder.read)
        if not found:
            raise SystemExit("its CPython cannot be found")
        words = [word for stack in walk(pid, found, reader=recorder.read).stacks.values() for word in stack.words]
        _read_outer(partial(recorder.read, pid), found)
        Codes(pid, found, reader=recorder.read).names(words)
        if words == before:
            return recorder.pieces
        before = words
        time.sleep(0.2)


def _read_outer(read: Read, found: Interpreter) -> None:
    """Read the cframes around those in use, as is done of threads that are about to enter one."""
    if found.minor in (11, 12):
        all_threads, _ = threads._threads(read, found, inf)
        threads._enter_cframes(read, found.offsets, all_threads)
        threads._begin_again(read, found, all_threads, 0, inf)


def _kept(pid: int, pieces: Iterable[Piece]) -> dict[int, bytes]:
    """Read all blocks in which *pieces* are, and the next ones, in as few pieces as they are."""
    wanted = {number for at, size in pieces for number in range(at // BLOCK, (at + size) // BLOCK + 2)}
    for before, after in pairwise(sorted(wanted)):
        if after - before <= MOST_GAP:
            wanted |= set(range(before, after))
    blocks = sorted(wanted)
    found: dict[int, bytes] = {}
    start = end = -1
    for number, content in zip(blocks, memory.read(pid, [(number * BLOCK, BLOCK) for number in blocks]), strict=True):
        if content is None:
            continue
        start = start if number == end else number
        end = number + 1
        found[start * BLOCK] = found.get(start * BLOCK, b"") + content
    return found


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
