"""Context switches, time on a CPU and in its queue, against what the kernel says of each task itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.kernel.lab import SLACK, added

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run

two_cpus = pytest.mark.skipif(os.cpu_count() == 1, reason="needs two CPUs")
THREADS = ["burner", "sleeper", "locker-1", "locker-2", "mixer"]


@pytest.fixture(scope="module")
def pingpong(lab: Lab) -> Run:
    """Two threads on one CPU that wake each other 1009 times each."""
    return lab.run("$W/pingpong $T/pingpong.json 1009 0", "--no-errors")


@pytest.fixture(scope="module")
def competition(lab: Lab) -> Run:
    """Two programs that both want CPU 0 for 1.5 s, and a third that starts nothing."""
    return lab.run("$W/hog $T/one.json 1500 0 & $W/hog $T/two.json 1500 0; wait", "--no-errors")


@pytest.fixture(scope="module")
def threads(lab: Lab) -> Run:
    """Five threads that work, sleep, contend for a lock and yield, for 1.2 s."""
    return lab.run("$W/threads $T/threads.json 1200", "--no-errors")


def close_to(truth_ns: float, slices: int) -> Any:
    """
    Compare with a clock of the kernel.

    It turns over in the middle of a switch, and need not count interrupts: some µs a slice. And a
    recording sees the start and the end of a process, which the process itself does not.
    """
    return pytest.approx(truth_ns, rel=0.05 * SLACK, abs=5e6 + SLACK * 30e3 * slices)


def test_switches_are_those_of_getrusage(pingpong: Run) -> None:
    """Voluntary and involuntary ones apart; a few more than the program could see: its start and its end."""
    truth = pingpong.truth["pingpong"]
    found = {key[0]: n for key, n in pingpong.counts("switches", "kind", role="pingpong").items()}

    assert found["voluntary"] + found["involuntary"] >= 2 * 1009
    assert truth["voluntary"] <= found["voluntary"] <= truth["voluntary"] + 12
    assert truth["involuntary"] <= found["involuntary"] <= truth["involuntary"] + 12


def test_every_switch_ends_a_slice(pingpong: Run) -> None:
    """As many slices of CPU, and as many ways back to it, as switches away."""
    switches = pingpong.count("switches", role="pingpong")

    assert pingpong.events("oncpu", role="pingpong").count == switches
    assert abs(pingpong.events("runq.wait", role="pingpong").count - switches) <= 4


def test_every_wait_ends_by_a_wake_up(pingpong: Run) -> None:
    """As many waits as voluntary switches; a preemption has no wake-up."""
    waits = pingpong.events("offcpu", role="pingpong")
    preempted = pingpong.events("offcpu", role="pingpong", reason="preempted")
    voluntary = pingpong.counts("switches", "kind", role="pingpong")[("voluntary",)]

    assert abs(waits.count - preempted.count - voluntary) <= 4
    assert pingpong.events("runq.wake", role="pingpong").count <= voluntary


@two_cpus
def test_a_wake_up_that_crosses_cpus_is_on_its_way_for_some_time(lab: Lab) -> None:
    """
    On one CPU waking and wakeup are one moment, and no event; one that another CPU has to finish takes time.

    The kernel leaves it to the other CPU only if that is idle (ttwu_queue_cond), so on a machine whose CPUs
    are busy all the time there is none: one is owed once they were idle for two ticks in all.
    """
    idle_ns = 0
    for _ in range(10):
        run = lab.run("$W/pingpong $T/pingpong.json 1009 0 1", "--no-errors")
        voluntary = run.counts("switches", "kind", role="pingpong")[("voluntary",)]
        wakes = run.events("runq.wake", role="pingpong")
        idle_ns += run.truth["pingpong"]["idle_ns"]
        if wakes.count:
            break

    assert wakes.count <= voluntary
    assert wakes.low > 0 if wakes.count else idle_ns < 20_000_000


def test_time_on_cpu_is_the_clock_of_the_process(competition: Run) -> None:
    """`oncpu` against CLOCK_PROCESS_CPUTIME_ID of two programs that compete."""
    cpu_ns = sum(competition.truth[name]["cpu_ns"] for name in ("one", "two"))
    slices = competition.events("oncpu", role="hog")

    assert slices.total == close_to(cpu_ns, slices.count)


def test_time_in_the_run_queue_is_the_scheduler_s_own(competition: Run) -> None:
    """`runq.wait` against /proc/PID/schedstat: two programs for one CPU wait half of their time."""
    truths = [competition.truth[name] for name in ("one", "two")]
    waited = competition.events("runq.wait", role="hog")

    assert waited.total == close_to(sum(t["leader_runq_ns"] for t in truths), waited.count)
    assert waited.total / sum(t["wall_ns"] for t in truths) >= 0.35


def test_a_preempted_program_waits_for_nothing_but_the_cpu(competition: Run) -> None:
    """It never sleeps: its waits are preemptions, as many as getrusage counts involuntary switches."""
    truths = [competition.truth[name] for name in ("one", "two")]
    preempted = competition.events("offcpu", role="hog", reason="preempted")

    assert abs(preempted.count - sum(t["involuntary"] for t in truths)) <= 6
    assert preempted.total >= 0.9 * competition.events("runq.wait", role="hog").total


def test_the_run_queue_is_as_long_as_the_load(lab: Lab) -> None:
    """Four programs on CPU 0: three wait, as long as all of them run."""
    hogs = " & ".join(f"$W/hog $T/{name}.json 1000 0" for name in "abcd")

    run = lab.run(f"{hogs}; wait", "--no-errors")

    length = run.events("runq.length", cpu="0")
    assert length.quantile(0.9) >= 3
    assert length.mean >= 1
    assert length.count >= 50


def test_sleepers_do_not_lengthen_the_run_queue(lab: Lab) -> None:
    """
    Of two threads that wake each other on one CPU, at many a sample nobody waits.

    Kernels that dequeue late (6.12) leave the sleeper in the queue at every other switch: to count it
    would leave next to no sample without a waiting task. Others on this CPU wait too, or make the two wait:
    so the best of six recordings counts, and on a machine that never leaves the two nine tenths of the CPU
    nothing can be said.
    """
    free, own = [0.0], [0.0]
    while len(free) <= 6 and max(free) < 0.1:
        run = lab.run("$W/pingpong $T/pingpong.json 60013 0", "--no-errors", "-i", "1s")
        length, truth = run.events("runq.length", cpu="0"), run.truth["pingpong"]
        free.append(float(length.counts[0]) / length.count)
        own.append(truth["cpu_ns"] / truth["wall_ns"])

    assert max(free) >= 0.1 or max(own) < 0.9


@pytest.mark.parametrize("thread", THREADS)
def test_the_wall_time_of_a_thread_adds_up(threads: Run, thread: str) -> None:
    """
    On CPU + run queue + blocked is the time the thread was there, to 1 %.

    That is at least what it observes of itself, and at most what its creator does: in between it may have to
    wait for a CPU before its first look at the clock, and after its last.
    """
    observed_ns, _, _, _ = threads.truth["threads"][thread]
    joined_ns = threads.truth["threads"]["joined_ns"][THREADS.index(thread)]

    total_ns, _ = added(list(threads.wall("threads", thread).values()))

    slack_ns = 2e6 + 0.01 * SLACK * observed_ns
    assert observed_ns - slack_ns <= total_ns <= joined_ns + slack_ns


@pytest.mark.parametrize("thread", THREADS)
def test_each_part_of_a_thread_s_time_is_the_kernel_s(threads: Run, thread: str) -> None:
    """On CPU as its clock says, in the run queue as its schedstat says."""
    _, cpu_ns, waited_ns, slices = threads.truth["threads"][thread]
    wall = threads.wall("threads", thread)

    assert abs(wall[("on-CPU",)][1] - slices) <= 4
    assert wall[("on-CPU",)][0] == close_to(cpu_ns, slices)
    # a wake-up on its way is not yet in the kernel's queue, but no longer blocked either
    slack_ns = 5e6 + SLACK * 30e3 * slices
    assert 0.85 * waited_ns - slack_ns <= wall[("run queue",)][0] <= 1.2 * waited_ns + slack_ns


def test_histograms_add_up_to_the_stacks(threads: Run) -> None:
    """`oncpu` + `runq.wake` + `runq.wait` + `offcpu` without `preempted` is the wall time of all threads."""
    stacks = threads.recording.stacks()
    wall_ns = sum(w.weight for frames, w in stacks.items() if frames[0] == "threads")
    parts = [threads.events(metric, role="threads").total for metric in ("oncpu", "runq.wake", "runq.wait", "offcpu")]

    histograms_ns = sum(parts) - threads.events("offcpu", role="threads", reason="preempted").total

    assert histograms_ns == pytest.approx(wall_ns, rel=0.01)


def test_a_lock_is_waited_for_by_those_who_want_it(threads: Run) -> None:
    """Two threads contend for a mutex: `lock;futex` is theirs, and nobody else's."""
    waited = {thread: threads.wall("threads", thread).get(("blocked", "lock", "futex"), (0, 0)) for thread in THREADS}

    assert waited["locker-1"][1] + waited["locker-2"][1] > 60  # as often as the two happen to meet
    assert waited["burner"][1] <= 1  # for the file that all of them write their truth to
    assert waited["sleeper"][1] <= 1


@two_cpus
def test_migrations(lab: Lab) -> None:
    """A program that moves itself to the other CPU 101 times is seen to arrive there 101 times."""
    run = lab.run("$W/bounce $T/bounce.json 101", "--no-errors")

    assert run.truth["bounce"]["moved"] == 101
    assert 101 <= run.count("migrations", role="bounce") <= 101 + 3


def test_the_idle_task_is_never_counted(lab: Lab) -> None:
    """With `--all`, on a machine that mostly sleeps: no swapper, no process 0, no century of CPU."""
    folder = lab.folder()
    with lab.attached("--all", "-d", "1s", folder=folder) as tracer:
        assert tracer.wait() == 0
        run = tracer.result()

    roles = {s.label("role") for s in run.recording.series()}
    assert not {role for role in roles if role.startswith("swapper")}
    assert not [p for p in run.recording.processes() if p.tgid == 0]
    cpus = os.cpu_count() or 1
    assert run.events("oncpu").total <= 1.1 * cpus * run.recording.duration_ns
