"""A recording whose names are what an attacker would call things: what tests of outputs read."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

from tests import sample

if TYPE_CHECKING:
    from pathlib import Path

NASTY = (
    "\x1b]0;title\x07\x1b[2J",
    "\x9b2J\x85\x90q\x9c",
    "\u202e\u2066evil\u2069\u200f",
    "<script>alert(1)</script>",
    "\"' onload='alert(1)' x=\"",
    "a\nb\r\nc\td\x0b\x0c",
    ";,|`$(id)`",
    "=cmd|'/C calc'!A0",
    "x" * 5000,
    "\ud800\udfff\udc9b",
    "\x00nul",
    "]]>--><!--&amp;&#27;",
    "</title></style></svg>",
    "'; DROP TABLE series; --",
    "\u2028\u2029\ufeff\u200b",
    "[x](javascript:alert(1)) ![y](http://evil/)",
    "\n::error file=x::pwned",
    "| a | b |\n| --- | --- |",
    "../../etc/passwd\\",
    "{{7*7}}${jndi:x}%0a%1b",
)
"""Each for another consumer; none is a colour of a terminal, which would be told apart from ours by nobody."""
KEPT = {"reason", "state", "syscall", "errno", "kind", "resource", "cpu"}
"""Labels whose values are the kernel's."""


class Names:
    """Gives each name its hostile one, always the same, and all of NASTY in turn."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {"": ""}

    def of(self, name: str) -> str:
        """Return *name* with something nasty in front of it, and behind."""
        if name not in self._known:
            nasty = NASTY[len(self._known) % len(NASTY)]
            self._known[name] = f"{nasty}{name}{nasty[:40]}"
        return self._known[name]


def write(path: Path, names: Names, *, everything: bool = False) -> None:
    """Write the sample recording with the names of *names*; *everything*: also what only a forger can change."""
    sample.write(path, intervals=2)
    db = sqlite3.connect(path)
    _rename_series(db, names, everything)
    for ident, frames in db.execute("SELECT id, frames FROM stack").fetchall():
        hostile = [names.of(frame) for frame in json.loads(frames)]
        db.execute("UPDATE stack SET frames = ? WHERE id = ?", (json.dumps(hostile), ident))
    for table, column in (("process", "role"), ("process", "span"), ("in_flight", "role"), ("in_flight", "thread")):
        for (value,) in db.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall():
            db.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (storable(names.of(value)), value))
    if everything:
        _forge(db, names)
    db.commit()
    db.close()


def storable(text: str) -> str:
    """Return *text* as the writer stores it: SQLite takes no lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


def _rename_series(db: sqlite3.Connection, names: Names, everything: bool) -> None:
    for ident, metric, labels, unit in db.execute("SELECT id, metric, labels, unit FROM series").fetchall():
        found = {key: value if key in KEPT else names.of(value) for key, value in json.loads(labels).items()}
        if everything:
            found = {names.of(key) if key == "role" else key: names.of(value) for key, value in found.items()}
        forged = (
            storable(names.of(each)) if everything and metric in {"host.steal", "mark"} else each
            for each in (metric, unit)
        )
        row = (next(forged), json.dumps(found, sort_keys=True), next(forged), ident)
        db.execute("UPDATE series SET metric = ?, labels = ?, unit = ? WHERE id = ?", row)


def _forge(db: sqlite3.Connection, names: Names) -> None:
    for key, value in db.execute("SELECT key, value FROM meta").fetchall():
        document = {name: names.of(each) if isinstance(each, str) else each for name, each in json.loads(value).items()}
        if key == "end":
            document["missing"] = list(NASTY)
        db.execute("UPDATE meta SET value = ? WHERE key = ?", (json.dumps(document), key))
    db.execute("UPDATE loss SET reason = ?", (storable("".join(NASTY)),))
