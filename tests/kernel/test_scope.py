"""Who belongs to the target, and who does not."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import CGROUP2, go, new_cgroup

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run


def roles(run: Run) -> set[str]:
    """Return all names of processes in any series."""
    return {s.label("role") for s in run.recording.series()} - {""}


def test_children_belong_to_their_parent(lab: Lab) -> None:
    """By default descendants are followed, through programs between."""
    run = lab.attach("/bin/sh -c '$W/leaf 3 2 0; true'".replace("$W", str(lab.workloads)))

    assert run.events("oncpu", role="leaf").count > 0
    assert run.count("spawn.count") == 2


def test_no_children(lab: Lab) -> None:
    """`--no-children` sees the process and none it starts."""
    run = lab.attach("$W/leaf 3 2 0; $W/errors $T/errors.json", "--no-children")

    assert roles(run) == {"sh"}
    assert run.count("spawn.count") == 0
    assert run.events("offcpu", role="sh", reason="child").count >= 2


def test_bystanders_are_not_recorded(lab: Lab) -> None:
    """A busy program that is no descendant leaves no trace."""
    with lab.started("exec $W/hog $T/hog.json 60000 0"):
        run = lab.attach("$W/leaf 50 2 0")

    assert "hog" not in roles(run)
    assert {p.role for p in run.recording.processes()} <= {"sh", "leaf"}


def test_several_pids(lab: Lab) -> None:
    """`-p` twice is two targets; the recording ends with the last of them."""
    folder = lab.folder()
    with (
        lab.started("read go; $W/leaf 3 2 0", folder) as one,
        lab.started("read go; $W/spawn $T/fork.json fork 5 none", folder) as two,
        lab.attached("-p", str(one.pid), "-p", str(two.pid), folder=folder) as tracer,
    ):
        go(one)
        one.wait()
        go(two)
        two.wait()
        assert tracer.wait() == 0
        run = tracer.result()

    assert {"leaf", "spawn"} <= roles(run)
    assert run.count("spawn.count") == 1 + 1 + 5


def test_a_name_finds_what_starts_later(lab: Lab) -> None:
    """`--comm` traces every process of that name, also those that take it after the attach, with its children."""
    folder = lab.folder()
    with lab.attached("--comm", "spawn", "-d", "3s", folder=folder) as tracer:
        with lab.started("$W/spawn $T/later.json exec 23 $W/leaf 1 1 0", folder) as other:
            other.wait()
        tracer.wait()
        run = tracer.result()

    assert roles(run) == {"spawn", "leaf"}
    assert run.count("spawn.count", role="leaf") == 23


def test_a_cgroup_holds_what_moves_in_later(lab: Lab) -> None:
    """`--cgroup` traces a process from the moment it is moved there, and its children."""
    folder = lab.folder()
    with (
        new_cgroup(CGROUP2) as cgroup,
        lab.attached("--cgroup", str(cgroup), "-d", "3s", folder=folder) as tracer,
        lab.started("read go; $W/spawn $T/moved.json exec 11 $W/leaf 1 1 0", folder) as mover,
    ):
        (cgroup / "cgroup.procs").write_text(str(mover.pid))
        go(mover)
        mover.wait()
        tracer.wait()
        run = tracer.result()

    assert roles(run) == {"sh", "spawn", "leaf"}
    assert run.count("spawn.count", role="leaf") == 11


def test_a_cgroup_s_children_belong_to_it(lab: Lab) -> None:
    """What is in a cgroup below it at the attach is found there."""
    folder = lab.folder()
    with new_cgroup(CGROUP2) as cgroup, new_cgroup(cgroup) as inner, lab.started("read go", folder) as member:
        (inner / "cgroup.procs").write_text(str(member.pid))
        with lab.attached("--cgroup", str(cgroup), "-d", "500ms", folder=folder) as tracer:
            tracer.wait()
            run = tracer.result()
        go(member)
        member.wait()

    assert {p.tgid for p in run.recording.processes()} == {member.pid}


def test_all_never_includes_tracekit(lab: Lab) -> None:
    """With `--all` every process but the collector is the target: its cost is not the target's."""
    folder = lab.folder()
    with lab.attached("--all", "-d", "1s", folder=folder) as tracer:
        with lab.started("$W/leaf 5 5 0", folder) as other:
            other.wait()
        collector = tracer.process.pid
        tracer.wait()
        run = tracer.result()

    assert "leaf" in roles(run)
    assert collector not in {p.tgid for p in run.recording.processes()}
    assert os.getpid() in {p.tgid for p in run.recording.processes()}


def test_a_thread_id_is_its_process(lab: Lab) -> None:
    """`-p` with the id of a thread that is not the first: its process is traced, or the error says why not."""
    folder = lab.folder()
    with lab.started("exec $W/inflight $T/inflight.json", folder) as target:
        time.sleep(0.3)
        thread = max(int(p.name) for p in Path(f"/proc/{target.pid}/task").iterdir())
        with lab.attached("-p", str(thread), "-d", "300ms", folder=folder) as tracer:
            assert tracer.wait() == 0
            run = tracer.result()

    assert target.pid in {p.tgid for p in run.recording.processes()}


@pytest.mark.parametrize("pid", ["999999999", "2147483648", "0", "-1"])
def test_a_process_that_is_not_there(lab: Lab, pid: str) -> None:
    """One line that names it, no traceback, no file left behind."""
    folder = lab.folder()

    tracer = lab.tracer(folder, "attach", "-p", pid)

    assert tracer.wait() in (2, 4)
    assert "Traceback" not in tracer.stderr
    assert pid in tracer.stderr
    assert not tracer.file.exists()


def test_a_target_that_is_killed_ends_the_recording(lab: Lab) -> None:
    """kill -9 of the target is its end, and the recording is complete."""
    folder = lab.folder()
    with (
        lab.started("exec $W/hog $T/hog.json 60000 0", folder) as target,
        lab.attached("-p", str(target.pid), folder=folder) as tracer,
    ):
        time.sleep(0.3)
        target.send_signal(signal.SIGKILL)
        target.wait()
        assert tracer.wait() == 0
        run = tracer.result()

    (row,) = run.recording.processes()
    assert run.recording.complete
    assert (row.tgid, row.signal) == (target.pid, 9)
