"""Files that commands write: whole or not at all, and never through what another user has laid there."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tracekit.capture.owner import owner
from tracekit.errors import MachineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HINT = "another -o"


def save(path: Path, content: bytes, sources: Iterable[Path | str] = ()) -> None:
    """
    Write *content* to a file, which belongs to the user behind sudo; what stood there is replaced at once.

    A link of one's own is followed, and a pipe or a device written to.

    Raises:
        UsageError: it is one of the *sources* that were read, or something that another user has laid there.
        MachineError: it cannot be written.
    """
    try:
        _refuse_sources(path, sources)
        status = _standing(path)
        if status and not stat.S_ISREG(status.st_mode):
            _write(os.open(path, os.O_WRONLY | os.O_CLOEXEC), content)
            return
        _replace(path.resolve(), content, status)
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror}", _HINT) from error


def _refuse_sources(path: Path, sources: Iterable[Path | str]) -> None:
    for source in sources:
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise UsageError(f"cannot write {path}: it is a file that is read", _HINT)


def _standing(path: Path) -> os.stat_result | None:
    """Return what is at *path*, behind links of one's own; None: nothing. Raises UsageError."""
    user = owner()
    trusted = {0, os.geteuid(), *([user.uid] if user else [])}
    with suppress(FileNotFoundError):
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) and status.st_uid not in trusted:
            raise UsageError(f"cannot write {path}: another user has laid a link or a pipe there", _HINT)
        return path.stat()
    return None


def _replace(path: Path, content: bytes, before: os.stat_result | None) -> None:
    """Put a new file in the place of *path*; where no file can be made, write to the one that is there."""
    fresh = path.with_name(f".{path.name[:200]}.{os.getpid()}")
    try:
        descriptor = os.open(fresh, _NEW, 0o666)
    except PermissionError:
        if before is None:
            raise
        _write(os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC), content)
        return
    try:
        user = owner()
        if user:
            os.fchown(descriptor, user.uid, user.gid)
        if before:
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode) & 0o777)
        _write(descriptor, content)
        fresh.replace(path)
    except OSError:
        fresh.unlink()
        raise


def _write(descriptor: int, content: bytes) -> None:
    with open(descriptor, "wb") as file:
        file.write(content)
