"""
What active duty does in the background: ended tokens, counts and rotation of keys, engines' ticks.

Rules of this file:

1. A store that does not answer is asked again in the next round; a write that is fenced off ends
   the tenure, whoever made it.

Source: ours; OpenBao's rounds are five minutes apart.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from baoha.core.dispatch import Core
from baoha.core.keys import rotation
from baoha.core.keys.barrier import Barrier
from baoha.core.keys.seal import Seal
from baoha.errors import BaohaError, FencedWrite, ReadOnly, StorageError

log = logging.getLogger("baoha.core")

# Ended tokens are never valid, only garbage; the keys' counters may lag.
INTERVAL_S: Final = 60.0
# Every standby has followed a new data key by then, or follows it with its root key.
UPGRADES_KEPT_S: Final = 300.0
# Whoever has just become active has requests to answer; but a short tenure counts, too.
FIRST_S: Final = 5.0


class Maintenance:
    """The background work of one node; ``run`` it for as long as the node is active."""

    def __init__(
        self,
        core: Core,
        seal: Seal,
        barrier: Barrier,
    ) -> None:
        self._core = core
        self._barrier = barrier
        self._seal = seal
        self.jobs: Sequence[Callable[[], Awaitable[object]]] = (
            seal.upgrade_stored_keys,
            core.sweep,
            self._rotate_if_due,
            self._clear_upgrades,
            core.tick,
        )
        self._term = 0
        self._term_seen_at = 0.0
        self._are_upgrades_cleared = False

    async def run(self) -> None:
        """
        Do all of it until cancelled.

        Raises:
            FencedWrite: the tenure is over, as the store knows.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._rounds)
                nursery.start_soon(self._core.run_background)
        except BaseExceptionGroup as group:
            if group.subgroup(FencedWrite) is None:
                raise
            raise FencedWrite("a write of the background work was fenced off") from group

    async def persist_counts(self, limit_s: float) -> None:
        """
        Store before leaving active duty what only the rounds store otherwise.

        Best effort, and bounded: a hand-over does not wait for counts.
        """
        with trio.move_on_after(limit_s):
            try:
                await rotation.persist_encryptions(self._barrier)
            except BaohaError as exc:
                log.info("cannot store the count of encryptions: cause=%r", str(exc))

    async def _rounds(self) -> None:
        pause_s = FIRST_S
        while True:
            await trio.sleep(pause_s)
            pause_s = INTERVAL_S
            for job in self.jobs:
                try:
                    await job()
                except FencedWrite:
                    raise
                except ReadOnly:
                    log.debug("maintenance waits: active duty is ending")
                except StorageError as exc:
                    name = getattr(job, "__name__", "?")
                    log.warning("maintenance failed: job=%s cause=%r", name, str(exc))

    async def _rotate_if_due(self) -> None:
        reason = rotation.rotation_due(self._barrier)
        if reason:
            log.info("rotating the encryption key: reason=%r", reason)
            await self._seal.rotate_encryption_key()
        else:
            await rotation.persist_encryptions(self._barrier)

    async def _clear_upgrades(self) -> None:
        """Delete what leads from former data keys to the present one, some time after it came."""
        term, now = self._barrier.term, trio.current_time()
        if term != self._term:
            self._term, self._term_seen_at, self._are_upgrades_cleared = term, now, False
        if not self._are_upgrades_cleared and now - self._term_seen_at >= UPGRADES_KEPT_S:
            await rotation.clear_upgrades(self._barrier)
            self._are_upgrades_cleared = True
