"""Every process has a board of its own, from its first use, whatever way it came to be."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from struct import unpack_from
from textwrap import dedent

import pytest

from tests.unit.probing import BOTH, FIRST, ROOT, WITHOUT_EXTENSION, run

BOARD_BYTES = 10_805_760
SEALS = 0x1 | 0x2 | 0x4
STEPS = "memfd_create", "ftruncate", "F_ADD_SEALS", "MAP_SHARED", "F_GET_SEALS"

FORKING = """
import warnings; warnings.simplefilter("ignore", DeprecationWarning)  # forks of threads are what is tested
here = []  # where a child writes to
def in_child(call):
    there, end = os.pipe()
    here.append(end)
    pid = os.fork()
    if not pid:
        try:
            os.write(end, json.dumps(call()).encode())
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(1)
    os.close(end)
    with open(there) as file:
        found = json.load(file)
    assert os.waitpid(pid, 0)[1] == 0
    return found
def counts(): return {name: found["count"] for name, found in spans().items()}
def boards():
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{number}").startswith("/memfd:tracekit "):
                found.append(os.stat(f"/proc/self/fd/{number}").st_ino)
    return found
"""


@BOTH
def test_a_child_of_fork_begins_with_nothing(engine):
    """Its board is its own, the parent's counts are left alone, spans open across the fork are the parent's."""
    found = run(
        engine,
        FORKING
        + """
        def child():
            seen = [current(), counts(), snapshot()["pid"] == os.getpid(), snapshot()["counters"]]
            with span("child"):
                seen.append(current())
            with span("both"): pass
            counter("c").add(5); made.add(2)
            held.__exit__(None, None, None)
            return seen + [current(), counts(), [value["value"] for value in snapshot()["counters"]]]
        made = counter("c"); made.add(1)
        try:
            with span("both"): raise ValueError
        except ValueError: pass
        held = span("parent")
        with held:
            found = in_child(child)
            seen = current()
        all = spans()
        tell([found, seen, counts(), all["both"]["errors"], snapshot()["counters"][0]["value"]])
        """.replace("\n        ", "\n"),
    )

    assert found[0] == [None, {}, True, [], "child", None, {"both": 1, "child": 1}, [7]]
    assert found[1:] == ["parent", {"both": 1, "parent": 1}, {"ValueError": 1}, 1]


@BOTH
def test_children_of_children_and_of_threads(engine):
    """Fork from a thread that is not the main one, twice, and threads in the child."""
    found = run(
        engine,
        FORKING
        + """
        def use(name):
            def work():
                with span(name): seen.append(current())
            seen = []
            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            return seen
        def grandchild(): return [current(), use("g"), counts()]
        def child():
            with span("c"):
                return [current(), in_child(grandchild), use("t"), counts()]
        def fork(): found.append(in_child(child))
        found = []
        with span("p"):
            thread = threading.Thread(target=lambda: span("thread").__enter__() and fork())
            thread.start(); thread.join()
        tell([found, counts()])
        """.replace("\n        ", "\n"),
    )

    assert found == [[["c", [None, ["g"] * 3, {"g": 3}], ["t"] * 3, {"t": 3}]], {"p": 1}]


@BOTH
def test_a_child_that_uses_nothing_makes_nothing(engine):
    """Most children exec at once: the board is made by the first span."""
    found = run(
        engine,
        FORKING
        + """
        def child():
            seen = [boards()]
            with span("x"): pass
            return seen + [boards()]
        with span("x"): pass
        tell([boards(), in_child(child), boards()])
        """.replace("\n        ", "\n"),
    )

    mine, (before, after), later = found
    assert set(before) == set(mine) == set(later)
    assert len(set(after)) == 1
    assert not set(after) & set(mine)


@BOTH
def test_numbers_that_are_other_files_by_now_are_left_alone(engine):
    """A daemon closes every descriptor, and opens its own under the same numbers."""
    found = run(
        engine,
        FORKING
        + """
        with span("x"): pass
        def reopened():
            kept = here[-1]
            os.closerange(3, kept)
            os.closerange(kept + 1, 100)
            files = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
            with span("x"): pass
            assert all(os.fstat(file).st_rdev == os.stat("/dev/null").st_rdev for file in files)
            return counts()
        found = in_child(reopened)
        here.append(os.dup(0))
        found = [found, reopened()]
        tell(found)
        """.replace("\n        ", "\n"),
    )

    assert found == [{"x": 1}, {"x": 2}]


@BOTH
def test_processes_of_every_kind(engine, tmp_path):
    """subprocess, os.posix_spawn, pools and all start methods of multiprocessing, from inside of a span."""
    program = ("import sys; sys.modules['tracekit.probe._probe'] = None\n" if engine == "python" else "") + FIRST
    program += dedent(
        """
        import multiprocessing, subprocess
        from concurrent.futures import ProcessPoolExecutor
        def work(i):
            before = current()
            with span("work"):
                pass
            return [before, os.getpid() == snapshot()["pid"], spans()["work"]["count"] >= 1]
        if __name__ == "__main__":
            found = []
            with span("parent"):
                listed = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True).stdout
                found.append("tracekit" in listed)
                pid = os.posix_spawn("/bin/true", ["true"], {})
                found.append(os.waitpid(pid, 0)[1])
                for method in "fork", "spawn", "forkserver":
                    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
                        found += list(pool.map(work, range(4)))
                found.append(current())
            tell([found, {name: values["count"] for name, values in spans().items()}])
        """
    )
    path = tmp_path / "program.py"
    path.write_text(program)
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)}
    )

    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == str(
        [[False, 0, *[[None, True, True]] * 12, "parent"], {"parent": 1}]
    ).replace("'", '"').replace("None", "null").replace("True", "true").replace("False", "false")


def boards_of(pid: int) -> list[Path]:
    """The descriptors of a process that are boards."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if str(link.readlink()).startswith("/memfd:tracekit "):
                found.append(link)
    return found


@BOTH
def test_the_board_from_outside(engine):
    """A sealed memfd of the right size, above standard I/O, magic and all; the last counts outlive the process."""
    text = (WITHOUT_EXTENSION if engine == "python" else "") + FIRST + "mark('ready')\nwith span('x'): input()\n"
    # started as daemons may be: without standard files but one pipe
    with subprocess.Popen(
        [sys.executable, "-c", "import os; os.close(1); os.close(2)\n" + text],
        stdin=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
    ) as program:
        board = None
        while board is None:
            with contextlib.suppress(FileNotFoundError):  # before 3.13 it is open twice for a moment
                board = next((os.open(link, os.O_RDONLY) for link in boards_of(program.pid)), None)
        while os.pread(board, 8, 0) != b"TRACEKIT":
            pass
        numbers = [int(link.name) for link in boards_of(program.pid)]
        program.communicate(b"\n")

    version, size, pid, mode = unpack_from("<4I", os.pread(board, 24, 0), 8)
    count = unpack_from("<4Q", os.pread(board, 32, 512 + 65536 + 32768 + 65536 + 16384 + 41504))
    assert (version, size, pid, mode) == (1, BOARD_BYTES, program.pid, 1 if engine == "c" else 3)
    assert os.fstat(board).st_size == size
    assert fcntl.fcntl(board, 1034) & SEALS == SEALS
    assert len(numbers) == 1
    assert numbers[0] > 2
    assert count[1] == count[2] > 0
    os.close(board)


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@BOTH
def test_f_get_seals_is_called_when_a_board_is_ready_and_never_else(engine, tmp_path):
    """The kernel side takes this call as "the board behind this descriptor can be read"."""
    text = (WITHOUT_EXTENSION if engine == "python" else "") + dedent(
        """
        import os
        from tracekit import span
        with span("a"), span("b"): pass
        if not os.fork():
            with span("a"): pass
            with span("c"): pass
            os._exit(0)
        os.wait()
        """
    )
    log = tmp_path / "log"

    subprocess.run(
        [
            "strace",
            "-f",
            "-o",
            log,
            "-e",
            "trace=memfd_create,fcntl,mmap,mremap,ftruncate,write",
            sys.executable,
            "-c",
            text,
        ],
        check=True,
        env={"PYTHONPATH": str(ROOT)},
    )

    lines = log.read_text().splitlines()
    seals = [i for i, line in enumerate(lines) if "F_GET_SEALS" in line]
    made = [i for i, line in enumerate(lines) if "memfd_create" in line and "= -1" not in line]
    assert len(seals) == len(made) == 2
    for i, j in zip(made, seals, strict=True):
        own = [line for line in lines[i : j + 1] if line.split()[0] == lines[i].split()[0]]
        order = [next(k for k, line in enumerate(own) if word in line) for word in STEPS]
        assert order == sorted(order)
        assert order[-1] == len(own) - 1


@BOTH
@pytest.mark.parametrize("limit", ["RLIMIT_NOFILE", "RLIMIT_FSIZE"])
def test_limits_leave_a_board_in_memory(engine, limit):
    """No descriptor or no large files: nobody outside sees it, the program and its snapshots go on."""
    text = f"""
        import resource
        snapshot()
        if "{limit}" == "RLIMIT_NOFILE":
            taken = os.open("/dev/null", 0)
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 1, taken + 1))
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        pid = os.fork()  # its board is made under the limit
        if not pid:
            with span("x"): seen = current()
            tell([seen, spans()["x"]["count"]])
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        """

    assert run(engine, text) == ["x" if engine == "c" else None, 1]


def test_no_memory_for_a_board_in_a_child():
    """Its spans do nothing; the parent's counts are not touched."""
    found = run(
        "c",
        FORKING
        + """
        import resource
        def child():
            size = int(open("/proc/self/statm").read().split()[0]) * 4096
            resource.setrlimit(resource.RLIMIT_AS, (size + (4 << 20), size + (4 << 20)))
            for _ in range(3):
                with span("x"), Kind("y")(): counter("c").add(); mark("m")
            return current()
        with span("x"): current()
        found = in_child(child)
        tell([found, counts(), snapshot()["counters"]])
        """.replace("\n        ", "\n"),
    )

    assert found == [None, {"x": 1}, []]


@BOTH
def test_signal_handlers_may_use_spans(engine):
    """They run between two bytecodes, inside of whatever span is open."""
    found = run(
        engine,
        """
        import signal
        seen = []
        def handle(*_):
            with span("handler"): seen.append(current())
        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
        until, turns = time.monotonic() + 0.3, 0
        while time.monotonic() < until:
            with span("loop"), span("inner"): turns += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        all = spans()
        tell([set(seen) == {"handler"}, len(seen) > 10, all["handler"]["count"] == len(seen),
              abs(all["loop"]["count"] - turns) <= (0 if "_probe" in str(type(span("x"))) else 3), current()])
        """,
    )

    assert found == [True, True, True, True, None]


INTERPRETERS = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
def create():
    if sys.version_info >= (3, 13):
        return interpreters.create("legacy" if SHARED else "isolated")
    return interpreters.create(isolated=not SHARED)
CODE = '''
import sys; sys.path[:0] = {path!r}
from tracekit import Kind, counter, span, snapshot, traced
for _ in range(10):
    with span("sub"), Kind("kind", a="b")(): counter("c").add()
@traced("traced")
def f(): pass
f()
assert {{found["name"] for found in snapshot()["spans"]}} >= {{"sub", "kind", "traced"}}, snapshot()
'''.format(path=sys.path)
def run_in(each):
    error = interpreters.run_string(each, CODE)
    assert error is None, error
"""


ISOLATED = pytest.param(
    False,
    marks=pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="import decimal is enough to crash 3.12 there"),
)


@pytest.mark.parametrize("shared", [True, ISOLATED])
def test_other_interpreters_of_the_process(shared):
    """One that shares the GIL shares the board; one of its own has a board in memory. None harms the main one."""
    found = run(
        "c",
        FORKING
        + f"SHARED = {shared}\n"
        + INTERPRETERS
        + """
for _ in range(3):
    each = create()
    with span("main"):
        run_in(each)
        run_in(each)
    interpreters.destroy(each)
    with span("main"):
        seen = current()
import threading
each = create()
thread = threading.Thread(target=run_in, args=(each,)); thread.start(); thread.join()
interpreters.destroy(each)
all = spans()
tell([seen, all["main"]["count"], all.get("sub", {"count": 0})["count"], len(boards())])
""",
    )

    assert found[:2] == ["main", 6]
    assert found[2] in ((0, 70) if sys.version_info >= (3, 12) else (70,))
    assert found[3] == 1


def test_static_tls_is_used_up(tmp_path):
    """Then the record is found through the DTV; threads that never touched it have none."""
    source = '__thread char room[64] __attribute__((tls_model("initial-exec"))); char *here(void) { return room; }'
    compiler = ["gcc", "-shared", "-fPIC", "-O1", "-xc", "-", "-o", tmp_path / "0.so"]
    subprocess.run(compiler, input=source, text=True, check=True)
    for i in range(1, 40):
        shutil.copy(tmp_path / "0.so", tmp_path / f"{i}.so")

    found = run(
        "c",
        f"""
        import ctypes, sys, threading, json
        for i in range(40):
            try:
                ctypes.CDLL("{tmp_path}/{{}}.so".format(i)).here()
            except OSError:
                break
        from tracekit import span
        from tests.unit import record_reader
        from tests.unit.record_reader import current
        seen = [record_reader._place()[0]]
        def work():
            seen.append(current())
            with span("thread"): seen.append(current())
            seen.append(current())
        with span("main"):
            thread = threading.Thread(target=work); thread.start(); thread.join()
            seen.append(current())
        print(json.dumps([seen, i]))
        """,
        first="",
    )

    assert found[1] < 39, "static TLS was not used up"
    assert found[0] == [2, None, "thread", None, "main"]
