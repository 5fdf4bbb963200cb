"""
Stores by name: the entry point group ``baoha.storage``.

Rule of this file: a store is code that the operator installed. Its entry point names a coroutine
function with the signature of ``Opener``; nothing is registered at run time. Beside it the module
may have ``check_settings``, a function with the signature of ``Checker``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
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


class Checker(Protocol):
    """Checks a ``[storage.X]`` block without opening anything."""

    def __call__(self, settings: Mapping[str, object]) -> float | None:
        """Return the ``op_timeout_s`` that the store will declare; raise ConfigError."""


def store_names() -> list[str]:
    """Return the names of all installed stores, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_opener(name: str) -> Opener:
    """
    Return the ``open_backend`` of a store.

    Raises:
        ConfigError: no such store is installed, or a package that it needs is missing.
    """
    point = _entry_point(name)
    try:
        return cast("Opener", point.load())
    except (ImportError, AttributeError) as exc:
        raise ConfigError(f"cannot load storage type {name!r}: {exc}") from exc


def _entry_point(name: str) -> EntryPoint:
    points = list(entry_points(group=GROUP, name=name))
    if not points:
        raise ConfigError(
            f"unknown storage type {name!r}; installed are: {', '.join(store_names())}"
        )
    return points[0]


def check_settings(name: str, settings: Mapping[str, object]) -> float | None:
    """
    Check a store's block as far as that goes without opening it.

    Returns:
        The ``op_timeout_s`` that it will declare; None: that is not known beforehand, or a package
        that the store needs is not on this machine.

    Raises:
        ConfigError: unknown store, or wrong settings.
    """
    point = _entry_point(name)
    try:
        module = import_module(point.module)
    except ImportError:
        return None
    checker = cast("Checker | None", getattr(module, "check_settings", None))
    return None if checker is None else checker(settings)


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
