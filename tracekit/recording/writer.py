"""Writing a recording: one transaction an interval, so that kill -9 loses only the open one."""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
import stat
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracekit.errors import DiskFullError, RecordingError, UsageError
from tracekit.recording import payload
from tracekit.records import WAITS, Clocks, Host, InFlight, Process, Series, Target, Tick

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tracekit.records import Exemplar, HistogramDelta, Loss, SpanParts

FORMAT = 4
_SCHEMA = Path(__file__).with_name("schema.sql")
_PATIENCE_MS = 500
"""How long `close` waits for readers, so that it can leave one file."""
_INDEX_BYTES = 1 << 15
APPLICATION_ID = 0x746B7263
Sample = tuple[int, int, int, int, int]
_SAMPLE = ("I", "H", "I", "Q", "Q")
MOST_SAMPLES = payload.LIMIT_BYTES // 26
EXEMPLARS = 8
"""How many of the slowest spans of a series an interval keeps."""
_EXEMPLAR_FIELDS = ["series", "tgid", "pid", "start_ns", "duration_ns", "awaited", "failed", "seen"]
EXEMPLAR_COLUMNS = [*_EXEMPLAR_FIELDS, *(f"{wait}_ns" for wait in WAITS), "sampled_ns", "errors"]
_LARGEST = (1 << 63) - 1
"""SQLite's largest number; what a traced process says of its own times may be larger."""


class Writer:
    """
    A recording being made. Use as a context manager; call `finish` for a complete one.

    Args:
        path: file to create, mode 0600.
        host, target, clocks: what the file says of itself.
        settings: interval_ns, tiers and the like; JSON values.
        force: replace an existing file.
        owner: (uid, gid) the file is given to: the user behind sudo.

    Raises:
        UsageError: the file exists and *force* is not set.
        RecordingError: it cannot be created; DiskFullError from any method when there is no room.
    """

    def __init__(
        self,
        path: Path,
        host: Host,
        target: Target,
        clocks: Clocks,
        settings: dict[str, Any],
        *,
        force: bool = False,
        owner: tuple[int, int] | None = None,
    ) -> None:
        self.path = path
        self._series: dict[Series, int] = {}
        self._stacks: dict[tuple[str, ...], int] = {}
        self._last_series = self._last_stack = 0
        self._new_series: list[tuple[int, str, str, str, str]] = []
        self._new_stacks: list[tuple[int, int, str]] = []
        self._intervals = 0
        facts = {"host": vars(host), "target": vars(target), "clocks": vars(clocks), "settings": settings}
        self._owner = owner
        self._place = _create(path, force, owner)
        try:
            self._start(path, {key: json.dumps(value) for key, value in facts.items()})
        except RecordingError:
            for name in (path, *_beside(path)):  # nothing is in them, and they would be in the way of the next try
                with suppress(OSError):
                    name.unlink()
            raise

    def series(self, series: Series) -> int:
        """Return the id of *series*, new or known."""
        known = self._series.get(series)
        if known is not None:
            return known
        clean = _clean(series)
        if clean != series:
            return self._series.setdefault(series, self.series(clean))
        ident = self._last_series = self._last_series + 1
        labels = json.dumps(dict(series.labels), sort_keys=True)
        self._new_series.append((ident, series.metric, labels, series.kind, series.unit))
        return self._series.setdefault(series, ident)

    def stack(self, frames: tuple[str, ...]) -> int:
        """Return the id of the stack *frames* (root first), new or known."""
        known = self._stacks.get(frames)
        if known is not None:
            return known
        clean = tuple(_storable(frame) for frame in frames)
        if clean != frames:
            return self._stacks.setdefault(frames, self.stack(clean))
        text = json.dumps(frames)
        import hashlib  # noqa: PLC0415 - 15 ms, which the attach need not wait for

        digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)
        ident = self._last_stack = self._last_stack + 1
        self._new_stacks.append((ident, digest, text))
        return self._stacks.setdefault(frames, ident)

    def append(self, tick: Tick) -> None:
        """Commit one interval. Ids must come from this writer."""
        row = (
            tick.interval.start_ns,
            tick.interval.end_ns,
            int(tick.partial),
            _pack_histograms(tick.histograms),
            payload.encode([("I", [s for s, _ in tick.values]), ("d", [v for _, v in tick.values])]),
            _pack_stacks(tick.stacks),
            _pack_parts(tick.parts),
            _pack_samples(tick.samples),
        )
        with self._transaction():
            columns = "(start_ns, end_ns, partial, histograms, vals, stacks, parts, samples)"
            cursor = self._db.execute(f"INSERT INTO interval {columns} VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            number = cursor.lastrowid or 0
            self._put_processes(tick.processes)
            self._put_losses(number, tick.losses)
            self._put_exemplars(number, tick.exemplars)
        self._intervals = number

    def checkpoint(
        self,
        histograms: list[HistogramDelta],
        stacks: list[tuple[int, int, int]],
        parts: Sequence[SpanParts] = (),
        samples: Sequence[Sample] = (),
    ) -> None:
        """
        Commit the sums since the start, so that reading the whole file need not add every interval.

        Of more samples than a payload can hold there is no checkpoint: then reading takes longer.
        """
        if len(samples) > MOST_SAMPLES:
            return
        packed = (_pack_histograms(histograms), _pack_stacks(stacks), _pack_parts(parts), _pack_samples(samples))
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?, ?, ?)", (self._intervals, *packed))

    def finish(self, in_flight: Iterable[InFlight], end: dict[str, Any]) -> None:
        """Commit what is only known at the end and leave one file, complete."""
        with self._transaction():
            rows = [[_storable(v) if isinstance(v, str) else v for v in vars(wait).values()] for wait in in_flight]
            self._db.executemany("INSERT INTO in_flight VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('end', ?)", (json.dumps(end),))
        self.close()
        self._check_place()

    def close(self) -> None:
        """
        Close the file; without `finish` it stays valid but is not complete.

        Somebody who reads it at this moment keeps the journal (-wal) beside the file from being taken away.
        """
        with self._errors():
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._db.execute(f"PRAGMA busy_timeout={_PATIENCE_MS}")
            try:
                self._db.execute("PRAGMA journal_mode=MEMORY")  # DELETE's own journal would outlive a kill
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
        self._db.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def _start(self, path: Path, meta: dict[str, str]) -> None:
        with self._errors():
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5)
        try:
            self._lay_out(meta)
        except RecordingError:
            self._db.close()
            raise

    def _lay_out(self, meta: dict[str, str]) -> None:
        schema = _SCHEMA.read_text()
        with self._errors():
            self._db.execute("PRAGMA journal_mode=MEMORY")  # a rollback journal left by a kill could not be read
            mark = f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={FORMAT};"
            self._db.executescript(f"BEGIN; {mark} COMMIT;")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("PRAGMA cache_size=-512")
            self._db.executescript("BEGIN;" + schema)
            self._db.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            self._db.execute("COMMIT")
        self._check_journal()

    def _check_journal(self) -> None:
        """See to it that SQLite's files beside ours are ours: somebody may have laid them there before it made them."""
        ours = {os.geteuid(), *(self._owner or ())[:1]}
        for name in _beside(self.path):
            status = name.lstat() if name.exists() else None
            if status and (status.st_uid not in ours or status.st_nlink > 1 or not stat.S_ISREG(status.st_mode)):
                raise RecordingError(f"cannot record to {self.path}: {name.name} is another user's", "another -o FILE")

    def _check_place(self) -> None:
        """See to it that what was written can be found."""
        try:
            status = self.path.lstat()
        except OSError:
            status = None
        if status is None or (status.st_dev, status.st_ino) != self._place:
            fact = "somebody removed or replaced it meanwhile"
            raise RecordingError(f"cannot keep {self.path}: {fact}", "a folder that only you write to")

    def _put_names(self) -> None:
        """Store the series and stacks that are new, in one transaction with the first numbers that speak of them."""
        self._db.executemany("INSERT INTO series VALUES (?, ?, ?, ?, ?)", self._new_series)
        self._db.executemany("INSERT INTO stack VALUES (?, ?, ?)", self._new_stacks)

    def _put_processes(self, processes: list[Process]) -> None:
        names = [field.name for field in dataclasses.fields(Process)]
        marks = ", ".join(f":{name}" for name in names)
        query = f"INSERT OR REPLACE INTO process ({', '.join(names)}) VALUES ({marks})"
        self._db.executemany(
            query, [vars(p) | {"role": _storable(p.role), "span": _storable(p.span)} for p in processes]
        )

    def _put_losses(self, interval: int, losses: list[Loss]) -> None:
        rows = [(interval, _storable(loss.reason), loss.count) for loss in losses]
        self._db.executemany("INSERT INTO loss VALUES (?, ?, ?)", rows)

    def _put_exemplars(self, interval: int, exemplars: list[Exemplar]) -> None:
        columns = ("interval", *EXEMPLAR_COLUMNS)
        query = f"INSERT INTO exemplar ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        self._db.executemany(query, [(interval, *_exemplar_row(one)) for one in _slowest(exemplars)])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._db.execute("BEGIN")
            try:
                self._put_names()
                yield
                self._db.execute("COMMIT")
            except BaseException:  # Ctrl-C too: an open transaction would be in the way of `finish`
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._new_series.clear()
            self._new_stacks.clear()

    def _is_full(self) -> bool:
        """Tell whether there is too little room for the index of the journal, of which SQLite says no more."""
        try:
            found = os.statvfs(self.path.parent)
        except OSError:
            return False
        return found.f_bavail * found.f_frsize < _INDEX_BYTES

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if "full" in str(error) or ("I/O" in str(error) and self._is_full()):  # error codes: only from 3.11 on
                hint = "free some space, or record to another file system; what was recorded so far is kept"
                raise DiskFullError(f"cannot write {self.path}: the disk is full", hint) from error
            raise RecordingError(f"cannot write {self.path}: {error}") from error


def refuse_existing(path: Path) -> None:
    """Raise UsageError if *path* exists: said before any work is done for it."""
    if path.is_symlink() or path.exists():
        refuse_what_is_no_file(path)
        raise UsageError(f"cannot record to {path}: it exists", "-f to replace it, or another -o")


def refuse_what_is_no_file(path: Path) -> None:
    """Raise UsageError if *path* is a folder, or a device such as /dev/null: nobody wants that replaced."""
    if path.is_symlink() or path.is_file() or not path.exists():
        return
    if path.is_dir():
        raise UsageError(f"cannot record to {path}: it is a folder", f"-o {path / 'run.tk'}")
    raise UsageError(f"cannot record to {path}: it is not a regular file", "another -o")


def _beside(path: Path) -> tuple[Path, Path, Path]:
    return Path(f"{path}-wal"), Path(f"{path}-shm"), Path(f"{path}-journal")


def _create(path: Path, force: bool, owner: tuple[int, int] | None) -> tuple[int, int]:
    """Create *path* empty, 0600, never through a link that somebody laid there; return its device and inode."""
    try:
        if force:
            refuse_what_is_no_file(path)
            path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, 0o600)
    except FileExistsError:
        refuse_existing(path)
        raise
    except OSError as error:
        raise RecordingError(f"cannot create {path}: {error.strerror}", "another -o FILE") from error
    try:
        for name in _beside(path):  # of a file that is gone, or laid there: SQLite would write to them
            name.unlink(missing_ok=True)
        if owner:
            os.fchown(descriptor, *owner)
        status = os.fstat(descriptor)
        return status.st_dev, status.st_ino
    except OSError as error:
        path.unlink()
        raise RecordingError(f"cannot create {path}: {error.strerror} ({error.filename})", "another -o FILE") from error
    finally:
        os.close(descriptor)


def _storable(text: str) -> str:
    """Return *text* with lone surrogates (bytes that are no UTF-8) spelled out: everyone after us can encode it."""
    return text.encode("utf-8", "backslashreplace").decode()


def _clean(series: Series) -> Series:
    labels = tuple((_storable(name), _storable(value)) for name, value in series.labels)
    return dataclasses.replace(series, metric=_storable(series.metric), labels=labels)


def _pack_histograms(deltas: list[HistogramDelta]) -> bytes:
    return payload.encode(
        [
            ("I", [delta.series for delta in deltas]),
            ("H", [len(delta.slots) for delta in deltas]),
            ("Q", [delta.total for delta in deltas]),
            ("Q", [delta.low for delta in deltas]),
            ("Q", [delta.high for delta in deltas]),
            ("H", [step for delta in deltas for step in _steps(delta.slots)]),
            ("Q", [count for delta in deltas for count in delta.counts]),
        ]
    )


def _steps(slots: list[int]) -> list[int]:
    """Slots as distances from the one before: small numbers deflate better."""
    return [slots[0], *(b - a for a, b in pairwise(slots))] if slots else []


def _pack_stacks(stacks: list[tuple[int, int, int]]) -> bytes:
    codes = ("I", "Q", "Q")
    return payload.encode([(code, [row[i] for row in stacks]) for i, code in enumerate(codes)])


def _pack_samples(samples: Sequence[Sample]) -> bytes:
    """Rows of a series lie together, so that its numbers are next to nothing."""
    rows = sorted(samples)
    return payload.encode([(code, [row[i] for row in rows]) for i, code in enumerate(_SAMPLE)]) if rows else b""


def _pack_parts(parts: Sequence[SpanParts]) -> bytes:
    """Numbers of one kind lie together: most waits are 0, and a column of zeros is next to nothing."""
    if not parts:
        return b""
    sums = ("latency_ns", "awaited_ns", "sampled_ns", "unseen_ns", "errors")
    return payload.encode(
        [
            ("I", [part.series for part in parts]),
            ("H", [part.bucket for part in parts]),
            *(("Q", [getattr(part, name) for part in parts]) for name in sums),
            ("Q", [part.waits[kind] for kind in range(len(WAITS)) for part in parts]),
            ("Q", [part.async_waits[kind] for kind in range(len(WAITS)) for part in parts]),
        ]
    )


def _slowest(exemplars: list[Exemplar]) -> list[Exemplar]:
    """Keep EXEMPLARS of each series, the slowest first."""
    kept: dict[int, list[Exemplar]] = {}
    for one in sorted(exemplars, key=lambda one: -one.duration_ns):
        group = kept.setdefault(one.series, [])
        if len(group) < EXEMPLARS:
            group.append(one)
    return [one for group in kept.values() for one in group]


def _exemplar_row(one: Exemplar) -> list[int]:
    numbers = [getattr(one, name) for name in _EXEMPLAR_FIELDS] + [*one.waits, one.sampled_ns, one.errors]
    return [min(int(number), _LARGEST) for number in numbers]
