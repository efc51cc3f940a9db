"""What the numbers in a row of DB calls are called: the labels of docs/metrics.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekit.capture import wire
from tracekit.capture.db.peers import peer_text
from tracekit.capture.readings import comm_text

if TYPE_CHECKING:
    import mmap

    from tracekit.capture.readings import Key

OTHER = "<other>"
"""A word or a peer that found no room."""


class Words:
    """
    Small ids to words, each decoded once.

    Args:
        peers: struct peer[MAX_PEERS], read while the kernel adds to it.
        names: char[DB_NAME_LEN][MAX_DB_NAMES]: operations, and errors.
    """

    def __init__(self, peers: mmap.mmap | bytes, names: mmap.mmap | bytes) -> None:
        self._peers = peers
        self._names = names
        self._known_peers = {0: OTHER}
        self._known_names = {0: OTHER}

    def labels(self, key: Key) -> dict[str, str]:
        """Return the labels of a row, without role and span; none of one that took what found no room."""
        if not key.reason:
            return {}
        found = self.about(key.reason, key.thread)
        found |= {"operation": self.name(key.nr), "source": source_of(key.reason)}
        if key.reason & wire.DB_TLS:
            found["tls"] = "yes"
        if key.kind == wire.A_DB_ERROR:
            found["error"] = self.name(key.err)
        return found

    def about(self, about: int, peer: int) -> dict[str, str]:
        """Return what DB is called, and where: the labels `system` and `peer` as far as they are known."""
        found = {"system": system_of(about), "peer": self._peer(peer)}
        return {name: word for name, word in found.items() if word}

    def _peer(self, number: int) -> str:
        if number >= wire.MAX_PEERS:
            return OTHER
        if number not in self._known_peers:
            at = number * wire.PEER.size
            self._known_peers[number] = peer_text(self._peers[at : at + wire.PEER.size])
        return self._known_peers[number]

    def name(self, number: int) -> str:
        """Return the word of an operation or an error."""
        if number >= wire.MAX_DB_NAMES:
            return OTHER
        if number not in self._known_names:
            at = number * wire.DB_NAME_LEN
            self._known_names[number] = comm_text(self._names[at : at + wire.DB_NAME_LEN])
        return self._known_names[number]


def system_of(about: int) -> str:
    """Return the system in the `reason` of a row, "" if it is none that is known."""
    system = about & wire.DB_SYSTEM
    return wire.DB_SYSTEMS[system] if system < len(wire.DB_SYSTEMS) else ""


def source_of(about: int) -> str:
    """Return where the call was seen: in the client's library, or at its socket."""
    return "library" if about & wire.DB_LIBRARY else "socket"
