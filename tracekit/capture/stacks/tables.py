"""
Tables of unwinding rows, made in a process of its own.

    tables = Tables()
    tables.ask(7, descriptor)
    for made in tables.made(): ...

A table of a large library takes seconds: the session neither waits for it nor shares its interpreter with it, and
the file is not the session's to read. The other process runs as long as there is something to do, behind all others.
Nothing is kept on disk: making it again is cheap enough (libpython and libc: 0.1 s), and a cache of root would be one
more thing to guard.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracekit.capture import privileges, seccomp
from tracekit.capture.elf import NotElfError, Segment
from tracekit.capture.stacks import ehframe

if TYPE_CHECKING:
    from collections.abc import Iterator

_ASKED = struct.Struct("<I")
_MADE = struct.Struct("<IIIQQ")
_SEGMENT = struct.Struct("<3Q")
_MESSAGE_BYTES = 1 << 14
MOST_CPU_NS = 30_000_000_000
"""That tables may take, all together: 10 times what fills the arrays of the walkers."""
_IDLE_S = 5
_MEMORY_BYTES = 2 << 30
_NICE = 10
_PR_SET_PDEATHSIG = 1
_START = "import sys; sys.path[:] = sys.argv[2:]; from tracekit.capture.stacks import tables; tables.serve({})"


@dataclass(frozen=True)
class Made:
    """
    An answer.

    Attributes:
        number: that was given with the question.
        file: descriptor of a file with the rows, then the pages (u64 each), the caller's to close; -1: there is none.
        base: as a Table has it.
        why: there is none.
    """

    number: int
    file: int
    base: int
    rows: int
    pages: int
    segments: list[Segment]
    why: str


class Tables:
    """What the process that makes tables is asked, and answers."""

    def __init__(self) -> None:
        self._spent_ns = 0
        self._before_ns = 0
        self._asked: dict[int, None] = {}
        self._worker: subprocess.Popen[bytes] | None = None
        self._here, self._there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._here.setblocking(False)

    @property
    def cpu_ns(self) -> int:
        """CPU time of the process until its last answer, and of those before it."""
        return self._before_ns + self._spent_ns

    @property
    def descriptor(self) -> int:
        """Readable when there are answers."""
        return self._here.fileno()

    def ask(self, number: int, file: int) -> bool:
        """Ask for the table of an ELF file; its descriptor stays the caller's. False: too much is asked already."""
        try:
            socket.send_fds(self._here, [_ASKED.pack(number)], [file])
        except OSError:
            return False
        self._asked[number] = None
        if self._worker is None or self._worker.poll() == 0:
            self._start()
        return True

    def made(self) -> Iterator[Made]:
        """Yield the answers that have come. Call it at least every few seconds: it notices when the process died."""
        while True:
            try:
                message, files, *_ = socket.recv_fds(self._here, _MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                break
            made = self._answer(message, files)
            if made.number in self._asked:
                del self._asked[made.number]
                yield made
            elif made.file >= 0:  # given up too early: the process had died of something else
                os.close(made.file)
        lost = self._watch()
        if lost:
            yield lost

    def _answer(self, message: bytes, files: list[int]) -> Made:
        number, rows, pages, base, self._spent_ns = _MADE.unpack_from(message)
        rest = message[_MADE.size :]
        if not files:
            return Made(number, -1, 0, 0, 0, [], rest.decode())
        return Made(number, files[0], base, rows, pages, [Segment(*each) for each in _SEGMENT.iter_unpack(rest)], "")

    def _watch(self) -> Made | None:
        """See to it that the process runs, and return the answer that it died of."""
        code = self._worker.poll() if self._worker else 0
        if code is None:
            return None
        lost = next(iter(self._asked), None) if code else None
        if lost is not None:
            del self._asked[lost]
        self._worker = None
        if self._asked:
            self._start()
        return None if lost is None else Made(lost, -1, 0, 0, 0, [], "the process that reads it died of it")

    def _start(self) -> None:
        self._before_ns, self._spent_ns = self.cpu_ns, 0
        self._worker = _started(self._there)

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._worker:
            self._worker.kill()
            self._worker.wait()
        self._here.close()
        self._there.close()


def _started(channel: socket.socket) -> subprocess.Popen[bytes] | None:
    """Start the process, without the directory we are in, where anybody may have put modules; None: not now."""
    file = channel.fileno()
    path = [str(Path(__file__).parents[3]), *filter(None, sys.path)]
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _START.format(file), "-", *path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(file,),
            start_new_session=True,
        )
    except OSError:  # too many processes, or too little memory
        return None


def serve(channel: int) -> None:
    """Answer what is asked on a socket, until nothing was for a while; die with who asks, also by its kill -9."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    with socket.socket(fileno=channel) as here:
        poller = select.poll()
        poller.register(here, select.POLLIN)
        privileges.keep(())
        seccomp.allow(seccomp.READING)
        while poller.poll(1000 * _IDLE_S):
            message, files, *_ = socket.recv_fds(here, _ASKED.size, 1)
            if not files:
                return
            _make(here, _ASKED.unpack(message)[0], files[0])
            os.close(files[0])


def _make(here: socket.socket, number: int, file: int) -> None:
    try:
        if time.process_time_ns() > MOST_CPU_NS:
            raise NotElfError("others have taken too much time")
        table = ehframe.table(file)
    except (NotElfError, OSError, MemoryError) as error:
        why = str(error) or "it needs too much memory"
        here.send(_MADE.pack(number, 0, 0, 0, time.process_time_ns()) + why.encode())
        return
    with os.fdopen(os.memfd_create("unwinding", os.MFD_CLOEXEC), "wb") as written:
        written.write(table.rows)
        written.write(table.pages)
        written.flush()
        sizes = len(table.rows), len(table.pages)
        head = _MADE.pack(number, *sizes, table.base, time.process_time_ns())
        segments = b"".join(_SEGMENT.pack(each.offset, each.address, each.size) for each in table.segments)
        socket.send_fds(here, [head + segments], [written.fileno()])
