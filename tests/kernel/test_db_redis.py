"""Calls of Redis, by redis-py and by clients that read and write sockets in every way there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kernel.databases import RAW, SLEEP_NS, calls, client_of, commands, errors, forget_commands, latency, peers
from tests.kernel.spanned import PROBE, record

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run
    from tests.servers import Server

SLEEPS, WAITS = 11, 13
CONNECTING = {"CONNECT", "HELLO", "CLIENT"}
"""Where a server has been heard before, and what redis-py says of itself first."""
LIBRARY = f"""
import redis, redis.asyncio, os
def client(**to):
    made = redis.Redis(**to)
    made.set("key", "value")
    return made
tcp, unix, ipv6 = client(port=PORT), client(unix_socket_path=PATH), client(host="::1", port=PORT)

with span("tcp"):
    for n in range(199): tcp.set("key", n)
    for n in range(101): tcp.get("key")
with span("unix"):
    for n in range(97): unix.get("key")
with span("ipv6"):
    for n in range(89): ipv6.get("key")
with span("resp2"):
    old = redis.Redis(port=PORT, protocol=2)
    for n in range(83): old.incr("number")
with span("pipeline"):
    for n in range(13):
        pipeline = tcp.pipeline(transaction=False)
        for n in range(17): pipeline.get("key")
        pipeline.execute()
with span("transaction"):
    for n in range(11):
        pipeline = tcp.pipeline()
        for n in range(7): pipeline.incr("number")
        pipeline.execute()
with span("large_requests"):
    for n in range(7): tcp.set("large", "x" * 1_000_000)
with span("large_answers"):
    tcp.set("large", "x" * 5_000_000)
    for n in range(11): assert len(tcp.get("large")) == 5_000_000
with span("sleeping"):
    for n in range({SLEEPS}): tcp.execute_command("DEBUG", "SLEEP", "{SLEEP_NS / 1e9}")
with span("waiting"):
    for n in range({WAITS}): assert tcp.blpop("nothing", timeout={SLEEP_NS / 1e9}) is None
with span("failing"):
    failing(13, redis.ResponseError, tcp.lpush, "key", 1)
    failing(7, redis.ResponseError, tcp.execute_command, "NONSENSE")

def work():
    for n in range(41):
        with span("threads"): tcp.get("key")  # of a pool
in_threads(5, work)

async def asynchronous():
    # with a timeout, asyncio before Python 3.12 sends in a task of its own, which is in no span
    pool = redis.asyncio.BlockingConnectionPool(port=PORT, max_connections=3, socket_timeout=None)
    async with redis.asyncio.Redis(connection_pool=pool) as client:
        await asyncio.gather(*(client.ping() for _ in range(3)))  # connected, each
        async def work(name, times):
            with span(name):
                for n in range(times): await client.get("key")
        await asyncio.gather(*(work("left", 23) for _ in range(5)), *(work("right", 29) for _ in range(5)))
        with span("asyncio_pipeline"):
            for n in range(19):
                async with client.pipeline(transaction=False) as pipeline:
                    for n in range(5): pipeline.get("key")
                    await pipeline.execute()
    await pool.disconnect()
asyncio.run(asynchronous())

with span("subscribing"):
    listener = tcp.pubsub()
    listener.subscribe("news")
    assert listener.get_message(timeout=5)["type"] == "subscribe"
for n in range(3):
    time.sleep(0.1)
    unix.publish("news", "old")
    assert listener.get_message(timeout=5)["data"] == b"old"
"""
SPANS = {
    "tcp": {"SET": 199, "GET": 101},
    "unix": {"GET": 97},
    "ipv6": {"GET": 89},
    "resp2": {"INCRBY": 83},
    "pipeline": {"PIPELINE": 13},
    "transaction": {"PIPELINE": 11},
    "large_requests": {"SET": 7},
    "large_answers": {"SET": 1, "GET": 11},
    "sleeping": {"DEBUG": SLEEPS},
    "waiting": {"BLPOP": WAITS},
    "failing": {"LPUSH": 13, "NONSENSE": 7},
    "threads": {"GET": 5 * 41},
    "left": {"GET": 5 * 23},
    "right": {"GET": 5 * 29},
    "asyncio_pipeline": {"PIPELINE": 19},
    "subscribing": {"SUBSCRIBE": 1},
}
"""What each span calls, by operation; what redis-py says of itself left out."""


@pytest.fixture(scope="module")
def recorded(lab: Lab, redis: Server) -> tuple[Run, dict[str, int]]:
    """Record redis-py, each way of calling in a span of its own; and what the server says of it."""
    forget_commands(redis)
    run = record(lab, LIBRARY, before=PROBE + client_of(redis))
    return run, commands(redis)


@pytest.fixture(scope="module")
def library(recorded: tuple[Run, dict[str, int]]) -> Run:
    return recorded[0]


@pytest.mark.parametrize("name", SPANS)
def test_calls_are_as_many_as_were_made(library: Run, name: str) -> None:
    """By command, in the span that made them; a pipeline is one round trip, and one call."""
    found = calls(library, span=name, system="redis")

    assert {operation: count for operation, count in found.items() if operation not in CONNECTING} == SPANS[name]


def test_the_server_agrees(recorded: tuple[Run, dict[str, int]]) -> None:
    """Redis was given each command as often; those of pipelines are in its books alone."""
    run, books = recorded
    made = calls(run)

    made["GET"] += 13 * 17 + 19 * 5
    for name in ("GET", "SET", "LPUSH", "BLPOP", "DEBUG", "SUBSCRIBE", "PUBLISH"):
        assert (name, made[name]) == (name, books[name])
    assert made["INCRBY"] + 11 * 7 == books["INCRBY"]
    assert run.lost == {}


@pytest.mark.parametrize("way", ["tcp", "unix", "ipv6"])
def test_the_peer_is_who_was_called(library: Run, redis: Server, way: str) -> None:
    """Address and port, or the path of the socket."""
    assert set(calls(library, "peer", span=way)) == {peers(redis)[way]}


def test_errors_are_those_of_the_server(library: Run) -> None:
    """By their first word; a call that failed is a call."""
    assert errors(library, span="failing") == {"WRONGTYPE": 13, "ERR": 7}
    assert set(errors(library)) == {"WRONGTYPE", "ERR"}  # this server does not know all that redis-py says of itself


def test_waiting_takes_as_long_as_it_was_told(library: Run) -> None:
    """No call is shorter, and few are much longer; Redis looks for those whose time is over ten times a second."""
    sleeping, waiting = latency(library, operation="DEBUG"), latency(library, operation="BLPOP")

    assert sleeping.low >= SLEEP_NS
    assert sleeping.share_above(SLEEP_NS * 2) < 0.3
    assert waiting.low >= SLEEP_NS - 1_000_000
    assert waiting.share_above(SLEEP_NS + 200_000_000) < 0.3


def test_what_a_server_tells_unasked_is_no_answer(library: Run) -> None:
    """Messages that come long after it subscribed make the call no longer."""
    assert latency(library, span="subscribing", operation="SUBSCRIBE").high < 90_000_000


def test_ways_to_read_and_write(lab: Lab, redis: Server) -> None:
    """By the byte, in pieces, looking ahead, by each system call, from a connection that was there before."""
    ways = {"bytes": 31, "sent_by_bytes": 29, "read_write": 37, "messages": 41, "vectors": 23, "peeking": 43}
    ways |= {"inline": 47, "duplicate": 19, "poll": 17, "early": 53}
    run = record(
        lab,
        f"""
        import os, select
        client = connected()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(command(b"SET", b"key", b"value"))
        assert client.recv(5) == b"+OK\\r\\n"
        with span("bytes"):
            for n in range({ways["bytes"]}):
                client.sendall(GET)
                assert b"".join(client.recv(1) for _ in range(11)) == b"$5\\r\\nvalue\\r\\n"
        with span("sent_by_bytes"):
            for n in range({ways["sent_by_bytes"]}):
                for byte in GET: client.send(bytes([byte]))
                answer(client)
        with span("read_write"):
            for n in range({ways["read_write"]}):
                os.write(client.fileno(), GET)
                os.read(client.fileno(), 100)
        with span("messages"):
            for n in range({ways["messages"]}):
                client.sendmsg([GET[:4], b"", GET[4:9], GET[9:]])
                client.recvmsg(100)
        with span("vectors"):
            room = bytearray(3), bytearray(100)
            for n in range({ways["vectors"]}):
                os.writev(client.fileno(), [b"", GET[:1], GET[1:]])
                os.readv(client.fileno(), room)
        with span("peeking"):
            for n in range({ways["peeking"]}):
                client.sendall(GET)
                client.recv(1, socket.MSG_PEEK)
                answer(client)
        with span("inline"):
            for n in range({ways["inline"]}):
                client.sendall(b"GET key\\r\\n")
                answer(client)
        with span("duplicate"):
            for n in range({ways["duplicate"]}):
                other = client.dup()
                other.sendall(GET)
                answer(client)
                other.close()
        with span("poll"):
            client.setblocking(False)
            for n in range({ways["poll"]}):
                client.send(GET)
                select.select([client], [], [])
                answer(client)
                try: client.recv(100)
                except BlockingIOError: pass
        with span("early"):
            for n in range({ways["early"]}):
                early.sendall(GET)
                answer(early)
        """,
        before=PROBE + client_of(redis) + RAW + "early = connected('unix')\nearly.sendall(GET)\nearly.recv(100)\n",
    )

    assert {name: sum(calls(run, span=name).values()) for name in ways} == ways
    whole = set(ways) - {"sent_by_bytes", "messages", "vectors"}  # their first piece does not tell the operation
    assert {name: calls(run, span=name) for name in whole} == {name: {"GET": ways[name]} for name in whole}
    assert errors(run) == run.lost == {}


def test_a_connection_shared_with_a_child(lab: Lab, redis: Server) -> None:
    """Whoever calls, each call counts once; that the child closes it, by its end, is nothing."""
    run = record(
        lab,
        """
        def ask(name, times):
            with span(name):
                for n in range(times):
                    client.sendall(GET)
                    answer(client)
        client = connected()
        client.sendall(command(b"SET", b"key", b"value"))
        client.recv(5)
        with span("child"): pass  # a child that lives so short cannot tell what a span is called
        ask("before", 31)
        if not os.fork():
            ask("child", 37)
            os._exit(0)
        os.wait()
        ask("after", 29)
        """,
        before=PROBE + client_of(redis) + RAW,
    )

    assert calls(run, "span", operation="GET") == {"before": 31, "child": 37, "after": 29}
    assert errors(run) == {}
