"""Fixtures of the diagnostic lab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.world import World
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
