"""Statements without their literals, and the answers to them."""

from __future__ import annotations

import pytest

from tests.unit.test_db_words import POSTGRESQL, REDIS
from tracekit.capture import wire
from tracekit.capture.db import sql
from tracekit.capture.db.statements import MOST, Statements
from tracekit.capture.db.words import Words

MYSQL = wire.DB_SYSTEMS.index("mysql")
PG, MY = "postgresql", "mysql"

BARE = [
    (PG, "SELECT * FROM t WHERE a = 1 AND b='it''s'", "SELECT * FROM t WHERE a = ? AND b=?"),
    (PG, "select\n\t1 -- one\n , 2 /* two */ ;", "select ? , ?"),
    (PG, "SELECT -1, x-1, (+2.5e-3), .5, 0x1F, 1_000", "SELECT -?, x-?, (?), ?, ?, ?"),
    (PG, "SELECT t1.c2 FROM t1 WHERE id IN (1, 2,3)", "SELECT t1.c2 FROM t1 WHERE id IN (?)"),
    (PG, "SELECT ARRAY[1,2], f($1, $2)", "SELECT ARRAY[?], f(?)"),
    (PG, "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4)", "INSERT INTO t (a, b) VALUES (?)"),
    (PG, "SELECT E'a\\'b', U&'\\0041', x'ff', N'x', B'01'", "SELECT ?, ?, ?, ?, ?"),
    (PG, "SELECT $$a'b$$, $tag$ x $y$ $tag$, foo$1$", "SELECT ?, ?, foo$1$"),
    (PG, 'SELECT "a ""b\'" FROM "T"', 'SELECT "a ""b\'" FROM "T"'),
    (PG, "SELECT 'a'\n'b'", "SELECT ?"),
    (PG, "SELECT data->>'k', a::int, b <-> '(1,2)'::point", "SELECT data->>?, a::int, b <-> ?::point"),
    (PG, "SELECT 'C:\\dir', 1", "SELECT ?, ?"),
    (MY, "SELECT `a``b'`, \"it's\", 'it\\'s' # one\n, 2 -- two", "SELECT `a``b'`, ?, ? , ?"),
    (MY, "SELECT 5--'x -- y'", "SELECT ?--?"),
    (MY, "SELECT _utf8mb4'x', x'ff', @'v', @\"w\"", "SELECT _utf8mb4?, ?, @?, @?"),
    (MY, "SELECT /*+ hint */ 1", "SELECT ?"),
    (PG, "", ""),
    (PG, " ; ", ""),
]
CUT = [
    (PG, "SELECT * FROM t WHERE a = 'secre", "SELECT * FROM t WHERE a = ?…"),
    (PG, "SELECT * FROM t WHERE a = 'it''", "SELECT * FROM t WHERE a = ?…"),
    (PG, "SELECT * FROM t WHERE a = 12", "SELECT * FROM t WHERE a = ?…"),
    (PG, "SELECT * FROM t WHERE id IN (1, 2, 3, ", "SELECT * FROM t WHERE id IN (?…"),
    (PG, "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c", "INSERT INTO t VALUES (?)…"),
    (PG, "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (", "INSERT INTO t VALUES (?)…"),
    (PG, "SELECT 1, 2, 3, 'a', 'b", "SELECT ?…"),
    (PG, "SELECT $ta", "SELECT ?…"),
    (PG, "SELECT $tag$ secr", "SELECT ?…"),
    (PG, "SELECT 1 /* secr", "SELECT ?…"),
    (PG, "SELECT 1 -- secr", "SELECT ?…"),
    (PG, 'SELECT a FROM "Or', "SELECT a FROM ?…"),
    (PG, "", "…"),
]
UNSURE = [
    (PG, "SELECT 'a\\' secret, 'b'", "SELECT ?…"),
    (PG, "SELECT /* a /* b */ 'secret' */ 1", "SELECT…"),
    (MY, "SELECT /*! 'a */ secret' */ 1", "SELECT…"),
    (MY, "SELECT 'secret", "SELECT ?…"),
]


@pytest.mark.parametrize(("system", "text", "bare"), [*BARE, *UNSURE])
def test_literals_become_question_marks(system: str, text: str, bare: str) -> None:
    """Where servers or their settings differ on where a literal ends, the rest is left out."""
    assert sql.normalise(text, system) == bare


@pytest.mark.parametrize(("system", "text", "bare"), CUT)
def test_a_text_that_was_cut_says_so(system: str, text: str, bare: str) -> None:
    """A literal that was cut is one; the many lengths of lists are one statement."""
    assert sql.normalise(text, system, cut=True) == bare


def test_what_is_bare_stays_as_it_is() -> None:
    """So that a statement seen twice is one."""
    for system, _, bare in [*BARE, *UNSURE]:
        assert sql.normalise(bare, system) == bare


class Kernel:
    """What the kernel would put into the ring."""

    def __init__(self) -> None:
        names = b"".join(word.ljust(wire.DB_NAME_LEN, b"\0") for word in (b"", b"SELECT", b"GET"))
        words = Words(bytes(wire.PEER.size * wire.MAX_PEERS), names.ljust(wire.DB_NAME_LEN * wire.MAX_DB_NAMES, b"\0"))
        self.statements = Statements(words, {1: "app", 2: "app"}.__getitem__)

    def ask(self, text: bytes, connection: int = 1, start: int = 1, **given: int) -> None:
        about, operation = given.get("about", POSTGRESQL), given.get("operation", 1)
        head = connection, start, 0, 1, 1, operation, 0, len(text), about
        self.statements.take([wire.DB_TEXT.pack(*head, text)])

    def answer(self, latency: int, connection: int = 1, start: int = 1, about: int = POSTGRESQL) -> None:
        self.statements.take([wire.DB_TEXT.pack(connection, start, latency, 1, 1, 1, 0, 0, about, b"")])

    def seen(self) -> dict[str, int]:
        """Return the calls by statement."""
        return {series.label("statement"): sum(slots.counts) for series, slots in self.statements.whole()}


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def test_an_answer_is_that_of_its_question(kernel: Kernel) -> None:
    """By connection and by when the call began; connections ask at the same time."""
    kernel.ask(b"SELECT 1\0", connection=7)
    kernel.ask(b"SELECT a FROM t WHERE b = 'c'\0", connection=8)
    kernel.answer(100, connection=8)
    kernel.answer(200, connection=7)

    found = {series.label("statement"): (series, slots) for series, slots in kernel.statements.increase()}

    assert {name: slots.total for name, (_, slots) in found.items()} == {
        "SELECT ?": 200,
        "SELECT a FROM t WHERE b = ?": 100,
    }
    series = found["SELECT ?"][0]
    assert (series.metric, series.label("system"), series.label("role")) == ("db.statement", "postgresql", "app")
    assert kernel.statements.increase() == []
    assert kernel.seen() == {"SELECT ?": 1, "SELECT a FROM t WHERE b = ?": 1}


def test_a_call_sent_in_pieces_is_its_first(kernel: Kernel) -> None:
    """The second piece begins anywhere: maybe inside of a literal."""
    kernel.ask(b"SELECT 'a\0")
    kernel.ask(b"secret', 1\0")
    kernel.answer(100)

    assert kernel.seen() == {"SELECT ?…": 1}


def test_a_question_without_an_answer_is_forgotten(kernel: Kernel) -> None:
    """The connection asks again, or is never heard of again; memory is bounded."""
    kernel.ask(b"SELECT 1\0", start=1)
    kernel.ask(b"DELETE FROM t\0", start=2)
    kernel.answer(100, start=2)
    for number in range(wire.MAX_CONNECTIONS + 9):
        kernel.ask(b"SELECT 2\0", connection=1000 + number)

    assert kernel.seen() == {"DELETE FROM t": 1}
    assert len(kernel.statements._asked) == wire.MAX_CONNECTIONS


def test_an_answer_whose_text_was_lost_is_counted(kernel: Kernel) -> None:
    """Statements add up to the calls."""
    kernel.ask(b"SELECT 1\0", start=1)
    kernel.answer(100, start=2)

    assert kernel.seen() == {"<other>": 1}


def test_a_call_without_a_text_is_its_operation(kernel: Kernel) -> None:
    """A prepared statement that is executed, and all of Redis, whose arguments are all data."""
    kernel.ask(b"")
    kernel.answer(100)
    kernel.ask(b"*2\r\n$3\r\nGET\r\n$6\r\nsecret\r\n", about=REDIS, operation=2, start=2)
    kernel.answer(100, about=REDIS, start=2)

    assert kernel.seen() == {"SELECT": 1, "GET": 1}


def test_statements_are_bounded(kernel: Kernel) -> None:
    """A program that makes up table names has 200, and the rest together."""
    for number in range(MOST + 50):
        kernel.ask(f"SELECT * FROM t_{number}\0".encode(), start=number + 1)
        kernel.answer(100, start=number + 1)
    kernel.ask(b"SELECT * FROM t_7\0", start=9999)
    kernel.answer(100, start=9999)

    found = kernel.seen()

    assert (len(found), found["<other>"], found["SELECT * FROM t_7"]) == (MOST + 1, 50, 2)


@pytest.mark.parametrize(
    ("about", "raw", "bare"),
    [
        (POSTGRESQL, b"SELECT 1\0B\0\0\0\x20secret", "SELECT ?"),
        (POSTGRESQL, b"SELECT 'a", "SELECT ?…"),
        (POSTGRESQL, b"SELECT a", "SELECT a…"),
        (MYSQL, b"SELECT 'a', \"b\"", "SELECT ?, ?"),
        (MYSQL, b"SELECT a".ljust(wire.DB_TEXT_LEN), "SELECT a…"),
        (MYSQL, b"SELECT _binary'\xbf\\' OR secret", "SELECT _binary?…"),
        (MYSQL, b"SELECT 'a\0b', secret", "SELECT ?…"),
        (MYSQL, "SELECT 'ä', ö".encode(), "SELECT ?, ö"),
    ],
)
def test_only_text_is_read_of_what_was_sent(kernel: Kernel, about: int, raw: bytes, bare: str) -> None:
    """Parameters follow a NUL; bytes that are no UTF-8 may hold what looks like a quote."""
    kernel.ask(raw, about=about)
    kernel.answer(100, about=about)

    assert kernel.seen() == {bare: 1}
