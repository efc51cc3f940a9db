"""What tests of more than one room start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import sample as writer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of the recording that tests/sample.py writes. Shared: read it, never change it."""
    path = tmp_path_factory.mktemp("recording") / "sample.tk"
    writer.write(path)
    return path
