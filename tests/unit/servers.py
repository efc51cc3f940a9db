"""
Database servers for tests: on ports and in folders of their own, ended with the session.

The folders are none of pytest's: it closes those to other users, as whom these servers run where
the tests run as root.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])
_PATIENCE_S = 60


@contextmanager
def postgresql() -> Iterator[int]:
    """Yield the port of a PostgreSQL on 127.0.0.1, user `postgres`, no password."""
    with _folder("postgres", "postgresql") as (folder, user):
        make = [_program("initdb", "postgresql"), "-D", f"{folder}/data", "-A", "trust", "-N", "-U", "postgres"]
        _made(make, folder, user)
        port = _free_port()
        options = ["-p", str(port), "-k", "", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        command = [_program("postgres", "postgresql"), "-D", f"{folder}/data", *options]
        with _serving(command, folder, user, port):
            yield port


@contextmanager
def mariadb() -> Iterator[int]:
    """Yield the port of a MariaDB on 127.0.0.1, user `root`, no password."""
    with _folder("mysql", "mariadb-server") as (folder, user):
        names = ["--no-defaults", f"--datadir={folder}/data"]
        make = [_program("mariadb-install-db", "mariadb-server"), *names, "--auth-root-authentication-method=normal"]
        _made(make, folder, user)
        port = _free_port()
        where = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/s", f"--pid-file={folder}/pid"]
        with _serving([_program("mariadbd", "mariadb-server"), *names, *where], folder, user, port):
            yield port


@contextmanager
def redis() -> Iterator[int]:
    """Yield the port of a Redis on 127.0.0.1."""
    with _folder("redis", "redis-server") as (folder, user):
        port = _free_port()
        command = [_program("redis-server", "redis-server"), "--port", str(port), "--save", "", "--dir", str(folder)]
        with _serving(command, folder, user, port):
            yield port


@contextmanager
def _folder(user: str, package: str) -> Iterator[tuple[Path, int]]:
    """Yield a folder, and the id of *user*, whose it is where we are root, as which no server would run."""
    with tempfile.TemporaryDirectory(prefix="tracekit-") as name:
        uid = os.geteuid() or _user(user, package)
        os.chown(name, uid, -1)
        yield Path(name), uid


def _user(name: str, package: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        pytest.fail(f"the user {name} is missing: apt install {package}")


def _made(command: list[str], folder: Path, user: int) -> None:
    done = subprocess.run(command, user=user, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{command[0]} failed: {done.stdout[-1000:]} {done.stderr[-1000:]}")


def _program(name: str, package: str) -> str:
    found = shutil.which(name, path=_PATH)
    if not found:
        pytest.fail(f"{name} is missing: apt install {package}")
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def _serving(command: list[str], folder: Path, user: int, port: int) -> Iterator[None]:
    log = folder / "server.log"
    with log.open("w") as out:
        server = subprocess.Popen(command, user=user, cwd=folder, stdout=out, stderr=out)
    try:
        _wait_for(server, port, log)
        yield
    finally:
        server.terminate()
        server.wait(_PATIENCE_S)


def _wait_for(server: subprocess.Popen, port: int, log: Path) -> None:
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until and server.poll() is None:
        with socket.socket() as client:
            if not client.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.05)
    pytest.fail(f"{server.args[0]} does not answer: {log.read_text()[-500:]}")
