"""Where the time of a call went: to the server, to the run queue, to the client that let the answer lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kernel.databases import RAW, SLEEP_NS, calls, client_of, latency, parts
from tests.kernel.lab import SLACK
from tests.kernel.spanned import PROBE, made_of, record

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run
    from tests.servers import Server

TIMES = 11
BUSY_NS = 30_000_000
CASES = f"""
import redis, subprocess
def spin(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until: pass

cursor = psycopg2_to().cursor()
for n in range({TIMES}):
    with span("blocking"): cursor.execute("select pg_sleep({SLEEP_NS / 1e9})")

cache = redis.Redis(port=REDIS)
cache.ping()
for n in range({TIMES}):
    with span("receiving"): cache.blpop("nothing", timeout={SLEEP_NS / 1e9})

def responding(listener, log):
    # at once, and notes just before and after each that it sends
    peer, _ = listener.accept()
    with open(log, "w") as file:
        while peer.recv(100):
            before = time.monotonic_ns()
            peer.send(b"$-1\\r\\n")
            file.write(f"{{before}} {{time.monotonic_ns()}}\\n")
listener = socket.create_server(("127.0.0.1", 0))
responder = os.fork()
if not responder:
    responding(listener, T + "/answers")
    os._exit(0)
asked = {{}}

async def asynchronous():
    connection = await asyncpg_to()
    for n in range({TIMES}):
        with span("awaiting"): await connection.execute("select pg_sleep({SLEEP_NS / 1e9})")
    (reader, writer), (other, to_other) = [await asyncio.open_connection("127.0.0.1", REDIS) for _ in range(2)]
    for n in range({TIMES}):
        with span("at_once"):
            writer.write(command(b"BLPOP", b"nothing", b"{SLEEP_NS / 1e9}"))
            to_other.write(command(b"BLPOP", b"nothing", b"{SLEEP_NS / 1e9}"))
            await reader.readexactly(5)
            await other.readexactly(5)
    quick, to_quick = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1])
    async def late(name, work):
        asked[name] = []
        for n in range({TIMES}):
            with span(name):
                before = time.monotonic_ns()
                to_quick.write(command(b"GET", b"nothing"))
                asked[name].append((before, time.monotonic_ns()))
                work({BUSY_NS / 1e9})
                await quick.readexactly(5)
    await late("blocked_loop", time.sleep)
    await late("busy_loop", spin)
    to_quick.close()
    await to_quick.wait_closed()
asyncio.run(asynchronous())

def queued_ns():
    with open("/proc/thread-self/schedstat") as file: return int(file.read().split()[1])
def starving():
    hog = subprocess.Popen([sys.executable, "-c", "print(flush=True)\\nwhile True: pass"], stdout=subprocess.PIPE)
    hog.stdout.readline()
    os.sched_setaffinity(hog.pid, {{0}})
    os.sched_setaffinity(0, {{0}})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    time.sleep(0.1)
    queued = -queued_ns()
    for n in range({TIMES}):
        with span("starved"): cursor.execute("select 1")
    queued += queued_ns()
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    hog.kill()
    hog.wait()
    return queued
queued = starving()
os.waitpid(responder, 0)
with open(T + "/answers") as file: answered = [tuple(map(int, line.split())) for line in file]
served = {{}}
for name, requests in asked.items():
    answers, answered = answered[:len(requests)], answered[len(requests):]
    pairs = list(zip(requests, answers))
    served[name] = (sum(max(0, a - r) for (_, r), (a, _) in pairs), sum(a - r for (r, _), (_, a) in pairs))
truth(queued=queued, served=served)
"""


@pytest.fixture(scope="module")
def recorded(lab: Lab, postgresql: Server, redis: Server) -> Run:
    """Record calls that wait for a reason that is known, each in a span of its own."""
    return record(lab, CASES, before=PROBE + client_of(postgresql, "postgresql") + RAW + f"REDIS = {redis.port}\n")


@pytest.mark.parametrize("name", ["blocking", "receiving", "awaiting", "at_once"])
def test_a_server_that_takes_its_time(recorded: Run, name: str) -> None:
    """The call is waiting for the server, however the client waits."""
    times = 2 * TIMES if name == "at_once" else TIMES

    found = parts(recorded, span=name)

    assert sum(calls(recorded, span=name).values()) == times
    assert found["db"] > 0.8
    assert found["db"] + found["runq"] > 0.97  # others use the machine too
    assert all(share >= 0 for share in found.values())


@pytest.mark.parametrize("name", ["blocking", "receiving"])
def test_a_span_that_waits_for_a_server(recorded: Run, name: str) -> None:
    """It is that it waits for, not some socket or poll."""
    found = made_of(recorded, name)

    assert found.count == TIMES
    assert TIMES * SLEEP_NS * 0.98 <= found.components["db"] <= found.latency_ns
    # one in eleven: where the machine does not report that data came in, the wait stays what it looks like
    assert found.components["network"] + found.components["poll"] <= SLACK * 0.1 * found.latency_ns
    assert sum(found.components.values()) == found.latency_ns


@pytest.mark.parametrize("name", ["awaiting", "at_once"])
def test_an_async_span_that_waits_for_servers(recorded: Run, name: str) -> None:
    """One server, or two at the same time: never more than the span took."""
    found = made_of(recorded, name)

    assert found.count == TIMES
    assert TIMES * SLEEP_NS * 0.98 <= found.components["db"] <= found.latency_ns
    assert found.share("db") > 0.8
    assert found.components["awaiting"] <= 0.1 * found.latency_ns
    assert sum(found.components.values()) == found.latency_ns


@pytest.mark.parametrize("name", ["blocked_loop", "busy_loop"])
def test_an_answer_that_a_busy_client_lets_lie(recorded: Run, name: str) -> None:
    """
    The call takes as long as its client is busy, and that is not the server's time.

    That is from the end of sending to the arrival of the answer: the server says when it answers.
    """
    found, whole = parts(recorded, span=name), latency(recorded, span=name)
    at_least, at_most = recorded.truth["truth"]["served"][name]

    assert whole.low >= BUSY_NS * 0.99
    assert at_least - TIMES * 1_000 <= found["db"] * whole.total <= at_most + TIMES * 1_000
    assert found["client"] + found["runq"] == pytest.approx(1 - found["db"])
    assert made_of(recorded, name).components["db"] <= at_most + TIMES * 1_000


def test_an_answer_that_waits_for_a_cpu(recorded: Run) -> None:
    """
    The client may run only when nobody else wants to, and somebody does.

    How long it has waited for a CPU, in calls and between them, the scheduler counts too.
    """
    found, whole = parts(recorded, span="starved"), latency(recorded, span="starved").total

    assert calls(recorded, span="starved") == {"SELECT": TIMES}
    assert found["runq"] > 5 * found["client"]
    assert TIMES * 1_000_000 < found["runq"] * whole <= recorded.truth["truth"]["queued"]
