"""
Turns of an agent: database queries, a tool as a process, a conversation over a socket, work on a CPU.

usage: agent.py TURNS ROUNDS CPU [TURNS-PER-SECOND]

Prints ns per turn of the fastest round, as the C workloads do; with a pace, pauses are part of it.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from time import perf_counter_ns, sleep

MESSAGE = json.dumps({"role": "tool", "content": "y" * 800}).encode()


def database(folder: str) -> sqlite3.Connection:
    """Open a file of 2000 notes on 97 subjects."""
    db = sqlite3.connect(Path(folder, "notes.db"), isolation_level=None)
    db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; CREATE TABLE note (subject, words);")
    with db:
        db.executemany("INSERT INTO note VALUES (?, ?)", [(n % 97, "x" * 200) for n in range(2000)])
    db.execute("CREATE INDEX by_subject ON note (subject)")
    return db


def echo(server: socket.socket) -> None:
    peer, _ = server.accept()
    while said := peer.recv(4096):
        peer.sendall(said)


def connect() -> socket.socket:
    """Connect to a thread that says everything back."""
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=echo, args=(server,), daemon=True).start()
    peer = socket.create_connection(server.getsockname())
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def turn(number: int, db: sqlite3.Connection, peer: socket.socket) -> None:
    for subject in range(number, number + 12):
        db.execute("SELECT COUNT(*), MAX(LENGTH(words)) FROM note WHERE subject = ?", (subject % 97,)).fetchone()
    db.execute("INSERT INTO note VALUES (?, ?)", (number % 97, "z" * 200))
    subprocess.run(["/bin/true"], check=True)
    for _ in range(20):
        peer.sendall(MESSAGE)
        heard = 0
        while heard < len(MESSAGE):
            heard += len(peer.recv(4096))
    sum(k * k for k in range(3000))
    with suppress(FileNotFoundError):
        Path(f"/no-such-folder/{number}").stat()


def main() -> None:
    turns, rounds, cpu, *pace = map(int, sys.argv[1:])
    os.sched_setaffinity(0, {cpu})
    times = []
    with tempfile.TemporaryDirectory() as folder:
        db, peer = database(folder), connect()
        for _ in range(rounds):
            start = perf_counter_ns()
            for number in range(turns):
                turn(number, db, peer)
                if pace:
                    sleep(max(0, (start + (number + 1) * 1e9 / pace[0] - perf_counter_ns()) / 1e9))
            times.append((perf_counter_ns() - start) / turns)
    print(f"{min(times):.0f}")


if __name__ == "__main__":
    main()
