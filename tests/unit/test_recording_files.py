"""Files that are no recording, or one no more: one clear line each, no traceback, no waiting."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import socket
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import golden
from tests.sample import SECOND
from tests.unit import committing
from tests.unit.users import NOBODY, root_only
from tracekit.errors import RecordingError, TracekitError, UsageError
from tracekit.recording import payload
from tracekit.recording.reader import Recording
from tracekit.recording.writer import FORMAT
from tracekit.records import InFlight, Loss, StackWeight

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter; pytest's own are root's."""
    path = Path(tempfile.mkdtemp(prefix="tracekit-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def read_everything(path: Path) -> list[Any]:
    with Recording(path) as recording:
        return [
            (recording.host, recording.target, recording.clocks, recording.settings, recording.end),
            (recording.intervals, recording.duration_ns, recording.partial, recording.series()),
            (recording.histograms(), recording.histograms(between=(1, 9)), recording.cells(recording.series())),
            (recording.values(), recording.stacks(), recording.processes(), recording.in_flight()),
            (recording.losses(), recording.lossy),
            (recording.parts(), recording.parts(between=(1, 9)), recording.exemplars()),
            (recording.samples(), recording.samples(between=(1, 9))),
        ]


def refusal(path: Path) -> TracekitError:
    """What reading *path* is answered with; checked to be one line that names the file."""
    with pytest.raises((RecordingError, UsageError)) as caught:
        read_everything(path)
    text = str(caught.value)
    assert text.startswith(f"cannot read {path}: ")
    assert len(text.splitlines()) == 1
    assert len(caught.value.hint.splitlines()) == 1
    return caught.value


def changed(sample: Path, path: Path, statement: str, *values: object) -> Path:
    """A copy of the sample after an SQL *statement*: what a hostile hand might do."""
    shutil.copy(sample, path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement, values)
    return path


def test_a_missing_file_is_a_mistake_in_the_command(tmp_path: Path) -> None:
    """Exit code 2, with the way to make one."""
    for path in (tmp_path / "x.tk", tmp_path / "no" / "x.tk"):
        error = refusal(path)

        assert "no such file" in str(error)
        assert (error.exit_code, error.hint) == (2, "tracekit attach -o FILE.tk makes one")


@pytest.mark.parametrize("name", ["http://host/x.tk", "me@host:run.tk", "host:/tmp/run.tk"])
def test_a_file_of_another_machine_must_be_copied_first(name: str) -> None:
    """Nothing of tracekit opens a socket."""
    error = refusal(Path(name))

    assert (error.exit_code, error.hint) == (2, "a copy of it on this machine")


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "socket", "file/x.tk", "loop"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    """A pipe that nobody writes would be waited for, a device read for ever."""
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with closing(socket.socket(socket.AF_UNIX)) as server:
            server.bind(str(path))
    elif kind == "loop":
        path.symlink_to(path)
    else:
        (tmp_path / "file").write_text("")

    said = {
        "folder": "is a folder",
        "file/x.tk": "no such file",
        "loop": "Too many levels of symbolic links",
    }
    assert str(refusal(path)).endswith(said.get(kind, "is not a regular file"))


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "the file is empty"),
        (b"SQLite", "not a tracekit recording"),
        (b"# letters to a friend\n" * 1000, "not a tracekit recording"),
        (gzip.compress(b"SQLite format 3\0"), "it is compressed"),
        (b"SQLite format 3\0", "damaged"),
        (b"SQLite format 3\0" + bytes(4080), "damaged"),
        (b"SQLite format 3\0" + b"\xff" * 8176, "damaged"),
    ],
    ids=["empty", "beginning", "text", "gzip", "head", "zeros", "ones"],
)
def test_foreign_content_is_named(tmp_path: Path, content: bytes, cause: str) -> None:
    """The line says what it is, the hint what to do."""
    (tmp_path / "x.tk").write_bytes(content)

    error = refusal(tmp_path / "x.tk")

    assert cause in str(error)
    assert error.exit_code == 4
    assert error.hint


def test_another_sqlite_file_is_no_recording(tmp_path: Path) -> None:
    """It is left as it was, and nothing is laid beside it."""
    with closing(sqlite3.connect(tmp_path / "x.tk")) as db:
        db.execute("CREATE TABLE meta (key, value)")
    before = (tmp_path / "x.tk").read_bytes()

    assert "a SQLite file, but not a tracekit recording" in str(refusal(tmp_path / "x.tk"))
    assert (tmp_path / "x.tk").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.tk"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW more AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT * FROM n",
        "CREATE TRIGGER more AFTER DELETE ON meta BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE more USING fts5(text)",
    ],
)
def test_what_reading_would_run_is_refused(sample: Path, tmp_path: Path, statement: str) -> None:
    """A view that never ends, in the place of a table, would keep whoever reads it busy for ever."""
    error = refusal(changed(sample, tmp_path / "x.tk", statement))

    assert "it holds more than tables" in str(error)


@pytest.mark.parametrize("found", [0, FORMAT + 1, 999])
def test_another_format_is_named(sample: Path, tmp_path: Path, found: int) -> None:
    """Both numbers are in the line, and what to do about it."""
    error = refusal(changed(sample, tmp_path / "x.tk", f"PRAGMA user_version={found}"))

    assert f"recording format {found}, this tracekit reads 1 to {FORMAT}" in str(error)
    assert error.hint == "upgrade tracekit, or record again"


def test_a_recording_of_the_first_format_is_read(tmp_path: Path) -> None:
    """
    tests/golden/format-1.sql is what the writer of format 1 made of fifteen ticks.

    All that it has comes back; what it could not know, spans, is not there.
    """
    path = tmp_path / "x.tk"
    with closing(sqlite3.connect(path)) as db:
        db.executescript((golden.FOLDER / "format-1.sql").read_text())
    numbers = range(1, 16)

    with Recording(path) as recording:
        assert recording.values()[committing.CALLS].tolist() == list(numbers)
        waits = recording.histograms("runq.wait", {"role": "worker"})[committing.WAIT]
        assert (waits.count, waits.total) == (15, sum(numbers))
        assert recording.stacks() == {committing.STACK: StackWeight(sum(numbers), 15)}
        assert [(process.tgid, process.span) for process in recording.processes()] == [(n, "") for n in numbers]
        wait = InFlight(4250, 4242, "worker", "bg-flush", "blocked", "lock", "futex", 29 * SECOND)
        assert recording.in_flight() == [wait]
        assert recording.losses() == [Loss("ring_full", 15)]
        assert (recording.parts(), recording.exemplars(), recording.samples()) == ({}, [], {})


def test_a_recording_of_the_second_format_is_read(tmp_path: Path) -> None:
    """
    tests/golden/format-2.sql is what the writer of format 2 made of fifteen ticks.

    All that it has comes back, each wait in its place; what it could not know, waits for databases, is 0.
    """
    path = tmp_path / "x.tk"
    with closing(sqlite3.connect(path)) as db:
        db.executescript((golden.FOLDER / "format-2.sql").read_text())
    sums = sum(range(1, 16))

    with Recording(path) as recording:
        parts = recording.parts()[committing.SPAN]
        assert parts.latency_ns.tolist() == [100 * sums]
        assert parts.waits.tolist() == [[sums * kind for kind in range(10)] + [0]]
        assert parts.async_waits.tolist() == [[sums * kind for kind in range(9, -1, -1)] + [0]]
        assert recording.parts(between=(3, 4))[committing.SPAN].waits.tolist() == [[4 * n for n in range(10)] + [0]]
        _, slow = recording.exemplars(most=1)[0]
        assert (slow.duration_ns, slow.waits) == (15_008, (*range(10), 0))
        assert (slow.sampled_ns, slow.errors) == (5, 6)
        assert recording.in_flight()[0].span == "evaluation"
        assert recording.samples() == {}


def test_a_recording_of_the_third_format_is_read(tmp_path: Path) -> None:
    """
    tests/golden/format-3.sql is what the writer of format 3 made of fifteen ticks.

    All that it has comes back; what it could not know, samples of stacks, is not there.
    """
    path = tmp_path / "x.tk"
    with closing(sqlite3.connect(path)) as db:
        db.executescript((golden.FOLDER / "format-3.sql").read_text())
    sums = sum(range(1, 16))

    with Recording(path) as recording:
        assert recording.stacks() == {committing.STACK: StackWeight(sums, 15)}
        assert recording.parts()[committing.SPAN].waits.tolist() == [[sums * kind for kind in range(11)]]
        assert recording.exemplars(most=1)[0][1].waits == tuple(range(11))
        assert (recording.samples(), recording.samples(between=(1, 2))) == ({}, {})


def test_every_torn_file_is_refused(sample: Path, tmp_path: Path) -> None:
    """Cut at any place, within the head and within each page: never half of the data as if it were all."""
    whole = sample.read_bytes()
    cuts = [*range(0, 128, 7), *range(128, len(whole), 1021), len(whole) - 1]

    for cut in cuts:
        (tmp_path / "x.tk").write_bytes(whole[:cut])
        refusal(tmp_path / "x.tk")


def test_damaged_files_are_read_or_refused_but_never_a_crash(sample: Path, tmp_path: Path) -> None:
    """Random bytes overwritten, 150 times: what cannot be read is a TracekitError of one line."""
    whole = sample.read_bytes()
    chance = random.Random(23)

    refused = 0
    for _ in range(150):
        bad = bytearray(whole)
        for _ in range(chance.choice([1, 10, 200])):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        (tmp_path / "x.tk").write_bytes(bad)
        try:
            read_everything(tmp_path / "x.tk")
        except TracekitError as error:
            assert len(str(error).splitlines()) >= 1
            refused += 1

    assert refused > 20


HOSTILE_CHANGES = {
    "no facts": ("DELETE FROM meta", ()),
    "facts of another kind": ("UPDATE meta SET value = '[]' WHERE key = 'host'", ()),
    "facts with other names": ("""UPDATE meta SET value = '{"\\u001b[2J": 1}' WHERE key = 'host'""", ()),
    "no json": ("UPDATE meta SET value = '{' WHERE key = 'target'", ()),
    "deep json": ("UPDATE meta SET value = ? WHERE key = 'target'", ("[" * 100_000,)),
    "labels are a list": ("UPDATE series SET labels = '[' || id || ']'", ()),
    "unknown kind": ("UPDATE series SET kind = 'spectrum'", ()),
    "intervals with a gap": ("DELETE FROM interval WHERE id = 3", ()),
    "intervals of text": ("UPDATE interval SET start_ns = 'yesterday'", ()),
    "no payload": ("UPDATE interval SET histograms = 7", ()),
    "payload of text": ("UPDATE interval SET vals = 'seven'", ()),
    "torn payload": ("UPDATE interval SET stacks = substr(stacks, 1, 20)", ()),
    "columns that disagree": (
        "UPDATE interval SET histograms = ?",
        (payload.encode([("I", [1]), ("H", [5]), ("Q", [1]), ("Q", [1]), ("Q", [1]), ("H", [1]), ("Q", [1])]),),
    ),
    "slot out of range": (
        "UPDATE interval SET histograms = ?",
        (payload.encode([("I", [1]), ("H", [1]), ("Q", [1]), ("Q", [1]), ("Q", [1]), ("H", [4608]), ("Q", [1])]),),
    ),
    "parts that disagree": (
        "UPDATE interval SET parts = ?",
        (payload.encode([("I", [1]), ("H", [1, 1]), *[("Q", [1])] * 5, *[("Q", [1] * 10)] * 2]),),
    ),
    "parts without waits": (
        "UPDATE interval SET parts = ?",
        (payload.encode([("I", [1]), ("H", [1]), *[("Q", [1])] * 5, *[("Q", [1] * 9)] * 2]),),
    ),
    "bucket out of range": (
        "UPDATE interval SET parts = ?",
        (payload.encode([("I", [1]), ("H", [288]), *[("Q", [1])] * 5, *[("Q", [1] * 10)] * 2]),),
    ),
    "samples that disagree": (
        "UPDATE interval SET samples = ?",
        (payload.encode([("I", [1]), ("H", [1, 1]), ("I", [1]), ("Q", [1]), ("Q", [1])]),),
    ),
    "samples without a column": (
        "UPDATE interval SET samples = ?",
        (payload.encode([("I", [1]), ("H", [1]), ("I", [1]), ("Q", [1])]),),
    ),
    "a sample of a bucket out of range": (
        "UPDATE interval SET samples = ?",
        (payload.encode([("I", [1]), ("H", [288]), ("I", [1]), ("Q", [1]), ("Q", [1])]),),
    ),
    "samples of text": ("UPDATE interval SET samples = 'seven'", ()),
    "torn samples": ("UPDATE interval SET samples = substr(samples, 1, 20)", ()),
    "frames of numbers in a list": ("UPDATE stack SET frames = '[7]'", ()),
    "frames of text": ("UPDATE stack SET frames = '\"seven\"'", ()),
    "parts of text": ("UPDATE interval SET parts = 'seven'", ()),
    "a torn checkpoint of parts": (
        "INSERT INTO checkpoint SELECT 9, histograms, stacks, substr(parts, 1, 9), samples FROM interval WHERE id = 1",
        (),
    ),
    "slow spans of text": ("UPDATE exemplar SET lock_ns = 'long'", ()),
    "slow spans of the future": ("UPDATE exemplar SET start_ns = -1", ()),
    "slow spans without kinds of wait": ("ALTER TABLE exemplar DROP COLUMN lock_ns", ()),
    "stacks without frames": ("DELETE FROM stack", ()),
    "frames of numbers": ("UPDATE stack SET frames = '7'", ()),
    "no table": ("DROP TABLE loss", ()),
    "a table too small": ("ALTER TABLE process DROP COLUMN oom", ()),
}


@pytest.mark.parametrize(("statement", "values"), HOSTILE_CHANGES.values(), ids=HOSTILE_CHANGES)
def test_hostile_rows_are_damage(sample: Path, tmp_path: Path, statement: str, values: tuple[object, ...]) -> None:
    """A recording may come from anywhere: rows that no collector writes end in one line."""
    error = refusal(changed(sample, tmp_path / "x.tk", statement, *values))

    assert "damaged" in str(error)


@root_only
def test_a_file_of_another_user_is_named(open_folder: Path, sample: Path) -> None:
    """The usual one: recorded with sudo, read without."""
    shutil.copy(sample, open_folder / "x.tk")
    (open_folder / "x.tk").chmod(0o600)

    with acting_as(NOBODY):
        error = refusal(open_folder / "x.tk")

    assert "Permission denied" in str(error)
    assert error.hint == "run as the file's owner"


@root_only
def test_a_folder_of_another_user_is_named(sample: Path) -> None:
    """The file may be there: we cannot know."""
    with acting_as(NOBODY):
        error = refusal(sample)

    assert "Permission denied" in str(error)


@root_only
@pytest.mark.parametrize("sidecars", [{"-wal"}, {"-wal", "-shm"}], ids=["journal alone", "journal and its index"])
def test_a_journal_in_a_folder_that_is_not_ours_is_read(open_folder: Path, sidecars: set[str]) -> None:
    """A killed collector's intervals are in the journal alone; its reader may write neither file nor folder."""
    path, gone = open_folder / "x.tk", open_folder / "gone.tk"
    writer = committing.begin(gone)
    for number in range(1, 8):
        writer.append(committing.tick(writer, number))
    for end in {"", *sidecars}:  # as the collector's death would leave them
        shutil.copy(f"{gone}{end}", f"{path}{end}")
        Path(f"{path}{end}").chmod(0o444)
    writer.close()
    before = sorted(open_folder.iterdir())

    with acting_as(NOBODY), Recording(path) as recording:
        values = recording.values()[committing.CALLS].tolist()

    assert values == [1, 2, 3, 4, 5, 6, 7]
    assert sorted(open_folder.iterdir()) == before


def test_a_recording_can_be_read_through_a_link_and_by_any_name(sample: Path, tmp_path: Path) -> None:
    """Characters that mean something in a URI, and bytes that are no text."""
    for name in ["a b", "50%", "what?mode=rw", "x#1", "a&b=c", os.fsdecode(b"caf\xe9")]:
        (tmp_path / name).symlink_to(sample)

        assert read_everything(tmp_path / name)


def test_reading_changes_nothing(sample: Path) -> None:
    """Neither the file nor its folder."""
    before = sample.read_bytes(), list(sample.parent.iterdir())

    read_everything(sample)

    assert (sample.read_bytes(), list(sample.parent.iterdir())) == before
