"""
The upgrade of a KV mount to versions: its secrets are moved to the layout of KV v2.

Rules of this file:

1. A secret leaves the former folder in the transaction that makes its first version: it is at one
   of the two places at any moment, and what is left to do is what is left in the former folder. So
   a change of the active node needs no note of how far the work has come.
2. A transaction is bounded in keys and bytes, however many secrets there are.
3. Nothing is moved once the mount is gone: every transaction reads its entry.

Theory of operation. The tuning that asks for versions gives the mount a new folder and names the
former one (``mounts.py``); from then on requests are refused, with OpenBao's text. The job waits
for the requests that still use the former folder, moves what is there, and takes the name of the
former folder out of the entry: the mount is in service again.

Source: the answers of OpenBao 2.7.2, measured; the procedure is ours.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

import trio

from baoha.core.engines.kv2.records import KVConfig, Secret
from baoha.core.framework.mount_entry import MountEntry
from baoha.core.keys.barrier import Barrier, BarrierTransaction
from baoha.core.mounts import MountStore
from baoha.errors import StorageCorrupt, StorageError

log = logging.getLogger("baoha.core")

_KEYS_MAX: Final = 100  # of one transaction
_BYTES_MAX: Final = 1 << 20  # of one transaction, the last secret not counted
_PAUSE_S: Final = 1.0  # after a failure of the store


class _Unmounted(Exception):
    """The mount is gone, and with it the work."""


class KVUpgrades:
    """
    The job that moves the secrets of mounts that are being upgraded.

    Args:
        types: the types of these mounts.
    """

    def __init__(self, barrier: Barrier, mounts: MountStore, types: Collection[str]) -> None:
        self._barrier = barrier
        self._mounts = mounts
        self._types = types

    async def run(self) -> None:
        """
        Carry out upgrades as they come, until cancelled; a store that fails is tried again.

        Cancellation: safe at every checkpoint; the next active node goes on.
        """
        while True:
            entry = await self._mounts.wait_moving(self._types)
            try:
                await self.upgrade(entry)
            except StorageError as exc:
                log.warning("upgrade interrupted: mount=%s cause=%r", entry.path, str(exc))
                await trio.sleep(_PAUSE_S)

    async def upgrade(self, entry: MountEntry) -> None:
        """
        Move the secrets of one mount, and put it back into service.

        Raises:
            StorageError: some are moved; what is left is moved by the next call.
        """
        await self._mounts.wait_unused(entry.former_prefix)
        try:
            moved = await self._move_all(entry)
        except _Unmounted:
            return
        await self._mounts.tune(entry, lambda stored: replace(stored, upgrade_from=""))
        log.info("upgraded to versions: mount=%s secrets=%d", entry.path, moved)

    async def _move_all(self, entry: MountEntry) -> int:
        former = self._barrier.view(entry.former_prefix)
        moved = 0
        folders = [""]
        while folders:
            folder = folders.pop()
            after = ""
            while children := await former.list_page(folder, after, _KEYS_MAX):
                after = children[-1]
                folders += [folder + child for child in children if child.endswith("/")]
                keys = [folder + child for child in children if not child.endswith("/")]
                await self._move(entry, keys)
                moved += len(keys)
        return moved

    async def _move(self, entry: MountEntry, keys: Sequence[str]) -> None:
        done = 0
        while done < len(keys):
            left = keys[done:]

            async def body(transaction: BarrierTransaction, left: Sequence[str] = left) -> int:
                return await self._move_some(transaction, entry, left)

            done += await self._barrier.run_transaction(body)

    async def _move_some(
        self, transaction: BarrierTransaction, entry: MountEntry, keys: Sequence[str]
    ) -> int:
        """Move the first keys, as many as one transaction may have, and return how many."""
        if await transaction.get(entry.storage_key) is None:
            raise _Unmounted
        former = transaction.view(entry.former_prefix)
        data = transaction.view(entry.data_prefix)
        size = 0
        for number, key in enumerate(keys, 1):
            try:
                blob = await former.get(key)
            except StorageCorrupt:
                # It stays where it is: no version could be made of it, and the others can be used.
                log.error("a secret cannot be read and was not upgraded: mount=%s", entry.path)
                continue
            if blob is not None:
                await self._move_one(data, key, blob)
                former.delete(key)
                size += len(blob)
            if size > _BYTES_MAX:
                return number
        return len(keys)

    async def _move_one(self, data: BarrierTransaction, key: str, blob: bytes) -> None:
        now = self._barrier.now()
        record = await data.get(f"metadata/{key}")
        secret = Secret.new(now) if record is None else Secret.from_bytes(record)
        secret.add_version(KVConfig(), now)
        secret.oldest_version = min(secret.versions)
        data.put(f"versions/{key}/{secret.current_version}", blob)
        data.put(f"metadata/{key}", secret.to_bytes())
