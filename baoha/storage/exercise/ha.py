"""
The parts of ``exercise_ha_backend``: the HA lock and the fences that rest on it.

Rules of this file:

1. A part uses its own lock key and fresh identities, so nothing of an earlier run is in its way.
2. Whether a lock holds is decided by the store's clock; a part waits with ``Contest.sleep``.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import trio
import trio.testing

from baoha.errors import FencedWrite, LockLost
from baoha.storage.base import Backend, Batch, Fence, HABackend, HALock
from baoha.storage.exercise.data import expect, expect_raises

# Longer than any suite runs: what is to hold, holds.
_LONG_S = 600.0
# A clock that has run for months: its time + ttl - its time is not quite the ttl.
_ROUNDING_S = 1e-6
# Announced means at once; this only ends a suite against a store that does not announce.
_NEWS_S = 5.0


@dataclass
class Contest:
    """
    What a part works with.

    Attributes:
        store: the data of the first contender's store.
        open_one: opens the same store once more, for a contender with a life of its own.
        close_one: closes what ``open_one`` opened, before the part's end.
        locks: handles to close at the part's end.
        ttl_s: a lifetime that ``sleep`` can let pass.
        sleep: lets the store's clock advance.
    """

    store: Backend
    ha: HABackend
    open_one: Callable[[], Awaitable[tuple[Backend, HABackend]]]
    close_one: Callable[[Backend], Awaitable[None]]
    ttl_s: float
    sleep: Callable[[float], Awaitable[object]]
    locks: list[HALock] = field(default_factory=list)
    key: str = field(default_factory=lambda: f"exercise/{uuid.uuid4()}")

    async def enter(self, key: str = "") -> HALock:
        """Return a handle for a new contender, with a store of its own."""
        _, ha = await self.open_one()
        lock = await ha.open_lock(key or self.key, str(uuid.uuid4()))
        self.locks.append(lock)
        return lock


class _Run(Protocol):
    __name__: str

    def __call__(self, contest: Contest) -> Awaitable[None]: ...


@dataclass(frozen=True)
class HAPart:
    """One promise, and the capabilities (by name, beside ``ha``) without which it is not made."""

    run: _Run
    needs: tuple[str, ...] = ()


def granted(fence: Fence | None, what: str) -> Fence:
    """
    Demand that the lock was acquired.

    Raises:
        AssertionError: it was not.
    """
    if fence is None:
        raise AssertionError(f"{what}: expected a fence, got None")
    return fence


async def expect_lost(lock: HALock, fence: Fence, what: str) -> None:
    """
    Demand that a tenure is over.

    Raises:
        AssertionError: it can be renewed.
    """
    try:
        await lock.renew(fence, ttl_s=_LONG_S)
    except LockLost:
        return
    raise AssertionError(f"{what}: expected LockLost")


# --- holding ------------------------------------------------------------------------------------


async def a_free_lock_is_acquired_at_once(contest: Contest) -> None:
    """The fence names lock, contender and epoch; every reader sees the record."""
    one, two = await contest.enter(), await contest.enter()
    expect(await one.read(), None, "read of a lock that nobody ever held")
    fence = granted(await one.acquire("value-1", ttl_s=_LONG_S), "acquire of a free lock")
    expect((fence.lock_key, fence.identity), (contest.key, one.identity), "what the fence names")
    expect(fence.epoch >= 1, True, "the first epoch is at least 1")
    for reader in (one, two):
        record = await reader.read()
        if record is None:
            raise AssertionError("a held lock has no record")
        expect(record.identity, one.identity, "identity of the record")
        expect(record.value, "value-1", "value of the record")
        expect(record.epoch, fence.epoch, "epoch of the record")
        expect(0 < record.expires_in_s <= _LONG_S + _ROUNDING_S, True, "expiry of the record")


async def a_second_contender_gets_none(contest: Contest) -> None:
    """Held by somebody else is a value, and the holder does not notice the attempt."""
    one, two = await contest.enter(), await contest.enter()
    fence = granted(await one.acquire("1", ttl_s=_LONG_S), "acquire")
    expect(await two.acquire("2", ttl_s=_LONG_S), None, "acquire of a held lock")
    await one.renew(fence, ttl_s=_LONG_S)
    record = await two.read()
    expect(record and record.value, "1", "value of the record")


async def of_many_contenders_one_wins(contest: Contest) -> None:
    """All at once: exactly one fence."""
    locks = [await contest.enter() for _ in range(5)]
    fences: list[Fence | None] = []

    async def attempt(lock: HALock) -> None:
        fences.append(await lock.acquire("", ttl_s=_LONG_S))

    async with trio.open_nursery() as nursery:
        for lock in locks:
            nursery.start_soon(attempt, lock)
    expect(sum(fence is not None for fence in fences), 1, "number of winners")


async def locks_of_different_keys_are_independent(contest: Contest) -> None:
    """Two keys, two holders."""
    one, two = await contest.enter(), await contest.enter(f"{contest.key}/other")
    granted(await one.acquire("1", ttl_s=_LONG_S), "acquire of one key")
    granted(await two.acquire("2", ttl_s=_LONG_S), "acquire of another key")


async def an_own_lock_is_taken_again(contest: Contest) -> None:
    """The same identity gets its own unexpired lock, in a new tenure that ends the old one."""
    one = await contest.enter()
    first = granted(await one.acquire("1", ttl_s=_LONG_S), "acquire")
    second = granted(await one.acquire("2", ttl_s=_LONG_S), "acquire of the own lock")
    expect(second.epoch > first.epoch, True, "the epoch grew")
    await expect_lost(one, first, "renew of the tenure before")
    await one.renew(second, ttl_s=_LONG_S)
    record = await one.read()
    expect(record and record.value, "2", "value of the record")


async def a_renewed_lock_outlives_its_first_expiry(contest: Contest) -> None:
    """Renewal counts from now."""
    one, two = await contest.enter(), await contest.enter()
    fence = granted(await one.acquire("1", ttl_s=contest.ttl_s), "acquire")
    await contest.sleep(contest.ttl_s * 0.6)
    await one.renew(fence, ttl_s=contest.ttl_s)
    await contest.sleep(contest.ttl_s * 0.6)
    expect(await two.acquire("2", ttl_s=_LONG_S), None, "acquire of a renewed lock")
    await one.renew(fence, ttl_s=contest.ttl_s)


async def an_expired_lock_is_lost(contest: Contest) -> None:
    """After the expiry nobody holds it: it cannot be renewed, and anybody may take it."""
    one, two = await contest.enter(), await contest.enter()
    fence = granted(await one.acquire("1", ttl_s=contest.ttl_s), "acquire")
    await contest.sleep(contest.ttl_s * 1.1)
    expect(await two.read(), None, "read of an expired lock")
    await expect_lost(one, fence, "renew of an expired lock")
    successor = granted(await two.acquire("2", ttl_s=_LONG_S), "acquire of an expired lock")
    expect(successor.epoch > fence.epoch, True, "the epoch grew")
    await expect_lost(one, fence, "renew of a lock that is another's")
    await one.release(fence)
    record = await one.read()
    expect(record and record.identity, two.identity, "the holder after a late release")


async def a_released_lock_is_free(contest: Contest) -> None:
    """Release frees at once, does not hurt when repeated, and epochs never shrink."""
    one, two = await contest.enter(), await contest.enter()
    epochs: list[int] = []
    for lock in (one, two, one, one, two):
        fence = granted(await lock.acquire("", ttl_s=_LONG_S), "acquire of a released lock")
        epochs.append(fence.epoch)
        await lock.release(fence)
        expect(await one.read(), None, "read of a released lock")
        await expect_lost(lock, fence, "renew of a released lock")
        await lock.release(fence)
    expect(epochs, sorted(set(epochs)), "epochs grow")


async def a_late_release_does_not_hurt_the_next_tenure(contest: Contest) -> None:
    """Even when it is the same contender's."""
    one = await contest.enter()
    first = granted(await one.acquire("1", ttl_s=_LONG_S), "acquire")
    second = granted(await one.acquire("2", ttl_s=_LONG_S), "acquire of the own lock")
    await one.release(first)
    await one.renew(second, ttl_s=_LONG_S)


async def a_cancelled_acquire_strands_nothing(contest: Contest) -> None:
    """Whoever got no fence holds no lock, at whatever point it was cancelled."""
    one, two = await contest.enter(), await contest.enter()
    for attempt in range(12):
        fence: Fence | None = None
        with trio.move_on_after(0.0003 * attempt):
            fence = await one.acquire("", ttl_s=_LONG_S)
        if fence is not None:
            await one.release(fence)
        other = granted(await two.acquire("", ttl_s=_LONG_S), "acquire after a cancelled acquire")
        await two.release(other)


# --- fences -------------------------------------------------------------------------------------


async def expect_fenced(contest: Contest, fence: Fence, what: str) -> None:
    """
    Demand that put, delete, batch and transaction refuse a fence and write nothing.

    Raises:
        AssertionError: one of them does not.
    """
    store, folder = contest.store, f"{contest.key}/"
    await store.put(f"{folder}kept", b"kept")

    async def transact() -> None:
        async with store.transaction(fence=fence) as transaction:
            transaction.put(f"{folder}new", b"")

    writes: dict[str, bytes | None] = {f"{folder}new": b"", f"{folder}kept": None}
    calls: tuple[Callable[[], Awaitable[None]], ...] = (
        lambda: store.put(f"{folder}new", b"", fence=fence),
        lambda: store.delete(f"{folder}kept", fence=fence),
        lambda: store.apply(Batch(writes=writes, fence=fence)),
        transact,
    )
    for call in calls:
        await expect_raises(FencedWrite, call, what)
    expect(await store.list(folder), ["kept"], f"{what}: what is there after fenced writes")
    await store.delete(f"{folder}kept")


async def the_holders_writes_are_applied(contest: Contest) -> None:
    """With the fence of the tenure, and without any fence."""
    one = await contest.enter()
    fence = granted(await one.acquire("1", ttl_s=_LONG_S), "acquire")
    store, key = contest.store, f"{contest.key}/key"
    await store.put(key, b"1", fence=fence)
    expect(await store.get(key), b"1", "a fenced put")
    await one.renew(fence, ttl_s=_LONG_S)
    async with store.transaction(fence=fence) as transaction:
        expect(await transaction.get(key), b"1", "a get in a fenced transaction")
        transaction.put(key, b"2")
    expect(await store.get(key), b"2", "a fenced transaction")
    await store.delete(key, fence=fence)
    expect(await store.get(key), None, "a fenced delete")
    await store.put(key, b"3")
    expect(await store.get(key), b"3", "a put without a fence")
    await store.delete(key)


async def writes_with_a_false_fence_are_refused(contest: Contest) -> None:
    """A stale or future epoch, another identity, another or unknown lock."""
    one, two = await contest.enter(), await contest.enter()
    fence = granted(await one.acquire("1", ttl_s=_LONG_S), "acquire")
    key, identity, epoch = contest.key, one.identity, fence.epoch
    await expect_fenced(contest, Fence(key, identity, epoch - 1), "an older epoch")
    await expect_fenced(contest, Fence(key, identity, epoch + 1), "a newer epoch")
    await expect_fenced(contest, Fence(key, two.identity, epoch), "another identity")
    await expect_fenced(contest, Fence(f"{key}/unknown", identity, epoch), "an unknown lock")
    again = granted(await one.acquire("1", ttl_s=_LONG_S), "acquire of the own lock")
    await expect_fenced(contest, fence, "the epoch before a re-take")
    await one.release(again)
    await expect_fenced(contest, again, "a released lock")
    granted(await two.acquire("2", ttl_s=_LONG_S), "acquire")
    await expect_fenced(contest, again, "another's lock")


async def writes_after_the_expiry_are_refused(contest: Contest) -> None:
    """Even when nobody else has taken the lock."""
    one = await contest.enter()
    fence = granted(await one.acquire("1", ttl_s=contest.ttl_s), "acquire")
    await contest.store.put(f"{contest.key}/before", b"", fence=fence)
    await contest.store.delete(f"{contest.key}/before", fence=fence)
    await contest.sleep(contest.ttl_s * 1.1)
    await expect_fenced(contest, fence, "an expired lock")


# --- hand-over, evidence, announcements ---------------------------------------------------------


async def a_lock_is_handed_to_its_successor(contest: Contest) -> None:
    """In one step: nobody else gets in between, and the old tenure is over."""
    one, two, three = [await contest.enter() for _ in range(3)]
    fence = granted(await one.acquire("1", ttl_s=_LONG_S), "acquire")
    await one.release(fence, successor=two.identity, ttl_s=_LONG_S)
    record = await three.read()
    if record is None:
        raise AssertionError("a lock that was handed over has no record")
    expect(record.identity, two.identity, "identity after the hand-over")
    expect(record.value, "", "value after the hand-over")
    expect(record.epoch > fence.epoch, True, "the epoch grew with the hand-over")
    expect(await three.acquire("3", ttl_s=_LONG_S), None, "a third contender's acquire")
    await expect_lost(one, fence, "renew after the hand-over")
    successor = granted(await two.acquire("2", ttl_s=_LONG_S), "the successor's acquire")
    expect(successor.epoch > record.epoch, True, "the epoch grew with the acquisition")
    await one.release(fence, successor=three.identity, ttl_s=_LONG_S)
    await two.renew(successor, ttl_s=_LONG_S)


async def the_writes_of_a_predecessor_are_refused(contest: Contest) -> None:
    """From the hand-over on, before the successor has acquired anything."""
    one, two = await contest.enter(), await contest.enter()
    fence = granted(await one.acquire("1", ttl_s=_LONG_S), "acquire")
    await one.release(fence, successor=two.identity, ttl_s=_LONG_S)
    await expect_fenced(contest, fence, "a lock that was handed over")


async def a_hand_over_that_nobody_takes_expires(contest: Contest) -> None:
    """A successor that died meanwhile blocks nobody for longer than the hand-over's lifetime."""
    one, two, three = [await contest.enter() for _ in range(3)]
    fence = granted(await one.acquire("1", ttl_s=_LONG_S), "acquire")
    await one.release(fence, successor=two.identity, ttl_s=contest.ttl_s)
    await contest.sleep(contest.ttl_s * 1.1)
    granted(await three.acquire("3", ttl_s=_LONG_S), "acquire after the hand-over expired")


async def a_living_holder_is_not_evicted(contest: Contest) -> None:
    """Without proof of death an eviction is an ordinary attempt."""
    one, two = await contest.enter(), await contest.enter()
    fence = granted(await one.acquire("1", ttl_s=_LONG_S), "acquire")
    record = await two.read()
    if record is None:
        raise AssertionError("a held lock has no record")
    expect(await two.holder_is_gone(record), False, "the living holder is gone")
    expect(await two.acquire("2", ttl_s=_LONG_S, evict=record), None, "eviction of the living")
    await one.renew(fence, ttl_s=_LONG_S)


async def a_dead_holder_is_evicted(contest: Contest) -> None:
    """Before the expiry, but only in the tenure against which the evidence was gathered."""
    backend, ha = await contest.open_one()
    one = await ha.open_lock(contest.key, str(uuid.uuid4()))
    two, three = await contest.enter(), await contest.enter()
    stale = granted(await one.acquire("1", ttl_s=_LONG_S), "acquire")
    old_record = await two.read()
    fence = granted(await one.acquire("1", ttl_s=_LONG_S), "acquire of the own lock")
    record = await two.read()
    if record is None or old_record is None:
        raise AssertionError("a held lock has no record")
    expect(old_record.epoch, stale.epoch, "epoch of the older record")
    await one.aclose()
    await contest.close_one(backend)
    expect(await two.holder_is_gone(record), True, "the dead holder is gone")
    expect(await two.acquire("2", ttl_s=_LONG_S), None, "acquire without eviction")
    expect(await two.acquire("2", ttl_s=_LONG_S, evict=old_record), None, "with an old record")
    successor = granted(await two.acquire("2", ttl_s=_LONG_S, evict=record), "eviction")
    expect(successor.epoch > fence.epoch, True, "the epoch grew")
    expect(await three.acquire("3", ttl_s=_LONG_S, evict=record), None, "a second eviction")
    await two.renew(successor, ttl_s=_LONG_S)


@asynccontextmanager
async def _waiting(lock: HALock) -> AsyncIterator[None]:
    """Demand that a wait that has begun before the block ends once the block has run."""
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.05):
            # What was announced before is heard first; it is not what is asked for here.
            while True:
                await lock.wait_change()
        heard = trio.Event()

        async def wait() -> None:
            await lock.wait_change()
            heard.set()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        yield
        with trio.move_on_after(_NEWS_S):
            await heard.wait()
        nursery.cancel_scope.cancel()
    expect(heard.is_set(), True, "the change was announced")


async def changes_wake_who_waits(contest: Contest) -> None:
    """Acquisition, release and hand-over are announced to other contenders' handles."""
    one, two = await contest.enter(), await contest.enter()
    async with _waiting(two):
        fence = granted(await one.acquire("1", ttl_s=_LONG_S), "acquire")
    async with _waiting(two):
        await one.release(fence)
    fence = granted(await one.acquire("1", ttl_s=_LONG_S), "acquire")
    async with _waiting(two):
        await one.release(fence, successor=two.identity, ttl_s=_LONG_S)


async def a_change_between_two_waits_is_remembered(contest: Contest) -> None:
    """Whoever was busy when the lock was released is told with its next wait."""
    one, two = await contest.enter(), await contest.enter()
    fence = granted(await one.acquire("1", ttl_s=_LONG_S), "acquire")
    await one.release(fence)
    with trio.move_on_after(_NEWS_S) as scope:
        await two.wait_change()
    expect(scope.cancelled_caught, False, "the remembered change was announced too late")


HA_PARTS: tuple[HAPart, ...] = (
    HAPart(a_free_lock_is_acquired_at_once),
    HAPart(a_second_contender_gets_none),
    HAPart(of_many_contenders_one_wins),
    HAPart(locks_of_different_keys_are_independent),
    HAPart(an_own_lock_is_taken_again),
    HAPart(a_renewed_lock_outlives_its_first_expiry),
    HAPart(an_expired_lock_is_lost),
    HAPart(a_released_lock_is_free),
    HAPart(a_late_release_does_not_hurt_the_next_tenure),
    HAPart(a_cancelled_acquire_strands_nothing),
    HAPart(the_holders_writes_are_applied, ("fencing",)),
    HAPart(writes_with_a_false_fence_are_refused, ("fencing",)),
    HAPart(writes_after_the_expiry_are_refused, ("fencing",)),
    HAPart(a_lock_is_handed_to_its_successor, ("hand_over",)),
    HAPart(the_writes_of_a_predecessor_are_refused, ("hand_over", "fencing")),
    HAPart(a_hand_over_that_nobody_takes_expires, ("hand_over",)),
    HAPart(a_living_holder_is_not_evicted, ("session_lock",)),
    HAPart(a_dead_holder_is_evicted, ("session_lock",)),
    HAPart(changes_wake_who_waits, ("watch",)),
    HAPart(a_change_between_two_waits_is_remembered, ("watch",)),
)
