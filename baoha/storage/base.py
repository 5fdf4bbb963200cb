"""
The contract of a store: ``Backend`` for data, ``HABackend`` for the HA lock.

Rules of this file:

1. There is one way to write, ``apply``: a batch of puts and deletes that is applied as a whole or
   not at all, after its fence and its expectations were proven *inside the same store transaction*.
   ``put``, ``delete`` and ``transaction`` are built on it here, once, for every store.
2. A capability is declared, never guessed from a class name. So is a limit; it is checked here,
   before anything is sent, and not by the stores.
3. "Someone else holds it" is a value, "cannot tell" is an exception.
4. An adapter raises only errors of ``baoha.errors``; it maps its driver's own at its edge.

Theory of operation. A transaction reads from the store and remembers what it saw; its writes are
buffered; commit sends both as one batch, and the store refuses it (``TransactionConflict``) when
something that was read has changed. No store-side transaction is open while the caller thinks, so
group commit, a cancelled caller and a slow engine cost nobody a lock.

The HA lock is a record in the store: holder, epoch, expiry by the store's clock. Nothing here has
a hidden task: renewal belongs to whoever holds the tenure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from baoha.errors import StorageError, TooLargeForStore

# The method "list" of a store hides the built-in inside its class body.
Keys = list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """
    What a store can do beyond get, put, delete and list. Everything is off unless declared.

    Each is read above the stores, or it is none: a test finds the reader.
    """

    ha: bool = False  # it is an HABackend too
    fencing: bool = False  # a fence is proven inside the write's own transaction
    watch: bool = False  # changes of the HA lock are announced, without polling
    hand_over: bool = False  # release can name the successor in the same step
    session_lock: bool = False  # it can prove that the holder's process is gone
    redirect_address: bool = False  # it can tell this node's address as others see it


@dataclass(frozen=True, slots=True)
class Fence:
    """The proof that a write carries: the HA lock is still held by this identity in this epoch."""

    lock_key: str
    identity: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """
    Writes that land together, or not at all.

    Attributes:
        writes: key to new value; ``None`` deletes the key.
        expected: key to the value it must still have (``None``: must be absent).
        expected_lists: prefix to the direct children it must still have, sorted.
        fence: the proof; ``None`` for the few writes that precede any tenure (initialisation).
    """

    writes: Mapping[str, bytes | None]
    expected: Mapping[str, bytes | None] = field(default_factory=dict)
    expected_lists: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fence: Fence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """
    How much a store takes; None: more than a request can bring.

    Attributes:
        value_bytes: one value, as it is stored (encrypted).
        key_bytes: one key, in UTF-8.
        batch_ops: puts and deletes of one batch.
        batch_bytes: keys and values of one batch together.
    """

    value_bytes: int | None = None
    key_bytes: int | None = None
    batch_ops: int | None = None
    batch_bytes: int | None = None

    def check(self, batch: Batch) -> None:
        """
        Refuse a batch that the store would not take, before anything of it is sent.

        Raises:
            TooLargeForStore: it is above a limit (not applied).
        """
        if self == NO_LIMITS:
            return  # nearly always, and on the way of every write
        keys = [len(key.encode()) for key in batch.writes]
        values = [len(value) for value in batch.writes.values() if value is not None]
        for what, limit, found in (
            ("bytes of a value", self.value_bytes, max(values, default=0)),
            ("bytes of a key", self.key_bytes, max(keys, default=0)),
            ("changes at a time", self.batch_ops, len(keys)),
            ("bytes of changes at a time", self.batch_bytes, sum(keys) + sum(values)),
        ):
            if limit is not None and found > limit:
                raise TooLargeForStore(f"the store takes {limit} {what} at most, got {found}")


NO_LIMITS: Final = StoreLimits()


class Backend(ABC):
    """
    A durable, ordered map from path to bytes. Safe for concurrent use by many tasks.

    Keys are "/"-separated, not empty, without a leading "/". A prefix is "" or ends in "/".
    """

    name: str
    capabilities: Capabilities
    # Those of the store's row (``StoreType``). Checked here, once for every store.
    limits: StoreLimits = NO_LIMITS
    # How long a call may take at most, cancelled or not; None: it is not known.
    op_timeout_s: float | None = None

    @abstractmethod
    async def get(self, key: str) -> bytes | None:
        """
        Return the value, or None when the key is absent.

        Raises:
            StorageUnavailable: no answer within the store's own time limit.
        """

    @abstractmethod
    async def list(self, prefix: str) -> Keys:
        """Return the direct children of a prefix, sorted; sub-folders once, with a trailing "/"."""

    @abstractmethod
    async def list_page(self, prefix: str, after: str, limit: int) -> Keys:
        """Return at most ``limit`` children, sorted, strictly after ``after``; negative: all."""

    @abstractmethod
    async def apply(self, batch: Batch) -> None:
        """
        Apply a batch durably, as a whole or not at all.

        Raises:
            FencedWrite: the fence does not hold (not applied).
            TransactionConflict: an expectation does not hold (not applied).
            StorageUnavailable: ``outcome`` says whether the batch may have landed.

        Cancellation: once the batch was handed to the store it is not cancelled any more; the call
        ends with the store's answer or with the store's own time limit.
        """

    async def put(self, key: str, value: bytes, *, fence: Fence | None = None) -> None:
        """
        Write one value.

        Raises:
            TooLargeForStore: it is above a limit of the store (not applied).
            FencedWrite, StorageUnavailable: as ``apply``.
        """
        batch = Batch(writes={key: value}, fence=fence)
        self.limits.check(batch)
        await self.apply(batch)

    async def delete(self, key: str, *, fence: Fence | None = None) -> None:
        """Delete one key; deleting an absent key succeeds."""
        await self.apply(Batch(writes={key: None}, fence=fence))

    @asynccontextmanager
    async def transaction(self, *, fence: Fence | None = None) -> AsyncIterator[Transaction]:
        """
        Open a transaction; it commits when the block ends normally, and writes nothing otherwise.

        Raises:
            TransactionConflict: at commit, when something read in it has changed meanwhile.
        """
        transaction = Transaction(self, fence)
        try:
            yield transaction
            if not transaction.ended:
                await transaction.commit()
        finally:
            transaction.ended = True

    async def detect_redirect_address(self) -> str | None:
        """Return this node's host as others see it, where ``redirect_address`` is declared."""
        return None

    async def aclose(self) -> None:  # noqa: B027 - a store may have nothing to let go of
        """Let go of files, threads and connections."""


class Transaction:
    """
    Reads that are remembered, writes that are buffered, one commit: see ``Backend.transaction``.

    Not for use by more than one task.
    """

    def __init__(self, backend: Backend, fence: Fence | None) -> None:
        self._backend = backend
        self._fence = fence
        self._reads: dict[str, bytes | None] = {}
        self._lists: dict[str, Keys] = {}
        self._writes: dict[str, bytes | None] = {}
        self.ended = False

    async def get(self, key: str) -> bytes | None:
        """Return the value as this transaction sees it: its own writes first."""
        if self.ended:
            raise _ended()
        if key in self._writes:
            return self._writes[key]
        if key not in self._reads:
            self._reads[key] = await self._backend.get(key)
        return self._reads[key]

    async def list(self, prefix: str) -> Keys:
        """Return the direct children as this transaction sees them, its own writes included."""
        if self.ended:
            raise _ended()
        if prefix not in self._lists:
            self._lists[prefix] = await self._backend.list(prefix)
        children = set(self._lists[prefix])
        for key, value in self._writes.items():
            if key.startswith(prefix):
                head, slash, _ = key.removeprefix(prefix).partition("/")
                if value is not None:
                    children.add(head + slash)
                elif not slash:
                    # A folder may hold other keys, so only a plain child is known to be gone.
                    children.discard(head)
        return sorted(children)

    def put(self, key: str, value: bytes) -> None:
        """Buffer a write."""
        if self.ended:
            raise _ended()
        self._writes[key] = value

    def delete(self, key: str) -> None:
        """Buffer a deletion."""
        if self.ended:
            raise _ended()
        self._writes[key] = None

    async def commit(self) -> None:
        """
        Apply the writes. Without writes this does nothing.

        Raises:
            TooLargeForStore: the writes are above a limit of the store (not applied).
            TransactionConflict, FencedWrite, StorageUnavailable: as ``Backend.apply``.
        """
        if self.ended:
            raise _ended()
        self.ended = True
        if self._writes:
            batch = Batch(
                writes=self._writes,
                expected=self._reads,
                expected_lists=self._lists,
                fence=self._fence,
            )
            self._backend.limits.check(batch)
            await self._backend.apply(batch)


def _ended() -> StorageError:
    return StorageError("transaction has been committed or rolled back")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRecord:
    """
    What the store says of a lock at one moment. Only a lock that is held has a record.

    Attributes:
        identity: who holds it: one UUID per server process.
        value: what the holder wrote: the leader UUID of its tenure ("" right after a hand-over).
        epoch: grows with every change of holder and every acquisition, never shrinks.
        expires_in_s: seconds until the store lets go, by the store's clock, when it was read.
    """

    identity: str
    value: str
    epoch: int
    expires_in_s: float


class HALock(ABC):
    """
    One contender's handle on one lock. Creating it does not acquire it.

    Attributes:
        key: the lock's name.
        identity: the contender: one UUID per server process, the same for all its tenures.
    """

    key: str
    identity: str

    @abstractmethod
    async def acquire(
        self, value: str, *, ttl_s: float, evict: LockRecord | None = None
    ) -> Fence | None:
        """
        Try once, at once. The first attempt is immediate; there is no hidden retry.

        Succeeds when the lock is free, expired, recorded for this identity (our own after a store
        hiccup, or passed to us by a hand-over), or held by the holder named in ``evict`` whose
        process the store can prove to be gone (session_lock) at the moment of the write.

        Args:
            value: the leader UUID of the tenure to be.
            ttl_s: seconds until it expires unless renewed, by the store's clock.
            evict: a record as read before; it is evicted only if identity and epoch still match.

        Returns:
            The fence of the new tenure (its epoch is above the last); None: somebody holds it.

        Raises:
            StorageUnavailable: cannot tell; the lock may have been acquired.

        Cancellation: a lock that was acquired while the caller was cancelled is given back
        (shielded, bounded), so it is never stranded.
        """

    @abstractmethod
    async def renew(self, fence: Fence, *, ttl_s: float) -> None:
        """
        Extend the expiry to now + ttl_s, if the fence still holds.

        Raises:
            LockLost: somebody else holds it, or it has expired.
            StorageUnavailable: cannot tell.
        """

    @abstractmethod
    async def release(
        self, fence: Fence, *, successor: str | None = None, ttl_s: float = 0.0
    ) -> None:
        """
        Give the lock back, or pass it to ``successor`` (an identity) for ``ttl_s`` in one step.

        A fence that does not hold any more changes nothing and raises nothing: the successor of a
        lost lock is not hurt. Waiting contenders are woken.
        """

    @abstractmethod
    async def read(self) -> LockRecord | None:
        """Return the record of whoever holds the lock, or None when it is free or expired."""

    @abstractmethod
    async def wait_change(self) -> None:
        """
        Wait until the lock may have changed hands (acquired, released, passed on).

        May return early or spuriously; the caller reads again. With the ``watch`` capability a
        change is announced at once. Without it this never returns, and the caller polls.
        A change between two calls is not lost: the handle remembers it.
        """

    async def holder_is_gone(self, record: LockRecord) -> bool:
        """
        Return whether the store can prove that the holder's process has ended (session_lock).

        False means "cannot prove it", never "it is alive".
        """
        return False

    def problems(self) -> Sequence[str]:
        """
        Return what is wrong between this contender and the lock, from memory.

        Sentences that begin with a diagnostic code (BH-921); without a secret, for everybody.
        """
        return ()

    async def aclose(self) -> None:  # noqa: B027 - a lock may have nothing to let go of
        """Let go of sockets and files; a session lock that stands for this process included."""


class HABackend(ABC):
    """A store that can hold HA locks. Often the same object as the ``Backend``."""

    name: str
    capabilities: Capabilities
    op_timeout_s: float | None = None  # as in ``Backend``

    @abstractmethod
    async def open_lock(self, key: str, identity: str) -> HALock:
        """Return a handle on the lock for this contender. Acquires nothing."""
