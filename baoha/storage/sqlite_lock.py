"""
The HA lock of the sqlite store: a row beside the data, a file lock as sign of life, a socket.

Rules of this file:

1. Looking comes first: a contender takes the file's write lock only when it may win.
2. Whatever decides about the row is decided inside the write transaction, evidence included.

Theory of operation. The rules are those of ``lock_rules``; this handle brings them the row, the
boot-time clock and the kernel's evidence (``sqlite_presence``). Lock jobs go ahead of queued
data writes. A job that changed the holder announces it once the change is durable.

Source: DESIGN.md section 4; ours.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

import trio

from baoha.errors import LockLost
from baoha.storage import lock_rules, sqlite_file
from baoha.storage.base import Fence, HALock, LockRecord
from baoha.storage.lock_rules import LockRow
from baoha.storage.sqlite_presence import Ear, Folder, Session
from baoha.storage.sqlite_stopped import wake_stopped_writer
from baoha.storage.sqlite_writer import Writer
from baoha.timing import BootClock

T = TypeVar("T")

log: Final = logging.getLogger("baoha.storage")

# Another examiner may hold the flock for some microseconds, which looks like life.
_EVIDENCE_TRIES = 3
_EVIDENCE_RETRY_S = 0.002


class Reader(Protocol):
    """Runs a query on a reading connection."""

    def __call__(self, query: Callable[[sqlite3.Connection], T], /) -> Awaitable[T]:
        """Return what the query returned."""


class SqliteLock(HALock):
    """
    A contender's handle on a lock. Made by ``SqliteBackend.open_lock``.

    Owns: its session and its socket, until ``aclose``.
    """

    def __init__(
        self,
        key: str,
        identity: str,
        *,
        path: Path,
        read: Reader,
        writer: Writer,
        folder: Folder,
        session: Session,
        ear: Ear | None,
        boot_clock: BootClock,
        boot_id: str,
    ) -> None:
        self.key = key
        self.identity = identity
        self._path = path
        self._read = read
        self._writer = writer
        self._folder = folder
        self._session = session
        self._ear = ear
        self._boot_clock = boot_clock
        self._boot_id = boot_id
        self._was_busy = False  # the last attempt got no answer: somebody may be stopped in a write
        self.closed = False

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
        # Who gave the lock away or passed it to us was running then; looking takes milliseconds.
        ran_out = row.identity not in ("", self.identity)
        if (ran_out or self._was_busy) and (woken := wake_stopped_writer(self._path)):
            log.warning("woke a stopped process that held the write lock: pid=%d", woken)

        def run(connection: sqlite3.Connection) -> Fence | None:
            row = sqlite_file.read_lock(connection, self.key, self._boot_id)
            now_s = self._boot_clock()
            if not lock_rules.may_acquire(row, self.identity, now_s) and not (
                lock_rules.is_evicted(row, evict) and self._is_gone_now(row.identity)
            ):
                return None
            row = lock_rules.acquired(row, self.identity, value, now_s + ttl_s)
            sqlite_file.write_lock(connection, self.key, row, self._boot_id)
            return Fence(self.key, self.identity, row.epoch)

        self._was_busy = True
        # The writer shields it: a fence that was given out is always returned, never stranded.
        fence = await self._writer.submit(run, urgent=True, after=self._announce)
        self._was_busy = False
        return fence

    async def renew(self, fence: Fence, *, ttl_s: float) -> None:
        # A sign of life that somebody removed is put back before it is missed for long.
        self._session.ensure()

        def run(connection: sqlite3.Connection) -> None:
            row = sqlite_file.read_lock(connection, self.key, self._boot_id)
            now_s = self._boot_clock()
            if not lock_rules.fence_holds(row, fence, now_s):
                raise LockLost("the HA lock is held by somebody else or has expired")
            row = lock_rules.renewed(row, now_s + ttl_s)
            sqlite_file.write_lock(connection, self.key, row, self._boot_id)

        await self._writer.submit(run, urgent=True)

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

        await self._writer.submit(run, urgent=True, after=self._announce)

    async def read(self) -> LockRecord | None:
        return lock_rules.record(await self._row(), self._boot_clock())

    async def wait_change(self) -> None:
        if self._ear is None:
            await trio.sleep_forever()
        else:
            await self._ear.wait()

    async def holder_is_gone(self, record: LockRecord) -> bool:
        for _ in range(_EVIDENCE_TRIES):
            if self._folder.is_gone(record.identity):
                return True
            await trio.sleep(_EVIDENCE_RETRY_S)
        return False

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Do what ``aclose`` does, without a checkpoint."""
        self.closed = True
        self._session.close()
        if self._ear is not None:
            self._ear.close()

    async def _row(self) -> LockRow:
        return await self._read(
            lambda connection: sqlite_file.read_lock(connection, self.key, self._boot_id)
        )

    def _announce(self, changed: Fence | bool | None) -> None:
        # Announcing an attempt that changed nothing would wake the others for their own attempts.
        if changed:
            self._folder.announce()

    def _is_gone_now(self, identity: str) -> bool:
        """Gather the evidence anew, in the writer thread, inside the transaction."""
        for _ in range(_EVIDENCE_TRIES):
            if self._folder.is_gone(identity):
                return True
            time.sleep(_EVIDENCE_RETRY_S)
        return False
