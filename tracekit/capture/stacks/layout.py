"""
What crosses from the stack walkers: bpf/abi/stacks.h, as struct formats.

tests/kernel/test_abi.py compares every format and constant with the BTF of the built object.
"""

from __future__ import annotations

import struct

MAX_PYTHON_FRAMES = 128
MAX_NATIVE_FRAMES = 64
MAX_KERNEL_FRAMES = 64
STACK_SPANS = 8
MAX_LAYOUTS = 1024
MAX_PROCESSES = 4096
MAX_CODE = 256
MAX_ANNOUNCED = 1 << 14
MAX_UNWIND_ROWS = 1 << 21
MAX_UNWIND_PAGES = 1 << 18
UNWIND_PAGE_SHIFT = 10

PYTHON_UNIT_BITS = 21
PYTHON_NO_UNIT = (1 << PYTHON_UNIT_BITS) - 1
PYTHON_ENTERED = 1

PYTHON = struct.Struct("=2Q13H3B3x")
"""struct python: interpreters, code_type, then its offsets, minor, owner_c, code_mask."""
CODE = struct.Struct("=3Q4I")
"""start, end, bias, first_row, rows, first_page, pages."""
LAYOUT_HEAD = struct.Struct("=48sII")
"""struct layout: python, codes, version; MAX_CODE of CODE follow."""
LAYOUT_BYTES = LAYOUT_HEAD.size + MAX_CODE * CODE.size

UNWIND_RSP, UNWIND_RBP, UNWIND_PLT, UNWIND_DEREF, UNWIND_SIGNAL, UNWIND_END, UNWIND_UNKNOWN, UNWIND_NONE = range(8)
UNWIND_RBP_LOST = 0x1FFF

STACK_CPU, STACK_WAIT, STACK_ERROR = range(3)
PYTHON_ENDS = ("none", "whole", "cut", "starting", "unreadable")
"""Words of enum python_end, by value."""
NATIVE_ENDS = ("none", "whole", "cut", "no mapping", "no row", "unknown", "unreadable", "signal")
"""Words of enum native_end, by value."""
PYTHON_CUT, PYTHON_STARTING, PYTHON_UNREADABLE = 2, 3, 4
NATIVE_NONE, NATIVE_WHOLE, NATIVE_CUT, NATIVE_NO_MAPPING, NATIVE_NO_ROW = range(5)

RECORD = struct.Struct(f"=4Q{STACK_SPANS}Q4I3H7B3xI4x")
"""at, weight, user, kernel, spans[8], tgid, pid, role, thread, nr, err, span, kind, reason, python, natives, kernels,
python_end, native_end, layout; words follow."""
PYTHON_AT, NATIVES_AT, NATIVE_END_AT = 120, 121, 124
"""Where these fields are."""
RECORDS_BYTES = 1 << 22
SLEEPER = struct.Struct(f"=4Q4I{MAX_KERNEL_FRAMES}Q")
"""pc, sp, bp, pointer, pid, tgid, running, kernels, kernel[64]."""
