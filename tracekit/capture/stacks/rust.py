"""
Names of Rust functions as people wrote them, without generic arguments, as mangled.py has those of C++.

Source:
    The rustc book, "v0 symbol format"; compiler/rustc_symbol_mangling/src/legacy.rs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracekit.capture.stacks.cursor import Cursor, NotUnderstoodError

if TYPE_CHECKING:
    from collections.abc import Callable

_HASH = re.compile(r"h[0-9a-f]{16}")
_ESCAPE = re.compile(r"\$(?:u([0-9a-f]{1,6})|([A-Z]{1,2}))\$|\.\.")
_ESCAPED = {"SP": "@", "BP": "*", "RF": "&", "LT": "<", "GT": ">", "LP": "(", "RP": ")", "C": ","}
_DISAMBIGUATOR = re.compile(r"s[0-9a-zA-Z]*_")
_BASE_62 = re.compile(r"[0-9a-zA-Z]*_")
_IDENTIFIER = re.compile(r"(?:s[0-9a-zA-Z]*_)?(u?)(0|[1-9]\d*_?)")
_TYPES = "i8 bool char f64 str f32 u8 isize usize i32 u32 i128 u128 _ i16 u16 () ... i64 u64 !"
_BASIC = dict(zip("abcdefhijlmnopstuvxyz", _TYPES.split(), strict=True))
_INNER = {"C": "{closure}", "S": "{shim}"}


def legacy(parts: list[str]) -> str:
    """Return the name with these parts as its compiler wrote them, "" if that was not Rust's."""
    if len(parts) < 2 or not _HASH.fullmatch(parts[-1]):
        return ""
    return "::".join(_ESCAPE.sub(_unescaped, part[part.startswith("_$") :]) for part in parts[:-1])


def _unescaped(found: re.Match[str]) -> str:
    if found[1]:
        code = int(found[1], 16)
        return chr(code) if code < 0x110000 and chr(code).isprintable() else found[0]
    return _ESCAPED.get(found[2], found[0]) if found[2] else "::"


def plain(text: str) -> str:
    """
    Return the name that `_R...` stands for.

    Raises:
        NotUnderstoodError: *text* is none.
    """
    it = Cursor(text)
    it.expect("_R")
    return _path(it)


def _path(it: Cursor) -> str:
    """Return the name of what a path leads to."""
    it.enter()
    kind = it.next()
    if kind == "C":
        text = _identifier(it)
    elif kind == "N":
        space = it.next()
        text = _joined(_path(it), _INNER.get(space, ""), _identifier(it))
    elif kind == "I":
        text = _path(it)
        while not it.takes("E"):
            _argument(it)
    elif kind == "B":
        text = _again(it, _path)
    else:
        text = _implementation(it, kind)
    it.leave()
    return text


def _implementation(it: Cursor, kind: str) -> str:
    """Return what belongs to a type: `<Vec>`, `<Vec as Clone>`."""
    if kind not in "MXY":
        raise NotUnderstoodError
    if kind != "Y":  # where it is written
        it.has(_DISAMBIGUATOR)
        _path(it)
    text = _type(it)
    return f"<{text}>" if kind == "M" else f"<{text} as {_path(it)}>"


def _identifier(it: Cursor) -> str:
    found = it.match(_IDENTIFIER)
    size = int(found[2].rstrip("_")[:6])
    name = it.take(size)
    return f"punycode{{{name}}}" if found[1] and name else name


def _argument(it: Cursor) -> None:
    if it.takes("L"):
        it.match(_BASE_62)
    elif it.takes("K"):
        _constant(it)
    else:
        _type(it)


def _constant(it: Cursor) -> None:
    if it.takes("p"):
        return
    if it.takes("B"):
        it.match(_BASE_62)
        return
    it.next()
    while it.next() != "_":
        pass


def _type(it: Cursor) -> str:
    it.enter()
    kind = it.next()
    if kind in _BASIC:
        text = _BASIC[kind]
    elif kind in "CMXYNI":
        it.at -= 1
        text = _path(it)
    else:
        text = _composed(it, kind)
    it.leave()
    return text


def _composed(it: Cursor, kind: str) -> str:
    if kind in "PO":
        return f"*{'const' if kind == 'P' else 'mut'} {_type(it)}"
    if kind == "B":
        return _again(it, _type)
    read = _COMPOSED.get(kind)
    if read is None:
        raise NotUnderstoodError
    return read(it, kind)


def _reference(it: Cursor, kind: str) -> str:
    if it.takes("L"):
        it.match(_BASE_62)
    return f"&{'mut ' if kind == 'Q' else ''}{_type(it)}"


def _sequence(it: Cursor, kind: str) -> str:
    text = _type(it)
    if kind == "A":
        _constant(it)
    return f"[{text}; _]" if kind == "A" else f"[{text}]"


def _tuple(it: Cursor, _: str) -> str:
    parts = []
    while not it.takes("E"):
        parts.append(_type(it))
    return f"({', '.join(parts)})"


def _dynamic(it: Cursor, _: str) -> str:
    _binder(it)
    traits = []
    while not it.takes("E"):
        traits.append(_path(it))
        while it.takes("p"):
            _identifier(it)
            _type(it)
    it.expect("L")
    it.match(_BASE_62)
    return f"dyn {' + '.join(traits)}"


def _signature(it: Cursor, _: str) -> str:
    _binder(it)
    it.takes("U")
    if it.takes("K") and not it.takes("C"):
        _identifier(it)
    while not it.takes("E"):
        _type(it)
    _type(it)
    return "fn"


def _binder(it: Cursor) -> None:
    if it.takes("G"):
        it.match(_BASE_62)


def _again(it: Cursor, what: Callable[[Cursor], str]) -> str:
    """Read what stands at an earlier place of the name; it may do so itself, which enter() bounds."""
    digits = it.match(_BASE_62)[0][:-1]
    place = 2 + (_number(digits) + 1 if digits else 0)
    if place >= it.at:
        raise NotUnderstoodError
    back, it.at = it.at, place
    text = what(it)
    it.at = back
    return text


def _joined(path: str, kind: str, name: str) -> str:
    part = f"{kind[:-1]}:{name}}}" if kind and name else kind or name
    return f"{path}::{part}" if part else path


def _number(digits: str) -> int:
    number = 0
    for digit in digits[:8]:
        number = number * 62 + _DIGITS.index(digit)
    return number


_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_COMPOSED = {
    **dict.fromkeys("RQ", _reference),
    **dict.fromkeys("AS", _sequence),
    "T": _tuple,
    "D": _dynamic,
    "F": _signature,
}
