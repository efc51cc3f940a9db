"""What the collector samples of processes, on a /proc that is made up."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.unit.sampled import Recorder, machine, put

pytestmark = pytest.mark.usefixtures("own_proc")


def test_an_id_used_again_is_another_process(tmp_path):
    """pid 7 dies at 1,000,000 bytes, another pid 7 starts: its bytes count from zero, and never below."""
    root = machine(tmp_path)
    put(root, 7, io=(0, 1_000_000), start=1)
    recorder = Recorder(lambda: [7], root=root)

    put(root, 7, io=(0, 3_000), start=10**12)
    recorder.sample()

    assert recorder.totals["io.write"] == 3_000


def test_a_thread_id_used_again_takes_nothing_away(tmp_path):
    """What it did less than the one before it is no increase; what comes then is."""
    root = machine(tmp_path)
    put(root, 7, io=(0, 1000))
    recorder = Recorder(lambda: [7], root=root)
    put(root, 7, io=(0, 10))
    assert recorder.sample().totals["io.write"] == 0

    put(root, 7, io=(0, 33))
    recorder.sample()

    assert recorder.totals["io.write"] == 23


def test_a_thread_that_ends_while_it_is_read_is_no_error(tmp_path):
    """Its process goes on, and so do the other threads."""
    root = machine(tmp_path)
    (put(root, 7, threads=2) / "task/8").mkdir()
    recorder = Recorder(lambda: [7], root=root)

    put(root, 7, threads=2, io=(0, 23))
    recorder.sample()

    assert (recorder.totals["io.write"], recorder.last["processes"], recorder.last["threads"]) == (23, 1, 2)


def test_a_process_found_late_counts_from_when_it_was_found(tmp_path):
    """One that is older than the attach and joins the target later (a move into its cgroup) has a past."""
    root = machine(tmp_path)
    tree = []
    recorder = Recorder(lambda: tree, root=root)
    put(root, 7, io=(0, 1_000_000), start=1)
    tree.append(7)
    recorder.sample()

    put(root, 7, io=(0, 1_000_023), start=1)
    recorder.sample()

    assert recorder.totals["io.write"] == 23


def test_a_big_tree_is_visited_in_turns_and_adds_up(tmp_path):
    """A budget for one process a call: every one is visited in its turn, and nothing is lost or counted twice."""
    root = machine(tmp_path)
    for tgid in range(101, 112):
        put(root, tgid, io=(0, 1000), start=1)
    recorder = Recorder(lambda: range(101, 112), root=root, budget_ns=0)
    for _ in range(11):
        recorder.sample()
    assert recorder.last["rss"] == 11 * 3 * os.sysconf("SC_PAGE_SIZE")

    for tgid in range(101, 112):
        put(root, tgid, io=(0, 1007), start=1)
    sums = [recorder.sample().totals["io.write"] for _ in range(12)]

    assert sums == [*(7 * visited for visited in range(1, 12)), 77]
    assert recorder.last["processes"] == 11


def test_a_dead_process_has_no_turn(tmp_path):
    """Or it would be the one not visited for longest for ever, and the living would never be read again."""
    root = machine(tmp_path)
    put(root, 101)
    put(root, 102)
    tree = [101, 102]
    recorder = Recorder(lambda: tree, root=root, budget_ns=0).sample()
    shutil.rmtree(root / "proc/101")
    tree.remove(101)
    put(root, 102, io=(0, 23))

    recorder.sample().sample()

    assert recorder.totals["io.write"] == 23


def test_new_processes_come_first(tmp_path):
    """One that may be gone soon is read before those that are known."""
    root = machine(tmp_path)
    put(root, 101)
    tree = [101]
    recorder = Recorder(lambda: tree, root=root, budget_ns=0)

    put(root, 102, start=10**12, io=(0, 4096))
    tree.append(102)
    recorder.sample()

    assert recorder.totals["io.write"] == 4096


def test_hidden_processes_are_named_and_a_death_is_not(tmp_path):
    """Processes that live but are not in /proc, call after call, are hidden; gone once is gone."""
    root = machine(tmp_path)
    recorder = Recorder(lambda: [7], root=root)
    assert not [line for line in recorder.resources.missing if "hidepid" in line]

    recorder.sample()

    assert len([line for line in recorder.resources.missing if "hidepid" in line]) == 1
    assert not {"io.read", "io.write"} & recorder.last.keys()


def test_a_bare_machine_names_what_it_lacks_once(tmp_path):
    """No PSI, no cgroups, no host files: series are left out, each with one line."""
    recorder = Recorder(lambda: [os.getpid(), 7], root=machine(tmp_path))
    put(tmp_path, 7)
    recorder.sample()

    lines = recorder.sample().resources.missing

    assert len(lines) == len(set(lines))
    assert [line.partition(":")[0] for line in lines] == [
        "throttle.time, throttle.periods",
        *(f"psi ({name})" for name in ("cpu", "memory", "io")),
        "host.cpu, host.steal",
        "host.memory",
        "host.swap",
        "host.disk",
        "host.net",
        "gpu",
    ]
    assert set(recorder.last) == {
        "rss", "threads", "fds", "processes", "io.read", "io.write", "cost.rss", "cost.collector"
    }  # fmt: skip
