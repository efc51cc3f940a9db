"""Signals that end a recording."""

from __future__ import annotations

import signal
import socket

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """The first SIGINT, SIGTERM or SIGHUP ends the recording; it never cuts anything short."""

    def __init__(self) -> None:
        self.received = False
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._before_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._note) for number in _ENDING}

    @property
    def descriptor(self) -> int:
        """Turns readable when a signal has come."""
        return self._reader.fileno()

    def _note(self, _number: int, _frame: object) -> None:
        self.received = True

    def close(self) -> None:
        """Put everything back."""
        signal.set_wakeup_fd(self._before_fd)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._reader.close()
        self._writer.close()
