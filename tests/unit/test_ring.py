"""Reading a ring buffer of the kernel: here a file stands in for it, laid out as kernel/bpf/ringbuf.c does."""

from __future__ import annotations

import mmap
import os
import struct

import pytest

from tracekit.capture.bpf.ring import Ring

SIZE = 4096
DISCARD = 1 << 30


class Producer:
    """Writes records as the kernel does, each to where the last one ended."""

    def __init__(self, at: int) -> None:
        self.file = os.memfd_create("ring")
        os.ftruncate(self.file, 2 * mmap.PAGESIZE + SIZE)
        self.at = at
        os.pwrite(self.file, struct.pack("=Q", at), 0)

    def write(self, content: bytes, flags: int = 0) -> None:
        record = struct.pack("=II", len(content) | flags, 0) + content
        record += bytes(-len(record) % 8)
        for place, byte in enumerate(record):
            os.pwrite(self.file, bytes([byte]), 2 * mmap.PAGESIZE + (self.at + place) % SIZE)
        self.at += len(record)
        os.pwrite(self.file, struct.pack("=Q", self.at), mmap.PAGESIZE)


@pytest.mark.parametrize("before_end", [8, 16, 24, 40, 48, 56, 64, 4096])
def test_a_record_that_wraps_is_read_in_one_piece(before_end: int) -> None:
    """Wherever the end of the ring is: in a record, right behind its header, or right behind it."""
    producer = Producer(3 * SIZE - before_end)
    content = bytes(range(41))

    producer.write(content)
    producer.write(b"left out", DISCARD)
    producer.write(b"next")

    assert list(Ring(producer.file, SIZE).drain()) == [content, b"next"]


def test_what_is_peeked_at_stays() -> None:
    """Each record is seen once by peek(), and comes out of drain() all the same; the room is taken until then."""
    producer = Producer(0)
    ring = Ring(producer.file, SIZE)

    producer.write(b"one")
    producer.write(b"left out", DISCARD)
    first, again = list(ring.peek()), list(ring.peek())
    producer.write(b"two")
    later, used = list(ring.peek()), ring.used_bytes

    assert (first, again, later) == ([b"one"], [], [b"two"])
    assert used == producer.at
    assert list(ring.drain()) == [b"one", b"two"]
    assert (ring.used_bytes, list(ring.peek())) == (0, [])
