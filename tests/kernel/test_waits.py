"""What threads wait for: the reason, the call, how often and how long, with no hook on system calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import added, has_disk

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run

WAITS = {
    "poll clock_nanosleep": 37,
    "poll poll": 11,
    "poll ppoll": 3,
    "poll select": 7,
    "poll pselect6": 2,
    "poll epoll_wait": 13,
    "pipe read": 17,
    "network recvfrom": 19,
    "network accept": 5,
    "lock futex": 23,
    "lock flock": 5,
    "lock semtimedop": 3,
    "child wait4": 5,
    "child waitid": 3,
    "child vfork": 7,
}


@pytest.fixture(scope="module")
def waits(lab: Lab) -> Run:
    """A program that blocks in every kind of call."""
    return lab.run("$W/waits $T/waits.json", "--no-errors")


def test_no_program_is_missing(waits: Run) -> None:
    """This kernel has loaded all that is attached unless it is asked not to."""
    parts = ("stacks", "databases", "run-queue")

    assert [line for line in waits.recording.end["missing"] if any(part in line for part in parts)] == []


@pytest.mark.parametrize(("name", "times"), WAITS.items())
def test_every_wait_has_its_reason_and_call(waits: Run, name: str, times: int) -> None:
    """Each kind of call waits as often and as long as the program says, under the right reason."""
    reason, syscall = name.split()
    known_times, least_ns, most_ns = waits.truth["waits"][name]

    waited_ns, events = waits.wall("waits", "waits").get(("blocked", reason, syscall), (0, 0))

    assert events == known_times == times
    assert 0.8 * least_ns <= waited_ns <= 1.01 * most_ns


def test_no_wait_has_a_wrong_reason(waits: Run) -> None:
    """A call that waits for one thing is not found under another."""
    reasons = {name.split()[1]: name.split()[0] for name in WAITS}

    found = [f for f in waits.wall("waits", "waits") if f[0] == "blocked" and reasons.get(f[2], f[1]) != f[1]]

    # a read of the child's or the helper's pipe is a pipe's; nothing else has two reasons
    assert found == []


def test_histograms_hold_what_the_stacks_hold(waits: Run) -> None:
    """`blocked{syscall}` has the events of `role;thread;blocked;reason;syscall`, threads added up."""
    stacks = waits.recording.stacks()
    for syscall in {name.split()[1] for name in WAITS}:
        events = sum(w.count for frames, w in stacks.items() if frames[0] == "waits" and frames[-1] == syscall)

        assert waits.events("blocked", role="waits", syscall=syscall).count == events


def test_a_page_fault_is_a_wait_outside_of_calls(lab: Lab) -> None:
    """
    Seven faults that another thread resolves after 10 ms each: reason `fault`, no system call.

    A kernel that is short of memory, or reclaims what nobody used of late, adds short ones of the program itself.
    """
    run = lab.run("$W/faults $T/faults.json 7 10")

    waited_ns, events = run.wall("faults", "faults").get(("blocked", "fault", "-"), (0, 0))

    waits = run.events("offcpu", role="faults", reason="fault")
    assert events >= 7
    assert round(waits.share_above(9_000_000) * waits.count) == 7
    assert waited_ns >= 0.8 * 70e6
    assert waits.high <= run.truth["faults"]["spent_ns"] - 6 * 10e6


def test_a_stopped_process_waits_for_nothing_else(lab: Lab) -> None:
    """SIGSTOP three times for 30 ms: reason `stopped`, whatever the call it was stopped in."""
    run = lab.run("$W/stopped $T/stopped.json 3 30")

    stops = run.events("offcpu", role="stops", reason="stopped")

    assert run.truth["stopped"]["stops"] == 3
    assert stops.count == 3
    assert stops.low >= 0.8 * 30e6


COUNTED = """/usr/bin/python3 -c '
import json, os, sys
child = os.spawnv(os.P_NOWAIT, sys.argv[2], sys.argv[2:])
used = os.wait4(child, 0)[2]
with open(sys.argv[1], "w") as file: json.dump({"voluntary": used.ru_nvcsw}, file)
' $T/whole.json"""
"""Runs a program, and tells how often it waited until it had ended."""


@pytest.mark.skipif(not has_disk(), reason="needs a disk; this machine has none")
def test_reads_and_writes_around_the_page_cache_wait_for_the_disk(lab: Lab) -> None:
    """O_DIRECT: each of 61 writes waits for the disk; reads may be there before their program sleeps."""
    run = lab.run(f"{COUNTED} $W/disk $T/disk.json $T/data")
    truth, wall = run.truth["disk"], run.wall("disk", "disk")

    assert wall[("blocked", "disk", "pwrite64")][1] >= truth["blocks"]
    waited_ns, _ = added([wall.get(("blocked", "disk", call), (0, 0)) for call in ("pwrite64", "pread64")])
    assert 0 < waited_ns <= truth["direct_ns"]
    _, waits = added([found for frames, found in wall.items() if frames[0] == "blocked"])
    assert truth["voluntary"] <= waits <= run.truth["whole"]["voluntary"]


@pytest.mark.skipif(not has_disk(), reason="needs a disk; this machine has none")
def test_page_faults_on_a_file_are_faults(lab: Lab) -> None:
    """
    Pages that are not in the cache: as many waits as the kernel counts.

    It counts a major fault for each, but a fast disk may have the page there before the program sleeps.
    """
    run = lab.run("$W/disk $T/disk.json $T/data")
    truth, wall = run.truth["disk"], run.wall("disk", "disk")

    waited_ns, events = wall.get(("blocked", "fault", "-"), (0, 0))
    _, advised = added([found for frames, found in wall.items() if frames[-1] == "fadvise64"])  # to drop the page

    assert truth["major_faults"] >= 31
    assert truth["faults_slept"] <= events + advised <= truth["faults_slept"] + 3
    assert waited_ns <= truth["faults_ns"]
