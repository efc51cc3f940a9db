"""Python frames of other processes, held to what the processes say of themselves."""

from __future__ import annotations

import json
import os
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.pythons import PYTHONS, running, text_of
from tracekit.capture.stacks.code import UNREADABLE, Codes, shortened
from tracekit.capture.stacks.interpreter import Interpreter, find
from tracekit.capture.stacks.layout import PYTHON_ENTERED, PYTHON_NO_UNIT, PYTHON_UNIT_BITS
from tracekit.capture.stacks.memory import read
from tracekit.capture.stacks.threads import End, walk

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from types import CodeType

PROGRAM = Path(__file__).parent / "stacks_truth.py"


class Target:
    """A process of stacks_truth.py, and what it said."""

    def __init__(self, process: subprocess.Popen[str], said: str) -> None:
        found = json.loads(said)
        self.process, self.pid = process, process.pid
        self.truths: dict[int, list[Any]] = {int(thread): rows for thread, rows in found["truths"].items()}
        self.scenarios: dict[str, int] = found["scenarios"]
        interpreter = find(self.pid)
        assert interpreter
        self.interpreter: Interpreter = interpreter

    def words(self, scenario: str) -> list[int]:
        return walk(self.pid, self.interpreter).stacks[self.scenarios[scenario]].words

    def pointer(self, address: int) -> int:
        (content,) = read(self.pid, [(address, 8)])
        assert content
        return int.from_bytes(content, "little")

    def write(self, address: int, word: int) -> None:
        with Path(f"/proc/{self.pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(address)
            memory.write(struct.pack("<Q", word))

    def code(self, function: str) -> int:
        """Return the address of the code object that the innermost function of a scenario has."""
        return self.words(function)[0] >> PYTHON_UNIT_BITS << 4

    def first_thread(self) -> int:
        at = self.interpreter.offsets
        return self.pointer(self.pointer(self.interpreter.interpreters) + at.interpreter_threads)

    def top_frame(self) -> int:
        """Return the address of the top frame of the first thread in the list."""
        at = self.interpreter.offsets
        top = self.pointer(self.first_thread() + at.thread_frame)
        return self.pointer(top + at.cframe_frame) if self.interpreter.minor in (11, 12) else top


@pytest.fixture(scope="module", params=PYTHONS)
def sleeping(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Yield a process whose threads stay where they are: shared, so only read."""
    with running(request.param, PROGRAM, cwd="/") as (process, said):
        yield Target(process, said)


@pytest.fixture(params=PYTHONS)
def corrupt(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Yield a process whose memory may be spoiled."""
    with running(request.param, PROGRAM, cwd="/") as (process, said):
        yield Target(process, said)


def test_there_is_a_python():
    """Without one nothing here would be tested."""
    assert Path(PYTHONS[0]).exists(), "apt install python3"


def test_frames_are_what_the_process_says(sleeping: Target):
    """Function, file and line of every frame of every thread, however it was called."""
    walked = walk(sleeping.pid, sleeping.interpreter)
    names = Codes(sleeping.pid, sleeping.interpreter).names(word for s in walked.stacks.values() for word in s.words)

    assert walked.errors == 0
    for scenario, thread in sleeping.scenarios.items():
        stack = walked.stacks[thread]
        shown = [names[word] for word in stack.words if word != PYTHON_ENTERED and names[word]]
        assert shown == [text_of(row) for row in sleeping.truths[thread]], scenario
        assert stack.end == End.WHOLE


def test_marks_stand_where_c_called(sleeping: Target):
    """Native frames of the interpreter are put there: behind what one activation of it runs."""
    minor, words = sleeping.interpreter.minor, sleeping.words("sorted")
    recursion = sleeping.words("deep")

    assert words[-1] == recursion[-1] == PYTHON_ENTERED
    if minor < 11:
        assert set(recursion[1::2]) == {PYTHON_ENTERED}
    else:
        assert PYTHON_ENTERED not in recursion[:302]  # hold, and deep() 301 times
        assert words[2] == PYTHON_ENTERED  # hold and lambda, then sorted()


def test_deep_stacks_are_cut_on_the_side_of_the_root(sleeping: Target):
    """The innermost frames are the ones that count."""
    thread = sleeping.scenarios["deep"]

    whole = walk(sleeping.pid, sleeping.interpreter).stacks[thread]
    cut = walk(sleeping.pid, sleeping.interpreter, 128).stacks[thread]

    assert cut.end == End.CUT
    assert cut.words == whole.words[: len(cut.words)]
    assert len([word for word in cut.words if word != PYTHON_ENTERED]) == 128


def test_a_code_type_without_a_symbol_is_known_by_its_name(sleeping: Target):
    """Of an interpreter whose symbols were stripped."""
    words = sleeping.words("re")

    nameless = replace(sleeping.interpreter, code_type=0)

    assert Codes(sleeping.pid, nameless).names(words) == Codes(sleeping.pid, sleeping.interpreter).names(words)


def test_what_is_no_code_is_unreadable(sleeping: Target):
    """A list of addresses from the kernel may speak of memory that was freed by now."""
    heap = sleeping.pointer(sleeping.interpreter.interpreters)
    words = [address >> 4 << PYTHON_UNIT_BITS | 3 for address in (0, 0x1000, heap, heap + 64, (1 << 47) - 16)]

    assert set(Codes(sleeping.pid, sleeping.interpreter).names(words).values()) == {UNREADABLE}


def test_names_outlive_the_process():
    """A stack of its last second is drained after its end."""
    with running(PYTHONS[0], PROGRAM, cwd="/") as (process, said):
        target = Target(process, said)
        words, others = target.words("re"), target.words("names")
        codes = Codes(target.pid, target.interpreter)
        before = codes.names(words)
        process.kill()
        process.wait()

        after = codes.names([*words, *others])

        assert {word: after[word] for word in before} == before
        known = {word >> PYTHON_UNIT_BITS for word in words}
        assert {after[word] for word in others if word >> PYTHON_UNIT_BITS not in known} == {UNREADABLE}
        assert find(target.pid) is None
        with pytest.raises(ProcessLookupError):
            walk(target.pid, target.interpreter)


def test_frames_in_a_circle(corrupt: Target):
    """A thread whose frames lead back to themselves has no end."""
    corrupt.write(corrupt.top_frame() + corrupt.interpreter.offsets.frame_back, corrupt.top_frame())

    walked = walk(corrupt.pid, corrupt.interpreter)

    assert [stack.end for stack in walked.stacks.values()].count(End.UNREADABLE) == 1
    assert walked.errors == 0


def test_frames_that_lead_nowhere(corrupt: Target):
    """The frames before it stay; those of other threads are whole."""
    link = corrupt.top_frame() + corrupt.interpreter.offsets.frame_back
    for where in (0x10, (1 << 64) - 8, 1 << 46):
        corrupt.write(link, where)

        walked = walk(corrupt.pid, corrupt.interpreter)

        torn = [stack for stack in walked.stacks.values() if stack.end != End.WHOLE]
        assert [(stack.end, len(stack.words) > 0) for stack in torn] == [(End.UNREADABLE, True)]


def test_threads_in_a_circle(corrupt: Target):
    """Each thread is walked once, and the error is counted."""
    first, at = corrupt.first_thread(), corrupt.interpreter.offsets
    corrupt.write(corrupt.pointer(first + at.thread_next) + at.thread_next, first)

    walked = walk(corrupt.pid, corrupt.interpreter)

    assert (len(walked.stacks), walked.errors) == (2, 1)


def test_interpreters_in_a_circle(corrupt: Target):
    """As above."""
    head = corrupt.pointer(corrupt.interpreter.interpreters)
    corrupt.write(head + corrupt.interpreter.offsets.interpreter_next, head)

    walked = walk(corrupt.pid, corrupt.interpreter)

    assert (len(walked.stacks), walked.errors) == (len(corrupt.truths) + 1, 1)  # and the main thread


def test_texts_and_tables_of_any_size(corrupt: Target):
    """A name is cut; a table that cannot be read says no lines; a negative size is none."""
    at, code, words = corrupt.interpreter.offsets, corrupt.code("re"), corrupt.words("re")
    name, table = corrupt.pointer(code + at.code_name), corrupt.pointer(code + at.code_table)

    def named() -> str:
        return Codes(corrupt.pid, corrupt.interpreter).names(words)[words[0]]

    corrupt.write(name + 16, 1 << 62)  # characters
    long = named()
    corrupt.write(table + 16, 1 << 62)  # bytes
    long_table = named()
    corrupt.write(name + 16, (1 << 64) - 1)
    negative = named()

    assert long.startswith("hold\0")
    assert "…" in long
    assert len(long) < 2000
    assert long_table.startswith("hold\0")
    assert negative == UNREADABLE


@pytest.mark.parametrize("what", ["code_name", "code_file", "code_first", "references", "text"])
def test_code_that_has_changed_does_not_hold(corrupt: Target, what: str):
    """The quick look sees all that a code object is told from another by, and that it was freed."""
    at, code, words = corrupt.interpreter.offsets, corrupt.code("re"), corrupt.words("re")
    known = {word >> PYTHON_UNIT_BITS << 4 for word in words if word != PYTHON_ENTERED}
    codes = Codes(corrupt.pid, corrupt.interpreter)

    unknown = codes.hold(known)
    codes.names(words)
    before = codes.hold(known), codes.hold([])
    where = code if what == "references" else code + getattr(at, what, 0)
    if what == "text":
        where = corrupt.pointer(code + at.code_name) + at.text_ascii
    corrupt.write(where, 0 if what == "references" else corrupt.pointer(where) ^ 0xFF)

    assert (unknown, before, codes.hold(known)) == (False, (True, True), False)


def test_the_code_of_who_has_gone_holds():
    """What is known stays known, and what is not does not become it."""
    with running(PYTHONS[0], PROGRAM, cwd="/") as (process, said):
        target = Target(process, said)
        known, other = target.code("re"), 1 << 20
        codes = Codes(target.pid, target.interpreter)
        codes.names(target.words("re"))
        process.kill()
        process.wait()

        assert (codes.hold([known]), codes.hold([known, other])) == (True, False)


def test_where_the_caller_is_named_from():
    """Behind where modules and packages are installed, else from the working directory on."""
    assert (
        shortened("/srv/app/.venv/lib/python3.12/site-packages/django/db/models.py", "/srv/app")
        == "django/db/models.py"
    )
    assert shortened("/usr/lib/python3/dist-packages/apt/cache.py", "") == "apt/cache.py"
    assert shortened("/usr/lib/python3.11/asyncio/base_events.py", "/usr") == "asyncio/base_events.py"
    assert shortened("/srv/app/views.py", "/srv/app") == "views.py"
    assert shortened("/srv/apple/views.py", "/srv/app") == "/srv/apple/views.py"
    assert shortened("/x.py", "/") == "x.py"
    assert shortened("/x.py", "") == "/x.py"
    assert shortened("<frozen importlib._bootstrap>", "/srv") == "<frozen importlib._bootstrap>"


def renamed(name: str, **changes: Any) -> CodeType:
    """Return code of another name; before 3.11 it has no other one."""
    names = {"co_name": name} | ({"co_qualname": name} if sys.version_info >= (3, 11) else {})
    return Codes.names.__code__.replace(**names, **changes)


def test_a_function_may_have_no_name():
    """It is shown all the same: only what the interpreter made for itself is left out."""
    interpreter = find(os.getpid())
    assert interpreter
    code = renamed("", co_filename="", co_firstlineno=7)

    named = Codes(os.getpid(), interpreter).names([id(code) >> 4 << PYTHON_UNIT_BITS | PYTHON_NO_UNIT])

    assert list(named.values()) == [" (:7)"]


def test_another_function_in_the_same_place():
    """A freed code object whose place another one took, strings and line table included, has the new name."""
    interpreter = find(os.getpid())
    assert interpreter
    codes, addresses = Codes(os.getpid(), interpreter), set()
    for i in range(64):
        code = renamed(f"f{i}", co_filename=f"made{i}.py")
        addresses.add(id(code))

        named = codes.names([id(code) >> 4 << PYTHON_UNIT_BITS | PYTHON_NO_UNIT])

        assert list(named.values()) == [f"f{i} (made{i}.py:{code.co_firstlineno})"]
        del code
    assert len(addresses) < 64, "no place was taken again: this tests nothing"
