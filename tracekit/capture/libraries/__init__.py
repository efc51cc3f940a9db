"""
Calls of databases, seen inside of client libraries: libpq, libsqlite3, libmariadb.

A probe is on a file, for every process that has it mapped; only the traced ones are recorded, but all of them pay
for the trap. So this is for those who ask for it, and says what it costs.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tracekit.capture import elf, wire
from tracekit.capture.bpf import syscall
from tracekit.capture.bpf.loader import Loaded, load
from tracekit.capture.libraries.attached import Attached, Probed
from tracekit.capture.libraries.functions import SQLITE_ERRORS
from tracekit.capture.libraries.mapped import Identity, Mapped, UnfitError, code_size, libraries, opened
from tracekit.units import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_LEAST_NS, _PART = 500_000, 200
"""CPU time that a `scan` may take but for the first: this much at least, and this part of the time since the last."""
_NO_LIMIT_NS = 1 << 62
_MOST_FILES = 16
"""Opened in one `scan`: a process may map as many as it likes, and call them what it likes."""
_MOST_LINES = 8
_OBJECT = "libraries"


class Libraries:
    """
    The client libraries of the target, probed from now on.

    Args:
        given: maps of the objects that are loaded already, by name; they stay the caller's.
        constants: as those objects have them.
        root: of /proc.

    Raises:
        MachineError: the programs cannot be loaded, with the reason.
    """

    def __init__(self, given: Mapping[str, int], constants: bytes, root: Path = Path("/proc")) -> None:
        self.missing: list[str] = []
        """What could not be probed, each one line with its reason."""
        self._loaded: Loaded = load(_OBJECT, constants, {}, wire.WIRE_VERSION, given)
        self._attached = Attached(self._loaded)
        self._root = root
        self._code: dict[int, int] = {}
        """tgid → how much code it had mapped when it was last looked at; whose turn it is comes first."""
        self._known: dict[tuple[bytes, int], Identity | None] = {}
        """Device and inode, as maps names them → which file that is; None: not to be probed."""
        self._refused = False
        self._opened = 0
        self._scanned_ns = 0
        for code, name in enumerate(SQLITE_ERRORS):
            value = name.encode().ljust(wire.DB_NAME_LEN, b"\0")
            syscall.map_update(self._loaded.maps["sqlite_errors"], code.to_bytes(4, "little"), value)

    @property
    def programs(self) -> Mapping[str, int]:
        """Descriptors, by name: what they cost is theirs to be asked."""
        return self._loaded.programs

    @property
    def lines(self) -> list[str]:
        """What is probed, and what a call costs by that: a line each."""
        return [_line(probed) for probed in self._attached.probed.values()]

    def scan(self, living: Collection[int]) -> None:
        """Probe the libraries of processes that are new, or have loaded more code since they were looked at."""
        since_ns, self._scanned_ns = self._scanned_ns, time.monotonic_ns()
        budget_ns = max(_LEAST_NS, (self._scanned_ns - since_ns) // _PART) if since_ns else _NO_LIMIT_NS
        until_ns = time.thread_time_ns() + budget_ns
        self._opened = 0
        for tgid in self._code.keys() - set(living):
            del self._code[tgid]
        for tgid in [*(tgid for tgid in living if tgid not in self._code), *self._code]:
            if self._refused or self._opened >= _MOST_FILES or time.thread_time_ns() > until_ns:
                return
            process = self._root / str(tgid)
            size = code_size(process)
            known = self._code.pop(tgid, -1)
            if size != known:
                self._look_at(process)
            self._code[tgid] = size if self._opened < _MOST_FILES else -1

    def _look_at(self, process: Path) -> None:
        try:
            found = libraries(process)
        except PermissionError:
            self._miss("other users' processes", "no permission to look at them (needs CAP_SYS_PTRACE)")
        except (FileNotFoundError, ProcessLookupError):
            return  # it has gone
        else:
            for mapped in found:
                if not self._refused:
                    self._try(process, mapped)

    def _try(self, process: Path, mapped: Mapped) -> None:
        try:
            self._probe(process, mapped)
        except FileNotFoundError:
            return  # it is not mapped any more
        except PermissionError:
            self._refused = True
            self._miss("files", "no permission to probe them (needs CAP_SYS_ADMIN)")
        except (OSError, UnfitError, elf.NotElfError) as error:
            self._known[mapped.device, mapped.inode] = None
            self._miss(_name(mapped.path), str(getattr(error, "strerror", None) or error))

    def _probe(self, process: Path, mapped: Mapped) -> None:
        place = mapped.device, mapped.inode
        identity = self._known.get(place)
        if place in self._known and (identity is None or self._attached.is_enough(identity, mapped)):
            return
        self._opened += 1
        file, identity = opened(process, mapped)
        try:
            self._known[place] = identity if self._attached.probe(file, identity, mapped) else None
        finally:
            os.close(file)

    def _miss(self, what: str, why: str) -> None:
        line = f"library probes: {what}: {why}"
        if line not in self.missing and len(self.missing) < _MOST_LINES:
            self.missing.append(line)

    def close(self) -> None:
        """Take all probes away and let go of all."""
        self._attached.close()
        self._loaded.close()


def _name(path: bytes) -> str:
    return printable(path.removesuffix(b" (deleted)").rpartition(b"/")[2].decode("utf-8", "backslashreplace"))


def _line(probed: Probed) -> str:
    slow = f", {len(probed.slow)} slow ({', '.join(sorted(probed.slow))})" if probed.slow else ""
    cost = f"~{probed.call_ns / 1000:.0f} us a call"
    if probed.row_ns:
        cost += f" and ~{probed.row_ns / 1000:.1f} us a row"
    return f"library probes: {_name(probed.path)}: {len(probed.functions)} functions{slow}, {cost}"
