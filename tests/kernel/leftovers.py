"""What a recording has left on the machine: programs, maps, links, events, processes, files. It should be nothing."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel.lab import until
from tracekit.capture.bpf import syscall

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NEXT_ID = {"prog": 11, "map": 12, "link": 31}
"""BPF_*_GET_NEXT_ID of enum bpf_cmd, by the word of /proc/PID/fdinfo."""
_PINS = Path("/sys/fs/bpf")
_SECONDS = 60
"""The kernel frees some objects only after a while, the longer the busier it is."""

Thing = tuple[str, int]
"""A kind of BPF object, and its id."""


def things() -> set[Thing]:
    """Return the BPF objects that exist."""
    return {(kind, number) for kind, command in NEXT_ID.items() for number in _ids(command)}


def _ids(command: int) -> Iterator[int]:
    number = 0
    with suppress(FileNotFoundError):  # after the last one
        while True:
            attr = bytearray(struct.pack("=3I", number, 0, 0))
            syscall.bpf(command, attr)
            _, number, _ = struct.unpack("=3I", attr)
            yield number


def held(processes: Iterable[Path]) -> set[Thing]:
    """Return the BPF objects and perf events (of number 0) that processes hold, each a folder of /proc."""
    found = set()
    for process in processes:
        with suppress(OSError):  # it has gone
            for link in (process / "fd").iterdir():
                with suppress(OSError):  # closed by now
                    found |= set(_held(link))
    return found


def _held(link: Path) -> Iterator[Thing]:
    name = str(link.readlink())
    if name == "anon_inode:[perf_event]":
        yield "perf event", 0
    elif name.startswith("anon_inode:bpf"):
        text = (link.parent.parent / "fdinfo" / link.name).read_text()
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        yield from ((kind, int(fields[f"{kind}_id"])) for kind in NEXT_ID if f"{kind}_id" in fields)


def descendants(folder: Path) -> dict[int, str]:
    """Return the processes that have `folder` as their place for temporary files, as a Tracer's have: their names."""
    mark, found = f"TMPDIR={folder}\0".encode(), {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has gone, or is a zombie's
            if mark in (process / "environ").read_bytes() + b"\0":
                found[int(process.name)] = (process / "comm").read_text().strip()
    return found


class Inventory:
    """What there is before a tracekit runs in a folder; what is more afterwards, and held by nobody else, is left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._things = things()
        self._pins = set(_PINS.glob("**/*"))

    def check(self, *files: str, processes: tuple[str, ...] = ()) -> None:
        """
        Fail if anything stays.

        Args:
            files: that may be in the folder, besides those that a Tracer makes, and what targets say.
            processes: names of processes that may go on: the command that was launched.
        """
        known = {"stdout", "stderr", "run.tk", *files}
        left = self._left(known, processes)

        def is_clean() -> bool:
            left.intersection_update(self._left(known, processes))  # what comes later is somebody else's
            return not left

        with suppress(TimeoutError):
            until(is_clean, "what is left to go", _SECONDS)
        assert not left, f"left behind: {sorted(left)}"

    def _left(self, known: set[str], processes: tuple[str, ...]) -> set[tuple[str, str]]:
        ours = descendants(self._folder)
        stay = things() - self._things
        if stay:
            stay -= held(Path("/proc").glob("[0-9]*"))
        found = {
            "in the kernel": stay,
            "with descriptors": held(Path(f"/proc/{pid}") for pid in ours),
            "process": {f"{pid} {name}" for pid, name in ours.items() if name not in processes},
            "pin": set(_PINS.glob("**/*")) - self._pins,
            "file": {each.name for each in self._folder.iterdir() if each.suffix != ".json"} - known,
        }
        return {(what, str(which)) for what, several in found.items() for which in several}
