"""
One attempt at the HA lock, and what it grants.

Rule of this file: an attempt is made at once and not repeated. Whether it is to be made says
``leader_picture.py``; a lock that was acquired is used by whoever asked, or given on.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import trio

from baoha.ha.context import HAContext
from baoha.storage.base import Fence, HALock, LockRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class LockGrant:
    """The HA lock was acquired for ``ttl_s`` by a request sent at ``sent_boot_s`` (boot clock)."""

    uuid: str
    fence: Fence | None
    sent_boot_s: float
    ttl_s: float

    @property
    def epoch(self) -> int:
        """The fencing epoch; 0 without a lock."""
        return self.fence.epoch if self.fence else 0

    def as_record(self) -> LockRecord | None:
        """Return what the store says of the lock now; None: there is none."""
        if self.fence is None:
            return None
        return LockRecord(
            identity=self.fence.identity,
            value=self.uuid,
            epoch=self.fence.epoch,
            expires_in_s=self.ttl_s,
        )


def grant_without_lock(ctx: HAContext) -> LockGrant:
    """Return the grant of a node whose store knows no HA lock: for ever, and without a fence."""
    return LockGrant(
        uuid=ctx.clocks.new_uuid(), fence=None, sent_boot_s=ctx.clocks.boot(), ttl_s=inf
    )


async def try_lock(
    ctx: HAContext, lock: HALock, *, ttl_s: float, evict: LockRecord | None
) -> LockGrant | None:
    """
    Try once for the lock; None: somebody holds it.

    Args:
        ttl_s: for so many seconds.
        evict: the record of a holder that is proven dead.

    Raises:
        StorageUnavailable: cannot tell.

    Cancellation: safe; a lock acquired in that moment is given back by the store adapter.
    """
    uuid = ctx.clocks.new_uuid()
    sent_boot_s = ctx.clocks.boot()
    fence = await lock.acquire(uuid, ttl_s=ttl_s, evict=evict)
    if fence is None:
        return None
    return LockGrant(uuid=uuid, fence=fence, sent_boot_s=sent_boot_s, ttl_s=ttl_s)


async def give_on(ctx: HAContext, lock: HALock, grant: LockGrant) -> None:
    """
    Release a lock that was acquired and is not wanted.

    Raises:
        StorageUnavailable: cannot tell whether it is released.

    Cancellation: not before it is done, or ``cleanup`` has passed.
    """
    if grant.fence is None:
        return
    limit_s = ctx.timing.cleanup_s
    with trio.CancelScope(shield=True, deadline=trio.current_time() + limit_s):
        await lock.release(grant.fence)
