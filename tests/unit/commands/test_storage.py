"""`baoha storage list`: the rows of the installed stores, without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baoha.storage.registry import load_type, store_names
from tests.support.cli_lab import CommandLine


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> CommandLine:
    return CommandLine(monkeypatch, capfdbinary, str(tmp_path))


def test_list_shows_every_installed_store_and_its_settings(cli: CommandLine) -> None:
    ran = cli("storage", "list")
    assert ran.code == 0
    for name in store_names():
        row = load_type(name)
        assert row.summary in ran.out
        assert all(f"{name}.{setting.key}" in ran.out for setting in row.settings)


def test_list_as_json_has_schema_and_whole_rows(cli: CommandLine) -> None:
    ran = cli("storage", "list", "-format=json")
    found = json.loads(ran.out)
    assert found["schema"] == "baoha.storage-list/v1"
    stores = {store["name"]: store for store in found["stores"]}
    assert stores["inmem"]["lock"] is None
    sqlite = stores["sqlite"]
    assert sqlite["capabilities"] == ["ha", "fencing", "watch", "hand_over", "session_lock"]
    assert sqlite["lock"] == {"ttl_min_s": 0.0, "late_factor": 1.0, "knows_lifetime": True}
    settings = {setting["key"]: setting for setting in sqlite["settings"]}
    assert (settings["path"]["required"], settings["path"]["kind"]) == (True, "path")
    assert settings["op_timeout"]["default"] == "2s"
