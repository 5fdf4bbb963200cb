"""
New root keys and new shares: complete and tested, and waiting for the endpoints that ask for them.

Rules of this file:

1. Whoever calls has verified the present shares (``verify_shares``); the changes ask for none.
2. New shares are returned only when it is certain that they were stored.

Source: OpenBao's rotation of root key and shares; each change is one transaction (``rotation.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

from baoha import names
from baoha.core.keys import initialization
from baoha.core.keys.barrier import Barrier, BarrierTransaction
from baoha.core.keys.rotation import Change, change_keyring, put_stored_keys
from baoha.core.keys.seal import Seal, join_shares
from baoha.errors import InvalidKeyShare, StorageCorrupt
from baoha.sansio.crypto.barrier_codec import KEY_BYTES, NONCE_BYTES
from baoha.sansio.crypto.keyring import Keyring
from baoha.sansio.crypto.seal_format import (
    SHAMIR,
    SealConfig,
    SealWrapper,
    ShamirWrapper,
    StaticSealKey,
    check_shares,
)


async def verify_shares(seal: Seal, shares: Sequence[bytes]) -> None:
    """
    Raise unless these shares are enough and right: key shares, or recovery shares with a static
    seal.

    Raises:
        InvalidKeyShare: they are not.
        StorageCorrupt, StorageUnavailable: the store could not be read.
    """
    await seal.load_config()
    config = seal.shares_config
    if config is None or len(shares) < config.threshold:
        raise InvalidKeyShare("not enough key shares")
    wrapper = await seal.wrapper_of(join_shares(shares, config.threshold))
    if seal.static_key is None:
        await seal.stored_root_key(wrapper)


async def rotate_root_key(seal: Seal) -> None:
    """Install a new root key; the shares stay valid. Raises as ``change_keyring``."""
    barrier = seal.barrier

    async def attempt(transaction: BarrierTransaction, current: Keyring) -> Change[None]:
        keyring = current.with_root_key(barrier.random_bytes(KEY_BYTES))
        wrapper = await _wrapper_in(seal, transaction)
        put_stored_keys(transaction, keyring.root_key, wrapper, barrier.random_bytes)
        return Change(keyring, None)

    await change_keyring(barrier, attempt)


async def rekey(seal: Seal, shares: int, threshold: int) -> tuple[bytes, ...]:
    """
    Cut a new key into new shares; the old shares are worth nothing afterwards.

    With key shares: new seal key and new root key. With a static seal: a new recovery key.

    Raises:
        InvalidRequest: with OpenBao's texts; nothing was changed. Else as ``change_keyring``; the
            new shares are returned only if they are stored for sure.
    """
    check_shares(shares, threshold, what="rotate seal")
    random_bytes = seal.barrier.random_bytes
    key = random_bytes(KEY_BYTES)
    cut = initialization.cut_key(key, shares, threshold, random_bytes)
    config = SealConfig(SHAMIR, shares, threshold)
    if seal.static_key is None:
        await _replace_seal_key(seal.barrier, key, config)
    else:
        await _replace_recovery_key(seal.barrier, key, config, seal.static_key)
    # From what was just written: the result must not be lost to a store that fails now.
    seal.take_shares_config(config)
    return cut


async def _wrapper_in(seal: Seal, transaction: BarrierTransaction) -> SealWrapper:
    """Return what encrypts the stored keys, on an unsealed node."""
    if seal.static_key is not None:
        return seal.static_key
    key = await transaction.get(names.SHAMIR_KEK)
    if key is None:
        raise StorageCorrupt("the seal key is missing from the barrier")
    return ShamirWrapper(key)


async def _replace_seal_key(barrier: Barrier, key: bytes, config: SealConfig) -> None:
    """
    Install a new key of a Shamir seal, and a new root key with it. Raises as ``change_keyring``.

    Args:
        key: what the new shares join to.
        config: how many of them there are.
    """

    async def attempt(transaction: BarrierTransaction, current: Keyring) -> Change[None]:
        root_key = barrier.random_bytes(KEY_BYTES)
        put_stored_keys(transaction, root_key, ShamirWrapper(key), barrier.random_bytes)
        transaction.put(names.SHAMIR_KEK, key)
        transaction.put_raw(names.SEAL_CONFIG, config.encode())
        return Change(current.with_root_key(root_key), None)

    await change_keyring(barrier, attempt)


async def _replace_recovery_key(
    barrier: Barrier, key: bytes, config: SealConfig, static_key: StaticSealKey
) -> None:
    """Install a new recovery key beside a static seal. Raises as ``change_keyring``."""

    async def attempt(transaction: BarrierTransaction, current: Keyring) -> Change[None]:
        wrapped = static_key.encrypt(key, barrier.random_bytes(NONCE_BYTES))
        transaction.put_raw(names.RECOVERY_KEY, wrapped)
        transaction.put_raw(names.RECOVERY_CONFIG, config.encode())
        return Change(current, None)

    await change_keyring(barrier, attempt)
