"""The stores of a process: which combinations can work."""

from pathlib import Path

import pytest

from baoha.config.load import load
from baoha.errors import ConfigError
from baoha.server.stores import open_stores


async def test_lock_in_another_store_than_fenced_data_is_refused_at_start(tmp_path: Path) -> None:
    """Goal: a node that could never become active does not start as if it could."""
    file = tmp_path / "config.hcl"
    file.write_text(
        f'storage "sqlite" {{ path = "{tmp_path}/data.db" }}\n'
        f'ha_storage "sqlite" {{ path = "{tmp_path}/lock.db" }}\n'
        'api_addr = "http://127.0.0.1:8200"\n'
        'cluster_addr = "https://127.0.0.1:8201"\n'
        'listener "tcp" { address = "127.0.0.1:8200" tls_disable = true }\n'
    )
    config = load([file], {})
    with pytest.raises(ConfigError, match="leave ha_storage out"):
        async with open_stores(config):
            pytest.fail("opened")


@pytest.mark.parametrize("block", ["storage", "ha_storage"])
async def test_unknown_key_of_a_store_is_named_with_its_place_and_the_nearest_one(
    tmp_path: Path, block: str
) -> None:
    file = tmp_path / "config.toml"
    other = "" if block == "storage" else "[storage.inmem]\n"
    file.write_text(
        'api_addr = "http://127.0.0.1:8200"\ncluster_addr = "https://127.0.0.1:8201"\n'
        f'{other}[[listener.tcp]]\naddress = "127.0.0.1:8200"\ntls_disable = true\n'
        f'[{block}.sqlite]\npath = "{tmp_path}/data.db"\nbusy_timeuot = "1s"\n'
    )
    line = file.read_text().count("\n")
    config = load([file], {})
    with pytest.raises(ConfigError) as caught:
        async with open_stores(config):
            pytest.fail("opened")
    assert str(caught.value) == (
        f'{file}:{line}: unknown key "{block}.busy_timeuot"; did you mean "busy_timeout"?'
    )
