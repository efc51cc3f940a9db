"""An evaluator: takes policies from a queue, plays them, commits and returns the score."""

from __future__ import annotations

import json
import math
import sqlite3
from typing import TYPE_CHECKING

from names import be_called
from redis_lists import RedisLists

from tracekit import Kind, mark, span

if TYPE_CHECKING:
    from pathlib import Path

STEPS = 20_000
COMMIT = Kind("db.query", system="sqlite", query="insert result")


def create(database: Path) -> None:
    """Create the table of results."""
    with sqlite3.connect(database) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE IF NOT EXISTS result (policy TEXT, score REAL)")
    db.close()


def work(redis_port: int, database: Path) -> None:
    """Evaluate until terminated, or until the queue has gone."""
    be_called("evaluator")
    redis = RedisLists(redis_port)
    db = sqlite3.connect(database, timeout=10)
    db.execute("PRAGMA synchronous=FULL")  # every commit waits for the disk
    mark("ready")
    while True:
        try:
            task = redis.pop("candidates", timeout_s=5)
        except ConnectionError:
            return
        if task is not None:
            with span("evaluation"):
                answer(redis, db, task)


def answer(redis: RedisLists, db: sqlite3.Connection, task: bytes) -> None:
    """Evaluate one policy: CPU, then disk, then network."""
    wanted = json.loads(task)
    score = balance(wanted["policy"])
    with COMMIT(), db:
        db.execute("INSERT INTO result VALUES (?, ?)", (json.dumps(wanted["policy"]), score))
    redis.push(wanted["reply"], str(score))


def balance(policy: list[float]) -> float:
    """
    Return the share of time a linear policy keeps a pole on a cart upright.

    Source: the equations of Barto, Sutton and Anderson (1983), as in Gymnasium's CartPole.
    """
    gravity, pole_mass, total_mass, half_length, force, tau = 9.8, 0.1, 1.1, 0.5, 10.0, 0.02
    x = speed = angle = spin = 0.01
    upright = 0
    for _ in range(STEPS):
        push = force if policy[0] * x + policy[1] * speed + policy[2] * angle + policy[3] * spin > 0 else -force
        sine, cosine = math.sin(angle), math.cos(angle)
        swing = (push + pole_mass * half_length * spin**2 * sine) / total_mass
        torque = (gravity * sine - cosine * swing) / (half_length * (4.0 / 3.0 - pole_mass * cosine**2 / total_mass))
        pull = swing - pole_mass * half_length * torque * cosine / total_mass
        x, speed, angle, spin = x + tau * speed, speed + tau * pull, angle + tau * spin, spin + tau * torque
        if abs(x) > 2.4 or abs(angle) > 0.21:
            x = speed = angle = spin = 0.01
        else:
            upright += 1
    return upright / STEPS
