"""
Tokens: who may speak, for how long, how often.

Rules of this file:

1. A token is stored under a keyed hash of itself and nowhere else: no key, no value and no index
   holds the token, so that nobody who reads the store can use it.
2. A token is valid while it and every ancestor is stored, unexpired and not used up. So one
   deletion ends a whole tree at once; what is left of it is removed afterwards.
3. Whatever changes a token reads it in the transaction that writes it. A use of a limited token is
   counted there, before the request is carried out.
4. A cached entry is never older than the last write of this node (see ``policies.py``). Only the
   active node serves, so only its own writes matter; ``forget`` drops everything.

Time is the wall clock of the active node, injected as ``now``: a deadline is stored as an absolute
time, so that it survives a change of the active node. What is irreversible does not hang on a wall
clock that has just jumped: a whole sweep counts by one moment, from a clock that was steady.

Source: OpenBao's token store as documented and measured; the layout is in ``token_entry.py``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from baoha.core.access.token_entry import (
    SERVICE_PREFIX,
    TOKEN_LENGTH,
    TOKENS_PREFIX,
    USES_SPENT,
    TokenEntry,
    delete_entry,
    hash_accessor,
    hash_token,
    put_entry,
    random_text,
    stamp,
)
from baoha.core.keys.barrier import Barrier, BarrierTransaction
from baoha.errors import InvalidRequest, RequestError, StorageCorrupt
from baoha.sansio.clock_watch import ClockWatch
from baoha.sansio.durations import format_timestamp
from baoha.timing import BootClock, boot_time_s

log = logging.getLogger("baoha.core")

# Validity walks to the root, so the depth of a tree is bounded.
DEPTH_MAX: Final = 256
_ENTRIES_MAX: Final = 16384  # cached entries
# Of all of them as stored; one has a few hundred bytes, and half a million with much metadata.
_CACHED_BYTES_MAX: Final = 16 * 1024 * 1024
# A token longer than this was never given out.
TOKEN_LENGTH_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class _Cached:
    entry: TokenEntry
    expires_at: datetime | None = field(repr=False)
    size_bytes: int = 0


class TokenStore:
    """
    All tokens of the cluster. Safe for concurrent use by many tasks.

    Args:
        entries_max: how many entries are cached; 0 on a node where others write.
        cached_bytes_max: how large they may be together.
    """

    def __init__(
        self,
        barrier: Barrier,
        *,
        random_bytes: Callable[[int], bytes],
        now: Callable[[], datetime],
        boot_clock: BootClock = boot_time_s,
        entries_max: int = _ENTRIES_MAX,
        cached_bytes_max: int = _CACHED_BYTES_MAX,
    ) -> None:
        self._storage = barrier.view(TOKENS_PREFIX)
        self._entries_max = entries_max
        self._cached_bytes_max = cached_bytes_max
        self._cached_bytes = 0
        self._random_bytes = random_bytes
        self._now = now
        self._boot_clock = boot_clock
        self._clock = ClockWatch(now().timestamp(), boot_clock())
        self._salt = b""
        self._cache: dict[str, _Cached] = {}
        self._generation = 0

    def forget(self) -> None:
        """Drop the salt and all cached entries: another node may have written since."""
        self._salt = b""
        self._drop_all()

    def _drop_all(self) -> None:
        self._generation += 1
        self._cache.clear()
        self._cached_bytes = 0

    def _drop(self, token_id: str) -> None:
        # Also where the outcome of a write is unknown: the next reader asks the store.
        self._generation += 1
        self._remove_cached(token_id)

    def _remove_cached(self, token_id: str) -> None:
        if (cached := self._cache.pop(token_id, None)) is not None:
            self._cached_bytes -= cached.size_bytes

    def _keep(self, token_id: str, cached: _Cached) -> None:
        self._remove_cached(token_id)
        while self._cache and (
            len(self._cache) >= self._entries_max
            or self._cached_bytes + cached.size_bytes > self._cached_bytes_max
        ):
            self._remove_cached(next(iter(self._cache)))
        self._cache[token_id] = cached
        self._cached_bytes += cached.size_bytes

    # --- names ------------------------------------------------------------------------------

    async def _read_salt(self) -> bytes:
        if not self._salt:
            salt = await self._storage.get("salt")
            if salt is None:
                raise StorageCorrupt("cannot read tokens: the salt is missing")
            self._salt = salt
        return self._salt

    async def token_id(self, token: str) -> str:
        """Return the storage name of a token."""
        return hash_token(await self._read_salt(), token)

    # --- finding ----------------------------------------------------------------------------

    async def find(self, token: str) -> TokenEntry | None:
        """Return the entry of a valid token; None: unknown, ended, used up, or an orphaned rest."""
        if not token or len(token) > TOKEN_LENGTH_MAX:
            return None
        return await self.find_id(hash_token(self._salt or await self._read_salt(), token))

    async def find_id(
        self, token_id: str, *, keep: bool = True, at: datetime | None = None
    ) -> TokenEntry | None:
        """
        Return the entry with this id if it and all its ancestors are valid.

        Args:
            keep: whether it may take a place in the cache: it is asked for because it is used.
            at: when they have to be valid; None: now.
        """
        found = await self._entry(token_id, keep=keep)
        now = self._now() if at is None else at
        link, steps = found, 0
        while link is not None:
            if link.entry.num_uses == USES_SPENT:
                return None
            if link.expires_at is not None and link.expires_at <= now:
                return None
            if not link.entry.parent:
                return None if found is None else found.entry
            steps += 1
            if steps > DEPTH_MAX:
                raise StorageCorrupt("cannot check a token: its ancestors form a loop")
            link = await self._entry(link.entry.parent)
        return None

    async def stored(self, token_id: str) -> TokenEntry | None:
        """Return an entry as stored, valid or not: for a request that spends the last use."""
        cached = await self._entry(token_id)
        return None if cached is None else cached.entry

    async def find_accessor(self, accessor: str) -> TokenEntry | None:
        """Return the entry of a valid token by its accessor."""
        if not accessor or len(accessor) > TOKEN_LENGTH_MAX:
            return None
        name = hash_accessor(await self._read_salt(), accessor)
        blob = await self._storage.get("accessor/" + name)
        return None if blob is None else await self.find_id(json.loads(blob)["token_id"])

    async def accessors(self) -> list[str]:
        """Return the accessors of all stored tokens, in the order of their storage names."""
        found: list[str] = []
        for name in await self._storage.list("accessor/"):
            blob = await self._storage.get("accessor/" + name)
            if blob is not None:
                found.append(json.loads(blob)["accessor"])
        return found

    async def _entry(self, token_id: str, *, keep: bool = True) -> _Cached | None:
        cached = self._cache.get(token_id)
        if cached is not None:
            return cached
        generation = self._generation
        blob = await self._storage.get("id/" + token_id)
        if blob is None:
            return None
        entry = TokenEntry.from_bytes(blob)
        cached = _Cached(entry, entry.expires_at, len(blob))
        if keep and self._entries_max and generation == self._generation:
            self._keep(token_id, cached)
        return cached

    # --- making -----------------------------------------------------------------------------

    async def create(
        self, template: TokenEntry, *, token: str = "", ttl_s: int
    ) -> tuple[str, TokenEntry]:
        """
        Store a new token.

        Args:
            template: what it is to be; id, accessor and times are filled in here.
            token: the text that the client asked for; "": a random one.
            ttl_s: seconds until it ends; 0: never.

        Returns:
            The token (shown once, kept nowhere) and its entry.

        Raises:
            InvalidRequest: the token exists, or the tree is too deep (nothing was written).
            RequestError: the parent has ended meanwhile (403, nothing was written).
        """
        salt = await self._read_salt()
        chosen = token or SERVICE_PREFIX + random_text(self._random_bytes, TOKEN_LENGTH)
        entry = stamp(
            template,
            token_id=hash_token(salt, chosen),
            random_bytes=self._random_bytes,
            now=self._now(),
            ttl_s=ttl_s,
        )

        async def body(transaction: BarrierTransaction) -> TokenEntry:
            if await transaction.get("id/" + entry.id) is not None:
                raise InvalidRequest("cannot create a token with a duplicate ID")
            depth = 0
            if entry.parent:
                blob = await transaction.get("id/" + entry.parent)
                if blob is None:
                    raise RequestError("parent token lookup failed: no parent found", status=403)
                depth = TokenEntry.from_bytes(blob).depth + 1
            if depth > DEPTH_MAX:
                raise InvalidRequest(f"tokens cannot be nested deeper than {DEPTH_MAX}")
            stored = replace(entry, depth=depth)
            put_entry(transaction, stored, salt)
            return stored

        return chosen, await self._storage.run_transaction(body)

    # --- changing ---------------------------------------------------------------------------

    async def spend_use(self, entry: TokenEntry) -> TokenEntry | None:
        """
        Count one use of a limited token, in one transaction.

        Returns:
            The entry after it; ``num_uses`` is ``USES_SPENT`` when this was the last one. None: it
            has ended or was used up meanwhile.
        """

        def spend(stored: TokenEntry) -> TokenEntry | None:
            if stored.num_uses == USES_SPENT:
                return None
            left = stored.num_uses - 1
            return replace(stored, num_uses=left if left > 0 else USES_SPENT)

        return await self._change(entry.id, spend)

    async def renew(self, entry: TokenEntry, ttl_s: int) -> TokenEntry | None:
        """Let a token end ``ttl_s`` from now. None: it has ended meanwhile."""
        now = self._now()

        def extend(stored: TokenEntry) -> TokenEntry:
            return replace(
                stored,
                expire_time=format_timestamp(now + timedelta(seconds=ttl_s)),
                last_renewal=format_timestamp(now),
                ttl_s=ttl_s,
            )

        return await self._change(entry.id, extend)

    async def _change(
        self, token_id: str, change: Callable[[TokenEntry], TokenEntry | None]
    ) -> TokenEntry | None:
        async def body(transaction: BarrierTransaction) -> TokenEntry | None:
            blob = await transaction.get("id/" + token_id)
            changed = None if blob is None else change(TokenEntry.from_bytes(blob))
            if changed is not None:
                transaction.put("id/" + token_id, changed.to_bytes())
            return changed

        try:
            # Many concurrent uses of one token each see a conflict per winner.
            return await self._storage.run_transaction(body, attempts=64)
        finally:
            self._drop(token_id)

    # --- ending -----------------------------------------------------------------------------

    async def revoke(self, token_id: str) -> None:
        """
        End a token and everything below it; one that does not exist is no error.

        The first transaction ends the whole tree (rule 2). What follows removes the rests; if it is
        cut short, ``sweep`` does it.
        """
        salt = await self._read_salt()
        pending = [("", token_id)]
        while pending:
            parent, current = pending.pop()
            await self._remove(parent, current, salt)
            children = await self._storage.list(f"parent/{current}/")
            pending.extend((current, child) for child in children)

    async def _remove(self, parent: str, token_id: str, salt: bytes) -> None:
        async def body(transaction: BarrierTransaction) -> None:
            blob = await transaction.get("id/" + token_id)
            if blob is not None:
                delete_entry(transaction, TokenEntry.from_bytes(blob), salt)
            elif parent:
                transaction.delete(f"parent/{parent}/{token_id}")

        try:
            await self._storage.run_transaction(body)
        finally:
            self._drop(token_id)

    async def revoke_orphan(self, token_id: str) -> bool:
        """End one token and make its children orphans, in one transaction. False: not found."""
        salt = await self._read_salt()

        async def body(transaction: BarrierTransaction) -> bool:
            blob = await transaction.get("id/" + token_id)
            if blob is None:
                return False
            for child in await transaction.list(f"parent/{token_id}/"):
                child_blob = await transaction.get("id/" + child)
                if child_blob is not None:
                    orphan = replace(TokenEntry.from_bytes(child_blob), parent="", depth=0)
                    transaction.put("id/" + child, orphan.to_bytes())
                transaction.delete(f"parent/{token_id}/{child}")
            delete_entry(transaction, TokenEntry.from_bytes(blob), salt)
            return True

        try:
            return await self._storage.run_transaction(body)
        finally:
            self._drop_all()

    async def revoke_logins(self, mount: str) -> None:
        """End all tokens that come from a login at the mount with this uuid."""
        for token_id in await self._storage.list("id/"):
            try:
                found = await self._entry(token_id, keep=False)
            except StorageCorrupt:
                continue  # ``sweep`` says so
            login = None if found is None else found.entry.login
            if login is not None and login.mount == mount:
                await self.revoke(token_id)

    async def sweep(self, *, mounts: Collection[str] | None = None) -> int | None:
        """
        Remove ended tokens and rests of ended trees; return how many there were. None: the wall
        clock has jumped, and nothing is removed until it is steady.

        Args:
            mounts: the uuids of the mounts that there are: a login at any other one counts as
                ended, which mends a disabling that was cut short. None: not known.

        Cancellation: safe at every checkpoint; what is left is found by the next sweep.
        """
        now = self._now()
        # An ended token is refused all the same; deleted, it would not come back with the clock.
        if not self._clock.is_steady(now.timestamp(), self._boot_clock()):
            log.warning("the wall clock has jumped: ended tokens are kept until it is steady")
            return None
        removed = 0
        unreadable = 0
        for token_id in await self._storage.list("id/"):
            try:
                found = await self.find_id(token_id, keep=False, at=now)
                login = None if found is None else found.login
                is_homeless = login is not None and mounts is not None and login.mount not in mounts
                if found is None or is_homeless:
                    await self.revoke(token_id)
                    removed += 1
            except StorageCorrupt:
                # It stays. The others are no worse for it.
                unreadable += 1
        if unreadable:
            log.error("tokens that cannot be read were left alone: count=%d", unreadable)
        return removed
