"""
Database servers for tests: on ports, sockets and in folders of their own, ended with the block.

The folders are none of pytest's: it closes those to other users, as whom these servers run where
the tests run as root; and they are short, as the path of a Unix socket has 108 bytes at most.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])
_PATIENCE_S = 60
_READY = re.compile("ready (to accept|for) connections", re.IGNORECASE)
"""What all three log when they are; PostgreSQL lets connect before, and refuses then."""


@dataclass(frozen=True)
class Server:
    """
    A server that runs.

    Attributes:
        port: on 127.0.0.1, and on ::1 where the machine has it.
        path: of its Unix socket.
        folder: where its data are, writable by it.
        process: the first one of its processes.
    """

    port: int
    path: str
    folder: Path
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.process.kill()
        self.process.wait(_PATIENCE_S)

    def own(self, path: Path) -> None:
        """Give it a file, which nobody else may read."""
        path.chmod(0o600)
        os.chown(path, self.folder.stat().st_uid, -1)


@contextmanager
def postgresql() -> Iterator[Server]:
    """Yield a PostgreSQL: user `postgres`, no password, no TLS; pg_stat_statements loaded."""
    with _folder("postgres", "postgresql") as (folder, user):
        make = [_program("initdb", "postgresql"), "-D", f"{folder}/data", "-A", "trust", "-N", "-U", "postgres"]
        _made([*make, "--no-locale", "-E", "UTF8"], folder, user)
        port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1,::1",
            "fsync": "off",
            "shared_preload_libraries": "pg_stat_statements",
            "unix_socket_directories": str(folder),
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [_program("postgres", "postgresql"), "-p", str(port), "-D", f"{folder}/data", *options]
        with _serving(command, folder, user, port, f"{folder}/.s.PGSQL.{port}") as server:
            yield server


@contextmanager
def mariadb() -> Iterator[Server]:
    """Yield a MariaDB: user `root`, no password."""
    with _folder("mysql", "mariadb-server") as (folder, user):
        names = ["--no-defaults", f"--datadir={folder}/data"]
        make = [_program("mariadb-install-db", "mariadb-server"), *names, "--auth-root-authentication-method=normal"]
        _made(make, folder, user)
        port = free_port()
        bind = ",".join(_loopback())
        where = [f"--port={port}", f"--bind-address={bind}", f"--socket={folder}/s", f"--pid-file={folder}/pid"]
        command = [_program("mariadbd", "mariadb-server"), *names, *where]
        with _serving(command, folder, user, port, f"{folder}/s") as server:
            yield server


@contextmanager
def redis() -> Iterator[Server]:
    """Yield a Redis that saves nothing and knows DEBUG."""
    with _folder("redis", "redis-server") as (folder, user):
        port = free_port()
        command = [_program("redis-server", "redis-server"), "--port", str(port), "--save", "", "--dir", str(folder)]
        command += ["--unixsocket", f"{folder}/s", "--enable-debug-command", "yes", "--bind", *_loopback()]
        with _serving(command, folder, user, port, f"{folder}/s") as server:
            yield server


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def has_ipv6() -> bool:
    """Is there a ::1?"""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def certificate(server: Server) -> tuple[Path, Path]:
    """Return the certificate and key that *server* can prove itself by, signed by nobody."""
    made, key = server.folder / "server.crt", server.folder / "server.key"
    what = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command = [_program("openssl", "openssl"), "req", *what, "-keyout", str(key), "-out", str(made)]
    _made(command, server.folder, os.geteuid())
    server.own(key)
    server.own(made)
    return made, key


def _loopback() -> list[str]:
    return ["127.0.0.1", "::1"] if has_ipv6() else ["127.0.0.1"]


@contextmanager
def _folder(user: str, package: str) -> Iterator[tuple[Path, int]]:
    """Yield a folder, and the id of *user*, whose it is where we are root, as which no server would run."""
    with tempfile.TemporaryDirectory(prefix="tracekit-", dir="/tmp") as name:
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


@contextmanager
def _serving(command: list[str], folder: Path, user: int, port: int, path: str) -> Iterator[Server]:
    log = folder / "server.log"
    with log.open("w") as out:
        # a group of its own, so that Ctrl-C ends the tests first
        process = subprocess.Popen(command, user=user, cwd=folder, stdout=out, stderr=out, start_new_session=True)
    try:
        _wait_for(process, log)
        yield Server(port, path, folder, process)
    finally:
        # SIGTERM lets PostgreSQL wait for its clients
        process.send_signal(signal.SIGINT if command[0].endswith("postgres") else signal.SIGTERM)
        process.wait(_PATIENCE_S)


def _wait_for(server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not _READY.search(log.read_text(errors="replace")):
        if time.monotonic() > until or server.poll() is not None:
            pytest.fail(f"{server.args[0]} does not answer: {log.read_text(errors='replace')[-500:]}")
        time.sleep(0.02)
