"""What the rows of a board are about: texts that a traced program chose."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture.probes import layout
from tracekit.capture.readings import comm_text

if TYPE_CHECKING:
    from tracekit.records import Labels

OTHER = "<other>"
"""What found no room."""
RESERVED = frozenset({"role", "span", "type", "errno", "syscall", "reason", "kind", "thread", "cpu", "source"})
"""Label names that are ours."""
_LABEL = re.compile(r"[a-z_][a-z0-9_.]*")


class Kind(NamedTuple):
    """struct probe_kind, found true."""

    id: int
    name: str
    labels: Labels


class Error(NamedTuple):
    """The words of struct probe_error."""

    kind: Kind
    type: str


class Value(NamedTuple):
    """The words of struct probe_value."""

    type: int
    name: str
    labels: Labels


def kind_of(raw: bytes) -> Kind | None:
    """Return struct probe_kind, None if its id is not that of its text or its labels make no sense."""
    ident, name, labels = layout.KIND.unpack(raw)
    name, labels = name.split(b"\0", 1)[0], labels.split(b"\0", 1)[0]
    pairs = labels_of(labels)
    if not name or pairs is None or ident != kind_id(name, labels):
        return None
    return Kind(ident, comm_text(name), pairs)


def kind_id(name: bytes, labels: bytes) -> int:
    """Return the id of a kind."""
    from hashlib import blake2b  # noqa: PLC0415 - 15 ms, for those who have spans

    return int.from_bytes(blake2b(name + b"\0" + labels, digest_size=8).digest(), "little")


def error_of(raw: bytes, kinds: list[Kind | None]) -> Error | None:
    """Return the words of struct probe_error, None if its kind is not known."""
    _, row, name = layout.ERROR.unpack(raw)
    kind = kinds[row] if row < len(kinds) else None
    return Error(kind, comm_text(name) or OTHER) if kind else None


def value_of(raw: bytes) -> Value | None:
    """Return the words of struct probe_value, None if they make no sense."""
    _, _, _, what, _, name, labels = layout.VALUE.unpack(raw)
    pairs = labels_of(labels)
    text = comm_text(name)
    if not text or pairs is None or what not in (layout.COUNTER, layout.GAUGE, layout.MARK):
        return None
    return Value(what, text, pairs)


def labels_of(raw: bytes) -> Labels | None:
    """Return the pairs in `name=value` lines; None if they are not in order, or claim a name that is ours."""
    text = comm_text(raw)
    if not text:
        return ()
    pairs = tuple(_pair(line) for line in text.removesuffix("\n").split("\n"))
    names = [name for name, _ in pairs]
    if not text.endswith("\n") or names != sorted(set(names)) or not all(map(_is_free, names)):
        return None
    return pairs


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition("=")
    return name, value


def _is_free(name: str) -> bool:
    return bool(_LABEL.fullmatch(name)) and name not in RESERVED


OTHER_KIND = Kind(0x8FCE8EA6CAE978E1, OTHER, ())
"""Row 0 of every board: the spans of kinds that found no room."""
