"""
Every change of the keyring: how it is read anew, and how it is written.

Rules of this file:

1. A change is one store transaction: keyring, root key, stored keys and seal configuration land
   together or not at all. After any failure the store opens with the old keys or with the new ones.
2. A change builds on the keyring that the *store* holds, never on the one in memory: another node,
   or a write of our own whose answer was lost, may have changed it.
3. What came out (new shares above all) is returned only when it is certain that it was stored.

Theory of operation. Every change writes ``core/keyring``, encrypted with a fresh nonce, so its
bytes are a mark that no other write has: ``certain_commit`` needs one.

Source: ours; OpenBao writes these entries one after the other (docs/spec/openbao-ha.md sections 2.7
and 11.14).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Generic, TypeVar

from baoha import names
from baoha.core.keys.barrier import Barrier, BarrierTransaction, EntryCiphers
from baoha.core.keys.certain_commit import commit_certainly
from baoha.errors import BarrierError, InvalidRequest, StorageCorrupt
from baoha.sansio.crypto.barrier_codec import KEY_BYTES, NONCE_BYTES
from baoha.sansio.crypto.keyring import (
    INTERVAL_MIN_NS,
    OPERATIONS_MAX,
    OPERATIONS_MIN,
    Keyring,
    RotationConfig,
    decrypt_keyring,
    decrypt_upgrade,
    encrypt_keyring,
    encrypt_upgrade,
    parse_time,
    root_key_entry,
    root_key_from_entry,
    upgrade_path,
)
from baoha.sansio.crypto.seal_format import (
    SealWrapper,
    StaticSealKey,
    encode_stored_keys,
    wrapping_key_id,
)

T = TypeVar("T")
Read = Callable[[str], Awaitable[bytes | None]]

READS_MAX: Final = 4  # of the keyring, while it is being changed under our eyes
_YEAR: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """What one attempt to change the keyring wants to store, and what it then returns."""

    keyring: Keyring
    result: T = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """The answer of ``sys/key-status``; the time is RFC 3339."""

    term: int
    install_time: str
    encryptions: int


async def read_keyring(read: Read, known: Keyring) -> Keyring:
    """
    Read the keyring anew, following a root key and a data key that another node has changed.

    Args:
        read: returns what the store holds at a path, as it is.
        known: any keyring of this store, however old its root key.

    Raises:
        BarrierError: nothing that is known leads to the stored keyring.
        StorageUnavailable: no answer.
    """
    root_key = known.root_key
    failure = BarrierError()
    # Keyring and root key are written together but read one after the other: a change may fall
    # between the two reads.
    for _ in range(READS_MAX):
        blob = await read(names.KEYRING)
        if blob is None:
            raise StorageCorrupt("the keyring is missing")
        try:
            return decrypt_keyring(root_key, blob)
        except BarrierError as exc:
            failure = exc
        root_key = await _follow_root_key(read, known)
    raise failure


async def _follow_root_key(read: Read, known: Keyring) -> bytes:
    while (upgrade := await read(upgrade_path(known.active_term))) is not None:
        known = decrypt_upgrade(known, upgrade)
    for path in (names.ROOT_KEY, names.LEGACY_ROOT_KEY):
        blob = await read(path)
        if blob is not None:
            return root_key_from_entry(EntryCiphers(known, _no_randomness).decrypt(path, blob))
    raise StorageCorrupt("the root key entry is missing")


def _no_randomness(size: int) -> bytes:
    raise AssertionError(f"decryption asked for {size} random bytes")


async def change_keyring(
    barrier: Barrier, attempt: Callable[[BarrierTransaction, Keyring], Awaitable[Change[T]]]
) -> T:
    """
    Change the keyring in one transaction and follow it.

    Args:
        attempt: makes the change from the stored keyring, and buffers what else belongs to it. May
            run several times, has no effects of its own.

    Raises:
        Sealed, ReadOnly, FencedWrite: nothing was changed.
        StorageUnavailable: its ``outcome`` is "unknown" when even repeated attempts could not tell.

    Cancellation: as of the store's ``apply``; when cancelled, old or new keys are in the store.
    """
    change = await commit_certainly(lambda tried: _attempt_change(barrier, attempt, tried))
    barrier.follow(change.keyring)
    return change.result


async def _attempt_change(
    barrier: Barrier,
    attempt: Callable[[BarrierTransaction, Keyring], Awaitable[Change[T]]],
    tried: dict[bytes, Change[T]],
) -> Change[T]:
    async with barrier.transaction() as transaction:
        stored = await transaction.get_raw(names.KEYRING)
        if stored is not None and stored in tried:
            return tried[stored]  # the attempt whose answer was lost has landed
        current = await read_keyring(transaction.get_raw, barrier.keyring)
        barrier.follow(current)
        if current.active_term == barrier.term:
            # The barrier has counted on since the store was written.
            current = current.with_encryptions(barrier.keyring.active.encryptions)
        change = await attempt(transaction, current)
        mark = write_keyring(transaction, change.keyring, barrier.random_bytes)
        tried[mark] = change
    return change


def write_keyring(
    transaction: BarrierTransaction, keyring: Keyring, random_bytes: Callable[[int], bytes]
) -> bytes:
    """Buffer the keyring and the root key's entry under its newest term; return the former."""
    mark = encrypt_keyring(keyring, random_bytes(NONCE_BYTES))
    transaction.put_raw(names.KEYRING, mark)
    # Under the newest term, which the barrier may not know yet.
    ciphers = EntryCiphers(keyring, random_bytes)
    root_key = ciphers.encryption(names.ROOT_KEY, root_key_entry(keyring))()
    transaction.put_raw(names.ROOT_KEY, root_key)
    transaction.delete(names.LEGACY_ROOT_KEY)
    return mark


async def rotate_encryption_key(barrier: Barrier) -> None:
    """Install a new data key. Raises as ``change_keyring``."""

    async def attempt(transaction: BarrierTransaction, current: Keyring) -> Change[None]:
        value = barrier.random_bytes(KEY_BYTES)
        keyring = current.add_term(value, barrier.now())
        transaction.put_raw(*encrypt_upgrade(keyring, barrier.random_bytes(NONCE_BYTES)))
        return Change(keyring, None)

    await change_keyring(barrier, attempt)


def put_stored_keys(
    transaction: BarrierTransaction,
    root_key: bytes,
    wrapper: SealWrapper,
    random_bytes: Callable[[int], bytes],
) -> None:
    """Buffer the root key, encrypted by the seal."""
    plaintext = encode_stored_keys(root_key)
    transaction.put_raw(names.STORED_KEYS, wrapper.encrypt(plaintext, random_bytes(NONCE_BYTES)))


async def upgrade_stored_keys(barrier: Barrier, static_key: StaticSealKey) -> bool:
    """
    Encrypt with the current static key what the previous one still encrypts.

    Returns:
        Whether anything was written.
    """

    async def body(transaction: BarrierTransaction) -> bool:
        upgraded = False
        for path in (names.STORED_KEYS, names.RECOVERY_KEY):
            blob = await transaction.get_raw(path)
            if blob is not None and wrapping_key_id(blob) != static_key.key_id:
                nonce = barrier.random_bytes(NONCE_BYTES)
                transaction.put_raw(path, static_key.encrypt(static_key.decrypt(blob), nonce))
                upgraded = True
        return upgraded

    return await barrier.run_transaction(body)


async def set_rotation_config(barrier: Barrier, config: RotationConfig) -> None:
    """
    Store when the data key is rotated by itself.

    Raises:
        InvalidRequest: out of range; nothing was changed. Else as ``change_keyring``.
    """
    if not OPERATIONS_MIN <= config.max_operations <= OPERATIONS_MAX:
        raise InvalidRequest(
            f"max_operations must be in the range [{OPERATIONS_MIN},{OPERATIONS_MAX}]"
        )
    if config.interval_ns and config.interval_ns < INTERVAL_MIN_NS:
        raise InvalidRequest("interval must be greater or equal to 24h0m0s")

    async def attempt(_: BarrierTransaction, current: Keyring) -> Change[None]:
        return Change(current.with_rotation(config), None)

    await change_keyring(barrier, attempt)


async def persist_encryptions(barrier: Barrier) -> None:
    """Store the count of encryptions, so that it survives this process. As ``change_keyring``."""

    async def attempt(_: BarrierTransaction, current: Keyring) -> Change[None]:
        return Change(current, None)

    await change_keyring(barrier, attempt)


async def clear_upgrades(barrier: Barrier) -> None:
    """
    Delete the upgrade entries, which lead from one data key to the next.

    For the active node, some minutes after a rotation: every standby has followed by then, and one
    that has not reads the keyring with its root key.
    """

    async def body(transaction: BarrierTransaction) -> None:
        for name in await transaction.list(names.KEY_UPGRADE_PREFIX):
            transaction.delete(names.KEY_UPGRADE_PREFIX + name)

    await barrier.run_transaction(body)


def key_status(barrier: Barrier) -> KeyStatus:
    """
    Return term, age and use of the data key, from memory.

    Raises:
        Sealed: there is none.
    """
    active = barrier.keyring.active
    return KeyStatus(active.term, active.install_time, active.encryptions)


def rotation_due(barrier: Barrier) -> str:
    """
    Return why the data key should be rotated now, in OpenBao's words, or "" when it should not.

    Raises:
        Sealed: there is none.
    """
    keyring = barrier.keyring
    active, rules = keyring.active, keyring.rotation
    if rules.disabled:
        return ""
    if active.encryptions >= rules.max_operations:
        return "reached max operations"
    age = barrier.now() - parse_time(active.install_time)
    if rules.interval_ns and age >= timedelta(microseconds=rules.interval_ns // 1000):
        return "rotation interval reached"
    if not active.encryptions and age > _YEAR:
        return "legacy rotation"
    return ""
