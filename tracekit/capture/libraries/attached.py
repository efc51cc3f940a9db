"""Probes in place: on which functions of which files, and what they cost."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tracekit.capture import elf
from tracekit.capture.bpf import syscall
from tracekit.capture.libraries import uprobe
from tracekit.capture.libraries.mapped import UnfitError
from tracekit.capture.libraries.place import MOST_BYTES, Place, place
from tracekit.capture.privileges import Capability, raised

if TYPE_CHECKING:
    from tracekit.capture.bpf.loader import Loaded
    from tracekit.capture.elf import Function
    from tracekit.capture.libraries.functions import Probe
    from tracekit.capture.libraries.mapped import Identity, Mapped

MAX_SITES = 1024
FAST_NS, SLOW_NS, ROW_NS = 2000, 11000, 1400
"""What a trap costs with its program: at an emulated instruction or a return, at another one, for each row
(docs/databases.md; half of it in a loop that does nothing else)."""
_PATH_BYTES = 108
SITE = struct.Struct("=QQIIHH108s8x")
"""before, code, stack, moved, then the peer: struct library_site of libcalls.bpf.h."""
_OWN_CODE = 1 << 14
"""How far behind the last of its functions the code of a library that is part of another file may reach."""


@dataclass
class Probed:
    """
    A file whose functions are probed.

    Attributes:
        functions: all of them; slow: those without a place where a probe is cheap.
        call_ns: what a usual call is delayed by. row_ns: and each row of its answer.
        exact: also for processes that use it in ways that are not known.
    """

    path: bytes
    functions: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    call_ns: int = 0
    row_ns: int = 0
    exact: bool = False


class Attached:
    """
    The probes that are in place.

    Args:
        loaded: bpf/libraries.bpf.c.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.probed: dict[Identity, Probed] = {}
        self._loaded = loaded
        self._descriptors: list[int] = []
        self._sites = 0

    def is_enough(self, identity: Identity, mapped: Mapped) -> bool:
        """Tell whether what is in place sees all calls of a process that uses the library so."""
        return identity in self.probed and (mapped.by_client or self.probed[identity].exact)

    def probe(self, file: int, identity: Identity, mapped: Mapped) -> bool:
        """
        Put the probes in place that a process needs which uses *file* so. Tell whether it has anything to probe.

        Raises:
            elf.NotElfError: it is no library.
            UnfitError: some functions cannot be probed; the others are.
            OSError: it cannot be read, or nobody may probe it.
        """
        if self.is_enough(identity, mapped):
            return True
        functions = elf.read(file, mapped.kind.functions)
        if not functions:
            return False  # it only uses what another file defines
        known = identity in self.probed
        probed = self.probed.setdefault(identity, Probed(mapped.path))
        wanted = () if known else mapped.kind.probes
        if not mapped.by_client:
            probed.exact = True
            wanted = (*wanted, *mapped.kind.exact)
        own = _own_code(functions) if mapped.by_client and not _is_library(mapped.path) else None
        failed = [
            self._try(file, probe, each, own, probed) for probe in wanted for each in functions.get(probe.function, ())
        ]
        if any(failed):
            raise UnfitError("; ".join(filter(None, failed)))
        return True

    def _try(self, file: int, probe: Probe, function: Function, own: tuple[int, int] | None, probed: Probed) -> str:
        """Put a probe in place and return "", or why that cannot be. Raises PermissionError: not of this one alone."""
        try:
            self._put(file, probe, function, own, probed)
        except PermissionError:
            raise
        except OSError as error:
            return f"{probe.function}: {error.strerror}"
        return ""

    def _put(self, file: int, probe: Probe, function: Function, own: tuple[int, int] | None, probed: Probed) -> None:
        code = os.pread(file, MOST_BYTES, function.offset)
        where = place(code, probe.reads, returns=bool(probe.exit), movable=probe.out)
        cookie = self._site(function, own, where, probed.path)
        for program, at_return in ((probe.entry, False), (probe.exit, True)):
            if program:
                number = self._loaded.programs[program]
                offset = function.offset + where.offset
                with raised(Capability.SYS_ADMIN):
                    self._descriptors += uprobe.attach(number, file, offset, cookie, at_return=at_return)
        probed.functions.add(probe.function)
        if not where.fast:
            probed.slow.add(probe.function)
        probed.call_ns += probe.hits * ((FAST_NS if where.fast else SLOW_NS) + (FAST_NS if probe.exit else 0))
        probed.row_ns += ROW_NS if probe.rows else 0

    def _site(self, function: Function, own: tuple[int, int] | None, where: Place, path: bytes) -> int:
        """Tell the programs about a place, and return its number."""
        if self._sites == MAX_SITES:
            raise OSError(0, f"more than {MAX_SITES} functions")
        before, code = (function.address - own[0], own[1]) if own else (function.before, function.code)
        number, self._sites = self._sites, self._sites + 1
        address = path.removesuffix(b" (deleted)")[-_PATH_BYTES:]
        site = SITE.pack(before + where.offset, code, where.stack, max(where.moved, 0), 0, 0, address)
        syscall.map_update(self._loaded.maps["library_sites"], number.to_bytes(4, "little"), site)
        return number

    def close(self) -> None:
        """Take the probes away, one by one; for each the kernel waits 0.1 s until no CPU can be in it."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def _is_library(path: bytes) -> bool:
    return path.rpartition(b"/")[2].startswith(b"lib")


def _own_code(functions: dict[str, list[Function]]) -> tuple[int, int]:
    """Return the address and size of the code of a library that was linked into a file with other code."""
    addresses = [function.address for each in functions.values() for function in each]
    return min(addresses), max(addresses) - min(addresses) + _OWN_CODE
