"""The collector and the C header mean the same memory."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tracekit.capture.probes import layout

HEADER = Path(__file__).parents[2] / "bpf/abi/probe.h"
SIZES = {
    "sizeof(struct probe_header)": layout.HEADER.size,
    "sizeof(struct probe_kind)": layout.KIND.size,
    "sizeof(struct probe_error)": layout.ERROR.size,
    "sizeof(struct probe_value)": layout.VALUE.size,
    "sizeof(struct probe_latency)": layout.LATENCY_BYTES,
    "sizeof(struct probe_board)": layout.BYTES,
    "offsetof(struct probe_header, kinds)": layout.ROWS_AT,
    "offsetof(struct probe_header, lost_kinds)": layout.LOST_KINDS_AT,
    "offsetof(struct probe_board, kinds)": layout.KINDS_AT,
    "offsetof(struct probe_board, errors)": layout.ERRORS_AT,
    "offsetof(struct probe_board, values)": layout.VALUES_AT,
    "offsetof(struct probe_board, threads)": layout.THREADS_AT,
    "offsetof(struct probe_board, latency)": layout.LATENCIES_AT,
    "offsetof(struct probe_latency, total)": layout.TOTALS_AT,
    "offsetof(struct probe_latency, awaited)": layout.AWAITED_AT,
    "offsetof(struct probe_latency, count)": layout.COUNTS_AT,
    "PROBE_VERSION": layout.VERSION,
    "PROBE_SLOTS": layout.SLOTS,
    "PROBE_BUCKETS": layout.BUCKETS,
    "PROBE_BUCKET_SHIFT": layout.BUCKET_SHIFT,
    "PROBE_KINDS": layout.KINDS,
    "PROBE_ERRORS": layout.ERRORS,
    "PROBE_VALUES": layout.VALUES,
    "PROBE_THREADS": layout.THREADS,
    "PROBE_NOTHING": layout.NOTHING,
    "PROBE_STATIC": layout.STATIC,
    "PROBE_DYNAMIC": layout.DYNAMIC,
    "PROBE_TABLE": layout.TABLE,
    "PROBE_COUNTER": layout.COUNTER,
    "PROBE_GAUGE": layout.GAUGE,
    "PROBE_MARK": layout.MARK,
}
SAMPLE = """
static struct probe_header header = {
	.magic = "TRACEKI", .version = 1, .size = 2, .pid = 3, .mode = 4, .tls_offset = -5, .tls_module = 6,
	.threads_at = 7, .kinds = 8, .errors = 9, .values = 10, .python = 11, .lost_kinds = 12, .lost_errors = 13,
	.lost_values = 14, .lost_threads = 15, .start_ns = 16 };
static struct probe_kind kind = { .id = 1, .name = "n", .labels = "l" };
static struct probe_error error = { .count = 1, .kind = 2, .type = "t" };
static struct probe_value value = {
	.value = 1.5, .count = 2, .first_ns = 3, .type = 4, .unused = 5, .name = "n", .labels = "l" };
static struct probe_latency latency = { .errors = 1, .low = 2, .high = 3 };
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a program that prints sizes, then the bytes of one struct of each type."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    folder = tmp_path_factory.mktemp("layout")
    prints = "\n".join(
        f'printf("%s\\"%s\\": %lld", first++ ? ", " : "{{", "{name}", (long long)({name}));' for name in SIZES
    )
    dumps = "\n".join(f"fwrite(&{name}, 1, {size}, stdout);" for name, size in STRUCTS.items())
    includes = f'#include <stdio.h>\n#include <stddef.h>\n#include "{HEADER}"\n{SAMPLE}'
    source = folder / "layout.c"
    source.write_text(f'{includes}int main(void) {{ int first = 0; {prints} puts("}}"); {dumps} return 0; }}')
    subprocess.run(["gcc", "-o", folder / "layout", source], check=True)
    return folder / "layout"


STRUCTS = {
    "header": layout.HEADER.size,
    "kind": layout.KIND.size,
    "error": layout.ERROR.size,
    "value": layout.VALUE.size,
    "latency": layout.LATENCY.size,
}


def test_sizes_and_constants_are_those_of_the_header(compiled: Path) -> None:
    """A field that moves in probe.h, or a constant that changes there, is noticed here."""
    text, _, _ = subprocess.run([compiled], capture_output=True, check=True).stdout.partition(b"\n")

    assert json.loads(text) == SIZES


def test_fields_are_those_of_the_header(compiled: Path) -> None:
    """Each field of a struct is read from where a C compiler puts it, with its sign and width."""
    _, _, raw = subprocess.run([compiled], capture_output=True, check=True).stdout.partition(b"\n")

    found = []
    for name, size in STRUCTS.items():
        found.append(getattr(layout, name.upper()).unpack(raw[:size]))
        raw = raw[size:]
    header, kind, error, value, latency = found
    assert header == (b"TRACEKI\0", 1, 2, 3, 4, -5, *range(6, 17))
    assert kind == (1, b"n" + bytes(63), b"l" + bytes(183))
    assert error == (1, 2, b"t" + bytes(51))
    assert value == (1.5, 2, 3, 4, 5, b"n" + bytes(63), b"l" + bytes(159))
    assert latency == (1, 2, 3)
