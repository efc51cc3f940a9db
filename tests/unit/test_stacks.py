"""Folded-stack algebra: what is left out when stacks are shown, and integers that add up."""

from __future__ import annotations

import pytest

from tracekit.stacks import innermost, scaled, without_interpreter, without_lines


@pytest.mark.parametrize(
    "frame",
    [
        "_PyEval_EvalFrameDefault (libpython3.11.so.1.0)",
        "+0x1f2e3 (python3.12)",
        "main (python3)",
        "PyObject_Call (libpython3.13t.so.1.0)",
    ],
)
def test_frames_of_the_interpreter_are_left_out(frame: str) -> None:
    """Native code of a CPython, whatever it is called."""
    assert without_interpreter(("a", frame, "run (app.py:3)")) == ("a", "run (app.py:3)")


@pytest.mark.parametrize(
    "frame",
    [
        "run (python3.py:12)",
        "run (python3_tools/x.py:12)",
        "read (libc.so.6)",
        "python3 (app)",
        "f (libpython2.7.so)",
        "encode (_json.cpython-311-x86_64-linux-gnu.so)",
        "vfs_read_[k]",
        "call_in_span (auto/functions.py:63)",
        "call_in_span (mytracekit/auto/functions.py:63)",
        "traced (tracekit/auto/_c.so)",
        "worker",
        "",
    ],
)
def test_other_frames_stay(frame: str) -> None:
    """Python's own, other libraries, the kernel, and names that only look like it."""
    assert without_interpreter((frame,)) == (frame,)


@pytest.mark.parametrize("folder", ["/opt/x/tracekit/auto", "tracekit/auto", "/a b/tracekit/probe"])
def test_our_own_frames_around_spans_are_left_out(folder: str) -> None:
    """Time in a function that has a span is its own, or its caller's if it is no Python code; not the wrapper's."""
    around = f"_called_in_span.<locals>.call_in_span ({folder}/functions.py:63)"

    assert without_interpreter(("item (shop.py:27)", around, "+0x1 (_sqlite3.so)")) == (
        "item (shop.py:27)",
        "+0x1 (_sqlite3.so)",
    )


def test_lines_of_a_function_are_one_frame() -> None:
    """The line at the end goes; a colon elsewhere, and code that is not Python, stay."""
    stack = ("run (a:b.py:31)", "f (<frozen importlib._bootstrap>:7)", "std::f(int) (libx.so)", "vfs_read_[k]", "x:3")

    assert without_lines(stack) == (
        "run (a:b.py)",
        "f (<frozen importlib._bootstrap>)",
        "std::f(int) (libx.so)",
        "vfs_read_[k]",
        "x:3",
    )


@pytest.mark.parametrize(
    ("stack", "frame"),
    [
        (("run (a.py:3)", "read (libc.so.6)", "vfs_read_[k]"), "run (a.py:3)"),
        (("main (redis-server)", "aeMain (redis-server)", "+0x64e50 (redis-server)"), "aeMain (redis-server)"),
        (("aeMain (redis-server)", "epoll_wait (libc.so.6)", "schedule_[k]"), "aeMain (redis-server)"),
        (("[deeper frames cut]", "epoll_wait (libc.so.6)", "schedule_[k]"), "epoll_wait (libc.so.6)"),
        (("+0x12 (app)", "read (libc.so.6)", "vfs_read_[k]"), "read (libc.so.6)"),
        (("do_syscall_64_[k]", "schedule_[k]"), "schedule_[k]"),
    ],
)
def test_the_frame_that_says_most(stack: tuple[str, ...], frame: str) -> None:
    """Python's, else that of the program: where it waits in the C library or the kernel is the same for all."""
    assert innermost(stack) == frame


def test_shares_of_a_total_are_whole_and_add_up() -> None:
    """The largest remainder is rounded up, of equal ones the first."""
    assert scaled({("a",): 1, ("b",): 1, ("c",): 1}, 100) == {("a",): 34, ("b",): 33, ("c",): 33}
    assert scaled({("a",): 1, ("b",): 5}, 10) == {("a",): 2, ("b",): 8}
    assert scaled({("a",): 0, ("b",): 5}, 7) == {("a",): 0, ("b",): 7}


def test_shares_of_nothing() -> None:
    """No weight has no proportion; a total of nothing is nothing of each."""
    assert scaled({}, 7) == {}
    assert scaled({("a",): 0}, 7) == {}
    assert scaled({("a",): 3}, 0) == {("a",): 0}


def test_how_a_thread_began_is_left_out_of_python():
    """Of a program without Python it stays: there it is all that tells whose the code is."""
    begin = ("_start (python3.11)", "__libc_start_main_impl (libc.so.6)", "start_thread (libc.so.6)")

    assert without_interpreter((*begin, "run (app.py:3)", "read (libc.so.6)")) == ("run (app.py:3)", "read (libc.so.6)")
    assert without_interpreter((*begin[1:], "main (app)")) == (*begin[1:], "main (app)")
    assert without_interpreter(("serve (app)", *begin[1:], "run (app.py:3)")) == (
        "serve (app)",
        *begin[1:],
        "run (app.py:3)",
    )
