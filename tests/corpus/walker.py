"""The walker of Python frames that runs in the kernel, as a library that reads memory by a function of ours."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tracekit.capture.stacks.layout import MAX_PYTHON_FRAMES

if TYPE_CHECKING:
    from tracekit.capture.stacks.memory import Reader

HERE = Path(__file__).parent / "user"
BPF = HERE.parents[2] / "bpf"
_FLAGS = ["-O2", "-shared", "-fPIC", "-Wall", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-function"]
_READER = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64)
_WORDS = ctypes.c_uint64 * MAX_PYTHON_FRAMES


class Walker:
    """The library, compiled into *folder*."""

    def __init__(self, folder: Path) -> None:
        library = folder / "walker.so"
        subprocess.run(["gcc", *_FLAGS, f"-I{HERE}", f"-I{BPF}", HERE / "walker.c", "-o", library], check=True)
        self._walk = ctypes.CDLL(str(library)).walk

    def words(self, python: bytes, pointer: int, read: Reader) -> tuple[list[int], int]:
        """Return the words of the thread with *pointer*, innermost first, and enum python_end."""

        def reader(to: int, size: int, address: int) -> int:
            (content,) = read(0, [(address, size)])
            if content is None:
                return 1
            ctypes.memmove(to, content, size)
            return 0

        words, end = _WORDS(), ctypes.c_uint32()
        count = self._walk(python, ctypes.c_uint64(pointer), _READER(reader), words, ctypes.byref(end))
        return words[:count], end.value
