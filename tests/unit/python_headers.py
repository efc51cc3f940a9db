"""
Offsets of CPython's structures as the headers of an installed one have them.

`python -m tests.unit.python_headers INCLUDE...` prints the rows of tracekit/capture/stacks/offsets.py.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tracekit.capture.stacks.offsets import Offsets

_SOURCE = """
#define Py_BUILD_CORE 1
#include <stddef.h>
#include <stdio.h>
#include "Python.h"
#if PY_VERSION_HEX < 0x030b0000
#include "frameobject.h"
#endif
#include "internal/pycore_pystate.h"
#if PY_VERSION_HEX >= 0x03090000
#include "internal/pycore_runtime.h"
#include "internal/pycore_interp.h"
#endif
#if PY_VERSION_HEX >= 0x030b0000
#include "internal/pycore_frame.h"
#endif
int main(void) {
"""
_ALWAYS = {
    "head": "offsetof(_PyRuntimeState, interpreters.head)",
    "interpreter_next": "offsetof(PyInterpreterState, next)",
    "thread_next": "offsetof(PyThreadState, next)",
    "thread_interpreter": "offsetof(PyThreadState, interp)",
    "thread_id": "offsetof(PyThreadState, thread_id)",
    "code_file": "offsetof(PyCodeObject, co_filename)",
    "code_first": "offsetof(PyCodeObject, co_firstlineno)",
    "text_ascii": "sizeof(PyASCIIObject)",
    "text_compact": "sizeof(PyCompactUnicodeObject)",
}
_BEFORE_11 = {
    "interpreter_threads": "offsetof(PyInterpreterState, tstate_head)",
    "thread_frame": "offsetof(PyThreadState, frame)",
    "frame_code": "offsetof(PyFrameObject, f_code)",
    "frame_back": "offsetof(PyFrameObject, f_back)",
    "frame_at": "offsetof(PyFrameObject, f_lasti)",
    "code_name": "offsetof(PyCodeObject, co_name)",
}
_FROM_11 = {
    "interpreter_threads": "offsetof(PyInterpreterState, threads.head)",
    "thread_chunk": "offsetof(PyThreadState, datastack_chunk)",
    "frame_back": "offsetof(_PyInterpreterFrame, previous)",
    "code_units": "offsetof(PyCodeObject, co_code_adaptive)",
    "code_name": "offsetof(PyCodeObject, co_qualname)",
}
_CFRAMES = {
    "thread_frame": "offsetof(PyThreadState, cframe)",
    "cframe_frame": "offsetof(_PyCFrame, current_frame)",
    "frame_code": "offsetof(_PyInterpreterFrame, f_code)",
    "frame_at": "offsetof(_PyInterpreterFrame, prev_instr)",
}
_FROM_13 = {
    "thread_frame": "offsetof(PyThreadState, current_frame)",
    "frame_code": "offsetof(_PyInterpreterFrame, f_executable)",
    "frame_at": "offsetof(_PyInterpreterFrame, instr_ptr)",
}


def _wanted(minor: int) -> dict[str, str]:
    """Return the C of each field that CPython 3.*minor* has."""
    wanted = _ALWAYS | (_BEFORE_11 if minor < 11 else _FROM_11)
    wanted["code_table"] = f"offsetof(PyCodeObject, {'co_lnotab' if minor < 10 else 'co_linetable'})"
    if minor in (11, 12):
        wanted |= _CFRAMES
    if minor == 11:
        wanted["frame_is_entry"] = "offsetof(_PyInterpreterFrame, is_entry)"
    if minor >= 12:
        wanted["frame_owner"] = "offsetof(_PyInterpreterFrame, owner)"
    return wanted | (_FROM_13 if minor >= 13 else {})


def offsets(include: Path) -> tuple[int, Offsets]:
    """Return the minor version of the headers in *include*, and what they say; compiles and runs a C program."""
    minor = int(include.name.split(".")[1])
    rows = "".join(f'printf("{name} %ld\\n", (long)({code}));\n' for name, code in _wanted(minor).items())
    with tempfile.TemporaryDirectory() as place:
        source, program = Path(place, "offsets.c"), Path(place, "offsets")
        source.write_text(_SOURCE + rows + "return 0; }")
        subprocess.run(["gcc", "-w", f"-I{include}", f"-I{include}/internal", "-o", program, source], check=True)
        said = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return minor, Offsets(**{name: int(value) for name, value in map(str.split, said.splitlines())})


def main() -> None:
    """Print the table."""
    for include in sys.argv[1:]:
        minor, found = offsets(Path(include))
        print(f"    {minor}: Offsets(")
        for name, value in asdict(found).items():
            print(f"        {name}={value},")
        print("    ),")


if __name__ == "__main__":
    main()
