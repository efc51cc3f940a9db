"""What is a call of a database, whichever port, and what is none."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests import servers
from tests.kernel.databases import RAW, SLEEP_NS, calls, client_of, errors, latency, peers, statements
from tests.kernel.lab import PATIENCE_S, go, until
from tests.kernel.spanned import PRELUDE, PROBE, WAIT, record

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run
    from tests.servers import Server

SLEEPS = 11
PYMYSQL = f"""
import pymysql
def connect(**to):
    return pymysql.connect(user="root", database="test", autocommit=True, **(to or dict(host="127.0.0.1", port=PORT)))
def repeat(times, connection, query, *arguments):
    with connection.cursor() as cursor:
        for n in range(times):
            cursor.execute(query, *arguments)
            cursor.fetchall()
tcp, unix = connect(), connect(unix_socket=PATH)
with span("tcp"): repeat(199, tcp, "select %s", [1])
with span("unix"): repeat(101, unix, "select 1")
with span("commented"): repeat(19, unix, "/* where it is from */ select 1")
with span("inserting"):
    repeat(1, tcp, "create temporary table numbers (n int)")
    repeat(31, tcp, "insert into numbers values (%s)", [7])
    for n in range(7): tcp.commit()
with span("sleeping"): repeat({SLEEPS}, tcp, "select sleep({SLEEP_NS / 1e9})")
with span("large_requests"): repeat(7, tcp, "select length(%s)", ["x" * 1_000_000])
with span("large_answers"): repeat(11, tcp, "select repeat('x', 5000000)")
with span("failing"):
    failing(13, pymysql.err.ProgrammingError, repeat, 1, tcp, "select * from nowhere")
    failing(5, pymysql.err.ProgrammingError, repeat, 1, tcp, "select from where")
with span("connecting"):
    for n in range(7): connect(unix_socket=PATH).close()
    failing(3, pymysql.err.OperationalError, pymysql.connect, host="127.0.0.1", port=PORT, user="root", password="no")
with span("ping"):
    for n in range(17): tcp.ping(reconnect=False)
def work():
    connection = connect()
    with span("threads"): repeat(41, connection, "select 1")
in_threads(5, work)
with span("many_rows"): repeat(3, tcp, "select * from information_schema.columns, (select 1 union select 2) as twice")
"""
SPANS = {
    "tcp": {"SELECT": 199},
    "unix": {"SELECT": 101},
    "commented": {"SELECT": 19},
    "inserting": {"CREATE": 1, "INSERT": 31, "COMMIT": 7},
    "sleeping": {"SELECT": SLEEPS},
    "large_requests": {"SELECT": 7},
    "large_answers": {"SELECT": 11},
    "failing": {"SELECT": 18},
    "connecting": {"CONNECT": 7 + 3, "SET": 7},
    "ping": {"PING": 17},
    "threads": {"SELECT": 5 * 41},
    "many_rows": {"SELECT": 3},
}
"""What each span calls, by operation."""


@pytest.fixture(scope="module")
def recorded(lab: Lab, mariadb: Server) -> tuple[Run, dict[str, int]]:
    """Record pymysql, each way of calling in a span of its own; and what the server says of it."""
    before = statements(mariadb)
    run = record(lab, PYMYSQL, before=PROBE + client_of(mariadb))
    after = statements(mariadb)
    return run, {word: after[word] - before[word] for word in after}


@pytest.mark.parametrize("name", SPANS)
def test_calls_of_mariadb_are_as_many_as_were_made(recorded: tuple[Run, dict[str, int]], name: str) -> None:
    """By operation, in the span that made them."""
    assert calls(recorded[0], span=name, system="mysql") == SPANS[name]


def test_mariadb_agrees(recorded: tuple[Run, dict[str, int]]) -> None:
    """What it could not parse is in no books of it."""
    run, books = recorded
    made = calls(run)

    assert books["SELECT"] == made["SELECT"] - errors(run)["1064"]
    assert (books["INSERT"], books["COMMIT"]) == (made["INSERT"], made["COMMIT"])
    assert books["SET_OPTION"] == made["SET"] + 2  # when it was asked for its books
    assert run.lost == {}


def test_peers_errors_and_latency_of_mariadb(recorded: tuple[Run, dict[str, int]], mariadb: Server) -> None:
    """As of the other systems; its errors are numbers."""
    run, _ = recorded

    for way in ("tcp", "unix"):
        assert set(calls(run, "peer", span=way)) == {peers(mariadb)[way]}
    assert errors(run) == {"1146": 13, "1064": 5, "1045": 3}
    assert latency(run, span="sleeping").low >= SLEEP_NS
    assert latency(run, span="sleeping").share_above(SLEEP_NS * 2) < 0.3


OLDER = """
import psycopg2, pymysql, redis
older = psycopg2.connect(host="127.0.0.1", user="postgres", dbname="postgres", port=PORT).cursor()
older.connection.autocommit = True
older.execute("select 1")
maria = pymysql.connect(unix_socket=MARIA, user="root").cursor()
maria.execute("select 1")
cache = redis.Redis(port=REDIS)
cache.set("key", "value")
"""


@pytest.mark.parametrize("known", [False, True], ids=["by its bytes", "by its port"])
def test_connections_older_than_the_trace(
    lab: Lab, postgresql: Server, mariadb: Server, redis: Server, known: bool
) -> None:
    """What they are is told by what is sent, or by their port; from then on each call counts."""
    where = f"MARIA, REDIS = {mariadb.path!r}, {redis.port}\n"
    options = (f"--db-port={postgresql.port}=postgresql", f"--db-port={redis.port}=redis") if known else ()
    run = record(
        lab,
        """
        with span("postgresql"):
            for n in range(61): older.execute("select 1")
        with span("mysql"):
            for n in range(59): maria.execute("select 1")
        with span("redis"):
            for n in range(53): cache.get("key")
        older.connection.close()
        maria.connection.close()
        """,
        *options,
        before=PROBE + client_of(postgresql) + where + OLDER,
    )

    assert calls(run, "span", system="postgresql", operation="SELECT") == {"postgresql": 61}
    assert calls(run, "span", system="mysql", operation="SELECT") == {"mysql": 59}
    assert calls(run, "span", system="redis", operation="GET") == {"redis": 53}
    assert sum(calls(run).values()) == 61 + 59 + 53
    assert errors(run) == run.lost == {}


SERVE = """
def serve(answer, size=None):
    server = socket.create_server(("127.0.0.1", 0))
    def work():
        client, _ = server.accept()
        while got := client.recv(1_000_000):
            client.sendall(answer(got) if callable(answer) else answer)
    threading.Thread(target=work, daemon=True).start()
    return server.getsockname()[1]
"""


MONGO = """
import struct
if not os.fork():
    server, _ = socket.create_server(("127.0.0.1", MONGO)).accept()
    while server.recv(1000):
        time.sleep(0.001)
        server.sendall(struct.pack("<iiii", 16, 1, 7, 2013))
    os._exit(0)
time.sleep(0.3)
"""


def test_a_system_that_only_its_port_tells(lab: Lab, redis: Server) -> None:
    """MongoDB: its calls are timed, on a port that is said to be its."""
    port = servers.free_port()
    run = record(
        lab,
        """
        client = socket.create_connection(("127.0.0.1", MONGO))
        message = struct.pack("<iiii5x", 21, 7, 0, 2013)
        with span("calling"):
            for n in range(43):
                client.sendall(message)
                client.recv(100)
        """,
        f"--db-port={port}=mongodb",
        before=PROBE + client_of(redis) + f"MONGO = {port}\n" + MONGO,
    )

    assert calls(run, span="calling", system="mongodb", peer=f"127.0.0.1:{port}") == {"-": 43}
    assert latency(run, span="calling").low >= 1_000_000


OTHERS = """
import http.server, json, multiprocessing, struct, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments): pass
web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=web.serve_forever, daemon=True).start()
import http.client
browser = http.client.HTTPConnection("127.0.0.1", web.server_port)
bodies = (b"*1\\r\\n$4\\r\\nPING\\r\\n", b"Q\\0\\0\\0\\rselect 1\\0", json.dumps({"query": "select 1"}).encode())
with span("web"):
    for body in bodies:
        for n in range(23):
            browser.request("POST", "/", body)
            browser.getresponse().read()
SAID = {
    "memcached": (b"get key\\r\\n", b"VALUE key 0 5\\r\\nvalue\\r\\nEND\\r\\n"),
    "smtp": (b"EHLO here\\r\\n", b"250-there\\r\\n250 HELP\\r\\n"),
    "quit": (b"QUIT\\r\\n", b"221 bye\\r\\n"),
    "http2": (b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n", b"\\0\\0\\0\\4\\0\\0\\0\\0\\0"),
    "tls": (b"\\x16\\3\\1\\0\\x7f\\1\\0\\0\\x7b\\3\\3" + bytes(119), b"\\x16\\3\\3\\0\\x7a\\2\\0\\0\\x76" + bytes(118)),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\\r\\n", b"SSH-2.0-OpenSSH_9.2\\r\\n"),
    "length": (struct.pack("!i", 9) + b"something", struct.pack("!i", 2) + b"ok"),
    "length in little endian": (struct.pack("<i", 9) + b"something", struct.pack("<i", 2) + b"ok"),
    "text": (b"Please do this\\n", b"Done\\n"),
    "star": (b"* 1 FETCH\\r\\n", b"* OK\\r\\n"),
    "number": (b"*12 points\\r\\n", b"+12\\r\\n"),
    "dollar": (b"$5 paid\\r\\n", b"-5\\r\\n"),
    "json": (json.dumps([1, 2]).encode() + b"\\n", b"{}\\n"),
    "one byte": (b"P", b"Q"),
    "zeros": (bytes(64), bytes(64)),
    "names": (b"\\0\\x1d\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\7example\\3com\\0\\0\\1\\0\\1", b"\\0\\0"),
}
for name, (request, reply) in SAID.items():
    client = socket.create_connection(("127.0.0.1", serve(reply)))
    with span(name):
        for n in range(19):
            client.sendall(request)
            client.recv(1000)
    client.close()
ours, theirs = multiprocessing.Pipe()
with span("pickles"):
    for value in ("Q", {"select": 1}, b"\\3select 1", list(range(100))):
        ours.send(value)
        theirs.recv()
        theirs.send(value)
        ours.recv()
left, right = socket.socketpair()
with span("pair"):
    for n in range(29):
        left.send(b"select 1\\n")
        right.recv(100)
        right.send(b"1\\n")
        left.recv(100)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 0))
udp.connect(udp.getsockname())
with span("datagrams"):
    for n in range(13):
        udp.send(b"Q\\0\\0\\0\\rselect 1\\0")
        udp.recv(100)
"""


def test_other_protocols_are_no_calls(lab: Lab, redis: Server) -> None:
    """The web, mail, shells, pickles between processes: not one call, and no error."""
    run = record(lab, OTHERS, before=PROBE + client_of(redis) + SERVE)

    assert calls(run, "span") == {}
    assert errors(run) == {}


BLOCKED = """
waiting = connected()
waiting.sendall(command(b"BLPOP", b"queue", b"0"))
"""


def test_servers_are_no_clients(lab: Lab, postgresql: Server, redis: Server) -> None:
    """
    With servers in the target too, each call counts at the one who made it.

    Also where the first that is seen of a connection is what its server says, in the same words as a request.
    """
    folder = lab.folder()
    program = folder / "program.py"
    before = client_of(postgresql, "postgresql") + f"PORT = {redis.port}\n" + RAW + BLOCKED
    program.write_text(PRELUDE + PROBE + before + WAIT + BOTH)
    servers_too = [str(server.process.pid) for server in (postgresql, redis)]
    with (
        lab.started(f"exec {sys.executable} {program}", folder) as client,
        lab.attached("-p", ",".join([str(client.pid), *servers_too]), folder=folder) as tracer,
    ):
        until((folder / "ready").exists, "the program to be ready")
        go(client)
        assert client.wait(PATIENCE_S) == 0
        tracer.stop(signal.SIGINT)
        run = tracer.result()

    assert calls(run, "role", operation="SELECT") == {"python": 37}
    assert calls(run, "role", operation="GET") == {"python": 41}
    assert set(calls(run, "role")) == {"python"}
    assert errors(run) == {}


BOTH = """
repeat(37, psycopg2_to().cursor(), "select 1")
client = connected()
for n in range(41):
    client.sendall(GET)
    client.recv(100)
client.sendall(command(b"RPUSH", b"queue", b"value"))
client.recv(100)
assert waiting.recv(100) == command(b"queue", b"value")
"""


def test_a_port_that_is_said_to_be_another_database(lab: Lab, redis: Server) -> None:
    """What is sent tells better, from the first request on; no connecting to the other one is made of it."""
    run = record(
        lab,
        """
        for n in range(19):
            client = connected()
            client.sendall(GET)
            client.recv(100)
            client.close()
        """,
        f"--db-port={redis.port}=postgresql",
        before=PROBE + client_of(redis) + RAW,
    )

    assert calls(run, "system") == {"redis": 19 + 18}
    assert calls(run) == {"GET": 19, "CONNECT": 18}
    assert errors(run) == run.lost == {}
