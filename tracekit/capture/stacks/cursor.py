"""A place in a mangled name, which its readers move on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re

_MOST_DEPTH, _MOST_STEPS = 64, 2048


class NotUnderstoodError(Exception):
    """The name is not by the rules, by some that are not known here, or larger than any that a compiler made."""


class Cursor:
    """A text, and the place of the next character; all methods raise NotUnderstoodError where it ends too early."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self._depth = self._steps = 0

    def next(self) -> str:
        """Return the next character and move on."""
        if self.at >= len(self.text):
            raise NotUnderstoodError
        self.at += 1
        return self.text[self.at - 1]

    def peek(self, text: str) -> bool:
        """Tell whether *text* is next."""
        return self.text.startswith(text, self.at)

    def peek_any(self, characters: str) -> bool:
        """Tell whether one of *characters* is next."""
        return self.at < len(self.text) and self.text[self.at] in characters

    def takes(self, text: str) -> bool:
        """Move on behind *text* if it is next, and tell whether it was."""
        if not self.peek(text):
            return False
        self.at += len(text)
        return True

    def expect(self, text: str) -> None:
        """Move on behind *text*."""
        if not self.takes(text):
            raise NotUnderstoodError

    def match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Move on behind what *pattern* matches here, and return it."""
        found = self.has(pattern)
        if not found:
            raise NotUnderstoodError
        return found

    def has(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Move on behind what *pattern* matches here, if it does, and return it."""
        found = pattern.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return found

    def take(self, size: int) -> str:
        """Return the next *size* characters and move on."""
        if self.at + size > len(self.text):
            raise NotUnderstoodError
        self.at += size
        return self.text[self.at - size : self.at]

    def enter(self) -> None:
        """Count one more production inside of another; leave() ends it."""
        self._depth += 1
        self._steps += 1
        if self._depth > _MOST_DEPTH or self._steps > _MOST_STEPS:
            raise NotUnderstoodError

    def leave(self) -> None:
        """End what enter() began."""
        self._depth -= 1
