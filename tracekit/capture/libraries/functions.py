"""Which functions of which libraries are probed, by which programs of bpf/libraries.bpf.c."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.capture.libraries.place import CX, DI, DX, R8, SI

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Probe:
    """
    A function and what runs where it begins and where it returns.

    Attributes:
        entry, exit: programs; "": none.
        reads: the registers of the arguments that `entry` reads.
        hits: how often a usual call comes by; 0: hardly ever.
        rows: it is called for each row of an answer.
        out: the register of the argument that the function puts its result behind; -1: there is none.
    """

    function: str
    entry: str = ""
    exit: str = ""
    reads: frozenset[int] = frozenset([DI])
    hits: int = 0
    rows: bool = False
    out: int = -1


@dataclass(frozen=True)
class Library:
    """
    A kind of library.

    Attributes:
        files: names of its files.
        probes: of its functions. exact: more of them, where a process uses it by other means than
            `client`, a library that calls it in a way that is known.
    """

    name: str
    files: re.Pattern[bytes]
    probes: tuple[Probe, ...]
    exact: tuple[Probe, ...] = ()
    client: re.Pattern[bytes] | None = None

    @property
    def functions(self) -> tuple[str, ...]:
        """All functions that may be probed."""
        return tuple(probe.function for probe in (*self.probes, *self.exact))


_TEXT, _NAMED_TEXT = frozenset([DI, SI]), frozenset([DI, SI, DX])
_MYSQL_NEXT = (
    *("mysql_store_result", "mysql_use_result", "mysql_field_count", "mysql_affected_rows", "mysql_close"),
    *("mysql_stmt_bind_param", "mysql_stmt_store_result", "mysql_stmt_fetch", "mysql_stmt_affected_rows"),
    "mysql_stmt_close",
)
"""What programs ask when there is an answer."""
_VERSION = rb"(-[0-9a-f]+)?\.so(\.[0-9.]+)?$"  # a wheel puts a hash behind the name

LIBRARIES = (
    Library(
        "libpq",
        re.compile(rb"libpq" + _VERSION),
        (
            Probe("PQsendQuery", "on_pq_query", reads=_TEXT, hits=1),
            Probe("PQsendQueryParams", "on_pq_query", reads=_TEXT),
            Probe("PQsendPrepare", "on_pq_prepare", reads=_NAMED_TEXT),
            Probe("PQsendQueryPrepared", "on_pq_execute", reads=_TEXT),
            Probe("PQgetResult", "on_pq_get", "on_pq_got", hits=3),
            Probe("PQresultErrorField", "on_pq_field", "on_pq_field_said", reads=_TEXT),
            Probe("PQfinish", "on_pq_finish"),
        ),
    ),
    Library(
        "libsqlite3",
        re.compile(rb"(libsqlite3" + _VERSION + rb"|_sqlite3\b.*\.so$)"),
        (
            Probe("sqlite3_prepare", "on_sqlite_prepare", reads=_TEXT, out=CX),
            Probe("sqlite3_prepare_v2", "on_sqlite_prepare", reads=_TEXT, out=CX),
            Probe("sqlite3_prepare_v3", "on_sqlite_prepare", reads=_TEXT, out=R8),
            Probe("sqlite3_bind_parameter_count", "on_sqlite_begin", hits=1),
            Probe("sqlite3_reset", "on_sqlite_reset", hits=1),
            Probe("sqlite3_finalize", "on_sqlite_finalize"),
            Probe("sqlite3_exec", "on_sqlite_exec", "on_sqlite_executed", reads=_TEXT),
            Probe("sqlite3_errcode", exit="on_sqlite_error"),
            Probe("sqlite3_extended_errcode", exit="on_sqlite_error"),
        ),
        (
            Probe("sqlite3_step", "on_sqlite_begin", rows=True),
            Probe("sqlite3_prepare", exit="on_sqlite_prepared"),
            Probe("sqlite3_prepare_v2", exit="on_sqlite_prepared", hits=1),
            Probe("sqlite3_prepare_v3", exit="on_sqlite_prepared"),
        ),
        client=re.compile(rb"_sqlite3\b.*\.so$"),
    ),
    Library(
        "libmariadb",
        re.compile(rb"(lib(mariadb|mysqlclient)" + _VERSION + rb"|_mysql(_connector)?\b.*\.so$)"),
        (
            Probe("mysql_real_query", "on_mysql_query", reads=_TEXT, hits=1),
            Probe("mysql_stmt_prepare", "on_mysql_prepare", reads=_TEXT),
            Probe("mysql_stmt_execute", "on_mysql_execute"),
            Probe("mysql_errno", "on_mysql_answered", "on_mysql_error"),
            Probe("mysql_stmt_errno", "on_mysql_answered", "on_mysql_error"),
            *(Probe(name, "on_mysql_answered", hits=name == "mysql_store_result") for name in _MYSQL_NEXT),
        ),
    ),
)

SQLITE_ERRORS = (
    *("", "ERROR", "INTERNAL", "PERM", "ABORT", "BUSY", "LOCKED", "NOMEM", "READONLY", "INTERRUPT", "IOERR"),
    *("CORRUPT", "NOTFOUND", "FULL", "CANTOPEN", "PROTOCOL", "EMPTY", "SCHEMA", "TOOBIG", "CONSTRAINT", "MISMATCH"),
    *("MISUSE", "NOLFS", "AUTH", "FORMAT", "RANGE", "NOTADB", "NOTICE", "WARNING"),
)
"""Names of the primary result codes, without SQLITE_ (sqlite.org/rescode.html)."""


def kinds_of(path: bytes) -> Iterator[Library]:
    """Yield the kind of library that a file of this name is."""
    name = path.removesuffix(b" (deleted)").rpartition(b"/")[2]
    for library in LIBRARIES:
        if library.files.match(name):
            yield library
