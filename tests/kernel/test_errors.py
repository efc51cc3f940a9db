"""Failed system calls, counted by their own program too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run


@pytest.fixture(scope="module")
def errors(lab: Lab) -> Run:
    """A program whose every failing call is known."""
    return lab.run("$W/errors $T/errors.json")


@pytest.fixture(scope="module")
def signals(lab: Lab) -> Run:
    """A program interrupted a known number of times in each of several calls."""
    return lab.run("exec $W/signals $T/signals.json")


@pytest.fixture(scope="module")
def compat(lab: Lab) -> Run:
    """Two programs that make i386 calls: one is 64-bit, one is not."""
    return lab.run("$W/compat64 $T/compat64.json 1009 31; $W/compat32", "--syscalls")


def test_every_error_is_counted_with_its_call_and_errno(errors: Run) -> None:
    """What the kernel says a call returned is what the program saw, to the last one, and nothing else."""
    truth = errors.truth["errors"]
    expected = {tuple(key.split()): count for key, count in truth.items() if "ENOSYS" not in key}

    found = errors.counts("syscall.errors", "syscall", "errno", role="errors")

    assert truth["openat ENOENT"] == 101
    assert {key: count for key, count in found.items() if key[1] != "ENOSYS"} == expected


def test_a_call_that_does_not_exist_gets_no_other_call_s_name(errors: Run) -> None:
    """Numbers above the table are not folded into it: 1025 is not write."""
    found = errors.counts("syscall.errors", "syscall", errno="ENOSYS", role="errors")

    assert sum(found.values()) == errors.truth["errors"]["1025 ENOSYS"] == 137
    assert ("write",) not in found


def test_calls_that_succeed_are_counted_too(errors: Run) -> None:
    """`syscall.calls` is the denominator of an error rate: failed ones are in it."""
    assert errors.count("syscall.calls", syscall="kill") == errors.truth["errors"]["kill ESRCH"]
    assert errors.count("syscall.calls", syscall="pipe2") == 1


def test_restarts_are_not_errors(signals: Run) -> None:
    """What the kernel restarts, or turns into EINTR after the hook, has no errno; it is counted as a restart."""
    truth = signals.truth["signals"]
    calls = {"read", "pause", "clock_nanosleep"}

    failed = signals.counts("syscall.errors", "syscall", "errno", role="signals")

    assert (truth["restarted"], truth["interrupted"]) == (11, 21)
    assert not [key for key in failed if key[0] in calls]
    assert signals.count("syscall.restarts") >= truth["restarted"] + truth["interrupted"]
    assert signals.count("syscall.restarts") <= truth["restarted"] + truth["interrupted"] + 5


def test_no_errno_is_a_number_the_kernel_keeps_to_itself(signals: Run) -> None:
    """-512 to -516 never reach user space, so no series may name them."""
    names = {name for _, name in signals.counts("syscall.errors", "syscall", "errno")}

    assert not {name for name in names if not name.startswith("E") or name.startswith("ERESTART")}


def test_eintr_that_the_call_returns_itself_is_an_error(signals: Run) -> None:
    """epoll_wait says EINTR by itself: the program sees it, so it is counted."""
    found = signals.count("syscall.errors", syscall="epoll_wait", errno="EINTR")

    assert found == signals.truth["signals"]["epoll_wait EINTR"] == 7


def test_rt_sigreturn_does_not_fail(signals: Run) -> None:
    """Its result is the register it restores, here often -EINTR, and by then its number is forgotten."""
    found = signals.counts("syscall.errors", "syscall", "errno", role="signals")

    assert found == {("epoll_wait", "EINTR"): 7}


def test_i386_calls_have_no_x86_64_names(compat: Run) -> None:
    """int 0x80 number 20 is getpid there and writev here, 5 is open there and fstat here."""
    assert compat.truth["compat64"] == {"getpid": 1009, "open ENOENT": 31}
    for wrong in ("writev", "fstat"):
        assert compat.count("syscall.errors", syscall=wrong, errno="ENOENT") == 0
        assert compat.events("syscall.latency", syscall=wrong, role="compat32").count == 0
    assert compat.count("syscall.calls", syscall="writev") == 0


@pytest.mark.parametrize("role", ["compat64", "compat32"])
def test_failing_i386_calls_are_counted_apart(compat: Run, role: str) -> None:
    """Both a 64-bit program's int 0x80 and a 32-bit program's calls are flagged as what they are."""
    found = compat.counts("syscall.errors", "syscall", errno="ENOENT", role=role)

    assert sum(found.values()) == 31
    assert all("i386" in name for (name,) in found)


@pytest.mark.parametrize("role", ["compat64", "compat32"])
def test_i386_calls_are_timed_apart(compat: Run, role: str) -> None:
    """`--syscalls` counts 1009 calls of i386's getpid, under a name that says i386."""
    series = compat.recording.histograms("syscall.latency", {"role": role})
    i386 = {s.label("syscall"): h.count for s, h in series.items() if "i386" in s.label("syscall")}

    assert 1009 in i386.values()


def test_no_errors_means_none(lab: Lab) -> None:
    """`--no-errors` takes the hook on system calls away, and the series with it."""
    run = lab.run("$W/errors $T/errors.json", "--no-errors")

    assert not run.recording.series("syscall.errors")
    assert not run.recording.series("syscall.calls")
    assert run.events("oncpu", role="errors").count > 0
