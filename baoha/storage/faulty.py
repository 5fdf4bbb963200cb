"""
A store that fails on command: a wrapper around any other store, for simulation and tests.

Rules of this file:

1. It keeps the contract it wraps: an injected fault looks as the real one would, and ``outcome``
   tells the truth, or less than the truth, never more.
2. It waits with trio's clock only, so it works under a virtual one.

Theory of operation. Each node has a ``Faults`` object; every call of that node's backend and locks
passes through it. A call travels to the store (``latency_s``), has its effect, and its reply
travels back (``reply_latency_s``); a fault may meet it on either way. A write is "handed to the
store" when it leaves: from then on it is not cancelled, but it ends within ``op_timeout_s``. What
a silent store swallowed may still arrive: ``deliver_abandoned`` lets it.

Source: ours; OpenBao's counterparts are its latency and error injecting wrappers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import trio

from baoha.errors import LockLost, Outcome, StorageError, StorageUnavailable
from baoha.storage.base import Backend, Batch, Fence, HABackend, HALock, Keys, LockRecord

T = TypeVar("T")


@dataclass
class Faults:
    """
    What goes wrong between one node and its store, now. Change it at any time.

    Attributes:
        latency_s: from the caller to the store.
        reply_latency_s: from the store to the caller.
        op_timeout_s: the store's own time limit for a call.
        problem: what its locks tell of themselves.
        unavailable: every call fails at once.
        full: every write, of data or of a lock, fails at once.
        calls: how many calls were made, failed ones included.
        fired: whether the failure that ``fail_nth`` planned has happened.
    """

    latency_s: float = 0.0
    reply_latency_s: float = 0.0
    op_timeout_s: float = 2.0
    problem: str = ""
    unavailable: bool = False
    full: bool = False
    calls: int = 0
    fired: bool = False
    _planned: tuple[int, Literal["before", "after"]] | None = None
    _healed: trio.Event | None = None
    _abandoned: list[Callable[[], Awaitable[object]]] = field(default_factory=list)

    @property
    def silent(self) -> bool:
        """Whether calls get no answer; those that wait go on when this becomes False."""
        return self._healed is not None

    @silent.setter
    def silent(self, silent: bool) -> None:
        if silent and self._healed is None:
            self._healed = trio.Event()
        elif not silent and self._healed is not None:
            self._healed.set()
            self._healed = None

    def heal(self) -> None:
        """End every fault; a planned failure and latencies included."""
        self.silent = False
        self.unavailable = self.full = False
        self.latency_s = self.reply_latency_s = 0.0
        self._planned = None

    def fail_nth(self, n: int, effect: Literal["before", "after"]) -> None:
        """
        Let the n-th call from now fail, once (1: the next).

        Args:
            effect: "before": it never reached the store. "after": it took effect and the reply was
                lost.
        """
        self._planned = (self.calls + n, effect)
        self.fired = False

    async def deliver_abandoned(self) -> int:
        """
        Let the writes arrive now that a silent store had swallowed, in their order.

        Returns:
            How many there were. Nobody hears whether they succeeded.
        """
        abandoned, self._abandoned = self._abandoned, []
        for operation in abandoned:
            try:
                await operation()
            except (StorageError, LockLost):
                # The caller was told long ago that the outcome is unknown.
                continue
        return len(abandoned)

    async def reachable(self) -> None:
        """Wait until the store is not silent."""
        while self._healed is not None:
            await self._healed.wait()

    async def read(self, operation: Callable[[], Awaitable[T]]) -> T:
        """
        Make a call that changes nothing.

        Raises:
            StorageUnavailable: injected, or no answer within the time limit.
        """
        with trio.move_on_after(self.op_timeout_s):
            return await self._travel(operation, writes=False, arrived=[])
        raise self._no_answer("not_applied")

    async def write(self, operation: Callable[[], Awaitable[T]]) -> T:
        """
        Make a call that changes something.

        Raises:
            StorageUnavailable: injected, or no answer within the time limit.

        Cancellation: not any more once it has left.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        arrived: list[bool] = []
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self.op_timeout_s):
            return await self._travel(operation, writes=True, arrived=arrived)
        if not arrived:
            self._abandoned.append(operation)
        raise self._no_answer("unknown")

    async def _travel(
        self, operation: Callable[[], Awaitable[T]], *, writes: bool, arrived: list[bool]
    ) -> T:
        self.calls += 1
        lost = self._take_planned()
        self._refuse(lost == "before", writes=writes)
        if self.latency_s:
            await trio.sleep(self.latency_s)
        await self.reachable()
        self._refuse(False, writes=writes)
        arrived.append(True)
        result = await operation()
        if self.reply_latency_s:
            await trio.sleep(self.reply_latency_s)
        await self.reachable()
        if lost == "after":
            outcome: Outcome = "unknown" if writes else "not_applied"
            raise StorageUnavailable("injected fault: reply lost", outcome=outcome)
        return result

    def _take_planned(self) -> Literal["before", "after"] | None:
        if self._planned is None or self.calls != self._planned[0]:
            return None
        effect = self._planned[1]
        self._planned = None
        self.fired = True
        return effect

    def _refuse(self, planned: bool, *, writes: bool) -> None:
        if planned or self.unavailable:
            raise StorageUnavailable("injected fault: store is unavailable")
        if writes and self.full:
            raise StorageUnavailable("injected fault: disk is full")

    def _no_answer(self, outcome: Outcome) -> StorageUnavailable:
        return StorageUnavailable(
            f"injected fault: no answer within {self.op_timeout_s:g}s", outcome=outcome
        )


class FaultyBackend(Backend):
    """A data store behind faults."""

    def __init__(self, inner: Backend, faults: Faults) -> None:
        self.name = inner.name
        self.capabilities = inner.capabilities
        self.limits = inner.limits
        self.faults = faults
        self._inner = inner

    async def get(self, key: str) -> bytes | None:
        return await self.faults.read(lambda: self._inner.get(key))

    async def list(self, prefix: str) -> Keys:
        return await self.faults.read(lambda: self._inner.list(prefix))

    async def list_page(self, prefix: str, after: str, limit: int) -> Keys:
        return await self.faults.read(lambda: self._inner.list_page(prefix, after, limit))

    async def apply(self, batch: Batch) -> None:
        await self.faults.write(lambda: self._inner.apply(batch))

    async def detect_redirect_address(self) -> str | None:
        return await self.faults.read(self._inner.detect_redirect_address)

    async def aclose(self) -> None:
        await self._inner.aclose()


class FaultyHABackend(HABackend):
    """A lock store behind faults."""

    def __init__(self, inner: HABackend, faults: Faults) -> None:
        self.name = inner.name
        self.capabilities = inner.capabilities
        self.faults = faults
        self._inner_ha = inner

    async def open_lock(self, key: str, identity: str) -> HALock:
        # A handle that was opened and then lost with its reply would have no owner.
        await self.faults.read(trio.lowlevel.checkpoint)
        return FaultyLock(await self._inner_ha.open_lock(key, identity), self.faults)


class FaultyStore(FaultyBackend, FaultyHABackend):
    """A store of data and locks behind faults."""

    def __init__(self, inner: Backend, faults: Faults) -> None:
        if not isinstance(inner, HABackend):
            raise TypeError(f"{inner!r} holds no locks")
        FaultyBackend.__init__(self, inner, faults)
        FaultyHABackend.__init__(self, inner, faults)


class FaultyLock(HALock):
    """A lock handle behind faults."""

    def __init__(self, inner: HALock, faults: Faults) -> None:
        self.key = inner.key
        self.identity = inner.identity
        self._inner = inner
        self._faults = faults

    async def acquire(
        self, value: str, *, ttl_s: float, evict: LockRecord | None = None
    ) -> Fence | None:
        return await self._faults.write(
            lambda: self._inner.acquire(value, ttl_s=ttl_s, evict=evict)
        )

    async def renew(self, fence: Fence, *, ttl_s: float) -> None:
        await self._faults.write(lambda: self._inner.renew(fence, ttl_s=ttl_s))

    async def release(
        self, fence: Fence, *, successor: str | None = None, ttl_s: float = 0.0
    ) -> None:
        await self._faults.write(
            lambda: self._inner.release(fence, successor=successor, ttl_s=ttl_s)
        )

    async def read(self) -> LockRecord | None:
        return await self._faults.read(self._inner.read)

    async def wait_change(self) -> None:
        await self._inner.wait_change()
        # News does not get through to a node that cannot reach its store.
        await self._faults.reachable()

    async def holder_is_gone(self, record: LockRecord) -> bool:
        try:
            return await self._faults.read(lambda: self._inner.holder_is_gone(record))
        except StorageUnavailable:
            return False

    def problems(self) -> Sequence[str]:
        told = (self._faults.problem,) if self._faults.problem else ()
        return (*told, *self._inner.problems())

    async def aclose(self) -> None:
        await self._inner.aclose()
