"""Libraries that are worth having, each tried in a process of its own: a broken one must not break this one."""

from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

from tracekit.capture import nvidia

DEBIAN = "/usr/lib/python3/dist-packages"
"""Where python3-bpfcc puts bcc, which no package index has: its `bcc` is an unrelated lattice library."""
_PATIENCE_S = 60

_BCC = f"""
import sys
sys.path.append({DEBIAN!r})
import bcc
if not hasattr(bcc, "BPF"):
    sys.exit("another package of that name is installed: " + bcc.__file__)
print(bcc.__file__)
"""
_NVML = f"""
try:
    import pynvml
except ImportError:
    raise SystemExit({nvidia.NO_BINDING!r})
if not hasattr(pynvml, {nvidia.NEWEST_CALL!r}):
    raise SystemExit({nvidia.OLD_BINDING!r})
try:
    pynvml.nvmlInit()
    print(pynvml.nvmlDeviceGetCount(), "GPU(s), driver", pynvml.nvmlSystemGetDriverVersion())
except pynvml.NVMLError as error:
    raise SystemExit(str(error))
"""


class Answer(NamedTuple):
    """Whether a library works, and what it or Python said, on one line."""

    works: bool
    said: str


def bcc() -> Answer:
    """Import bcc, from Debian's directory too, and look for its BPF class."""
    return _ask(_BCC)


def nvml() -> Answer:
    """Import pynvml, which nvidia-ml-py brings, and start NVML."""
    return _ask(_NVML)


def _ask(script: str) -> Answer:
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Answer(False, f"no answer in {_PATIENCE_S} s")
    except OSError as error:  # an interpreter that this user may not start again
        return Answer(False, f"not tried: {sys.executable}: {error.strerror}")
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return Answer(done.returncode == 0, lines[-1] if lines else f"ended with status {done.returncode}")
