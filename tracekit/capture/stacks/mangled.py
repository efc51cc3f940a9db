"""
Names as people wrote them, of functions that compilers named.

Only the qualified name is told: `std::vector::push_back`, without arguments of templates and of functions, which
are longer than the rest and say little in a stack. They are only passed over, so the time is in proportion to the
length, whatever the name; a whole demangler can be made to print more than there is memory. A name that is not
understood stays as it is.
"""

from __future__ import annotations

import re

from tracekit.capture.stacks import cpp, rust
from tracekit.capture.stacks.cursor import NotUnderstoodError

_MOST_NAME = 2048
_COLD = re.compile(r"\.cold(\.\d+)?$")


def plain(name: bytes) -> str:
    """
    Return the name of a function from a table of symbols as people wrote it; what is no text as escapes.

    A compiler's clones have the name of the function; its seldom executed half is one with `.cold`.
    """
    text = name.decode(errors="backslashreplace")
    if not text.startswith(("_Z", "_R")) or len(text) > _MOST_NAME:
        return text
    try:
        found = rust.plain(text) if text.startswith("_R") else _of_parts(cpp.parts(text))
    except NotUnderstoodError:
        return text
    return found + ".cold" * bool(_COLD.search(text))


def _of_parts(parts: list[str]) -> str:
    return rust.legacy(parts) or "::".join(parts)
