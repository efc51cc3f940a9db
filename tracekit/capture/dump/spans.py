"""The spans that threads are in at this moment, for programs that use tracekit.span."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from tracekit.capture.probes import Boards
from tracekit.capture.probes.current import kind_of

if TYPE_CHECKING:
    from collections.abc import Collection


class OpenSpans:
    """The open spans of processes; closed, it lets go of their memory."""

    def __init__(self, tgids: Collection[int]) -> None:
        self._boards = Boards(lambda _: "", time.monotonic_ns())
        self._boards.scan(tgids)
        self._boards.learn()
        self._facts = {facts.tgid: facts for facts in self._boards.opened()}

    def name(self, tgid: int, pointer: int) -> str:
        """Return what the innermost span of a thread is called, by its thread pointer; "": none, or not known."""
        facts = self._facts.get(tgid)
        if not facts or not pointer:
            return ""
        with contextlib.suppress(OSError):
            kind = self._boards.kinds.get(kind_of(facts, pointer))
            return kind.name if kind else ""
        return ""

    def close(self) -> None:
        """Let go."""
        self._boards.close()
