"""
The code that a process has mapped, and the files behind it.

A path is what a process chose to write there: nothing is opened by it where the kernel lets us take the mapped file
itself, which may be of a container, deleted or replaced.
"""

from __future__ import annotations

import os
import re
import stat
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture.libraries.mapped import Identity, UnfitError, contents, file_behind
from tracekit.capture.stacks.layout import MAX_CODE

if TYPE_CHECKING:
    from tracekit.capture.elf import Segment

VDSO = b"[vdso]"
_PAGE = 4096
_MAPS_BYTES, _MOUNTS_BYTES = 1 << 24, 1 << 20
_LINE = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+) +(/.*|\[vdso\])$", re.MULTILINE
)
_SERVED = re.compile(rb"^\d+ \d+ (\d+):(\d+) .*? - fuse", re.MULTILINE)


class Mapping(NamedTuple):
    """
    A range of addresses with code of a file, or of the vDSO.

    Attributes:
        offset: of its beginning in the file, bytes.
        device: as maps names it.
        path: as maps shows it (hostile).
    """

    start: int
    end: int
    offset: int
    device: bytes
    inode: int
    path: bytes

    @property
    def range(self) -> str:
        """Its name in map_files."""
        return f"{self.start:x}-{self.end:x}"


def mappings(process: Path) -> tuple[list[Mapping], int]:
    """
    Return the mappings with code of a process (/proc/PID), by address, and how many were left out.

    Those of files and of the vDSO, the MAX_CODE largest ones.

    Raises:
        OSError: it has gone, or may not be looked at.
    """
    found = [
        Mapping(int(start, 16), int(end, 16), int(offset, 16), device, int(inode), path)
        for start, end, offset, device, inode, path in _LINE.findall(contents(process / "maps", _MAPS_BYTES))
    ]
    largest = sorted(found, key=lambda mapping: mapping.start - mapping.end)[:MAX_CODE]
    return sorted(largest), len(found) - len(largest)


def served(process: Path) -> frozenset[bytes]:
    """
    Return the devices that a process sees whose files another process serves, as maps names them.

    Raises:
        OSError: it has gone, or may not be looked at.
    """
    mounts = _SERVED.findall(contents(process / "mountinfo", _MOUNTS_BYTES))
    return frozenset(b"%02x:%02x" % (int(major), int(minor)) for major, minor in mounts)


def identity(process: Path, mapping: Mapping, avoided: frozenset[bytes]) -> Identity:
    """
    Return which file is behind a mapping; *avoided* is what served() says.

    Raises:
        UnfitError: it is no file, or one that may never answer.
        OSError: it is not mapped any more, or may not be looked at.
    """
    if mapping.device in avoided:
        raise UnfitError("its file system is served by another process (FUSE), which may never answer")
    try:
        status = (process / "map_files" / mapping.range).stat()
    except PermissionError:
        file, found = opened(process, mapping)
        os.close(file)
        return found
    if not stat.S_ISREG(status.st_mode):
        raise UnfitError("it is no file")
    return Identity(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def opened(process: Path, mapping: Mapping) -> tuple[int, Identity]:
    """Open the file behind a mapping and return its descriptor, and which it is. Raises as identity()."""
    return file_behind(process, mapping.device, mapping.range, mapping.path, mapping.inode)


def bias_of(mapping: Mapping, segments: list[Segment]) -> int | None:
    """Return what to add to an address of the file, which has these segments of code; None: it is in none of them."""
    for segment in segments:
        if segment.offset // _PAGE * _PAGE <= mapping.offset < segment.offset + segment.size:
            return mapping.start - mapping.offset + segment.offset - segment.address
    return None


@cache
def vdso() -> bytes:
    """Return what the kernel maps as the vDSO into every process, b"" if it maps none."""
    own = next((each for each in mappings(Path("/proc/self"))[0] if each.path == VDSO), None)
    if not own:
        return b""
    with Path("/proc/self/mem").open("rb", buffering=0) as memory:
        memory.seek(own.start)
        return memory.read(own.end - own.start)


def vdso_file() -> int:
    """Return a descriptor of a file with the vDSO."""
    file = os.memfd_create("vdso", os.MFD_CLOEXEC)
    os.write(file, vdso())
    return file
