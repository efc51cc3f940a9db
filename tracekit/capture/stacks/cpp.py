"""
Names of C++ functions, taken out of mangled ones; all else in them is only passed over.

Each function takes one production of the grammar.

Source:
    Itanium C++ ABI, section 5.1 (mangling).
"""

from __future__ import annotations

import re

from tracekit.capture.stacks.cursor import Cursor, NotUnderstoodError

_NUMBER = re.compile(r"\d+")
_SEQUENCE = re.compile(r"[0-9A-Z]*_")
_SIGNED = re.compile(r"n?\d+")
_STRUCTOR = re.compile(r"C[1-5]|CI[12]|D[01245]")
_NAMES = (
    "nw= new|na= new[]|dl= delete|da= delete[]|aw= co_await|ps=+|ng=-|ad=&|de=*|co=~|pl=+|mi=-|ml=*|dv=/|rm=%|an=&"
    "|eo=^|aS==|pL=+=|mI=-=|mL=*=|dV=/=|rM=%=|aN=&=|eO=^=|ls=<<|rs=>>|lS=<<=|rS=>>=|eq===|ne=!=|lt=<|gt=>|le=<="
    "|ge=>=|ss=<=>|nt=!|aa=&&|pp=++|mm=--|cm=,|pm=->*|pt=->|cl=()|ix=[]|qu=?"
)
_OPERATORS = dict(pair.split("=", 1) for pair in _NAMES.split("|")) | {"or": "|", "oR": "|=", "oo": "||"}
_STANDARD = "t=std|a=std::allocator|b=std::basic_string|s=std::string|i=std::istream|o=std::ostream|d=std::iostream"
_STD = dict(pair.split("=") for pair in _STANDARD.split("|"))
_UNARY = "ps ng ad de co nt pp mm sp at te sz az nx st ti tw aw dl da sZ sP"
_OF_TYPES = ("st", "at", "ti")
_BUILT_IN = "vwbcahstijlmxynofdegz"
_QUALIFIERS = "rVKPROCG"
_DIGITS = "0123456789"


def parts(text: str) -> list[str]:
    """
    Return the parts of the qualified name of a function.

    Raises:
        NotUnderstoodError: *text* is no mangled name.
    """
    it = Cursor(text)
    it.expect("_Z")
    return _encoding(it)


def _encoding(it: Cursor) -> list[str]:
    if it.takes("T"):  # a thunk
        if it.takes("c"):
            _offset(it)
        _offset(it)
    elif it.takes("GR") or it.takes("GV"):
        raise NotUnderstoodError
    return _name(it)


def _offset(it: Cursor) -> None:
    kind = it.next()
    for _ in range({"h": 1, "v": 2}.get(kind, 0)):
        it.match(_SIGNED)
        it.expect("_")
    if kind not in "hvWH":
        raise NotUnderstoodError


def _name(it: Cursor) -> list[str]:
    if it.takes("N"):
        return _nested(it)
    if it.takes("Z"):
        return _local(it)
    parts = [_std(it)] if it.peek("S") else []
    if parts in ([], ["std"]):
        parts += _unqualified(it, [])
    if it.peek("I"):
        _arguments(it)
    return parts


def _std(it: Cursor) -> str:
    it.expect("S")
    if it.text[it.at : it.at + 1] in _STD:
        return _STD[it.next()]
    it.match(_SEQUENCE)
    return "_"  # what came before is not remembered


def _nested(it: Cursor) -> list[str]:
    parts: list[str] = []
    while it.peek_any("rVKRO"):
        it.next()
    while not it.takes("E"):
        if it.peek("S"):
            parts.append(_std(it))
        elif it.peek("I"):
            _arguments(it)
        elif it.peek("T") or it.peek("Dt") or it.peek("DT"):
            _type(it, alone=True)
            parts.append("_")
        elif not it.takes("M"):
            parts += _unqualified(it, parts)
    return parts


def _local(it: Cursor) -> list[str]:
    it.enter()
    parts = _encoding(it)
    while not it.takes("E"):
        _type(it)
    if it.takes("s"):
        _discriminator(it)
    else:
        if it.takes("d"):
            it.match(_SEQUENCE)
        parts = parts + _name(it)
        _discriminator(it)
    it.leave()
    return parts


def _discriminator(it: Cursor) -> None:
    if it.takes("__"):
        it.match(_NUMBER)
        it.expect("_")
    elif it.takes("_"):
        it.next()


def _unqualified(it: Cursor, before: list[str]) -> list[str]:
    """Return one part of a name, as a list; what came before it is the name of a constructor."""
    it.takes("L")
    if it.peek_any(_DIGITS):
        part = _source(it)
    elif found := it.has(_STRUCTOR):
        if found[0][1] == "I":
            _type(it)
        part = "~" * (found[0][0] == "D") + (before[-1] if before else "_")
    elif it.takes("Ul"):
        part = _lambda(it)
    elif it.takes("Ut"):
        it.match(_SEQUENCE)
        part = "{unnamed}"
    else:
        part = _operator(it)
    while it.takes("B"):
        _source(it)
    return [part]


def _lambda(it: Cursor) -> str:
    while not it.takes("E"):
        _type(it)
    it.match(_SEQUENCE)
    return "{lambda}"


def _source(it: Cursor) -> str:
    size = int(it.match(_NUMBER)[0][:6])
    name = it.take(size)
    if not name:
        raise NotUnderstoodError
    return "(anonymous namespace)" if name.startswith("_GLOBAL__N") else name


def _operator(it: Cursor) -> str:
    code = it.next() + it.next()
    if code == "cv":
        _type(it)
        return "operator cast"
    if code == "li":
        return f'operator""{_source(it)}'
    if code not in _OPERATORS:
        raise NotUnderstoodError
    return f"operator{_OPERATORS[code]}"


def _arguments(it: Cursor) -> None:
    """Pass over the arguments of a template, `I...E` or a pack of them, `J...E`."""
    it.next()
    while not it.takes("E"):
        _argument(it)


def _argument(it: Cursor) -> None:
    it.enter()
    if it.peek_any("IJ"):
        _arguments(it)
    elif it.peek("L"):
        _literal(it)
    elif it.takes("X"):
        _expression(it)
        it.expect("E")
    else:
        _type(it)
    it.leave()


def _literal(it: Cursor) -> None:
    it.expect("L")
    if it.takes("_Z"):
        _encoding(it)
        while not it.peek("E"):
            _type(it)
    else:
        _type(it)
        while not it.peek("E"):
            it.next()
    it.expect("E")


def _type(it: Cursor, *, alone: bool = False) -> None:
    """Pass over a type, with the arguments of its template unless *alone*."""
    it.enter()
    while it.peek_any(_QUALIFIERS):
        it.next()
    if it.peek("T"):
        _parameter(it)
    elif it.peek_any("NZS" + _DIGITS):
        _name(it)
    else:
        _composed(it, it.next())
    if it.peek("I") and not alone:
        _arguments(it)
    it.leave()


def _composed(it: Cursor, head: str) -> None:
    if head == "u":
        _source(it)
    elif head == "F":
        _signature(it)
    elif head == "A":
        _array(it)
    elif head == "M":
        _type(it)
        _type(it)
    elif head == "U":
        _source(it)
        _type(it)
    elif head == "D":
        _special(it, it.next())
    elif head not in _BUILT_IN:
        raise NotUnderstoodError


def _array(it: Cursor) -> None:
    if not it.peek_any("_" + _DIGITS):
        _expression(it)
    while not it.takes("_"):
        it.next()
    _type(it)


def _signature(it: Cursor) -> None:
    it.takes("Y")
    while not (it.takes("E") or it.takes("RE") or it.takes("OE")):
        _type(it)


def _special(it: Cursor, kind: str) -> None:
    if kind in "pox":
        _type(it)
    elif kind in "tTO":
        _expression(it)
        it.expect("E")
        if kind == "O":
            _type(it)
    elif kind in "FB":
        it.match(_NUMBER)
        if not it.takes("_"):
            it.next()
    elif kind == "v":
        it.match(_NUMBER)
        it.expect("_")
        _type(it)
    elif kind not in "defhisuacn":
        raise NotUnderstoodError


def _parameter(it: Cursor) -> None:
    it.expect("T")
    if it.peek_any("sue"):
        it.next()
        _name(it)
    else:
        it.match(_SEQUENCE)


def _expression(it: Cursor) -> None:
    it.enter()
    it.takes("gs")
    if it.peek("L"):
        _literal(it)
    elif it.peek("T"):
        _parameter(it)
    elif it.peek_any(_DIGITS):
        _name(it)
    elif it.takes("fp") or it.takes("fL"):
        while it.peek_any("rVK") or it.peek_any(_DIGITS) or it.takes("p"):
            it.next()
        it.expect("_")
    else:
        _operation(it, it.next() + it.next())
    if it.peek("I"):
        _arguments(it)
    it.leave()


def _operation(it: Cursor, code: str) -> None:
    if code in ("cl", "il", "tl", "cv", "nw"):
        _list(it, code)
    elif code == "sr":
        _type(it)
        _unqualified(it, [])
    elif code in ("dt", "pt"):
        _expression(it)
        _unqualified(it, [])
    elif code in ("dc", "sc", "cc", "rc"):
        _type(it)
        _expression(it)
    elif code in _OF_TYPES:
        _type(it)
    elif code in _UNARY.split():
        it.takes("_")
        _expression(it)
    elif code == "on":
        _operator(it)
    elif code in _OPERATORS:
        for _ in range(3 if code == "qu" else 2):
            _expression(it)
    else:
        raise NotUnderstoodError


def _list(it: Cursor, code: str) -> None:
    if code in ("tl", "cv"):
        _type(it)
    if code == "cv" and not it.takes("_"):
        _expression(it)
        return
    while not it.takes("E"):
        _expression(it)
