"""
A traced process without the probe: writes a board by struct formats of its own, also one that lies.

As a program it does what it is told: each line on its standard input is run, with `board` at hand.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracekit.capture.probes import Boards

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
KINDS_AT, ERRORS_AT, VALUES_AT, LATENCIES_AT = 512, 66048, 98816, 180736
LATENCY_BYTES, BYTES, SLOTS = 41504, 10805760, 4608
COUNTER, GAUGE, MARK = 1, 2, 3
ROOT = Path(__file__).parents[2]


def slot_of(value: int) -> int:
    """Return HdrHistogram's slot for two digits."""
    octave = max(0, value.bit_length() - 8)
    return min((octave << 7) + (value >> octave), SLOTS - 1)


class Board:
    """A board of this process."""

    def __init__(self, *, seals: int = SEALS, size: int = BYTES, name: str = "tracekit", ready: bool = True) -> None:
        self.descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.descriptor, size)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)
        self.memory = mmap.mmap(self.descriptor, size)
        self.kinds, self.errors, self.values = [b"<other>\0"], [(0, b"")], [(0, b"", b"")]
        self.put_kind(0, b"<other>", b"")
        if size == BYTES:
            self.header()
        if ready:
            self.ready()

    def header(self, **changed: int) -> None:
        """Write all of the header but the magic."""
        fields = {"version": 1, "size": BYTES, "pid": os.getpid(), "mode": 0, "offset": 0, "module": 0, "threads": 0}
        fields |= {"kinds": len(self.kinds), "errors": len(self.errors), "values": len(self.values), "python": 0}
        fields |= {"lost_kinds": 0, "lost_errors": 0, "lost_values": 0, "lost_threads": 0}
        fields |= {"start": time.monotonic_ns()}
        struct.pack_into("=4IqQQ4I5Q", self.memory, 8, *(fields | changed).values())

    def ready(self) -> None:
        self.memory[:8] = b"TRACEKIT"

    def add(self, at: int, more: int) -> None:
        (before,) = struct.unpack_from("=Q", self.memory, at)
        struct.pack_into("=Q", self.memory, at, (before + more) % (1 << 64))

    def put(self, at: int, value: int) -> None:
        struct.pack_into("=Q", self.memory, at, value)

    def used(self, at: int, count: int) -> None:
        struct.pack_into("=I", self.memory, at, count)

    def put_kind(self, row: int, name: bytes, labels: bytes, ident: int | None = None) -> None:
        if ident is None:
            ident = int.from_bytes(hashlib.blake2b(name + b"\0" + labels, digest_size=8).digest(), "little")
        struct.pack_into("=Q64s184s", self.memory, KINDS_AT + 256 * row, ident, name, labels)

    def kind(self, name: bytes, labels: bytes = b"", ident: int | None = None) -> int:
        """Return the row of a kind."""
        if name + b"\0" + labels not in self.kinds:
            self.put_kind(len(self.kinds), name, labels, ident)
            self.kinds.append(name + b"\0" + labels)
            self.used(56 - 8, len(self.kinds))
        return self.kinds.index(name + b"\0" + labels)

    def latency_at(self, row: int) -> int:
        return LATENCIES_AT + row * LATENCY_BYTES

    def span(self, name: bytes, duration: int, count: int = 1, *, labels: bytes = b"", awaited: bool = False) -> None:
        """Record spans as the probe does."""
        row = self.kind(name, labels)
        at, slot = self.latency_at(row), slot_of(duration)
        self.add(at + 32 + 2 * 2304 + 8 * slot, count)
        self.add(at + 32 + 8 * (slot >> 4), duration * count)
        if awaited:
            self.add(at + 32 + 2304 + 8 * (slot >> 4), duration * count)
        _, low, high = struct.unpack_from("=3Q", self.memory, at)
        self.put(at + 8, min(low or duration, duration))
        self.put(at + 16, max(high, duration))

    def error(self, name: bytes, kind: bytes, count: int = 1, *, labels: bytes = b"") -> None:
        """Count spans that failed."""
        row = self.kind(name, labels)
        if (row, kind) not in self.errors:
            struct.pack_into("=QI52s", self.memory, ERRORS_AT + 64 * len(self.errors), 0, row, kind)
            self.errors.append((row, kind))
            self.used(52, len(self.errors))
        self.add(ERRORS_AT + 64 * self.errors.index((row, kind)), count)

    def value(self, what: int, name: bytes, value: float, *, labels: bytes = b"", first: int = 0) -> None:
        """Set one of the application's numbers."""
        if (what, name, labels) not in self.values:
            self.values.append((what, name, labels))
            self.used(56, len(self.values))
        at = VALUES_AT + 256 * self.values.index((what, name, labels))
        (count,) = struct.unpack_from("=Q", self.memory, at + 8)
        struct.pack_into("=dQQII64s160s", self.memory, at, value, count + 1, first, what, 0, name, labels)


class Target:
    """A process that does what it is told."""

    def __init__(self, *words: str, **how: object) -> None:
        command = [*words, sys.executable, "-m", "tests.unit.board_writer"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes, **how)
        self.tgid = self.process.pid
        self.do("None")

    def do(self, code: str) -> str:
        """Run *code* and return what it is."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the process has ended"
        return answer.strip()

    def publish(self, how: str = "") -> int:
        """Make a board and return its descriptor."""
        self.do(f"globals().__setitem__('board', Board({how}))")
        return int(self.do("board.descriptor"))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


def main() -> None:
    for line in sys.stdin:
        print(eval(line, globals()), flush=True)


def spans(boards: Boards) -> dict[str, int]:
    """Return the number of spans by name that are new."""
    return {series.label("span"): sum(slots.counts) for series, slots in boards.collect().histograms}


def losses(boards: Boards) -> dict[str, int]:
    """Return what was lost so far, by reason."""
    return {loss.reason: loss.count for loss in boards.losses()}


if __name__ == "__main__":
    main()
