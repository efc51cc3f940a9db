"""What others lay in the way of the files that tracekit writes, before and while it writes them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.sample import write
from tests.unit import committing
from tracekit.cli import cli
from tracekit.commands.output import save
from tracekit.errors import RecordingError, TracekitError, UsageError
from tracekit.recording.reader import Recording

ROOT = Path(__file__).parents[2]
NOBODY, OTHER = 65534, 65533
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs files of two users")
BESIDE = ["run.tk-wal", "run.tk-shm"]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Return a folder as /tmp is: anybody writes there, and removes only what is their own."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def test_removing_the_file_meanwhile_is_said(tmp_path: Path) -> None:
    """Who is told that there is a recording finds one."""
    with committing.begin(tmp_path / "run.tk") as writer:
        writer.append(committing.tick(writer, 1))
        (tmp_path / "run.tk").unlink()

        with pytest.raises(RecordingError, match="somebody removed or replaced it"):
            writer.finish([], {})


@pytest.mark.parametrize("how", ["link", "file", "rename"])
def test_nothing_is_written_through_what_took_its_place(tmp_path: Path, how: str) -> None:
    """The file that was made is written to, whatever has its name now."""
    victim = tmp_path / "victim"
    victim.write_text("letters")
    with committing.begin(tmp_path / "run.tk") as writer:
        writer.append(committing.tick(writer, 1))
        (tmp_path / "run.tk").rename(tmp_path / "moved.tk")
        if how == "link":
            (tmp_path / "run.tk").symlink_to(victim)
        elif how == "file":
            os.link(victim, tmp_path / "run.tk")
        writer.append(committing.tick(writer, 2))

        with pytest.raises(RecordingError, match="somebody removed or replaced it"):
            writer.finish([], {})

    assert victim.read_text() == "letters"


@root_only
@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("kind", ["file", "link", "hard link", "pipe"])
def test_journals_that_another_user_laid_there_are_not_used(shared: Path, tmp_path: Path, name: str, kind: str) -> None:
    """SQLite makes them by name: who had them open could read the recording, and write to it."""
    victim = tmp_path / "victim"
    victim.write_text("letters")
    lay(shared / name, kind, victim)

    try:
        with committing.begin(shared / "run.tk") as writer:
            writer.append(committing.tick(writer, 1))
            owners = {path.name: path.stat().st_uid for path in shared.iterdir()}
            writer.finish([], {})
    except RecordingError:
        assert not (shared / "run.tk").exists()
    else:
        assert set(owners.values()) == {0}
        assert Recording(shared / "run.tk").complete

    assert victim.read_text() == "letters"


def lay(path: Path, kind: str, victim: Path) -> None:
    """Lay something at *path* that is another user's."""
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "hard link":
        os.link(victim, path)
        return
    elif kind == "pipe":
        os.mkfifo(path, 0o666)
    else:
        path.write_bytes(b"planted")
        path.chmod(0o666)
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


@root_only
@pytest.mark.parametrize("name", BESIDE)
def test_a_journal_laid_there_at_the_last_moment_is_refused(shared: Path, name: str) -> None:
    """Between the making of the file and the opening of its journal there is time: whoever wins is looked at."""
    for _ in range(20):
        stop = threading.Event()
        racer = threading.Thread(target=race, args=(shared, name, stop))
        racer.start()
        try:
            with committing.begin(shared / "run.tk") as writer:
                writer.append(committing.tick(writer, 1))
                owner = (shared / name).lstat().st_uid
                writer.finish([], {})
            assert owner == 0
        except RecordingError as error:
            assert "cannot" in str(error)
        finally:
            stop.set()
            racer.join()
            for path in shared.iterdir():
                path.unlink()


def race(folder: Path, name: str, stop: threading.Event) -> None:
    """Lay a journal beside a recording as soon as that is there."""
    while not stop.is_set():
        if (folder / "run.tk").exists():
            try:
                descriptor = os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
            except FileExistsError:
                return
            os.fchown(descriptor, NOBODY, NOBODY)
            os.close(descriptor)
            return


@root_only
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_no_picture_is_written_through_what_another_user_laid_there(shared: Path, tmp_path: Path, kind: str) -> None:
    """Neither into a file that only we may write to, nor to whoever listens at a pipe."""
    victim = tmp_path / "victim"
    victim.write_text("letters")
    lay(shared / "x.svg", kind, victim)

    with pytest.raises(UsageError, match="another user has laid"):
        save(shared / "x.svg", b"picture")

    assert victim.read_text() == "letters"


@root_only
def test_another_users_file_is_replaced_not_written(shared: Path) -> None:
    """They may have it open, or it may be a hard link."""
    lay(shared / "x.svg", "file", shared)
    before = (shared / "x.svg").stat().st_ino

    save(shared / "x.svg", b"picture")

    assert (shared / "x.svg").read_bytes() == b"picture"
    assert (shared / "x.svg").stat().st_ino != before
    assert [path.name for path in shared.iterdir()] == ["x.svg"]


@root_only
def test_pictures_belong_to_the_user_behind_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As recordings do."""
    monkeypatch.setenv("SUDO_UID", str(NOBODY))

    save(tmp_path / "x.svg", b"picture")

    assert (tmp_path / "x.svg").stat().st_uid == NOBODY


def test_a_link_of_ones_own_is_followed(tmp_path: Path) -> None:
    """`latest.svg -> 2026/11.svg` is a way to work."""
    (tmp_path / "here.svg").symlink_to(tmp_path / "there.svg")

    save(tmp_path / "here.svg", b"picture")

    assert (tmp_path / "here.svg").is_symlink()
    assert (tmp_path / "there.svg").read_bytes() == b"picture"


def test_what_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    """A private picture does not become public."""
    (tmp_path / "x.svg").touch(0o600)

    save(tmp_path / "x.svg", b"picture")

    assert stat.S_IMODE((tmp_path / "x.svg").stat().st_mode) == 0o600


def test_a_device_is_written_to() -> None:
    """`-o /dev/stdout` and `-o /dev/null` are devices and pipes of one's own."""
    program = (
        "from pathlib import Path; from tracekit.commands.output import save; save(Path('/dev/stdout'), b'picture')"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True)

    assert done.stdout == b"picture"
    save(Path(os.devnull), b"picture")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole or not at all, and no half of it beside."""
    (tmp_path / "x.svg").write_bytes(b"old")
    monkeypatch.setattr("tracekit.commands.output._write", fail)

    with pytest.raises(TracekitError, match="No space left"):
        save(tmp_path / "x.svg", b"picture")

    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x.svg", b"old")]


def fail(descriptor: int, _: bytes) -> None:
    os.close(descriptor)
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("words", [["heatmap", "-o", "x.svg"], ["flamegraph", "-o", "x.svg"], ["hist", "-o", "x.hgrm"]])
def test_commands_write_by_it(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All commands that write pictures, logs or verdicts."""
    write(tmp_path / "run.tk")
    monkeypatch.chdir(tmp_path)
    Path(words[-1]).symlink_to("behind")
    metric = ["--metric", "runq.wait"] if words[0] != "flamegraph" else []

    done = CliRunner().invoke(cli, [words[0], "run.tk", *metric, *words[1:]])

    assert done.exit_code == 0, done.output
    assert Path("behind").stat().st_size > 100
