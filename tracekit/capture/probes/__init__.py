"""
What traced processes tell of their spans: boards, which are found, checked, mapped, and read at each tick.

A board is written by its process alone, which may lie: what it says of itself can be wrong, but it cannot make the
collector stumble, and it speaks for no process but itself.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Literal

from tracekit.capture.probes import layout
from tracekit.capture.probes.board import Board
from tracekit.capture.probes.opening import (
    Header,
    NoBoardError,
    NotReadyError,
    Opened,
    candidates,
    inode_of,
    is_ending,
    mapped_candidates,
    open_board,
)
from tracekit.capture.probes.search import Search
from tracekit.capture.probes.sums import Sum, Whole
from tracekit.capture.probes.words import Words
from tracekit.records import Loss

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from tracekit.capture.probes.rows import Error, Kind, Value
    from tracekit.capture.readings import Slots
    from tracekit.records import Series

MOST_BOARDS = 4096
"""Mapped at a time."""
_FIRST_NS, _BUDGET_NS = 200_000_000, 5_000_000
"""CPU time that one `scan` may take to look for boards, the first one and later ones."""
_FAR_BYTES = 64 << 20
_MOST_MODULES = 4096
_USER_SPACE = 1 << 56
_DENIED = "no permission to look for them (other users' processes need CAP_SYS_PTRACE)"
_MOST_LINES = 8

_Outcome = Literal["open", "later", "gone", "refused"]


@dataclass(frozen=True)
class Facts:
    """
    Where the threads of a process keep their current span, checked for sense.

    Attributes:
        mode: enum probe_mode. tls_offset, tls_module: of the modes 1 and 2.
        threads_at: address of the table of mode 3; mask: its slots - 1.
    """

    tgid: int
    mode: int
    tls_offset: int = 0
    tls_module: int = 0
    threads_at: int = 0
    mask: int = 0


@dataclass(frozen=True)
class Collected:
    """What all boards gained since the last time; equal series of several processes are added up."""

    histograms: list[tuple[Series, Slots]]
    """span.latency, and db.latency of queries."""
    values: list[tuple[Series, float]]
    """Increases of counters and marks; samples of gauges."""
    parts: dict[tuple[Series, int], tuple[int, int]]
    """(series of those, bucket) → (latency, awaited), ns."""


class Boards:
    """
    The boards of the target.

    Args:
        role: tgid → role; "" for one that has gone, whose last known role then stands.
        begin_ns: CLOCK_MONOTONIC when the recording began: what was counted before does not count.
    """

    def __init__(self, role: Callable[[int], str], begin_ns: int) -> None:
        self.missing: list[str] = []
        """What could not be read, each one line with its reason."""
        self._role = role
        self._begin_ns = begin_ns
        self._begin_ticks = _ticks_since_boot(begin_ns)
        self._words = Words()
        self._search = Search()
        self._living: dict[int, Board] = {}
        self._ended: list[Board] = []
        self._inodes: dict[int, int] = {}
        """inode → tgid, of all boards that are mapped."""
        self._announced: dict[int, str] = {}
        """tgid → path of a board that was not ready."""
        self._failed: set[int] = set()
        self._unread = self._refused = self._no_room = 0
        self._opened: list[Facts] = []
        self._ready: dict[int, int] = {}
        self._ready_given: set[int] = set()
        self._whole: defaultdict[Series, Whole] = defaultdict(Whole)

    @property
    def kinds(self) -> dict[int, Kind]:
        """Kinds by id: their names and labels."""
        return self._words.kinds

    def __len__(self) -> int:
        """Return the number of boards of living processes."""
        return len(self._living)

    def learn(self) -> None:
        """Read what new kinds are called, and nothing else."""
        for board in chain(self._living.values(), self._ended):
            board.learn()

    def latency_series(self, kind_id: int, role: str) -> Series | None:
        """Return the `span.latency` of a kind; None if no board has told what it is."""
        kind = self._words.kinds.get(kind_id)
        return next(iter(self._words.series(kind, role)), None) if kind else None

    def appeared(self, tgid: int, descriptor: int) -> bool:
        """
        Open the board that process *tgid* has at *descriptor*, as the kernel says.

        Returns:
            True if it is open; else it is tried again at the next `scan`, or counted as lost.
        """
        path = f"/proc/{tgid}/fd/{descriptor}"
        outcome = self._try(tgid, path)
        if outcome == "later":
            self._announced[tgid] = path
        elif outcome == "gone":
            self._fail(tgid)
        return outcome == "open"

    def scan(self, living: Collection[int]) -> None:
        """
        Look for boards of the target, whose processes are *living*, once a tick.

        Processes are looked at when they are first seen, then after 1, 2, 4... ticks, as the CPU time permits.
        Boards of processes that are not among them are read for the last time by the next `collect`.
        """
        self._forget(living)
        for tgid, path in list(self._announced.items()):
            del self._announced[tgid]
            self.appeared(tgid, int(path.rpartition("/")[2]))
        due = self._search.tick(living)
        until_ns = time.thread_time_ns() + (_FIRST_NS if self._search.is_first else _BUDGET_NS)
        for tgid in due:
            self._look(tgid)
            self._search.looked_at(tgid)
            if time.thread_time_ns() > until_ns:
                break

    def collect(self) -> Collected:
        """Return what was added since the last time."""
        spans: defaultdict[Series, Sum] = defaultdict(Sum)
        values: defaultdict[Series, float] = defaultdict(float)
        for board in chain(self._living.values(), self._ended):
            self._gather(board, spans, values)
        for board in self._living.values():
            self._add(board, board.gauges.items(), values)
        while self._ended:
            self._close(self._ended.pop())
        found = _collected(spans, values)
        for series, slots in found.histograms:
            self._whole[series].add(slots)
        return found

    def whole(self) -> Iterator[tuple[Series, Slots]]:
        """Yield each histogram since the recording began, as of the last `collect`."""
        for series, found in self._whole.items():
            yield series, found.slots()

    def opened(self) -> list[Facts]:
        """Return what the kernel side needs to know of boards that were opened since the last call."""
        found, self._opened = self._opened, []
        return found

    def ready(self) -> list[tuple[int, int]]:
        """Return (tgid, CLOCK_MONOTONIC ns) of processes that set the mark `ready`, as found by `collect` since."""
        found, self._ready = list(self._ready.items()), {}
        return found

    def losses(self) -> list[Loss]:
        """Return what was lost since the start: processes whose board could not be read, rows that make no sense..."""
        boards = [*self._living.values(), *self._ended]
        counts = {
            "probe": self._unread,
            "probe_rows": self._refused + self._words.crowded + sum(board.refused for board in boards),
            "probe_room": self._no_room + sum(board.lost for board in boards),
        }
        return [Loss(reason, count) for reason, count in counts.items() if count]

    def close(self) -> None:
        """Unmap everything."""
        for board in (*self._living.values(), *self._ended):
            board.opened.memory.close()
        self._living.clear()
        self._ended.clear()
        self._inodes.clear()

    def _forget(self, living: Collection[int]) -> None:
        """Let go of what belongs to processes that are not *living*."""
        alive = set(living)
        for tgid in self._announced.keys() - alive:
            del self._announced[tgid]
            self._fail(tgid)
        for tgid in self._living.keys() - alive:
            self._ended.append(self._living.pop(tgid))
        self._failed &= alive
        self._ready_given &= alive

    def _look(self, tgid: int) -> None:
        """Look for the board of a process, unless it is still where it was."""
        if tgid in self._living and _is_where_it_was(self._living[tgid].opened):
            return
        try:
            self._open_one_of(tgid, candidates(tgid))
            if tgid not in self._living and self._search.was_there(tgid):
                self._open_one_of(tgid, mapped_candidates(tgid))
        except (FileNotFoundError, ProcessLookupError):
            return
        except PermissionError:
            if not is_ending(tgid):
                self._note(_DENIED)  # no loss: nobody knows whether it has a board

    def _open_one_of(self, tgid: int, paths: Iterator[str]) -> None:
        for path in paths:
            try:
                inode = inode_of(path)
            except (FileNotFoundError, ProcessLookupError):
                continue
            if self._inodes.get(inode) == tgid and tgid in self._living:
                return
            if inode not in self._inodes and self._try(tgid, path) == "open":
                return

    def _try(self, tgid: int, path: str) -> _Outcome:
        try:
            opened = open_board(tgid, path)
        except (NotReadyError, BlockingIOError):
            return "later"
        except (FileNotFoundError, ProcessLookupError):
            return "gone"
        except NoBoardError as error:
            return self._refuse(tgid, f"a board cannot be read: {error}")
        except OSError as error:
            return self._refuse(tgid, f"a board cannot be opened: {error.strerror}")
        return self._adopt(tgid, opened)

    def _adopt(self, tgid: int, opened: Opened) -> _Outcome:
        if opened.inode in self._inodes:
            opened.memory.close()
            return "open"
        if len(self._inodes) >= MOST_BOARDS:
            opened.memory.close()
            return self._refuse(tgid, f"{MOST_BOARDS} boards are read already")
        before = self._living.pop(tgid, None)
        if before:  # it has executed another program since
            self._ended.append(before)
        younger = opened.start_ticks >= self._begin_ticks or opened.header.start_ns >= self._begin_ns
        board = self._living[tgid] = Board(tgid, opened, self._words.accept, counts_all=younger)
        board.role = self._role(tgid)
        self._inodes[opened.inode] = tgid
        self._opened.append(_facts_of(tgid, opened.header))
        return "open"

    def _gather(self, board: Board, spans: defaultdict[Series, Sum], values: defaultdict[Series, float]) -> None:
        gains = board.take(whole=self._living.get(board.tgid) is not board)
        board.role = self._role(board.tgid) or board.role
        self._note_ready(board)
        for kind, gain in gains.latencies:
            for series in self._words.series(kind, board.role):
                spans[series].add(gain)
        self._add(board, gains.errors, values)
        self._add(board, gains.counters, values)

    def _add(self, board: Board, found: Iterable[tuple[Error | Value, float]], values: dict[Series, float]) -> None:
        for row, value in found:
            for series in self._words.series(row, board.role):
                values[series] += value

    def _note_ready(self, board: Board) -> None:
        if board.ready_ns >= self._begin_ns and board.tgid not in self._ready_given:
            self._ready_given.add(board.tgid)
            self._ready[board.tgid] = min(board.ready_ns, time.monotonic_ns())

    def _close(self, board: Board) -> None:
        self._refused += board.refused
        self._no_room += board.lost
        del self._inodes[board.opened.inode]
        board.opened.memory.close()

    def _refuse(self, tgid: int, why: str) -> _Outcome:
        self._note(why)
        self._fail(tgid)
        return "refused"

    def _note(self, why: str) -> None:
        line = f"spans of some processes: {why}"
        if line not in self.missing and len(self.missing) < _MOST_LINES:
            self.missing.append(line)

    def _fail(self, tgid: int) -> None:
        """Count a process whose board cannot be read, once."""
        if tgid not in self._failed:
            self._failed.add(tgid)
            self._unread += 1


def _is_where_it_was(opened: Opened) -> bool:
    try:
        return inode_of(opened.path) == opened.inode
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:
        return True  # its process became another user, and may not be looked at any more: what is mapped is read on


def _collected(spans: dict[Series, Sum], values: dict[Series, float]) -> Collected:
    parts = {(series, at): (ns, awaited) for series, found in spans.items() for at, ns, awaited in found.parts()}
    histograms = [(series, found.slots()) for series, found in spans.items()]
    return Collected(histograms, list(values.items()), parts)


def _facts_of(tgid: int, header: Header) -> Facts:
    """Return what a header says of its threads; of what makes no sense, only that nothing can be read."""
    near = -_FAR_BYTES <= header.tls_offset <= _FAR_BYTES and not header.tls_offset % 8
    if header.mode == layout.STATIC and near:
        return Facts(tgid, layout.STATIC, header.tls_offset)
    if header.mode == layout.DYNAMIC and near and header.tls_offset >= 0 and 0 < header.tls_module <= _MOST_MODULES:
        return Facts(tgid, layout.DYNAMIC, header.tls_offset, header.tls_module)
    if header.mode == layout.TABLE and 0 < header.threads_at < _USER_SPACE and not header.threads_at % 8:
        return Facts(tgid, layout.TABLE, threads_at=header.threads_at, mask=layout.THREADS - 1)
    return Facts(tgid, layout.NOTHING)


def _ticks_since_boot(at_ns: int) -> int:
    """Return CLOCK_MONOTONIC *at_ns* as /proc gives start times."""
    since_boot_ns = at_ns + time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return since_boot_ns * os.sysconf("SC_CLK_TCK") // 10**9
