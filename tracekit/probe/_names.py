"""Names and labels as they stand on the board, for the probe in Python."""

from __future__ import annotations

from tracekit.probe._layout import NAME_BYTES, TYPE_BYTES

TYPE_CHECKING = False  # typing itself would be half of the import
if TYPE_CHECKING:
    from collections.abc import Mapping

RESERVED = frozenset({"role", "span", "type", "errno", "syscall", "reason", "kind", "thread", "cpu", "source"})
FIRST = frozenset("abcdefghijklmnopqrstuvwxyz_")
LATER = FIRST | frozenset("0123456789.")


def check_text(text: object, what: str) -> None:
    """Raise TypeError if *text* is no str."""
    if not isinstance(text, str):
        raise TypeError(f"{what} must be str, not {type(text).__name__}")


def utf8(text: str) -> bytes:
    """Return the UTF-8 of any text: lone surrogates are written as escapes."""
    return str.encode(text, "utf-8", "backslashreplace")


def _label(name: str, value: str) -> bytes:
    if not name or name[0] not in FIRST or not LATER.issuperset(name):
        raise ValueError(f"{name!r} is no name for a label: [a-z_][a-z0-9_.]*")
    if name in RESERVED:
        raise ValueError(f"the label {name!r} is taken by tracekit itself")
    check_text(value, "the value of a label")
    text = utf8(value)
    if b"\n" in text or b"\0" in text:
        raise ValueError(f"the value of the label {name!r} has a newline or a NUL")
    return name.encode() + b"=" + text + b"\n"


def key_of(name: str, labels: Mapping[str, str], room: int) -> tuple[bytes, bytes] | None:
    """
    Return name and labels as bytes, None if they do not fit.

    That is: the name is empty, too long, or has a NUL, or the labels take *room* bytes or more.

    Raises:
        ValueError: a label is invalid.
        TypeError: name or value are no str.
    """
    check_text(name, "a name")
    text = b"".join(_label(label, labels[label]) for label in sorted(labels))
    key = utf8(name)
    if not key or len(key) >= NAME_BYTES or b"\0" in key or len(text) >= room:
        return None
    return key, text


def kind_id(name: bytes, labels: bytes) -> int:
    """Return the id of a kind of span: the same in every process."""
    try:
        from _blake2 import blake2b  # noqa: PLC0415 - hashlib would load OpenSSL
    except ImportError:
        from hashlib import blake2b  # noqa: PLC0415
    return int.from_bytes(blake2b(name + b"\0" + labels, digest_size=8).digest(), "little")


def type_name(kind: type[BaseException]) -> bytes:
    """Return the name of a type of exception, cut to what fits between two characters."""
    return utf8(kind.__name__)[: TYPE_BYTES - 1].decode("utf-8", "ignore").encode()
