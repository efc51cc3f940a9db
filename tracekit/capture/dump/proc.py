"""
What /proc tells of the threads of a process, without BPF.

The registers are those of /proc/PID/task/TID/syscall, of which there are two: where frames need the base pointer
that nobody saved yet, a native stack ends there. A thread is found in its interpreter by the number that glibc keeps
in its own descriptor, which pthread_self points at.
"""

from __future__ import annotations

import contextlib
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracekit.capture import syscalls, wire
from tracekit.capture.stacks.memory import read
from tracekit.capture.stacks.sleepers import Sleeper

if TYPE_CHECKING:
    from collections.abc import Iterable

_TID_AT = 0x2D0  # struct pthread of glibc on x86_64, since 2.10 at least
_REASONS = syscalls.reasons()
_FRAME = re.compile(r"^\[<[^>]*>\] ([^\s+]+)\+", re.MULTILINE)
_STOPPED = "Tt"


@dataclass(frozen=True)
class Seen:
    """
    A thread.

    Attributes:
        letter: of its state, as stat has it. number: of its system call, wire.NR_NONE: in none, or not known.
        first: argument of that. pc, sp: of its user's side, 0: not known.
        kernel: names of the functions it is at in the kernel, innermost first; without the right to see them
            the one that the kernel tells everybody, if any.
    """

    pid: int
    tgid: int
    letter: str
    number: int = wire.NR_NONE
    first: int = 0
    sp: int = 0
    pc: int = 0
    kernel: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """What it waits for; "": it does not."""
        if self.letter in _STOPPED:
            return wire.REASONS[wire.R_STOPPED]
        if self.letter not in "SDIK":
            return ""
        if self.number == wire.NR_NONE:
            return wire.REASONS[wire.R_OTHER]
        reason = _REASONS[self.number] if self.number < len(_REASONS) else wire.R_OTHER
        return wire.REASONS[_of_file(self.tgid, self.first) if reason == wire.R_FILE else reason]


def threads(tgid: int, root: Path = Path("/proc")) -> list[Seen]:
    """Return the threads of a process, none of one that has gone."""
    found = []
    with contextlib.suppress(OSError):
        for pid in sorted(int(task.name) for task in (root / str(tgid) / "task").iterdir()):
            with contextlib.suppress(OSError, IndexError, ValueError):
                found.append(_seen(tgid, pid, root / str(tgid) / "task" / str(pid)))
    return found


def _seen(tgid: int, pid: int, task: Path) -> Seen:
    letter = (task / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    kernel = tuple(f"{name}_[k]" for name in _FRAME.findall(_text(task / "stack")))
    waits_in = _text(task / "wchan")
    if not kernel and waits_in not in {"", "0"}:
        kernel = (f"{waits_in}_[k]",)
    words = _text(task / "syscall").split()
    if len(words) < 3:  # it runs, or may not be looked at
        return Seen(pid, tgid, letter, kernel=kernel)
    number, sp, pc = int(words[0]), int(words[-2], 16), int(words[-1], 16)
    if number < 0:
        return Seen(pid, tgid, letter, sp=sp, pc=pc, kernel=kernel)
    return Seen(pid, tgid, letter, number, int(words[1], 16), sp, pc, kernel)


def sleepers(seen: Iterable[Seen], pointers: dict[int, int]) -> list[Sleeper]:
    """Return those that do not run; *pointers*: pthread_self by pid."""
    return [
        Sleeper(each.pc, each.sp, 0, pointers.get(each.pid, 0), each.pid, each.tgid)
        for each in seen
        if each.letter != "R"
    ]


def pointers(tgid: int, identities: Iterable[int], pids: Iterable[int]) -> dict[int, int]:
    """
    Return pthread_self by pid, of those that an interpreter knows by it (*identities*).

    Raises:
        OSError: the process has gone, or may not be looked at.
    """
    known, possible = list(identities), set(pids)
    numbers = read(tgid, [(identity + _TID_AT, 4) for identity in known])
    found = {int.from_bytes(number or b"", "little"): each for each, number in zip(known, numbers, strict=True)}
    return {pid: identity for pid, identity in found.items() if pid in possible}


def children(tgids: Iterable[int], root: Path = Path("/proc")) -> list[int]:
    """Return processes and all of their descendants, parents first."""
    parents: dict[int, list[int]] = {}
    for process in root.glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(process.name))
    found = dict.fromkeys(tgids)
    waiting = list(found)
    while waiting:
        fresh = [child for child in parents.get(waiting.pop(0), []) if child not in found]
        found |= dict.fromkeys(fresh)
        waiting += fresh
    return list(found)


def command(tgid: int, root: Path = Path("/proc")) -> str:
    """Return the command line of a process, its arguments with blanks between, or else its name."""
    with contextlib.suppress(OSError):
        with (root / str(tgid) / "cmdline").open("rb") as file:
            words = file.read(1 << 16).rstrip(b"\0").split(b"\0")
        text = b" ".join(words).decode(errors="backslashreplace")
        return text or name(tgid, tgid, root)
    return ""


def name(tgid: int, pid: int, root: Path = Path("/proc")) -> str:
    """Return what a thread calls itself, "" if it has gone."""
    with contextlib.suppress(OSError):
        return (root / str(tgid) / "task" / str(pid) / "comm").read_bytes()[:-1].decode(errors="backslashreplace")
    return ""


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").strip()
    return ""


def _of_file(tgid: int, descriptor: int) -> int:
    """Return the reason of a wait in a read or write."""
    with contextlib.suppress(OSError):
        mode = Path(f"/proc/{tgid}/fd/{descriptor}").stat().st_mode
        if stat.S_ISFIFO(mode):
            return wire.R_PIPE
        if stat.S_ISSOCK(mode):
            return wire.R_NETWORK
        if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
            return wire.R_DISK
    return wire.R_OTHER
