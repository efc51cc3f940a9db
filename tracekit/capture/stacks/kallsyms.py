"""
Names of kernel frames, from /proc/kallsyms.

The table (120 to 200 thousand lines) is read by a thread when the first frame is asked for, and kept as three
flat arrays. Whoever asks meanwhile is told to ask again. It has no sizes, so the end of a function is the
beginning of the next one; only BPF programs come and go, so their part is read again when an address is new.

Of a stack that was taken at a tracepoint, the frames that took it are left out: all that runs on behalf of
`bpf_trace_run*` and its like. Samples of cpu-clock need nothing of the kind: they begin where the timer
interrupted. At a switch the first frame is `schedule`, not its inner half.
"""

from __future__ import annotations

import re
import time
from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

UNNAMED = "[unnamed]"
"""What stands for a name. Not the address, which would tell where in memory this kernel is (KASLR)."""
HIDDEN = "kernel frames have no names: addresses are hidden (needs CAP_SYSLOG, and kernel.kptr_restrict below 2)"
UNREADABLE = "kernel frames have no names: /proc/kallsyms cannot be read"

_CODE = b"tTwW"
_PADDING = b"__pfx_"  # in front of functions, never called
_PROGRAM = b"[bpf]"
_TRACING = re.compile(
    rb"bpf_trace_run\d+$|__bpf_trace_|__traceiter_|bpf_trampoline_\d|perf_trace_|trace_call_bpf$"
    rb"|bpf_overflow_handler$|__perf_event_overflow$|perf_swevent_|perf_tp_event$"
)
_SWITCH = b"__schedule"
_MOST_NAME = 512  # KSYM_NAME_LEN
_RELOAD_S = 5.0


@dataclass
class Table:
    """
    The functions of a kernel.

    Attributes:
        starts: addresses, ascending; places: where the name of each begins in *names*, which end in a newline.
        programs: (address, name) of BPF programs, ascending.
    """

    starts: array[int] = field(default_factory=lambda: array("Q"))
    places: array[int] = field(default_factory=lambda: array("I"))
    names: bytearray = field(default_factory=bytearray)
    programs: list[tuple[int, bytes]] = field(default_factory=list)

    def function(self, address: int) -> bytes:
        """Return the name of the function at or before *address*, b"" if there is none."""
        at = bisect_right(self.starts, address) - 1
        return self.name(at) if at >= 0 else b""

    def program(self, address: int) -> bytes:
        """Return the name of the BPF program that is nearer than any function, b"" if there is none."""
        at = bisect_right(self.programs, (address, b"\xff")) - 1
        nearest = bisect_right(self.starts, address) - 1
        if at < 0 or (nearest >= 0 and self.starts[nearest] > self.programs[at][0]):
            return b""
        return self.programs[at][1]

    def name(self, at: int) -> bytes:
        """Return the name of a function by its number."""
        place = self.places[at]
        return bytes(self.names[place : self.names.index(b"\n", place)])


def read(lines: Iterable[bytes]) -> Table:
    """Return the table of the functions in /proc/kallsyms; of several names for one the plainest counts."""
    table = Table()
    for line in lines:
        if line[17] in _CODE and not line.startswith(_PADDING, 19):
            name, _, module = line[19:].rstrip().partition(b"\t")
            if module == _PROGRAM:
                table.programs.append((int(line[:16], 16), name))
            else:
                _add(table, int(line[:16], 16), name)
    table.programs.sort()
    return table if _ascends(table.starts) else _sorted(table)


def _add(table: Table, address: int, name: bytes) -> None:
    if not table.starts or table.starts[-1] != address:
        table.starts.append(address)
        table.places.append(len(table.names))
    elif plainness(name) < plainness(table.name(len(table.starts) - 1)):
        table.places[-1] = len(table.names)
    else:
        return
    table.names += name + b"\n"


def plainness(name: bytes) -> tuple[int, int, bytes]:
    """Return a key by which the name that people know comes first: `read` before `__read` and `__libc_read`."""
    return len(name) - len(name.lstrip(b"_")), len(name), name


def _ascends(starts: array[int]) -> bool:
    return all(map(int.__le__, starts, starts[1:]))


def _sorted(table: Table) -> Table:
    """Modules stand behind the kernel, in the order in which they were loaded."""
    order = sorted(range(len(table.starts)), key=table.starts.__getitem__)
    starts, places = (array(each.typecode, map(each.__getitem__, order)) for each in (table.starts, table.places))
    return Table(starts, places, table.names, table.programs)


class Kernel:
    """Names of kernel frames; nothing of it waits."""

    def __init__(self, path: Path = Path("/proc/kallsyms"), clock: Callable[[], float] = time.monotonic) -> None:
        self.problem = ""
        """Why there are no names, and what helps; one line. Known once frames() has answered."""
        self._path, self._clock = path, clock
        self._table: Table | None = None
        self._loading: Thread | None = None
        self._loaded_s = 0.0
        self._seen: set[int] = set()

    def frames(self, words: Sequence[int]) -> tuple[str, ...] | None:
        """
        Return the frames at *words*, both innermost first; None: ask again, the table is being read.

        The first word is where the kernel was, the others where it will return to.
        """
        if self._table is None or self._loading:
            self._load()
            return None
        addresses = [word - (place > 0) for place, word in enumerate(words)]  # a call may be a function's last word
        names = [self._table.function(address) for address in addresses]
        first = 1 + max((place for place, name in enumerate(names) if _TRACING.match(name)), default=-1)
        first += [name.partition(b".")[0] for name in names[first : first + 1]] == [_SWITCH]  # a clone: `.isra.0`
        if self._is_outdated(addresses[first:]):
            self._load()
            return None
        return tuple(self._frame(*each) for each in zip(addresses[first:], names[first:], strict=True))

    def settle(self, timeout_s: float) -> bool:
        """Wait for the table if it is being read; tell whether it is there."""
        loading = self._loading
        if loading:
            loading.join(timeout_s)
        return self._table is not None and not self._loading

    def _frame(self, address: int, function: bytes) -> str:
        name = self._table.program(address) if self._table else b""
        text = (name or function)[:_MOST_NAME].decode(errors="backslashreplace")
        return f"{text or UNNAMED}_[k]"

    def _is_outdated(self, addresses: Sequence[int]) -> bool:
        """Tell whether an address, unless seen before, may belong to a BPF program newer than the table."""
        table = self._table
        if not table or self.problem:
            return False
        end = table.starts[-1] if table.starts else 0
        fresh = {each for each in addresses if each > end or table.program(each)} - self._seen
        self._seen |= fresh
        return bool(fresh) and self._clock() - self._loaded_s >= _RELOAD_S

    def _load(self) -> None:
        if self._loading is None:
            self._loading = Thread(target=self._read, name="kallsyms", daemon=True)
            try:
                self._loading.start()
            except RuntimeError:  # too many threads, or too little memory: then it is read while all else waits
                self._read()

    def _read(self) -> None:
        try:
            with self._path.open("rb") as lines:
                table = read(lines)
        except OSError:
            table, self.problem = Table(), UNREADABLE
        if table.starts and not table.starts[-1]:
            table, self.problem = Table(), HIDDEN
        self._loaded_s = self._clock()
        self._table = table
        self._loading = None
