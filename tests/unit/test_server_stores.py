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
