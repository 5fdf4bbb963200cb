"""
What a standby waits for: the store announces a change of the HA lock, or somebody nudges it.

Rule of this file: a nudge that comes while nobody waits ends the next wait; one that comes between
the end of a wait and the next look at the lock has done its work by then.
"""

from __future__ import annotations

import logging

import trio

from baoha.errors import StorageError
from baoha.storage.base import HALock

log = logging.getLogger("baoha.ha")


class LockWatch:
    """
    Wakes one task.

    Args:
        poll_s: how long to wait in place of an announcement that the store fails to make.
    """

    def __init__(self, *, poll_s: float) -> None:
        self._poll_s = poll_s
        self._nudged = trio.Event()

    def nudge(self) -> None:
        """End the wait under way, or the next one."""
        self._nudged.set()

    async def wait(self, lock: HALock, seconds: float) -> None:
        """Wait for an announcement or a nudge, ``seconds`` at most."""
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._wait_store, lock, nursery.cancel_scope)
                await self._nudged.wait()
                nursery.cancel_scope.cancel()
        self._nudged = trio.Event()

    async def wait_nudge(self) -> None:
        """Wait for a nudge that is still to come."""
        self._nudged = trio.Event()
        await self._nudged.wait()

    async def _wait_store(self, lock: HALock, scope: trio.CancelScope) -> None:
        try:
            await lock.wait_change()
        except StorageError as exc:
            log.debug("the store does not announce changes now: cause=%r", str(exc))
            await trio.sleep(self._poll_s)
        scope.cancel()
