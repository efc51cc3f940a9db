"""
What a statement asks, without what it asks for: SQL with every literal replaced by `?`.

A scanner of tokens, not a parser. Where two servers, or two settings of one, would not agree where
a literal ends, it does not guess: the rest of the text is dropped, and `…` stands for it. One setting
is believed to be the default, as nearly every client escapes by it: MySQL's NO_BACKSLASH_ESCAPES is off.

Sources:
    PostgreSQL's scanner (src/backend/parser/scan.l): dollar quotes, E'', nested comments, `$1`.
    MySQL's (sql/sql_lex.cc): backslashes, "" strings, `#` and `-- ` comments, /*! code */.
"""

from __future__ import annotations

import re

CUT = "…"
"""Ends a statement whose end is not known, or not safe to show."""

_COMMENT = r"/\*(?!M?!)(?:(?!/\*|\*/).)*\*/"
"""One without another inside, on which servers differ, and none of MySQL's that hold code: those are cut."""
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\w*"
_WORD = r"[^\W\d][\w$]*"


def _quoted(quote: str, backslash: str = "") -> str:
    """Return a pattern of what is between two of *quote*, which stands for itself when doubled."""
    plain, special = f"[^{quote}]*", f"{quote}{quote}"
    if backslash:
        plain, special = rf"[^{quote}\\]*", f"(?:{special}|{backslash})"
    return f"{quote}{plain}(?:{special}{plain})*{quote}(?!{quote})"


def _pattern(comment: str, literal: str, name: str, cut: str) -> re.Pattern[str]:
    """Return a pattern of tokens; its groups say what becomes of each, the first that matches. Operators are none."""
    tokens = (
        rf"(?P<space>(?:\s|{_COMMENT}|{comment})+)",
        rf"(?P<literal>{literal}|{_NUMBER})",
        rf"(?P<name>{_WORD}|{name})",
        rf"(?P<cut>(?:{cut}).*)",
        r"(?P<comment>/\*.*)",
    )
    return re.compile("|".join(tokens), re.DOTALL)


_UNSURE = r"\\[^']"
"""A backslash is one, or escapes, by a setting of the server: before a quote it has two readings."""
_ESCAPES = r"\\."

_TOKENS = {
    "postgresql": _pattern(
        comment=r"--[^\r\n]*",
        literal="|".join(
            (
                "[eE]" + _quoted("'", _ESCAPES),
                "(?:[bBnNxX]|[uU]&)?" + _quoted("'", _UNSURE),
                r"\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$",
                r"\$\d+",
            )
        ),
        name=_quoted('"'),
        cut=r"""['"]|\$(?:[^\W\d]\w*)?(?:\$|\Z)""",
    ),
    "mysql": _pattern(
        comment=r"--(?=[\s\x00-\x1f]|\Z)[^\r\n]*|\#[^\r\n]*",
        literal="|".join(("[bBnNxX]?" + _quoted("'", _ESCAPES), _quoted('"', _ESCAPES))),
        name=_quoted("`"),
        cut="""['"`]""",
    ),
}
SYSTEMS = frozenset(_TOKENS)
"""Those that are asked in SQL."""
_BECOMES = {"space": " ", "literal": "?", "cut": f"?{CUT}", "comment": CUT}

_TAIL = re.compile(rf"[\s,;(]*{CUT}$")
_SIGN = re.compile(r"([(\[,=<>] ?)[-+] ?(?=\?)")
_ADJACENT = re.compile(r"\?(?: \?)+")
_LIST = re.compile(r"([(\[]) ?\?(?: ?, ?\?)+ ?(?=[)\]])")
_CUT_LIST = re.compile(rf"\?(?: ?, ?\?)+(?={CUT})")
_ROWS = re.compile(rf"(\( ?\? ?\))(?: ?, ?\( ?\? ?\))*( ?, ?\( ?\??{CUT})?")


def normalise(text: str, system: str, *, cut: bool = False) -> str:
    """
    Return *text* of a statement on one line, its literals as `?`, comments gone, lists of literals as one `?`.

    Args:
        text: as it was sent, or its beginning.
        system: `postgresql` or `mysql`: how it quotes.
        cut: the text goes on, and its end is not here.
    """
    bare = _TOKENS[system].sub(_replacement, text).strip(" ;")
    if cut and not bare.endswith(CUT):
        bare += CUT
    bare = _TAIL.sub(CUT, bare)
    bare = _ADJACENT.sub("?", _SIGN.sub(r"\1", bare))
    bare = _CUT_LIST.sub("?", _LIST.sub(r"\1?", bare))
    return _ROWS.sub(_one_row, bare)


def _replacement(token: re.Match[str]) -> str:
    return _BECOMES.get(token.lastgroup or "", token.group())


def _one_row(rows: re.Match[str]) -> str:
    return rows[1] + (CUT if rows[2] else "")
