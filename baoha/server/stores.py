"""
The stores of a node: opened before anything else, closed after everything else.

Rule of this file: what is opened here is closed here, also when the second store fails to open.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from baoha.config.model import ServerConfig, StorageConfig
from baoha.config.sections import unknown_key
from baoha.errors import ConfigError
from baoha.storage.base import Backend, HABackend
from baoha.storage.registry import open_backend
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
            yield Stores(data=data, ha=data if able and isinstance(data, HABackend) else None)
            return
        async with _opened(config, "ha_storage", config.ha_storage) as separate:
            if not isinstance(separate, HABackend) or not separate.capabilities.ha:
                raise ConfigError("specified HA storage does not support HA")
            if data.capabilities.fencing:
                # It proves the fence of a write against a lock of its own, and has none.
                raise ConfigError(
                    f"ha_storage cannot be used beside storage {config.storage.type!r}, which "
                    "accepts writes only from the holder of an HA lock in itself: leave ha_storage "
                    "out"
                )
            yield Stores(data=data, ha=separate, separate=separate)


@asynccontextmanager
async def _opened(
    config: ServerConfig, block: str, storage: StorageConfig
) -> AsyncIterator[Backend]:
    try:
        with trio.fail_after(OPEN_S):
            backend = await open_backend(storage.type, storage.settings)
    except UnknownKeys as error:
        key = error.keys[0]
        source = config.sources.get(f"{block}.{key}")
        if source is None:
            raise  # not from a file: there is no place to name
        where = source.text.removeprefix("file ")
        raise ConfigError(unknown_key(where, f"{block}.", key, error.known)) from error
    except trio.TooSlowError as error:
        what = block.replace("ha_", "HA ")
        raise ConfigError(f"{what} {storage.type} did not open within {OPEN_S:g} s") from error
    try:
        yield backend
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
            await backend.aclose()
