"""
Stores by name: the entry point group ``baoha.storage``.

Rule of this file: a store is code that the operator installed. Its entry point names its row, a
``StoreType``; nothing is registered at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points

from baoha.errors import ConfigError
from baoha.storage.base import Backend
from baoha.storage.store_type import StoreType
from baoha.timing import BootClock, boot_time_s

GROUP = "baoha.storage"


def store_names() -> list[str]:
    """Return the names of all installed stores, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_type(name: str) -> StoreType:
    """
    Return the row of a store.

    Raises:
        ConfigError: no such store is installed, or a package that it needs is missing.
    """
    points = list(entry_points(group=GROUP, name=name))
    if not points:
        raise ConfigError(
            f"unknown storage type {name!r}; installed are: {', '.join(store_names())}"
        )
    try:
        row = points[0].load()
    except (ImportError, AttributeError) as exc:
        raise ConfigError(f"cannot load storage type {name!r}: {exc}") from exc
    if not isinstance(row, StoreType) or row.name != name:
        raise ConfigError(
            f"cannot load storage type {name!r}: {points[0].value} is not its StoreType"
        )
    return row


def find_type(name: str) -> StoreType | None:
    """Return the row of a store; None: it is not installed here, or cannot be loaded."""
    try:
        return load_type(name)
    except ConfigError:
        return None


def is_ha(name: str) -> bool | None:
    """Return whether nodes can share a store of this name; None: it is not known here."""
    row = find_type(name)
    return None if row is None else row.capabilities.ha


def secrets_of(name: str) -> frozenset[str]:
    """Return the settings of a store that no text may show; none where it is not known here."""
    row = find_type(name)
    return frozenset(one.key for one in row.settings if one.secret) if row else frozenset()


def variables_of(name: str) -> Mapping[str, str]:
    """Return the environment variables of a store's settings, by key, without their prefix."""
    row = find_type(name)
    return {one.key: one.env for one in row.settings if one.env} if row else {}


async def open_backend(
    name: str, settings: Mapping[str, object], *, boot_clock: BootClock = boot_time_s
) -> Backend:
    """
    Open a store by name.

    Args:
        name: the X of ``[storage.X]``.
        settings: the block; keys that the store does not know are refused.
        boot_clock: seconds, counting suspends too.

    Raises:
        ConfigError: unknown store, or wrong settings.
        StorageUnavailable: the store cannot be opened now.

    Owns: the caller closes the store with ``aclose``.
    """
    return await load_type(name).open_backend(settings, boot_clock=boot_clock)
