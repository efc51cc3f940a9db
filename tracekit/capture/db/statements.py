"""
How long the answers to statements took, by what was asked without its literals (`--db-text`).

The text comes when a call begins, and again without it when the answer is there. It is made bare at once:
the text itself is in no series, no message and no file. What has none (a prepared statement that is executed,
a command of Redis) is called by its operation.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture import wire
from tracekit.capture.db import sql
from tracekit.capture.db.words import OTHER, system_of
from tracekit.capture.lives import Tally
from tracekit.records import Series, labels_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tracekit.capture.db.words import Words
    from tracekit.capture.readings import Slots

MOST = 200
"""Statements of a recording that have a series of their own."""


class Text(NamedTuple):
    """struct db_text."""

    connection: int
    start_ns: int
    latency_ns: int
    role: int
    peer: int
    operation: int
    span: int
    length: int
    about: int
    text: bytes


class Statements:
    """
    What is asked, and how long the answers took.

    Args:
        words: what operations are called. role: id of a process's name → role.
    """

    def __init__(self, words: Words, role: Callable[[int], str]) -> None:
        self._words = words
        self._role = role
        self._asked: OrderedDict[int, tuple[int, str]] = OrderedDict()
        """Connection → when its call began, and what it asks; the latest last."""
        self._known: set[tuple[str, str]] = set()
        self._added: defaultdict[Series, Tally] = defaultdict(Tally)
        self._whole: defaultdict[Series, Tally] = defaultdict(Tally)

    def take(self, records: Iterable[bytes]) -> None:
        """Take what the kernel reports: texts, and answers."""
        for raw in records:
            text = Text._make(wire.DB_TEXT.unpack(raw))
            if text.latency_ns:
                self._answer(text)
            else:
                self._ask(text)

    def _ask(self, text: Text) -> None:
        """Note a text, the first of its call: what else a call sends goes on with it."""
        began, statement = self._asked.pop(text.connection, (0, ""))
        if began != text.start_ns:
            statement = statement_of(text) or self._words.name(text.operation)
        self._asked[text.connection] = text.start_ns, statement
        if len(self._asked) > wire.MAX_CONNECTIONS:
            self._asked.popitem(last=False)  # nobody told that it was closed

    def _answer(self, text: Text) -> None:
        began, statement = self._asked.get(text.connection, (0, ""))
        if began == text.start_ns:
            del self._asked[text.connection]
        else:
            statement = OTHER  # its text found no room in the ring, which is counted there
        series = self._series(system_of(text.about), statement, self._role(text.role))
        self._added[series].add(text.latency_ns)
        self._whole[series].add(text.latency_ns)

    def _series(self, system: str, statement: str, role: str) -> Series:
        about = system, statement
        if about not in self._known and len(self._known) >= MOST:
            statement = OTHER
        else:
            self._known.add(about)
        labels = {"system": system, "statement": statement, "role": role}
        return Series("db.statement", labels_of(labels), "histogram", "ns")

    def increase(self) -> list[tuple[Series, Slots]]:
        """Return what was added since the last time, and forget it."""
        found = [(series, tally.slots()) for series, tally in self._added.items()]
        self._added.clear()
        return found

    def whole(self) -> Iterator[tuple[Series, Slots]]:
        """Yield all since the recording began."""
        for series, tally in self._whole.items():
            yield series, tally.slots()


def statement_of(text: Text) -> str:
    """Return what a text asks, without literals; "" if there is none."""
    system, raw = system_of(text.about), text.text[: text.length]
    if not raw or system not in sql.SYSTEMS:
        return ""
    sent, end, _ = raw.partition(b"\0")  # PostgreSQL's texts end in a NUL, and parameters may follow
    cut = not end if system == "postgresql" else bool(end) or len(raw) >= wire.DB_TEXT_LEN
    readable, torn = _decode(sent)
    return sql.normalise(readable, system, cut=cut or torn)


def _decode(raw: bytes) -> tuple[str, bool]:
    """
    Return the text as far as it is UTF-8, and whether that is not all.

    The rest is left out: in some encodings the second byte of a letter looks like a backslash or a quote, and
    who does not know them would see a literal end too early.
    """
    try:
        return raw.decode(), False
    except UnicodeDecodeError as error:
        return raw[: error.start].decode(), True
