"""A recording that somebody else made: any byte of it may be another, in the file of SQLite and in what it holds."""

from __future__ import annotations

import sqlite3
import zlib
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import sample
from tracekit.cli import cli
from tracekit.errors import TracekitError
from tracekit.recording.reader import Recording

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = settings(max_examples=max(8, settings().max_examples // 10))
COLUMNS = [("interval", name) for name in ("histograms", "vals", "stacks", "parts", "samples")]
COLUMNS += [("meta", "value"), ("series", "labels"), ("series", "metric"), ("stack", "frames"), ("process", "role")]
VALUES = st.one_of(
    st.none(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats(), st.text(max_size=50), st.binary(max_size=99)
)
CHANGES = st.lists(st.tuples(st.integers(0, 1 << 30), st.binary(min_size=1, max_size=8)), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording of one interval."""
    path = tmp_path_factory.mktemp("small") / "small.tk"
    sample.write(path, intervals=1)
    return path


def read_all(path: Path) -> None:
    """Read it as `report` does; what cannot be read is one clear error."""
    done = CliRunner().invoke(cli, ["report", str(path)])
    if done.exception and not isinstance(done.exception, (SystemExit, TracekitError)):
        raise done.exception
    try:
        with Recording(path) as recording:
            recording.samples()
            recording.exemplars()
    except TracekitError as error:
        assert str(error)


def changed(content: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    """Return *content* with bytes overwritten."""
    bad = bytearray(content)
    for place, piece in changes:
        at = place % max(1, len(bad))
        bad[at : at + len(piece)] = piece
    return bytes(bad)


@EXAMPLES
@given(CHANGES)
def test_any_byte_of_the_file(small: Path, changes: list[tuple[int, bytes]]) -> None:
    """Pages, cells and freelists of SQLite."""
    path = small.with_name("bytes.tk")
    path.write_bytes(changed(small.read_bytes(), changes))

    read_all(path)


@EXAMPLES
@given(st.sampled_from(COLUMNS[:5]), CHANGES, st.booleans())
def test_any_byte_of_a_payload(
    small: Path, column: tuple[str, str], changes: list[tuple[int, bytes]], inside: bool
) -> None:
    """Of what is compressed, and of what was."""

    def bad(value: bytes) -> bytes:
        if not inside:
            return changed(value, changes)
        try:
            return zlib.compress(changed(zlib.decompress(value), changes))
        except zlib.error:
            return changed(value, changes)

    read_all(rewritten(small, column, bad))


@EXAMPLES
@given(st.sampled_from(COLUMNS), VALUES)
def test_any_value_in_any_column(small: Path, column: tuple[str, str], value: object) -> None:
    """Of another type, of no sense, or out of range."""
    read_all(rewritten(small, column, lambda _: value))


def rewritten(small: Path, column: tuple[str, str], change: object) -> Path:
    """Return a copy whose values in a column are changed, as far as its schema takes them."""
    path = small.with_name("rows.tk")
    path.write_bytes(small.read_bytes())
    table, name = column
    db = sqlite3.connect(path)
    db.create_function("change", 1, change)
    try:
        db.execute(f"UPDATE {table} SET {name} = change({name})")
        db.commit()
    except sqlite3.Error:
        db.rollback()
    db.close()
    return path
