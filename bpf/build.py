# SPDX-License-Identifier: Apache-2.0
"""
Build the BPF programs: clang makes the object, bpftool the light skeleton, this packs it.

A light skeleton is a small BPF program that creates the maps and loads the programs, with
the kernel itself doing the CO-RE relocations: nothing but bpf(2) is needed to run it.
The packed file is one line of JSON (names in order, sizes), then the two blobs.

There is more than one object, each loaded where it is wanted. The others share the maps of the
first: where a skeleton would create one of those, it is made to take the descriptor that its
caller has put into its context.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OBJECTS = HERE.parent / "tracekit" / "capture" / "bpf" / "objects"
NAMES: dict[str, tuple[str, ...]] = {
    "tracekit": (),
    "db": ("tracekit",),
    "db_before_6_4": ("tracekit",),
    "libraries": ("tracekit", "db"),
    "stacks": ("tracekit",),
}
"""The objects, and those whose maps each shares."""
CLANGS = ("clang-19", "clang-20", "clang-21", "clang-18", "clang-17", "clang-16", "clang")
OLDEST_CLANG = 16
TRY = "apt install clang-19 libbpf-dev bpftool"

_BLOB = r'(?:opts\.{0}\s*=\s*\(void \*\)|opts_{0}\[\][^=]*=\s*)"((?:\\\n|\\.|[^"\\])*)"'
_CREATES = re.compile(
    rb"\xb7\x01\0\0\0\0\0\0\x18\x62\0\0....\0\0\0\0....\xb7\x03\0\0....\x85\0\0\0\xa6\0\0\0\xbf\x07\0\0\0\0\0\0",
    re.DOTALL,
)
_CLOSES = re.compile(rb"\x61\xa1..\0\0\0\0\xd5\x01\x01\0\0\0\0\0\x85\0\0\0\xa8\0\0\0", re.DOTALL)
_NOTHING = struct.pack("<BBhi", 0x05, 0, 0, 0)  # goto +0
_CONTEXT_BYTES, _MAP_BYTES = 24, 16  # struct bpf_loader_ctx, struct bpf_map_desc
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})|\\(0)|\\\n")


class ToolMissingError(Exception):
    """A tool or header of the build is not there: one line that says which, and how to get it."""


def build(out: Path = OBJECTS) -> Path:
    """
    Compile bpf/NAME.bpf.c for each of NAMES into *out*, pack their skeletons, and return *out*.

    Raises:
        ToolMissingError: no clang >= 16, bpftool or libbpf headers.
        subprocess.CalledProcessError: the compiler refused; its words are on stderr.
    """
    clang, bpftool = _clang(), _tool("bpftool")
    out.mkdir(parents=True, exist_ok=True)
    known: dict[str, set[str]] = {}
    for name, others in NAMES.items():
        target = out / f"{name}.bpf.o"
        _compile(clang, name, target)
        header = _run([bpftool, "gen", "skeleton", "-L", str(target), "name", name])
        packed = out / f"{name}.lskel"
        scratch = packed.with_suffix(".new")
        scratch.write_bytes(_pack(header, {name for other in others for name in known[other]}))
        scratch.replace(packed)
        known[name] = set(_maps(header)) - {"rodata"}
    return out


def _compile(clang: str, name: str, target: Path) -> None:
    flags = ["-g", "-O2", "-mcpu=v3", "-fno-jump-tables", "-target", "bpf", "-D__TARGET_ARCH_x86"]
    warnings = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-declarations", "-Werror"]
    paths = [f"-I{HERE}", "-I/usr/include/x86_64-linux-gnu", f"-ffile-prefix-map={HERE}=bpf"]
    _run([clang, *flags, *warnings, *paths, "-c", str(HERE / f"{name}.bpf.c"), "-o", str(target)])


def _pack(header: str, shared: set[str]) -> bytes:
    data, insns = _blob(header, "data"), _blob(header, "insns")
    maps = _maps(header)
    programs = re.findall(r"struct bpf_prog_desc (\w+);", header)
    strange = [name for name in maps if name.startswith("rodata_")]
    if strange:
        raise ToolMissingError(f"cannot build BPF programs: the loader fills no constants but rodata: {strange}")
    given = [name for name in maps if name in shared]
    insns = _without_functions(_take(insns, maps, given))
    wire = (HERE / "abi" / "wire.h").read_text()
    version = int(re.search(r"WIRE_VERSION = (\d+)", wire)[1])  # type: ignore[index]
    names = {"wire": version, "maps": maps, "given": given, "programs": programs}
    facts = names | {"data": len(data), "insns": len(insns)}
    return json.dumps(facts).encode() + b"\n" + data + insns


def _maps(header: str) -> list[str]:
    return re.findall(r"struct bpf_map_desc (\w+);", header)


def _take(insns: bytes, maps: list[str], given: list[str]) -> bytes:
    """
    Have the maps *given* taken from the context, instead of created.

    libbpf's loader creates a map by six instructions: r1 = BPF_MAP_CREATE; r2 = its attributes
    (two); r3 = their size; call bpf_sys_bpf; r7 = r0. In their place comes
    r7 = context->maps[number].map_fd, whose address is in r6.
    """
    calls = [match.start() for match in _CREATES.finditer(insns) if match.start() % 8 == 0]
    if len(calls) != len(maps):
        fact = f"its skeleton creates {len(calls)} maps where {len(maps)} were expected"
        raise ToolMissingError(f"cannot build BPF programs: this bpftool is not known: {fact}")
    code = bytearray(insns)
    for name in given:
        number = maps.index(name)
        taken = struct.pack("<BBhi", 0x61, 0x67, _CONTEXT_BYTES + _MAP_BYTES * number, 0)
        code[calls[number] : calls[number] + 48] = taken + 5 * _NOTHING
    return bytes(code)


def _without_functions(insns: bytes) -> bytes:
    """
    Have no descriptors closed that do not exist.

    When it fails, libbpf's loader closes the descriptor of each program: from a place on its stack
    for each, of which there are 32. It counts functions among programs, though these have no
    descriptors, and with more than 32 in all it would read past its stack: the verifier
    refuses that. Only programs are ever put there. So what reads past the stack is taken out:
    r1 = *(u32 *)(r10 + offset); if r1 s<= 0 goto +1; call bpf_sys_close.
    """
    code = bytearray(insns)
    for match in _CLOSES.finditer(insns):
        (offset,) = struct.unpack_from("<h", insns, match.start() + 2)
        if match.start() % 8 == 0 and offset >= 0:
            code[match.start() : match.end()] = 3 * _NOTHING
    return bytes(code)


def _blob(header: str, name: str) -> bytes:
    match = re.search(_BLOB.replace("{0}", name), header)
    if not match:
        raise ToolMissingError(f"cannot build BPF programs: bpftool's skeleton has no {name} that this build knows")
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else "\0" if m[2] else "", match[1]).encode("latin-1")


def _clang() -> str:
    for name in CLANGS:
        path = shutil.which(name)
        if path and int(re.search(r"version (\d+)", _run([path, "--version"]))[1]) >= OLDEST_CLANG:  # type: ignore[index]
            break
    else:
        raise ToolMissingError(f"cannot build BPF programs: no clang >= {OLDEST_CLANG}; try: {TRY}")
    if not Path("/usr/include/bpf/bpf_helpers.h").exists():
        raise ToolMissingError(f"cannot build BPF programs: no libbpf headers; try: {TRY}")
    return path


def _tool(name: str) -> str:
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    path = shutil.which(name, path=places)
    if not path:
        raise ToolMissingError(f"cannot build BPF programs: no {name}; try: {TRY}")
    return path


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{build(*map(Path, sys.argv[1:2]))}\n")
    except (ToolMissingError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
