"""
Names of code that a process made itself: /tmp/perf-PID.map, which CPython (-X perf), Node and Java agents write.

The file is looked for where the process sees /tmp, under the id that it sees itself. It is whatever the process
made of it, so it is only read if it is a plain file of the process's own user, and what is kept is bounded.

Source:
    tools/perf/Documentation/jit-interface.txt: lines of `START SIZE name`, in hexadecimal; a later line wins.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from tracekit.capture.libraries.mapped import contents

_MOST_BYTES = 64 << 20
_MOST_LINE = 4096
_PAGE_SHIFT, _MOST_PAGES, _MOST_REACHED = 14, 64, 1 << 19  # pages that pieces of code reach: of one, together
_LINE = re.compile(rb"(?:0x)?([0-9a-fA-F]{1,16}) (?:0x)?([0-9a-fA-F]{1,16}) (.{1,4096}).*")
_IDS = re.compile(rb"^NSpid:.*?(\d+)$", re.MULTILINE)
_USER = re.compile(rb"^Uid:\s+(\d+)\s+(\d+)", re.MULTILINE)
_SERVED = re.compile(rb"^\d+ \d+ \S+ \S+ (?:/|/tmp) .*? - fuse", re.MULTILINE)
_STATUS_BYTES, _MOUNTS_BYTES = 1 << 14, 1 << 20


class Jit:
    """What a process says of the code that it made."""

    def __init__(self, pid: int, proc: Path = Path("/proc")) -> None:
        self._process = proc / str(pid)
        self._read = 0
        self._torn = b""
        self._reached = 0
        self._pages: dict[int, list[tuple[int, int, bytes]]] = {}

    def name(self, address: int) -> bytes:
        """Return the name of the code at *address*, as it stood when refresh() was called; b"": it has none."""
        for start, size, name in reversed(self._pages.get(address >> _PAGE_SHIFT, ())):
            if start <= address < start + size:
                return name
        return b""

    def refresh(self) -> None:
        """
        Read what the process has written since.

        Raises:
            OSError: it has no such file, or has gone.
        """
        status = contents(self._process / "status", _STATUS_BYTES)
        ids, users = _IDS.search(status), _USER.search(status)
        if not ids or not users or _SERVED.search(contents(self._process / "mountinfo", _MOUNTS_BYTES)):
            return
        path = self._process / "root/tmp" / f"perf-{int(ids[1])}.map"
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            found = os.fstat(file)
            if stat.S_ISREG(found.st_mode) and found.st_uid in (0, int(users[1]), int(users[2])):
                self._take(file, min(found.st_size, _MOST_BYTES))
        finally:
            os.close(file)

    def _take(self, file: int, size: int) -> None:
        if size < self._read:  # written anew
            self._read, self._torn, self._reached = 0, b"", 0
            self._pages.clear()
        while self._read < size and (piece := os.pread(file, min(size - self._read, 1 << 20), self._read)):
            self._read += len(piece)
            *lines, self._torn = (self._torn + piece).split(b"\n")
            for line in lines:
                self._put(line)
            self._torn = self._torn[:_MOST_LINE]

    def _put(self, line: bytes) -> None:
        found = _LINE.fullmatch(line)
        if not found or self._reached >= _MOST_REACHED:
            return
        start, size = int(found[1], 16), int(found[2], 16)
        pages = range(start >> _PAGE_SHIFT, (start + size >> _PAGE_SHIFT) + 1)[:_MOST_PAGES]
        self._reached += len(pages)
        for page in pages:
            self._pages.setdefault(page, []).append((start, size, found[3]))
