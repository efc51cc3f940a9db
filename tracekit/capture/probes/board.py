"""One board: what was added to it since the last look."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture.probes import layout, rows
from tracekit.capture.probes.latency import AbsurdError, Gain, Latency
from tracekit.capture.probes.opening import header_of
from tracekit.capture.probes.tables import Errors, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tracekit.capture.probes.opening import Opened


_MOST_LOST = 1 << 48


class Gains(NamedTuple):
    """What one board gained."""

    latencies: list[tuple[rows.Kind, Gain]]
    errors: list[tuple[rows.Error, int]]
    counters: list[tuple[rows.Value, float]]
    """Marks are among them."""


class Board:
    """
    The memory of one process. A row that makes no sense, or a number that cannot be, ends that row.

    Args:
        opened: where it is.
        accept: tells of a kind whether its id stands for no other text.
        counts_all: False if what is there already is older than the recording.
    """

    def __init__(self, tgid: int, opened: Opened, accept: Callable[[rows.Kind], bool], *, counts_all: bool) -> None:
        self.tgid = tgid
        self.opened = opened
        self.role = ""
        """As it was last known."""
        self._accept = accept
        self._kinds: list[rows.Kind | None] = []
        self._latencies: dict[rows.Kind, Latency] = {}
        self._refused = 0
        self._errors = Errors(opened.memory.view)
        self._values = Values(opened.memory.view)
        self._lost = self._lost_before = 0
        if not counts_all:
            self.take(whole=True)
            self._values.begin_anew()
            self._lost_before = self.lost

    def take(self, *, whole: bool = False) -> Gains:
        """Return what was added since the last time; *whole*: look at every slot, as it is the first or last time."""
        view = self.opened.memory.view
        _, errors, values = layout.ROWS.unpack_from(view, layout.ROWS_AT)
        self.learn()  # after the number of errors, which speak of kinds
        (other,) = layout.NUMBER.unpack_from(view, layout.LOST_KINDS_AT)
        return Gains(
            list(self._take_latencies(whole=whole, other=other > 0)),
            self._errors.advance(min(errors, layout.ERRORS), self._kinds),
            self._values.advance(min(values, layout.VALUES)),
        )

    @property
    def gauges(self) -> dict[rows.Value, float]:
        """The last sample of each gauge, as of the last `take`."""
        return self._values.gauges

    @property
    def ready_ns(self) -> int:
        """When the mark `ready` was first set, as of the last `take`; 0: not yet."""
        return self._values.ready_ns

    @property
    def refused(self) -> int:
        """Number of rows that were ended."""
        return self._refused + len(self._errors.refused) + len(self._values.refused)

    @property
    def lost(self) -> int:
        """What the process itself could not record: errors, values and enters that found no room."""
        header = header_of(self.opened.memory.view)
        now = min(header.lost_errors + header.lost_values + header.lost_threads, _MOST_LOST)
        self._lost = max(self._lost, now)
        return self._lost - self._lost_before

    def learn(self) -> None:
        """Read the words of kinds that are new."""
        view = self.opened.memory.view
        (used,) = layout.COUNT.unpack_from(view, layout.ROWS_AT)
        for row in range(len(self._kinds), min(used, layout.KINDS)):
            at = layout.KINDS_AT + row * layout.KIND.size
            kind = rows.kind_of(view[at : at + layout.KIND.size].tobytes()) if row else rows.OTHER_KIND
            if kind is None or kind in self._latencies or not self._accept(kind):
                self._refused += 1
                kind = None
            else:
                self._latencies[kind] = Latency(view, row)
            self._kinds.append(kind)

    def _take_latencies(self, *, whole: bool, other: bool) -> Iterator[tuple[rows.Kind, Gain]]:
        """Yield what kinds gained; nothing is read of the last resort before it is used, as reading allocates it."""
        for kind, latency in list(self._latencies.items()):
            if kind is rows.OTHER_KIND and not other:
                continue
            try:
                gain = latency.advance(whole=whole)
            except AbsurdError:
                del self._latencies[kind]
                self._refused += 1
                continue
            if gain:
                yield kind, gain
