"""A collector that is killed, or that fills the disk: what was committed is kept."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit import committing
from tests.unit.test_recording_files import read_everything
from tests.unit.users import root_only
from tracekit.errors import DiskFullError, RecordingError, UsageError
from tracekit.recording.reader import Recording
from tracekit.recording.writer import EXEMPLARS
from tracekit.records import Interval, StackWeight, Tick

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracekit.recording.writer import Writer

ROOT = Path(__file__).parents[2]


COMMITTING = [sys.executable, "-m", "tests.unit.committing"]


def start(path: Path) -> subprocess.Popen[bytes]:
    """Start the process that commits without a pause; it has said `begin` when this returns."""
    command = [*COMMITTING, str(path)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert child.stdout
    assert child.stdout.readline() == b"begin\n"
    return child


def kill(child: subprocess.Popen[bytes], *, after: int = 0, after_s: float = 0) -> int:
    """Kill -9 *after_s* after interval *after*; return the last interval that the child saw committed."""
    assert child.stdout
    said = [child.stdout.readline() for _ in range(after)]
    time.sleep(after_s)
    child.send_signal(signal.SIGKILL)
    said += child.stdout.readlines()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    return int(said[-1]) if said else 0


def check(path: Path, intervals: int) -> None:
    """Every shape of intervals 1..*intervals* is there, whole."""
    numbers = range(1, intervals + 1)
    with Recording(path) as recording:
        assert len(recording.intervals) == intervals
        assert recording.values()[committing.CALLS].tolist() == list(numbers)
        waits = recording.histograms("runq.wait", {"role": "worker"})[committing.WAIT]
        assert (waits.count, waits.total) == (intervals, sum(number % 100 for number in numbers))
        assert recording.cells([committing.WAIT]).count.sum() == intervals
        assert recording.stacks() == {committing.STACK: StackWeight(sum(numbers), intervals)}
        assert [process.tgid for process in recording.processes()] == list(numbers)
        assert recording.losses()[0].count == intervals
        assert recording.parts()[committing.SPAN].latency_ns.tolist() == [100 * sum(numbers)]
        assert len(recording.exemplars(most=10 * intervals)) == EXEMPLARS * intervals
        seen = recording.samples()[committing.SEEN]
        assert seen.bucket.tolist() == [committing.BUCKET - 1, committing.BUCKET]
        assert seen.weight.tolist() == [2 * sum(numbers), sum(numbers)]
        assert seen.count.tolist() == [3 * intervals, intervals]


@pytest.mark.parametrize("seed", range(30))
def test_kill_9_loses_at_most_the_open_interval(tmp_path: Path, seed: int) -> None:
    """At any moment, up to some thousand intervals in; the file opens, and all of what was promised is in it."""
    path = tmp_path / "x.tk"

    said = kill(start(path), after=1, after_s=random.Random(seed).random() * 0.2)

    with Recording(path) as recording:
        found = len(recording.intervals)
        assert not recording.complete
    assert found in {said, said + 1}, "the one more was committed, but not yet said"
    check(path, found)


@pytest.mark.parametrize("seed", range(20))
def test_kill_9_at_the_start_leaves_nothing_unclear(tmp_path: Path, seed: int) -> None:
    """While the file is made it may be missing, empty or without tables: each has its line."""
    path = tmp_path / "x.tk"
    child = start(path)

    said = kill(child, after_s=random.Random(seed).random() * 0.02)

    try:
        read_everything(path)
    except UsageError as error:
        assert "no such file" in str(error)
        assert said == 0
    except RecordingError as error:
        assert "the file is empty" in str(error) or "holds nothing" in str(error)
        assert said == 0


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace to kill at a chosen system call")
def test_kill_9_at_each_step_in_the_file_system_loses_nothing(tmp_path: Path) -> None:
    """From the first write to the last unlink, when the journal has been folded into the file."""
    steps = "?unlink,?unlinkat,ftruncate,fsync,fdatasync"
    for number in count(1):
        path = tmp_path / f"{number}.tk"
        strace = [
            "strace",
            "-o",
            "/dev/null",
            "-e",
            f"trace={steps}",
            "-e",
            f"inject={steps}:signal=KILL:when={number}",
        ]
        run = subprocess.run([*strace, *COMMITTING, str(path), "3"], cwd=ROOT, stdout=subprocess.PIPE, check=False)
        said = [line for line in run.stdout.split() if line.isdigit()]
        if said:
            check(path, len(said))
        if b"finished" in run.stdout:
            break

    assert number > 5


def test_a_killed_recording_can_be_read_twice_and_by_two(tmp_path: Path) -> None:
    """The first reader does not take the journal away from the second."""
    kill(start(tmp_path / "x.tk"), after=20)

    with Recording(tmp_path / "x.tk") as first, Recording(tmp_path / "x.tk") as second:
        assert len(first.intervals) == len(second.intervals) > 0
    check(tmp_path / "x.tk", len(first.intervals))


def test_a_journal_left_without_its_file_does_no_harm(tmp_path: Path) -> None:
    """The file of a killed collector was deleted, its journal forgotten, and the name is used again."""
    path = tmp_path / "x.tk"
    kill(start(path), after=20)
    path.unlink()
    assert Path(f"{path}-wal").exists()

    with committing.begin(path) as writer:
        writer.append(committing.tick(writer, 1))

    check(path, 1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tracekit-test", path], check=True)
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def fill(writer: Writer) -> int:
    """Record until the disk is full; return the number of committed intervals."""
    with pytest.raises(DiskFullError) as caught:
        for number in range(1, 100_000):
            writer.append(committing.tick(writer, number))
    assert str(caught.value) == f"cannot write {writer.path}: the disk is full"
    assert "what was recorded so far is kept" in caught.value.hint
    return number - 1


@root_only
def test_a_full_disk_keeps_what_was_committed(small_disk: Path) -> None:
    """The collector stops with one clear line; its file is read at once, still on the full disk."""
    with committing.begin(small_disk / "x.tk") as writer:
        intervals = fill(writer)
        check(small_disk / "x.tk", intervals)

    assert intervals > 100
    check(small_disk / "x.tk", intervals)


@root_only
def test_ending_on_a_full_disk_loses_nothing(small_disk: Path) -> None:
    """Whether or not the end finds room."""
    path = small_disk / "x.tk"
    with committing.begin(path) as writer:
        intervals = fill(writer)
        try:
            writer.finish([], {"reason": "disk full"})
        except DiskFullError as error:
            assert str(error) == f"cannot write {path}: the disk is full"

    with Recording(path) as recording:
        assert recording.values()[committing.CALLS].tolist() == list(range(1, intervals + 1))


@root_only
def test_a_recording_goes_on_when_there_is_room_again(small_disk: Path) -> None:
    """A full disk is not the end of the writer: the failed interval is gone, the next ones are not."""
    path, ballast = small_disk / "x.tk", small_disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    with committing.begin(path) as writer:
        intervals = fill(writer)
        ballast.unlink()
        writer.append(committing.tick(writer, intervals + 1))
        writer.finish([], {"reason": "duration"})

    with Recording(path) as recording:
        assert recording.complete
        assert recording.values()[committing.CALLS].tolist() == list(range(1, intervals + 2))
        assert recording.lossy == set(range(intervals + 1))
    assert [each.name for each in small_disk.iterdir()] == ["x.tk"]


@root_only
def test_a_killed_recording_on_a_full_disk_can_be_read(small_disk: Path) -> None:
    """There is no room even for the index of the journal."""
    path = small_disk / "x.tk"
    said = kill(start(path), after=20)
    Path(f"{path}-shm").unlink()
    with pytest.raises(OSError, match="No space left"), (small_disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))

    with Recording(path) as recording:
        intervals = len(recording.intervals)

    assert intervals in {said, said + 1}
    check(path, intervals)


@root_only
def test_a_disk_that_is_full_from_the_start_is_said_at_once(small_disk: Path) -> None:
    """Before the first interval, and with no empty file in the way of the next try."""
    with pytest.raises(OSError, match="No space left"), (small_disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))

    with pytest.raises(DiskFullError, match="the disk is full"):
        committing.begin(small_disk / "x.tk")

    assert [each.name for each in small_disk.iterdir()] == ["ballast"]


@root_only
@pytest.mark.parametrize("index", ["with its index", "without its index"])
def test_a_killed_recording_on_a_read_only_disk_can_be_read(small_disk: Path, index: str) -> None:
    """A snapshot or an image, mounted to look at what happened."""
    path = small_disk / "x.tk"
    said = kill(start(path), after=20)
    if index == "without its index":
        Path(f"{path}-shm").unlink()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    with Recording(path) as recording:
        intervals = len(recording.intervals)

    assert intervals in {said, said + 1}
    check(path, intervals)


def test_a_limit_on_file_size_is_an_error_of_one_line(tmp_path: Path) -> None:
    """ulimit -f, as some services have it: the kernel's signal is not ours to die of."""
    path = tmp_path / "x.tk"
    pid = os.fork()
    if pid == 0:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        writer = committing.begin(path)
        try:
            for number in range(1, 100_000):
                writer.append(committing.tick(writer, number))
        except RecordingError as error:
            os._exit(0 if len(str(error).splitlines()) == 1 else 1)
        os._exit(2)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with Recording(path) as recording:
        check(path, len(recording.intervals))
        assert len(recording.intervals) > 10


def test_an_interval_that_cannot_be_written_is_not_half_written(tmp_path: Path) -> None:
    """A negative count, which no kernel gives: the interval is refused as a whole, the recording goes on."""
    path = tmp_path / "x.tk"
    with committing.begin(path) as writer:
        writer.append(committing.tick(writer, 1))
        with pytest.raises(OverflowError):
            writer.append(Tick(Interval(5, 6), stacks=[(1, -1, 1)]))
        writer.append(committing.tick(writer, 2))

    check(path, 2)
