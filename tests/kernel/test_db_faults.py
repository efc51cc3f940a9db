"""Calls that fail, by whomever: each is counted as what it was, and nothing else is lost by it."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests import servers
from tests.kernel.databases import RAW, calls, client_of, errors, highest, latency, peers
from tests.kernel.lab import PATIENCE_S, go, until
from tests.kernel.spanned import PRELUDE, PROBE, WAIT, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.lab import Lab
    from tests.servers import Server

CROWD, TOO_MANY = 5000, 9000
ROOM = 8192
"""Connections that are followed at a time."""
MANY = """
import resource
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
"""


@pytest.fixture
def fragile() -> Iterator[Server]:
    """Yield a Redis that may be killed."""
    with servers.redis() as server:
        yield server


def test_a_server_that_is_killed(lab: Lab, fragile: Server) -> None:
    """Calls that wait for it fail as closed, those after it are refused; those before are all there."""
    run = record(
        lab,
        f"""
        import signal
        clients = [connected() for n in range(3)] + [connected("unix") for n in range(2)]
        for client in clients:
            for n in range(13):
                client.sendall(command(b"GET", b"key"))
                client.recv(100)
        for client in clients[1:]:
            client.sendall(command(b"BLPOP", b"nothing", b"30"))
        time.sleep(0.2)
        os.kill({fragile.process.pid}, signal.SIGKILL)
        for client in clients:
            assert client.recv(100) == b""
        time.sleep(0.2)  # it closes what it listens on later
        for n in range(7):
            failing(1, ConnectionRefusedError, connected)
        """,
        f"--db-port={fragile.port}=redis",
        before=PROBE + client_of(fragile) + RAW,
    )

    assert calls(run, operation="GET") == {"GET": 5 * 13}
    assert errors(run, operation="BLPOP") == {"closed": 4}
    assert errors(run) == {"closed": 4, "refused": 7}
    assert run.lost == {}


def test_backends_that_are_ended(lab: Lab) -> None:
    """One by the administrator, who tells the client why; one by a crash, and another by what follows from it."""
    with servers.postgresql() as server:
        run = record(
            lab,
            """
            import signal
            cursors = [psycopg2_to().cursor() for n in range(3)]
            pids = [cursor.connection.get_backend_pid() for cursor in cursors]
            repeat(31, cursors[0], "select 1")
            def sleep(cursor):
                failing(1, psycopg2.OperationalError, cursor.execute, "select pg_sleep(30)")
            threads = [threading.Thread(target=sleep, args=(cursor,)) for cursor in cursors]
            [thread.start() for thread in threads]
            time.sleep(0.2)
            os.kill(pids[0], signal.SIGTERM)
            threads[0].join()
            os.kill(pids[1], signal.SIGKILL)
            [thread.join() for thread in threads]
            """,
            before=PROBE + client_of(server, "postgresql"),
        )

    assert calls(run, operation="SELECT") == {"SELECT": 31 + 1}  # it was told; the others were not
    assert errors(run) == {"57P01": 1, "closed": 2}


RESETTING = """
import struct
def resetting(listener):
    while True:
        client, _ = listener.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if client.recv(100)[:4] == b"*2\\r\\n":
            client.sendall(b"$5\\r\\nvalue\\r\\n")
            client.recv(100)
        client.close()
listener = socket.create_server(("127.0.0.1", RESETS), backlog=50)
if not os.fork():
    resetting(listener)
listener.close()
"""


OVERFLOWING = """
overflowing = socket.create_server(("127.0.0.1", FULL), backlog=0)
queued = [socket.socket() for n in range(3)]
for client in queued:
    client.setblocking(False)
    client.connect_ex(("127.0.0.1", FULL))
def given_up(port):
    client = socket.socket()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
    client.connect(("127.0.0.1", port))
"""


def test_connections_that_are_reset_refused_or_dropped(lab: Lab, redis: Server) -> None:
    """By whoever is between, by nobody who listens, by a client that waits no longer; or that waits in vain."""
    refusing, resetting, full = (servers.free_port() for _ in range(3))
    run = record(
        lab,
        f"""
        import redis.asyncio
        from redis.backoff import NoBackoff
        from redis.retry import Retry
        waiting = threading.Thread(target=failing, args=(1, TimeoutError, given_up, {full}))
        waiting.start()
        with span("reset"):
            for n in range(11):
                client = socket.create_connection(("127.0.0.1", RESETS))
                client.sendall(command(b"GET", b"key"))
                answer(client)
                client.sendall(command(b"BLPOP", b"nothing", b"0"))
                failing(1, ConnectionResetError, client.recv, 100)
        with span("refused"):
            for n in range(7):
                failing(1, ConnectionRefusedError, socket.create_connection, ("127.0.0.1", {refusing}))
        async def asynchronous():
            with span("refused"):
                for n in range(5):
                    try: await asyncio.open_connection("127.0.0.1", {refusing})
                    except ConnectionRefusedError: pass
        asyncio.run(asynchronous())
        with span("dropped"):
            for n in range(13):
                client = connected()
                client.settimeout(0.02)
                client.sendall(command(b"BLPOP", b"nothing", b"0"))
                failing(1, TimeoutError, client.recv, 100)
                client.close()
        once = Retry(NoBackoff(), 0)
        impatient = redis.Redis(port=PORT, socket_timeout=0.05, retry=once)
        with span("library"):
            failing(5, redis.exceptions.TimeoutError, impatient.blpop, "nothing", 3)
        async def cancelled():
            client = redis.asyncio.Redis(port=PORT, retry=once)
            for n in range(3):
                try: await asyncio.wait_for(client.blpop("nothing", 3), 0.05)
                except asyncio.TimeoutError: pass
            await client.aclose()
        asyncio.run(cancelled())
        if not os.fork():
            client = connected()
            client.sendall(command(b"BLPOP", b"nothing", b"0"))
            client.recv(100)
        time.sleep(0.2)
        """
        + KILL_CHILDREN,
        f"--db-port={resetting}=redis",
        f"--db-port={refusing}=postgresql",
        f"--db-port={full}=mysql",
        before=PROBE + client_of(redis) + RAW + f"RESETS, FULL = {resetting}, {full}\n" + RESETTING + OVERFLOWING,
    )

    assert errors(run, span="reset") == {"reset": 11}
    assert calls(run, span="reset", operation="GET") == {"GET": 11}
    assert errors(run, span="refused", system="postgresql", operation="CONNECT") == {"refused": 12}
    assert errors(run, system="mysql") == {"timeout": 1}
    assert errors(run, span="dropped", operation="BLPOP") == {"dropped": 13}
    assert errors(run, span="library")["dropped"] == 5
    assert errors(run, system="redis")["dropped"] == 13 + 5 + 3 + 1
    assert run.lost == {}


KILL_CHILDREN = """
        waiting.join()
        import psutil
        for child in psutil.Process().children():
            child.kill()
            child.wait()
"""


def test_thousands_of_connections(lab: Lab, redis: Server) -> None:
    """All open at once, each with one call, and all the calls at once; then as many again, one by one."""
    run = record(
        lab,
        f"""
        with span("crowd"):
            clients = [connected() for n in range({CROWD})]
            for client in clients: client.sendall(GET)
            for client in clients: answer(client)
        time.sleep(0.3)
        for client in clients: client.close()
        with span("one_by_one"):
            for n in range({CROWD}):
                client = connected("unix")
                client.sendall(GET)
                answer(client)
                client.close()
        """,
        before=PROBE + client_of(redis) + RAW + MANY + SET,
    )

    assert calls(run, span="crowd") == {"GET": CROWD}
    assert calls(run, span="one_by_one") == {"GET": CROWD}
    assert highest(run, "db.connections", system="redis", peer=peers(redis)["tcp"]) == CROWD
    assert errors(run) == run.lost == {}


def test_more_connections_than_there_is_room_for(lab: Lab, redis: Server) -> None:
    """Calls on those that are not followed are not seen, and this is said."""
    run = record(
        lab,
        f"""
        clients = [connected("unix") for n in range({TOO_MANY})]
        for client in clients:
            client.sendall(GET)
            answer(client)
        """,
        before=PROBE + client_of(redis) + RAW + MANY + SET,
    )

    seen = calls(run)["GET"]
    assert ROOM * 0.99 <= seen <= ROOM
    assert run.lost == {"connection": TOO_MANY - seen}


SET = """
client = connected()
client.sendall(command(b"SET", b"key", b"value"))
client.recv(5)
client.close()
"""


def test_garbage(lab: Lab, redis: Server) -> None:
    """Random bytes where a database is expected, and a web server: no error of any server is made of them."""
    ports = {name: servers.free_port() for name in ("postgresql", "mysql", "redis", "mongodb")}
    web = servers.free_port()
    run = record(
        lab,
        """
        for name, port in PORTS.items():
            client = socket.create_connection(("127.0.0.1", port))
            with span(name):
                for n in range(601):
                    client.sendall(garbage(n, 1 + n * 7 % 300))
                    client.recv(1000)
            client.close()
        browser = http.client.HTTPConnection("127.0.0.1", WEB)
        with span("web"):
            for n in range(31):
                browser.request("GET", "/")
                assert b"Error" in browser.getresponse().read()
        with span("real"):
            client = connected("unix")
            for n in range(17):
                client.sendall(GET)
                answer(client)
        """,
        *(f"--db-port={port}={name}" for name, port in ports.items()),
        f"--db-port={web}=postgresql",
        before=PROBE + client_of(redis) + RAW + SET + f"PORTS, WEB = {ports}, {web}\n" + NOISE,
    )

    assert errors(run) == {}
    assert calls(run, span="real") == {"GET": 17}
    assert calls(run, span="web") == {}


NOISE = """
import http.client, http.server, random
def garbage(seed, size):
    return random.Random(seed).randbytes(size)
def answering(listener):
    client, _ = listener.accept()
    for n in range(601):
        if not client.recv(1000):
            break
        client.sendall(garbage(-1 - n, 1 + n * 11 % 300))
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_error(404)
    def log_message(self, *arguments): pass
for port in PORTS.values():
    listener = socket.create_server(("127.0.0.1", port))
    threading.Thread(target=answering, args=(listener,), daemon=True).start()
server = http.server.ThreadingHTTPServer(("127.0.0.1", WEB), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
"""
WAITING = """
with span("waiting"):
    for client in clients:
        for n in range(19):
            client.sendall(GET)
            answer(client)
    for client in clients[1:]:
        client.sendall(command(b"BLPOP", b"nothing", b"0"))
open(T + "/waiting", "w").close()
clients[1].recv(100)
"""


@pytest.mark.parametrize("how", ["the client is killed", "the trace is ended"])
def test_calls_under_way_at_the_end(lab: Lab, redis: Server, how: str) -> None:
    """They are no calls yet, but in flight, with their age; and the last answers that came are all there."""
    folder = lab.folder()
    before = PROBE + client_of(redis) + RAW + SET + "clients = [connected() for n in range(3)]\n"
    (folder / "program.py").write_text(PRELUDE + before + WAIT + WAITING)
    with (
        lab.started(f"exec {sys.executable} {folder}/program.py", folder) as client,
        lab.attached("-p", str(client.pid), folder=folder) as tracer,
    ):
        until((folder / "ready").exists, "the program to be ready")
        go(client)
        until((folder / "waiting").exists, "its calls", PATIENCE_S)
        time.sleep(0.7)  # some ticks
        if how == "the client is killed":
            client.kill()
            assert tracer.wait() == 0
        else:
            assert tracer.stop(signal.SIGINT) == 130
        run = tracer.result()

    assert calls(run, operation="GET") == {"GET": 3 * 19}
    assert errors(run) == ({"dropped": 2} if how == "the client is killed" else {})
    assert highest(run, "db.in_flight", system="redis") == 2
    assert 400_000_000 < highest(run, "db.in_flight.age", system="redis") < 60_000_000_000
    assert highest(run, "db.connections", system="redis") == 3
    assert latency(run, operation="GET").high < 1_000_000_000
