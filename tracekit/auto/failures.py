"""A hook that could not be put in place: the program goes on, the report says so."""

from __future__ import annotations

TYPE_CHECKING = False  # typing would add 20 ms to the start of every Python
if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST = 60
"""Characters of a label: two and their names must fit the 160 bytes that a counter has for labels."""


def guarded(hook: str, install: Callable[[], object]) -> None:
    """Call *install*; if it fails, count that as `app.tracekit.hook_failed{hook, why}` and go on."""
    try:
        install()
    except Exception as error:  # noqa: BLE001 - another's module, of any version: the program must go on
        count(hook, f"{type(error).__name__}: {error}")


def count(hook: str, why: str) -> None:
    """Count that *hook* is not in place."""
    try:
        from tracekit.probe import counter  # noqa: PLC0415 - as every hook does, when there is one

        counter("tracekit.hook_failed", hook=_short(hook), why=_short(why)).add(1)
    except Exception:  # noqa: BLE001, S110 - not even that: there is nobody left to tell
        pass


def _short(text: str) -> str:
    """Printable ASCII, of bounded length: what is wrong may quote the program's own text."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:_LONGEST]
