"""`--syscalls`: how long each call took, none invented and none lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run

STORM = 11_003
"""More than the 8192 and 10240 threads after which tools with a hash by thread id go blind."""
CALLS = 50_021


@pytest.fixture(scope="module")
def timed(lab: Lab) -> Run:
    """Sleeps, forks of every kind and signals, timed."""
    lines = ["$W/waits $T/waits.json", "$W/signals $T/signals.json"]
    lines += [f"$W/spawn $T/{how}.json {how} {count} $W/leaf 0 1 0" for how, count in FORKS.items()]
    return lab.run("; ".join(lines), "--syscalls")


FORKS = {"exec": 23, "fork": 19, "vfork": 17}


@pytest.fixture(scope="module")
def storm(lab: Lab) -> Run:
    """Many short processes, then calls of a process that is new."""
    return lab.run(f"$W/storm $T/storm.json {STORM} {CALLS} $W/nothing", "--syscalls")


@pytest.mark.parametrize("syscall", ["clock_nanosleep", "recvfrom", "flock", "wait4"])
def test_latency_is_at_least_the_wait(timed: Run, syscall: str) -> None:
    """A call that blocks lasts as long as it blocks, and no longer than the program measures."""
    truth = {key.split()[1]: value for key, value in timed.truth["waits"].items()}
    times, least_ns, most_ns = truth[syscall]

    latency = timed.events("syscall.latency", role="waits", syscall=syscall)

    assert latency.count >= times
    assert 0.9 * least_ns <= latency.total
    if syscall == "recvfrom":  # the others are called by more than the loop that is measured
        assert latency.count == times
        assert latency.total <= 1.01 * most_ns


@pytest.mark.parametrize("how", FORKS)
def test_the_child_s_return_from_fork_is_no_call(timed: Run, how: str) -> None:
    """A fork enters once and returns twice: as many latencies as forks, and none in the child."""
    call = "vfork" if how == "vfork" else "clone"
    expected = sum(count for name, count in FORKS.items() if ("vfork" if name == "vfork" else "clone") == call)

    assert timed.events("syscall.latency", syscall=call, role="spawn").count == expected


def test_a_call_that_never_returns_has_no_latency(timed: Run) -> None:
    """exit_group enters and does not return."""
    assert timed.events("syscall.latency", syscall="exit_group").count == 0
    assert timed.events("syscall.latency", syscall="execve", role="leaf").count <= FORKS["exec"] + FORKS["vfork"]


def test_a_restarted_call_is_at_most_one(timed: Run) -> None:
    """Eleven times interrupted and restarted, the read ends once: what the kernel does in between is no call."""
    reads = timed.events("syscall.latency", role="signals", syscall="read")

    assert 1 <= reads.count <= 4


def test_eleven_thousand_processes_do_not_blind_it(storm: Run) -> None:
    """Calls of a process that starts after them are all seen: no table by thread id has filled up."""
    found = storm.events("syscall.latency", syscall="getppid", role="storm")

    assert storm.truth["storm"]["processes"] == STORM
    assert found.count == CALLS
    assert storm.count("syscall.calls", syscall="getppid") == CALLS + 1  # the shell's own


def test_none_of_eleven_thousand_spawns_is_lost(storm: Run) -> None:
    """Each has its row, its count and its life; the parent reaped every one of them."""
    nothing = [p for p in storm.recording.processes() if p.role == "nothing"]

    assert storm.lost == {}
    assert len(nothing) == STORM
    assert storm.count("spawn.count", role="nothing") == STORM
    assert storm.events("process.lifetime", role="nothing").count == STORM
    assert all(p.exit_ns >= p.exec_ns >= p.first_run_ns >= p.start_ns for p in nothing)
    assert not [p for p in nothing if p.exit_code or p.signal]


def test_seen_is_recorded_and_lost(storm: Run) -> None:
    """Every traced task that came to a CPU is a slice of it in the recording, or a loss with a name."""
    recorded = storm.events("oncpu").count
    seen = storm.recording.end["seen"]

    assert seen["switches"] > 2 * STORM
    assert recorded + storm.lost.get("series", 0) == pytest.approx(seen["switches"], abs=4)
