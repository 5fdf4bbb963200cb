"""
What a store says of itself before it is opened: its row.

Rules of this file:

1. A row is declared, not found out: nothing is opened, connected to or imported for it but the
   module in which it stands. A driver is imported where the store is opened.
2. Whoever decides something by the kind of store asks its row; no store is known by its name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, fields
from typing import Protocol

from baoha.errors import ConfigError
from baoha.storage.base import NO_LIMITS, Backend, Capabilities, StoreLimits
from baoha.storage.settings import Settings, StoreSetting
from baoha.timing import BootClock, boot_time_s


class Opener(Protocol):
    """Opens a store."""

    def __call__(
        self, settings: Mapping[str, object], *, boot_clock: BootClock = ...
    ) -> Awaitable[Backend]:
        """Open the store that a ``[storage.X]`` block describes."""


class Checker(Protocol):
    """Checks a block beyond its single keys, without opening anything."""

    def __call__(self, settings: Mapping[str, object]) -> float | None:
        """Return the ``op_timeout_s`` that the store will have; raise ConfigError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockTraits:
    """
    How exactly a store keeps the time of its HA locks; durations are checked against it at start.

    Attributes:
        ttl_min_s: the shortest ttl that it grants, in seconds.
        late_factor: a lock may outlive its ttl so many times over before the store lets go (1.0:
            it lets go on time). It never lets go too early.
        knows_lifetime: a record says how long it will last.
    """

    ttl_min_s: float = 0.0
    late_factor: float = 1.0
    knows_lifetime: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreType:
    """
    One kind of store: what an entry point of ``baoha.storage`` names.

    Attributes:
        name: the X of ``[storage.X]``, and the name of the entry point.
        summary: what it is, in one line without a full stop.
        open: opens it.
        capabilities: the most it can do. A store that was opened may do less (it depends on the
            place), and never more.
        settings: the keys of its block.
        check: checks what single keys do not show; None: there is nothing.
        limits: how much it takes.
        lock: the traits of its HA lock; None without the capability ``ha``.
    """

    name: str
    summary: str
    open: Opener
    capabilities: Capabilities
    settings: tuple[StoreSetting, ...] = ()
    check: Checker | None = None
    limits: StoreLimits = NO_LIMITS
    lock: LockTraits | None = None

    def __post_init__(self) -> None:
        if self.capabilities.ha != (self.lock is not None):
            raise ConfigError(f"store {self.name!r}: HA and the traits of a lock go together")

    def check_settings(self, settings: Mapping[str, object]) -> float | None:
        """
        Check a block without opening anything.

        Returns:
            The ``op_timeout_s`` that the store will have; None: that is not known beforehand.

        Raises:
            ConfigError: a setting is missing, wrong or unknown.
        """
        Settings(self.name, self.settings, settings)
        return self.check(settings) if self.check is not None else None

    async def open_backend(
        self, settings: Mapping[str, object], *, boot_clock: BootClock = boot_time_s
    ) -> Backend:
        """
        Open the store, and hold it to its row.

        Args:
            settings: its block.
            boot_clock: seconds, counting suspends too.

        Raises:
            ConfigError: wrong settings, or a store that claims more than its row.
            StorageUnavailable: it cannot be opened now.

        Owns: the caller closes the store with ``aclose``.
        """
        self.check_settings(settings)
        backend = await self.open(settings, boot_clock=boot_clock)
        added = [
            field.name
            for field in fields(Capabilities)
            if getattr(backend.capabilities, field.name)
            and not getattr(self.capabilities, field.name)
        ]
        if added:
            await backend.aclose()
            raise ConfigError(f"store {self.name!r} does more than its row says: {added}")
        backend.limits = self.limits
        return backend
