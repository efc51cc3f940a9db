"""What a C compiler makes of bpf/abi/probe.h is what the probe in Python and the snapshot use."""

import re
import shutil
import subprocess
import sys
import sysconfig
from base64 import b64decode
from struct import calcsize

import pytest

from tests.unit.probing import ROOT, run
from tracekit.probe import _layout as layout
from tracekit.probe import _traced

CONSTANTS = {
    "PROBE_VERSION": layout.VERSION,
    "PROBE_SLOTS": layout.SLOTS,
    "PROBE_BUCKETS": layout.BUCKETS,
    "PROBE_BUCKET_SHIFT": layout.BUCKET_SHIFT,
    "PROBE_KINDS": layout.KINDS,
    "PROBE_ERRORS": layout.ERRORS,
    "PROBE_VALUES": layout.VALUES,
    "PROBE_THREADS": layout.THREADS,
    "PROBE_NAME": layout.NAME_BYTES,
    "PROBE_LABELS": layout.LABELS_BYTES,
    "PROBE_TYPE": layout.TYPE_BYTES,
    "PROBE_NOTHING": layout.NOTHING,
    "PROBE_STATIC": layout.STATIC,
    "PROBE_DYNAMIC": layout.DYNAMIC,
    "PROBE_TABLE": layout.TABLE,
    "PROBE_COUNTER": layout.COUNTER,
    "PROBE_GAUGE": layout.GAUGE,
    "PROBE_MARK": layout.MARK,
    "sizeof(struct probe_header)": layout.HEADER.size,
    "sizeof(struct probe_kind)": layout.KIND.size,
    "sizeof(struct probe_error)": layout.ERROR.size,
    "sizeof(struct probe_value)": layout.VALUE.size,
    "sizeof(struct probe_thread_slot)": layout.THREAD.size,
    "sizeof(struct probe_latency)": layout.LATENCY_SIZE,
    "sizeof(struct probe_board)": layout.SIZE,
    "sizeof(((struct probe_value *)0)->labels)": layout.VALUE_LABELS_BYTES,
    "offsetof(struct probe_latency, total)": layout.LATENCY_HEAD.size,
    "offsetof(struct probe_latency, awaited)": layout.LATENCY_HEAD.size + 8 * layout.BUCKETS,
    "offsetof(struct probe_latency, count)": layout.LATENCY_HEAD.size + 16 * layout.BUCKETS,
    "offsetof(struct probe_board, kinds)": layout.KINDS_AT,
    "offsetof(struct probe_board, errors)": layout.ERRORS_AT,
    "offsetof(struct probe_board, values)": layout.VALUES_AT,
    "offsetof(struct probe_board, threads)": layout.THREADS_AT,
    "offsetof(struct probe_board, latency)": layout.LATENCY_AT,
    "offsetof(struct probe_header, kinds)": layout.KINDS_USED_AT,
    "offsetof(struct probe_header, errors)": layout.ERRORS_USED_AT,
    "offsetof(struct probe_header, values)": layout.VALUES_USED_AT,
    "offsetof(struct probe_header, lost_kinds)": layout.LOST_KINDS_AT,
    "offsetof(struct probe_header, lost_errors)": layout.LOST_ERRORS_AT,
    "offsetof(struct probe_header, lost_values)": layout.LOST_VALUES_AT,
    "offsetof(struct probe_header, lost_threads)": layout.LOST_THREADS_AT,
}

FIELDS = {
    "probe_header": (
        layout.HEADER,
        (
            "magic version size pid mode tls_offset tls_module threads_at kinds errors values python "
            "lost_kinds lost_errors lost_values lost_threads start_ns"
        ),
    ),
    "probe_kind": (layout.KIND, "id name labels"),
    "probe_error": (layout.ERROR, "count kind type"),
    "probe_value": (layout.VALUE, "value count first_ns type name labels"),
    "probe_thread_slot": (layout.THREAD, "thread_pointer kind"),
    "probe_latency": (layout.LATENCY_HEAD, "errors low high unused"),
}


def offsets(structure):
    """Return the offset of each field of a struct format."""
    found, before = [], ""
    for field in re.findall(r"(\d*)([a-zA-Z])", structure.format.lstrip("<")):
        count, code = field
        for part in [f"{count}s"] if code == "s" else [] if code == "x" else [code] * int(count or 1):
            found.append(calcsize(f"<{before}"))
            before += part
        before += f"{count}x" if code == "x" else ""
    return found


def test_the_layouts_are_the_same(tmp_path):
    """Every constant, size and offset of the header that the Python side has in its own words."""
    expected = dict(CONSTANTS)
    for name, (structure, fields) in FIELDS.items():
        for field, offset in zip(fields.split(), offsets(structure), strict=True):
            expected[f"offsetof(struct {name}, {field})"] = offset
    lines = "".join(f'printf("%zu\\n", (size_t)({each}));\n' for each in expected)
    source = f'#include <stddef.h>\n#include <stdio.h>\n#include "abi/probe.h"\nint main(void) {{\n{lines}}}\n'

    subprocess.run(
        ["gcc", "-xc", "-", "-I", ROOT / "bpf", "-o", tmp_path / "offsets"], input=source, text=True, check=True
    )
    printed = subprocess.run([tmp_path / "offsets"], capture_output=True, text=True, check=True).stdout.split()

    assert dict(zip(expected, map(int, printed), strict=True)) == expected


def test_the_slots_of_the_extension(tmp_path):
    """At both edges of every slot, and beyond the last."""
    values = sorted({edge + n for slot in range(layout.SLOTS) for edge in [layout.upper_edge(slot)] for n in (0, 1)})
    source = """
    #include <Python.h>
    #include "board.h"
    int main(void) { unsigned long long ns; while (scanf("%llu", &ns) == 1) printf("%u\\n", slot_of(ns)); }
    """.replace("\\\\", "\\")
    includes = ["-I", sysconfig.get_path("include"), "-I", ROOT / "bpf", "-I", ROOT / "tracekit/probe"]

    subprocess.run(
        ["gcc", "-xc", "-", *includes, "-c", "-o", tmp_path / "slots.o", "-w"], input=source, text=True, check=True
    )
    link = ["gcc", tmp_path / "slots.o", "-Wl,--unresolved-symbols=ignore-all", "-o", tmp_path / "slots"]
    subprocess.run(link, check=True)
    text = "\n".join(map(str, values))
    printed = subprocess.run([tmp_path / "slots"], input=text, capture_output=True, text=True, check=True).stdout

    assert list(map(int, printed.split())) == [layout.slot_of(value) for value in values]


def test_magic():
    """The first eight bytes; and what @traced knows by itself."""
    assert _traced.NAME_BYTES == layout.NAME_BYTES
    assert f'#define PROBE_MAGIC "{layout.MAGIC.decode()}"' in (ROOT / "bpf/abi/probe.h").read_text()


def test_both_probes_write_the_same_board():
    """Byte for byte, where no clock or address is in it."""
    program = """
        import base64, json
        from tracekit import Kind, counter, gauge, mark, span
        from tracekit.probe._engine import board
        with span("a"), Kind("b", z="1", a="2")(): pass
        try:
            with span("a"): raise ValueError
        except ValueError: pass
        with span("") as s: s.fail()
        counter("c", x="y").add(3); gauge("g").set(-1); mark("ready")
        print(json.dumps(base64.b64encode(board()).decode()))
        """
    both = [b64decode(run(engine, program, first="")) for engine in ("c", "python")]

    for at, size in ((48, 48), (layout.KINDS_AT, layout.KIND.size * 4), (layout.ERRORS_AT, layout.ERROR.size * 4)):
        assert both[0][at : at + size] == both[1][at : at + size]
    first, second = (bytearray(board[layout.VALUES_AT : layout.VALUES_AT + 4 * layout.VALUE.size]) for board in both)
    for values in (first, second):
        values[3 * layout.VALUE.size + 16 : 3 * layout.VALUE.size + 24] = bytes(8)  # when the mark was set
    assert first == second


@pytest.mark.skipif(sysconfig.get_platform() != "linux-x86_64", reason="TLS descriptors of another kind")
def test_the_extension_has_tls_descriptors_and_no_other_tls():
    """Static TLS would not load everywhere; __tls_get_addr is never read in one step."""
    if not shutil.which("readelf"):
        pytest.skip("readelf is not installed")
    built = list((ROOT / "tracekit/probe").glob(f"_probe{sysconfig.get_config_var('EXT_SUFFIX')}"))
    assert built, "the extension is not built: scripts/setup"

    relocations = subprocess.run(["readelf", "-rW", built[0]], capture_output=True, text=True, check=True).stdout
    symbols = subprocess.run(["readelf", "-sW", built[0]], capture_output=True, text=True, check=True).stdout

    assert "R_X86_64_TLSDESC" in relocations
    assert not re.search(r"R_X86_64_(TPOFF|DTPMOD|DTPOFF)64", relocations)
    assert "__tls_get_addr" not in symbols


def test_an_installation_without_a_compiler_has_the_other_probe(tmp_path):
    """One line says so, and the rest is installed."""
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("tracekit", "bpf", "LICENSES"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so", "__pycache__", "objects"))

    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=tmp_path,
        env={"CC": "/nonexistent/cc", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert [line for line in done.stderr.splitlines() if line.startswith("warning: cannot build tracekit.probe")]
    assert not list((tmp_path / "tracekit/probe").glob("*.so"))
    program = "import tracekit.probe._engine as e; print(e.Kind.__module__)"
    command = [sys.executable, "-S", "-c", program]  # -S: an editable installation comes before PYTHONPATH
    found = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert found.stdout == "tracekit.probe._fallback\n"
