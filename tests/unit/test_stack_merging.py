"""Python frames stand where the interpreter ran them, and none is lost where that cannot be told."""

from __future__ import annotations

import pytest

from tracekit.capture.stacks.merging import CUT, STARTING, UNREADABLE, merge

LIBRARY = "libpython3.12.so.1.0"
EVAL = f"_PyEval_EvalFrameDefault ({LIBRARY})"
COLD = f"_PyEval_EvalFrameDefault.cold ({LIBRARY})"
CALL = f"_PyObject_Call ({LIBRARY})"
MAIN = f"pymain_run_python ({LIBRARY})"
START = "_start (python3.12)"
READ = "read (libc.so.6)"
SORT = "qsort (libc.so.6)"


def test_kernel_is_innermost():
    """Root first: what started the process, Python, what Python called, the kernel."""
    merged = merge(["g (a.py:2)", "f (a.py:1)", None], [READ, EVAL, MAIN, START], ["vfs_read_[k]", "do_syscall_64_[k]"])

    assert merged == (
        *(START, MAIN, EVAL),
        *("f (a.py:1)", "g (a.py:2)"),
        *(READ, "do_syscall_64_[k]", "vfs_read_[k]"),
    )


def test_each_activation_runs_its_own_frames():
    """Python calls C, which calls Python: `sorted(key=...)`."""
    merged = merge(["key (a.py:9)", None, "g (a.py:2)", "f (a.py:1)", None], [EVAL, SORT, CALL, EVAL, MAIN], [])

    assert merged == (MAIN, EVAL, "f (a.py:1)", "g (a.py:2)", CALL, SORT, EVAL, "key (a.py:9)")


def test_one_activation_a_frame():
    """As 3.8 to 3.10 have it; equal frames of a recursion stay."""
    merged = merge(["f (a.py:1)", None, "f (a.py:1)", None], [EVAL, CALL, EVAL, MAIN], [])

    assert merged == (MAIN, EVAL, "f (a.py:1)", CALL, EVAL, "f (a.py:1)")


def test_what_only_leads_to_an_activation_is_none():
    """3.8 has PyEval_EvalFrameEx before it."""
    first = f"PyEval_EvalFrameEx ({LIBRARY})"

    assert merge(["f (a.py:1)", None], [EVAL, first, MAIN], []) == (MAIN, first, EVAL, "f (a.py:1)")


def test_cold_half_of_an_activation():
    """GCC moves what runs seldom to a function of its own, which the first one jumps to."""
    assert merge(["f (a.py:1)", None], [READ, COLD, MAIN], []) == (MAIN, COLD, "f (a.py:1)", READ)


def test_tail_calls():
    """3.14 can be built so that an activation consists of two native frames."""
    half = f"_TAIL_CALL_CALL_FUNCTION_EX.llvm.17 ({LIBRARY})"

    merged = merge(["g (a.py:2)", None, "f (a.py:1)", None], [half, EVAL, CALL, half, EVAL, MAIN], [])

    assert merged == (MAIN, EVAL, "f (a.py:1)", half, CALL, EVAL, "g (a.py:2)", half)


def test_function_that_is_being_entered():
    """The innermost activation has no frame yet: those outside keep theirs."""
    merged = merge(["f (a.py:1)", None], [EVAL, CALL, EVAL, MAIN], [])

    assert merged == (MAIN, EVAL, "f (a.py:1)", CALL, EVAL)


def test_activation_without_a_frame_in_the_middle():
    """From 3.12 an activation that has just left its last frame says so itself."""
    merged = merge([None, "f (a.py:1)", None], [EVAL, CALL, EVAL, MAIN], [])

    assert merged == (MAIN, EVAL, "f (a.py:1)", CALL, EVAL)


def test_activations_of_another_interpreter():
    """Those of a sub-interpreter's caller are outside of all that its thread state knows."""
    merged = merge(["f (a.py:1)", None], [EVAL, CALL, EVAL, CALL, EVAL, MAIN], [])

    assert merged == (MAIN, EVAL, CALL, EVAL, CALL, EVAL, "f (a.py:1)")


def test_native_walk_that_was_cut():
    """The outer Python frames are known although their activations are not."""
    merged = merge(["h (a.py:3)", None, "g (a.py:2)", None, "f (a.py:1)", None], [READ, EVAL], [], native_whole=False)

    assert merged == ("f (a.py:1)", "g (a.py:2)", EVAL, "h (a.py:3)", READ)


def test_native_walk_that_was_cut_below_python():
    """A C library that recurses: Python called it."""
    merged = merge(["f (a.py:1)", None], [SORT, SORT], ["page_fault_[k]"], native_whole=False)

    assert merged == ("f (a.py:1)", SORT, SORT, "page_fault_[k]")


def test_native_walk_that_was_cut_without_python():
    """A thread of a library: its outer frames are not known, and that is said."""
    assert merge([], [READ, SORT], [], native_whole=False) == (CUT, SORT, READ)


def test_python_walk_that_was_cut():
    """Frames are counted from the inside; the mark stands where the outer ones would."""
    merged = merge(["g (a.py:2)", None, "f (a.py:1)", CUT], [EVAL, CALL, EVAL, CALL, EVAL, MAIN], [])

    assert merged == (MAIN, EVAL, CALL, EVAL, CUT, "f (a.py:1)", CALL, EVAL, "g (a.py:2)")


def test_both_walks_that_were_cut():
    """One mark, outside of all."""
    merged = merge(["g (a.py:2)", None, "f (a.py:1)", CUT], [EVAL, CALL], [], native_whole=False)

    assert merged == (CUT, "f (a.py:1)", CALL, EVAL, "g (a.py:2)")


@pytest.mark.parametrize("mark", [STARTING, UNREADABLE])
def test_marks_stand_where_python_is(mark):
    """A thread before its first frame, and memory that cannot be read."""
    assert merge([mark], [READ, CALL, MAIN, START], []) == (START, mark, MAIN, CALL, READ)


def test_python_only():
    """No layout of the process is known to the native walk."""
    assert merge(["g (a.py:2)", "f (a.py:1)", None], [], ["futex_[k]"]) == ("f (a.py:1)", "g (a.py:2)", "futex_[k]")


def test_native_only():
    """A program that is not Python."""
    assert merge([], [READ, "main (app)"], ["vfs_read_[k]"]) == ("main (app)", READ, "vfs_read_[k]")


def test_nothing():
    """A process that could not be walked at all."""
    assert merge([], [], []) == ()
    assert merge([], [], [], native_whole=False) == ()


def test_interpreter_without_names():
    """A stripped build: all Python frames, in order, where the interpreter is entered."""
    unknown = "+0x1f2e3 (python3.11)"

    merged = merge(["key (a.py:9)", None, "f (a.py:1)", None], [unknown, SORT, unknown, "+0x23 (libc.so.6)"], [])

    assert merged == ("+0x23 (libc.so.6)", unknown, "f (a.py:1)", "key (a.py:9)", SORT, unknown)


def test_innermost_activation_without_a_name():
    """A stripped build that exports the function, but has no name for its cold half."""
    unknown = "+0x1f2e3 (python3.11)"

    merged = merge(["g (a.py:2)", None, "f (a.py:1)", None], [unknown, CALL, EVAL, MAIN], [])

    assert merged == (MAIN, EVAL, "f (a.py:1)", "g (a.py:2)", CALL, unknown)


@pytest.mark.parametrize(
    "frame",
    [
        "_PyEval_EvalFrameDefault (libevil.so)",
        "my_PyEval_EvalFrameDefault (libpython3.12.so.1.0)",
        "_PyEval_EvalFrameDefault (libpython3.12.so.1.0) (app)",
    ],
)
def test_names_that_only_look_like_the_interpreter(frame):
    """A program may call its functions and files what it likes."""
    merged = merge(["f (a.py:1)", None], [frame, EVAL, MAIN], [])

    assert merged == (MAIN, EVAL, "f (a.py:1)", frame)
