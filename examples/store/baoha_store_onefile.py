"""
An example of a store: everything in one JSON file, which nodes of one machine can share.

It is complete and keeps the contract (see ``baoha.storage.base``), and it is slow on purpose: each
call reads the file, and each write replaces it, under a file lock. Begin with a copy of this file,
and with the suites: ``tests/conformance/test_example_store.py`` shows how they are run.

What a store has to bring: a ``Backend`` (get, list, list_page, apply), an ``HABackend`` if nodes
shall share it, and a row that says what it can do. Transactions, limits and retries are built on
that by baoha, once for all stores.
"""

from __future__ import annotations

import fcntl
import json
import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from baoha.errors import FencedWrite, LockLost, Outcome, StorageUnavailable, TransactionConflict
from baoha.storage import lock_rules
from baoha.storage.base import (
    Backend,
    Batch,
    Capabilities,
    Fence,
    HABackend,
    HALock,
    Keys,
    LockRecord,
    StoreLimits,
)
from baoha.storage.keys import check_key, check_prefix, children
from baoha.storage.settings import SettingKind, Settings, StoreSetting
from baoha.storage.store_type import LockTraits, StoreType
from baoha.timing import BootClock, boot_time_s

T = TypeVar("T")

# No watch: nobody announces a change of the lock, standbys poll. No session_lock: nothing proves
# that a process has ended, its lock expires.
CAPABILITIES = Capabilities(ha=True, fencing=True, hand_over=True)
SETTINGS = (StoreSetting(key="path", kind=SettingKind.PATH, doc="the file", env="ONEFILE_PATH"),)


@dataclass
class Content:
    """What the file holds. Values are text in it, byte for byte."""

    data: dict[str, bytes] = field(default_factory=dict)
    locks: dict[str, lock_rules.LockRow] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Content:
        """Return what is there; a file that is not there yet is empty."""
        if not path.exists():
            return cls()
        found = json.loads(path.read_bytes())
        return cls(
            {key: value.encode("latin-1") for key, value in found["data"].items()},
            {key: lock_rules.LockRow(**row) for key, row in found["locks"].items()},
        )

    def write(self, path: Path) -> None:
        """Replace the file as a whole, durably."""
        text = json.dumps(
            {
                "data": {key: value.decode("latin-1") for key, value in self.data.items()},
                "locks": {key: asdict(row) for key, row in self.locks.items()},
            }
        )
        fresh = path.with_name(path.name + ".new")
        with open(fresh, "w", opener=partial(os.open, mode=0o600)) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def row(self, key: str) -> lock_rules.LockRow:
        """Return a lock's row; one that nobody ever acquired is free."""
        return self.locks.get(key, lock_rules.FREE)

    def children(self, prefix: str, after: str = "", limit: int = -1) -> Keys:
        """Return the direct children of a prefix."""
        keys = sorted(self.data)

        def seek(bound: str, prefix: str) -> Iterator[str]:
            for key in keys[bisect_left(keys, bound) :]:
                if not key.startswith(prefix):
                    return
                yield key

        return children(seek, prefix, after=after, limit=limit)

    def apply(self, batch: Batch, now_s: float) -> None:
        """Prove fence and expectations, then write; nothing is awaited in between."""
        fence = batch.fence
        if fence and not lock_rules.fence_holds(self.row(fence.lock_key), fence, now_s):
            raise FencedWrite
        for key, expected in batch.expected.items():
            if self.data.get(key) != expected:
                raise TransactionConflict
        for prefix, names in batch.expected_lists.items():
            if self.children(prefix) != list(names):
                raise TransactionConflict
        for key, value in batch.writes.items():
            if value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = value


class OneFile:
    """The file, and the lock beside it that makes a read and its write one step."""

    def __init__(self, path: Path, boot_clock: BootClock) -> None:
        self.now_s = boot_clock
        self._path = path

    async def read(self, query: Callable[[Content], T]) -> T:
        """Run a query; a file is only ever replaced, so that a reader needs no lock."""
        return await self._run(lambda: query(Content.read(self._path)), "not_applied")

    async def change(self, change: Callable[[Content], T]) -> T:
        """Run a change and store it, unless it raises. Not cancelled once it has begun."""

        def run() -> T:
            with self._path.with_name(self._path.name + ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                content = Content.read(self._path)
                result = change(content)
                content.write(self._path)
                return result

        # It may have failed after the file was replaced: whether it landed is not known.
        return await self._run(run, "unknown")

    async def _run(self, work: Callable[[], T], outcome: Outcome) -> T:
        try:
            return await trio.to_thread.run_sync(work)
        except OSError as exc:
            text = f"cannot use onefile storage: {exc.strerror}"
            raise StorageUnavailable(text, outcome=outcome) from exc


class OneFileBackend(Backend, HABackend):
    """A file, open."""

    name = "onefile"

    def __init__(self, file: OneFile) -> None:
        self.capabilities = CAPABILITIES
        self._file = file

    async def get(self, key: str) -> bytes | None:
        check_key(key)
        return await self._file.read(lambda content: content.data.get(key))

    async def list(self, prefix: str) -> Keys:
        return await self.list_page(prefix, "", -1)

    async def list_page(self, prefix: str, after: str, limit: int) -> Keys:
        check_prefix(prefix)
        return await self._file.read(lambda content: content.children(prefix, after, limit))

    async def apply(self, batch: Batch) -> None:
        for key in batch.writes:
            check_key(key)
        await self._file.change(lambda content: content.apply(batch, self._file.now_s()))

    async def open_lock(self, key: str, identity: str) -> OneFileLock:
        await trio.lowlevel.checkpoint()
        return OneFileLock(self._file, key, identity)


class OneFileLock(HALock):
    """A contender's handle on a lock of the file."""

    def __init__(self, file: OneFile, key: str, identity: str) -> None:
        self.key = key
        self.identity = identity
        self._file = file

    async def acquire(
        self, value: str, *, ttl_s: float, evict: LockRecord | None = None
    ) -> Fence | None:
        def change(content: Content) -> Fence | None:
            row, now_s = content.row(self.key), self._file.now_s()
            if not lock_rules.may_acquire(row, self.identity, now_s):
                return None
            row = lock_rules.acquired(row, self.identity, value, now_s + ttl_s)
            content.locks[self.key] = row
            return Fence(self.key, self.identity, row.epoch)

        return await self._file.change(change)

    async def renew(self, fence: Fence, *, ttl_s: float) -> None:
        def change(content: Content) -> None:
            row, now_s = content.row(self.key), self._file.now_s()
            if not lock_rules.fence_holds(row, fence, now_s):
                raise LockLost("the HA lock is held by somebody else or has expired")
            content.locks[self.key] = lock_rules.renewed(row, now_s + ttl_s)

        await self._file.change(change)

    async def release(
        self, fence: Fence, *, successor: str | None = None, ttl_s: float = 0.0
    ) -> None:
        def change(content: Content) -> None:
            row, now_s = content.row(self.key), self._file.now_s()
            if lock_rules.fence_holds(row, fence, now_s):
                content.locks[self.key] = lock_rules.released(row, successor, now_s + ttl_s)

        await self._file.change(change)

    async def read(self) -> LockRecord | None:
        now_s = self._file.now_s()
        row = await self._file.read(lambda content: content.row(self.key))
        return lock_rules.record(row, now_s)

    async def wait_change(self) -> None:
        await trio.sleep_forever()  # without the capability "watch" the caller polls


async def open_backend(
    settings: Mapping[str, object], *, boot_clock: BootClock = boot_time_s
) -> OneFileBackend:
    """Open the file, and make it with the first write. ``boot_clock``: seconds."""
    await trio.lowlevel.checkpoint()
    return OneFileBackend(OneFile(_path(settings), boot_clock))


def _path(settings: Mapping[str, object]) -> Path:
    return Path(Settings("onefile", SETTINGS, settings).text("path")).absolute()


STORE = StoreType(
    name="onefile",
    summary="an example: everything in one JSON file",
    open=open_backend,
    capabilities=CAPABILITIES,
    settings=SETTINGS,
    # The whole file is read and written for each change: it had better stay small.
    limits=StoreLimits(value_bytes=2 * 1024 * 1024, batch_ops=500),
    lock=LockTraits(),
)
