"""Folded stacks of other tools are read as they are; ours can be read by other tools."""

from __future__ import annotations

import json
from io import BytesIO

import pytest

from tracekit.export import folded
from tracekit.stacks import starting


def read(data):
    return folded.read(BytesIO(data))


@pytest.mark.parametrize(
    ("line", "stack", "weight"),
    [
        ("main;work;read 12", ("main", "work", "read"), 12),
        ("swapper/0;do_idle_[k];native safe halt_[k] 3", ("swapper/0", "do_idle_[k]", "native safe halt_[k]"), 3),
        ('process 7:"python app.py";main (app.py:3) 41', ('process 7:"python app.py"', "main (app.py:3)"), 41),
        ("a;b 2.5", ("a", "b"), 2.5),
        ("a;b 1e+06", ("a", "b"), 1_000_000),
        ("a;b\t4", ("a", "b"), 4),
        ("a;b 4 \r", ("a", "b"), 4),
        ("operator new 9 12", ("operator new 9",), 12),
        ("a;;b 1", ("a", "", "b"), 1),
        ("a;b 0", ("a", "b"), 0),
    ],
)
def test_a_line_of_another_tool(line, stack, weight):
    """perf's stackcollapse, py-spy raw, awk's exponents, tabs, CRLF, names with spaces and numbers."""
    found = read(line.encode())

    assert found == folded.Folded({stack: weight}, [])


@pytest.mark.parametrize(
    "line",
    ["no weight", "12", ";", "a;b -3", "a;b nan", "a;b inf", "a;b 1e999", "a;b 0x10", "a;b ٣", "a;b ²", "a 1,5"],
)
def test_what_is_no_stack_is_named_with_its_line(line):
    """Nothing is skipped silently, and no weight is made up."""
    found = read(f"\na;b 1\n{line}\n".encode())

    assert found.weights == {("a", "b"): 1}
    assert found.malformed == [(3, line)]


def test_equal_stacks_are_added():
    """Some tools write a stack once for each CPU."""
    assert read(b"a;b 1\na;c 5\na;b 2\n").weights == {("a", "b"): 3, ("a", "c"): 5}


def test_bytes_that_are_not_text_stay_visible():
    """A name in Latin-1 is neither an error nor lost."""
    assert read(b"\xef\xbb\xbfa;caf\xe9 1").weights == {("a", "caf\\xe9"): 1}


@pytest.mark.parametrize(
    ("stack", "line"),
    [
        (("a;b", "c"), "a:b;c 7\n"),
        (("a\nb", "\x1b[2J"), "a\\x0ab;\\x1b[2J 7\n"),
        (("a", "CPU 12"), "a;CPU_12 7\n"),
        (("a", "CPU 1.5"), "a;CPU_1.5 7\n"),
        (("a 12", "b"), "a 12;b 7\n"),
        (("a", "12"), "a;12 7\n"),
        (("a", " b ", ""), "a;b;- 7\n"),
        ((), "- 7\n"),
        (("\udcff", "\u202ex"), "\\udcff;\\u202ex 7\n"),
    ],
)
def test_hostile_names_keep_to_their_line(stack, line):
    """A process can be called anything. A second number would be a second weight to flamegraph.pl."""
    assert folded.write({stack: 7}) == line


def test_lines_are_in_order_and_have_a_weight():
    """Two files of one program can be compared line by line."""
    weights = {("b",): 1, ("a", "z"): 2, ("a",): 3, ("a b",): 4, ("a", "nothing"): 0}

    assert folded.write(weights) == "a 3\na;z 2\na b 4\nb 1\n"


def test_json_keeps_the_names():
    """A program gets what was recorded, not what a line can hold."""
    found = folded.Folded({("a;b", "c\n"): 5, ("a",): 2}, [(3, "what")])

    document = json.loads(folded.as_json(found, "ns"))

    assert document == {
        "unit": "ns",
        "total": 7,
        "stacks": [{"frames": ["a"], "weight": 2}, {"frames": ["a;b", "c\n"], "weight": 5}],
        "malformed": [{"line": 3, "text": "what"}],
    }


def test_starting_compares_whole_frames():
    """`work` is not `worker`."""
    weights = {("work", "a"): 1, ("worker", "a"): 2, ("work",): 3, ("a", "work"): 4}

    assert starting(weights, ("work",)) == {("work", "a"): 1, ("work",): 3}
    assert starting(weights, ()) == weights


def test_lines_that_repeat_are_added_up_in_any_batch(monkeypatch):
    """Single samples, one a line, as many as there are; malformed ones keep their number each time."""
    monkeypatch.setattr(folded, "_BATCH_BYTES", 16)

    found = read(b"a;b 2\nwhat\n\n" * 1000 + b"a;b 1")

    assert found.weights == {("a", "b"): 2001}
    assert found.malformed == [(number, "what") for number in range(2, 3000, 3)]


def test_what_was_read_before_counts():
    """A reader that looked at the first bytes gives them back, wherever in a line they end."""
    data = b"\xef\xbb\xbfa;b 1\n\nc 2\nwhat\n"

    found = [folded.read(BytesIO(data[cut:]), data[:cut]) for cut in range(len(data))]

    assert found == [folded.Folded({("a", "b"): 1, ("c",): 2}, [(4, "what")])] * len(data)


def test_no_text_is_an_error():
    """NUL is in no name and no number."""
    with pytest.raises(ValueError, match="NUL"):
        read(b"a 1\n\0\n")
