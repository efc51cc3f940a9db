"""
Spans `db.query` with a label `system` are calls of a database that their program named: they are `db.*` too.

The series are made here, where spans become a recording, and not when one is read: what reads recordings is many
(queries of the file by hand among them), and a row more for each kind and interval is what it costs.
"""

from __future__ import annotations

from tracekit.records import Series, labels_of

QUERY = "db.query"
SOURCE = "probe"
_SYSTEMS = {
    "mariadb": "mysql",
    "postgres": "postgresql",
    "cockroachdb": "postgresql",
    "redshift": "postgresql",
    "valkey": "redis",
}
"""What programs (SQLAlchemy's dialects) call systems that speak the protocol of another, whose name sockets show."""


def call_of(series: Series) -> Series | None:
    """Return the `db.latency` or `db.errors` that *series* of spans is too; None if it is not of queries."""
    labels = dict(series.labels)
    if labels.pop("span", "") != QUERY or not labels.get("system"):
        return None
    labels |= {"source": SOURCE, "system": _SYSTEMS.get(labels["system"], labels["system"])}
    if series.metric == "span.errors":
        labels["error"] = labels.pop("type")
        return Series("db.errors", labels_of(labels), "counter", "count")
    return Series("db.latency", labels_of(labels), "histogram", "ns") if series.metric == "span.latency" else None
