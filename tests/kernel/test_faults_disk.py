"""A disk that is full, or fails: one clear line, and all that was finished can be read."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.faults import KILLS, check_recording, check_target, draw, steady, tell, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.lab import Lab, Tracer

EXT4 = Path("/sys/fs/ext4")


@contextmanager
def small_disk(path: Path, kilobytes: int) -> Iterator[Path]:
    """Have a file system of so many kilobytes in a folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def check_full(tracer: Tracer, path: Path) -> str:
    """Return the state of the recording of a collector that may have found no room."""
    code, state = tracer.wait(), check_recording(path)
    if code == 0:
        assert state == "complete"
        return state
    assert code == 4
    assert state != "complete"
    assert state == "incomplete" or not list(path.parent.iterdir())
    if tracer.stderr:  # there was room for it
        line, *hint = words_of(tracer)
        assert line == f"tracekit: cannot write {path}: the disk is full"
        assert "kept" in "".join(hint)
    return state


def test_a_disk_that_is_full(lab: Lab) -> None:
    """With more and more room: at the start, in a tick, at the end. One line, and all intervals before can be read."""
    seed, chance = draw("disk")
    print(f"FAULTS_SEED={seed}")
    found: Counter[str] = Counter()
    home = lab.folder()
    with steady(lab, home) as target:
        for _ in range(max(1, KILLS // 30)):
            sizes = [8, 120, 200, *(4 * chance.randrange(4, 100) for _ in range(2))]
            print(sizes)
            with ExitStack() as stack:
                disks = [stack.enter_context(small_disk(lab.folder(), size)) for size in sizes]
                options = "attach", "-p", str(target.pid), "-d", "1500ms", "-o"
                tracers = [(path, lab.tracer(lab.folder(), *options, path / "run.tk")) for path in disks]
                found.update(check_full(tracer, path / "run.tk") for path, tracer in tracers)
        check_target(target, home)
    tell("disk full", seed=seed, **found)


def test_a_full_disk_that_takes_no_words_either(lab: Lab) -> None:
    """What it says goes to the same disk: the exit code has to do."""
    folder = lab.folder()
    with small_disk(folder, 80):
        tracer = lab.tracer(folder, "attach", "-p", "1", "-d", "20s")
        code = tracer.wait()

    assert code == 4


@pytest.fixture
def failing_disk(lab: Lab) -> Iterator[Path]:
    """A folder on an ext4 of its own, that turns read-only at the first error."""
    image, folder = lab.folder() / "image", lab.folder()
    if not shutil.which("mkfs.ext4") or not EXT4.is_dir() or not Path("/dev/loop-control").exists():
        pytest.skip("needs mkfs.ext4, and a kernel with ext4 and loop devices")
    image.write_bytes(bytes(8 << 20))
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop,errors=remount-ro", str(image), str(folder)], check=True)
    (folder / "lost+found").rmdir()
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_turns_read_only(lab: Lab, failing_disk: Path) -> None:
    """As a file system does when its device fails: one line, what is finished can be read, the target goes on."""
    home = lab.folder()
    where = "-o", failing_disk / "run.tk"
    with steady(lab, home) as target, lab.attached("-p", str(target.pid), *where) as tracer:
        time.sleep(0.5)
        device = Path(subprocess.check_output(["findmnt", "-no", "SOURCE", str(failing_disk)], text=True).strip())
        (EXT4 / device.name / "trigger_fs_error").write_text("tracekit's test")
        code = tracer.wait()
        check_target(target, home)

    line, hint = words_of(tracer)
    assert code == 4
    assert str(failing_disk) in line
    assert "kept" in hint
    assert check_recording(failing_disk / "run.tk") == "incomplete"
