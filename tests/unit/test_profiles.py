"""tracekit flamegraph --on-cpu, --off-cpu, --wall, --errors: code held to what was measured exactly."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from tests import sample_db
from tests.sample import write as write_sample
from tests.unit.recordings import Content, write
from tracekit.histogram import slots_of
from tracekit.records import BUCKET_SHIFT, WAITS, SpanParts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.conftest import Run

    Stacks = Callable[..., dict[tuple[str, ...], int]]

MS = 10**6
SVG = "{http://www.w3.org/2000/svg}"
EVAL = "_PyEval_EvalFrameDefault (libpython3.11.so.1.0)"
WORKER = {"role": "worker", "thread": "main"}
DISK = WORKER | {"reason": "disk", "syscall": "fsync"}
HOSTILE = "e;v\x1b[31mil\u202e <script>\n (x.py:3)"

CONTENT = Content(
    stacks={
        ("worker", "main", "on-CPU"): 100,
        ("worker", "main", "run queue"): 7,
        ("worker", "main", "blocked", "disk", "fsync"): 50,
        ("idle", "main", "on-CPU"): 3,
    },
    samples=[
        ("stack.oncpu", WORKER, 0, ("main (a.py:1)", EVAL, "f (a.py:5)"), 20, 2),
        ("stack.oncpu", WORKER | {"span": "x"}, 0, ("main (a.py:1)", EVAL, "f (a.py:6)"), 10, 1),
        ("stack.offcpu", DISK, 0, ("main (a.py:2)", "fsync (libc.so.6)"), 30, 4),
    ],
)


@pytest.fixture
def stacks(run: Run) -> Stacks:
    """Return a function from words to the stacks that they give, with frames as they were recorded."""

    def call(*words: object) -> dict[tuple[str, ...], int]:
        code, out, err = run("flamegraph", *words, "--json")
        assert code == 0, err
        return {tuple(stack["frames"]): stack["weight"] for stack in json.loads(out)["stacks"]}

    return call


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "x.tk", CONTENT)


def test_all_time_with_its_code(stacks: Stacks, path: Path) -> None:
    """Samples fill the time on a CPU, in any span; waits are as long as they were, and what has no stack stays."""
    assert (
        stacks(path)
        == stacks(path, "--wall")
        == {
            ("worker", "main", "on-CPU", "main (a.py)", "f (a.py)"): 100,
            ("worker", "main", "run queue"): 7,
            ("worker", "main", "blocked", "disk", "fsync"): 20,
            ("worker", "main", "blocked", "disk", "fsync", "main (a.py)", "fsync (libc.so.6)"): 30,
            ("idle", "main", "on-CPU"): 3,
        }
    )


def test_only_time_on_a_cpu(stacks: Stacks, path: Path) -> None:
    """Without the word for it."""
    assert stacks(path, "--on-cpu") == {("worker", "main", "main (a.py)", "f (a.py)"): 100, ("idle", "main"): 3}


def test_only_time_blocked(stacks: Stacks, path: Path) -> None:
    """By reason and call."""
    assert stacks(path, "--off-cpu") == {
        ("worker", "main", "disk", "fsync"): 20,
        ("worker", "main", "disk", "fsync", "main (a.py)", "fsync (libc.so.6)"): 30,
    }


def test_lines_and_the_interpreter_are_shown_when_asked_for(stacks: Stacks, path: Path) -> None:
    """Lines of a function are frames of their own then, and 100 ns are shared as 2 to 1 in whole ns."""
    both = stacks(path, "--on-cpu", "--lines", "--native", "--role", "worker")

    assert stacks(path, "--on-cpu", "--lines", "--role", "worker") == {
        ("worker", "main", "main (a.py:1)", "f (a.py:5)"): 67,
        ("worker", "main", "main (a.py:1)", "f (a.py:6)"): 33,
    }
    assert {stack[3] for stack in both} == {EVAL}


def test_waits_longer_than_the_account_are_cut_to_it(stacks: Stacks, tmp_path: Path) -> None:
    """A wait that began before the part of the recording that is shown: widths stay what the part has."""
    weights = {("a (x.py:1)",): 60, ("b (x.py:1)",): 40}
    rows = [("stack.offcpu", DISK, 0, frames, weight, 1) for frames, weight in weights.items()]
    path = write(tmp_path / "y.tk", replace(CONTENT, samples=rows))

    found = stacks(path, "--off-cpu")

    assert found == {
        ("worker", "main", "disk", "fsync", "a (x.py)"): 30,
        ("worker", "main", "disk", "fsync", "b (x.py)"): 20,
    }


def test_what_has_no_account_is_left_out_and_said(run: Run, tmp_path: Path) -> None:
    """A thread that nothing else knows of would make the time longer than it was."""
    stranger = ("stack.oncpu", {"role": "worker", "thread": "?"}, 0, ("f (a.py:1)",), 20, 1001)
    path = write(tmp_path / "y.tk", replace(CONTENT, samples=[*CONTENT.samples, stranger]))

    code, out, err = run("flamegraph", path, "--on-cpu")

    assert (code, out) == (0, run("flamegraph", write(tmp_path / "x.tk", CONTENT), "--on-cpu")[1])
    assert err == (
        "note: 3 samples on CPU: rough; code is known of 97.1 % of the time\n"
        "note: 1,001 more are of what nothing else was recorded of, and left out\n"
    )


def test_a_stack_of_the_interpreter_alone_stays(stacks: Stacks, tmp_path: Path) -> None:
    """A thread that starts, or a CPython that is not understood: it is all that is known."""
    path = write(tmp_path / "y.tk", replace(CONTENT, samples=[("stack.oncpu", WORKER, 0, (EVAL,), 5, 1)]))

    assert stacks(path, "--on-cpu", "--role", "worker") == {("worker", "main", EVAL): 100}
    assert stacks(path, "--on-cpu", "--role", "worker", "--native") == {("worker", "main", EVAL): 100}


FAILED = {"role": "worker", "syscall": "openat", "errno": "ENOENT"}
FAILURES = Content(
    counters=[
        ("syscall.errors", FAILED, 90),
        ("syscall.errors", FAILED | {"span": "x"}, 10),
        ("syscall.errors", FAILED | {"syscall": "read", "errno": "EIO"}, 2),
        ("syscall.errors", FAILED | {"errno": "EACCES"}, 0),
    ],
    samples=[
        ("stack.errors", FAILED, 0, ("f (a.py:5)",), 27, 3),
        ("stack.errors", FAILED | {"span": "x"}, 0, ("g (a.py:9)",), 9, 1),
    ],
)


def test_failed_calls_with_their_code(run: Run, stacks: Stacks, tmp_path: Path) -> None:
    """As many as were counted, in the proportion of what was seen; what was not seen has no code."""
    path = write(tmp_path / "x.tk", FAILURES)

    assert stacks(path, "--errors") == {
        ("worker", "openat", "ENOENT", "f (a.py)"): 75,
        ("worker", "openat", "ENOENT", "g (a.py)"): 25,
        ("worker", "read", "EIO"): 2,
    }
    assert run("flamegraph", path, "--errors")[2] == "note: 4 samples of failed calls: rough\n"
    assert "102 calls in 3 stacks" in run("flamegraph", path, "--errors", "--format", "svg")[1]


def test_failed_calls_of_a_span(stacks: Stacks, tmp_path: Path) -> None:
    """What failed inside it."""
    content = replace(FAILURES, histograms=[("span.latency", {"role": "worker", "span": "x"}, [5])])
    path = write(tmp_path / "x.tk", content)

    assert stacks(path, "--errors", "--span", "x") == {("worker", "openat", "ENOENT", "g (a.py)"): 10}


def test_failed_calls_of_a_part(stacks: Stacks, tmp_path: Path) -> None:
    """Counters and samples of the same intervals."""
    path = write(tmp_path / "x.tk", replace(FAILURES, intervals=3))

    part, whole = (stacks(path, "--errors", *more) for more in (("--between", "10s", "20s"), ()))

    assert {stack: 3 * count for stack, count in part.items()} == whole


def test_a_part_of_the_time(stacks: Stacks, tmp_path: Path) -> None:
    """Accounts and samples of the same intervals."""
    path = write(tmp_path / "x.tk", replace(CONTENT, intervals=3))

    part, whole = (stacks(path, *more) for more in (("--between", "10s", "20s"), ()))

    assert {stack: 3 * ns for stack, ns in part.items()} == whole


SPAN = {"role": "worker", "span": "x"}


def slow_and_fast() -> Content:
    """Return 960 spans of 1 ms on a CPU in `fast`, 40 of 100 ms that wait in `slow`, and run in `late`."""
    fast, slow = (int(slots_of(np.array([ns], dtype=np.uint64))[0]) >> BUCKET_SHIFT for ns in (MS, 100 * MS))
    none = (0,) * len(WAITS)
    lock = tuple(40 * 90 * MS if kind == "lock" else 0 for kind in WAITS)
    cpu, wait = SPAN | {"state": "on-CPU"}, SPAN | {"state": "lock"}
    return Content(
        histograms=[("span.latency", SPAN, [MS] * 960 + [100 * MS] * 40)],
        parts=[
            (SPAN, SpanParts(0, fast, 960 * MS, 0, none, none, 0, 0, 0)),
            (SPAN, SpanParts(0, slow, 4000 * MS, 0, lock, none, 0, 0, 0)),
        ],
        samples=[
            ("stack.span", cpu, fast, ("main (a.py:1)", "fast (a.py:2)"), 60 * 20 * MS, 60),
            ("stack.span", cpu, slow, ("main (a.py:1)", "late (a.py:3)"), 12 * 20 * MS, 12),
            ("stack.span", wait, slow, ("main (a.py:1)", "slow (a.py:4)"), 40 * 80 * MS, 40),
        ],
    )


def test_the_tail_has_its_own_code(run: Run, stacks: Stacks, tmp_path: Path) -> None:
    """Of its buckets alone: widths are those of a mean slow span, 80 of its 90 ms of waiting with a stack."""
    path = write(tmp_path / "x.tk", slow_and_fast())

    assert stacks(path, "--span", "x", "--tail", "p99") == {
        ("median", "worker", "x", "on-CPU", "main (a.py)", "fast (a.py)"): MS,
        ("tail", "worker", "x", "on-CPU", "main (a.py)", "late (a.py)"): 10 * MS,
        ("tail", "worker", "x", "blocked: lock"): 10 * MS,
        ("tail", "worker", "x", "blocked: lock", "main (a.py)", "slow (a.py)"): 80 * MS,
    }
    err = run("flamegraph", path, "--span", "x", "--tail", "p99")[2]
    assert "note: 12 samples on CPU in the tail: rough; 60 samples in the median: rough\n" in err


def test_spans_with_their_code(run: Run, stacks: Stacks, tmp_path: Path) -> None:
    """Each bucket's samples fill what of it was on a CPU: one in `late` stands for less than one in `fast`."""
    path = write(tmp_path / "x.tk", slow_and_fast())

    on_cpu = {
        ("worker", "x", "on-CPU", "main (a.py)", "fast (a.py)"): 960 * MS,
        ("worker", "x", "on-CPU", "main (a.py)", "late (a.py)"): 400 * MS,
    }
    blocked = {
        ("worker", "x", "blocked: lock"): 400 * MS,
        ("worker", "x", "blocked: lock", "main (a.py)", "slow (a.py)"): 3200 * MS,
    }
    assert stacks(path, "--span", "x") == on_cpu | blocked
    assert stacks(path, "--span", "x", "--on-cpu") == on_cpu
    assert stacks(path, "--span", "x", "--off-cpu") == blocked
    assert set(stacks(path, "--span", "x", "--off-cpu", "--tail", "p99")) == {("tail", *stack) for stack in blocked}
    assert run("flamegraph", path, "--span", "x")[2] == "note: 72 samples on CPU: rough\n"


def test_code_of_spans_with_other_labels_is_not_theirs(stacks: Stacks, tmp_path: Path) -> None:
    """The labels of a span are its identity: samples of another kind, or role, say nothing of it."""
    content = slow_and_fast()
    content.samples = [(m, labels | {"lane": "2"}, *rest) for m, labels, *rest in content.samples]
    path = write(tmp_path / "x.tk", content)

    assert {len(stack) for stack in stacks(path, "--span", "x")} == {3}


def test_a_recording_without_code_says_so(run: Run, tmp_path: Path) -> None:
    """It gives what it can, and how to have more next time."""
    path = write(tmp_path / "x.tk", replace(CONTENT, samples=[]))

    code, out, err = run("flamegraph", path)

    assert (code, len(out.splitlines())) == (0, 4)
    assert err == "note: no stacks of code in it: attach and run record them unless there is --no-stacks\n"


def test_a_picture_of_code_in_spans(run: Run, tmp_path: Path) -> None:
    """The shares of the legend are of components, and code has its colours."""
    path = write(tmp_path / "x.tk", slow_and_fast())

    _, out, _ = run("flamegraph", path, "--span", "x", "--format", "svg")

    words = [text.text or "" for text in ET.fromstring(out).iter(f"{SVG}text")]
    assert words[4:9] == ["on-CPU 27.4 %", "blocked 72.6 %:", "lock 72.6 %", "Python", "role, span, call"]


def test_names_that_would_be_something_else(run: Run, tmp_path: Path) -> None:
    """Frames are chosen by the program: each stays one frame, on one line, escaped in a picture."""
    samples = [("stack.oncpu", WORKER, 0, (HOSTILE, "\0\ud800"), 20, 2)]
    path = write(tmp_path / "y.tk", replace(CONTENT, samples=samples))

    _, out, _ = run("flamegraph", path, "--on-cpu", "--role", "worker")
    _, drawn, _ = run("flamegraph", path, "--on-cpu", "--format", "svg")

    assert out == "worker;main;e:v\\x1b[31mil\\u202e <script>\\x0a (x.py);\\x00\\ud800 100\n"
    assert len(ET.fromstring(drawn).findall(f"{SVG}script")) == 1
    assert "\x1b" not in drawn


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["x.tk", "--on-cpu", "--off-cpu"], 2, "cannot use --on-cpu with --off-cpu: they are two pictures"),
        (["x.tk", "--errors", "--wall"], 2, "cannot use --errors with --wall"),
        (["x.tk", "--db", "--on-cpu"], 2, "cannot use --on-cpu with --db: calls of databases have no code"),
        (["x.tk", "--db", "--native"], 2, "cannot use --native with --db"),
        (["db.tk", "--span", "db.query", "--lines"], 2, "cannot use --lines with --db"),
        (["x.tk", "--errors", "--span", "x", "--tail", "p99"], 2, "cannot use --errors with --tail"),
        (["x.tk", "--errors"], 3, "cannot show failed system calls: none was recorded"),
        (["run.tk", "--errors", "--span", "agent.spawn"], 3, "none was recorded with span=agent.spawn"),
        (["x.tk", "--off-cpu", "--role", "idle"], 3, "cannot show time blocked of its threads: there was none"),
        (["x.tk", "--off-cpu", "--role", "x"], 2, "no stack begins with it\n  try: one of: "),
        (["run.tk", "--errors", "--role", "supervisor"], 3, "none was recorded with role=supervisor"),
        (["bare.tk", "--on-cpu"], 3, "no wall time was recorded"),
        (["text", "--on-cpu"], 2, "cannot use --on-cpu: text holds folded stacks, which are shown as they are"),
        (["text", "--native"], 2, "cannot use --native: text holds folded stacks"),
        (["text", "--lines"], 2, "cannot use --lines: text holds folded stacks"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, error: str
) -> None:
    """Every wrong input has its own words and exit code, and no traceback."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "x.tk", CONTENT)
    write_sample(tmp_path / "run.tk")
    write_sample(tmp_path / "bare.tk", intervals=0)
    sample_db.write(tmp_path / "db.tk")
    (tmp_path / "text").write_text("a;b 1\n")

    found, _, err = run("flamegraph", *words)

    assert found == code
    assert error in err
    assert "Traceback" not in err
