"""The file of a recording: whose it is, and what it takes the place of."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests import sample as truth
from tests.unit import committing
from tests.unit.users import NOBODY, root_only
from tracekit.errors import RecordingError, UsageError
from tracekit.recording.reader import Recording
from tracekit.recording.writer import Writer
from tracekit.records import (
    Clocks,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def test_a_recording_is_private(tmp_path: Path) -> None:
    """Names of files and commands are in it; the journal beside it holds the same."""
    with open_umask(), committing.begin(tmp_path / "x.tk") as writer:
        writer.append(committing.tick(writer, 1))

        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}

    assert modes == {"x.tk": 0o600, "x.tk-wal": 0o600, "x.tk-shm": 0o600}


@root_only
def test_a_recording_belongs_to_the_user_behind_sudo(tmp_path: Path) -> None:
    """Its journal too, or a killed collector would leave a file that its user cannot read."""
    with committing.begin(tmp_path / "x.tk", owner=(NOBODY, NOBODY)) as writer:
        writer.append(committing.tick(writer, 1))

        owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in tmp_path.iterdir()}

    assert owners == dict.fromkeys(["x.tk", "x.tk-wal", "x.tk-shm"], (NOBODY, NOBODY))


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    """Neither a recording nor anything else, unless asked."""
    (tmp_path / "x.tk").write_text("letters")

    with pytest.raises(UsageError, match="it exists") as error:
        committing.begin(tmp_path / "x.tk")

    assert "-f" in error.value.hint
    assert (tmp_path / "x.tk").read_text() == "letters"


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_not_followed(tmp_path: Path, exists: bool) -> None:
    """Root would write where the link of another user points."""
    victim = tmp_path / "victim"
    if exists:
        victim.write_text("letters")
    (tmp_path / "x.tk").symlink_to(victim)

    with pytest.raises(UsageError, match="it exists"):
        committing.begin(tmp_path / "x.tk")
    forced = Writer(tmp_path / "x.tk", truth.HOST, truth.TARGET, Clocks(1, 2, 3), {}, force=True)
    forced.finish([], {})

    assert not (tmp_path / "x.tk").is_symlink()
    assert victim.read_text() == "letters" if exists else not victim.exists()


def test_a_file_is_replaced_when_asked(tmp_path: Path) -> None:
    """With its journals: those of a killed collector must not mix into the new recording."""
    path = committing.made(tmp_path / "x.tk", 3)
    (tmp_path / "x.tk-wal").write_bytes(b"old")

    with Writer(path, truth.HOST, truth.TARGET, Clocks(1, 2, 3), {}, force=True) as writer:
        writer.append(committing.tick(writer, 9))
        writer.finish([], {})

    with Recording(path) as recording:
        assert recording.values()[committing.CALLS].tolist() == [9]


@pytest.mark.parametrize("name", ["no/such/folder/x.tk", "file/x.tk", "x" * 300])
def test_what_cannot_be_created_is_said_in_one_line(tmp_path: Path, name: str) -> None:
    """Before anything is attached."""
    (tmp_path / "file").write_text("")

    with pytest.raises(RecordingError, match=r"^cannot create .*: [A-Z][a-z ]+$"):
        committing.begin(tmp_path / name)
