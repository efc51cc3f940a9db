"""A collector that is stopped, or lacks memory, or meets another one: it ends well, or says why not."""

from __future__ import annotations

import resource
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.faults import (
    AS_EVER,
    JOURNAL,
    LONG,
    check_counts,
    check_recording,
    check_target,
    steady,
    tell,
    words_of,
)
from tests.kernel.lab import memory_cgroup, pids_cgroup
from tests.kernel.leftovers import Inventory

if TYPE_CHECKING:
    from tests.kernel.lab import Lab

STOPPED_S = 10 if LONG else 1
EXT4 = Path("/sys/fs/ext4")


def test_a_collector_that_is_stopped_for_a_while(lab: Lab) -> None:
    """The interval in which it was is marked; what happened meanwhile is recorded, or counted as lost."""
    folder = lab.folder()
    inventory = Inventory(folder)
    command = lab.workloads / "steady", folder / "steady.json"
    tracer = lab.tracer(folder, "run", "--", *command, stdin=subprocess.PIPE)
    tracer.wait_attached()
    tracer.process.send_signal(signal.SIGSTOP)
    time.sleep(STOPPED_S)
    tracer.process.send_signal(signal.SIGCONT)
    tracer.process.communicate()
    run = tracer.result()

    inventory.check()
    truth = run.truth["steady"]
    longest_s = max(interval.duration_ns for interval in run.recording.intervals) / 1e9
    assert (run.code, truth["wrong"], check_recording(tracer.file)) == (AS_EVER, [0, 0, 0, 0], "complete")
    assert longest_s > 0.9 * STOPPED_S
    assert run.recording.partial
    check_counts(run, truth)
    children = sum(life.exit_code == 7 for life in run.recording.processes())
    tell("collector stopped", seconds=STOPPED_S, children=truth["rounds"], recorded=children, lost=run.lost)


@pytest.mark.parametrize("megabytes", [16, 24, 40, 56, 72, 96] if LONG else [16, 40, 72])
def test_a_collector_that_may_use_too_little_memory(lab: Lab, megabytes: int) -> None:
    """The kernel kills it, or refuses: then it says so, or does without stacks. The target goes on."""
    home, folder = lab.folder(), lab.folder()
    inventory = Inventory(folder)
    with steady(lab, home) as target, memory_cgroup(megabytes << 20) as group:
        enter = (group / "cgroup.procs").write_text
        options = "-p", str(target.pid), "-d", "1s", "--syscalls"
        tracer = lab.tracer(folder, "attach", *options, begin=lambda: enter("0"))
        code = tracer.wait()
        inventory.check(*JOURNAL)
        check_target(target, home)

    state = check_recording(tracer.file)
    assert (code, state) in ((-signal.SIGKILL, "none"), (-signal.SIGKILL, "incomplete"), (4, "none"), (0, "complete"))
    if code == 4:
        assert len(words_of(tracer)) == 2
    tell("memory of a cgroup", megabytes=megabytes, exit=code, recording=state)


def test_a_limit_on_address_space(lab: Lab) -> None:
    """`ulimit -v`, which some shells have: one line, never a traceback."""
    folder = lab.folder()
    inventory = Inventory(folder)
    limit = 32 << 20, 32 << 20

    tracer = lab.tracer(
        folder, "attach", "-p", "1", "-d", "300ms", begin=lambda: resource.setrlimit(resource.RLIMIT_AS, limit)
    )
    code = tracer.wait()

    inventory.check(*JOURNAL)
    check_recording(tracer.file)
    assert code in (0, 4)
    assert code == 0 or len(words_of(tracer)) == 2


@pytest.mark.parametrize("threads", [1, 2, 3] if LONG else [1])
def test_a_limit_on_threads(lab: Lab, threads: int) -> None:
    """`TasksMax=` of a service: without room for a thread there are no stacks, which is said; the rest is as ever."""
    home, folder = lab.folder(), lab.folder()
    inventory = Inventory(folder)
    with steady(lab, home) as target, pids_cgroup(threads) as group:
        enter = (group / "cgroup.procs").write_text
        tracer = lab.tracer(folder, "attach", "-p", str(target.pid), "-d", "500ms", begin=lambda: enter("0"))
        code = tracer.wait()
        inventory.check()
        check_target(target, home)
        run = tracer.result()

    assert (code, check_recording(tracer.file)) == (0, "complete")
    assert run.count("syscall.errors", role="steady", errno="ENOENT") > 0
    if threads != 2:  # then it depends on how fast the one that has loaded the programs goes
        assert ("missing   stacks:" in run.stderr) == (threads == 1)


def test_two_at_once_and_a_third_that_is_killed(lab: Lab) -> None:
    """Each records all that the target does, and none takes anything away from another."""
    home, *folders = (lab.folder() for _ in range(4))
    inventories = [Inventory(folder) for folder in folders]
    with steady(lab, home) as target, ExitStack() as stack:
        first, second, third = (
            stack.enter_context(lab.attached("-p", str(target.pid), folder=folder)) for folder in folders
        )
        time.sleep(0.3)
        third.stop(signal.SIGKILL)
        time.sleep(0.3)
        truth = check_target(target, home)
        runs = [tracer.result() for tracer in (first, second) if tracer.wait() == 0]

    for inventory in inventories:
        inventory.check(*JOURNAL)
    assert [check_recording(folder / "run.tk") for folder in folders] == ["complete", "complete", "incomplete"]
    earlier, later = (run.count("syscall.errors", role="steady", syscall="openat", errno="ENOENT") for run in runs)
    assert 0 < later <= earlier <= truth["rounds"]


def test_all_that_a_command_does_is_counted(lab: Lab) -> None:
    """Nothing goes wrong here: it is the measure of the others."""
    run = lab.run("$W/steady $T/steady.json 499; exit $?")

    assert run.code == 23
    assert run.truth["steady"]["wrong"] == [0, 0, 0, 0]
    check_counts(run, run.truth["steady"])
    assert not run.lost
