"""No literal of a statement is in what is kept of it, wherever the text was cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tracekit.capture.db import sql

SECRET = "S3cr3t"
WORDS = ("SELECT", "FROM", "t1", "WHERE", "a_b", "IN", "e", "E", "x", "N", "U&", "_utf8", "date", "ünïcode", "VALUES")
SIGNS = ("(", ")", ",", "=", "<>", "||", "->>", "::", "-", "+", "*", "/", ".", ";", "@", ":", "&", "~", "?")
SPACES = ("", " ", "\n", "\t ")
SYSTEMS = ("postgresql", "mysql")

inside = st.text(st.sampled_from('ab \n\t,;()%_é…#-/*$1"`'), max_size=8).map(lambda text: text + SECRET + text)
numbers = st.sampled_from(["7", "7.5", ".5e-3", "0x", "1_", "9"]).map(lambda digits: f" {digits}123456789")


def plain(*prefixes: str) -> st.SearchStrategy[str]:
    """Return literals in which a backslash is one."""
    body = st.lists(inside | st.sampled_from(["''", "\\n", "C:\\x"]), min_size=1, max_size=4).map("".join)
    return st.tuples(st.sampled_from(prefixes), body).map(lambda pair: f"{pair[0]}'{pair[1]}'")


def escaped(prefix: str, quote: str) -> st.SearchStrategy[str]:
    """Return literals in which a backslash escapes."""
    others = inside.map(lambda text: text.replace(quote, ""))
    body = st.lists(others | st.sampled_from([quote * 2, f"\\{quote}", "\\\\", "\\n"]), min_size=1, max_size=5)
    return body.map(lambda parts: f"{prefix}{quote}{''.join(parts)}{quote}")


def dollars() -> st.SearchStrategy[str]:
    """Return literals between tags, with tags and quotes in them that are not theirs."""
    tags = st.sampled_from(["", "a", "tag_1", "é"])
    body = inside.map(lambda text: text.replace("$", "") + "' $1 $b$ ")
    return st.tuples(tags, body).map(lambda pair: f" ${pair[0]}${pair[1]}${pair[0]}$")


LITERALS = {
    "postgresql": plain("", "B", "x", "N", "U&", "u&") | escaped("E", "'") | escaped("e", "'") | dollars() | numbers,
    "mysql": escaped("", "'") | escaped("", '"') | escaped("N", "'") | escaped("_utf8mb4", "'") | numbers,
}
NAMES = {"postgresql": ('"a ""b\'"',), "mysql": ("`a``b'\"`",)}
COMMENTS = {
    "postgresql": (f"/* '{SECRET} */", f"-- '{SECRET}\n", f"/* /* {SECRET} */ {SECRET} */"),
    "mysql": (f"/* '{SECRET} */", f"-- '{SECRET}\n", f"# '{SECRET}\n", f"/*! '{SECRET} */ {SECRET}' */"),
}


@st.composite
def statements(draw: st.DrawFn) -> tuple[str, str]:
    """A system, and a text in which the secret is only where literals and comments are."""
    system = draw(st.sampled_from(SYSTEMS))
    kept = st.sampled_from((*WORDS, *NAMES[system])) | st.sampled_from(SIGNS)
    gone = LITERALS[system] | st.sampled_from(COMMENTS[system])
    tokens = draw(st.lists(st.tuples(kept, st.sampled_from(SPACES), gone, st.sampled_from(SPACES[1:])), max_size=8))
    return system, "".join("".join(token) for token in tokens)


def shows_a_secret(bare: str) -> bool:
    """Tell whether a piece of a literal is there, too long to be by chance."""
    return any(piece in bare for piece in (SECRET, "S3c", "r3t", "123", "789"))


@given(statements(), st.booleans())
def test_no_literal_survives(statement: tuple[str, str], cut: bool) -> None:
    """Strings in all their forms, numbers, and what comments hold."""
    system, text = statement

    assert not shows_a_secret(sql.normalise(text, system, cut=cut))


@given(statements(), st.integers(0, 400))
def test_no_literal_survives_a_cut(statement: tuple[str, str], length: int) -> None:
    """Only so many bytes are ever seen of a statement: any of them may be the last."""
    system, text = statement

    bare = sql.normalise(text[:length], system, cut=True)

    assert not shows_a_secret(bare)
    assert bare.endswith(sql.CUT)


@given(st.sampled_from(SYSTEMS), st.text(st.sampled_from("'\"`$\\/*-#[] \nEeUx&aé1.,()?…;"), max_size=99))
def test_any_text_can_be_read(system: str, text: str) -> None:
    """Nothing raises, and a number never survives."""
    bare = sql.normalise(text, system)

    assert bare == bare.strip()
    assert bare.count("\n") <= sum(bare.count(quote) for quote in '"`[')
