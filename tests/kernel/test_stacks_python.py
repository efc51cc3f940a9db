"""Stacks of Python programs against what they say of themselves, on every CPython of this machine."""

from __future__ import annotations

from collections import Counter
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import SLACK
from tests.kernel.stacked import CUT, HZ, PERIOD_NS, STARTING, UNREADABLE, Frame, count, record, rows, weight
from tests.unit.pythons import PYTHONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.kernel.lab import Lab, Run
    from tests.kernel.stacked import Row

PROGRAM = Path(__file__).parent / "workloads" / "chains.py"
NAMES = {"debian" if "pyenv" not in path else Path(path).parents[1].name: path for path in PYTHONS}
NAMES = NAMES if SLACK == 1 else {"debian": NAMES["debian"]}
"""All of them; one where it takes too long."""
OUTERMOST = {"<module>", "_bootstrap", "Thread._bootstrap"}
MARKS = {CUT, STARTING, UNREADABLE}
WAITS = {
    "sleeps": ("poll", {"pselect6", "clock_nanosleep"}, {"do_select_[k]", "do_nanosleep_[k]"}),
    "locks": ("lock", {"futex"}, {"futex_wait_[k]"}),
    "reads": ("network", {"recvfrom"}, {"unix_stream_read_generic_[k]"}),
    "pipes": ("pipe", {"read"}, {"pipe_read_[k]", "anon_pipe_read_[k]"}),
    "children": ("child", {"wait4"}, {"do_wait_[k]"}),
}
"""Functions that wait: reason, system calls, and what the kernel does then."""
ASKED_NS = 3 * 23_100_000
"""For how long the program has each of them wait."""
WAIT_NS = 10_000_000
"""Far less than any of the threads slept."""
KERNEL_TOP = ("schedule", "__schedule", "preempt_schedule")


@pytest.fixture(scope="module")
def run(lab: Lab) -> Run:
    """Return the recording of the program on every CPython, one after the other."""
    return record(lab, {name: [path, PROGRAM] for name, path in NAMES.items()})


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of a CPython."""
    return str(request.param)


def worked(run: Run, name: str) -> list[Row]:
    """Return the samples on CPU of the functions that say where they are."""
    begin = {"work", "in_c.<locals>.sums", "sums", *(f"member_{i}" for i in range(20))}
    return [row for row in rows(run, "stack.oncpu", role=name) if begin & {frame.name for frame in row.python}]


class Possible:
    """The chains of callers that a program had: a sample shows one of them, or where it came from or went to."""

    ASIDE = ("say", "made", "run_delay_ns", "timed")
    """Functions that do not say where they are."""

    def __init__(self, chains: Iterable[Iterable[tuple[str, str, int]]]) -> None:
        self._callers = {()}
        self._here = set()
        self.files = set()
        for chain in chains:
            frames = [Frame(name, Path(file).name, line) for name, file, line in chain]
            for depth, frame in enumerate(frames, 1):
                self._callers.add(tuple(frames[:depth]))
                self._here.add((*frames[: depth - 1], frame[:2]))
                self.files |= {frame.file} if "chains" in frame.file else set()

    def __contains__(self, frames: tuple[Frame, ...]) -> bool:
        """Is all of *frames*, but what other modules do for the innermost function that said where it is?"""
        depth = next((i for i, frame in enumerate(frames) if frame.name in self.ASIDE), len(frames))
        while depth and frames[depth - 1].file not in self.files:
            depth -= 1
        return not depth or (*frames[: depth - 1], frames[depth - 1][:2]) in self._here


def test_every_stack_is_one_that_was_there(run: Run, name: str) -> None:
    """Functions, files and lines of all callers: of recursion, methods, generators, lambdas, C callbacks, tasks."""
    possible = Possible(run.truth[name]["chains"])

    found = [row.python for row in worked(run, name) if not MARKS & set(row.frames) and not row.has("fleeting")]

    assert len(found) > 30
    assert [frames for frames in found if frames not in possible] == []


def test_samples_are_whole(run: Run) -> None:
    """At least 99.5 % reach from the function that works to the outermost one, and have all names between."""
    found = [row for name in NAMES for row in rows(run, "stack.oncpu", role=name)]
    found = [row for row in found if not (row.has("bottomless") or row.has("fleeting") or is_at_an_end(row))]

    whole = [row for row in found if row.python and row.python[0].name in OUTERMOST and not MARKS & set(row.frames)]

    assert count(whole) >= 0.995 * count(found)
    assert count(found) > 60 * len(NAMES)


def is_at_an_end(row: Row) -> bool:
    """Tell whether a thread begins, or ends."""
    return STARTING in row.frames or bool({"do_exit_[k]", "ret_from_fork_[k]"} & set(row.kernel))


def test_code_that_is_gone_has_no_name(run: Run) -> None:
    """
    Or its own, and then the line is right: what is freed is not read as if it were there still.

    Nobody can tell where other code lies at the same address by then, which is so for some: the program makes the same
    pieces of code again, in another order.
    """
    found = [row.frames for name in NAMES for row in worked(run, name) if row.has("fleeting") and row.has("burn")]
    after = [frames[i + 1 :] for frames in found for i, frame in enumerate(frames) if frame.startswith("fleeting (")]

    names = [frame for frames in after for frame in frames if UNREADABLE in frame or "<module>" in frame]

    wrong = names.count(f"<module> (made_{PROGRAM.name}:1)")

    assert names
    assert wrong <= 1 + 0.05 * len(names), names


def test_shares_are_those_of_cpu_time(run: Run) -> None:
    """Samples of a function are as many as CPU time of it has periods, but for chance."""
    truth = sum((Counter(run.truth[name]["cpu_ns"]) for name in NAMES), Counter())
    found = [row for name in NAMES for row in rows(run, "stack.oncpu", role=name)]
    begin = ("work", "sums", "in_c.<locals>.sums", "bottomless")
    found = [row for row in found if any(map(row.has, begin))]

    expected = {name: ns / PERIOD_NS for name, ns in truth.items()}
    seen = {name: count(found, name) + count(found, f"in_c.<locals>.{name}") for name in truth}

    assert {name: (seen[name], n) for name, n in expected.items() if abs(seen[name] - n) > 1 + 4.5 * sqrt(n)} == {}
    assert weight(found) == count(found) * (10**9 // HZ)


@pytest.mark.parametrize("function", WAITS)
def test_waits_are_as_long_as_they_were(run: Run, name: str, function: str) -> None:
    """
    Time by function is what the program measured, under the kernel's functions, with reason and system call.

    Where another machine uses the CPU, the program takes that for a wait of its own: what was asked for is less. Where
    the end of a wait is not reported, it seems to last until the program runs.
    """
    reason, calls, inside = WAITS[function]
    found = [row for row in rows(run, "stack.offcpu", role=name) if row.has(function)]
    longest = [row for row in found if row.weight > 10_000_000]

    off_ns = run.truth[name]["off_ns"][function]

    assert weight(found) > (1 - 0.05 * SLACK) * min(off_ns, ASKED_NS)
    assert weight(found) < blocked_ns(run, name, function) + SLACK * (0.01 * off_ns + 500_000)
    assert {row.labels["reason"] for row in longest} == {reason}
    assert {row.labels["syscall"] for row in longest} <= calls
    assert all(inside & set(row.kernel) and row.frames[-1].startswith(KERNEL_TOP) for row in longest)
    assert {row.python[-1].name for row in longest} == {function}


def blocked_ns(run: Run, name: str, function: str) -> int:
    """Return for how long a function waited as far as its program knows: where wake-ups went unseen, the longest."""
    truth = run.truth[name]
    return int(truth["off_ns"][function]) + (int(truth["queued_ns"][function]) if "wake" in run.holes else 0)


def test_failing_calls(run: Run) -> None:
    """They are under the line that makes them, and no more than there were."""
    found = [row for row in rows(run, "stack.errors", syscall="rmdir") if row.weight]
    failures = sum(run.truth[name]["failures"] for name in NAMES)
    line = next(i for i, text in enumerate(PROGRAM.read_text().splitlines(), 1) if "os.rmdir(" in text)

    assert {row.labels["errno"] for row in found} == {"ENOENT"}
    assert {row.labels["role"] for row in found} == set(NAMES)
    assert {row.python[-1] for row in found} == {Frame("bad", PROGRAM.name, line)}
    assert 0.8 * failures <= weight(found) <= failures == run.count("syscall.errors", syscall="rmdir")


def test_a_deep_stack_is_cut(run: Run, name: str) -> None:
    """At 128 words, with a mark: 127 functions, or 64 where each one is called by C."""
    found = [row for row in rows(run, "stack.oncpu", role=name) if row.has("bottomless") and row.has("burn")]

    deepest = 64 if run.truth[name]["minor"] < 11 else 127

    assert found
    assert {(row.frames.count(CUT), len(row.python)) for row in found} == {(1, deepest)}
    assert {frame.name for row in found for frame in row.python} <= {"bottomless", "burn", "say"}
    assert all(not row.frames[i].startswith("bottomless") for row in found for i in range(row.frames.index(CUT)))


def test_c_code_without_the_lock_keeps_its_stack(run: Run, name: str) -> None:
    """Threads in zlib and hashlib, while another one runs Python: under the function that called them."""
    found = [row for row in worked(run, name) if row.has("sums") or row.has("in_c.<locals>.sums")]
    libraries = {row.frames[-1].rpartition(" (")[2] for row in found if not row.kernel}

    assert any(library.startswith("libz.") for library in libraries)
    assert any(library.startswith("libcrypto.") for library in libraries)
    assert all(row.python[0].name in OUTERMOST for row in found)


def test_a_crowd_of_threads(run: Run, name: str) -> None:
    """Each of 20 threads has its own function, and waited in it as long as it says."""
    found = rows(run, "stack.offcpu", role=name)
    members = {f"member_{i}": blocked_ns(run, name, f"member_{i}") for i in range(20)}

    waited = {member: weight(found, member) for member in members}
    slept = {member: weight([row for row in found if row.labels["reason"] == "poll"], member) for member in members}

    assert {name: ns for name, ns in waited.items() if ns > 1.01 * members[name] + 500_000} == {}
    assert len([name for name, ns in slept.items() if ns < WAIT_NS]) <= min(1, sum(run.holes.values()))
