"""What /proc tells about one process, in three short reads and one stat."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture.resources.files import Missing, read

if TYPE_CHECKING:
    from pathlib import Path

_NS_PER_TICK = 10**9 // 100  # USER_HZ is 100 in every Linux ABI that tracekit runs on
_LAST_FIELD = 20  # starttime
_DENIED = "no permission for a process of the target (other users' need CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH)"


class Totals(NamedTuple):
    """What a process and the children it reaped have used since it started."""

    cpu_ns: int
    read_bytes: int
    """From storage; what the page cache gave is not in it."""
    written_bytes: int

    def plus(self, other: Totals) -> Totals:
        """Add."""
        return Totals(
            self.cpu_ns + other.cpu_ns,
            self.read_bytes + other.read_bytes,
            self.written_bytes + other.written_bytes,
        )

    def minus(self, other: Totals) -> Totals:
        """Subtract; never below zero."""
        return Totals(
            max(0, self.cpu_ns - other.cpu_ns),
            max(0, self.read_bytes - other.read_bytes),
            max(0, self.written_bytes - other.written_bytes),
        )


NOTHING = Totals(0, 0, 0)


class Reading(NamedTuple):
    """One process at one moment."""

    start_ticks: int
    """Since boot; with the tgid it is the identity, as ids are used again."""
    ppid: int
    alive: bool
    """False for a zombie, whose totals are final."""
    totals: Totals
    reaped_faults: int
    """Page faults of reaped children: it grows if and only if one was reaped."""
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
            # not the rss of stat, which is off by up to 32 pages and more per CPU (Linux 6.2 to 6.15)
            rss_bytes = int(read(f"{directory}/statm").split()[1]) * self._page_bytes
            read_bytes, written_bytes = self._io(directory)
            fds = self._fds(directory)
        except (FileNotFoundError, ProcessLookupError):
            return None
        ticks = sum(words[11:15])  # utime, stime, cutime, cstime
        totals = Totals(ticks * _NS_PER_TICK, read_bytes, written_bytes)
        return Reading(words[19], words[1], state not in b"ZX", totals, words[8], words[17], rss_bytes, fds)

    def _io(self, directory: str) -> tuple[int, int]:
        if not self.sees_io:
            return 0, 0
        try:
            lines = read(f"{directory}/io").splitlines()
        except PermissionError:
            self.sees_io = False
            self._missing.note("io.read, io.write", _DENIED)
            return 0, 0
        return int(lines[4].split()[1]), int(lines[5].split()[1])

    def _fds(self, directory: str) -> int:
        if not self.sees_fds:
            return 0
        try:
            # the size of the directory is the number of entries since f1f1f2569901 (Linux 6.2), 0 before
            return os.stat(f"{directory}/fd").st_size or len(os.listdir(f"{directory}/fd"))  # noqa: PTH116, PTH208
        except PermissionError:
            self.sees_fds = False
            self._missing.note("fds", _DENIED)
            return 0


def _after_comm(stat: bytes) -> tuple[bytes, list[int]]:
    """Return the state, and all fields from it on (the state as 0). The name before them may hold anything."""
    words = stat[stat.rindex(b")") + 2 :].split()
    return words[0], [0, *map(int, words[1:_LAST_FIELD])]
