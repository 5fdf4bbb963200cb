"""Fixtures of the diagnostic lab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.diagnosis.real import RealLab
from tests.diagnosis.world import World
from tests.support.cli_lab import CommandLine


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> CommandLine:
    """Return the command line with a clean environment."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return CommandLine(monkeypatch, capfdbinary, str(tmp_path))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return an empty scripted world."""
    with World(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealLab]:
    """Return the real clusters of a module, each started when it is first asked for."""
    lab = RealLab(tmp_path_factory.mktemp("clusters"))
    try:
        yield lab
    finally:
        lab.close()
