"""What a payload promises of sizes and limits."""

from __future__ import annotations

import resource
import struct
import zlib

import pytest

from tracekit.recording import payload


def column(code: bytes, mask: int, length: int, *planes: bytes) -> bytes:
    """A column as a hostile writer might lay it out."""
    parts = [struct.pack("<cBI", code, mask, length)]
    for plane in planes:
        squeezer = zlib.compressobj(9, wbits=-15)
        packed = squeezer.compress(plane) + squeezer.flush()
        parts += (struct.pack("<I", len(packed)), packed)
    return b"".join(parts)


def test_small_numbers_cost_less_than_a_byte_each() -> None:
    """Counts of a quiet interval are mostly one: eight bytes wide, seven planes are not stored."""
    packed = payload.encode([("Q", [1, 1, 2, 1] * 250)])

    assert len(packed) < 1000 / 4


@pytest.mark.parametrize(("code", "number"), [("H", 65_536), ("I", -1), ("Q", 2**64)])
def test_a_number_that_does_not_fit_is_not_bent(code: str, number: int) -> None:
    """An overflow in the collector must not become a small count."""
    with pytest.raises(OverflowError):
        payload.encode([(code, [number])])


@pytest.mark.parametrize(
    "blob",
    [
        column(b"Q", 0, 1 << 31),
        column(b"Q", 0, 1 << 22) * 3,
        column(b"B", 1, 1 << 27, bytes(1 << 20)),
    ],
    ids=["one huge column", "many large columns", "a promise of more than the limit"],
)
def test_a_bomb_is_refused_before_it_takes_memory(blob: bytes) -> None:
    """A few bytes may not unpack to more than LIMIT_BYTES."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(ValueError, match="too large"):
        payload.decode(blob)

    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kb < 3 * payload.LIMIT_BYTES / 1024


def test_a_plane_that_inflates_to_more_than_promised_is_refused() -> None:
    """16 MB of zeros in 16 kB: inflating stops at the promised length."""
    bomb = column(b"B", 1, 10, bytes(1 << 24))

    with pytest.raises(ValueError, match="plane of 11 bytes where 10 were promised"):
        payload.decode(bomb)


@pytest.mark.parametrize(
    ("blob", "complaint"),
    [
        (b"x", "torn"),
        (b"x\x01\x01\x00\x00\x00", "torn"),
        (b"Q\x01\x01\x00\x00\x00", "torn"),
        (b"Q\x01\x01\x00\x00\x00\xff\xff\xff\xff", "promised"),
        (b"Q\x01\x01\x00\x00\x00\x04\x00\x00\x00\xff\xff\xff\xff", "torn"),
    ],
    ids=["half a head", "unknown type", "no size", "no plane", "no deflate"],
)
def test_damage_is_named(blob: bytes, complaint: str) -> None:
    """ValueError, with what was wrong."""
    with pytest.raises(ValueError, match=complaint):
        payload.decode(blob)


def test_nothing_packs_to_nothing() -> None:
    """No columns are no bytes; an empty column is still a column."""
    assert payload.encode([]) == b""
    assert payload.decode(b"") == []
    assert payload.decode(payload.encode([("H", []), ("Q", [])])) == [b"", b""]
