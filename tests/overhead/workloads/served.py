"""
A web server and its client: `served.py starlette|flask`.

The server is this process; the client is a child of it, which ends when the server has.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request

CLIENT = """
import http.client, sys, threading, time
def ask():
    while True:
        try:
            http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=5).request("GET", "/")
            break
        except OSError:
            time.sleep(0.1)
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=5)
    while True:
        connection.request("GET", "/items?count=50")
        connection.getresponse().read()
threads = [threading.Thread(target=ask) for _ in range(4)]
for each in threads:
    each.start()
"""


def items(count: int) -> list[dict[str, object]]:
    """Return some rows, made as an application makes them."""
    return [
        {"id": number, "name": f"item {number}", "tags": sorted({"a", "b", str(number % 7)})} for number in range(count)
    ]


def starlette(port: int) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def listed(request: Request) -> JSONResponse:
        return JSONResponse(items(int(request.query_params.get("count", "1"))))

    uvicorn.run(Starlette(routes=[Route("/", listed), Route("/items", listed)]), port=port, log_level="error")


def flask(port: int) -> None:
    import logging

    from flask import Flask, request

    app = Flask(__name__)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    page = app.jinja_env.from_string(
        "<ul>{% for each in rows %}<li>{{ each.id }} {{ each.name }}</li>{% endfor %}</ul>"
    )

    @app.route("/")
    @app.route("/items")
    def listed() -> str:
        return page.render(rows=json.loads(json.dumps(items(int(request.args.get("count", "1"))))))

    app.run(port=port, threaded=True)


def main() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    subprocess.Popen([sys.executable, "-c", CLIENT, str(port)], stderr=subprocess.DEVNULL)
    {"starlette": starlette, "flask": flask}[sys.argv[1]](port)


if __name__ == "__main__":
    main()
