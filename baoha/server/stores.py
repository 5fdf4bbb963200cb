"""
The stores of a node: opened before anything else, closed after everything else.

Rule of this file: what is opened here is closed here, also when the second store fails to open.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import trio

from baoha.config.addresses import check_addresses, enforce
from baoha.config.model import ServerConfig, StorageConfig
from baoha.config.sections import unknown_key
from baoha.config.told_address import with_told_address
from baoha.diagnostics.code import Finding
from baoha.errors import ConfigError
from baoha.storage.base import Backend, HABackend
from baoha.storage.registry import find_type, is_ha, load_type, open_backend
from baoha.storage.settings import UnknownKeys
from baoha.storage.store_type import LockTraits

logger = logging.getLogger("baoha.server")

# How long a store may take to open, and to close.
OPEN_S = 30.0
CLOSE_S = 5.0
# OpenBao's words.
NOT_FOR_LOCKS = "specified HA storage does not support HA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """
    The open stores.

    Attributes:
        data: where entries live.
        ha: where the HA lock lives; None when there is none.
        separate: the ``ha_storage``, when it is a store of its own.
    """

    data: Backend
    ha: HABackend | None
    separate: Backend | None = None


@asynccontextmanager
async def open_stores(config: ServerConfig) -> AsyncIterator[Stores]:
    """
    Open the configured stores, and close them at the end.

    Raises:
        ConfigError: unknown store, wrong settings, or a store for the HA lock that cannot hold it.
        StorageError: a store cannot be opened now.
    """
    async with _opened(config, "storage", config.storage) as data:
        if config.ha_storage is None:
            able = isinstance(data, HABackend) and data.capabilities.ha
            if able:
                _check_lock_store(config, config.storage.type, data.op_timeout_s)
            yield Stores(data=data, ha=data if able and isinstance(data, HABackend) else None)
            return
        async with _opened(config, "ha_storage", config.ha_storage) as separate:
            if not isinstance(separate, HABackend) or not separate.capabilities.ha:
                raise ConfigError(NOT_FOR_LOCKS)
            _check_lock_store(config, config.ha_storage.type, separate.op_timeout_s)
            if data.capabilities.fencing:
                # It proves the fence of a write against a lock of its own, and has none.
                raise ConfigError(
                    f"ha_storage cannot be used beside storage {config.storage.type!r}, which "
                    "accepts writes only from the holder of an HA lock in itself: leave ha_storage "
                    "out"
                )
            yield Stores(data=data, ha=separate, separate=separate)


def check_stores(config: ServerConfig) -> None:
    """
    Check the blocks of the stores as far as that goes without opening them.

    Raises:
        ConfigError: unknown store, wrong settings, or durations that do not fit those of ``ha``.
    """
    for block, storage in (("storage", config.storage), ("ha_storage", config.ha_storage)):
        if storage is None:
            continue
        with _placed(config, block):
            row = load_type(storage.type)
            op_timeout_s = row.check_settings(storage.settings)
        if block == "ha_storage" and not row.capabilities.ha:
            raise ConfigError(NOT_FOR_LOCKS)
        if row.capabilities.ha and (block == "ha_storage" or config.ha_storage is None):
            _check_lock_store(config, storage.type, op_timeout_s)


def _check_lock_store(config: ServerConfig, name: str, op_timeout_s: float | None) -> None:
    """
    Check the durations of ``[ha]`` against the store of the HA lock.

    Raises:
        ConfigError: they do not fit it, or nobody can lead by its lock.
    """
    traits = load_type(name).lock or LockTraits()
    if not traits.knows_lifetime:
        raise ConfigError(
            f"storage {name!r} cannot hold the HA lock: it does not tell how long a lock lasts, by "
            "which standbys know a leader that is alive"
        )
    config.ha.check_store(op_timeout_s, ttl_min_s=traits.ttl_min_s, late_factor=traits.late_factor)


def judge_addresses(config: ServerConfig) -> list[Finding]:
    """Return what is wrong with the addresses of a node, as far as its text tells."""
    row = find_type((config.ha_storage or config.storage).type)
    is_told = row is not None and row.capabilities.redirect_address
    return check_addresses(config, is_ha, api_addr_is_told=is_told)


async def with_addresses(config: ServerConfig, stores: Stores) -> ServerConfig:
    """
    Return the configuration with the API address that the store tells, where none is set.

    Raises:
        ConfigError: the store cannot tell it either, and nodes share it; or what it tells is wrong.
        StorageUnavailable: it does not answer.
    """
    keeper = stores.separate or stores.data
    if config.api_addr or not keeper.capabilities.redirect_address:
        return config
    host: str | None = None
    with trio.move_on_after(OPEN_S):
        host = await keeper.detect_redirect_address()
    told = with_told_address(config, host) if host else config
    enforce(check_addresses(told, is_ha))
    if told.api_addr:
        logger.info(
            "the store has told the address of this node: api_addr=%s cluster_addr=%s",
            told.api_addr,
            told.cluster_addr or "none",
        )
    return told


@contextmanager
def _placed(config: ServerConfig, block: str) -> Iterator[None]:
    """Name the place in the file of a key that the store does not know."""
    try:
        yield
    except UnknownKeys as error:
        key = error.keys[0]
        source = config.sources.get(f"{block}.{key}")
        if source is None:
            raise  # not from a file: there is no place to name
        where = source.text.removeprefix("file ")
        raise ConfigError(unknown_key(where, f"{block}.", key, error.known)) from error


@asynccontextmanager
async def _opened(
    config: ServerConfig, block: str, storage: StorageConfig
) -> AsyncIterator[Backend]:
    try:
        with _placed(config, block), trio.fail_after(OPEN_S):
            backend = await open_backend(storage.type, storage.settings)
    except trio.TooSlowError as error:
        what = block.replace("ha_", "HA ")
        raise ConfigError(f"{what} {storage.type} did not open within {OPEN_S:g} s") from error
    try:
        yield backend
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
            await backend.aclose()
