"""Loads of the benchmark's programs that come from outside of them, and are not traced: wrk."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_RATE = re.compile(r"^Requests/sec:\s*([\d.]+)$", re.MULTILINE)


class _Wrk(StreamRequestHandler):
    def handle(self) -> None:
        """Answer `PORT SECONDS` with the requests a second."""
        port, seconds = self.rfile.readline().split()
        whole = max(1, round(float(seconds)))
        command = ["wrk", "-t1", "-c16", f"-d{whole}s", f"http://127.0.0.1:{int(port)}/?subject=3"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = _RATE.search(said)
        assert found, said
        self.wfile.write(f"{found[1]}\n".encode())


@contextmanager
def wrk() -> Iterator[None]:
    """Run wrk for whoever asks for it on the socket BENCH_WRK, within the block."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = str(Path(folder, "wrk"))
        with ThreadingUnixStreamServer(path, _Wrk) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            os.environ["BENCH_WRK"] = path
            yield
            server.shutdown()
