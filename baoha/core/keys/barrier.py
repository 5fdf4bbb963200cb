"""
The barrier: everything above it is plaintext, everything below it is encrypted.

Rules of this file:

1. Nothing is written without the fence of the current tenure; a node without a tenure reads only.
2. Only this module draws nonces, one fresh one per encryption.
3. A sealed barrier has no key: every operation raises ``Sealed``, one that had begun included.

Theory of operation. ``open`` takes a keyring and makes one cipher per term; ``seal`` drops them.
``begin_writes`` gives the fence that every later write carries, ``end_writes`` takes it away. A
transaction keeps the fence that it began with, and commits only while that fence is still the
current one: what was decided in one tenure is not written in the next.

A standby may meet an entry of a term that it does not know, because the active node has just
rotated. ``refresh_keyring`` (set by the seal) is then called once, and the entry is tried again.

Source: docs/spec/openbao-ha.md section 2.3.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from baoha.core.keys.landed_writes import count_landed
from baoha.errors import ReadOnly, Sealed, TransactionConflict, UnknownTerm
from baoha.offload import COPIED_INLINE_BYTES_MAX, run_if_large
from baoha.sansio.crypto.barrier_codec import (
    NONCE_BYTES,
    TermCipher,
    entry_term,
    require_key,
    require_storable,
)
from baoha.sansio.crypto.keyring import Keyring
from baoha.storage.base import Backend, Fence, Transaction

RandomBytes = Callable[[int], bytes]
Now = Callable[[], datetime]
T = TypeVar("T")

# A conflict means that somebody else made progress, so attempts rarely exceed two or three.
ATTEMPTS_DEFAULT: Final = 8

# The method "list" hides the built-in inside class bodies.
Keys = list[str]


class EntryCiphers:
    """
    A keyring made ready to encrypt and decrypt entries, with the count of encryptions.

    Shared by the barrier and its open transactions: after ``wipe`` all of them are sealed.
    """

    def __init__(self, keyring: Keyring, random_bytes: RandomBytes) -> None:
        self._random_bytes = random_bytes
        self._keyring: Keyring | None = None
        self._ciphers: dict[int, TermCipher] = {}
        self._newest: TermCipher | None = None  # what encrypts; None when wiped
        self._encryptions = 0
        self.load(keyring)

    def __repr__(self) -> str:
        return f"EntryCiphers(terms={sorted(self._ciphers)})"

    @property
    def keyring(self) -> Keyring:
        """
        The keyring, with the count of encryptions so far.

        Raises:
            Sealed: it was wiped.
        """
        if self._keyring is None:
            raise Sealed
        return self._keyring.with_encryptions(self._encryptions)

    @property
    def term(self) -> int:
        """The term that encrypts; 0 when wiped."""
        return 0 if self._newest is None else self._newest.term

    def load(self, keyring: Keyring) -> None:
        """Take another keyring: a newer one, or the same one as stored."""
        same_term = self._keyring is not None and self._keyring.active_term == keyring.active_term
        stored = keyring.active.encryptions
        # Two nodes never encrypt at once, but a stored count may be older than ours.
        self._encryptions = max(stored, self._encryptions) if same_term else stored
        self._ciphers = {key.term: TermCipher(key.term, key.value) for key in keyring.keys}
        self._newest = self._ciphers[keyring.active_term]
        self._keyring = keyring

    def wipe(self) -> None:
        """Drop every key. Immutable bytes cannot be overwritten in Python; the memory is freed."""
        self._keyring = self._newest = None
        self._ciphers = {}
        self._encryptions = 0

    def require_open(self) -> None:
        """
        Raise unless keys are there.

        Raises:
            Sealed: they were wiped.
        """
        if self._keyring is None:
            raise Sealed

    def encryption(self, path: str, plaintext: bytes) -> Callable[[], bytes]:
        """Return what makes the entry for a path, under the newest term; to be called once."""
        if self._newest is None:
            raise Sealed
        self._encryptions += 1
        nonce = self._random_bytes(NONCE_BYTES)
        return partial(self._newest.encrypt, path, plaintext, nonce)

    def decrypt(self, path: str, blob: bytes) -> bytes:
        """
        Return the plaintext of an entry.

        Raises:
            Sealed: the keys were wiped.
            UnknownTerm: no key for its term.
            BarrierError: it does not decrypt.
        """
        if self._keyring is None:
            raise Sealed
        term = entry_term(blob)
        cipher = self._ciphers.get(term)
        if cipher is None:
            raise UnknownTerm(term)
        return cipher.decrypt(path, blob)


@dataclass(frozen=True, slots=True)
class _Permit:
    """The right to write: given for one tenure, compared by identity and never reused."""

    fence: Fence | None


class BarrierTransaction:
    """
    Encrypted reads and buffered encrypted writes, relative to a prefix. Not for two tasks at once.

    Made by ``Barrier.transaction``; directly over a storage transaction only where no barrier is
    open yet (initialisation).
    """

    def __init__(
        self, storage: Transaction, ciphers: EntryCiphers, *, prefix: str = "", writable: bool
    ) -> None:
        self._storage = storage
        self._ciphers = ciphers
        self._prefix = prefix
        self._writable = writable
        self._has_written = [False]  # shared by all views of one transaction

    @property
    def has_written(self) -> bool:
        """Whether any write was buffered, through this view or another one."""
        return self._has_written[0]

    def view(self, prefix: str) -> BarrierTransaction:
        """Return the same transaction, relative to a prefix below this one's."""
        child = BarrierTransaction(
            self._storage, self._ciphers, prefix=self._prefix + prefix, writable=self._writable
        )
        child._has_written = self._has_written
        return child

    async def get(self, key: str) -> bytes | None:
        """Return the value as this transaction sees it, or None. Raises as ``Barrier.get``."""
        path = self._prefix + key
        self._ciphers.require_open()
        require_key(path)
        blob = await self._storage.get(path)
        if blob is None:
            return None
        return await run_if_large(partial(self._ciphers.decrypt, path, blob), len(blob))

    async def list(self, prefix: str) -> Keys:
        """Return the direct children of a prefix, this transaction's writes included."""
        self._ciphers.require_open()
        return await self._storage.list(self._prefix + prefix)

    def put(self, key: str, value: bytes) -> None:
        """
        Buffer a write.

        Raises:
            ReadOnly: the transaction began without a tenure.
            InvalidRequest: the key cannot be stored.
        """
        path = self._require_writable(key)
        self._storage.put(path, self._ciphers.encryption(path, value)())

    async def put_large(self, key: str, value: bytes) -> None:
        """Buffer a write of any size, encrypted outside the event loop. Raises as ``put``."""
        if len(value) <= COPIED_INLINE_BYTES_MAX:
            self.put(key, value)
            return
        path = self._require_writable(key)
        self._storage.put(
            path, await run_if_large(self._ciphers.encryption(path, value), len(value))
        )

    def delete(self, key: str) -> None:
        """Buffer a deletion. Raises as ``put``."""
        self._storage.delete(self._require_writable(key))

    async def get_raw(self, key: str) -> bytes | None:
        """Return what the store holds, as it is: for the few entries that are not the barrier's."""
        self._ciphers.require_open()
        return await self._storage.get(self._prefix + key)

    def put_raw(self, key: str, value: bytes) -> None:
        """Buffer a write of bytes as they are. Raises as ``put``."""
        self._storage.put(self._require_writable(key), value)

    def _require_writable(self, key: str) -> str:
        self._ciphers.require_open()
        if not self._writable:
            raise ReadOnly
        require_storable(path := self._prefix + key)
        self._has_written[0] = True
        return path


class Barrier:
    """
    The one way to encrypted storage. One per node; safe for concurrent use by many tasks.

    Attributes:
        backend: the store below; for what is not encrypted (seal configuration, stored keys).
        refresh_keyring: awaited when an entry has an unknown term; set by the seal.
    """

    def __init__(
        self, backend: Backend, *, random_bytes: RandomBytes = os.urandom, now: Now
    ) -> None:
        self.backend = backend
        self.now = now
        self.random_bytes = random_bytes
        self.refresh_keyring: Callable[[], Awaitable[None]] | None = None
        self._ciphers: EntryCiphers | None = None
        self._permit: _Permit | None = None

    def __repr__(self) -> str:
        return f"Barrier(sealed={self.sealed}, term={self.term})"

    # --- state ----------------------------------------------------------------------------------

    @property
    def sealed(self) -> bool:
        """Whether there is no key."""
        return self._ciphers is None

    @property
    def term(self) -> int:
        """The term that encrypts; 0 when sealed."""
        return 0 if self._ciphers is None else self._ciphers.term

    @property
    def writable(self) -> bool:
        """Whether a tenure has allowed writes."""
        return self._permit is not None

    @property
    def keyring(self) -> Keyring:
        """
        The keyring with the current count of encryptions.

        Raises:
            Sealed: there is none.
        """
        return self._require_open().keyring

    def open(self, keyring: Keyring) -> None:
        """Unseal. An open barrier takes the keyring as ``follow`` does."""
        if self._ciphers is None:
            self._ciphers = EntryCiphers(keyring, self.random_bytes)
        else:
            self.follow(keyring)

    def follow(self, keyring: Keyring) -> None:
        """
        Take the keyring that the store holds now, if the barrier is still open.

        One that is older than what is known is ignored: it was read before a rotation of our own.
        """
        if self._ciphers is not None and keyring.active_term >= self._ciphers.term:
            self._ciphers.load(keyring)

    def seal(self) -> None:
        """
        Drop all key material and the right to write. Operations that had begun raise ``Sealed``.
        """
        self._permit = None
        if self._ciphers is not None:
            self._ciphers.wipe()
            self._ciphers = None

    def begin_writes(self, fence: Fence | None) -> None:
        """
        Allow writes. Every one carries this fence from now on.

        Args:
            fence: the tenure's; None for a store without HA.
        """
        self._permit = _Permit(fence)

    def end_writes(self) -> None:
        """Refuse writes from now on; a transaction that had begun does not commit any more."""
        self._permit = None

    # --- single operations ----------------------------------------------------------------------

    async def get(self, key: str) -> bytes | None:
        """
        Return the value, or None when the key is absent.

        Raises:
            Sealed: the barrier is sealed, or was while the store answered.
            InvalidRequest: that cannot be a key.
            BarrierError: the entry does not decrypt (UnknownTerm: its key is not known).
            StorageUnavailable: no answer.
        """
        ciphers = self._require_open()
        require_key(key)
        blob = await self.backend.get(key)
        if blob is None:
            ciphers.require_open()
            return None
        try:
            return await run_if_large(partial(ciphers.decrypt, key, blob), len(blob))
        except UnknownTerm:
            if self.refresh_keyring is None:
                raise
            await self.refresh_keyring()
            return await run_if_large(partial(ciphers.decrypt, key, blob), len(blob))

    async def list(self, prefix: str) -> Keys:
        """Return the direct children of a prefix, sorted; sub-folders once, with a trailing "/"."""
        self._require_open()
        return await self.backend.list(prefix)

    async def list_page(self, prefix: str, after: str, limit: int) -> Keys:
        """Return at most ``limit`` children sorted strictly after ``after``; negative: all."""
        self._require_open()
        return await self.backend.list_page(prefix, after, limit)

    async def put(self, key: str, value: bytes) -> None:
        """
        Write one value, with the fence of the tenure.

        Raises:
            Sealed, ReadOnly, InvalidRequest, FencedWrite: nothing was written.
            StorageUnavailable: its ``outcome`` says whether it may have been.
        """
        ciphers, permit = self._require_writable(key)
        entry = await run_if_large(ciphers.encryption(key, value), len(value))
        await self.backend.put(key, entry, fence=permit.fence)
        count_landed()

    async def delete(self, key: str) -> None:
        """Delete one key; deleting an absent key succeeds. Raises as ``put``."""
        _, permit = self._require_writable(key)
        await self.backend.delete(key, fence=permit.fence)
        count_landed()

    # --- transactions and views -----------------------------------------------------------------

    @asynccontextmanager
    async def transaction(self, prefix: str = "") -> AsyncIterator[BarrierTransaction]:
        """
        Open a transaction; it commits when the block ends normally, and writes nothing otherwise.

        It carries the fence current now. It does not commit after a seal, nor after the tenure
        ended, even if another one has begun.

        Args:
            prefix: what its keys are relative to, "" or ending in "/".

        Raises:
            Sealed: now, or at commit.
            ReadOnly: at the first write without a tenure, or at commit when the tenure has ended.
            TransactionConflict: at commit: what was read has changed (nothing was written).
            FencedWrite, StorageUnavailable: at commit, as ``put``.
        """
        ciphers, permit = self._require_open(), self._permit
        fence = None if permit is None else permit.fence
        async with self.backend.transaction(fence=fence) as storage:
            transaction = BarrierTransaction(
                storage, ciphers, prefix=prefix, writable=permit is not None
            )
            yield transaction
            if is_write := transaction.has_written:
                ciphers.require_open()
                if self._permit is not permit:
                    raise ReadOnly
        if is_write:
            count_landed()

    async def run_transaction(
        self,
        body: Callable[[BarrierTransaction], Awaitable[T]],
        attempts: int = ATTEMPTS_DEFAULT,
        prefix: str = "",
    ) -> T:
        """
        Run a body in a transaction, anew when it met a conflict.

        Args:
            body: has no effects of its own, because it may run several times.
            attempts: at least one.
            prefix: as for ``transaction``.

        Raises:
            TransactionConflict: the last attempt met one, too.
        """
        for left in range(attempts - 1, -1, -1):
            try:
                async with self.transaction(prefix) as transaction:
                    result = await body(transaction)
            except TransactionConflict:
                if not left:
                    raise
            else:
                return result
        raise AssertionError("attempts must be at least one")

    def view(self, prefix: str) -> BarrierView:
        """Return the part of the barrier below a prefix ("" or ending in "/")."""
        return BarrierView(self, prefix)

    def _require_open(self) -> EntryCiphers:
        if self._ciphers is None:
            raise Sealed
        return self._ciphers

    def _require_writable(self, key: str) -> tuple[EntryCiphers, _Permit]:
        ciphers = self._require_open()
        if self._permit is None:
            raise ReadOnly
        require_storable(key)
        return ciphers, self._permit


class BarrierView:
    """The barrier below a prefix: the same operations, with keys relative to it."""

    def __init__(self, barrier: Barrier, prefix: str) -> None:
        assert not prefix or prefix.endswith("/")
        self.barrier = barrier
        self.prefix = prefix

    def __repr__(self) -> str:
        return f"BarrierView({self.prefix!r})"

    def view(self, prefix: str) -> BarrierView:
        """Return the part below a further prefix."""
        return BarrierView(self.barrier, self.prefix + prefix)

    async def get(self, key: str) -> bytes | None:
        """Return the value or None, as ``Barrier.get``."""
        return await self.barrier.get(self.prefix + key)

    async def list(self, prefix: str) -> Keys:
        """Return the direct children, as ``Barrier.list``."""
        return await self.barrier.list(self.prefix + prefix)

    async def list_page(self, prefix: str, after: str, limit: int) -> Keys:
        """Return some direct children, as ``Barrier.list_page``."""
        return await self.barrier.list_page(self.prefix + prefix, after, limit)

    async def put(self, key: str, value: bytes) -> None:
        """Write one value, as ``Barrier.put``."""
        await self.barrier.put(self.prefix + key, value)

    async def delete(self, key: str) -> None:
        """Delete one key, as ``Barrier.delete``."""
        await self.barrier.delete(self.prefix + key)

    def transaction(self) -> AbstractAsyncContextManager[BarrierTransaction]:
        """Open a transaction relative to the prefix, as ``Barrier.transaction``."""
        return self.barrier.transaction(self.prefix)

    async def run_transaction(
        self, body: Callable[[BarrierTransaction], Awaitable[T]], attempts: int = ATTEMPTS_DEFAULT
    ) -> T:
        """Run a body in a transaction relative to the prefix, as ``Barrier.run_transaction``."""
        return await self.barrier.run_transaction(body, attempts, self.prefix)
