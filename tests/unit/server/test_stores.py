"""The stores of a process: which combinations can work."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from baoha.config.load import load
from baoha.config.model import ServerConfig
from baoha.errors import ConfigError
from baoha.server.stores import Stores, check_stores, open_stores, with_addresses
from baoha.storage.inmem import EVERYTHING, InmemBackend, World


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


def write_config(folder: Path, *, ha: str = "", store: str = "") -> Path:
    file = folder / "config.toml"
    file.write_text(
        'api_addr = "http://127.0.0.1:8200"\ncluster_addr = "https://127.0.0.1:8201"\n'
        '[[listener.tcp]]\naddress = "127.0.0.1:8200"\ntls_disable = true\n'
        f'[storage.sqlite]\npath = "{folder}/data.db"\n{store}\n[ha]\n{ha}\n'
    )
    return file


WRONG_DURATIONS = [
    ("", 'op_timeout = "10m"', "op_timeout of the store (600s) must not be above renew_timeout"),
    ("", 'op_timeout = "2001ms"', "op_timeout of the store (2.001s)"),
    ('renew_timeout = "1s"', "", "op_timeout of the store (2s)"),
    ('cleanup = "1s"', "", "op_timeout of the store (2s)"),
    ('renew_timeout = "3s"\nlock_ttl = "9s"', 'op_timeout = "3s"', "op_timeout of the store (3s)"),
    ("", 'busy_timeout = "2100ms"', "busy_timeout must not be above op_timeout"),
    ("", 'op_timeout = "1s"\nbusy_timeout = "1500ms"', "busy_timeout must not be above op_timeout"),
]
RIGHT_DURATIONS = [
    ("", ""),
    ("", 'op_timeout = "1s"'),
    ("", 'op_timeout = "2s"\nbusy_timeout = "2s"'),
    ('renew_timeout = "3s"\ncleanup = "3s"\nlock_ttl = "9s"', 'op_timeout = "3s"'),
]


@pytest.mark.parametrize(("ha", "store", "text"), WRONG_DURATIONS)
async def test_store_that_may_take_longer_than_what_waits_for_it_is_refused(
    ha: str, store: str, text: str, tmp_path: Path
) -> None:
    config = load([write_config(tmp_path, ha=ha, store=store)], {})
    with pytest.raises(ConfigError) as checked:
        check_stores(config)
    with pytest.raises(ConfigError) as opened:
        async with open_stores(config):
            pytest.fail("opened")
    assert text in str(checked.value)
    assert str(opened.value) == str(checked.value)


@pytest.mark.parametrize(("ha", "store"), RIGHT_DURATIONS)
async def test_store_that_answers_in_time_is_accepted(ha: str, store: str, tmp_path: Path) -> None:
    config = load([write_config(tmp_path, ha=ha, store=store)], {})
    check_stores(config)
    async with open_stores(config) as stores:
        assert stores.ha is not None


def test_check_of_the_stores_opens_nothing_and_knows_their_keys(tmp_path: Path) -> None:
    file = write_config(tmp_path, store='fence_by_kil = true\nfence_by_kill = "yes"')
    with pytest.raises(ConfigError, match="fence_by_kill must be true or false, got 'yes'"):
        check_stores(load([file], {}))
    file = write_config(tmp_path, store="fence_by_kil = true")
    with pytest.raises(ConfigError, match=r'"storage\.fence_by_kil"; did you mean "fence_by_kill"'):
        check_stores(load([file], {}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml"]


def test_check_of_a_store_that_is_not_installed_says_so(tmp_path: Path) -> None:
    file = write_config(tmp_path)
    file.write_text(file.read_text().replace("storage.sqlite", "storage.abacus"))
    with pytest.raises(ConfigError, match="unknown storage type 'abacus'; installed are: inmem"):
        check_stores(load([file], {}))


class KnowsThisNode(InmemBackend):
    """A store that tells a node's address as others see it; "" where it cannot tell today."""

    def __init__(self, host: str) -> None:
        super().__init__(World(capabilities=replace(EVERYTHING, redirect_address=True)))
        self._host = host

    async def detect_redirect_address(self) -> str | None:
        await trio.lowlevel.checkpoint()
        return self._host or None


def without_address(folder: Path) -> ServerConfig:
    config = load([write_config(folder)], {})
    return replace(config, api_addr="", cluster_addr="", cluster_addr_given="")


async def test_api_address_that_is_not_set_is_asked_of_a_store_that_can_tell(
    tmp_path: Path,
) -> None:
    store = KnowsThisNode("n1.example.com")
    told = await with_addresses(without_address(tmp_path), Stores(data=store, ha=store))
    assert told.api_addr == "http://n1.example.com:8200"
    assert told.cluster_addr == "https://n1.example.com:8201"


async def test_api_address_that_is_set_stays_whatever_the_store_tells(tmp_path: Path) -> None:
    config = load([write_config(tmp_path)], {})
    store = KnowsThisNode("n1.example.com")
    assert await with_addresses(config, Stores(data=store, ha=store)) is config


async def test_api_address_that_the_store_cannot_tell_either_is_missing(tmp_path: Path) -> None:
    store = KnowsThisNode("")
    with pytest.raises(ConfigError, match="missing API address") as caught:
        await with_addresses(without_address(tmp_path), Stores(data=store, ha=store))
    assert caught.value.code == "BH-101"


async def test_api_address_that_the_store_tells_wrong_is_refused(tmp_path: Path) -> None:
    store = KnowsThisNode("0.0.0.0")
    with pytest.raises(ConfigError, match="wildcard"):
        await with_addresses(without_address(tmp_path), Stores(data=store, ha=store))


def test_check_of_a_lock_in_a_store_without_ha_is_refused_before_it_is_opened(
    tmp_path: Path,
) -> None:
    file = write_config(tmp_path)
    file.write_text(file.read_text() + "[ha_storage.inmem]\n")
    with pytest.raises(ConfigError, match="does not support HA"):
        check_stores(load([file], {}))
