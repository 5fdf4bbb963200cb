"""The barrier: encryption on the way down, fences on every write, nothing after a seal."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
import trio

from baoha.core.keys.barrier import Barrier, BarrierTransaction
from baoha.errors import (
    BarrierError,
    FencedWrite,
    InvalidRequest,
    ReadOnly,
    Sealed,
    TransactionConflict,
    UnknownTerm,
)
from baoha.sansio.crypto.barrier_codec import OVERHEAD_BYTES
from baoha.sansio.crypto.keyring import Keyring, create_keyring
from baoha.storage.base import Batch, Fence
from baoha.storage.inmem import InmemBackend, Observer, World

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEYRING = create_keyring(b"R" * 32, b"D" * 32, MOMENT)


def new_barrier(world: World, *, keyring: Keyring | None = KEYRING, seed: int = 0) -> Barrier:
    random_bytes = random.Random(seed).randbytes
    barrier = Barrier(world.open(), random_bytes=random_bytes, now=lambda: MOMENT)
    if keyring is not None:
        barrier.open(keyring)
        barrier.begin_writes(None)
    return barrier


class Watcher(Observer):
    def __init__(self) -> None:
        self.fences: list[Fence | None] = []

    def applied(self, batch: Batch, fence: Fence | None) -> None:
        self.fences.append(fence)


async def test_value_written_is_read_back_and_encrypted_below() -> None:
    world = World()
    barrier = new_barrier(world)
    await barrier.put("a/b", b"secret value")
    assert await barrier.get("a/b") == b"secret value"
    assert await barrier.get("a/c") is None
    stored = world.data["a/b"]
    assert b"secret" not in stored
    assert len(stored) == len(b"secret value") + OVERHEAD_BYTES
    await barrier.delete("a/b")
    await barrier.delete("a/b")
    assert await barrier.get("a/b") is None


async def test_nonces_never_repeat() -> None:
    world = World()
    barrier = new_barrier(world)
    for index in range(200):
        await barrier.put(f"k/{index}", b"same")
    assert len({blob[5:17] for blob in world.data.values()}) == 200


async def test_list_and_list_page_pass_the_keys_through() -> None:
    barrier = new_barrier(World())
    for key in ("a/1", "a/2/x", "a/3", "b"):
        await barrier.put(key, b"")
    assert await barrier.list("a/") == ["1", "2/", "3"]
    assert await barrier.list_page("a/", "1", 1) == ["2/"]
    view = barrier.view("a/")
    assert await view.list("") == ["1", "2/", "3"]
    assert await view.list_page("2/", "", -1) == ["x"]


async def test_entry_moved_in_the_store_does_not_decrypt() -> None:
    world = World()
    barrier = new_barrier(world)
    await barrier.put("a", b"1")
    world.data["b"] = world.data["a"]
    with pytest.raises(BarrierError, match=r"^decryption failed$"):
        await barrier.get("b")


async def test_entry_of_unknown_term_says_so() -> None:
    world = World()
    await new_barrier(world, keyring=KEYRING.add_term(b"N" * 32, MOMENT)).put("a", b"1")
    with pytest.raises(UnknownTerm, match=r"^no decryption key available for term 2$"):
        await new_barrier(world).get("a")


async def test_entry_of_unknown_term_is_tried_again_after_one_refresh() -> None:
    world = World()
    newer = KEYRING.add_term(b"N" * 32, MOMENT)
    await new_barrier(world, keyring=newer).put("a", b"1")
    barrier, calls = new_barrier(world), []

    async def refresh() -> None:
        calls.append(1)
        if len(calls) == 2:
            barrier.follow(newer)

    barrier.refresh_keyring = refresh
    with pytest.raises(UnknownTerm):
        await barrier.get("a")
    assert await barrier.get("a") == b"1"
    assert len(calls) == 2


async def test_older_terms_stay_readable_and_the_newest_encrypts() -> None:
    world = World()
    barrier = new_barrier(world)
    await barrier.put("old", b"1")
    barrier.follow(KEYRING.add_term(b"N" * 32, MOMENT))
    assert barrier.term == 2
    await barrier.put("new", b"2")
    assert (world.data["old"][3], world.data["new"][3]) == (1, 2)
    assert (await barrier.get("old"), await barrier.get("new")) == (b"1", b"2")


async def test_follow_ignores_an_older_keyring_and_a_sealed_barrier() -> None:
    barrier = new_barrier(World(), keyring=KEYRING.add_term(b"N" * 32, MOMENT))
    barrier.follow(KEYRING)
    assert barrier.term == 2
    barrier.seal()
    barrier.follow(KEYRING)
    assert barrier.sealed


async def test_encryptions_are_counted_per_term_and_survive_a_reload() -> None:
    barrier = new_barrier(World(), keyring=KEYRING.with_encryptions(10))
    await barrier.put("a", b"")
    await barrier.get("a")
    await barrier.delete("a")
    assert barrier.keyring.active.encryptions == 11
    barrier.follow(KEYRING.with_encryptions(5))
    assert barrier.keyring.active.encryptions == 11
    barrier.follow(KEYRING.with_encryptions(50))
    assert barrier.keyring.active.encryptions == 50
    barrier.follow(KEYRING.add_term(b"N" * 32, MOMENT))
    assert barrier.keyring.active.encryptions == 0


# --- sealed and read-only -----------------------------------------------------------------------


async def test_sealed_barrier_refuses_everything() -> None:
    barrier = new_barrier(World(), keyring=None)
    assert (barrier.sealed, barrier.term) == (True, 0)
    barrier.begin_writes(None)
    for operation in (
        barrier.get("a"),
        barrier.list(""),
        barrier.list_page("", "", 1),
        barrier.put("a", b""),
        barrier.delete("a"),
    ):
        with pytest.raises(Sealed):
            await operation
    with pytest.raises(Sealed):
        async with barrier.transaction():
            pass
    with pytest.raises(Sealed):
        _ = barrier.keyring


async def test_seal_ends_what_had_begun_and_takes_the_right_to_write() -> None:
    world = World()
    barrier = new_barrier(world)
    await barrier.put("a", b"1")
    with pytest.raises(Sealed):
        async with barrier.transaction() as transaction:
            transaction.put("b", b"2")
            barrier.seal()
    assert list(world.data) == ["a"]
    barrier.open(KEYRING)
    with pytest.raises(ReadOnly):
        await barrier.put("a", b"1")


class SealsOnRead(InmemBackend):
    """A store during whose answer the node is sealed."""

    barrier: Barrier

    async def get(self, key: str) -> bytes | None:
        blob = await super().get(key)
        self.barrier.seal()
        return blob


@pytest.mark.parametrize("key", ["a", "missing"])
async def test_seal_while_a_read_is_on_its_way_refuses_the_answer(key: str) -> None:
    world = World()
    await new_barrier(world).put("a", b"1")
    backend = SealsOnRead(world)
    backend.barrier = Barrier(backend, now=lambda: MOMENT)
    backend.barrier.open(KEYRING)
    with pytest.raises(Sealed):
        await backend.barrier.get(key)


async def test_open_transaction_after_seal_gives_nothing() -> None:
    barrier = new_barrier(World())
    await barrier.put("a", b"1")
    with pytest.raises(Sealed):
        async with barrier.transaction() as transaction:
            barrier.seal()
            await transaction.get("a")


async def test_standby_reads_and_does_not_write() -> None:
    world = World()
    await new_barrier(world).put("a", b"1")
    barrier = new_barrier(world)
    barrier.end_writes()
    assert not barrier.writable
    assert await barrier.get("a") == b"1"
    text = r"^cannot write to readonly storage$"
    with pytest.raises(ReadOnly, match=text):
        await barrier.put("a", b"2")
    with pytest.raises(ReadOnly, match=text):
        await barrier.delete("a")
    async with barrier.transaction() as transaction:
        assert await transaction.get("a") == b"1"
        with pytest.raises(ReadOnly, match=text):
            transaction.put("a", b"2")
        with pytest.raises(ReadOnly, match=text):
            transaction.delete("a")
        with pytest.raises(ReadOnly, match=text):
            transaction.put_raw("a", b"2")
    assert await barrier.get("a") == b"1"


@pytest.mark.parametrize("key", ["a\x07b", "", "a/", "/a"])
async def test_impossible_key_is_refused_before_the_store(key: str) -> None:
    world = World()
    barrier = new_barrier(world)
    with pytest.raises(InvalidRequest):
        await barrier.put(key, b"")
    with pytest.raises(InvalidRequest):
        await barrier.delete(key)
    async with barrier.transaction() as transaction:
        with pytest.raises(InvalidRequest):
            transaction.put(key, b"")
    assert not world.data


# --- fences -------------------------------------------------------------------------------------


async def take_lock(world: World, identity: str) -> Fence:
    lock = await world.open().open_lock("core/lock", identity)
    fence = await lock.acquire("uuid", ttl_s=10)
    assert fence is not None
    return fence


async def test_every_write_carries_the_fence_of_the_tenure(autojump_clock: object) -> None:
    world, watcher = World(), Watcher()
    barrier = new_barrier(world)
    world.observers.append(watcher)
    fence = await take_lock(world, "node-1")
    barrier.begin_writes(fence)
    await barrier.put("a", b"1")
    await barrier.delete("a")
    async with barrier.transaction() as transaction:
        transaction.put("b", b"1")
        transaction.view("c/").delete("d")
    await barrier.view("v/").put("w", b"")
    assert watcher.fences == [fence] * 4


async def test_write_after_the_lock_was_lost_is_refused(autojump_clock: object) -> None:
    world = World()
    barrier = new_barrier(world)
    barrier.begin_writes(await take_lock(world, "node-1"))
    await trio.sleep(11)
    await take_lock(world, "node-2")
    with pytest.raises(FencedWrite):
        await barrier.put("a", b"1")
    assert not world.data


@pytest.mark.parametrize("again", [False, True])
async def test_transaction_of_an_ended_tenure_does_not_commit(again: bool) -> None:
    world = World()
    barrier = new_barrier(world)
    with pytest.raises(ReadOnly):
        async with barrier.transaction() as transaction:
            transaction.put("a", b"1")
            barrier.end_writes()
            if again:  # with the same fence even: it is another tenure all the same
                barrier.begin_writes(None)
    assert not world.data


async def test_transaction_that_only_read_ends_normally_after_the_tenure() -> None:
    barrier = new_barrier(World())
    async with barrier.transaction() as transaction:
        await transaction.get("a")
        barrier.end_writes()


# --- transactions -------------------------------------------------------------------------------


async def test_transaction_sees_its_writes_and_lands_as_a_whole() -> None:
    world, watcher = World(), Watcher()
    barrier = new_barrier(world)
    await barrier.put("a/1", b"one")
    world.observers.append(watcher)
    async with barrier.transaction() as transaction:
        view = transaction.view("a/")
        assert await view.get("1") == b"one"
        view.put("2", b"two")
        view.delete("1")
        assert await view.get("2") == b"two"
        assert await transaction.list("a/") == ["2"]
        assert await barrier.list("a/") == ["1"]
    assert await barrier.list("a/") == ["2"]
    assert await barrier.get("a/2") == b"two"
    assert len(watcher.fences) == 1


async def test_transaction_that_raises_writes_nothing() -> None:
    world = World()
    barrier = new_barrier(world)
    with pytest.raises(InvalidRequest):
        async with barrier.transaction() as transaction:
            transaction.put("a", b"1")
            raise InvalidRequest("no")
    assert not world.data


async def test_run_transaction_repeats_on_conflict_and_loses_no_update() -> None:
    barrier = new_barrier(World())
    await barrier.put("n", b"0")

    async def add(transaction: BarrierTransaction) -> int:
        value = int(await transaction.get("n") or b"0")
        await trio.lowlevel.checkpoint()
        transaction.put("n", str(value + 1).encode())
        return value

    seen: list[int] = []

    async def run() -> None:
        seen.append(await barrier.run_transaction(add, attempts=50))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(run)
    assert await barrier.get("n") == b"10"
    assert sorted(seen) == list(range(10))


@pytest.mark.parametrize("attempts", [1, 3])
async def test_run_transaction_gives_up_after_its_attempts(attempts: int) -> None:
    barrier = new_barrier(World())
    runs = []

    async def body(transaction: BarrierTransaction) -> None:
        runs.append(1)
        await transaction.get("n")
        await barrier.put("n", b"%d" % len(runs))
        transaction.put("m", b"")

    with pytest.raises(TransactionConflict):
        await barrier.run_transaction(body, attempts=attempts)
    assert len(runs) == attempts


async def test_views_nest_and_run_transactions_below_their_prefix() -> None:
    world = World()
    view = new_barrier(world).view("logical/").view("uuid/")
    await view.put("a", b"1")

    async def body(transaction: BarrierTransaction) -> bytes | None:
        transaction.put("b", b"2")
        return await transaction.get("a")

    assert await view.run_transaction(body) == b"1"
    async with view.transaction() as transaction:
        transaction.delete("a")
    assert sorted(world.data) == ["logical/uuid/b"]
    assert await view.get("b") == b"2"


# --- secrets ------------------------------------------------------------------------------------


async def test_repr_shows_no_key_and_seal_leaves_none() -> None:
    barrier = new_barrier(World())
    assert repr(barrier) == "Barrier(sealed=False, term=1)"
    assert "DDD" not in repr(vars(barrier))
    barrier.seal()
    assert repr(barrier) == "Barrier(sealed=True, term=0)"
    assert vars(barrier)["_ciphers"] is None
