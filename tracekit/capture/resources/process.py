"""What /proc tells about one process, in two short reads, one stat, and one more read for each thread."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture.resources.files import Missing, read

if TYPE_CHECKING:
    from pathlib import Path

_LAST_FIELD = 20  # starttime
_DENIED = "no permission for a process of the target (other users' need CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH)"


class Io(NamedTuple):
    """Storage I/O of one thread since it started."""

    read_bytes: int
    """From storage; what the page cache gave is not in it."""
    written_bytes: int

    def since(self, before: Io) -> Io:
        """Subtract; never below zero, as ids are used again."""
        return Io(max(0, self.read_bytes - before.read_bytes), max(0, self.written_bytes - before.written_bytes))


NO_IO = Io(0, 0)


class Reading(NamedTuple):
    """One process at one moment."""

    start_ticks: int
    """Since boot; with the tgid it is the identity, as ids are used again."""
    alive: bool
    """False for a zombie."""
    io: dict[int, Io]
    """By tid, of its threads."""
    threads: int
    rss_bytes: int
    fds: int


class Reader:
    """Reads processes, and leaves out for good what this user may not see of one of them."""

    def __init__(self, root: Path, missing: Missing) -> None:
        self._proc = f"{root}/proc"
        self._missing = missing
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self.sees_io = True
        self.sees_fds = True

    def read(self, tgid: int) -> Reading | None:
        """Return what is known of *tgid*, None if it has gone."""
        directory = f"{self._proc}/{tgid}"
        try:
            state, words = _after_comm(read(f"{directory}/stat"))
            rss_bytes = self._rss_bytes(directory)
            threads = words[17]
            io = self._io(directory, tgid, threads) if self.sees_io else {}
            fds = self._fds(directory)
        except (FileNotFoundError, ProcessLookupError):
            return None
        return Reading(words[19], state not in b"ZX", io, threads, rss_bytes, fds)

    def _rss_bytes(self, directory: str) -> int:
        # not the rss of stat, which is off by up to 32 pages and more per CPU (Linux 6.2 to 6.15)
        return int(read(f"{directory}/statm").split()[1]) * self._page_bytes

    def _io(self, directory: str, tgid: int, threads: int) -> dict[int, Io]:
        """Return the I/O of each thread: that of the process has all of its reaped children in it."""
        found: dict[int, Io] = {}
        for tid in [tgid] if threads == 1 else os.listdir(f"{directory}/task"):  # noqa: PTH208 - as read, of a string
            try:
                words = read(f"{directory}/task/{tid}/io").split()
            except (FileNotFoundError, ProcessLookupError):  # the thread has ended
                continue
            except PermissionError:
                self.sees_io = not self._is_denied(directory, "io.read, io.write")
                break
            found[int(tid)] = Io(int(words[9]), int(words[11]))
        return found

    def _fds(self, directory: str) -> int:
        if not self.sees_fds:
            return 0
        try:
            # the size of the directory is the number of entries since f1f1f2569901 (Linux 6.2), 0 before
            return os.stat(f"{directory}/fd").st_size or len(os.listdir(f"{directory}/fd"))  # noqa: PTH116, PTH208
        except PermissionError:
            self.sees_fds = not self._is_denied(directory, "fds")
            return 0

    def _is_denied(self, directory: str, series: str) -> bool:
        """Note it, unless the process is about to end: without memory it is root's, whoever started it."""
        if not self._rss_bytes(directory):
            return False
        self._missing.note(series, _DENIED)
        return True


def _after_comm(stat: bytes) -> tuple[bytes, list[int]]:
    """Return the state, and all fields from it on (the state as 0). The name before them may hold anything."""
    words = stat[stat.rindex(b")") + 2 :].split()
    return words[0], [0, *map(int, words[1:_LAST_FIELD])]
