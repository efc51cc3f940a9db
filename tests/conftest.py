"""What tests of more than one room start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import sample as writer
from tests import servers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of the recording that tests/sample.py writes. Shared: read it, never change it."""
    path = tmp_path_factory.mktemp("recording") / "sample.tk"
    writer.write(path)
    return path


@pytest.fixture(scope="session")
def postgresql() -> Iterator[servers.Server]:
    """Yield a PostgreSQL that all tests share: they leave it as it is."""
    with servers.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[servers.Server]:
    """Yield a MariaDB that all tests share: they leave it as it is."""
    with servers.mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[servers.Server]:
    """Yield a Redis that all tests share: they leave it as it is."""
    with servers.redis() as server:
        yield server
