"""Targets that are very many, become somebody else, have the id of a dead one, or take their own memory away."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.faults import AS_EVER, LONG, check_recording, check_target, steady, tell
from tests.kernel.lab import PATIENCE_S, go, until
from tests.kernel.leftovers import Inventory
from tests.kernel.stacked import rows
from tracekit.capture.kernel import Kernel
from tracekit.capture.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.lab import Lab, Run

CHILDREN, THREADS = (20_011, 10_007) if LONG else (2003, 2011)
TRIES = 1000
MARKS = 20_000 if LONG else 4000
NOBODY = 65534


@pytest.fixture(scope="module")
def multitude(lab: Lab) -> Run:
    """Very many children at once, then very many threads."""
    folder = lab.folder()
    inventory = Inventory(folder)
    tracer = lab.tracer(
        folder, "run", "--", lab.workloads / "multitude", folder / "multitude.json", str(CHILDREN), str(THREADS)
    )
    tracer.wait()
    inventory.check()
    return tracer.result()


def test_each_of_many_children_is_recorded_or_lost(multitude: Run) -> None:
    """One row each, with its exit code; what found no room in a ring or in memory is counted."""
    truth = multitude.truth["multitude"]
    lost = sum(multitude.lost.get(reason, 0) for reason in ("ring", "task_state"))
    children = [life for life in multitude.recording.processes() if life.tgid != truth["pid"]]

    assert (multitude.code, truth["children"], truth["ended"]) == (0, CHILDREN, CHILDREN)
    assert len(children) <= CHILDREN <= len(children) + lost
    assert multitude.count("spawn.count") <= CHILDREN <= multitude.count("spawn.count") + lost
    assert sum(life.exit_code == 3 for life in children) <= truth["seventh"]
    assert lost or sum(life.exit_code == 3 for life in children) == truth["seventh"]
    assert check_recording(multitude.recording.path) == "complete"
    tell("children at once", children=CHILDREN, recorded=len(children), lost=multitude.lost)


def test_each_of_many_threads_is_seen(multitude: Run) -> None:
    """Each came on a CPU; and as often as something came on one, the same left it, or is there still."""
    recording, truth = multitude.recording, multitude.truth["multitude"]
    assert recording.end
    seen = recording.end["seen"]
    slices = multitude.events("oncpu").count

    assert truth["threads"] == THREADS
    assert slices >= CHILDREN + THREADS - multitude.lost.get("task_state", 0)
    assert slices + seen["running"] == seen["switches"] + seen["adopted"]
    tell("threads at once", threads=THREADS, most=recording.end["threads"], slices=slices, lost=multitude.lost)


@contextmanager
def with_pid(pid: int, command: list[str | Path], **how: object) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a new process that has a process id which another one had."""
    for _ in range(TRIES):
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        with subprocess.Popen(command, stdin=subprocess.PIPE, **how) as process:  # type: ignore[call-overload]
            try:
                if process.pid == pid:
                    yield process
                    return
            finally:
                process.kill()
    pytest.fail(f"the kernel did not give {pid} again")


@pytest.mark.parametrize("when", ["while it attaches", "while it records"])
def test_who_gets_the_id_of_a_target_is_not_one(lab: Lab, when: str) -> None:
    """`-p PID` means the process that had it when it was said, and its children."""
    folder = lab.folder()
    inventory = Inventory(folder)
    command: list[str | Path] = [lab.workloads / "steady", folder / "steady.json"]
    with lab.started("read go") as target, lab.started("read go") as keeper:
        tracer = lab.tracer(folder, "attach", "-p", f"{target.pid},{keeper.pid}")
        if when == "while it attaches":
            until(lambda: has_pidfds(tracer.process.pid, 2), "tracekit to hold its targets")
        else:
            tracer.wait_attached()
        target.kill()
        target.wait()
        with with_pid(target.pid, command, cwd=folder) as other:
            tracer.wait_attached()
            time.sleep(0.3)
            other.communicate(timeout=PATIENCE_S)
            go(keeper)
            code = tracer.wait()
        run = tracer.result()

    inventory.check()
    assert (code, other.returncode, check_recording(tracer.file)) == (0, AS_EVER, "complete")
    assert run.truth["steady"]["rounds"] > 0
    assert not {life.role for life in run.recording.processes()} & {"steady"}
    assert not run.count("syscall.errors", role="steady")


def has_pidfds(pid: int, number: int) -> bool:
    """Tell whether a process has so many descriptors of processes."""
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found += "pidfd" in str(link.readlink())
    return found >= number


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; no file system of it forbids setuid programs."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_a_target_that_becomes_another_user_and_an_i386_program(lab: Lab, open_folder: Path) -> None:
    """A setuid program has all that it has when nobody looks; its calls as an i386 program go by their own names."""
    for name in ("identity", "compat32"):
        shutil.copy(lab.workloads / name, open_folder)
    (open_folder / "identity").chmod(0o4755)
    folder = lab.folder()
    behind_sudo = {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)}

    command = open_folder / "identity", folder / "identity.json", open_folder / "compat32"
    tracer = lab.tracer(folder, "run", "--syscalls", "--", *command, environment=behind_sudo)
    code = tracer.wait()
    run = tracer.result()

    truth = run.truth["identity"]
    (life,) = run.recording.processes()
    assert (code, life.exit_code, life.role) == (0, 0, "compat32")
    assert (truth["uid"], truth["euid"], truth["secure"]) == (NOBODY, 0, 1)
    failed = run.counts("syscall.errors", "syscall", "errno", role="compat32")
    assert failed == {("i386:5", "ENOENT"): 31}
    assert run.events("syscall.latency", role="compat32", syscall="i386:20").count == 1009
    assert tracer.file.stat().st_uid == NOBODY


def test_a_target_that_unmaps_its_stack(lab: Lab) -> None:
    """Nothing of its frames can be read; all else is there, and it ends as ever."""
    run = lab.run("$W/unmapped; exit $?")

    seen = rows(run, "stack.oncpu", role="unmapped") + rows(run, "stack.offcpu", role="unmapped")
    assert run.code == AS_EVER
    failed = run.count("syscall.errors", role="unmapped", syscall="open", errno="ENOENT")
    assert failed <= 101 <= failed + sum(run.lost.values())
    assert 51 <= run.events("blocked", role="unmapped", syscall="nanosleep").count <= 101  # some may be over at once
    assert seen


def test_what_ends_while_it_is_marked_is_not_alive(lab: Lab) -> None:
    """Or a recording would wait for its end for ever. Children are marked by their name alone, on their way out too."""
    folder = lab.folder()
    options = Options(Path(os.devnull), comm="steady", children=False, db=False, stacks=False)
    with closing(Kernel(options, ())) as kernel, steady(lab, folder) as target:
        kernel.attach()
        for _ in range(MARKS):
            kernel.mark()
        check_target(target, folder)

        until(lambda: kernel.threads == 0, "no thread to be alive", 20)
