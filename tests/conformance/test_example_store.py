"""The example of a store: found through its entry point, it keeps the contract of every store."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest
import trio

from baoha.config.load import load
from baoha.errors import ConfigError
from baoha.server.stores import check_stores
from baoha.storage.base import Backend
from baoha.storage.exercise import exercise_backend, exercise_ha_backend
from baoha.storage.exercise.data import DATA_PARTS
from baoha.storage.registry import is_ha, load_type, store_names
from baoha.timing import boot_time_s
from tests.support.cli_lab import CommandLine

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "store"


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Make the package known as an installer does: by its metadata and its place in the path."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    ((group, points),) = project["entry-points"].items()
    metadata = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    lines = [f"{key} = {value}" for key, value in points.items()]
    (metadata / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    (metadata / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (found,) = points
    return str(found)


async def test_example_store_is_found_and_passes_the_shipped_suites(
    name: str, tmp_path: Path
) -> None:
    now_s = boot_time_s()
    path = str(tmp_path / "file.json")

    async def open_one() -> Backend:
        return await load_type(name).open_backend({"path": path}, boot_clock=lambda: now_s)

    async def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds
        await trio.lowlevel.checkpoint()

    assert name in store_names()
    assert is_ha(name) is True
    assert len((await exercise_backend(open_one)).passed) == len(DATA_PARTS)
    report = await exercise_ha_backend(open_one, sleep=sleep)
    assert set(report.not_run.values()) == {"watch", "session_lock"}
    assert "the_writes_of_a_predecessor_are_refused" in report.passed


def config(tmp_path: Path, name: str) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(
        'api_addr = "http://127.0.0.1:8200"\ncluster_addr = "https://127.0.0.1:8201"\n'
        '[[listener.tcp]]\naddress = "127.0.0.1:8200"\ntls_disable = true\n'
        f'[storage.{name}]\npath = "{tmp_path}/file.json"\n'
    )
    return file


def test_example_store_is_known_to_the_check_of_a_configuration(name: str, tmp_path: Path) -> None:
    file = config(tmp_path, name)
    check_stores(load([file], {}))
    file.write_text(file.read_text().replace("path =", "paht ="))
    with pytest.raises(ConfigError, match="path is required"):
        check_stores(load([file], {}))


def test_environment_replaces_the_setting_of_the_example_store_that_names_a_variable(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    cli = CommandLine(monkeypatch, capfdbinary, str(tmp_path))
    cli.setenv("BAOHA_ONEFILE_PATH", "/elsewhere.json")
    file = config(tmp_path, name)
    ran = cli("server", f"-config={file}", "--print-effective-config", "-format=json")
    rows = {row["key"]: row for row in json.loads(ran.out)["settings"]}
    assert rows["storage.path"]["value"] == "/elsewhere.json"
    assert rows["storage.path"]["source"].startswith("env BAOHA_ONEFILE_PATH")
