# SPDX-License-Identifier: Apache-2.0
"""
Build the BPF programs: clang makes the object, bpftool the light skeleton, this packs it.

A light skeleton is a small BPF program that creates the maps and loads the programs, with
the kernel itself doing the CO-RE relocations: nothing but bpf(2) is needed to run it.
The packed file is one line of JSON (names in order, sizes), then the two blobs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OBJECTS = HERE.parent / "tracekit" / "capture" / "bpf" / "objects"
CLANGS = ("clang-19", "clang-20", "clang-21", "clang-18", "clang-17", "clang-16", "clang")
OLDEST_CLANG = 16
TRY = "apt install clang-19 libbpf-dev bpftool"

_BLOB = r'(?:opts\.{0}\s*=\s*\(void \*\)|opts_{0}\[\][^=]*=\s*)"((?:\\\n|\\.|[^"\\])*)"'
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})|\\(0)|\\\n")


class ToolMissingError(Exception):
    """A tool or header of the build is not there: one line that says which, and how to get it."""


def build(out: Path = OBJECTS) -> Path:
    """
    Compile bpf/tracekit.bpf.c into *out* and return the packed skeleton.

    Raises:
        ToolMissingError: no clang >= 16, bpftool or libbpf headers.
        subprocess.CalledProcessError: the compiler refused; its words are on stderr.
    """
    clang, bpftool = _clang(), _tool("bpftool")
    out.mkdir(parents=True, exist_ok=True)
    target = out / "tracekit.bpf.o"
    flags = ["-g", "-O2", "-mcpu=v3", "-target", "bpf", "-D__TARGET_ARCH_x86"]
    warnings = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-declarations", "-Werror"]
    paths = [f"-I{HERE}", "-I/usr/include/x86_64-linux-gnu", f"-ffile-prefix-map={HERE}=bpf"]
    _run([clang, *flags, *warnings, *paths, "-c", str(HERE / "tracekit.bpf.c"), "-o", str(target)])
    header = _run([bpftool, "gen", "skeleton", "-L", str(target), "name", "tracekit"])
    packed = out / "tracekit.lskel"
    scratch = packed.with_suffix(".new")
    scratch.write_bytes(_pack(header))
    scratch.replace(packed)
    return packed


def _pack(header: str) -> bytes:
    data, insns = _blob(header, "data"), _blob(header, "insns")
    maps = re.findall(r"struct bpf_map_desc (\w+);", header)
    programs = re.findall(r"struct bpf_prog_desc (\w+);", header)
    wire = (HERE / "abi" / "wire.h").read_text()
    version = int(re.search(r"WIRE_VERSION = (\d+)", wire)[1])  # type: ignore[index]
    facts = {"wire": version, "maps": maps, "programs": programs, "data": len(data), "insns": len(insns)}
    return json.dumps(facts).encode() + b"\n" + data + insns


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
