"""
A web service, as wrk finds it: each request parses JSON and asks a database in memory.

usage: web.py REQUESTS ROUNDS CPU

wrk is no child of it, which would be traced too: it is started by whoever listens on the socket BENCH_WRK, who is
told the address and how long, and answers with the requests a second. Prints ns per request of the fastest round.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import sys

from aiohttp import web

REQUESTS_A_SECOND = 2000
"""About as many as a core of this kind answers: so long as COUNT would take is asked for."""


def service() -> web.Application:
    notes = sqlite3.connect(":memory:", isolation_level=None)
    notes.execute("CREATE TABLE note (subject INTEGER PRIMARY KEY, words TEXT)")
    notes.executemany("INSERT INTO note VALUES (?, ?)", [(number, "x" * 200) for number in range(97)])

    async def answer(request: web.Request) -> web.Response:
        subject = int(request.query.get("subject", 7)) % 97
        found = notes.execute("SELECT words FROM note WHERE subject = ?", (subject,)).fetchone()
        return web.json_response({"subject": subject, "words": found[0]})

    application = web.Application()
    application.router.add_get("/", answer)
    return application


def asked(port: int, seconds: float) -> float:
    """Have wrk ask, and return the requests a second."""
    with socket.socket(socket.AF_UNIX) as outside:
        outside.connect(os.environ["BENCH_WRK"])
        outside.sendall(f"{port} {seconds:.1f}\n".encode())
        return float(outside.makefile().readline())


async def main() -> None:
    count, rounds, cpu = map(int, sys.argv[1:])
    os.sched_setaffinity(0, {cpu})
    runner = web.AppRunner(service(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    rates = [await asyncio.to_thread(asked, port, max(1, count / REQUESTS_A_SECOND)) for _ in range(rounds)]
    print(f"{1e9 / max(rates):.0f}")
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
