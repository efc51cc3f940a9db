"""Layout of a flame graph: kinds of frames, and boxes too narrow to draw."""

from __future__ import annotations

import pytest

from tracekit.analysis.flame import Look, Part, layout, look_of, shape_of
from tracekit.errors import EmptyHistogramError

WALL = {
    ("worker", "main", "on-CPU"): 50,
    ("worker", "main", "run queue"): 10,
    ("worker", "main", "blocked", "disk", "fsync"): 30,
    ("worker", "bg", "blocked", "lock", "futex"): 10,
}


def drawn(flame):
    """Return (name, depth, start, share) of each box, in hundredths."""
    return [(box.name, box.depth, round(100 * box.start), round(100 * box.share)) for box in flame.boxes]


def test_boxes_of_a_small_graph():
    """Callers carry their callees, in order of names; what is a caller's own stays free at its right."""
    flame = layout({("a", "b"): 20, ("a", "c", "d"): 30, ("a",): 10, ("z",): 40})

    assert drawn(flame) == [("all", 0, 0, 100), ("a", 1, 0, 60), ("b", 2, 0, 20), ("c", 2, 20, 30), ("d", 3, 20, 30),
                            ("z", 1, 60, 40)]  # fmt: skip
    assert [box.of_parent for box in flame.boxes] == pytest.approx([1, 0.6, 1 / 3, 0.5, 1, 0.4])
    assert (flame.total, flame.stacks, flame.merged) == (100, 4, 0)


def test_narrow_boxes_are_merged_beside_the_wide_ones():
    """Their sum stays visible as one box, and each of them is counted."""
    flame = layout({("a", "b"): 90, ("a", "c", "x"): 3, ("a", "d"): 3, ("a", "0"): 4}, min_share=0.05)

    assert drawn(flame) == [("all", 0, 0, 100), ("a", 1, 0, 100), ("b", 2, 0, 90), ("", 2, 90, 10)]
    assert flame.boxes[-1].look == Look("merged")
    assert (flame.boxes[-1].merged, flame.boxes[-1].weight, flame.merged) == (4, 10, 4)


def test_what_is_too_narrow_even_merged_is_counted():
    """A box of nothing to see is not drawn, but the number of frames says it was there."""
    flame = layout({("a",): 99, ("b", "c"): 1}, min_share=0.05)

    assert drawn(flame) == [("all", 0, 0, 100), ("a", 1, 0, 99)]
    assert flame.merged == 2


def test_too_many_boxes():
    """The widest are drawn, the others merged, however wide they would be."""
    flame = layout({("a",): 4, ("b",): 3, ("c",): 2, ("d",): 2}, min_share=0, max_boxes=2)

    assert [box.name for box in flame.boxes] == ["all", "a", "b", ""]
    assert (flame.merged, flame.boxes[-1].weight) == (2, 4)


@pytest.mark.parametrize("weights", [{}, {("a",): 0}, {("a", "b"): 0.0}])
def test_nothing_is_not_drawn(weights):
    """A picture of no weight would look like a program that did nothing."""
    with pytest.raises(EmptyHistogramError, match="no stack has a weight"):
        layout(weights)


def test_what_wall_time_ended_in():
    """The legend adds up to the whole: each state and each reason of blocking, the roles without a share."""
    assert layout(WALL).parts == [
        Part(Look("on-CPU"), 0.5),
        Part(Look("run queue"), 0.1),
        Part(Look("blocked", "disk"), 0.3),
        Part(Look("blocked", "lock"), 0.1),
        Part(Look("who"), None),
    ]


def test_code_under_a_state_keeps_its_kind():
    """Stacks of code on top of a state are told by their frames, and the state keeps its share."""
    stack = ("worker", "main", "blocked", "disk", "fsync", "save (db.py:3)", "vfs_fsync_[k]")

    flame = layout({stack: 5})

    kinds = [box.look.kind for box in flame.boxes]
    assert kinds == ["all", "who", "who", "blocked", "blocked", "blocked", "python", "kernel"]
    assert flame.parts[0] == Part(Look("blocked", "disk"), 1)


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        ("handle (app/server.py:42)", "python"),
        ("py::handle:/srv/app/server.py", "python"),
        ("_find_and_load (<frozen importlib._bootstrap>:1007)", "python"),
        ("fast_path (core.pyx:9)", "python"),
        ("vfs_read_[k]", "kernel"),
        ("PyEval_EvalFrameDefault", "native"),
        ("std::vector<int>::push_back", "native"),
        ("happy.pyramid", "native"),
        ("blocked", "native"),
    ],
)
def test_kind_of_code(frame, kind):
    """Suffix `_[k]` is the kernel, a Python file name is Python, the rest is other code."""
    assert look_of(("main", frame), "code") == Look(kind)


def test_what_stacks_are_is_told_by_all_of_them():
    """One stack without a state, and the words on-CPU and blocked are just names of functions."""
    assert shape_of(WALL) == "threads"
    assert shape_of({**WALL, ("main", "read"): 1}) == "code"
    assert shape_of({**WALL, ("a", "b", "c"): 1}) == "code"


SPANS = {
    ("worker", "evaluation", "on-CPU"): 5,
    ("worker", "evaluation", "blocked: disk"): 2,
    ("worker", "evaluation", "db", "redis 127.0.0.1:6379", "GET"): 1,
    ("worker", "evaluation", "db", "-"): 2,
}
CALLS = {("worker", "db.query", "redis 127.0.0.1:6379", "GET", "server"): 3, ("w", "db.query", "x", "-", "client"): 1}


def test_stacks_of_spans_have_their_own_looks():
    """A component has its colour, what was asked of a database that of the database."""
    flame = layout(SPANS)

    assert (flame.shape, layout(CALLS).shape) == ("spans", "spans")
    assert flame.parts == [
        Part(Look("on-CPU"), 0.5),
        Part(Look("db"), 0.3),
        Part(Look("blocked", "disk"), 0.2),
        Part(Look("what"), None),
    ]
    assert [part.look.kind for part in layout(CALLS).parts] == ["client", "server", "what"]


def test_code_below_a_component():
    """It has its own colours, and the legend the component's share."""
    flame = layout({("worker", "evaluation", "blocked: lock", "take (a.py)", "futex_[k]"): 3, **SPANS})

    assert flame.shape == "spans"
    kinds = {box.name: box.look.kind for box in flame.boxes}
    assert (kinds["take (a.py)"], kinds["futex_[k]"], kinds["GET"]) == ("python", "kernel", "db")
    assert Part(Look("blocked", "lock"), 3 / 13) in flame.parts
    assert Part(Look("python"), None) in flame.parts


@pytest.mark.parametrize(
    ("shape", "stack", "kinds"),
    [
        ("cpu", ("w", "t", "f (a.py)", "g"), ["who", "who", "python", "native"]),
        ("waits", ("w", "t", "disk", "fsync", "f (a.py)"), ["who", "who", "blocked", "blocked", "python"]),
        ("failures", ("w", "openat", "ENOENT", "f (a.py)"), ["what", "what", "what", "python"]),
    ],
)
def test_what_comes_before_code_is_none(shape, stack, kinds):
    """Where it is known what the stacks are: roles, threads, reasons and calls are no functions."""
    assert [look_of(stack[: depth + 1], shape).kind for depth in range(len(stack))] == kinds


def test_what_a_part_of_the_time_ended_in():
    """Waits by reason, whatever code they have; time on a CPU by code, and that of no known code by its thread."""
    waits = layout({("w", "t", "disk", "fsync", "f (a.py)"): 3, ("w", "t", "lock", "futex"): 1}, shape="waits")
    cpu = layout({("w", "t", "f (a.py)"): 3, ("w", "t"): 1}, shape="cpu")

    assert waits.parts[:2] == [Part(Look("blocked", "disk"), 0.75), Part(Look("blocked", "lock"), 0.25)]
    assert cpu.parts == [Part(Look("python"), 0.75), Part(Look("who"), 0.25)]


def test_bands_are_not_added():
    """Means of two bands have no sum, so nothing is a share of it."""
    flame = layout({(root, *stack): ns for root in ("tail", "median") for stack, ns in SPANS.items()})

    assert flame.shape == "bands"
    assert {part.share for part in flame.parts} == {None}


@pytest.mark.parametrize("stack", [("main", "run", "client"), ("main", "run", "awaiting", "f"), ("tail", "db"), ()])
def test_words_of_components_are_names_of_functions_elsewhere(stack):
    """A program that has a function `client` was not recorded by tracekit."""
    assert shape_of({stack: 1}) == "code"
