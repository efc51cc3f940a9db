"""
Payloads by byte planes against one blob of zlib level 6: size, and CPU to pack and unpack.

The data are intervals of 100 busy series as in bench_recording.py. The two alternate on each
interval, so drift of the machine reaches both; the ratios are what to quote.
"""

from __future__ import annotations

import statistics
import sys
import zlib
from array import array
from time import process_time_ns

from tests.overhead.bench_recording import SERIES, Load
from tracekit.recording import payload, writer

INTERVALS = 60
CODES = ("I", "H", "Q", "Q", "Q", "H", "Q")
BUDGET_SIZE = 0.7
BUDGET_CPU = 0.5


def deflate(columns: list[tuple[str, array]]) -> bytes:
    return zlib.compress(b"".join(array(code, numbers).tobytes() for code, numbers in columns), 6)


def measured(work, argument) -> tuple[bytes | list[bytes], int]:
    start = process_time_ns()
    result = work(argument)
    return result, process_time_ns() - start


def main() -> int:
    load, ids = Load(), list(range(1, SERIES + 1))
    size, pack, unpack = [], [], []
    for _ in range(INTERVALS):
        raw = payload.decode(writer._pack_histograms(load.interval(ids)))
        columns = [(code, array(code, column)) for code, column in zip(CODES, raw, strict=True)]
        planes, planes_ns = measured(payload.encode, columns)
        blob, blob_ns = measured(deflate, columns)
        _, from_planes_ns = measured(payload.decode, planes)
        _, from_blob_ns = measured(zlib.decompress, blob)
        size.append(len(planes) / len(blob))
        pack.append(planes_ns / blob_ns)
        unpack.append(from_planes_ns / from_blob_ns)
    print(f"{INTERVALS} intervals of {SERIES} series, {sum(map(len, raw)):,} bytes as plain columns")
    print(f"planes            {len(planes):,} bytes, {planes_ns / 1e6:.2f} ms to pack (the last)")
    print(f"zlib level 6      {len(blob):,} bytes, {blob_ns / 1e6:.2f} ms to pack (the last)")
    print(f"size              {statistics.median(size):.2f} of zlib's (budget {BUDGET_SIZE})")
    print(f"CPU to pack       {statistics.median(pack):.2f} of zlib's (budget {BUDGET_CPU})")
    print(f"CPU to unpack     {statistics.median(unpack):.2f} of zlib's")
    return 0 if statistics.median(size) <= BUDGET_SIZE and statistics.median(pack) <= BUDGET_CPU else 1


if __name__ == "__main__":
    sys.exit(main())
