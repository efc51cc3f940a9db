"""Whose memory is laid out how: what the walkers need of each process, and who can name its Python code."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tracekit.capture.stacks import layout
from tracekit.capture.stacks.code import UNREADABLE, Codes
from tracekit.capture.stacks.interpreter import ClosedError, UnknownPythonError, find
from tracekit.capture.stacks.layouts import Layouts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from tracekit.capture.stacks.programs import Programs
    from tracekit.capture.stacks.samples import User
    from tracekit.capture.stacks.symbols import Symbols

NO_PYTHON = bytes(layout.PYTHON.size)
AGAIN_S = 1.0
"""A process that loads libraries is looked at once in so long."""
_BUDGET_NS = 20_000_000
"""CPU time of one call: a process takes some milliseconds, and there may be hundreds at once."""
_TRIES = 8
"""How often a Python is looked for in a process that has just begun."""
NAMED_S = 3.0
"""A process that has ended is forgotten after so long: a thread looks up the names of what came from it."""
_SPARE = 64
"""Layouts that are free when no longer used ones are looked for."""


class Memories:
    """
    The memories of the processes that are walked.

    Args:
        programs: the walkers. names: of native frames; it is told where processes have their code.
        at_once: as Layouts has it.
    """

    def __init__(self, programs: Programs, names: Symbols, *, at_once: bool = False) -> None:
        self._programs = programs
        self._names = names
        self._owners: dict[int, int] = {}
        self.layouts = Layouts(programs.rows, programs.pages, at_once=at_once)
        self._codes: dict[int, Codes] = {}
        self._pythons: dict[int, bytes] = {}
        self._numbers: dict[int, int] = {}
        self._looked: dict[int, float] = {}
        self._free = list(range(layout.MAX_LAYOUTS - 1, 0, -1))
        self._missing: dict[str, None] = {}
        self._tries: dict[int, int] = {}
        self._due: dict[int, bool] = {}
        """Processes to look at; true: as if for the first time."""
        self._unwritten: dict[int, None] = {}
        self._gone: dict[int, float] = {}

    @property
    def missing(self) -> list[str]:
        """What cannot be walked, each one line with its reason."""
        return list(self._missing)

    @property
    def is_busy(self) -> bool:
        """There is something for learn() to do."""
        return bool(self._due or self._tries or self._unwritten) or self.layouts.is_waiting

    def learn(self, wanted: set[int], outgrown: set[int]) -> None:
        """Tell the walkers of processes that they asked for, as the CPU time permits; both sets are emptied."""
        now = time.monotonic()
        self._due |= dict.fromkeys(wanted, True)
        for tgid in outgrown - self._due.keys():
            if now - self._looked.get(tgid, 0) > AGAIN_S:
                self._due[tgid] = False
        wanted.clear()
        outgrown.clear()
        if self.layouts.poll():
            self._unwritten |= dict.fromkeys(self._numbers)
        until_ns = time.thread_time_ns() + _BUDGET_NS
        while self._due and time.thread_time_ns() < until_ns:
            tgid = next(iter(self._due))
            self._look(tgid, anew=self._due.pop(tgid))
        for tgid in list(self._tries):
            if time.thread_time_ns() < until_ns:
                self._try_again(tgid)
        while self._unwritten and time.thread_time_ns() < until_ns:
            self._write(self._unwritten.popitem()[0])

    def _look(self, tgid: int, *, anew: bool = False) -> None:
        self._looked[tgid] = time.monotonic()
        if anew or tgid not in self._pythons:
            self._find_python(tgid)
        if anew:
            self._numbers.pop(tgid, None)
            if tgid not in self._codes:
                self._tries[tgid] = _TRIES
        self._write(tgid)
        self._names.know(tgid)

    def _find_python(self, tgid: int) -> None:
        self._codes.pop(tgid, None)
        self._pythons[tgid] = NO_PYTHON
        try:
            found = find(tgid)
        except UnknownPythonError as error:
            frames = "frames" if isinstance(error, ClosedError) else "Python frames"
            self._missing[f"{frames} of some processes: {error}"] = None
            return
        if found:
            self._pythons[tgid] = found.packed()
            self._codes[tgid] = Codes(tgid, found, _cwd(tgid))
            self._tries.pop(tgid, None)

    def _try_again(self, tgid: int) -> None:
        """Look once more for the Python of a process that had none yet when it was first seen."""
        self._tries[tgid] -= 1
        if not self._tries[tgid]:
            del self._tries[tgid]
        self._find_python(tgid)
        if tgid in self._codes:
            self._write(tgid)

    def _write(self, tgid: int) -> None:
        if tgid not in self._numbers:
            if len(self._free) < _SPARE:
                self._make_room()
            if not self._free:
                self._missing["stacks of some processes: too many at a time"] = None
                return
            self._numbers[tgid] = self._free.pop()
            self._owners[self._numbers[tgid]] = tgid
        number = self._numbers[tgid]
        with contextlib.suppress(OSError):  # it has gone
            self._programs.set_layout(number, self.layouts.pack(tgid, self._pythons[tgid]))
            self._programs.give_layout(tgid, number)

    def _make_room(self) -> None:
        """Drop the layouts that no process has any more, children that have their parent's included."""
        used = self._programs.layouts_in_use() | set(self._numbers.values())
        for number in set(range(1, layout.MAX_LAYOUTS)) - used - set(self._free):
            self._programs.drop_layout(number)
            self._free.append(number)

    def adopt(self, users: Iterable[User]) -> None:
        """
        Look at children that are walked by the layout of their parent, once: it may end, and they may load.

        Those for which there is no time now are looked at by learn().
        """
        children = {user.tgid for user in users if self.owner(user) != user.tgid}
        until_ns = time.thread_time_ns() + _BUDGET_NS
        for tgid in children - self._pythons.keys() - self._due.keys():
            if time.thread_time_ns() < until_ns:
                self._look(tgid)
            else:
                self._due[tgid] = False

    def python_names(self, tgid: int, number: int, words: Iterable[int]) -> dict[int, str]:
        """
        Return the frames that *words* stand for at this moment, of a process walked by layout *number*.

        A child that cannot be asked any more had its parent's.
        """
        wanted, names = set(words), dict[int, str]()
        for asked in dict.fromkeys((tgid, self._owners.get(number, tgid))):
            if asked in self._codes:
                names |= self._codes[asked].names(word for word in wanted if names.get(word, UNREADABLE) == UNREADABLE)
        return names

    def hold(self, tgid: int, addresses: set[int]) -> bool:
        """Tell whether the code objects of a process at *addresses* have the names that they had (Codes.hold)."""
        return not addresses or (tgid in self._codes and self._codes[tgid].hold(addresses))

    def see(self, users: Iterable[User]) -> None:
        """Have made what it takes to walk on from where these stacks were."""
        for user in users:
            self.layouts.see(self.owner(user), user.native)

    def owner(self, user: User) -> int:
        """Return the process whose memory a stack was walked by: a child's may be its parent's."""
        return self._owners.get(user.layout, user.tgid)

    def forget(self, living: Collection[int]) -> None:
        """Let go of processes that ended a while ago: what came from them has its names by now."""
        now = time.monotonic()
        gone = (self._numbers.keys() | self._pythons.keys()) - set(living)
        self._gone = {tgid: self._gone.get(tgid, now) for tgid in gone}
        for tgid in [tgid for tgid, since in self._gone.items() if now - since > NAMED_S]:
            for table in (
                self._codes,
                self._pythons,
                self._numbers,
                self._looked,
                self._tries,
                self._due,
                self._unwritten,
            ):
                table.pop(tgid, None)
        self._names.forget(self._pythons.keys())
        self.layouts.forget(self._pythons.keys())

    @property
    def cpu_ns(self) -> int:
        """What making the tables has taken, in another process."""
        return self.layouts.cpu_ns

    def close(self) -> None:
        """End whoever makes tables."""
        self.layouts.close()


def _cwd(tgid: int) -> str:
    try:
        return str(Path(f"/proc/{tgid}/cwd").readlink())
    except OSError:
        return ""
