"""
Which libraries a process has mapped, and the files behind them.

The path of a mapping is what a process chose to write there: of a container, deleted, or a trap. It is only
matched with patterns; the file is opened through /proc/PID/map_files, which is the mapped one whatever it is
called. What may never answer is not touched: a file system that another process serves (FUSE).
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.capture.libraries.functions import Library, kinds_of

if TYPE_CHECKING:
    from pathlib import Path

_MAPS_BYTES, _MOUNTS_BYTES, _STATUS_BYTES = 1 << 22, 1 << 20, 1 << 14
_LINE = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) ..x. [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) ([0-9]+) +(/.*)$", re.MULTILINE)
_CODE_SIZE = re.compile(rb"^VmLib:\s+(\d+)", re.MULTILINE)
_MOUNT = re.compile(rb"^\d+ \d+ (\d+):(\d+) .*? - (\S+) ", re.MULTILINE)
_QUIETLY = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a lease on the file would make us wait


class UnfitError(Exception):
    """Why a file is not opened; one line."""


@dataclass(frozen=True)
class Mapped:
    """
    A library in a process.

    Attributes:
        range: of its code, as map_files names it.
        device, inode: as maps names them.
        by_client: the process uses it through a library that calls it in a known way.
    """

    kind: Library
    path: bytes
    range: str
    device: bytes
    inode: int
    by_client: bool


@dataclass(frozen=True)
class Identity:
    """
    Which file it is.

    Not by its device: an overlay shows one file of an image under as many devices as there are
    containers, and the kernel probes the file itself.
    """

    inode: int
    size: int
    written_ns: int
    changed_ns: int


def code_size(process: Path) -> int:
    """Return how much code the process has mapped (kB), which changes when it loads a library; -1: it has gone."""
    try:
        found = _CODE_SIZE.search(contents(process / "status", _STATUS_BYTES))
    except OSError:
        return -1
    return int(found[1]) if found else 0


def libraries(process: Path) -> list[Mapped]:
    """
    Return the libraries of known kinds that a process has mapped.

    Raises:
        OSError: it has gone, or may not be looked at.
    """
    lines = _LINE.findall(contents(process / "maps", _MAPS_BYTES))
    files = {path.rpartition(b"/")[2] for *_, path in lines}
    found: dict[tuple[bytes, bytes], Mapped] = {}
    for start, end, device, inode, path in lines:
        for kind in kinds_of(path):
            by_client = kind.client is not None and any(kind.client.match(file) for file in files)
            where = f"{int(start, 16):x}-{int(end, 16):x}"
            found.setdefault((device, inode), Mapped(kind, path, where, device, int(inode), by_client))
    return list(found.values())


def opened(process: Path, mapped: Mapped) -> tuple[int, Identity]:
    """
    Open the file behind a mapping and return its descriptor, and which file it is.

    Raises:
        UnfitError: it is served by another process, or no file.
        OSError: it is not mapped any more, or may not be opened.
    """
    return file_behind(process, mapped.device, mapped.range)


def file_behind(process: Path, device: bytes, where: str, path: bytes = b"", inode: int = 0) -> tuple[int, Identity]:
    """
    Open the file behind the mapping of the range *where*, which is on *device* as maps names it.

    With a *path* and an *inode* also who may not look into map_files can open it, unless it was deleted or replaced.

    Raises:
        UnfitError, OSError: as opened().
    """
    system = _file_system(process, device)
    if system.startswith("fuse"):
        raise UnfitError("its file system is served by another process (FUSE), which may never answer")
    try:
        handle = os.open(process / "map_files" / where, os.O_PATH | os.O_CLOEXEC)
    except PermissionError:
        if not path:
            raise
        handle = os.open(bytes(process / "root") + path, os.O_PATH | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or inode not in (0, status.st_ino):
            raise UnfitError("it is no file" if not inode else "there is another file by now")
        descriptor = os.open(f"/proc/self/fd/{handle}", _QUIETLY)
    finally:
        os.close(handle)
    return descriptor, Identity(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _file_system(process: Path, device: bytes) -> str:
    """Return the kind of file system with *device*, "" if the process sees none such."""
    major, minor = (int(part, 16) for part in device.split(b":"))
    for found in _MOUNT.finditer(contents(process / "mountinfo", _MOUNTS_BYTES)):
        if (int(found[1]), int(found[2])) == (major, minor):
            return found[3].decode(errors="replace")
    return ""


def contents(path: Path, most: int) -> bytes:
    """Return the first *most* bytes of a file of /proc."""
    with path.open("rb", buffering=0) as file:
        parts = []
        while most > 0 and (part := file.read(min(most, 1 << 16))):
            parts.append(part)
            most -= len(part)
        return b"".join(parts)
