"""
The stores of a node: opened before anything else, closed after everything else.

Rule of this file: what is opened here is closed here, also when the second store fails to open.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import trio

from baoha.config.model import ServerConfig, StorageConfig
from baoha.config.sections import unknown_key
from baoha.errors import ConfigError
from baoha.storage.base import Backend, HABackend
from baoha.storage.registry import check_settings, open_backend
from baoha.storage.settings import UnknownKeys

# How long a store may take to open, and to close.
OPEN_S = 30.0
CLOSE_S = 5.0


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
                config.ha.check_store(data.op_timeout_s)
            yield Stores(data=data, ha=data if able and isinstance(data, HABackend) else None)
            return
        async with _opened(config, "ha_storage", config.ha_storage) as separate:
            if not isinstance(separate, HABackend) or not separate.capabilities.ha:
                raise ConfigError("specified HA storage does not support HA")
            config.ha.check_store(separate.op_timeout_s)
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
            op_timeout_s = check_settings(storage.type, storage.settings)
        if block == "ha_storage" or config.ha_storage is None:
            config.ha.check_store(op_timeout_s)


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
