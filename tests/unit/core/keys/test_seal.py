"""The seal: initialise, unseal and seal, with key shares and with a static key."""

from __future__ import annotations

import pytest
import trio

from baoha import names
from baoha.core.keys import rotation
from baoha.core.keys.barrier import BarrierTransaction
from baoha.core.keys.rekey import rekey, verify_shares
from baoha.core.view import InitParameters, InitResult
from baoha.errors import (
    AlreadyInitialized,
    ConfigError,
    FencedWrite,
    InvalidKeyShare,
    InvalidRequest,
    NotInitialized,
    Sealed,
    SealError,
    StorageCorrupt,
)
from baoha.sansio.crypto.seal_format import StaticSealKey, parse_share
from baoha.storage.base import Fence
from baoha.storage.faulty import Faults, FaultyStore
from baoha.storage.inmem import World
from tests.support.held import held
from tests.support.sealed_node import (
    RECOVERY,
    STATIC,
    THREE_OF_FIVE,
    SealedNode,
    Watcher,
    opened_node,
)

# --- initialise ---------------------------------------------------------------------------------


async def test_initialize_writes_everything_in_one_transaction_and_stays_sealed() -> None:
    world, watcher = World(), Watcher()
    world.observers.append(watcher)
    node = SealedNode(world)
    result = await node.initialize()
    (batch,) = watcher.batches
    assert batch.expected == {names.KEYRING: None}
    assert sorted(world.data) == [
        "core/cluster/local/info",
        "core/hsm/barrier-unseal-keys",
        "core/keyring",
        "core/mounts/x",
        "core/root-key",
        "core/seal-config",
        "core/shamir-kek",
        "core/versions/2.7.2",
    ]
    assert result.root_token == "s.root"
    assert [len(share) for share in result.shares] == [33] * 5
    assert result.recovery_shares == ()
    status = node.seal.status()
    assert (status.initialized, status.sealed) == (True, True)
    assert (status.threshold, status.shares, status.progress) == (3, 5, 0)
    assert "s.root" not in repr(result)


async def test_initialize_populate_may_be_async_and_read() -> None:
    async def populate_async(transaction: BarrierTransaction) -> str:
        transaction.put("a", b"1")
        assert await transaction.get("a") == b"1"
        return "s.async"

    node = SealedNode(World())
    result = await node.seal.initialize(THREE_OF_FIVE, populate=populate_async, fence=None)
    assert result.root_token == "s.async"


@pytest.mark.parametrize(("shares", "threshold", "size"), [(1, 1, 32), (2, 2, 33), (255, 2, 33)])
async def test_initialize_any_number_of_shares_opens(
    shares: int, threshold: int, size: int
) -> None:
    node = SealedNode(World())
    result = await node.initialize(InitParameters(secret_shares=shares, secret_threshold=threshold))
    assert {len(share) for share in result.shares} == {size}
    assert await node.unseal(result.shares[-threshold:])
    assert await node.barrier.get("core/mounts/x") == b"mount"


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ((0, 0, 0, 0), "invalid seal configuration: shares must be at least one"),
        ((2, 3, 0, 0), "invalid seal configuration: threshold cannot be larger than shares"),
        (
            (5, 3, 1, 1),
            "parameters recovery_shares,recovery_threshold not applicable to seal type shamir",
        ),
        ((5, 3, 0, 1), "parameters recovery_threshold not applicable to seal type shamir"),
    ],
)
async def test_initialize_bad_input_is_refused_before_the_store_is_asked(
    parameters: tuple[int, int, int, int], text: str
) -> None:
    faults = Faults(unavailable=True)
    node = SealedNode(FaultyStore(World().open(), faults))
    shares, threshold, recovery_shares, recovery_threshold = parameters
    with pytest.raises(InvalidRequest) as caught:
        await node.initialize(
            InitParameters(
                secret_shares=shares,
                secret_threshold=threshold,
                recovery_shares=recovery_shares,
                recovery_threshold=recovery_threshold,
            )
        )
    assert caught.value.errors == (text,)
    assert faults.calls == 0


async def test_initialize_again_is_refused_bad_input_first() -> None:
    world = World()
    await SealedNode(world).initialize()
    before = dict(world.data)
    with pytest.raises(AlreadyInitialized, match=r"^Vault is already initialized$"):
        await SealedNode(world, seed=1).initialize()
    with pytest.raises(InvalidRequest):
        await SealedNode(world).initialize(InitParameters(secret_shares=0, secret_threshold=0))
    assert world.data == before


async def test_initialize_race_has_one_winner_whose_shares_open() -> None:
    world = World()
    results: list[InitResult] = []
    refused: list[int] = []

    async def run(seed: int) -> None:
        try:
            results.append(await SealedNode(world, seed=seed).initialize())
        except AlreadyInitialized:
            refused.append(seed)

    async with trio.open_nursery() as nursery:
        for seed in range(5):
            nursery.start_soon(run, seed)
    assert (len(results), len(refused)) == (1, 4)
    assert await SealedNode(world).unseal(results[0].shares[:3])


async def test_initialize_carries_the_fence() -> None:
    world = World()
    with pytest.raises(FencedWrite):
        await SealedNode(world).initialize(fence=Fence("core/lock", "nobody", 1))
    assert not world.data


# --- unseal -------------------------------------------------------------------------------------


async def test_unseal_takes_threshold_shares_in_any_order() -> None:
    node = SealedNode(World())
    result = await node.initialize()
    nonces = set()
    for count, share in enumerate(result.shares[4:2:-1], 1):
        assert not await node.seal.unseal(share)
        status = node.seal.status()
        assert (status.progress, status.sealed) == (count, True)
        nonces.add(status.nonce)
    assert len(nonces) == 1
    assert len(nonces.pop()) == 36
    assert await node.seal.unseal(result.shares[0])
    status = node.seal.status()
    assert (status.progress, status.nonce, status.sealed) == (0, "", False)


async def test_unseal_repeated_share_is_ignored() -> None:
    node = SealedNode(World())
    result = await node.initialize()
    for _ in range(3):
        assert not await node.seal.unseal(result.shares[0])
    assert node.seal.status().progress == 1


async def test_unseal_reset_forgets_and_overwrites() -> None:
    node = SealedNode(World())
    result = await node.initialize()
    await node.seal.unseal(result.shares[0])
    buffers = held(node.seal, bytearray)
    assert not await node.seal.unseal(None, reset=True)
    assert buffers == [bytes(33)]
    assert (node.seal.status().progress, node.seal.status().nonce) == (0, "")


async def test_unseal_overwrites_shares_when_it_opens_and_when_it_fails() -> None:
    node = SealedNode(World())
    result = await node.initialize()
    await node.seal.unseal(result.shares[0])
    await node.seal.unseal(result.shares[1])
    buffers = held(node.seal, bytearray)
    with pytest.raises(InvalidKeyShare):
        await node.seal.unseal(b"\x07" * 33)
    assert buffers == [bytes(33)] * 2
    await node.seal.unseal(result.shares[0])
    buffers = held(node.seal, bytearray)
    assert await node.unseal(result.shares[1:3])
    assert buffers == [bytes(33)]


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        (
            [b"\x01" * 33, b"\x02" * 33, b"\x03" * 33],
            "unable to retrieve stored keys: invalid key: failed to decrypt keys from storage: "
            "cipher: message authentication failed",
        ),
        (
            [b"\x01" * 33, b"\x02" * 32 + b"\x01", b"\x03" * 33],
            "invalid key: failed to compute combined key: duplicate part detected",
        ),
        (
            [b"\x01" * 33, b"\x02" * 32, b"\x03" * 33],
            "invalid key: failed to compute combined key: all parts must be the same length",
        ),
        (
            # 19 bytes: of a length that no key has
            [b"\x01" * 20, b"\x02" * 20, b"\x03" * 20],
            "unable to retrieve stored keys: invalid key: failed to decrypt keys from storage: "
            "cipher: message authentication failed",
        ),
    ],
)
async def test_unseal_wrong_shares_are_refused_and_forgotten(
    shares: list[bytes], text: str
) -> None:
    """Source: tests/conformance/recordings/04-unseal.json."""
    node = SealedNode(World())
    result = await node.initialize()
    await node.unseal(tuple(shares[:2]))
    with pytest.raises(InvalidKeyShare) as caught:
        await node.seal.unseal(shares[2])
    assert str(caught.value) == text
    assert node.seal.status().progress == 0
    assert node.barrier.sealed
    assert await node.unseal(result.shares[:3])


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (b"short", "invalid key: key is shorter than minimum 16 bytes"),
        (b"x" * 15, "invalid key: key is shorter than minimum 16 bytes"),
        (b"x" * 34, "invalid key: key is longer than maximum 33 bytes"),
    ],
)
async def test_unseal_share_of_bad_length_is_refused_and_not_counted(
    share: bytes, text: str
) -> None:
    node = SealedNode(World())
    await node.initialize()
    with pytest.raises(InvalidKeyShare) as caught:
        await node.seal.unseal(share)
    assert str(caught.value) == text
    assert node.seal.status().progress == 0


async def test_unseal_without_share_or_store_or_need() -> None:
    world = World()
    node = SealedNode(world)
    with pytest.raises(NotInitialized, match=r"^Vault is not initialized$"):
        await node.seal.unseal(b"x" * 33)
    assert not await node.seal.unseal(None, reset=True)
    with pytest.raises(InvalidRequest, match="'key' must be specified in request body as JSON"):
        await node.seal.unseal(None)
    node, _ = await opened_node(world)
    assert not await node.seal.unseal(b"x")
    with pytest.raises(InvalidRequest, match=r"^vault is unsealed$"):
        await node.seal.unseal(None, reset=True)


async def test_unseal_notices_a_store_that_another_node_initialised() -> None:
    world = World()
    node = SealedNode(world)
    await node.seal.load_config()
    assert not node.seal.initialized
    result = await SealedNode(world, seed=1).initialize()
    assert await node.unseal(result.shares[:3])
    assert node.seal.initialized


async def test_unseal_shares_given_at_the_same_time_open_once() -> None:
    world = World()
    result = await SealedNode(world).initialize()
    node, opened = SealedNode(world), []

    async def give(share: bytes) -> None:
        opened.append(await node.seal.unseal(share))

    async with trio.open_nursery() as nursery:
        for share in result.shares:
            nursery.start_soon(give, share)
    assert opened.count(True) == 1
    assert not node.barrier.sealed
    assert node.seal.status().progress == 0


async def test_seal_after_the_barrier_was_closed_has_no_keys_and_opens_again() -> None:
    node, result = await opened_node(World())
    node.barrier.seal()
    node.barrier.seal()
    assert node.seal.status().sealed
    with pytest.raises(Sealed):
        rotation.key_status(node.barrier)
    with pytest.raises(Sealed):
        await node.seal.reload_keyring()
    assert node.seal.status().progress == 0
    assert await node.unseal(result.shares[2:])


async def test_share_as_a_client_writes_it_opens() -> None:
    node = SealedNode(World())
    result = await node.initialize()
    assert await node.unseal(tuple(parse_share(share.hex()) for share in result.shares[:3]))


async def test_store_that_is_incomplete_is_called_corrupt() -> None:
    world = World()
    node = SealedNode(world)
    result = await node.initialize()
    for key in (names.STORED_KEYS, names.SEAL_CONFIG):
        kept = world.data.pop(key)
        with pytest.raises(StorageCorrupt):
            await node.unseal(result.shares[:3])
        world.data[key] = kept
        await node.seal.unseal(None, reset=True)
    assert await node.unseal(result.shares[:3])


async def test_seal_of_another_type_than_the_store_is_refused() -> None:
    world = World()
    await SealedNode(world).initialize()
    with pytest.raises(ConfigError, match="initialised with the seal type 'shamir'"):
        await SealedNode(world, static_key=STATIC).seal.load_config()


async def test_cluster_info_is_made_once_and_read_back() -> None:
    node, _ = await opened_node(World())
    info = await node.seal.cluster_info()
    assert info.name.startswith("vault-cluster-")
    assert len(info.id) == 36


# --- static seal --------------------------------------------------------------------------------


async def test_static_initialize_gives_recovery_shares_and_opens_by_itself() -> None:
    world = World()
    node = SealedNode(world, static_key=STATIC)
    assert not await node.seal.auto_unseal()
    result = await node.initialize(RECOVERY)
    assert result.shares == ()
    assert len(result.recovery_shares) == 3
    assert node.barrier.sealed
    assert "core/shamir-kek" not in world.data
    assert await node.seal.auto_unseal()
    assert not await node.seal.auto_unseal()
    status = node.seal.status()
    assert (status.type, status.threshold, status.shares) == ("static", 2, 3)
    assert (status.recovery_seal, status.recovery_seal_type) == (True, "shamir")
    other = SealedNode(world, static_key=STATIC)
    assert await other.seal.auto_unseal()
    assert other.seal.status() == status


async def test_static_without_recovery_shares_opens_and_takes_no_shares() -> None:
    node = SealedNode(World(), static_key=STATIC)
    result = await node.initialize(InitParameters(secret_shares=0, secret_threshold=0))
    assert result.recovery_shares == ()
    assert (node.seal.status().shares, node.seal.status().threshold) == (0, 0)
    with pytest.raises(InvalidKeyShare, match="no recovery key found"):
        await node.seal.unseal(b"x" * 33)
    assert await node.seal.auto_unseal()


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ((5, 3), "parameters secret_shares,secret_threshold not applicable to seal type static"),
        ((0, 1), "parameters secret_threshold not applicable to seal type static"),
    ],
)
async def test_static_initialize_with_key_shares_is_refused(
    secret: tuple[int, int], text: str
) -> None:
    """Source: measured on OpenBao 2.7.2."""
    with pytest.raises(InvalidRequest) as caught:
        await SealedNode(World(), static_key=STATIC).initialize(
            InitParameters(
                secret_shares=secret[0],
                secret_threshold=secret[1],
                recovery_shares=3,
                recovery_threshold=2,
            )
        )
    assert caught.value.errors == (text,)


async def test_static_sealed_by_hand_opens_with_right_recovery_shares_only() -> None:
    node = SealedNode(World(), static_key=STATIC)
    result = await node.initialize(RECOVERY)
    await node.seal.unseal(b"\x01" * 33)
    with pytest.raises(InvalidKeyShare) as caught:
        await node.seal.unseal(b"\x02" * 33)
    assert str(caught.value) == (
        "invalid key: failed to verify recovery key: recovery key does not match submitted values"
    )
    assert node.barrier.sealed
    assert await node.unseal(result.recovery_shares[1:])


async def test_static_wrong_key_is_refused_without_showing_one() -> None:
    world = World()
    await SealedNode(world, static_key=STATIC).initialize(RECOVERY)
    for other in (StaticSealKey("k1", b"Z" * 32), StaticSealKey("k2", b"Z" * 32)):
        node = SealedNode(world, static_key=other)
        with pytest.raises(SealError) as caught:
            await node.seal.auto_unseal()
        assert "ZZZ" not in str(caught.value)
        assert node.barrier.sealed


async def test_static_key_is_replaced_without_a_moment_closed() -> None:
    world = World()
    result = await SealedNode(world, static_key=STATIC).initialize(RECOVERY)
    both = SealedNode(world, static_key=StaticSealKey("k2", b"L" * 32, "k1", STATIC.key))
    assert await both.seal.auto_unseal()
    both.barrier.begin_writes(None)
    assert await both.seal.upgrade_stored_keys()
    assert not await both.seal.upgrade_stored_keys()
    new = SealedNode(world, static_key=StaticSealKey("k2", b"L" * 32))
    assert await new.seal.auto_unseal()
    await verify_shares(new.seal, result.recovery_shares[:2])


async def test_static_recovery_shares_are_replaced() -> None:
    world = World()
    node = SealedNode(world, static_key=STATIC)
    old = await node.initialize(RECOVERY)
    await node.seal.auto_unseal()
    node.barrier.begin_writes(None)
    new = await rekey(node.seal, 2, 2)
    await verify_shares(node.seal, new)
    with pytest.raises(InvalidKeyShare):
        await verify_shares(node.seal, old.recovery_shares[:2])
    other = SealedNode(world, static_key=STATIC)
    assert await other.seal.auto_unseal()
    assert (other.seal.status().shares, other.seal.status().threshold) == (2, 2)
