"""The BPF programs that see calls of databases: their own object, which shares the maps of the first."""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING

from tracekit.capture import wire
from tracekit.capture.bpf import btf, syscall
from tracekit.capture.bpf.loader import load

if TYPE_CHECKING:
    from collections.abc import Mapping

_SOCKETS = ("on_sent", "on_received", "on_ready")
_BEFORE_6_4 = ("on_moved",)
_FOLLOWS = ("on_state",)


class Programs:
    """
    Loaded programs.

    Args:
        given: maps of the first object, by name.
        constants: as the first object has them, but for `atomic`: rows of calls are written from interrupts too.

    Raises:
        MachineError: the kernel refuses them, with the reason.
    """

    def __init__(self, given: Mapping[str, int], constants: bytes) -> None:
        newer = _has_socket_tracepoints()
        self._hooks = _SOCKETS if newer else _BEFORE_6_4
        self._loaded = load("db" if newer else "db_before_6_4", constants, {}, wire.WIRE_VERSION, given)
        self.maps: Mapping[str, int] = self._loaded.maps

    def attach(self) -> list[int]:
        """
        Attach what sees calls, and return the links.

        Raises:
            OSError: one cannot be attached.
        """
        return self._attach(self._hooks)

    def follow(self) -> list[int]:
        """Attach what must always know which connections there are; as `attach`."""
        return self._attach(_FOLLOWS)

    def _attach(self, names: tuple[str, ...]) -> list[int]:
        return [syscall.raw_tracepoint(self._loaded.programs[name]) for name in names]

    @property
    def programs(self) -> Mapping[str, int]:
        """Descriptors, by name: what they cost is theirs to be asked."""
        return self._loaded.programs

    def settle(self, before_ns: int) -> None:
        """End the calls whose answer does not say itself where it ends, and last grew before (CLOCK_MONOTONIC)."""
        context = ctypes.create_string_buffer(struct.pack("=Q", before_ns), 8)
        syscall.run_program(self._loaded.programs["settle_idle"], context)

    def forget_calls(self) -> None:
        """Forget the calls that are under way: nobody looks, or looked."""
        syscall.run_program(self._loaded.programs["forget_calls"], ctypes.create_string_buffer(8))

    def close(self) -> None:
        """Let go of all."""
        self._loaded.close()


def _has_socket_tracepoints() -> bool:
    """Tell by the kernel's types, whose names lie in one table of strings."""
    try:
        return b"\0btf_trace_sock_send_length\0" in btf.VMLINUX.read_bytes()
    except OSError:
        return True  # then nothing can be loaded, and the loader says why
