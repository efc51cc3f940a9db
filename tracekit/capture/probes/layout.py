"""
A board, which is what a traced process tells of its spans: bpf/abi/probe.h, as struct formats.

tests/unit/test_boards_layout.py compares every size, offset and constant with the C header.
"""

from __future__ import annotations

import struct

MAGIC = b"TRACEKIT"
VERSION = 1
LINK = "/memfd:tracekit (deleted)"
"""What the link of its descriptor in /proc says."""

SLOTS = 4608
BUCKETS = 288
BUCKET_SHIFT = 4
KINDS, ERRORS, VALUES, THREADS = 256, 512, 256, 1024
"""Rows there are."""

HEADER = struct.Struct("=8s4IqQQ4I5Q408x")
"""magic, version, size, pid, mode, tls_offset, tls_module, threads_at, kinds, errors, values, python, lost_*, start."""
KIND = struct.Struct("=Q64s184s")
"""id, name, labels."""
ERROR = struct.Struct("=QI52s")
"""count, kind, type."""
VALUE = struct.Struct("=dQQII64s160s")
"""value, count, first_ns, type, unused, name, labels."""
LATENCY = struct.Struct("=3Q8x")
"""errors, low, high; then total[BUCKETS], awaited[BUCKETS], count[SLOTS]."""
COUNT, NUMBER = struct.Struct("=I"), struct.Struct("=Q")
NUMBERS = struct.Struct(f"={BUCKETS}Q")

NOTHING, STATIC, DYNAMIC, TABLE = range(4)
"""enum probe_mode: where the current span of a thread is found."""
COUNTER, GAUGE, MARK = 1, 2, 3
"""enum probe_value_type."""

ROWS = struct.Struct("=3I")
"""kinds, errors, values of the header: rows in use."""
ROWS_AT, LOST_KINDS_AT = 48, 64

KINDS_AT = HEADER.size
ERRORS_AT = KINDS_AT + KINDS * KIND.size
VALUES_AT = ERRORS_AT + ERRORS * ERROR.size
THREADS_AT = VALUES_AT + VALUES * VALUE.size
LATENCIES_AT = THREADS_AT + THREADS * 16
TOTALS_AT = LATENCY.size
"""In a latency."""
AWAITED_AT = TOTALS_AT + NUMBERS.size
COUNTS_AT = AWAITED_AT + NUMBERS.size
LATENCY_BYTES = COUNTS_AT + 8 * SLOTS
BYTES = LATENCIES_AT + KINDS * LATENCY_BYTES
