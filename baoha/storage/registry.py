"""
Stores by name: the entry point group ``baoha.storage``.

Rule of this file: a store is code that the operator installed. Its entry point names a coroutine
function with the signature of ``Opener``; nothing is registered at run time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from importlib.metadata import entry_points
from typing import Protocol, cast

from baoha.errors import ConfigError
from baoha.storage.base import Backend
from baoha.timing import BootClock, boot_time_s

GROUP = "baoha.storage"


class Opener(Protocol):
    """What an entry point of the group names: ``open_backend`` of a store module."""

    def __call__(
        self, settings: Mapping[str, object], *, boot_clock: BootClock = ...
    ) -> Awaitable[Backend]:
        """Open the store that a ``[storage.X]`` block describes."""


def store_names() -> list[str]:
    """Return the names of all installed stores, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_opener(name: str) -> Opener:
    """
    Return the ``open_backend`` of a store.

    Raises:
        ConfigError: no such store is installed, or a package that it needs is missing.
    """
    points = list(entry_points(group=GROUP, name=name))
    if not points:
        raise ConfigError(
            f"unknown storage type {name!r}; installed are: {', '.join(store_names())}"
        )
    try:
        return cast("Opener", points[0].load())
    except (ImportError, AttributeError) as exc:
        raise ConfigError(f"cannot load storage type {name!r}: {exc}") from exc


async def open_backend(
    name: str, settings: Mapping[str, object], *, boot_clock: BootClock = boot_time_s
) -> Backend:
    """
    Open a store by name.

    Args:
        name: the X of ``[storage.X]``.
        settings: the block; the store refuses keys that it does not know.
        boot_clock: seconds, counting suspends too.

    Raises:
        ConfigError: unknown store, or wrong settings.
        StorageUnavailable: the store cannot be opened now.

    Owns: the caller closes the store with ``aclose``.
    """
    return await load_opener(name)(settings, boot_clock=boot_clock)
