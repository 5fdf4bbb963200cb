"""
What lives while a node is unsealed: the HA loop and its channels, over the handle on the HA lock.

Rules of this file:

1. The ring ends by ``end`` or by what cannot be read; whoever runs it wipes the keys then.
2. The handle on the lock outlives the ring: it is this process's, and is closed with the node.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import trio

from baoha import names
from baoha.errors import StorageCorrupt, StorageError
from baoha.ha.context import HAContext
from baoha.ha.links import LinkKeeper
from baoha.ha.loop import HALoop
from baoha.storage.base import HABackend, HALock
from baoha.storage.retry import Backoff

log = logging.getLogger("baoha.core")


class UnsealedRing:
    """
    One unsealing after the other; ``run`` it each time.

    Args:
        ctx: what the HA machinery gets; the lock is added here.

    Attributes:
        links: the channels to other active nodes.
        loop: the HA machinery; None while the node is sealed, or about to have one.
    """

    def __init__(self, ctx: HAContext, ha_backend: HABackend | None) -> None:
        self._ctx = ctx
        self._ha_backend = ha_backend
        self._scope = trio.CancelScope()
        self.links = LinkKeeper(ctx.network, timing=ctx.timing, jitter=ctx.clocks.random.random)
        self.loop: HALoop | None = None

    @property
    def lock(self) -> HALock | None:
        """This node's handle on the HA lock; None before it was opened, and without HA."""
        return self._ctx.lock

    async def run(self) -> BaseException | None:
        """
        Run the HA loop, until ``end`` or until what is stored cannot be read.

        Returns:
            What says that it cannot be read, with this node's keys or at all (StorageCorrupt).

        Owns: what the HA loop owns.
        """
        self._scope = trio.CancelScope()
        unreadable: BaseException | None = None
        try:
            with self._scope:
                await self._open_lock()
                self.loop = HALoop(self._ctx, self.links)
                if self._ctx.publisher.status.stopping and self.lock is not None:
                    await self.loop.retire(reason="the node is shutting down")
                await self.loop.run()
        except* StorageCorrupt as group:
            unreadable = _first_of(group)
        finally:
            self.loop = None
        return unreadable

    def end(self) -> None:
        """End the ring at once. Never waits."""
        self._scope.cancel()

    async def aclose(self) -> None:
        """Close the handle on the lock; takes ``cleanup_s`` at most, cancelled or not."""
        if self.lock is not None:
            limit_s = self._ctx.timing.cleanup_s
            with trio.CancelScope(shield=True, deadline=trio.current_time() + limit_s):
                await self.lock.aclose()

    async def _open_lock(self) -> None:
        """Open this node's handle on the HA lock, once; a store that is away may come back."""
        ctx = self._ctx
        backoff = Backoff(ctx.timing.store_retry_s, ctx.timing.store_retry_max_s)
        while self._ha_backend is not None and self.lock is None:
            try:
                lock = await self._ha_backend.open_lock(names.HA_LOCK, ctx.facts.identity)
            except StorageError as exc:
                ctx.publisher.publish(store_problem=str(exc))
                log.error("cannot open the HA lock, trying again: cause=%r", str(exc))
                await trio.sleep(backoff.next_s())
                continue
            self._ctx = replace(ctx, lock=lock)
            ctx.problems.include(lock.problems)


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group, and of the groups in it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
