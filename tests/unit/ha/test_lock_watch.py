"""What ends the wait of a standby: an announcement, a nudge, or the time."""

from __future__ import annotations

import trio

from baoha import names
from baoha.errors import StorageUnavailable
from baoha.ha.lock_watch import LockWatch
from baoha.storage.inmem import InmemLock, World

POLL_S = 0.25


class UnannouncedLock(InmemLock):
    """A lock whose store cannot announce changes now."""

    async def wait_change(self) -> None:
        raise StorageUnavailable("no answer")


async def waited_s(watch: LockWatch, lock: InmemLock) -> float:
    """Wait five seconds at most; returns how long it took."""
    began = trio.current_time()
    await watch.wait(lock, 5.0)
    return trio.current_time() - began


async def test_lock_watch_nothing_happens_waits_for_its_time(autojump_clock: object) -> None:
    lock = await World().open().open_lock(names.HA_LOCK, "me")
    assert await waited_s(LockWatch(poll_s=POLL_S), lock) == 5.0


async def test_lock_watch_nudge_before_the_wait_ends_it_once(autojump_clock: object) -> None:
    lock = await World().open().open_lock(names.HA_LOCK, "me")
    watch = LockWatch(poll_s=POLL_S)
    watch.nudge()
    assert await waited_s(watch, lock) == 0.0
    assert await waited_s(watch, lock) == 5.0


async def test_lock_watch_lock_changes_hands_ends_the_wait(autojump_clock: object) -> None:
    world = World()
    lock = await world.open().open_lock(names.HA_LOCK, "me")
    other = await world.open().open_lock(names.HA_LOCK, "other")
    async with trio.open_nursery() as nursery:

        async def acquire() -> None:
            await trio.sleep(1.0)
            await other.acquire("u1", ttl_s=6.0)

        nursery.start_soon(acquire)
        assert await waited_s(LockWatch(poll_s=POLL_S), lock) == 1.0


async def test_lock_watch_store_cannot_announce_polls(autojump_clock: object) -> None:
    """Goal: a store in trouble is asked again, and not without a pause."""
    lock = UnannouncedLock(World(), names.HA_LOCK, "me")
    assert await waited_s(LockWatch(poll_s=POLL_S), lock) == POLL_S
