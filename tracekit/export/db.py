"""Calls of databases as JSON: integers in ns, null where nothing was measured."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tracekit.analysis import db
from tracekit.export import shapes

if TYPE_CHECKING:
    from tracekit.analysis.db import Calls, Database
    from tracekit.analysis.summary import Summary
    from tracekit.export.shapes import Document


def document(summary: Summary) -> Document:
    """Return what there is to say of databases; each call is in *summary* `once`."""
    found = db.of(summary)
    return {
        "databases": [_database(summary, one) for one in found.found],
        "databases_in_flight": [
            {**dataclasses.asdict(flight), "operation": flight.operation or None} for flight in found.flights
        ],
        "databases_not_answered": [dataclasses.asdict(calls) for calls in summary.open_calls],
        "databases_also_seen": [
            {"system": system, "source": source, "calls": count} for system, source, count in found.others
        ],
        "statements": [
            {"system": system, "statement": text, **shapes.numbers(part)} for system, text, part in found.statements
        ],
    }


def _database(summary: Summary, one: Database) -> Document:
    return {
        "system": one.system,
        "peer": one.peer or None,
        "source": one.source,
        **_calls(summary, one.calls),
        "encrypted": one.encrypted,
        "connections": dataclasses.asdict(one.connections) if one.connections else None,
        "operations": [
            {"name": name, "exists_to_wait": waits, **_calls(summary, calls)}
            for waits, named in ((False, one.operations), (True, one.waits))
            for name, calls in named
        ],
        "spans": [{"name": name, **_calls(summary, calls)} for name, calls in one.spans],
    }


def _calls(summary: Summary, found: Calls) -> Document:
    return {
        "calls": found.tried,
        "rate": summary.rate(found.tried),
        "unanswered": found.unanswered,
        "waits": found.waits.count,
        **shapes.numbers(found.latency),
        "errors": dict(found.errors),
        **shapes.anatomy(found.anatomy),
    }
