"""The board of a process whose probe is in Python: made, given rows, counted on."""

from __future__ import annotations

import mmap
import os
import sys
import time
from _thread import RLock
from struct import pack_into, unpack_from

from tracekit.probe import _layout as layout
from tracekit.probe._names import kind_id

OTHER = b"<other>"
ADD_SEALS, GET_SEALS = 1033, 1034
SEALED = 0x1 | 0x2 | 0x4  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW
NOEXEC_SEAL = 0x8  # MFD_NOEXEC_SEAL, from Linux 6.3
HASH, WORD = 0x9E3779B97F4A7C15, (1 << 64) - 1


def _memfd() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("tracekit", flags | NOEXEC_SEAL)
    except OSError:
        return os.memfd_create("tracekit", flags)


def _take_standard_files() -> list[int]:
    """Open the files 0 to 2 that a daemon has closed, and maybe one more: a board must not be one of them."""
    taken = [os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)]
    while taken[-1] <= 2:
        taken.append(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
    return taken


def _map_file(fd: int) -> tuple[mmap.mmap, int]:
    """Return *fd* mapped, and the one descriptor of it that is left: before 3.13 mmap keeps another one."""
    if sys.version_info >= (3, 13):
        return mmap.mmap(fd, layout.SIZE, trackfd=False), fd
    mapped = mmap.mmap(fd, layout.SIZE)
    same = [int(link.name) for link in os.scandir("/proc/self/fd") if _is_file(link, os.fstat(fd))]
    for other in same:
        if other != fd:
            os.close(fd)
            return mapped, other
    return mapped, fd


def _is_file(link: os.DirEntry[str], file: os.stat_result) -> bool:
    try:
        return os.path.samestat(link.stat(), file)
    except OSError:
        return False  # the one that lists the others


def _new_file() -> tuple[mmap.mmap, int]:
    """Return a sealed memfd of the size of a board, mapped, and its number. Raises OSError."""
    from fcntl import fcntl  # noqa: PLC0415 - not where memfds are not
    from resource import RLIMIT_FSIZE, getrlimit  # noqa: PLC0415

    if 0 <= getrlimit(RLIMIT_FSIZE)[0] < layout.SIZE:
        raise OSError("files may not be as large as a board")
    taken = _take_standard_files()
    try:
        fd = _memfd()
        try:
            os.ftruncate(fd, layout.SIZE)
            fcntl(fd, ADD_SEALS, SEALED)
            return _map_file(fd)
        except OSError:
            os.close(fd)
            raise
    finally:
        for each in taken:
            os.close(each)


def _has_process_a_board() -> bool:
    """Return whether another interpreter of this process made one: there is one per process."""
    return any(_is_board(link) for link in os.scandir("/proc/self/fd"))


def _is_board(link: os.DirEntry[str]) -> bool:
    try:
        return os.readlink(link.path).startswith("/memfd:tracekit ")  # noqa: PTH115 - pathlib is heavy
    except OSError:
        return False  # the one that lists the others


def _address_of(file: os.stat_result) -> int:
    """Return where this process has mapped the start of *file*, 0 if that cannot be seen."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123 - pathlib is heavy
            for line in maps:
                where, _, offset, _, inode = line.split(maxsplit=5)[:5]
                if int(inode) == file.st_ino and not int(offset, 16) and "memfd:tracekit" in line:
                    return int(where.split("-")[0], 16)
    except OSError:
        pass
    return 0


class Board:
    """
    The board of this process. A child of fork makes its own when it first counts.

    `generation` is raised by fork: spans that were opened before are the parent's.
    """

    def __init__(self) -> None:
        self.lock = RLock()  # so that a signal handler may count, too
        self.generation = 1
        self._is_parents = False
        self._kinds: list[tuple[int, bytes, bytes]] = [(kind_id(OTHER, b""), OTHER, b"")]
        self._rows = {self._kinds[0][0]: 0}
        self._errors: dict[tuple[int, bytes], int] = {}
        self._values: dict[tuple[int, bytes, bytes], int] = {}
        self._fd, self._file = -1, os.stat_result(range(10))
        self._parents: list[mmap.mmap] = []  # kept: each would close a number that may be another file by now
        self._make(may_have_file=sys.platform == "linux" and not _has_process_a_board())
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self.lock = RLock()
        self.generation += 1
        self._is_parents = True

    def is_ours(self) -> bool:
        """Return whether there is a board to write to; a child of fork makes its own now."""
        if self._is_parents:
            with self.lock:
                self._replace()
        return not self._is_parents

    def _make(self, may_have_file: bool) -> None:
        try:
            self._map, fd = _new_file() if may_have_file else (mmap.mmap(-1, layout.SIZE), -1)
        except (OSError, AttributeError, ImportError):  # refused, or a system without memfds
            self._map, fd = mmap.mmap(-1, layout.SIZE), -1
        self.words = memoryview(self._map).cast("Q")
        self._fill(fd)
        self._announce(fd)

    def _fill(self, fd: int) -> None:
        for row, kind in enumerate(self._kinds):
            self._write_kind(row, *kind)
        for (kind_of_value, name, labels), row in self._values.items():
            self._write_value(row, kind_of_value, name, labels)
        threads_at = _address_of(os.fstat(fd)) if fd >= 0 else 0
        can_be_read = threads_at and os.uname().machine == "x86_64"
        layout.HEADER.pack_into(
            self._map,
            0,
            *(bytes(8), layout.VERSION, layout.SIZE, os.getpid()),
            *(layout.TABLE if can_be_read else layout.NOTHING, 0, 0),
            *(threads_at + layout.THREADS_AT if can_be_read else 0,),
            *(len(self._kinds), len(self._errors) + 1, len(self._values) + 1, sys.hexversion),
            *(0, 0, 0, 0, time.monotonic_ns()),
        )
        self._map[: len(layout.MAGIC)] = layout.MAGIC

    def _announce(self, fd: int) -> None:
        """Tell the kernel side that a board is ready, and its header: nothing else here may make this call."""
        self._fd = fd
        if fd < 0:
            return
        from fcntl import fcntl  # noqa: PLC0415

        self._file = os.fstat(fd)
        fcntl(fd, GET_SEALS, self._map[: layout.HEADER.size])

    def _replace(self) -> None:
        if not self._is_parents:
            return
        self._close_file()
        self._errors.clear()
        self._parents.append(self._map)
        self._make(may_have_file=sys.platform == "linux")
        self._is_parents = False

    def _close_file(self) -> None:
        """Close the parent's, if its number is not another file by now."""
        try:
            if self._fd >= 0 and os.path.samestat(os.fstat(self._fd), self._file):
                os.close(self._fd)
        except OSError:
            pass  # closed already
        self._fd = -1

    def copy(self) -> bytes:
        """Return its bytes, without the latencies of rows not in use: reading a hole gives it memory."""
        self.is_ours()
        return self._map[: layout.LATENCY_AT + len(self._kinds) * layout.LATENCY_SIZE]

    def _write_kind(self, row: int, number: int, name: bytes, labels: bytes) -> None:
        layout.KIND.pack_into(self._map, layout.KINDS_AT + row * layout.KIND.size, number, name, labels)

    def _write_value(self, row: int, kind: int, name: bytes, labels: bytes) -> None:
        layout.VALUE.pack_into(self._map, layout.VALUES_AT + row * layout.VALUE.size, 0, 0, 0, kind, name, labels)

    def kind(self, key: tuple[bytes, bytes] | None) -> tuple[int, int]:
        """Return row and id of a kind of span: those of <other> where there is no room."""
        if key and self.is_ours():
            number = kind_id(*key)
            with self.lock:
                if number not in self._rows and len(self._kinds) < layout.KINDS:
                    row = self._rows[number] = len(self._kinds)
                    self._kinds.append((number, *key))
                    self._write_kind(row, number, *key)
                    pack_into("<I", self._map, layout.KINDS_USED_AT, len(self._kinds))
            if number in self._rows:
                return self._rows[number], number
        return 0, self._kinds[0][0]

    def is_full(self) -> bool:
        """Return whether there is no row left for another kind."""
        return len(self._kinds) == layout.KINDS

    def value(self, kind: int, key: tuple[bytes, bytes] | None) -> int:
        """Return the row of a value, 0 where there is no room."""
        if not key or not self.is_ours():
            return 0
        value = kind, *key
        with self.lock:
            row = self._values.get(value, 0)
            if not row and len(self._values) + 1 < layout.VALUES:
                row = self._values[value] = len(self._values) + 1
                self._write_value(row, *value)
                pack_into("<I", self._map, layout.VALUES_USED_AT, len(self._values) + 1)
        return row

    def _error(self, kind: int, name: bytes) -> int:
        row = self._errors.get((kind, name), 0)
        if not row and len(self._errors) + 1 < layout.ERRORS:
            row = self._errors[kind, name] = len(self._errors) + 1
            layout.ERROR.pack_into(self._map, layout.ERRORS_AT + row * layout.ERROR.size, 0, kind, name)
            pack_into("<I", self._map, layout.ERRORS_USED_AT, len(self._errors) + 1)
        return row

    def lose(self, at: int) -> None:
        """Count what found no room; *at* is one of layout.LOST_*."""
        if self.is_ours():
            with self.lock:
                self.words[at // 8] += 1

    def count_span(self, row: int, duration_ns: int, awaited: bool, failed: bytes | None) -> None:
        """Count a span of the kind of *row* that has ended; *failed* is the type of its exception."""
        words, slot = self.words, layout.slot_of(duration_ns)
        at = (layout.LATENCY_AT + row * layout.LATENCY_SIZE) // 8
        bucket = at + 4 + (slot >> layout.BUCKET_SHIFT)
        with self.lock:
            words[at + 4 + 2 * layout.BUCKETS + slot] += 1
            words[bucket] += duration_ns
            if awaited:
                words[bucket + layout.BUCKETS] += duration_ns
            words[at + 1] = min(words[at + 1] or duration_ns, duration_ns)
            words[at + 2] = max(words[at + 2], duration_ns)
            if not row:
                words[layout.LOST_KINDS_AT // 8] += 1
            if failed:
                error = self._error(row, failed)
                words[(layout.ERRORS_AT + error * layout.ERROR.size) // 8] += 1
                words[layout.LOST_ERRORS_AT // 8] += not error
                words[at] += 1

    def write_value(self, row: int, value: float, add: bool) -> None:
        """Set or add to the value of *row*."""
        at = layout.VALUES_AT + row * layout.VALUE.size
        with self.lock:
            before, count = unpack_from("<dQ", self._map, at)
            pack_into("<dQ", self._map, at, before + value if add else value, count + 1)

    def write_mark(self, row: int) -> None:
        """Set the mark of *row*."""
        at = (layout.VALUES_AT + row * layout.VALUE.size) // 8
        with self.lock:
            self.words[at + 1] += 1
            self.words[at + 2] = self.words[at + 2] or time.monotonic_ns()

    def thread_word(self, thread_pointer: int) -> int:
        """Return the index in `words` of the current span of a thread, 0 where there is no room."""
        first = (thread_pointer * HASH & WORD) >> 40
        slots = [(layout.THREADS_AT // 8) + 2 * ((first + i) % layout.THREADS) for i in range(layout.THREAD_PROBES)]
        with self.lock:
            for wanted in ({thread_pointer}, {0}):
                for slot in slots:
                    if self.words[slot] in wanted:
                        self.words[slot] = thread_pointer
                        return slot + 1
            alive = sys._current_frames()  # noqa: SLF001 - the way to know threads without the threading module
            for slot in slots:
                if self.words[slot] not in alive:
                    self.words[slot + 1] = 0
                    self.words[slot] = thread_pointer
                    return slot + 1
        self.lose(layout.LOST_THREADS_AT)
        return 0
