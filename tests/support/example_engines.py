"""
The engines of examples/engines, as an installed package would bring them.

Rule of this file: they are found by their entry points, as they stand in their ``pyproject.toml``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from baoha.core.engines.registry import GROUP, installed_engine_types
from baoha.core.framework.engine_type import EngineType

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "engines"


@contextmanager
def installed(folder: Path, points: dict[str, str]) -> Iterator[None]:
    """Install a package with entry points, for the time of the block: its metadata in a folder."""
    info = folder / "example-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        patch.syspath_prepend(str(folder))
        yield


def example_engines(folder: Path) -> dict[str, EngineType]:
    """Return the rows of the examples by name."""
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]
    with installed(folder, project["entry-points"][GROUP]):
        return {row.name: row for row in installed_engine_types()}
