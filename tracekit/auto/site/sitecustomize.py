"""
What Python runs first when `tracekit run -c` or `--auto` started it: names its work, then steps aside.

It stands first on PYTHONPATH, so every Python below the command finds it, whatever its version
and environment: it reads as Python 2 too, says nothing, and lets no error of its own out.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib would double the start of Python
NEWEST_OLD = (3, 9)


class OurTracekit:
    """Finds tracekit, and nothing else, where the launched one lies: the target may not have installed it."""

    @staticmethod
    def find_spec(name, path=None, target=None):  # noqa: ARG004 - as the import system calls it
        """Return where tracekit is; asked last, so that the target's own is preferred."""
        if name != "tracekit":
            return None
        from importlib.machinery import PathFinder  # noqa: PLC0415 - Python 2 has none

        root = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))  # noqa: PTH120
        return PathFinder.find_spec(name, [root])


def start():
    """Name the work of this process."""
    wanted = os.environ.get("TRACEKIT_AUTO", "")
    if not wanted or sys.version_info[:2] <= NEWEST_OLD or "tracekit.auto" in sys.modules:
        return  # the last: another tracekit, whose target launched this one, was first
    sys.meta_path.append(OurTracekit)
    try:
        from tracekit import auto  # noqa: PLC0415

        auto.start(wanted)
    except Exception:  # noqa: BLE001, S110 - whatever it is, the program goes on without spans
        pass


def step_aside():
    """Run the sitecustomize that this one hides. What it raises, Python reports, as it would without us."""
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != HERE]  # noqa: PTH100
    ours = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # noqa: F401, PLC0415 - another one
    except ImportError as error:
        if getattr(error, "name", "sitecustomize") != "sitecustomize":
            raise
    finally:
        sys.modules.setdefault("sitecustomize", ours)


start()
step_aside()
