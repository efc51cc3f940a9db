"""What the text of a frame says: function, file and line, library. Other formats have fields for these."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from tracekit.units import printable

KERNEL = "[kernel]"
"""What stands for the library of kernel frames, which end in `_[k]`."""

_SOURCE = re.compile(r"(?P<name>.+?) \((?P<file>.+\.pyx?|<frozen .+>)(?::(?P<line>[0-9]{1,9}))?\)", re.DOTALL)
_LINE = re.compile(r"(?P<name>.+) \((?P<file>[^()]*[^()\s:]):(?P<line>[0-9]{1,9})\)", re.DOTALL)
_LIBRARY = re.compile(r"(?P<name>.+) \((?P<library>\[[\w.-]+\]|[\w.+@-]+)\)", re.DOTALL)


class Frame(NamedTuple):
    """A frame in parts; "" and 0 where the text does not say."""

    name: str
    file: str = ""
    line: int = 0
    library: str = ""


@lru_cache(maxsize=50_000)  # a program has few names and many stacks
def parse(text: str) -> Frame:
    """
    Read `qualname (file:line)`, `symbol (library)` and `symbol_[k]`; any other text is a name.

    Control codes become text: pprof prints names as they are, and Perfetto ends them at a NUL.
    """
    text = printable(text)
    if text.endswith("_[k]"):
        return Frame(text, library=KERNEL)
    if source := _SOURCE.fullmatch(text) or _LINE.fullmatch(text):
        return Frame(source["name"], source["file"], int(source["line"] or 0))
    if native := _LIBRARY.fullmatch(text):
        known = not native["name"].startswith("+0x")  # an address means something only beside its library
        return Frame(native["name"] if known else text, library=native["library"])
    return Frame(text)
