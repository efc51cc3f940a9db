"""Every process of the target, however it was started and however it ended."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import go, memory_cgroup, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.lab import Lab, Run
    from tracekit.records import Process

WAYS = {"exec": 23, "fork": 19, "vfork": 17, "spawn": 13, "thread": 11, "double": 7, "leader": 5}
"""How children are started (see workloads/spawn.c), and how many in each way."""
EXECUTED = ["exec", "vfork", "spawn", "thread"]


@pytest.fixture(scope="module")
def children(lab: Lab) -> Run:
    """Children in every way: those that execute a program work 3 ms, sleep 2 ms and exit with 7."""
    lines = [f"$W/spawn $T/{how}.json {how} {count} $W/leaf 3 2 7" for how, count in WAYS.items()]
    return lab.run("; ".join(lines), "--no-errors")


def rows(run: Run, truth: dict[str, list[int]]) -> list[Process]:
    """Return the rows of the processes that a workload started. Fails unless each has one."""
    by_id = {p.tgid: p for p in run.recording.processes() if p.seen == "spawned"}
    assert not set(truth["pids"]) - set(by_id)
    return [by_id[pid] for pid in truth["pids"]]


@pytest.mark.parametrize("how", WAYS)
def test_every_child_has_one_row_with_its_exit_code(children: Run, how: str) -> None:
    """What wait(2) told the parent is what the recording says, also of grandchildren."""
    truth = children.truth[how]
    found = rows(children, truth)

    assert len(truth["pids"]) == WAYS[how] * (2 if how == "double" else 1)
    assert [p.exit_code for p in found] == [os.waitstatus_to_exitcode(status) for status in truth["statuses"]]
    assert all(p.exit_ns for p in found)
    assert {p.tgid for p in found} == set(truth["pids"])


def test_each_process_is_counted_once(children: Run) -> None:
    """`spawn.count` is the number of rows, and no thread is a process."""
    spawned = [p for p in children.recording.processes() if p.seen == "spawned"]
    expected = sum(WAYS.values()) + WAYS["double"] + len(WAYS)  # and the workloads themselves, below the shell

    assert len(spawned) == len({(p.tgid, p.start_ns) for p in spawned}) == expected
    assert children.count("spawn.count") == expected
    assert children.events("process.lifetime").count == expected


@pytest.mark.parametrize("how", WAYS)
def test_a_life_is_in_order_and_inside_what_the_parent_saw(children: Run, how: str) -> None:
    """fork, first run, exec, ready, exit, in this order; the parent's clock brackets the first and the last."""
    truth = children.truth[how]
    for process, start, end in zip(rows(children, truth), truth["started_ns"], truth["ended_ns"], strict=True):
        life = [process.start_ns, process.first_run_ns, process.exec_ns, process.ready_ns, process.exit_ns]

        happened = [at for at in life if at]

        assert happened == sorted(happened)
        assert start <= process.start_ns
        assert process.exit_ns <= end
        assert process.first_run_ns


@pytest.mark.parametrize("how", EXECUTED)
def test_ready_is_the_first_wait_after_exec(children: Run, how: str) -> None:
    """LEAF works 3 ms before it sleeps 2 ms: ready comes at least 3 ms after exec, and 2 ms before the end."""
    for process in rows(children, children.truth[how]):
        assert process.exec_ns
        assert process.ready_ns - process.exec_ns >= 3_000_000
        assert process.exit_ns - process.ready_ns >= 1_800_000


def test_exec_by_a_thread_is_exec_of_its_process(children: Run) -> None:
    """The second thread's exec changes its thread id in mid-call: still one process, and named LEAF."""
    found = rows(children, children.truth["thread"])

    assert {p.role for p in found} == {"leaf"}
    assert all(p.exec_ns for p in found)


def test_a_fork_without_exec_is_a_process(children: Run) -> None:
    """Python's multiprocessing does nothing else: no exec, ready at its first sleep."""
    found = rows(children, children.truth["fork"])

    assert {p.role for p in found} == {"spawn"}
    assert not any(p.exec_ns for p in found)
    assert all(p.ready_ns for p in found)


def test_the_end_of_the_first_thread_is_not_the_end(children: Run) -> None:
    """The first thread ends at once, the second 60 ms later: the process lived 60 ms."""
    found = rows(children, children.truth["leader"])

    assert all(p.exit_ns - p.start_ns >= 60_000_000 for p in found)
    assert [p.exit_code for p in found] == [7] * WAYS["leader"]


def test_parents_are_the_parents(children: Run) -> None:
    """A child's row names its parent; a grandchild's names the child, or who adopted it."""
    for how in ("exec", "vfork", "spawn"):
        assert {p.ppid for p in rows(children, children.truth[how])} == {children.truth[how]["pid"]}


def test_histograms_of_spawns_hold_every_child(children: Run) -> None:
    """`spawn.exec` has one event a child that executed something, and none for one that did not."""
    executed = sum(WAYS[how] for how in EXECUTED) + WAYS["double"]

    assert children.events("spawn.exec", role="leaf").count == executed
    assert children.events("spawn.ready", role="leaf").count == executed
    assert children.events("spawn.first_run").count == children.count("spawn.count")


def test_processes_whose_threads_all_end_at_once_end_once(lab: Lab) -> None:
    """211 processes of five threads, on all CPUs: 211 spawned, 211 ended, no thread taken for a process."""
    run = lab.run("$W/crowd $T/crowd.json 211 4", "--no-errors")
    spawned = [p for p in run.recording.processes() if p.role == "crowd-child"]

    assert run.truth["crowd"]["ended"] == len(spawned) == 211
    assert run.count("spawn.count", role="crowd-child") == 211
    assert run.events("process.lifetime", role="crowd-child").count == 211


@pytest.fixture(scope="module")
def ends(lab: Lab) -> Run:
    """Children that end in every way; core dumps go to the folder of the run, where they are allowed."""
    lines = [f"$W/spawn $T/{name}.json exec 3 $W/leaf 0 0 {end}" for name, end in ENDS.items()]
    lines[list(ENDS).index("segv")] = f"ulimit -c unlimited; {lines[list(ENDS).index('segv')]}; ulimit -c 0"
    return lab.run("ulimit -c 0; " + "; ".join(lines), "--no-errors")


ENDS = {"good": 0, "code7": 7, "code255": 255, "killed": -9, "terminated": -15, "segv": -11, "abort": -6}


@pytest.mark.parametrize(("name", "end"), ENDS.items())
def test_how_a_process_ended(ends: Run, name: str, end: int) -> None:
    """Exit code, signal and core flag are those of wait(2)."""
    statuses = ends.truth[name]["statuses"]

    for process, status in zip(rows(ends, ends.truth[name]), statuses, strict=True):
        signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0

        assert (process.exit_code, process.signal, process.core, process.oom) == (
            code,
            signal,
            os.WCOREDUMP(status),
            False,
        )
        assert (-signal or code) == end


def test_failed_spawns_are_counted_by_how(ends: Run) -> None:
    """`spawn.failed` counts each way apart, and no child that ended well."""
    how = ends.counts("spawn.failed", "how", role="leaf")

    assert sum(how.values()) == 3 * (len(ENDS) - 1)
    assert sorted(how.values()) == [3] * (len(ENDS) - 1)
    assert how[("exit 7",)] == 3


def test_the_oom_killer_is_told_from_other_kills(lab: Lab, cgroup: Path) -> None:
    """A process that outgrows its memory cgroup is killed by SIGKILL, as others are: `oom` tells them apart."""
    script = f'sh -c "echo \\$\\$ >{cgroup}/cgroup.procs; exec $W/hungry"; echo "{{\\"status\\": $?}}" >$T/end.json'

    run = lab.run(script)

    (hungry,) = (p for p in run.recording.processes() if p.role == "hungry")

    assert run.truth["end"]["status"] == 128 + 9
    assert (hungry.signal, hungry.oom) == (9, True)
    assert sum(run.counts("spawn.failed", "how", role="hungry").values()) == 1


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A memory cgroup of 16 MB."""
    with memory_cgroup(16 << 20) as path:
        yield path


def test_children_of_python(lab: Lab) -> None:
    """multiprocessing (three ways), subprocess, asyncio, os.posix_spawn: every child, with its exit code."""
    script = Path(__file__).parent / "workloads" / "python_children.py"

    run = lab.run(f"{sys.executable} {script} $T/python.json", "--no-errors")

    found = {p.tgid: p.exit_code for p in run.recording.processes()}
    assert len(run.truth["python"]) == 6
    for name, (pid, code) in run.truth["python"].items():
        assert found.get(pid) == code, name


def test_a_process_id_used_again_is_another_process(lab: Lab) -> None:
    """Three processes with one id, one after the other, are three rows."""
    script = (
        "i=0; while [ $i -lt 3 ]; do echo 29999 >/proc/sys/kernel/ns_last_pid; "
        "$W/leaf 0 1 $i & wait $!; echo $! >>$T/pids; i=$((i + 1)); done"
    )

    run = lab.run(script, "--no-errors")

    pids = (run.recording.path.parent / "pids").read_text().split()
    found = [p.exit_code for p in run.recording.processes() if p.role == "leaf"]
    assert len(set(pids)) < 3, "the kernel did not give an id twice: this test shows nothing"
    assert sorted(found) == [0, 1, 2]


def test_found_processes_are_not_counted_as_spawned(lab: Lab) -> None:
    """What existed at the attach has a row that says so, and no event in any histogram of spawns."""
    with lab.started("$W/leaf 0 1 0; read go; exit 3") as target:
        until(lambda: Path(f"/proc/{target.pid}/wchan").exists(), "the target")
        with lab.attached("-p", str(target.pid)) as tracer:
            go(target)
            target.wait()
            tracer.wait()
            run = tracer.result()
    (found,) = run.recording.processes()

    assert (found.tgid, found.seen, found.exit_code) == (target.pid, "found", 3)
    assert not run.count("spawn.count")
    assert not run.events("spawn.exec").count
    assert found.start_ns < run.recording.start_ns
