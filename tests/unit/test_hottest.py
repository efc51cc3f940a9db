"""The hottest code of spans and of their tail: shares of what the spans took, and on how few samples they rest."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.unit.recordings import Content, write
from tests.unit.test_profiles import CONTENT, EVAL, MS, SPAN, slow_and_fast

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import Run


def frames(code: dict[str, object]) -> dict[tuple[str, str], tuple[float, float]]:
    """Return the shares by component and frame, as in a document."""
    return {(hot["component"], hot["frame"]): (hot["own"], hot["through"]) for hot in code["frames"]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "x.tk", slow_and_fast())


def test_the_hottest_frames_of_spans_and_of_the_slow_ones(run: Run, path: Path) -> None:
    """Shares of all their time: 960 + 400 of 4960 ms on a CPU, 3200 waiting; 80 and 10 of the 100 ms of a slow one."""
    document = json.loads(run("report", path, "--span", "x", "--json")[1])

    assert frames(document["code"]) == {
        ("lock", "slow (a.py)"): pytest.approx((3200 / 4960,) * 2),
        ("on-CPU", "fast (a.py)"): pytest.approx((960 / 4960,) * 2),
        ("on-CPU", "late (a.py)"): pytest.approx((400 / 4960,) * 2),
    }
    assert frames(document["tail_code"]) == {
        ("lock", "slow (a.py)"): pytest.approx((0.8, 0.8)),
        ("on-CPU", "late (a.py)"): pytest.approx((0.1, 0.1)),
    }
    assert (document["code"]["samples"], document["tail_code"]["samples"]) == (72, 12)
    assert json.loads(run("report", path, "--json")[1])["spans"][0]["tail_code"] == document["tail_code"]


def test_each_span_has_a_line_of_code_and_its_tail_another(run: Run, path: Path) -> None:
    """In the report itself, the largest two."""
    lines = run("report", path)[1].splitlines()

    assert "    time in slow (a.py) lock 65 %, fast (a.py) on-CPU 19 %" in lines
    assert "    slow ones in slow (a.py) lock 80 %, late (a.py) on-CPU 10 %" in lines


def test_a_span_of_its_own_has_a_table_of_code(run: Run, path: Path) -> None:
    """What is hot in the one or the other, and how few samples that rests on."""
    out = run("report", path, "--span", "x")[1]

    assert (
        "                        all  tail\n"
        "  slow (a.py)  lock    65 %  80 %\n"
        "  fast (a.py)  on-CPU  19 %   0 %\n"
        "  late (a.py)  on-CPU   8 %  10 %\n"
        "  rough, samples on CPU: 72 of all, 12 of the tail\n"
    ) in out


def test_time_belongs_to_the_innermost_python_frame(run: Run, tmp_path: Path) -> None:
    """Whatever it called, and its callers have it as theirs; without Python it is the innermost of all."""
    cpu = SPAN | {"state": "on-CPU"}
    content = slow_and_fast()
    bucket = content.samples[0][2]
    content.samples = [
        ("stack.span", cpu, bucket, ("main (a.py:1)", EVAL, "f (a.py:2)", "dot (libx.so)", "irq_[k]"), 30, 3),
        ("stack.span", cpu, bucket, ("main (a.py:1)", EVAL, "f (a.py:9)"), 30, 3),
        ("stack.span", cpu, bucket, ("main (a.py:4)",), 20, 2),
        ("stack.span", cpu, bucket, ("start (libc.so.6)", "spin (libx.so)"), 16, 2),
    ]
    path = write(tmp_path / "y.tk", content)

    code = json.loads(run("report", path, "--span", "x", "--json")[1])["code"]

    of_all = 1 / 4960
    assert frames(code) == {
        ("on-CPU", "f (a.py)"): pytest.approx((600 * of_all, 600 * of_all)),
        ("on-CPU", "main (a.py)"): pytest.approx((200 * of_all, 800 * of_all)),
        ("on-CPU", "spin (libx.so)"): pytest.approx((160 * of_all, 160 * of_all)),
    }


def test_no_code_no_words(run: Run, tmp_path: Path) -> None:
    """Recorded without stacks: no line, no table, null."""
    path = write(tmp_path / "y.tk", replace(slow_and_fast(), samples=[]))

    document = json.loads(run("report", path, "--span", "x", "--json")[1])

    assert (document["code"], document["tail_code"]) == (None, None)
    assert "    time in" not in run("report", path)[1]
    assert "Where in the code" not in run("report", path, "--span", "x")[1]


def test_spans_that_the_kernel_saw_nothing_of(run: Run, tmp_path: Path) -> None:
    """Samples without sums, which no collector writes: no share of anything."""
    path = write(tmp_path / "y.tk", replace(slow_and_fast(), parts=[]))

    code, out, _ = run("report", path, "--span", "x", "--json")

    assert (code, json.loads(out)["code"]) == (0, None)


def test_only_of_what_was_chosen(run: Run, tmp_path: Path) -> None:
    """Another label, or another role, is another span's code."""
    content = slow_and_fast()
    other = SPAN | {"role": "b", "lane": "2"}
    content.histograms.append(("span.latency", other, [MS] * 10))
    content.parts.append((other, replace(content.parts[0][1], latency_ns=10 * MS)))
    content.samples.append(
        ("stack.span", other | {"state": "on-CPU"}, content.samples[0][2], ("theirs (b.py:1)",), 5, 1)
    )
    path = write(tmp_path / "y.tk", content)

    for words in (("--role", "b"), ("--span", "x", "--where", "lane=2")):
        document = json.loads(run("report", path, *words, "--json")[1])
        code = document["code"] if "code" in document else document["spans"][0]["code"]
        assert frames(code) == {("on-CPU", "theirs (b.py)"): (1, 1)}


def test_names_of_frames_are_safe(run: Run, tmp_path: Path) -> None:
    """They come from the program: one line, no codes."""
    content: Content = slow_and_fast()
    content.samples[0] = (*content.samples[0][:3], ("e\x1b[31mvil\n" + "x" * 99 + " (a.py:2)",), 7, 1)

    for words in ((), ("--span", "x")):
        out = run("report", write(tmp_path / f"{len(words)}.tk", content), *words)[1]
        assert "e\\x1b[31mvil\\x0axxx" in out
        assert max(map(len, out.splitlines())) <= 80


def test_without_spans_each_role_has_a_line_of_code(run: Run, tmp_path: Path) -> None:
    """Shares of the time of its threads: 100 of 160 ns on a CPU, 30 waiting; with spans theirs say it."""
    out = run("report", write(tmp_path / "y.tk", CONTENT))[1]

    assert "  worker: f (a.py) on-CPU 64 %, main (a.py) disk 19 %" in out.splitlines()
    assert "  tracekit flamegraph draws it" in out.splitlines()
    assert "Code by role" not in run("report", write(tmp_path / "x.tk", slow_and_fast()))[1]


def test_threads_that_never_ran_are_left_out(run: Run, tmp_path: Path) -> None:
    """A library's helper that sleeps all the time takes nothing from the shares of those that ran."""
    idle = {("worker", "pool", "blocked", "lock", "futex"): 10_000}
    content = replace(CONTENT, stacks=CONTENT.stacks | idle)

    out = run("report", write(tmp_path / "y.tk", content))[1]

    assert "  worker: f (a.py) on-CPU 64 %, main (a.py) disk 19 %" in out.splitlines()
