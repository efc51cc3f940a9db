"""
One agent: has some candidate policies evaluated, keeps the best, and ends.

usage: agent.py REDIS_PORT TRANSCRIPTS NUMBER

It also does what agents do in the wild: looks for files that are not there, makes a
folder that exists and calls a tool server that is down.
"""

from __future__ import annotations

import json
import random
import socket
import sys
from contextlib import suppress
from pathlib import Path

from names import be_called
from redis_lists import RedisLists

from tracekit import mark

CANDIDATES = 8
CONFIG_FOLDERS = ("/etc/agents", "/usr/local/etc/agents", "/run/agents")
TOOL_SERVER = ("127.0.0.1", 9)  # "discard": nobody listens there
GIVES_UP_EVERY = 10


def main() -> int:
    """Return 1 if the agent gave up, as every tenth does: the tool was vital to it."""
    be_called("agent")
    redis_port, transcripts, number = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    configuration(number)
    if not tool_is_up() and number % GIVES_UP_EVERY == 0:
        return 1
    redis = RedisLists(redis_port)
    mark("ready")
    scores = ask_for_scores(redis, number)
    transcripts.mkdir(exist_ok=True)
    (transcripts / f"{number}.json").write_text(json.dumps(scores))
    return 0 if len(scores) == CANDIDATES else 1


def configuration(number: int) -> str:
    """Return the text of the first configuration file there is, "" if there is none."""
    for folder in CONFIG_FOLDERS:
        with suppress(FileNotFoundError):
            return Path(folder, f"{number}.toml").read_text()
    return ""


def tool_is_up() -> bool:
    """Try the tool server."""
    try:
        socket.create_connection(TOOL_SERVER).close()
    except OSError:
        return False
    return True


def ask_for_scores(redis: RedisLists, number: int) -> list[float]:
    """Queue the candidates, wait for as many scores."""
    rng = random.Random(number)  # noqa: S311  no secret: the same agent proposes the same policies
    reply = f"scores:{number}"
    for _ in range(CANDIDATES):
        policy = [rng.uniform(-1, 1) for _ in range(4)]
        redis.push("candidates", json.dumps({"policy": policy, "reply": reply}))
    scores = [redis.pop(reply, timeout_s=5) for _ in range(CANDIDATES)]
    return [float(score) for score in scores if score is not None]


if __name__ == "__main__":
    sys.exit(main())
