"""Fixtures of the tests of real processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from testbed.clusters import Cluster
from tests.cluster.lab import lab


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Three baoha nodes over one SQLite store, unsealed, all answering."""
    async with lab(tmp_path) as running:
        yield running
