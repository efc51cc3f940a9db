"""Calls of databases seen inside of client libraries: as many as were made, by the word they begin with."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import PATIENCE_S, ROOT, TRACEKIT, go, until
from tests.kernel.test_abi import OBJECTS, Btf
from tracekit.capture.libraries.attached import MAX_SITES, SITE
from tracekit.capture.libraries.functions import SQLITE_ERRORS
from tracekit.recording.reader import Recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.lab import Lab, Run
    from tests.servers import Server
    from tracekit.histogram import Histogram

SLEEP_NS = 50_000_000
SYSTEM_PYTHON = "/usr/bin/python3"
OTHER_PYTHONS = sorted(str(path) for path in Path("/root/.pyenv/versions").glob("3.*/bin/python3"))
SQLITE = "/usr/lib/x86_64-linux-gnu/libsqlite3.so.0"

WAIT = """
import sys
open("mapped", "w").close()
sys.stdin.readline()
"""
PSYCOPG2 = """
import json, time
c = psycopg2.connect(host="127.0.0.1", port=PORT, user="postgres", dbname="postgres")
c.autocommit = True
k = c.cursor()
for _ in range(13): k.execute("select 1")
for _ in range(7): k.execute("-- a word before\\n /* and */ show all")
longest = 0
for _ in range(3):
    began = time.monotonic_ns()
    k.execute(f"values (pg_sleep({SLEEP}))")
    longest = max(longest, time.monotonic_ns() - began)
with open("truth.json", "w") as file: json.dump({"longest_ns": longest}, file)
for _ in range(5):
    try: k.execute("delete from nowhere")
    except psycopg2.Error: pass
c.close()
"""
PSYCOPG = """
import asyncio
to = dict(host="127.0.0.1", port=PORT, user="postgres", dbname="postgres", autocommit=True)
with psycopg.connect(**to) as c:
    for i in range(23): c.execute("values (%s)", [i])  # prepared from the sixth on
    with c.pipeline():
        for i in range(11): c.execute("table pg_am")
    for i in range(3):
        try: c.execute("delete from nowhere")
        except psycopg.Error: pass

async def some(n):
    async with await psycopg.AsyncConnection.connect(**to) as c:
        for i in range(n): await c.execute("select 1")

async def both():
    await asyncio.gather(some(17), some(19))

asyncio.run(both())
"""
SQLITE3 = """
with sqlite3.connect(":memory:") as c:
    c.execute("create table t (a unique)")
    for i in range(17): c.execute("insert into t values (?)", [i])
    c.commit()
    c.executemany("replace into t values (?)", [[i] for i in range(11)])
    c.commit()
    for i in range(19): c.execute("select * from t").fetchall()
    c.execute("select a from t").fetchone()
    c.executescript("vacuum; vacuum;")
    for i in range(5):
        try: c.execute("insert into t values (0)")
        except sqlite3.IntegrityError: pass
    for i in range(3):
        try: c.execute("drop table nowhere")
        except sqlite3.OperationalError: pass
c.close()
"""
SQLITE_CALLS = {"CREATE": 1, "BEGIN": 3, "INSERT": 22, "REPLACE": 11, "COMMIT": 3, "SELECT": 20, "VACUUM": 2, "DROP": 3}
LIBMARIADB = """
def asked(text):
    return library.mysql_real_query(connection, text, len(text))

library = ctypes.CDLL("libmariadb.so.3")
library.mysql_init.restype = library.mysql_store_result.restype = ctypes.c_void_p
library.mysql_real_query.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_ulong]
text, number = ctypes.c_char_p, ctypes.c_ulong
library.mysql_real_connect.argtypes = [ctypes.c_void_p, text, text, text, text, ctypes.c_uint, text, number]
library.mysql_free_result.argtypes = library.mysql_close.argtypes = [ctypes.c_void_p]
library.mysql_store_result.argtypes = library.mysql_errno.argtypes = [ctypes.c_void_p]
"""
ASKED = """
connection = library.mysql_init(None)
assert library.mysql_real_connect(connection, b"127.0.0.1", b"root", b"", b"", PORT, None, 0)
for _ in range(13):
    asked(b"select 1")
    library.mysql_free_result(library.mysql_store_result(connection))
for _ in range(3):
    asked(b"do sleep(0.05)")
for _ in range(5):
    assert asked(b"delete from no.where")
    assert library.mysql_errno(connection) == 1146
library.mysql_close(connection)
"""


@contextmanager
def waiting(lab: Lab, imports: str, work: str, python: str = sys.executable, *, before: str = "") -> Iterator[Client]:
    """Start a program that has its libraries, and works when it is told to."""
    client = Client(lab, imports, work, python, before)
    with lab.started(client.script, client.folder) as client.process:
        until(client.mapped.exists, "the client to have its libraries")
        yield client


class Client:
    """A program in a folder of its own."""

    def __init__(self, lab: Lab, imports: str, work: str, python: str, before: str) -> None:
        self.folder = lab.folder()
        self.mapped = self.folder / "mapped"
        (self.folder / "client.py").write_text(f"SLEEP = {SLEEP_NS / 1e9}\n{imports}\n{WAIT}\n{work}")
        self.script = f"{before} {python} client.py"

    def work(self) -> None:
        """Let it work, to its end."""
        go(self.process)
        assert not self.process.wait(PATIENCE_S), "the client failed"


def recorded(lab: Lab, client: Client, *options: str) -> Run:
    """Record all that a client does."""
    with lab.attached("-p", str(client.process.pid), "--db-uprobes", *options, folder=client.folder) as tracer:
        client.work()
        tracer.wait()
        return tracer.result()


def seen(run: Run, system: str, **labels: str) -> dict[str, int]:
    """Return how many calls libraries made, by operation."""
    found: dict[str, int] = {}
    wanted = {"source": "library", "system": system, **labels}
    for series, histogram in run.recording.histograms("db.latency", wanted).items():
        found[series.label("operation")] = found.get(series.label("operation"), 0) + histogram.count
    return found


def failed(run: Run, system: str) -> dict[tuple[str, ...], int]:
    return run.counts("db.errors", "operation", "error", source="library", system=system)


def took(run: Run, operation: str) -> Histogram:
    return run.events("db.latency", source="library", operation=operation)


def test_psycopg2_counts_once(lab: Lab, postgresql: Server):
    """PQexec is PQsendQuery inside, and a query is one call; a server that sleeps is what takes the time."""
    work = f"PORT = {postgresql.port}\n{PSYCOPG2}"

    with waiting(lab, "import psycopg2", work) as client:
        run = recorded(lab, client)

    assert seen(run, "postgresql") == {"SELECT": 13, "SHOW": 7, "VALUES": 3, "DELETE": 5}
    assert failed(run, "postgresql") == {("DELETE", "42P01"): 5}
    assert took(run, "VALUES").low >= SLEEP_NS
    assert took(run, "VALUES").high <= run.truth["truth"]["longest_ns"]
    assert not run.lost


def test_psycopg_does_not_vanish_when_it_prepares(lab: Lab, postgresql: Server):
    """After five times it prepares; a pipeline is one call; two connections of one thread do not mix."""
    work = f"PORT = {postgresql.port}\n{PSYCOPG}"

    with waiting(lab, "import psycopg", work) as client:
        run = recorded(lab, client)

    calls = seen(run, "postgresql")
    assert {word: calls[word] for word in ("VALUES", "SELECT", "PIPELINE", "DELETE")} == {
        "VALUES": 23,
        "SELECT": 36,
        "PIPELINE": 1,
        "DELETE": 3,
    }
    assert failed(run, "postgresql") == {("DELETE", "42P01"): 3}
    assert not run.lost


@pytest.mark.parametrize("python", [SYSTEM_PYTHON, *OTHER_PYTHONS])
def test_statements_of_python(lab: Lab, python: str):
    """A statement is one call, whatever its rows; in a script too, and where it fails when it is prepared."""
    with waiting(lab, "import sqlite3", SQLITE3, python) as client:
        run = recorded(lab, client)

    assert seen(run, "sqlite") == SQLITE_CALLS
    assert failed(run, "sqlite") == {("INSERT", "CONSTRAINT"): 5, ("DROP", "ERROR"): 3}
    assert not run.lost


@pytest.mark.parametrize("python", [SYSTEM_PYTHON, *OTHER_PYTHONS])
def test_statements_prepared_before(lab: Lab, python: str):
    """Python keeps about 100 statements, and finalizes an old one between preparing and executing a new one."""
    imports = """
import sqlite3
c = sqlite3.connect(":memory:", isolation_level=None)
for i in range(150): c.execute(f"select {i}").fetchall()
"""
    work = """
for i in range(150, 350): c.execute(f"values ({i})").fetchall()
"""

    with waiting(lab, imports, work, python) as client:
        run = recorded(lab, client)

    assert seen(run, "sqlite") == {"VALUES": 200}


def test_programs_that_are_not_python(lab: Lab):
    """Where nobody asks for the number of parameters, a call begins with its first row, and keeps its word."""
    imports = f"import ctypes\nlibrary = ctypes.CDLL({SQLITE!r})"
    work = """
from ctypes import byref, c_void_p
db = c_void_p()
library.sqlite3_open(b":memory:", byref(db))
def prepared(text):
    statement = c_void_p()
    assert not library.sqlite3_prepare_v2(db, text, -1, byref(statement), None)
    return statement
library.sqlite3_exec(db, b"create table t (a); insert into t values (1), (2), (3)", None, None, None)
for _ in range(7):
    library.sqlite3_exec(db, b"pragma user_version", None, None, None)
select, delete = prepared(b"select * from t"), prepared(b"delete from t where a > 2")
for _ in range(13):
    while library.sqlite3_step(select) == 100: pass
    library.sqlite3_reset(select)
for _ in range(5):
    library.sqlite3_step(delete)
    library.sqlite3_reset(delete)
library.sqlite3_finalize(select)
library.sqlite3_finalize(delete)
"""

    with waiting(lab, imports, work) as client:
        run = recorded(lab, client)

    assert seen(run, "sqlite") == {"CREATE": 1, "PRAGMA": 7, "SELECT": 13, "DELETE": 5}
    assert "libsqlite3" in run.stderr
    assert "a row" in run.stderr


def test_mariadb(lab: Lab, mariadb: Server):
    """A call lasts until the answer is there; what failed has the server's number."""
    with waiting(lab, f"import ctypes\nPORT = {mariadb.port}\n{LIBMARIADB}", ASKED) as client:
        run = recorded(lab, client)

    assert seen(run, "mysql") == {"SELECT": 13, "DO": 3, "DELETE": 5}
    assert failed(run, "mysql") == {("DELETE", "1146"): 5}
    assert took(run, "DO").low >= SLEEP_NS


def test_another_copy_of_a_library(lab: Lab, tmp_path: Path):
    """Each copy of a library is a file of its own, and probed where it is mapped."""
    copy = shutil.copy(SQLITE, tmp_path)

    with waiting(lab, "import sqlite3", SQLITE3, SYSTEM_PYTHON, before=f"LD_LIBRARY_PATH={tmp_path}") as client:
        run = recorded(lab, client)

    assert seen(run, "sqlite", peer=copy) == SQLITE_CALLS
    assert seen(run, "sqlite") == SQLITE_CALLS


@contextmanager
def containers(folder: Path) -> Iterator[list[Path]]:
    """Yield two folders that show one image, as two containers of it do."""
    image = folder / "image"
    image.mkdir()
    shutil.copy(SQLITE, image)
    shown: list[Path] = []
    try:
        for name in ("first", "second"):
            upper, work, place = (folder / f"{name}{part}" for part in ("-upper", "-work", ""))
            for each in (upper, work, place):
                each.mkdir()
            options = f"lowerdir={image},upperdir={upper},workdir={work}"
            subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, place], check=True)
            shown.append(place)
        yield shown
    finally:
        for place in shown:
            subprocess.run(["umount", "-l", place], check=True)


def test_one_file_in_two_containers_is_probed_once(lab: Lab, tmp_path: Path):
    """An overlay gives each container a device of its own, but the kernel probes the file of the image."""
    with containers(tmp_path) as (first, second):
        environment = {"LD_LIBRARY_PATH": str(second)}
        again = f"subprocess.run([{SYSTEM_PYTHON!r}, 'later.py'], env={environment}, check=True)"
        work = f"{SQLITE3}\nimport subprocess\n{again}"
        with waiting(lab, "import sqlite3", work, SYSTEM_PYTHON, before=f"LD_LIBRARY_PATH={first}") as client:
            (client.folder / "later.py").write_text(f"import sqlite3, time; time.sleep(1)\n{SQLITE3}")
            run = recorded(lab, client)

    assert seen(run, "sqlite") == {word: 2 * count for word, count in SQLITE_CALLS.items()}


def test_a_process_that_starts_later(lab: Lab):
    """Its library is probed already, or found at a tick."""
    work = f"""
import subprocess
with open("later.py", "w") as file:
    file.write({"import sqlite3, time; time.sleep(1)" + SQLITE3!r})
subprocess.run([{SYSTEM_PYTHON!r}, "later.py"], check=True)
"""

    with waiting(lab, "", work) as client:
        run = recorded(lab, client)

    assert seen(run, "sqlite") == SQLITE_CALLS


def test_calls_have_the_span_they_are_in(lab: Lab):
    """As those that are seen at sockets."""
    imports = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport sqlite3\nfrom tracekit.probe import span"
    work = """
c = sqlite3.connect(":memory:")
for _ in range(3): c.execute("select 1").fetchall()
with span("outer"):
    with span("inner"):
        for _ in range(7): c.execute("select 1").fetchall()
    for _ in range(5): c.execute("select 1").fetchall()
"""

    with waiting(lab, imports, work) as client:
        run = recorded(lab, client)

    assert seen(run, "sqlite") == {"SELECT": 15}
    assert seen(run, "sqlite", span="inner") == {"SELECT": 7}
    assert seen(run, "sqlite", span="outer") == {"SELECT": 5}


def test_without_permission_the_rest_is_recorded(lab: Lab):
    """Who may load programs but probe no files reads that once, and has everything else."""
    with waiting(lab, "import sqlite3, psycopg2", SQLITE3) as client:
        limited = ["setpriv", "--bounding-set=-all,+bpf,+perfmon,+sys_ptrace,+dac_read_search", "--inh-caps=-all"]
        options = ["attach", "-p", str(client.process.pid), "--db-uprobes", "-o", str(client.folder / "run.tk")]
        command = [*limited, *TRACEKIT, *options]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr
            said = tracer.stderr.readline()
            client.work()
            said += tracer.stderr.read()

    assert tracer.returncode == 0, said
    assert said.count("library probes: ") == 1
    assert "needs CAP_SYS_ADMIN" in said
    assert Recording(client.folder / "run.tk").histograms("oncpu")


def test_what_is_told_of_places():
    """The collector and the programs agree on how a place is told."""
    constants = dict(
        re.findall(r"(\w+) = (\d+)", "".join(path.read_text() for path in (ROOT / "bpf").glob("lib*.bpf.h")))
    )

    site = Btf(OBJECTS / "libraries.bpf.o").named("STRUCT", "library_site")

    assert site["size"] == SITE.size
    assert int(constants["MAX_SITES"]) == MAX_SITES
    assert int(constants["SQLITE_ERRORS"]) >= len(SQLITE_ERRORS)


def test_others_are_not_recorded(lab: Lab):
    """A probe is on a file, for whoever has it mapped; what is recorded is the target's."""
    with waiting(lab, "import sqlite3", "", SYSTEM_PYTHON) as target:
        options = ("-p", str(target.process.pid), "--db-uprobes")
        with (
            waiting(lab, "import sqlite3", SQLITE3, SYSTEM_PYTHON) as other,
            lab.attached(*options, folder=target.folder) as tracer,
        ):
            other.work()
            target.work()
            tracer.wait()
            run = tracer.result()

    assert "libsqlite3" in run.stderr
    assert seen(run, "sqlite") == {}


def test_a_deleted_library_with_a_hostile_name(lab: Lab, tmp_path: Path):
    """A file is found through its mapping, whatever its name says, and is probed once it is deleted too."""
    folder = tmp_path / "\x1b[31m\nlibpq.so"
    folder.mkdir()
    copy = Path(shutil.copy(SQLITE, folder))
    imports = f"import ctypes, os\nctypes.CDLL({str(copy)!r})\nos.unlink({str(copy)!r})\nimport sqlite3"

    with waiting(lab, imports, SQLITE3, SYSTEM_PYTHON) as client:
        run = recorded(lab, client)

    assert seen(run, "sqlite") == SQLITE_CALLS
    assert "\x1b" not in run.stderr
    assert "libsqlite3.so.0: " in run.stderr
