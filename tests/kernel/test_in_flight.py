"""What had not ended when the recording did: no histogram can hold it."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import added, until

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run
    from tracekit.records import InFlight

SECOND = 10**9
BLOCKED = {
    "reader": ("pipe", "read"),
    "waiter": ("lock", "futex"),
    "napper": ("poll", "clock_nanosleep"),
    "child": ("child", "wait4"),
}


@pytest.fixture(scope="module")
def attached(lab: Lab) -> Run:
    """One second of a program whose threads had all begun to wait before, and never moved."""
    folder = lab.folder()
    with lab.started("exec $W/inflight $T/inflight.json", folder) as target:
        until((folder / "inflight.json").exists, "the workload")
        with lab.attached("-p", str(target.pid), "-d", "1s", folder=folder) as tracer:
            assert tracer.wait() == 0
            return tracer.result()


@pytest.fixture(scope="module")
def launched(lab: Lab) -> Run:
    """The same program recorded from its start, ended by SIGTERM after a second."""
    folder = lab.folder()
    with lab.launched("exec $W/inflight $T/inflight.json", folder=folder) as tracer:
        until((folder / "inflight.json").exists, "the workload")
        time.sleep(1.1)  # so that every wait has an age
        tracer.stop(signal.SIGTERM)
        return tracer.result()


def _wait_of(run: Run, thread: str) -> InFlight:
    pid, _ = run.truth["inflight"][thread]
    (wait,) = (wait for wait in run.recording.in_flight() if wait.pid == pid)
    return wait


@pytest.mark.parametrize("thread", BLOCKED)
def test_a_wait_since_before_the_attach_is_shown(attached: Run, thread: str) -> None:
    """A thread that never switched: still its reason, its call, and an age of at least the recording's length."""
    wait = _wait_of(attached, thread)

    assert wait.thread == thread
    assert (wait.state, wait.reason, wait.syscall) == ("blocked", *BLOCKED[thread])
    assert 0.9 * SECOND <= wait.age_ns <= 600 * SECOND


@pytest.mark.parametrize("thread", BLOCKED)
def test_a_wait_that_began_while_recorded_has_its_age(launched: Run, thread: str) -> None:
    """The age runs from the moment it began to wait to the end of the recording."""
    _, began_ns = launched.truth["inflight"][thread]
    wait = _wait_of(launched, thread)

    assert wait.thread == thread
    assert (wait.state, wait.reason, wait.syscall) == ("blocked", *BLOCKED[thread])
    end_ns = launched.recording.start_ns + launched.recording.duration_ns
    assert wait.age_ns == pytest.approx(end_ns - began_ns, abs=0.3 * SECOND)


def test_a_thread_that_runs_is_not_a_wait(attached: Run) -> None:
    """The one that computes is on its CPU, or in a run queue: it is not said to be blocked."""
    spinner = _wait_of(attached, "spinner")

    assert spinner.state in ("running", "runnable")


@pytest.mark.parametrize("thread", BLOCKED)
def test_wall_time_includes_waits_that_had_not_ended(attached: Run, thread: str) -> None:
    """A thread that blocks throughout has all of the recording in its stack: one second of it."""
    reason, syscall = BLOCKED[thread]

    waited_ns, _ = attached.wall("inflight", thread)[("blocked", reason, syscall)]

    assert waited_ns == pytest.approx(attached.recording.duration_ns, rel=0.05, abs=30e6)


def test_a_thread_that_never_leaves_its_cpu_has_all_of_it(attached: Run) -> None:
    """It was on its CPU before the attach; no switch need happen for its time to be seen."""
    total_ns, _ = added(list(attached.wall("inflight", "spinner").values()))

    assert total_ns == pytest.approx(attached.recording.duration_ns, rel=0.05, abs=30e6)


def test_no_histogram_holds_a_wait_that_had_not_ended(attached: Run) -> None:
    """Nothing ended, so nothing is an event."""
    assert attached.events("blocked", syscall="wait4").count == 0
    assert attached.events("blocked", syscall="futex").count == 0


@pytest.fixture(scope="module")
def starved(lab: Lab) -> Run:
    """A second of five threads that are woken all the time, and of one that does not leave them the CPU."""
    folder = lab.folder()
    with lab.started("exec $W/starved $T/starved.json", folder) as target:
        until((folder / "starved.json").exists, "the workload")
        with lab.attached("-p", str(target.pid), "-d", "1s", "--no-errors", folder=folder) as tracer:
            assert tracer.wait() == 0
            return tracer.result()


def test_a_thread_that_was_woken_waits_for_a_cpu_and_nothing_else(starved: Run) -> None:
    """Between its wake-up and its CPU a thread is runnable: it is not shown in the call it has come out of."""
    waits = {w.pid: w for w in starved.recording.in_flight()}
    found = [waits[tid] for tid in starved.truth["starved"]["tids"]]

    assert any(wait.state == "runnable" for wait in found)
    assert all(wait.age_ns < 20_000_000 for wait in found if wait.state == "blocked")


def test_the_wall_time_of_a_starved_thread_adds_up(starved: Run) -> None:
    """The wait it has come out of and the wait for a CPU that has not ended are both in its second."""
    for number in range(5):
        total_ns, _ = added(list(starved.wall("starved", f"starved-{number}").values()))

        assert total_ns == pytest.approx(starved.recording.duration_ns, rel=0.02, abs=20e6)
