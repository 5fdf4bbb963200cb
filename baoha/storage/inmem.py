"""
The in-memory store: for tests, simulation and ``--dev``.

Rules of this file:

1. Every operation is one synchronous step; its only checkpoint comes before that step. So a
   cancelled call has had no effect, and a call that had its effect returns.
2. One ``World`` is one store. What many nodes share is the world, not the backend object.

Theory of operation. A dict holds the values and a sorted list their keys; locks are rows under the
rules of ``lock_rules``. A session is an open lock handle: an identity without one is "gone", as a
process is whose kernel file lock is free. Observers see every applied batch and every change of a
lock in the order in which they happened, which is what a simulation's checkers need.

Source: ours; OpenBao's counterpart is its inmem_ha store.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import trio

from baoha.errors import FencedWrite, LockLost, TransactionConflict
from baoha.storage import lock_rules
from baoha.storage.base import (
    NO_LIMITS,
    Backend,
    Batch,
    Capabilities,
    Fence,
    HABackend,
    HALock,
    Keys,
    LockRecord,
    StoreLimits,
)
from baoha.storage.keys import check_key, check_prefix, children
from baoha.storage.settings import Settings
from baoha.storage.store_type import StoreType
from baoha.timing import BootClock, boot_time_s

EVERYTHING = Capabilities(ha=True, fencing=True, watch=True, hand_over=True, session_lock=True)
# As a configured store: no second process can open it, so there is nobody to share a lock with.
ALONE = replace(EVERYTHING, ha=False)


class Observer:
    """What a checker may watch. Called synchronously, after the effect; must not raise lightly."""

    def applied(self, batch: Batch, fence: Fence | None) -> None:
        """A batch was applied; its fence, if any, was proven in the same step."""

    def lock_changed(self, key: str, record: LockRecord | None, epoch: int) -> None:
        """
        A lock was acquired, renewed, released or passed on.

        Args:
            record: who holds it now; None after a release.
            epoch: the last epoch that was given out.
        """


class World:
    """
    One store that many nodes open.

    Args:
        clock: the store's clock, in seconds; None: trio's (virtual in simulations).
        capabilities: what its backends declare. ``watch``, ``hand_over`` and ``session_lock`` are
            really absent when they are not declared; the rest is a declaration only.
        limits: what its backends declare.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] | None = None,
        capabilities: Capabilities = EVERYTHING,
        limits: StoreLimits = NO_LIMITS,
    ) -> None:
        self.capabilities = capabilities
        self.limits = limits
        self.data: dict[str, bytes] = {}
        self.locks: dict[str, lock_rules.LockRow] = {}
        self.observers: list[Observer] = []
        self._clock = clock
        self._sorted: list[str] = []
        self._sessions: Counter[str] = Counter()
        self._dead: set[str] = set()
        self._waiters: set[InmemLock] = set()

    def open(self, identity_hint: str = "") -> InmemBackend:
        """
        Open the store for one node.

        Args:
            identity_hint: shown in the backend's repr, to tell nodes apart in a simulation.
        """
        return InmemBackend(self, identity_hint)

    def now_s(self) -> float:
        """Return the store's time, in seconds."""
        return trio.current_time() if self._clock is None else self._clock()

    def process_died(self, identity: str) -> None:
        """Give the proof of death: the process of this identity is gone, its handles with it."""
        self._dead.add(identity)

    def is_gone(self, identity: str) -> bool:
        """Return whether no process stands for this identity."""
        return identity in self._dead or self._sessions[identity] == 0

    # --- data ---------------------------------------------------------------------------------

    def children(self, prefix: str, after: str = "", limit: int = -1) -> list[str]:
        """Return the direct children of a prefix."""
        return children(self._seek, prefix, after=after, limit=limit)

    def apply(self, batch: Batch) -> None:
        """Apply a batch as ``Backend.apply`` promises, in one step."""
        if batch.fence is not None and not self.fence_holds(batch.fence):
            raise FencedWrite
        for key, expected in batch.expected.items():
            if self.data.get(key) != expected:
                raise TransactionConflict
        for prefix, names in batch.expected_lists.items():
            if self.children(prefix) != list(names):
                raise TransactionConflict
        for key, value in batch.writes.items():
            self._write(key, value)
        # Observers must see what was applied, not what the caller does to its dict later.
        applied = replace(batch, writes=dict(batch.writes))
        for observer in self.observers:
            observer.applied(applied, batch.fence)

    def _write(self, key: str, value: bytes | None) -> None:
        present = key in self.data
        if value is not None:
            if not present:
                self._sorted.insert(bisect_left(self._sorted, key), key)
            self.data[key] = bytes(value)
        elif present:
            del self._sorted[bisect_left(self._sorted, key)]
            del self.data[key]

    def _seek(self, bound: str, prefix: str) -> Iterator[str]:
        for index in range(bisect_left(self._sorted, bound), len(self._sorted)):
            key = self._sorted[index]
            if not key.startswith(prefix):
                return
            yield key

    # --- locks --------------------------------------------------------------------------------

    def row(self, key: str) -> lock_rules.LockRow:
        """Return the lock's row; a lock that nobody ever acquired is free."""
        return self.locks.get(key, lock_rules.FREE)

    def fence_holds(self, fence: Fence) -> bool:
        """Return whether the tenure of a fence still holds its lock."""
        return lock_rules.fence_holds(self.row(fence.lock_key), fence, self.now_s())

    def set_row(self, key: str, row: lock_rules.LockRow, *, announce: bool = True) -> None:
        """Store a lock's row, tell the observers, and wake whoever waits for a change."""
        self.locks[key] = row
        now_record = lock_rules.record(row, self.now_s())
        for observer in self.observers:
            observer.lock_changed(key, now_record, row.epoch)
        if announce and self.capabilities.watch:
            for handle in self._waiters:
                if handle.key == key:
                    handle.wake()

    def join(self, handle: InmemLock) -> None:
        """Open a session for a handle's identity."""
        self._sessions[handle.identity] += 1
        self._waiters.add(handle)

    def leave(self, handle: InmemLock) -> None:
        """Close the session of a handle. Safe to call twice."""
        if handle in self._waiters:
            self._waiters.discard(handle)
            self._sessions[handle.identity] -= 1


class InmemBackend(Backend, HABackend):
    """One node's view of a world. Made by ``World.open``."""

    name = "inmem"

    def __init__(self, world: World, identity_hint: str = "") -> None:
        self.world = world
        self.capabilities = world.capabilities
        self.limits = world.limits
        self._hint = identity_hint

    def __repr__(self) -> str:
        return f"<InmemBackend {self._hint}>" if self._hint else "<InmemBackend>"

    async def get(self, key: str) -> bytes | None:
        check_key(key)
        await trio.lowlevel.checkpoint()
        return self.world.data.get(key)

    async def list(self, prefix: str) -> Keys:
        check_prefix(prefix)
        await trio.lowlevel.checkpoint()
        return self.world.children(prefix)

    async def list_page(self, prefix: str, after: str, limit: int) -> Keys:
        check_prefix(prefix)
        await trio.lowlevel.checkpoint()
        return self.world.children(prefix, after, limit)

    async def apply(self, batch: Batch) -> None:
        for key in batch.writes:
            check_key(key)
        await trio.lowlevel.checkpoint()
        self.world.apply(batch)

    async def open_lock(self, key: str, identity: str) -> InmemLock:
        await trio.lowlevel.checkpoint()
        return InmemLock(self.world, key, identity)


class InmemLock(HALock):
    """
    A contender's handle on a lock of a world.

    Owns: a session of its identity, until ``aclose``.
    """

    def __init__(self, world: World, key: str, identity: str) -> None:
        self.key = key
        self.identity = identity
        self._world = world
        self._changed = trio.Event()
        world.join(self)

    def __repr__(self) -> str:
        return f"<InmemLock {self.key} of {self.identity}>"

    def wake(self) -> None:
        """Remember that the lock may have changed hands."""
        self._changed.set()

    async def acquire(
        self, value: str, *, ttl_s: float, evict: LockRecord | None = None
    ) -> Fence | None:
        await trio.lowlevel.checkpoint()
        now_s = self._world.now_s()
        row = self._world.row(self.key)
        if not lock_rules.may_acquire(row, self.identity, now_s) and not (
            lock_rules.is_evicted(row, evict) and self._is_gone(row.identity)
        ):
            return None
        row = lock_rules.acquired(row, self.identity, value, now_s + ttl_s)
        self._world.set_row(self.key, row)
        return Fence(self.key, self.identity, row.epoch)

    async def renew(self, fence: Fence, *, ttl_s: float) -> None:
        await trio.lowlevel.checkpoint()
        if not self._world.fence_holds(fence):
            raise LockLost("the HA lock is held by somebody else or has expired")
        row = lock_rules.renewed(self._world.row(self.key), self._world.now_s() + ttl_s)
        self._world.set_row(self.key, row, announce=False)

    async def release(
        self, fence: Fence, *, successor: str | None = None, ttl_s: float = 0.0
    ) -> None:
        await trio.lowlevel.checkpoint()
        assert successor is None or self._world.capabilities.hand_over, "cannot pass a lock on"
        if self._world.fence_holds(fence):
            row = self._world.row(self.key)
            row = lock_rules.released(row, successor, self._world.now_s() + ttl_s)
            self._world.set_row(self.key, row)

    async def read(self) -> LockRecord | None:
        await trio.lowlevel.checkpoint()
        return lock_rules.record(self._world.row(self.key), self._world.now_s())

    async def wait_change(self) -> None:
        # Without the capability nobody calls wake(), and this never returns, as the contract says.
        await self._changed.wait()
        self._changed = trio.Event()

    async def holder_is_gone(self, record: LockRecord) -> bool:
        await trio.lowlevel.checkpoint()
        return self._is_gone(record.identity)

    async def aclose(self) -> None:
        self._world.leave(self)
        await trio.lowlevel.checkpoint()

    def _is_gone(self, identity: str) -> bool:
        return self._world.capabilities.session_lock and self._world.is_gone(identity)


async def open_backend(
    settings: Mapping[str, object], *, boot_clock: BootClock = boot_time_s
) -> InmemBackend:
    """
    Open a fresh, empty store without HA that lives as long as the returned object.

    Args:
        settings: must be empty.
        boot_clock: the store's clock.

    Raises:
        ConfigError: there is a setting.
    """
    Settings("inmem", (), settings)
    await trio.lowlevel.checkpoint()
    return World(clock=boot_clock, capabilities=ALONE).open()


STORE = StoreType(
    name="inmem",
    summary="in the memory of one process, gone with it; for development",
    open=open_backend,
    capabilities=ALONE,
)
