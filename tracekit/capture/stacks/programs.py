"""The BPF programs that walk stacks: their own object, which runs behind programs of the first one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekit.capture import wire
from tracekit.capture.bpf import syscall
from tracekit.capture.bpf.loader import load
from tracekit.capture.bpf.memory import map_array
from tracekit.capture.bpf.ring import Ring
from tracekit.capture.stacks import layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BEHIND = {
    "after_sample": "on_stack_sample",
    "after_switch": "on_stack_switch",
    "after_failure": "on_stack_failure",
}
"""Where the first object goes on, and with what."""
_FOLLOWS = ("on_stack_fork", "on_stack_exec")
_ONLY = bytes(4)
_MOST_WAIT = 8
"""A share of the ring, 1 / this."""


class Programs:
    """
    Loaded programs.

    Args:
        given: maps of the first object, by name.
        constants: as the first object has them.

    Raises:
        MachineError: the kernel refuses them, with the reason.
    """

    def __init__(self, given: Mapping[str, int], constants: bytes) -> None:
        self._given = given
        self._loaded = load("stacks", constants, {}, wire.WIRE_VERSION, given)
        maps = self._loaded.maps
        self.rows, self.pages = maps["unwind_rows"], maps["unwind_pages"]
        self._announced = map_array(maps["announced"], 8 * layout.MAX_ANNOUNCED, write=True)
        self._ring = Ring(maps["stack_records"], layout.RECORDS_BYTES)

    def follow(self) -> list[int]:
        """
        Attach what must always know which process is which program, and return the links.

        Raises:
            OSError: one cannot be attached.
        """
        return [syscall.raw_tracepoint(self._loaded.programs[name]) for name in _FOLLOWS]

    def attach(self) -> None:
        """Have stacks taken from now on. Raises OSError."""
        for place, name in _BEHIND.items():
            program = self._loaded.programs[name].to_bytes(4, "little")
            syscall.map_update(self._given[place], _ONLY, program)

    def detach(self) -> None:
        """Have no more stacks taken."""
        for place in _BEHIND:
            syscall.map_delete(self._given[place], _ONLY)

    @property
    def programs(self) -> Mapping[str, int]:
        """Descriptors, by name: what they cost is theirs to be asked."""
        return self._loaded.programs

    def records(self) -> Iterator[bytes]:
        """Yield the records that have come: `layout.RECORD`, then words."""
        return self._ring.drain()

    def has_news(self) -> bool:
        """
        Tell whether a record came since the last call that should be taken before what it speaks of has gone.

        One with frames of a process, or of a process that nobody has told of; or so many that room runs out.
        """
        news = sum(map(_is_news, self._ring.peek()))
        return news > 0 or self._ring.used_bytes > layout.RECORDS_BYTES // _MOST_WAIT

    def forget(self) -> None:
        """Have the frames of every stack sent again."""
        self._announced[:] = bytes(len(self._announced))

    def set_layout(self, number: int, packed: bytes) -> None:
        """Say where the memory of layout *number* has its code."""
        syscall.map_update(self._loaded.maps["layouts"], number.to_bytes(4, "little"), packed)

    def give_layout(self, tgid: int, number: int) -> None:
        """Have a process walked by layout *number*."""
        syscall.map_update(self._loaded.maps["layout_of"], tgid.to_bytes(4, "little"), number.to_bytes(4, "little"))

    def drop_layout(self, number: int) -> None:
        """Make room: nobody has layout *number* any more."""
        syscall.map_delete(self._loaded.maps["layouts"], number.to_bytes(4, "little"))

    def layouts_in_use(self) -> set[int]:
        """Return the numbers of the layouts that processes are walked by."""
        table = self._loaded.maps["layout_of"]
        found = (syscall.map_lookup(table, key, 4) for key in syscall.map_keys(table, 4, layout.MAX_PROCESSES))
        return {int.from_bytes(number, "little") for number in found if number is not None}

    def sleepers(self) -> Iterator[tuple[int, ...]]:
        """Yield every traced thread as it left the CPU: `layout.SLEEPER`."""
        return layout.SLEEPER.iter_unpack(syscall.run_iterator(self._loaded.programs["on_stack_task"]))

    def close(self) -> None:
        """Let go of all."""
        self._loaded.close()


def _is_news(record: bytes) -> bool:
    fields = record[layout.PYTHON_AT], record[layout.NATIVES_AT]
    return any(fields) or record[layout.NATIVE_END_AT] == layout.NATIVE_NONE
