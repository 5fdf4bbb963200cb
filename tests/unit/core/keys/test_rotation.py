"""Changes of the keys: rotation, rekey, following them; and that no failure loses a store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Literal, TypeVar

import pytest
import trio

from baoha import names
from baoha.core.keys import rotation
from baoha.core.keys.rekey import rekey, rotate_root_key, verify_shares
from baoha.core.view import InitResult
from baoha.errors import (
    AlreadyInitialized,
    BaohaError,
    BarrierError,
    FencedWrite,
    InvalidKeyShare,
    InvalidRequest,
    NotInitialized,
    ReadOnly,
    Sealed,
    StorageUnavailable,
)
from baoha.sansio.crypto.keyring import RotationConfig
from baoha.storage.base import Batch
from baoha.storage.faulty import Faults, FaultyStore
from baoha.storage.inmem import InmemBackend, World
from tests.support.sealed_node import (
    RECOVERY,
    STATIC,
    Clock,
    SealedNode,
    Watcher,
    opened_node,
)

# --- rotation -----------------------------------------------------------------------------------


async def test_rotate_encryption_key_is_one_transaction_and_old_data_stays_readable() -> None:
    world = World()
    node, result = await opened_node(world)
    await node.barrier.put("a", b"1")
    watcher = Watcher()
    world.observers.append(watcher)
    await node.seal.rotate_encryption_key()
    (batch,) = watcher.batches
    assert set(batch.writes) == {"core/keyring", "core/root-key", "core/master", "core/upgrade/1"}
    status = rotation.key_status(node.barrier)
    assert (status.term, status.encryptions) == (2, 0)
    assert status.install_time == "2026-01-02T03:04:05Z"
    await node.barrier.put("b", b"2")
    assert rotation.key_status(node.barrier).encryptions == 1
    other = SealedNode(world)
    assert await other.unseal(result.shares[:3])
    assert (await other.barrier.get("a"), await other.barrier.get("b")) == (b"1", b"2")


async def test_rotations_at_the_same_time_all_count() -> None:
    world = World()
    node, result = await opened_node(world)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(node.seal.rotate_encryption_key)
    assert rotation.key_status(node.barrier).term == 5
    other = SealedNode(world)
    assert await other.unseal(result.shares[:3])
    assert rotation.key_status(other.barrier).term == 5


async def test_rotate_builds_on_what_another_node_stored() -> None:
    world = World()
    first, result = await opened_node(world)
    second = SealedNode(world, seed=2)
    await second.unseal(result.shares[:3])
    second.barrier.begin_writes(None)
    await first.seal.rotate_encryption_key()
    await first.barrier.put("a", b"term 2")
    await second.seal.rotate_encryption_key()
    assert rotation.key_status(second.barrier).term == 3
    assert await second.barrier.get("a") == b"term 2"


async def test_change_by_a_node_that_knows_only_older_keys_follows_first() -> None:
    world = World()
    first, result = await opened_node(world)
    second = SealedNode(world, seed=2)
    await second.unseal(result.shares[:3])
    second.barrier.begin_writes(None)
    await first.seal.rotate_encryption_key()
    new = await rekey(first.seal, 2, 2)  # writes the seal key under a term unknown to the second
    await rotate_root_key(second.seal)
    assert await opens(world, new)


async def test_rotate_root_key_keeps_the_shares() -> None:
    world = World()
    node, result = await opened_node(world)
    before = node.barrier.keyring.root_key
    await rotate_root_key(node.seal)
    assert node.barrier.keyring.root_key != before
    other = SealedNode(world)
    assert await other.unseal(result.shares[:3])
    assert other.barrier.keyring.root_key == node.barrier.keyring.root_key


async def test_rekey_replaces_the_shares() -> None:
    world = World()
    node, result = await opened_node(world)
    await verify_shares(node.seal, result.shares[:3])
    new = await rekey(node.seal, 3, 2)
    assert (node.seal.status().shares, node.seal.status().threshold) == (3, 2)
    await verify_shares(node.seal, new[:2])
    with pytest.raises(InvalidKeyShare):
        await verify_shares(node.seal, result.shares[:3])
    with pytest.raises(InvalidKeyShare, match="not enough"):
        await verify_shares(node.seal, new[:1])
    await rotate_root_key(node.seal)
    other = SealedNode(world)
    with pytest.raises(InvalidKeyShare):
        await other.unseal(result.shares[:2])
    assert await other.unseal(new[1:])


async def test_rekey_bad_numbers_are_refused() -> None:
    node, _ = await opened_node(World())
    with pytest.raises(InvalidRequest, match="invalid rotate seal configuration: threshold cannot"):
        await rekey(node.seal, 2, 3)


async def test_key_changes_without_a_tenure_or_keys_are_refused() -> None:
    world = World()
    node, _ = await opened_node(world)
    node.barrier.end_writes()
    before = dict(world.data)
    changes: list[Callable[[], Awaitable[object]]] = [
        node.seal.rotate_encryption_key,
        lambda: rotate_root_key(node.seal),
        lambda: rekey(node.seal, 1, 1),
    ]
    for change in changes:
        with pytest.raises(ReadOnly):
            await change()
    node.barrier.seal()
    for change in changes:
        with pytest.raises(Sealed):
            await change()
    assert world.data == before


# --- following another node ---------------------------------------------------------------------


async def standby_of(world: World, result: InitResult) -> SealedNode:
    node = SealedNode(world, seed=9)
    await node.unseal(result.shares[:3])
    return node


def keys_of(node: SealedNode) -> list[tuple[int, bytes]]:
    return [(key.term, key.value) for key in node.barrier.keyring.keys]


async def test_reload_follows_data_key_root_key_and_shares() -> None:
    world = World()
    active, result = await opened_node(world)
    standby = await standby_of(world, result)
    await active.seal.rotate_encryption_key()
    await rotate_root_key(active.seal)
    await active.seal.rotate_encryption_key()
    await rekey(active.seal, 2, 2)
    await standby.seal.reload_keyring()
    assert keys_of(standby) == keys_of(active)
    assert standby.barrier.keyring.root_key == active.barrier.keyring.root_key
    assert standby.seal.status().shares == 2


async def test_standby_reads_an_entry_of_a_new_term_without_being_told() -> None:
    world = World()
    active, result = await opened_node(world)
    standby = await standby_of(world, result)
    await active.seal.rotate_encryption_key()
    await active.barrier.put("a", b"1")
    assert await standby.barrier.get("a") == b"1"
    assert standby.barrier.term == 2


async def test_reload_without_upgrades_follows_while_the_root_key_is_known() -> None:
    world = World()
    active, result = await opened_node(world)
    standby = await standby_of(world, result)
    await active.seal.rotate_encryption_key()
    await active.seal.rotate_encryption_key()
    await rotation.clear_upgrades(active.barrier)
    assert await active.barrier.list(names.KEY_UPGRADE_PREFIX) == []
    await standby.seal.reload_keyring()
    assert standby.barrier.term == 3


async def test_reload_that_missed_both_keys_says_so_and_keeps_what_it_has() -> None:
    world = World()
    active, result = await opened_node(world)
    standby = await standby_of(world, result)
    await active.seal.rotate_encryption_key()
    await rotate_root_key(active.seal)
    await rotation.clear_upgrades(active.barrier)
    with pytest.raises(BarrierError, match="no decryption key available for term 2"):
        await standby.seal.reload_keyring()
    assert standby.barrier.term == 1
    assert await standby.barrier.get("core/mounts/x") == b"mount"


async def test_reload_with_a_static_seal_follows_in_any_case() -> None:
    world = World()
    active = SealedNode(world, static_key=STATIC)
    await active.initialize(RECOVERY)
    await active.seal.auto_unseal()
    standby = SealedNode(world, static_key=STATIC)
    await standby.seal.auto_unseal()
    active.barrier.begin_writes(None)
    await active.seal.rotate_encryption_key()
    await rotate_root_key(active.seal)
    await rotation.clear_upgrades(active.barrier)
    await standby.seal.reload_keyring()
    assert standby.barrier.term == 2


class ChangesBetweenReads(InmemBackend):
    """A store whose root key is rotated by another node between two reads."""

    active: SealedNode
    moments: int = 0

    async def get(self, key: str) -> bytes | None:
        blob = await super().get(key)
        if self.moments and key in (names.STORED_KEYS, names.ROOT_KEY):
            self.moments -= 1
            await rotate_root_key(self.active.seal)
        return blob


async def test_unseal_and_reload_while_the_root_key_changes() -> None:
    world = World()
    active, result = await opened_node(world)
    backend = ChangesBetweenReads(world)
    backend.active = active
    node = SealedNode(backend, seed=9)
    backend.moments = 1
    assert await node.unseal(result.shares[:3])
    assert backend.moments == 0
    await rotate_root_key(active.seal)
    backend.moments = 2
    await node.seal.reload_keyring()
    assert backend.moments == 0
    assert node.barrier.keyring.root_key == active.barrier.keyring.root_key


# --- automatic rotation -------------------------------------------------------------------------


async def test_rotation_config_is_checked_stored_and_followed() -> None:
    world = World()
    node, result = await opened_node(world)
    standby = await standby_of(world, result)
    config = RotationConfig(False, 5_000_000, 720 * 3600 * 10**9)
    await rotation.set_rotation_config(node.barrier, config)
    assert node.barrier.keyring.rotation == config
    await standby.seal.reload_keyring()
    assert standby.barrier.keyring.rotation == config
    for operations in (1, 999_999, 3_865_470_567):
        with pytest.raises(InvalidRequest) as caught:
            await rotation.set_rotation_config(node.barrier, RotationConfig(False, operations))
        assert caught.value.errors == ("max_operations must be in the range [1000000,3865470566]",)
    with pytest.raises(InvalidRequest):
        await rotation.set_rotation_config(node.barrier, RotationConfig(interval_ns=10**9))


async def test_rotation_due_names_the_reason() -> None:
    clock = Clock()
    node = SealedNode(World(), clock=clock)
    result = await node.initialize()
    await node.unseal(result.shares[:3])
    node.barrier.begin_writes(None)
    assert rotation.rotation_due(node.barrier) == ""
    await rotation.set_rotation_config(
        node.barrier, RotationConfig(False, 1_000_000, 24 * 3600 * 10**9)
    )
    clock.moment += timedelta(hours=23)
    assert rotation.rotation_due(node.barrier) == ""
    clock.moment += timedelta(hours=1)
    assert rotation.rotation_due(node.barrier) == "rotation interval reached"
    await node.seal.rotate_encryption_key()
    assert rotation.rotation_due(node.barrier) == ""
    node.barrier.follow(node.barrier.keyring.with_encryptions(1_000_000))
    assert rotation.rotation_due(node.barrier) == "reached max operations"
    await node.seal.rotate_encryption_key()
    await rotation.set_rotation_config(node.barrier, RotationConfig(interval_ns=0))
    clock.moment += timedelta(days=366)
    assert rotation.rotation_due(node.barrier) == "legacy rotation"
    await rotation.set_rotation_config(node.barrier, RotationConfig(disabled=True))
    assert rotation.rotation_due(node.barrier) == ""


async def test_encryptions_persisted_survive_a_restart() -> None:
    world = World()
    node, result = await opened_node(world)
    for _ in range(20):
        await node.barrier.put("a", b"")
    count = rotation.key_status(node.barrier).encryptions
    await rotation.persist_encryptions(node.barrier)
    other = SealedNode(world)
    await other.unseal(result.shares[:3])
    assert rotation.key_status(other.barrier).encryptions == count >= 20


# --- fail everywhere ----------------------------------------------------------------------------

Effect = Literal["before", "after"]
T = TypeVar("T")


async def opens(world: World, shares: tuple[bytes, ...]) -> bool:
    """Return whether shares open the store, with all its data."""
    node = SealedNode(world, seed=99)
    try:
        await node.unseal(shares)
    except (InvalidKeyShare, NotInitialized):
        return False
    if node.barrier.sealed:
        return False
    assert await node.barrier.get("core/mounts/x") == b"mount"
    return True


async def unless_not_applied(operation: Awaitable[T]) -> T | None:
    """Return the result, or None for an error that promises that nothing was written."""
    try:
        return await operation
    except StorageUnavailable as exc:
        if exc.outcome != "not_applied":
            raise
        return None


@pytest.mark.parametrize("effect", ["before", "after"])
async def test_initialize_any_call_fails_leaves_nothing_or_a_whole_store(effect: Effect) -> None:
    for n in range(1, 20):
        world, faults = World(), Faults()
        node = SealedNode(FaultyStore(world.open(), faults))
        faults.fail_nth(n, effect)
        result = await unless_not_applied(node.initialize())
        if result is None:
            assert not world.data
        else:
            assert await opens(world, result.shares[:3])
            assert result.root_token == "s.root"
        if not faults.fired:
            assert n > 2
            return
    raise AssertionError("the sweep never ended")


async def rotate_data(node: SealedNode) -> tuple[bytes, ...]:
    await node.seal.rotate_encryption_key()
    return ()


async def rotate_root(node: SealedNode) -> tuple[bytes, ...]:
    await rotate_root_key(node.seal)
    return ()


async def cut_new_shares(node: SealedNode) -> tuple[bytes, ...]:
    return (await rekey(node.seal, 2, 2))[:2]


# Returns the new shares, none where the old ones stay valid.
Change = Callable[[SealedNode], Awaitable[tuple[bytes, ...]]]


@pytest.mark.parametrize("effect", ["before", "after"])
@pytest.mark.parametrize("change", [rotate_data, rotate_root, cut_new_shares])
async def test_key_change_any_call_fails_store_opens_with_old_or_new(
    change: Change, effect: Effect
) -> None:
    for n in range(1, 30):
        world, faults = World(), Faults()
        _, result = await opened_node(world)
        old = result.shares[:3]
        node = SealedNode(FaultyStore(world.open(), faults))
        await node.unseal(old)
        node.barrier.begin_writes(None)
        before = dict(world.data)
        faults.fail_nth(n, effect)
        changed = await unless_not_applied(change(node))
        assert (world.data == before) == (changed is None)
        new = changed or old
        faults.heal()
        assert await opens(world, new)
        # The node goes on with whatever is stored, and what it writes is read everywhere.
        await node.barrier.put("after", b"1")
        fresh = SealedNode(world)
        await fresh.unseal(new)
        assert await fresh.barrier.get("after") == b"1"
        if not faults.fired:
            assert n > 2
            return
    raise AssertionError("the sweep never ended")


class LosesAnswers(InmemBackend):
    """A store that applies some batches and loses every answer."""

    def __init__(self, world: World, lands: list[bool]) -> None:
        super().__init__(world)
        self.lands = lands

    async def apply(self, batch: Batch) -> None:
        if not self.lands:
            await super().apply(batch)
            return
        if self.lands.pop(0):
            await super().apply(batch)
        raise StorageUnavailable("no answer from the store", outcome="unknown")


@pytest.mark.parametrize("lands", [[False], [True], [False, False], [False, True]])
async def test_rekey_lost_answers_return_the_shares_that_open(lands: list[bool]) -> None:
    world = World()
    _, result = await opened_node(world)
    node = SealedNode(LosesAnswers(world, []))
    await node.unseal(result.shares[:3])
    node.barrier.begin_writes(None)
    assert isinstance(node.barrier.backend, LosesAnswers)
    node.barrier.backend.lands = list(lands)
    new = await rekey(node.seal, 2, 2)
    assert await opens(world, new)


@pytest.mark.parametrize("lands", [[True], [False], [False, True]])
async def test_rotate_lost_answers_do_not_rotate_twice(lands: list[bool]) -> None:
    world = World()
    _, result = await opened_node(world)
    backend = LosesAnswers(world, [])
    node = SealedNode(backend)
    await node.unseal(result.shares[:3])
    node.barrier.begin_writes(None)
    backend.lands = list(lands)
    await node.seal.rotate_encryption_key()
    assert rotation.key_status(node.barrier).term == 2


@pytest.mark.parametrize("lands", [[False] * 3, [False, False, True]])
async def test_initialize_without_any_answer_is_unknown(lands: list[bool]) -> None:
    world = World()
    with pytest.raises(StorageUnavailable) as caught:
        await SealedNode(LosesAnswers(world, list(lands))).initialize()
    assert caught.value.outcome == "unknown"
    assert bool(world.data) == lands[-1]


async def test_initialize_lost_answer_and_another_winner_is_refused() -> None:
    world = World()

    class LosesToAnother(LosesAnswers):
        async def apply(self, batch: Batch) -> None:
            if self.lands:
                await SealedNode(world, seed=5).initialize()
            await super().apply(batch)

    with pytest.raises(AlreadyInitialized):
        await SealedNode(LosesToAnother(world, [False]), seed=6).initialize()


async def test_change_fenced_after_a_lost_answer_is_unknown() -> None:
    world = World()
    _, result = await opened_node(world)

    class LosesThenFences(LosesAnswers):
        async def apply(self, batch: Batch) -> None:
            if not self.lands:
                raise FencedWrite
            await super().apply(batch)

    node = SealedNode(LosesThenFences(world, [False]))
    await node.unseal(result.shares[:3])
    node.barrier.begin_writes(None)
    with pytest.raises(BaohaError) as caught:
        await rotate_root_key(node.seal)
    assert caught.value.outcome == "unknown"


async def test_change_cancelled_anywhere_leaves_a_store_that_opens(
    autojump_clock: object,
) -> None:
    for step in range(40):
        world = World()
        _, result = await opened_node(world)
        faults = Faults(latency_s=0.5, reply_latency_s=0.5)
        slow = SealedNode(FaultyStore(world.open(), faults))
        await slow.unseal(result.shares[:3])
        slow.barrier.begin_writes(None)
        done = False
        with trio.move_on_after(step * 0.5 + 0.3):
            await rotate_root_key(slow.seal)
            done = True
        assert await opens(world, result.shares[:3])
        if done:
            assert step > 3
            return
    raise AssertionError("the sweep never ended")


async def test_nothing_shows_a_secret() -> None:
    world = World()
    node, result = await opened_node(world)
    await rekey(node.seal, 5, 3)
    keyring = node.barrier.keyring
    shown = " ".join(
        repr(item) for item in (node.seal, node.barrier, result, keyring, node.seal.status())
    )
    for secret in (*result.shares, keyring.root_key, keyring.active.value):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown
