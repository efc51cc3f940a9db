"""Other users than the one who runs the tests."""

from __future__ import annotations

import os

import pytest

NOBODY = 65534
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to act as another user")
