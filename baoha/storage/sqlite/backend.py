"""
The sqlite store: embedded default, HA among the processes of one machine, standard library only.

Rules of this file:

1. Reads run in trio's thread, but for large values; writes run in the writer's thread and nowhere
   else.
2. Only ``baoha.errors`` leaves this module.

Theory of operation. A point read that finds its pages in the page cache takes some microseconds,
while a hop to a thread and back costs ten times that. So reads are direct calls on one connection.
The price: a read that must wait for the disk stops the event loop meanwhile. Where that
matters (a network disk, a database much larger than memory) another store is the better choice.
What can be long is cut: a list is read in pages with a checkpoint after each. A value above
``COPIED_INLINE_BYTES_MAX`` is read in a worker thread, piece by piece, over a connection of its
own. A reader in WAL mode
does not wait for writers; where SQLite asks for patience all the same (recovery after a crash) the
wait is a sleeping task. Writes: ``writer``. The lock: ``lock``.

The writer needs real time: under a virtual clock that jumps when idle, its answers come "too late".

Source: ours; docs/spec/libraries.md section 4.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from baoha import names, offload
from baoha.errors import ConfigError, StorageUnavailable
from baoha.storage.base import Backend, Batch, Capabilities, HABackend, Keys
from baoha.storage.keys import check_key, check_prefix
from baoha.storage.settings import SettingKind, Settings, StoreSetting
from baoha.storage.sqlite import file as sqlite_file
from baoha.storage.sqlite.companions import Companions, Removed
from baoha.storage.sqlite.host import check_clock, check_file_system
from baoha.storage.sqlite.lock import SqliteLock
from baoha.storage.sqlite.obstacle import Obstacle
from baoha.storage.sqlite.presence import SUFFIX, Presence, PresenceFolder
from baoha.storage.sqlite.reader import BUSY_RETRY_S, Reader
from baoha.storage.sqlite.reserve import Reserve
from baoha.storage.sqlite.writer import Writer
from baoha.storage.store_type import LockTraits, StoreType
from baoha.timing import BootClock, boot_time_s

T = TypeVar("T")

# Below the caller's own time, so that a caller learns that nothing was written.
_BUSY_TIMEOUT_S = 1.5
_OP_TIMEOUT_S = 2.0
# About one millisecond of listing, then others run.
_LIST_PAGE = 256

CAPABILITIES = Capabilities(ha=True, fencing=True, watch=True, hand_over=True, session_lock=True)
SETTINGS = (
    StoreSetting(key="path", kind=SettingKind.PATH, doc="the file"),
    StoreSetting(
        key="busy_timeout",
        kind=SettingKind.DURATION,
        default=_BUSY_TIMEOUT_S,
        doc="how long a write waits for another process's; not above `op_timeout`",
    ),
    StoreSetting(
        key="op_timeout",
        kind=SettingKind.DURATION,
        default=_OP_TIMEOUT_S,
        doc="how long a caller waits for an answer; not above `renew_timeout` and `cleanup` of "
        "`[ha]`",
    ),
    StoreSetting(
        key="fence_by_kill",
        kind=SettingKind.FLAG,
        default=False,
        doc="kill a node that is frozen inside a write once its lock has expired",
    ),
    StoreSetting(
        key="allow_network_filesystem",
        kind=SettingKind.FLAG,
        default=False,
        doc="accept a file system that other machines or programs share; for a single node only",
    ),
)


class SqliteBackend(Backend, HABackend):
    """
    A database file, open. Made by ``open_backend``.

    Owns: a reading connection, the writer, the presence folder and the lock handles, until
    ``aclose``.
    """

    name = "sqlite"

    def __init__(
        self, settings: SqliteSettings, *, boot_clock: BootClock, folder: PresenceFolder
    ) -> None:
        self.path = settings.path
        companions = Companions(self.path, folder)
        self.op_timeout_s = settings.op_timeout_s
        self.capabilities = replace(CAPABILITIES, watch=folder.can_bind())
        self._may_kill = settings.fence_by_kill
        self._boot_clock = boot_clock
        self._boot_id = sqlite_file.read_boot_id()
        self._folder = folder
        self._locks: list[SqliteLock] = []
        self._writer = Writer(
            self.path,
            busy_timeout_s=settings.busy_timeout_s,
            op_timeout_s=settings.op_timeout_s,
            reserve=Reserve(folder),
            companions=companions,
        )
        self._companions = companions
        self._reader = Reader(self.path, companions, op_timeout_s=settings.op_timeout_s)

    def __repr__(self) -> str:
        return f"<SqliteBackend {self.path}>"

    async def get(self, key: str) -> bytes | None:
        check_key(key)
        bytes_max = offload.COPIED_INLINE_BYTES_MAX
        read = partial(sqlite_file.get_up_to, path=key, bytes_max=bytes_max)
        deadline = trio.current_time() + self._reader.op_timeout_s
        while True:
            found = await self._reader.run(read)
            if not isinstance(found, int):
                return found
            opened = partial(self._companions.opened, 0.0)
            try:
                value = await offload.run(partial(sqlite_file.get_large, opened, key), found)
                self._companions.ensure()  # else it may have seen other files than the rest
                return value
            except Removed as exc:
                if trio.current_time() >= deadline:
                    raise StorageUnavailable(f"cannot read sqlite storage: {exc}") from exc
            except sqlite3.Error as exc:
                if not sqlite_file.is_busy(exc) or trio.current_time() >= deadline:
                    raise sqlite_file.map_error(exc, "read") from exc
            await trio.sleep(BUSY_RETRY_S)

    async def list(self, prefix: str) -> Keys:
        return await self.list_page(prefix, "", -1)

    async def list_page(self, prefix: str, after: str, limit: int) -> Keys:
        check_prefix(prefix)
        found: Keys = []
        while True:
            left = _LIST_PAGE if limit < 0 else min(_LIST_PAGE, limit - len(found))
            page = await self._list_page(prefix, found[-1] if found else after, left)
            found += page
            if len(page) < _LIST_PAGE:
                return found

    async def apply(self, batch: Batch) -> None:
        # A tenure is not taken up without its advertisement: it belongs to the lock.
        is_of_the_lock = True
        for key in batch.writes:
            check_key(key)
            is_of_the_lock = is_of_the_lock and key.startswith(names.LEADER_PREFIX)
        run = partial(
            sqlite_file.apply, batch=batch, boot_id=self._boot_id, boot_clock=self._boot_clock
        )
        await self._writer.submit(run, urgent=is_of_the_lock)

    async def open_lock(self, key: str, identity: str) -> SqliteLock:
        self._reader.require_open()
        self._folder.sweep()
        presence = await Presence.open(self._folder, identity, hears=self.capabilities.watch)
        lock = SqliteLock(
            key,
            identity,
            obstacle=Obstacle(
                self.path,
                self._folder.path,
                may_kill=self._may_kill,
                boot_clock=self._boot_clock,
            ),
            reader=self._reader,
            writer=self._writer,
            presence=presence,
            boot_clock=self._boot_clock,
            boot_id=self._boot_id,
        )
        self._locks = [*(known for known in self._locks if not known.is_closed), lock]
        return lock

    async def aclose(self) -> None:
        """Finish queued writes, then let go of threads, files and locks. Safe to call twice."""
        if self._reader.is_closed:
            await trio.lowlevel.checkpoint()
            return
        for lock in self._locks:
            lock.close()
        self._reader.close()
        try:
            await self._writer.aclose()
        finally:
            self._folder.close()

    # --- reading ------------------------------------------------------------------------------

    async def _list_page(self, prefix: str, after: str, limit: int) -> Keys:
        return await self._reader.run(
            lambda connection: sqlite_file.list_children(connection, prefix, after, limit)
        )


@dataclass(frozen=True, slots=True)
class SqliteSettings:
    """A ``[storage.sqlite]`` block; see ``open_backend``."""

    path: Path
    busy_timeout_s: float
    op_timeout_s: float
    fence_by_kill: bool
    allow_network_filesystem: bool


def read_settings(settings: Mapping[str, object]) -> SqliteSettings:
    """
    Read and check a block without touching a file.

    Raises:
        ConfigError: a setting is missing, wrong or unknown.
    """
    block = Settings("sqlite", SETTINGS, settings)
    op_timeout_s = block.duration_s("op_timeout")
    busy_timeout_s = block.duration_s("busy_timeout")
    if not block.is_given("busy_timeout"):
        busy_timeout_s = min(busy_timeout_s, op_timeout_s)
    found = SqliteSettings(
        # A relative path means the folder the server was started in, whatever happens later.
        path=Path(block.text("path")).absolute(),
        busy_timeout_s=busy_timeout_s,
        op_timeout_s=op_timeout_s,
        fence_by_kill=block.flag("fence_by_kill"),
        allow_network_filesystem=block.flag("allow_network_filesystem"),
    )
    if found.busy_timeout_s > found.op_timeout_s:
        raise ConfigError(
            "storage.sqlite: busy_timeout must not be above op_timeout: a write that waits for "
            "longer than its caller may land when nobody expects it any more"
        )
    return found


def check_settings(settings: Mapping[str, object]) -> float:
    """Check a block, and return the ``op_timeout_s`` that the store will have; see StoreType."""
    return read_settings(settings).op_timeout_s


async def open_backend(
    settings: Mapping[str, object], *, boot_clock: BootClock = boot_time_s
) -> SqliteBackend:
    """
    Open a database file, and make it where it is missing.

    Args:
        settings: keys are the rows of ``SETTINGS``.
        boot_clock: seconds since the machine's boot, the same for all its processes.

    Raises:
        ConfigError: a setting is missing, wrong or unknown; or this is no place for such a store: a
            shared file system (BH-923), a shifted clock (BH-924), no shared memory (BH-926).
        StorageUnavailable: the file cannot be made or opened now.
        StorageCorrupt: it is damaged, another program's, or of a newer format.

    Owns: the caller closes the store with ``aclose``.
    """
    found = read_settings(settings)
    check_clock()
    # It waits for locks and disks, and nothing is awaited from it but its end.
    folder = await trio.to_thread.run_sync(_create, found)
    return SqliteBackend(found, boot_clock=boot_clock, folder=folder)


def _create(settings: SqliteSettings) -> PresenceFolder:
    """Make what is missing, in the order in which one thing may refuse the next."""
    path = settings.path
    sqlite_file.create_folder(path)
    if not settings.allow_network_filesystem:
        check_file_system(Path(os.path.realpath(path)).parent)
    folder = PresenceFolder(path.with_name(path.name + SUFFIX))
    companions = Companions(path, folder)

    opened = partial(companions.opened, settings.busy_timeout_s)
    try:
        try:
            sqlite_file.create(path, settings.busy_timeout_s, opened)
        except sqlite_file.NoSpace:
            # The first process after all had ended needs some for the WAL: as much as the lock.
            if not Reserve(folder).give_up():
                raise
            sqlite_file.create(path, settings.busy_timeout_s, opened)
    except BaseException:
        folder.close()
        raise
    return folder


# SQLite takes rows of a gigabyte, and batches of any length: more than a request can bring.
STORE = StoreType(
    name="sqlite",
    summary="one file, shared by the processes of one machine",
    open=open_backend,
    capabilities=CAPABILITIES,
    settings=SETTINGS,
    check=check_settings,
    lock=LockTraits(),
)
