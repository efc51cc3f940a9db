"""The span that a thread is in, from memory as bpf/abi/probe.h has it: of this process, so that it can be made."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import TYPE_CHECKING

import pytest

from tracekit.capture.probes import Facts, layout
from tracekit.capture.probes.current import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

INNER, OUTER, OTHER = 0x1111, 0x2222, 0x3333
"""Kinds."""
CONTEXT, ANOTHER = 0x7F00_0000_1230, 0x7F00_0000_4560


class Memory:
    """Words of this process that stay where they are."""

    def __init__(self) -> None:
        self._kept: list[ctypes.Array[ctypes.c_char]] = []

    def words(self, *words: int) -> int:
        """Return the address of *words*."""
        self._kept.append(ctypes.create_string_buffer(struct.pack(f"<{len(words)}Q", *words)))
        return ctypes.addressof(self._kept[-1])

    def node(self, kind: int, start_ns: int = 1, around: int = 0) -> int:
        return self.words(kind, start_ns, around)

    def contexts(self, **tops: int) -> int:
        """Return a table of two slots: *tops* by name of the context."""
        mask, slots = 1, [(0, 0), (0, 0)]
        for name, top in tops.items():
            context = {"context": CONTEXT, "another": ANOTHER}[name]
            place = (((context >> 4) * 0x9E3779B97F4A7C15 & (1 << 64) - 1) >> 40) & mask
            slots[place if not slots[place][0] else 1 - place] = context, top
        return self.words(mask, len(tops), *(word for slot in slots for word in slot))

    def record(self, top: int, *, running: int = CONTEXT, contexts: int = 0) -> int:
        return self.words(top, CONTEXT, self.words(running), contexts, 0, 0, 0, 0)


@pytest.fixture
def memory() -> Memory:
    return Memory()


def static(record: int) -> int:
    """Return what is found at a record that is 64 bytes before the thread pointer."""
    return kind_of(Facts(os.getpid(), layout.STATIC, tls_offset=-64), record + 64)


def dynamic(memory: Memory, record: int, length: int = 3, block: int | None = None) -> int:
    """Return the same for one that is in the block of module 2, 16 bytes behind its beginning."""
    vector = memory.words(length, 0, 0, 0, 0, 0, record - 16 if block is None else block, 0) + 16
    pointer = memory.words(0, vector)
    return kind_of(Facts(os.getpid(), layout.DYNAMIC, tls_offset=16, tls_module=2), pointer)


def test_the_innermost_one(memory: Memory):
    """Of two that are open."""
    record = memory.record(memory.node(INNER, around=memory.node(OUTER)))

    assert static(record) == dynamic(memory, record) == INNER


def test_one_that_has_not_begun_is_not_open(memory: Memory):
    """It is linked first: what counts is the one around it."""
    assert static(memory.record(memory.node(INNER, 0, memory.node(OUTER)))) == OUTER
    assert static(memory.record(memory.node(INNER, 0))) == 0


@pytest.mark.parametrize("found", [{"another": OTHER}, {"context": OUTER, "another": OTHER}])
def test_of_another_context(memory: Memory, found: dict[str, int]):
    """A task that runs again has its own, not the one that was entered last on this thread."""
    tops = {name: memory.node(kind) for name, kind in found.items()}

    assert static(memory.record(memory.node(INNER), running=ANOTHER, contexts=memory.contexts(**tops))) == OTHER


@pytest.mark.parametrize(
    "look",
    [
        lambda memory: static(memory.record(0)),
        lambda memory: static(memory.record(memory.node(INNER), running=0)),
        lambda memory: static(memory.record(memory.node(INNER), running=ANOTHER)),
        lambda memory: static(memory.record(memory.node(INNER), running=ANOTHER, contexts=memory.contexts(context=1))),
        lambda memory: static(memory.record(8)),
        lambda _: static(8),
        lambda memory: dynamic(memory, memory.record(memory.node(INNER)), length=1),
        lambda memory: dynamic(memory, 0, block=0),
        lambda memory: dynamic(memory, 0, block=(1 << 64) - 1),
        lambda _: kind_of(Facts(os.getpid(), layout.NOTHING), 8),
    ],
)
def test_none(memory: Memory, look: Callable[[Memory], int]):
    """No span, no context, an unknown one, a thread older than the library, and memory that is not there."""
    assert look(memory) == 0
