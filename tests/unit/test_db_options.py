"""What can be asked for of databases on the command line, and what is refused."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tracekit.capture.db import ports
from tracekit.capture.options import Options
from tracekit.commands import attach, record, run
from tracekit.errors import UsageError


def test_a_port_is_a_number_and_a_system() -> None:
    """As given in the help."""
    assert record.db_port("6543=postgresql") == (6543, "postgresql")


@pytest.mark.parametrize(
    "text", ["", "6543", "6543=", "=redis", "0=redis", "65536=redis", "²=redis", "x=redis", "-1=redis"]
)
def test_what_is_no_port_is_a_usage_error(text: str) -> None:
    """One line that shows how it is written."""
    with pytest.raises(click.BadParameter, match="is not PORT=SYSTEM, such as"):
        record.db_port(text)


def test_an_unknown_system_is_told_the_known_ones() -> None:
    """SQLite listens nowhere."""
    with pytest.raises(click.BadParameter, match="'sqlite' is none of postgresql, mysql, redis, mongodb"):
        record.db_port("1=sqlite")


@pytest.mark.parametrize("asked", [["--db-text"], ["--db-uprobes"], ["--db-port", "1=redis"]])
@pytest.mark.parametrize("refusal", ["--no-db", "--probes-only"])
def test_nothing_is_asked_of_databases_that_are_not_looked_at(asked: list[str], refusal: str) -> None:
    """It would be silently missing."""
    done = CliRunner().invoke(attach.command, ["-p", "1", refusal, *asked])

    assert isinstance(done.exception, UsageError)
    assert str(done.exception).startswith(f"cannot use {asked[0]} with {refusal}: ")
    assert done.exception.hint == f"leave {refusal} out"


@pytest.mark.parametrize("command", [attach.command, run.command])
def test_the_help_names_the_options_and_an_example(command: click.Command) -> None:
    """Both commands have all of them."""
    text = CliRunner().invoke(command, ["--help"]).output

    for option in ("--db / --no-db", "--db-port PORT=SYSTEM", "--db-text", "--db-uprobes"):
        assert option in text
    assert "--db-text" in text.partition("Options:")[0]


def test_the_recording_says_that_databases_were_looked_at() -> None:
    """So that none called is a fact, and not something that was not measured."""
    assert Options(Path("x")).tiers == ("sched", "errors", "db", "stacks")
    assert Options(Path("x"), db=False, latency=True, stacks=False).tiers == ("sched", "errors", "syscalls")
    assert Options(Path("x"), probes_only=True).tiers == ("probes",)


def test_more_ports_than_there_is_room_for_are_refused() -> None:
    """Before any is written: the descriptor is none."""
    many = [(port, "redis") for port in range(1, ports.MOST)]

    with pytest.raises(UsageError, match="68 ports: 64 are the most"):
        ports.write(-1, many)
