"""
The HA lock of the sqlite store: a row beside the data, a file lock as sign of life, a socket.

Rules of this file:

1. Looking comes first: a contender takes the file's write lock only when it may win.
2. Whatever decides about the row is decided inside the write transaction, evidence included.
3. A row of another boot is free only when its holder's sign of life is gone: where that is still
   there, kernel and clock are the same, and somebody's view of the boot is not.

Theory of operation. The rules are those of ``lock_rules``; this handle brings them the row, the
boot-time clock and the kernel's evidence (``presence``). Lock jobs go ahead of queued
data writes. A job that changed the holder announces it once the change is durable. When the store
does not answer, the process that is in the way is looked up (``obstacle``).

Source: ours; docs/decisions/004-ha-lock-in-the-sqlite-file.md.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import trio

from baoha.diagnostics.codes.health import FOREIGN_BOOT_ID
from baoha.errors import LockLost, StorageUnavailable
from baoha.storage import lock_rules
from baoha.storage.base import Fence, HALock, LockRecord
from baoha.storage.lock_rules import LockRow
from baoha.storage.sqlite import file as sqlite_file
from baoha.storage.sqlite.obstacle import Obstacle
from baoha.storage.sqlite.presence import Presence
from baoha.storage.sqlite.reader import Reader
from baoha.storage.sqlite.writer import Writer
from baoha.timing import BootClock

T = TypeVar("T")

# Another examiner may hold the flock for some microseconds, which looks like life.
_EVIDENCE_TRIES = 3
_EVIDENCE_RETRY_S = 0.002


class ForeignBoot(StorageUnavailable):
    """The lock's holder lives, and says that this machine was booted another time than we see."""

    def __init__(self, holder: str) -> None:
        super().__init__(
            FOREIGN_BOOT_ID.sentence(
                f"the HA lock is held by node {holder}, which is alive on this machine and sees "
                "another boot id (/proc/sys/kernel/random/boot_id) than this node: run all nodes "
                "without a boot id of their own"
            )
        )


class SqliteLock(HALock):
    """
    A contender's handle on a lock. Made by ``SqliteBackend.open_lock``.

    Owns: its presence, until ``aclose``.
    """

    def __init__(
        self,
        key: str,
        identity: str,
        *,
        obstacle: Obstacle,
        reader: Reader,
        writer: Writer,
        presence: Presence,
        boot_clock: BootClock,
        boot_id: str,
    ) -> None:
        self.key = key
        self.identity = identity
        self._obstacle = obstacle
        self._reader = reader
        self._writer = writer
        self._presence = presence
        self._boot_clock = boot_clock
        self._boot_id = boot_id
        self._last_row: LockRow | None = None
        self._foreign_boot = ""
        self._epoch_seen = 0  # of any holder: no tenure gets a lower one, whatever the row says

    @property
    def is_closed(self) -> bool:
        """Whether it was closed: its file is no sign of life any more."""
        return self._presence.is_closed

    def __repr__(self) -> str:
        return f"<SqliteLock {self.key} of {self.identity}>"

    async def acquire(
        self, value: str, *, ttl_s: float, evict: LockRecord | None = None
    ) -> Fence | None:
        row = await self._row()
        if not lock_rules.may_acquire(row, self.identity, self._boot_clock()) and not (
            lock_rules.is_evicted(row, evict)
        ):
            return None
        # Others look for it from now on.
        self._presence.show()
        # Who gave the lock away or passed it to us was running then; looking takes milliseconds.
        ran_out = row.identity not in ("", self.identity)
        if ran_out:
            self._obstacle.wake_stopped()

        def run(connection: sqlite3.Connection) -> Fence | None:
            row = self._read_row(connection)
            now_s = self._boot_clock()
            if not lock_rules.may_acquire(row, self.identity, now_s) and not (
                lock_rules.is_evicted(row, evict) and self._is_gone_now(row.identity)
            ):
                return None
            row = lock_rules.acquired(
                row, self.identity, value, now_s + ttl_s, epoch_seen=self._epoch_seen
            )
            sqlite_file.write_lock(connection, self.key, row, self._boot_id)
            return Fence(self.key, self.identity, row.epoch)

        # The writer shields it: a fence that was given out is always returned, never stranded.
        fence = await self._submit(run, after=self._announce)
        if fence is not None:
            self._epoch_seen = max(self._epoch_seen, fence.epoch)
        return fence

    async def renew(self, fence: Fence, *, ttl_s: float) -> None:
        # A sign of life that somebody removed is put back before it is missed for long.
        self._presence.show()

        def run(connection: sqlite3.Connection) -> None:
            row = sqlite_file.read_lock(connection, self.key, self._boot_id)
            now_s = self._boot_clock()
            if not lock_rules.fence_holds(row, fence, now_s):
                raise LockLost("the HA lock is held by somebody else or has expired")
            row = lock_rules.renewed(row, now_s + ttl_s)
            sqlite_file.write_lock(connection, self.key, row, self._boot_id)

        await self._submit(run)

    async def release(
        self, fence: Fence, *, successor: str | None = None, ttl_s: float = 0.0
    ) -> None:
        def run(connection: sqlite3.Connection) -> bool:
            row = sqlite_file.read_lock(connection, self.key, self._boot_id)
            now_s = self._boot_clock()
            if not lock_rules.fence_holds(row, fence, now_s):
                return False
            row = lock_rules.released(row, successor, now_s + ttl_s)
            sqlite_file.write_lock(connection, self.key, row, self._boot_id)
            return True

        await self._submit(run, after=self._announce)

    async def read(self) -> LockRecord | None:
        row = await self._row()
        # A standby waits for announcements after this, and gets the lock without having asked.
        self._presence.show()
        self._presence.listen()
        return lock_rules.record(row, self._boot_clock())

    async def wait_change(self) -> None:
        await self._presence.wait_change()

    async def holder_is_gone(self, record: LockRecord) -> bool:
        for _ in range(_EVIDENCE_TRIES):
            if self._presence.folder.is_gone(record.identity):
                return True
            await trio.sleep(_EVIDENCE_RETRY_S)
        return False

    def problems(self) -> Sequence[str]:
        found = (self._foreign_boot, self._obstacle.sentence, self._writer.problem)
        return [text for text in found if text]

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Do what ``aclose`` does, without a checkpoint."""
        self._presence.close()

    async def _submit(
        self, run: Callable[[sqlite3.Connection], T], *, after: Callable[[T], None] | None = None
    ) -> T:
        try:
            result = await self._writer.submit(run, urgent=True, after=after)
        except StorageUnavailable:
            self._obstacle.examine(self._last_row)
            raise
        self._obstacle.clear()
        return result

    async def _row(self) -> LockRow:
        try:
            row = await self._reader.run(self._read_row)
        except ForeignBoot as exc:
            self._foreign_boot = str(exc)
            raise
        except StorageUnavailable:
            # A process that does not run may also keep the locks of a recovery, which readers need.
            self._obstacle.examine(self._last_row)
            raise
        self._foreign_boot = ""
        self._obstacle.row_changed(row)
        self._last_row = row
        self._epoch_seen = max(self._epoch_seen, row.epoch)
        return row

    def _read_row(self, connection: sqlite3.Connection) -> LockRow:
        holder = sqlite_file.foreign_holder(connection, self.key, self._boot_id)
        if holder and not self._presence.folder.is_gone(holder):
            raise ForeignBoot(holder)
        return sqlite_file.read_lock(connection, self.key, self._boot_id)

    def _announce(self, changed: Fence | bool | None) -> None:
        # Announcing an attempt that changed nothing would wake the others for their own attempts.
        if changed:
            self._presence.folder.announce()

    def _is_gone_now(self, identity: str) -> bool:
        """Gather the evidence anew, in the writer thread, inside the transaction."""
        for _ in range(_EVIDENCE_TRIES):
            if self._presence.folder.is_gone(identity):
                return True
            time.sleep(_EVIDENCE_RETRY_S)
        return False
