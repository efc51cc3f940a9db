"""
The recognisers of database protocols, which run in the kernel, compiled for a program of their own.

The verifier has proven that they end and read nothing but their own memory. What it cannot say: that they read nothing
behind what was moved, that no shift or index is undefined, and that lies get no other answer than one of theirs.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

HERE = Path(__file__).parent / "recogniser"
BPF = Path(__file__).parents[2] / "bpf"
SHARED = ("said", "verb", "mysql", "postgresql", "redis", "protocols")
FLAGS = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-sanitize=alignment"]
CUT = re.compile(
    r"^(?:enum \{ HEAD_LEN.*?^struct bytes \{.*?^\};|// Read \*size\* bytes.*?^\})$", re.MULTILINE | re.DOTALL
)
"""What the programs know of moved bytes, without the sockets these came through."""
STRANGE, NOTHING, ASKED, CONNECTS = range(4)


def message(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack(">I", len(content) + 4) + content


QUERY = message(b"Q", b"SELECT 1\0")
PARSED = message(b"P", b"s1\0/* a */ insert into t values ($1)\0\0\0")
BOUND = message(b"B", b"\0s1\0" + bytes(6)) + message(b"E", bytes(5)) + message(b"S", b"")
STARTUP = struct.pack(">2I", 8 + 11, 196608) + b"user\0root\0\0"
ERROR = message(b"E", b"SERROR\0VERROR\0C42P01\0Mno such table\0\0") + message(b"Z", b"I")
ROWS = message(b"T", b"\0\1a\0" + bytes(18)) + message(b"D", b"\0\1\0\0\0\1x") * 9 + message(b"Z", b"I")
COMMAND = struct.pack("<I", 9) + b"\3" + b"SELECT 1"
DENIED = struct.pack("<I", 9 | 1 << 24) + b"\xff" + struct.pack("<H", 1064) + b"#42000"
ENDED = struct.pack("<I", 1 | 1 << 24) + b"\1" + struct.pack("<I", 5 | 5 << 24) + b"\xfe\0\0\2\0"
SET = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n"
BULK, WRONG, NESTED = b"$5\r\nhello\r\n", b"-WRONGTYPE no\r\n", b"*2\r\n$1\r\na\r\n:7\r\n"
MONGO = struct.pack("<4I", 21, 1, 0, 2013) + bytes(5)
REAL = [QUERY, PARSED, BOUND, STARTUP, ERROR, ROWS, COMMAND, DENIED, ENDED, SET, BULK, WRONG, NESTED, MONGO]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program, compiled from the headers of the BPF programs."""
    folder = tmp_path_factory.mktemp("recogniser")
    for name in SHARED:
        shutil.copy(BPF / f"{name}.bpf.h", folder)
    shutil.copytree(BPF / "abi", folder / "abi")
    for source in HERE.iterdir():
        shutil.copy(source, folder)
    pieces = CUT.findall((BPF / "sockets.bpf.h").read_text())
    assert len(pieces) == 2
    (folder / "sockets.bpf.h").write_text("\n".join(["#pragma once", '#include "kernel.bpf.h"', *pieces, ""]))
    subprocess.run(["gcc", *FLAGS, "-o", folder / "recogniser", folder / "main.c"], check=True)
    return folder / "recogniser"


def said(program: Path, messages: list[bytes]) -> list[tuple[str, str]]:
    """Return what is made of each message: lying in one piece, and of its first bytes alone."""
    given = b"".join(struct.pack("=I", len(each)) + each for each in messages)
    done = subprocess.run([program], input=given, check=False, capture_output=True)
    assert not done.returncode, done.stderr.decode()
    lines = done.stdout.decode().splitlines()
    assert len(lines) == len(messages)
    return [(whole, first) for whole, _, first in (line.partition(" ||") for line in lines)]


def words(text: str) -> list[tuple[int, str]]:
    """Return the (verdict, word) of each recogniser."""
    return [(int(what), bytes.fromhex(word).decode("latin-1")) for what, word in re.findall(r"(-?\d+):(\w*)", text)]


def test_real_messages(program: Path) -> None:
    """As the protocols have them: what is asked, and what was wrong with it."""
    found = [words(whole) for whole, _ in said(program, REAL)]
    pg, mysql, redis = ([each[place] for each in found] for place in range(3))
    pg_answer, mysql_answer, redis_answer = ([each[place] for each in found] for place in (6, 7, 10))

    assert [pg[REAL.index(each)] for each in (QUERY, PARSED, STARTUP)] == [
        (ASKED, "SELECT"),
        (ASKED, "PREPARE"),
        (CONNECTS, "CONNECT"),
    ]
    assert mysql[REAL.index(COMMAND)] == (ASKED, "SELECT")
    assert redis[REAL.index(SET)] == (ASKED, "SET")
    assert pg_answer[REAL.index(ERROR)][1] == "42P01"
    assert mysql_answer[REAL.index(DENIED)][1] == "1064"
    assert redis_answer[REAL.index(WRONG)][1] == "WRONGTYPE"
    assert [found[REAL.index(SET)][place][0] for place in (3, 4)] == [STRANGE, STRANGE]  # strictly


PIECE = st.one_of(st.sampled_from(REAL), st.binary(max_size=200))
EDIT = st.tuples(st.integers(0, 400), st.integers(0, 3), st.binary(max_size=6))


@st.composite
def lies(draw: st.DrawFn) -> bytes:
    """Return real messages put together, and bytes in them replaced, put in or left out."""
    content = b"".join(draw(st.lists(PIECE, min_size=1, max_size=4)))
    for at, gone, new in draw(st.lists(EDIT, max_size=4)):
        place = at % (len(content) + 1)
        content = content[:place] + new + content[place + gone :]
    return content or b"\0"


@given(st.lists(lies(), min_size=5, max_size=10))
def test_lies(program: Path, messages: list[bytes]) -> None:
    """No byte behind the message is read, nothing is undefined, and all verdicts are of the protocol's."""
    for message, (whole, first) in zip(messages, said(program, messages), strict=True):
        assert all(0 <= what <= 4 and len(word) < 16 for what, word in words(whole) + words(first))
        if len(message) <= 64 and b"E" not in message:  # errors behind rows are looked for in memory alone
            assert whole == first
