"""Opening the file of a recording: never a wait for a pipe, and one clear line for what is none."""

from __future__ import annotations

import re
import sqlite3
import stat
from pathlib import Path

from tracekit.errors import RecordingError, UsageError
from tracekit.recording.writer import APPLICATION_ID, FORMAT

_HOW_TO_MAKE = "tracekit attach -o FILE.tk makes one"
_ELSEWHERE = re.compile(r"(https?|ftp|s3|gs|ssh):|[\w.@-]+:")
_PACKED = {b"\x1f\x8b": "gunzip", b"\x28\xb5\x2f\xfd": "unzstd", b"\xfd7zXZ": "unxz", b"BZh": "bunzip2"}
"""How a compressed file begins, and what unpacks it."""
_DAMAGE = (sqlite3.Error, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading the rows and payloads of a damaged or hostile file raises."""


class Damage:
    """Turn what a damaged file raises into one clear line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, _DAMAGE):
            hint = "copy the -wal file along with it if there is one, or record again"
            raise RecordingError(f"cannot read {self._path}: the file is damaged ({error})", hint) from error


def open_file(path: Path) -> tuple[sqlite3.Connection, int]:
    """Return the open file and its format."""
    _check_file(path)
    with Damage(path):
        db = _connect(path)
        ident, found = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        kinds = dict(db.execute("SELECT name, CASE WHEN rootpage THEN type ELSE 'virtual' END FROM sqlite_master"))
    refusal = _refusal(path, ident, found, kinds)
    if refusal:
        db.close()
        raise refusal
    return db, found


def _check_file(path: Path) -> None:
    """Refuse what is no SQLite file, without ever waiting for a pipe or a device."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file"
            raise UsageError(f"cannot read {path}: {kind}", _HOW_TO_MAKE)
        with path.open("rb") as file:
            head = file.read(18)
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = "a copy of it on this machine" if _ELSEWHERE.match(str(path)) else _HOW_TO_MAKE
        raise UsageError(f"cannot read {path}: no such file", hint) from error
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}", "run as the file's owner") from error
    if not head:
        raise RecordingError(f"cannot read {path}: the file is empty", "record again")
    unpack = next((program for magic, program in _PACKED.items() if head.startswith(magic)), "")
    if unpack:
        raise RecordingError(f"cannot read {path}: it is compressed", f"{unpack} {path}")
    if not head.startswith(b"SQLite format 3\0"):
        raise RecordingError(f"cannot read {path}: not a tracekit recording", _HOW_TO_MAKE)
    page_bytes = int.from_bytes(head[16:], "big")
    if page_bytes == 0 or (status.st_size % page_bytes and not Path(f"{path}-wal").exists()):
        # SQLite takes a torn last page for one that ends in zeros; with a journal it comes from there
        raise RecordingError(f"cannot read {path}: the file is damaged (its last page is torn)", "copy it again")


def _connect(path: Path) -> sqlite3.Connection:
    """
    Connect read-only.

    A journal (-wal) that a killed collector left needs a -shm file beside it. Where none can be
    made, as the folder is not ours or the disk is full, SQLite's lock-free VFS reads it from memory.
    """
    uri = f"{path.resolve().as_uri()}?mode=ro"
    db = sqlite3.connect(uri, uri=True, timeout=5)
    db.execute("PRAGMA trusted_schema=OFF")
    try:
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        db.close()
        db = sqlite3.connect(f"{uri}&vfs=unix-none", uri=True)
        db.execute("PRAGMA trusted_schema=OFF")
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
    return db


def _refusal(path: Path, ident: int, found: int, kinds: dict[str, str]) -> RecordingError | None:
    """Say why this SQLite file, with objects of these *kinds* by name, is none that we can read; None if it is one."""
    if ident != APPLICATION_ID:
        return RecordingError(f"cannot read {path}: a SQLite file, but not a tracekit recording", _HOW_TO_MAKE)
    if not 1 <= found <= FORMAT:
        fact = f"recording format {found}, this tracekit reads 1 to {FORMAT}"
        return RecordingError(f"cannot read {path}: {fact}", "upgrade tracekit, or record again")
    if set(kinds.values()) - {"table", "index"}:  # a view in place of a table is a program that reading would run
        return RecordingError(f"cannot read {path}: it holds more than tables: not made by tracekit", _HOW_TO_MAKE)
    if "meta" not in kinds:
        return RecordingError(f"cannot read {path}: it holds nothing, its collector was killed at once", "record again")
    return None
