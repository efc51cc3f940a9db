"""Calls of databases: what the kernel's rows of them are called, connections as they are now, and statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekit.capture import wire
from tracekit.capture.bpf.memory import map_array
from tracekit.capture.bpf.ring import Ring
from tracekit.capture.db.connections import Connections, reader
from tracekit.capture.db.statements import Statements
from tracekit.capture.db.words import Words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tracekit.capture.batch import Batch
    from tracekit.capture.options import Options
    from tracekit.capture.readings import Key


class Databases:
    """
    The databases that the target calls.

    Args:
        maps: descriptors of `connections`, `peers`, `db_names`, `db_texts`; they stay the caller's.
        options: whether texts are wanted.
        role: id of a process's name → role.
    """

    def __init__(self, maps: Mapping[str, int], options: Options, role: Callable[[int], str]) -> None:
        peers = map_array(maps["peers"], wire.PEER.size * wire.MAX_PEERS)
        names = map_array(maps["db_names"], wire.DB_NAME_LEN * wire.MAX_DB_NAMES)
        self._words = Words(peers, names)
        self._connections = Connections(reader(maps["connections"]), self._words, role)
        self._texts = Ring(maps["db_texts"], wire.DB_TEXTS_BYTES) if options.db_text else None
        self._statements = Statements(self._words, role)

    def labels(self, key: Key) -> dict[str, str]:
        """Return what a row is about, without role and span; nothing of one that took what found no room."""
        return self._words.labels(key)

    def drain(self) -> None:
        """Take the texts that have come."""
        if self._texts:
            self._statements.take(self._texts.drain())

    def collect(self, batch: Batch, now_ns: int) -> None:
        """Gather what there is now, and what the last interval added; rows of calls come with those of the kernel."""
        self.drain()
        for series, value in self._connections.gauges(now_ns).items():
            batch.value(series, value)
        for series, slots in self._statements.increase():
            batch.histogram(series, slots)

    def whole(self, batch: Batch) -> None:
        """Gather the histograms of statements since the recording began, as of the last `collect`."""
        for series, slots in self._statements.whole():
            batch.histogram(series, slots)

    def under_way(self, now_ns: int) -> list[dict[str, str | int]]:
        """Return the calls that wait for an answer, the oldest first (`Connections.under_way`)."""
        return self._connections.under_way(now_ns)
