"""Reading a hash map in pieces gives each value once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tracekit.capture.bpf import syscall

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

HASH = 1
ENTRIES = 1009


@pytest.fixture
def numbers() -> Iterator[int]:
    """A map of u64 to u64 with room for all."""
    descriptor = syscall.map_create(HASH, 8, 8, ENTRIES)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("at_a_time", [64, 2048])
def test_every_value_is_read_once(numbers: int, at_a_time: int) -> None:
    """In many pieces, or in one."""
    for number in range(ENTRIES):
        syscall.map_update(numbers, number.to_bytes(8, "little"), (3 * number).to_bytes(8, "little"))

    pieces = list(syscall.map_values(numbers, 8, 8, at_a_time))

    found = [piece[at : at + 8] for piece in pieces for at in range(0, len(piece), 8)]
    assert sorted(int.from_bytes(value, "little") for value in found) == [3 * number for number in range(ENTRIES)]
    assert max(map(len, pieces)) <= 8 * at_a_time


def test_an_empty_map_has_no_values(numbers: int) -> None:
    """The kernel says that there is no more, and how many there were before that: none."""
    assert b"".join(syscall.map_values(numbers, 8, 8, 64)) == b""
