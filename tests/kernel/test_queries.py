"""Spans db.query are calls of a database, with all that the kernel saw of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kernel.spanned import record
from tracekit.records import WAITS, Series, labels_of

if TYPE_CHECKING:
    from tests.kernel.lab import Lab


def test_a_query_is_a_call_with_its_parts(lab: Lab) -> None:
    """Latency, waits and errors are those of its span; one that slept was not on a CPU."""
    run = record(
        lab,
        """
        import time
        query = Kind("db.query", system="mariadb")
        for number in range(13):
            try:
                with query():
                    time.sleep(0.02)
                    if number < 3: raise LookupError
            except LookupError: pass
        """,
    )

    labels = {"role": "python", "source": "probe", "system": "mysql"}
    call = Series("db.latency", labels_of(labels), "histogram", "ns")
    histograms, parts = run.recording.histograms("db.latency"), run.recording.parts(metric="db.latency")
    (span,) = run.recording.parts({"span": "db.query"}).values()
    assert histograms[call].count == 13
    assert int(parts[call].latency_ns.sum()) == histograms[call].total
    assert (parts[call].waits == span.waits).all()
    assert parts[call].waits[:, WAITS.index("poll")].sum() > 0.99 * 13 * 20_000_000
    assert run.counts("db.errors", "error", source="probe") == {("LookupError",): 3}
