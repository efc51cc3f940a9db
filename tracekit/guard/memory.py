"""Memory of this process and all below it."""

from __future__ import annotations

import os
import time

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_START = 19  # starttime, counted from the field after the name


def own_bytes() -> int:
    """Return what this process has in memory (RSS)."""
    return int(_read("/proc/self/statm").split()[1]) * PAGE_BYTES


class Growth:
    """
    How much the memory of the tree grew since it was made.

    RSS tells cheaply. But a forked child counts all that it shares with its parent again, so where RSS goes
    beyond *allowed* the shares of the pages (PSS) are added up instead, which reads every page table.
    """

    def __init__(self, allowed: int) -> None:
        self._allowed = allowed
        self._own_bytes = own_bytes()
        self._born_ticks = time.clock_gettime_ns(time.CLOCK_BOOTTIME) * _TICKS // 10**9
        self._base: tuple[int, int] | None = None

    def look(self) -> int:
        """Return the growth in bytes. What was there before is taken at the first look, soon after the beginning."""
        pids = [os.getpid(), *descendants(os.getpid())]
        resident = sum(map(_resident, pids))
        if self._base is None:
            self._base = self._find_base(pids)
        if resident - self._base[0] <= self._allowed or len(pids) == 1:
            return resident - self._base[0]
        return sum(map(_share, pids)) - self._base[1]

    def _find_base(self, pids: list[int]) -> tuple[int, int]:
        """Return (RSS, PSS) of the beginning: without what this process grew since, and children born since brought."""
        born = {pid for pid in pids[1:] if _start_ticks(pid) >= self._born_ticks}
        resident = self._own_bytes + sum(_resident(pid) for pid in pids[1:] if pid not in born)
        if len(pids) == 1:
            return resident, resident
        brought = sum(_pages(pid, b"Private_") for pid in born) + _resident(pids[0]) - self._own_bytes
        return resident, sum(map(_share, pids)) - brought


def descendants(pid: int) -> list[int]:
    """Return all processes below *pid*, as far as they could be seen: one may end meanwhile."""
    found: list[int] = []
    for child in _children(pid):
        found += [child, *descendants(child)]
    return found


def _children(pid: int) -> list[int]:
    """Return the children of *pid*. psutil would read all processes of the host."""
    found: list[int] = []
    try:
        for tid in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - as read, of a string
            found += map(int, _read(f"/proc/{pid}/task/{tid}/children").split())
    except OSError:  # it, or one of its threads, has ended
        pass
    return found


def _resident(pid: int) -> int:
    try:
        return int(_read(f"/proc/{pid}/statm").split()[1]) * PAGE_BYTES
    except OSError:  # it has ended
        return 0


def _share(pid: int) -> int:
    return _pages(pid, b"Pss:")


def _pages(pid: int, kind: bytes) -> int:
    """Return the bytes of a kind of pages: those that begin with *kind* in smaps_rollup, added up."""
    try:
        text = _read(f"/proc/{pid}/smaps_rollup")
    except PermissionError:  # another user's
        return _resident(pid)
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(kind)) * 1024


def _start_ticks(pid: int) -> int:
    try:
        stat = _read(f"/proc/{pid}/stat")
    except OSError:  # it has ended: it holds nothing, before or after
        return 0
    return int(stat[stat.rindex(b")") + 2 :].split()[_START])


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return b"".join(iter(lambda: os.read(descriptor, 1 << 16), b""))
    finally:
        os.close(descriptor)
