"""How a recording begins and ends, whatever ends it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import PATIENCE_S, TRACEKIT, go, until
from tracekit.errors import TracekitError
from tracekit.recording.reader import Recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.lab import Lab

ATTACH_ENDS = {"interrupted": signal.SIGINT, "terminated": signal.SIGTERM, "hung up": signal.SIGHUP}


def programs(pid: int) -> dict[int, int]:
    """Return the BPF programs that a process holds: id, and how often it was skipped by the recursion guard."""
    found = {}
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            text = path.read_text()
        except FileNotFoundError:  # closed just now
            continue
        fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        if "prog_type" in fields:
            found[int(fields["prog_id"])] = int(fields.get("recursion_misses", 0))
    return found


def loaded() -> set[int]:
    """Return the ids of all BPF programs in the kernel."""
    tool = shutil.which("bpftool", path="/usr/sbin:/sbin:/usr/bin:/bin")
    assert tool, "BPF programs are listed by bpftool: apt install bpftool"
    done = subprocess.run([tool, "--json", "prog", "show"], capture_output=True, text=True, check=True)
    return {p["id"] for p in json.loads(done.stdout)}


def intervals(path: Path) -> int:
    """Return how many intervals can be read; 0 if there is no recording yet."""
    try:
        with Recording(path) as recording:
            return len(recording.intervals)
    except TracekitError:
        return 0


def check_intervals(recording: Recording) -> None:
    """Fail unless the intervals are one after the other, without a gap."""
    for before, after in zip(recording.intervals, recording.intervals[1:], strict=False):
        assert before.start_ns < before.end_ns == after.start_ns


@pytest.mark.parametrize("number", ATTACH_ENDS.values(), ids=ATTACH_ENDS)
def test_a_signal_ends_it_with_a_complete_recording(lab: Lab, number: int) -> None:
    """Ctrl-C, kill and a closed terminal say that it is enough: nothing is lost, and the exit code is 130."""
    with (
        lab.started("exec $W/hog $T/hog.json 60000 0") as target,
        lab.attached("-p", str(target.pid)) as tracer,
    ):
        ours = set(programs(tracer.process.pid))
        assert ours <= loaded()
        time.sleep(0.5)
        ended = tracer.stop(number)
        run = tracer.result()

    assert ended == 130
    assert run.recording.complete
    # it never sleeps: where others compete for its CPU, it waits for that
    ran_ns, queued_ns = (run.wall("hog", "hog").get((part,), (0, 0))[0] for part in ("on-CPU", "run queue"))
    assert ran_ns > 0
    assert ran_ns + queued_ns >= 0.2 * run.recording.duration_ns
    check_intervals(run.recording)
    assert len(ours) > 5
    until(lambda: not ours & loaded(), "the kernel to drop the programs", 20)


def test_two_signals_in_a_row_do_no_harm(lab: Lab) -> None:
    """An impatient user presses Ctrl-C twice: the recording can still be read."""
    with (
        lab.started("exec $W/hog $T/hog.json 60000 0") as target,
        lab.attached("-p", str(target.pid)) as tracer,
    ):
        time.sleep(0.3)
        tracer.process.send_signal(signal.SIGINT)
        tracer.stop(signal.SIGINT)
        with Recording(tracer.file) as recording:
            assert recording.intervals
    assert "Traceback" not in tracer.stderr


def test_a_duration_ends_it(lab: Lab) -> None:
    """`-d` is as long as it says, from the attach to the end of the last interval."""
    with lab.started("exec $W/hog $T/hog.json 60000 0") as target:
        with lab.attached("-p", str(target.pid), "-d", "700ms") as tracer:
            assert tracer.wait() == 0
            run = tracer.result()

        assert target.poll() is None, "the target must outlive the recording of it"
    assert run.recording.complete
    assert 700e6 <= run.recording.duration_ns <= 700e6 + PATIENCE_S * 10e6
    check_intervals(run.recording)


def test_the_end_of_the_target_ends_it(lab: Lab) -> None:
    """When the last process has gone there is nothing more to see."""
    run = lab.attach("$W/leaf 3 2 0; $W/leaf 3 2 0")

    assert run.code == 0
    assert run.recording.complete
    assert run.count("spawn.count") == 2
    assert all(p.exit_ns for p in run.recording.processes())
    check_intervals(run.recording)


def test_a_target_that_ends_while_tracekit_starts(lab: Lab) -> None:
    """A process that has gone before the programs were attached is a clear line or an empty recording, no crash."""
    folder = lab.folder()
    with lab.started("exec $W/leaf 0 100 0", folder) as target:
        tracer = lab.tracer(folder, "attach", "-p", str(target.pid))
        target.wait()

        code = tracer.wait()

    assert code in (0, 2, 4)
    assert "Traceback" not in tracer.stderr


def test_an_existing_file_is_not_replaced(lab: Lab) -> None:
    """`-o` refuses before it traces anything; `-f` says that it may."""
    folder = lab.folder()
    (folder / "run.tk").write_text("dear data")
    with lab.started("read go", folder) as target:
        refused = lab.tracer(folder, "attach", "-p", str(target.pid), "-d", "300ms")
        assert refused.wait() == 2
        assert (folder / "run.tk").read_text() == "dear data"
        assert "-f" in refused.stderr

        forced = lab.tracer(folder, "attach", "-p", str(target.pid), "-d", "300ms", "-f")
        assert forced.wait() == 0

    with Recording(folder / "run.tk") as recording:
        assert recording.complete


def test_a_killed_collector_loses_the_open_interval_only(lab: Lab) -> None:
    """kill -9 at many moments: the file opens, holds all but the last moments, and no program stays in the kernel."""
    ours = set()
    with lab.started("while :; do $W/leaf 0 50 0; done") as target:
        for round_number in range(7):
            with lab.attached("-p", str(target.pid)) as tracer:
                ours |= set(programs(tracer.process.pid))
                until(lambda: intervals(tracer.file), "the first interval")
                time.sleep(0.3 + 0.03 * round_number)
                killed_ns = time.monotonic_ns()
                tracer.process.kill()
                tracer.process.wait()

                with Recording(tracer.file) as recording:
                    longest_ns = max(interval.duration_ns for interval in recording.intervals)

                    assert not recording.complete
                    assert killed_ns - recording.intervals[-1].end_ns < 2 * longest_ns + 100_000_000
                    check_intervals(recording)

    assert ours
    until(lambda: not ours & loaded(), "the kernel to drop the programs", 20)


def test_a_reader_sees_intervals_while_it_records(lab: Lab) -> None:
    """Finished intervals can be read at once, and only they."""
    with (
        lab.started("exec $W/hog $T/hog.json 60000 0") as target,
        lab.attached("-p", str(target.pid)) as tracer,
    ):
        seen = 0
        for _ in range(3):
            until(lambda: intervals(tracer.file) > seen, "another interval")  # noqa: B023 - called before seen changes
            with Recording(tracer.file) as recording:
                assert not recording.complete
                assert len(recording.intervals) > seen
                seen = len(recording.intervals)
        tracer.stop(signal.SIGTERM)


@pytest.fixture
def small_disk(lab: Lab) -> Iterator[Path]:
    """A file system of 300 kB."""
    with _mounted(lab.folder(), "size=300k") as path:
        yield path


@contextmanager
def _mounted(path: Path, options: str) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_full_disk_ends_it_with_a_valid_file(lab: Lab, small_disk: Path) -> None:
    """One clear line, exit code 4, and what was recorded before can be read."""
    with lab.started("exec $W/threads $T/threads.json 60000") as target:
        tracer = lab.tracer(small_disk, "attach", "-p", str(target.pid), "-d", "60s")
        until(lambda: intervals(small_disk / "run.tk"), "the first interval")
        _fill(small_disk)
        code = tracer.wait()

    assert code == 4
    assert "full" in tracer.stderr
    assert "Traceback" not in tracer.stderr
    with Recording(small_disk / "run.tk") as recording:
        check_intervals(recording)


def _fill(folder: Path) -> None:
    """Leave no room."""
    with (folder / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def test_it_says_when_it_is_attached_and_what_it_recorded(lab: Lab) -> None:
    """On standard error: how long it took to attach, and at the end what to run next. No status line in a file."""
    run = lab.attach("$W/leaf 3 2 0")

    assert "attached in" in run.stderr
    assert "run.tk" in run.stderr + run.stdout
    assert "\r" not in run.stderr
    assert "\x1b" not in run.stderr


def test_the_file_is_for_its_owner_alone(lab: Lab) -> None:
    """A recording names files and programs: mode 0600."""
    run = lab.attach("true")

    assert run.recording.path.stat().st_mode & 0o777 == 0o600


def test_every_recording_states_its_cost(lab: Lab) -> None:
    """CPU time of the collector and of the programs, memory of the collector: never zero, never missing."""
    run = lab.attach("$W/hog $T/hog.json 1500 0")

    assert 0 < run.count("cost.collector") < run.recording.duration_ns
    assert run.recording.series("cost.bpf")
    assert max(next(iter(run.recording.values("cost.rss").values()))) > 1 << 20


def test_what_is_said_at_the_end_is_recorded(lab: Lab) -> None:
    """The cost that the last line of an attach states is what reports will state; only writing the file comes after."""
    run = lab.attach("sleep 2")

    said = float(re.search(r"collector ([\d.]+) % of a core", run.stderr)[1])
    recorded = run.count("cost.collector") / run.recording.duration_ns * 100
    assert 0.7 * said - 1 < recorded < 1.1 * said + 0.1


@pytest.mark.parametrize("code", [0, 7])
def test_run_ends_as_its_command(lab: Lab, code: int) -> None:
    """`tracekit run` passes the command's exit code on, so that it can stand in a script."""
    run = lab.run(f"exit {code}")

    assert run.code == code
    assert run.recording.complete


def test_run_says_when_its_command_was_killed(lab: Lab) -> None:
    """128 + the signal, as shells say it."""
    run = lab.run("kill -9 $$")

    assert run.code == 128 + 9
    assert run.recording.complete


def test_run_of_a_command_that_does_not_exist(lab: Lab) -> None:
    """One line that names it, no file left behind."""
    folder = lab.folder()

    tracer = lab.tracer(folder, "run", "--", "/nonexistent/command")

    assert tracer.wait() not in (0, 1)
    assert "/nonexistent/command" in tracer.stderr
    assert "Traceback" not in tracer.stderr


def test_run_sees_the_first_instruction(lab: Lab) -> None:
    """The first call of the command is in the recording: the attach came before."""
    folder = lab.folder()
    tracer = lab.tracer(folder, "run", "--", str(lab.workloads / "errors"), str(folder / "errors.json"))
    tracer.wait()
    run = tracer.result()

    found = run.counts("syscall.errors", "syscall", "errno", role="errors")

    assert found[("openat", "ENOENT")] == run.truth["errors"]["openat ENOENT"] == 101
    assert run.count("syscall.calls", syscall="pipe2") == 1


def test_run_hands_input_and_output_to_the_command(lab: Lab) -> None:
    """Standard input, output and the folder are the command's own; tracekit's words go to standard error."""
    folder = lab.folder()
    done = subprocess.run(
        [*TRACEKIT, "run", "-o", str(folder / "run.tk"), "--", "/bin/sh", "-c", "cat; pwd"],
        check=False,
        input="ball\n",
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )

    assert done.stdout == f"ball\n{folder}\n"
    assert done.returncode == 0


def test_run_is_interrupted_with_its_command(lab: Lab) -> None:
    """Ctrl-C goes to both, as from a terminal: the command ends, the recording is complete."""
    folder = lab.folder()
    with lab.launched("exec $W/inflight $T/inflight.json", folder=folder) as tracer:
        until((folder / "inflight.json").exists, "the workload")
        os.killpg(tracer.process.pid, signal.SIGINT)
        tracer.wait()
        run = tracer.result()

    pid = run.recording.target.pids[0]
    assert run.recording.complete
    assert run.code == 130
    until(lambda: not Path(f"/proc/{pid}").exists(), "the command to end", 10)


def test_a_row_of_a_process_that_lives_on_has_its_name(lab: Lab) -> None:
    """What was found as one program and has executed another is called by what it is at the end."""
    folder = lab.folder()
    with lab.launched("exec $W/inflight $T/inflight.json", folder=folder) as tracer:
        until((folder / "inflight.json").exists, "the workload")
        tracer.stop(signal.SIGTERM)
        run = tracer.result()

    (row,) = (p for p in run.recording.processes() if p.tgid == run.recording.target.pids[0])
    assert row.role == "inflight"


def test_recursion_misses_are_losses(lab: Lab) -> None:
    """What the kernel says a program missed, because it ran already on that CPU, is in the recording's losses."""
    folder = lab.folder()
    with (
        lab.started("read go; $W/pingpong $T/a.json 20011 0 & $W/pingpong $T/b.json 20011 0; wait", folder) as target,
        lab.attached("-p", str(target.pid), folder=folder) as tracer,
    ):
        go(target)
        until((folder / "b.json").exists, "the storm")
        missed = sum(programs(tracer.process.pid).values())
        target.wait()
        tracer.wait()
        run = tracer.result()

    assert run.lost.get("recursion", 0) >= missed


def test_a_damaged_end_is_one_clear_line(lab: Lab) -> None:
    """A recording cut in the middle says so; it does not crash its reader."""
    run = lab.attach("$W/leaf 3 2 0")
    cut = run.recording.path.with_name("cut.tk")
    cut.write_bytes(run.recording.path.read_bytes()[:-5000])

    with pytest.raises(TracekitError), Recording(cut) as recording:
        recording.histograms()
        recording.stacks()
        recording.values()
