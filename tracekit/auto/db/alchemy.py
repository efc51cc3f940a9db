"""
SQLAlchemy by its events: one span per cursor execution, for the drivers that have no hook of their own too.

before_cursor_execute opens the span and keeps it on the ExecutionContext; after_cursor_execute or
handle_error ends it. A driver's own hook stays silent in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import event
from sqlalchemy.engine import Engine

from tracekit.auto import db
from tracekit.auto.outermost import ENDED, QUERIES
from tracekit.probe import Kind

if TYPE_CHECKING:
    from tracekit.auto.outermost import Call

_KEPT = "_tracekit_query"
_KINDS: dict[str, Kind] = {}


class _Query(NamedTuple):
    span: Any
    call: Call


def listen() -> None:
    """Hear of all engines."""
    event.listen(Engine, "before_cursor_execute", _before)
    event.listen(Engine, "after_cursor_execute", _after)
    event.listen(Engine, "handle_error", _failed)


def _before(conn: Any, _cursor: Any, _statement: Any, _parameters: Any, context: Any, _executemany: Any) -> None:
    if context is None or QUERIES.inside():
        return
    system = conn.dialect.name
    kind = _KINDS.get(system) or _KINDS.setdefault(system, Kind(db.SPAN, system=system))
    query = _Query(kind(), QUERIES.begin())
    setattr(context, _KEPT, query)
    query.span.__enter__()


def _after(_conn: Any, _cursor: Any, _statement: Any, _parameters: Any, context: Any, _executemany: Any) -> None:
    _end(context, None)


def _failed(failure: Any) -> None:
    _end(failure.execution_context, failure.original_exception)


def _end(context: Any, error: BaseException | None) -> None:
    query = getattr(context, _KEPT, None)
    if query is None:
        return
    delattr(context, _KEPT)
    query.call[0] = ENDED
    query.span.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
