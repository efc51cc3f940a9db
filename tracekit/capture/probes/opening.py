"""
The way from a process to the memory of its board. Everything on it may be a trap.

What is behind a descriptor of another process is first taken hold of without being opened (O_PATH), so that no
device and no pipe notices; it is opened when it is known to be a memfd, and mapped when it is known that it cannot
shrink: to read beyond the end of a file kills.
"""

from __future__ import annotations

import fcntl
import os
import stat
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture.probes import layout
from tracekit.capture.probes.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_DESCRIPTORS = 4096
"""Looked at of one process."""
_MOST_CANDIDATES = 8
_MAPS_BYTES = 1 << 22
_STATUS_BYTES = 1 << 14
_SPARE_BYTES = 1 << 16
"""A file may be this much longer than a board: it ends with a page."""
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_QUIETLY = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a lease on the file would make us wait


class NotReadyError(Exception):
    """There is no board of this process yet."""


class NoBoardError(Exception):
    """What calls itself a board is none that can be trusted; the text says why."""


class Header(NamedTuple):
    """struct probe_header."""

    magic: bytes
    version: int
    size: int
    pid: int
    mode: int
    tls_offset: int
    tls_module: int
    threads_at: int
    kinds: int
    errors: int
    values: int
    python: int
    lost_kinds: int
    lost_errors: int
    lost_values: int
    lost_threads: int
    start_ns: int


class Opened(NamedTuple):
    """A board that was found good."""

    memory: Memory
    path: str
    header: Header
    inode: int
    start_ticks: int
    """When its process began, in ticks since boot."""


def header_of(view: memoryview) -> Header:
    """Return the header as it is now."""
    return Header._make(layout.HEADER.unpack_from(view, 0))


def candidates(tgid: int) -> Iterator[str]:
    """Yield paths of descriptors that look like a board's. Raises OSError."""
    with os.scandir(f"/proc/{tgid}/fd") as entries:
        found = (entry.path for entry in islice(entries, MOST_DESCRIPTORS) if _leads_to_board(entry.path))
        yield from islice(found, _MOST_CANDIDATES)


def mapped_candidates(tgid: int) -> Iterator[str]:
    """Yield paths of mappings that look like a board's: a daemon closes every descriptor. Raises OSError."""
    for line in _read(f"/proc/{tgid}/maps", _MAPS_BYTES).split(b"\n"):  # a path may hold a return
        if line.endswith(layout.LINK.encode()):
            first, _, last = line.split(b" ", 1)[0].partition(b"-")
            yield f"/proc/{tgid}/map_files/{int(first, 16):x}-{int(last, 16):x}"


def open_board(tgid: int, path: str) -> Opened:
    """
    Open the board of process *tgid* that *path*, an entry of /proc, leads to.

    Raises:
        NotReadyError: it may become one; BlockingIOError: so may this.
        NoBoardError: it never will.
        FileNotFoundError, ProcessLookupError: the process or the descriptor has gone.
        OSError: it cannot be opened.
    """
    start_ticks = start_ticks_of(tgid)
    users, own_pid = _credentials(tgid)
    held = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        inode = _check_file(held, users)
        descriptor = os.open(f"/proc/self/fd/{held}", _QUIETLY)
    finally:
        os.close(held)
    try:
        memory = _map(descriptor)
    finally:
        os.close(descriptor)
    try:
        header = _check_header(memory.view, own_pid)
        if start_ticks_of(tgid) != start_ticks:
            raise ProcessLookupError(tgid)
    except BaseException:
        memory.close()
        raise
    return Opened(memory, path, header, inode, start_ticks)


def inode_of(path: str) -> int:
    """Return the inode behind *path*, an entry of /proc, without opening it. Raises OSError."""
    return os.stat(path).st_ino  # noqa: PTH116 - 3 µs less, at each look at each process


def start_ticks_of(tgid: int) -> int:
    """Return when a process began, in ticks since boot. Raises FileNotFoundError or ProcessLookupError."""
    fields = _read(f"/proc/{tgid}/stat", _STATUS_BYTES).rpartition(b")")[2].split()
    return int(fields[19])


def is_ending(tgid: int) -> bool:
    """Tell whether a process has given up its memory: its descriptors are root's then, whoever it was."""
    try:
        return _read(f"/proc/{tgid}/statm", _STATUS_BYTES).startswith(b"0 ")
    except (FileNotFoundError, ProcessLookupError):
        return True


def _credentials(tgid: int) -> tuple[set[int], int]:
    """Return the users a process acts as, with root, who it may have been; and its id as it sees itself."""
    lines = _read(f"/proc/{tgid}/status", _STATUS_BYTES).split(b"\n")
    fields = dict(line.split(b":", 1) for line in lines if b":" in line)
    return {0, *map(int, fields[b"Uid"].split())}, int(fields[b"NSpid"].split()[-1])


def _check_file(held: int, users: set[int]) -> int:
    """Return the inode of a memfd that belongs to one of *users*."""
    status = os.fstat(held)
    name = os.readlink(f"/proc/self/fd/{held}")  # noqa: PTH115 - as everything here, of a string
    if name != layout.LINK or not stat.S_ISREG(status.st_mode) or status.st_dev != _memfd_device():
        raise NotReadyError(f"the descriptor leads to {name}")
    if status.st_uid not in users:
        raise NoBoardError(f"it belongs to user {status.st_uid}")
    return status.st_ino


def _map(descriptor: int) -> Memory:
    sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    size = os.fstat(descriptor).st_size
    if not sealed:
        raise NotReadyError("it is not sealed")
    if not layout.BYTES <= size < layout.BYTES + _SPARE_BYTES:
        raise NoBoardError(f"it has {size} bytes, not {layout.BYTES}")
    return Memory(descriptor, layout.BYTES)


def _check_header(view: memoryview, own_pid: int) -> Header:
    header = header_of(view)
    if header.magic != layout.MAGIC:
        raise NotReadyError("it has no magic")
    if (header.version, header.size) != (layout.VERSION, layout.BYTES):
        raise NoBoardError(f"it is of version {header.version}, this tracekit reads {layout.VERSION}")
    if header.pid != own_pid:
        raise NotReadyError("it is of the parent")  # which a child has until its first span
    return header


@cache
def _memfd_device() -> int:
    """Return the device of memfds; those of huge pages have another one, and may have no page to give."""
    descriptor = os.memfd_create("tracekit-device", os.MFD_CLOEXEC)
    try:
        return os.fstat(descriptor).st_dev
    finally:
        os.close(descriptor)


def _leads_to_board(path: str) -> bool:
    try:
        return os.readlink(path) == layout.LINK  # noqa: PTH115 - 10 µs less, for each descriptor
    except FileNotFoundError:  # closed since
        return False


def _read(path: str, most: int) -> bytes:
    """Return at most *most* bytes of a file of the kernel. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    parts: list[bytes] = []
    try:
        while most > 0 and (part := os.read(descriptor, most)):
            parts.append(part)
            most -= len(part)
    finally:
        os.close(descriptor)
    return b"".join(parts)
