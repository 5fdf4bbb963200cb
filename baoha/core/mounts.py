"""
The mount table: what is mounted where, stored and in memory.

Rules of this file:

1. The table in memory is replaced as a whole, in one step; a request sees the old or the new one.
2. Every change reads all entries in the transaction that writes one, so that two changes at once
   cannot both take a path.
3. An entry names the folder of its data. An upgrade gives the mount a new folder, in the same write
   as its new version; nobody enters the former one any more, and ``core/engines/kv2/upgrade.py``
   empties it.

Source: OpenBao 2.7.2; texts as recorded (tests/conformance/recordings/mounts-auth-audit.json) and
measured.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import trio

from baoha import names, offload
from baoha.core.framework.engine import Engine, EngineContext
from baoha.core.framework.engine_type import EngineType, EngineTypes, Options
from baoha.core.framework.mount_entry import AUTH_PATH, TABLE_PREFIXES, MountEntry, Table
from baoha.core.framework.ttl import TTLs
from baoha.core.keys.barrier import Barrier, BarrierTransaction
from baoha.errors import InvalidRequest, StorageCorrupt, StorageError
from baoha.sansio.routing import Match, MountTable

# Nothing else is mounted at or below these. Source: OpenBao's protected mounts.
RESERVED_PATHS: Final = ("auth/", "sys/", "cubbyhole/", "identity/", "audit/")
# Built in as in OpenBao, and not there yet.
_ABSENT_TYPES: Final = frozenset({"cubbyhole", "identity"})
_PATH_CHARS_MAX: Final = 1024  # of a new mount: every request looks so far into its own path
_DELETE_BATCH: Final = 200  # keys of an unmounted engine that are deleted in one transaction


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount in use: its entry, its engine, and what the engine may use."""

    entry: MountEntry
    engine: Engine
    context: EngineContext


class MountStore:
    """
    The mounts of this cluster. Safe for concurrent use by many tasks.

    Args:
        ttl: the lifetimes of mounts that are not tuned.

    Attributes:
        types: the engines that there are; put in before the first ``load``.
        is_stale: a change whose outcome is unknown was sent: the table is to be read anew before it
            is used (``ensure_fresh``).
    """

    def __init__(
        self,
        barrier: Barrier,
        *,
        now: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
        ttl: TTLs,
    ) -> None:
        self.types = EngineTypes()
        self._barrier = barrier
        self._now = now
        self._random_bytes = random_bytes
        self._ttl = ttl
        self._table: MountTable[Mount] = MountTable()
        # Counts what has happened to the table in memory, so that a reading notices it is outdated.
        self._changes = 0
        self.is_stale = False
        # How many requests use which data (by prefix), and who waits until none does any more.
        self._uses: dict[str, int] = {}
        self._unused: dict[str, trio.Event] = {}
        # Prefixes whose data an upgrade moves away: no request enters them any more.
        self._left: set[str] = set()
        self._move_begun = trio.Event()

    # --- reading ----------------------------------------------------------------------------

    def match(self, path: str) -> Match[Mount] | None:
        """Return where a full path leads."""
        return self._table.match(path)

    def mounts(self) -> list[Mount]:
        """Return all mounts, sorted by path."""
        return [mount for _, mount in self._table]

    def find(self, uuid: str) -> Mount | None:
        """Return the mount with a uuid."""
        return next((mount for _, mount in self._table if mount.entry.uuid == uuid), None)

    def entries(self, table: str) -> list[MountEntry]:
        """Return the entries of one table, sorted by path."""
        return [mount.entry for _, mount in self._table if mount.entry.table == table]

    def entry(self, table: str, path: str) -> MountEntry | None:
        """Return the entry mounted exactly at a path of a table."""
        mount = self._table.get(AUTH_PATH + path if table == "auth" else path)
        return mount.entry if mount is not None and mount.entry.table == table else None

    async def ensure_fresh(self) -> None:
        """Read the table anew if a change of unknown outcome was sent."""
        if self.is_stale:
            await self.load()

    async def load(self) -> None:
        """
        Read the table anew and put it into use; engines start without cached state.

        Raises:
            StorageError: the table in use is still the old one.
        """
        while True:
            seen = self._changes
            table = await self._read()
            if seen == self._changes:
                break
        self._table = table
        self.is_stale = False
        self._changes += 1
        for _, mount in table:
            self._leave_former(mount.entry)

    async def _read(self) -> MountTable[Mount]:
        found: list[MountEntry] = []
        for prefix in TABLE_PREFIXES.values():
            for name in await self._barrier.list(prefix):
                blob = await self._barrier.get(prefix + name)
                if blob is not None:
                    found.append(MountEntry.from_bytes(blob))
        table: MountTable[Mount] = MountTable()
        for entry in found:
            table.mount(entry.full_path, self._open(entry, reuse=False))
        return table

    def forget(self) -> None:
        """Let every engine drop its cached state."""
        for _, mount in self._table:
            mount.engine.forget()

    def _open(self, entry: MountEntry, *, reuse: bool = True) -> Mount:
        known = self._table.get(entry.full_path) if reuse else None
        if known is not None and _same_engine(known.entry, entry):
            return Mount(entry, known.engine, known.context)
        context = EngineContext(
            storage=self._barrier.view(entry.data_prefix),
            now=self._now,
            random_bytes=self._random_bytes,
            offload=offload.current(),
            ttl=self._ttl.of_mount(entry.config),
        )
        return Mount(entry, self._type(entry).make(entry, context), context)

    def _type(self, entry: MountEntry) -> EngineType:
        found = self.types.get(entry.table, entry.type)
        if found is None:
            raise StorageCorrupt(f"this version has no engine {entry.type!r} for {entry.path!r}")
        return found

    def describe(self, entry: MountEntry) -> dict[str, Any]:
        """Return the object that ``sys/mounts`` shows for a mount."""
        found = self._type(entry)
        return _describe(entry, shows_status=found.shows_status and not found.built_in)

    # --- changing ---------------------------------------------------------------------------

    def new_entry(self, table: str, path: str, mount_type: str, **fields: Any) -> MountEntry:
        """
        Return an entry with a new uuid and accessor; nothing is stored.

        Raises:
            InvalidRequest: no such engine, or it cannot be enabled.
        """
        if mount_type in _ABSENT_TYPES or self.types.is_built_in(mount_type):
            raise InvalidRequest(f'mount type of "{mount_type}" is not mountable')
        if self.types.get(table, mount_type) is None:
            raise InvalidRequest(f"plugin not found in the catalog: {mount_type}")
        return _new_entry(table, path, mount_type, self._random_bytes, **fields)

    async def mount(self, entry: MountEntry) -> None:
        """
        Store a new mount and put it into use.

        Raises:
            InvalidRequest: the path is taken or reserved (nothing was written).
        """
        if len(entry.path) > _PATH_CHARS_MAX:
            raise InvalidRequest(f"path is longer than {_PATH_CHARS_MAX} characters")
        if entry.table == "mounts" and entry.path.startswith(RESERVED_PATHS):
            raise InvalidRequest(f'cannot mount "{entry.path}"')
        opened = self._open(entry)

        async def body(transaction: BarrierTransaction) -> None:
            for known in await _read_table(transaction, entry.table):
                if entry.path.startswith(known.path) or known.path.startswith(entry.path):
                    raise InvalidRequest(f"path is already in use at {known.path}")
            transaction.put(entry.storage_key, entry.to_bytes())

        with self._unless_unknown():
            await self._barrier.run_transaction(body)
        self._changes += 1
        self._table.mount(entry.full_path, opened)

    async def unmount(self, table: str, path: str) -> None:
        """Remove a mount and its data; one that does not exist is no error."""
        entry = self.entry(table, path)
        if entry is None:
            return
        with self._unless_unknown():
            await self._barrier.delete(entry.storage_key)
        self._changes += 1
        current = self._table.get(entry.full_path)
        if current is not None and current.entry.uuid == entry.uuid:
            entry = current.entry
            self._table.unmount(entry.full_path)
        await _delete_below(self._barrier, entry.data_prefix)
        if entry.upgrade_from:
            await _delete_below(self._barrier, entry.former_prefix)

    async def tune(
        self, entry: MountEntry, change: Callable[[MountEntry], MountEntry]
    ) -> tuple[MountEntry, MountEntry]:
        """
        Store a changed entry, put it into use, and return it as it was and as it is.

        Args:
            change: gets the entry as stored; has no effects of its own.
        """

        async def body(transaction: BarrierTransaction) -> tuple[MountEntry, MountEntry]:
            blob = await transaction.get(entry.storage_key)
            if blob is None:
                raise InvalidRequest(f'tune of path "{entry.path}" failed: no mount entry found')
            old = MountEntry.from_bytes(blob)
            changed = replace(change(old), revision=old.revision + 1)
            transaction.put(changed.storage_key, changed.to_bytes())
            return old, changed

        with self._unless_unknown():
            old, changed = await self._barrier.run_transaction(body)
        self._changes += 1
        current = self._table.get(changed.full_path)
        # Two changes may come back in another order than they were stored in.
        if (
            current is not None
            and current.entry.uuid == changed.uuid
            and current.entry.revision < changed.revision
        ):
            self._table.mount(changed.full_path, self._open(changed))
            self._leave_former(changed)
        return old, changed

    # --- data that moves --------------------------------------------------------------------

    def with_options(self, entry: MountEntry, asked: Options) -> MountEntry:
        """
        Return an entry with its options tuned, and a new folder where that means another layout.

        Raises:
            InvalidRequest: of the engine: these options cannot be had.
        """
        found, before = self._type(entry), entry.options or {}
        options = dict(found.merge_options(before, asked))
        changed = replace(entry, options=options)
        if not found.moves_data(before, options):
            return changed
        folder = str(UUID(bytes=self._random_bytes(16), version=4))
        return replace(changed, folder=folder, upgrade_from=entry.folder or entry.uuid)

    def option_warnings(self, before: MountEntry, after: MountEntry) -> list[str]:
        """Return what a client is told of a tuning."""
        return self._type(after).warn_options(before.options or {}, after.options or {})

    async def wait_moving(self, types: Collection[str]) -> MountEntry:
        """Return a mount of some types whose data has to be moved, as soon as there is one."""
        while True:
            for _, mount in self._table:
                if mount.entry.upgrade_from and mount.entry.type in types:
                    return mount.entry
            if self._move_begun.is_set():
                self._move_begun = trio.Event()
            await self._move_begun.wait()

    def use(self, mount: Mount) -> None:
        """
        Use a mount's data from now until ``end_use``, for one request.

        Raises:
            InvalidRequest: an upgrade has begun to move it since the request was routed.
        """
        prefix = mount.context.storage.prefix
        if prefix in self._left:
            raise InvalidRequest(self._type(mount.entry).moving)
        self._uses[prefix] = self._uses.get(prefix, 0) + 1

    def end_use(self, mount: Mount) -> None:
        """Take note that the request is over."""
        prefix = mount.context.storage.prefix
        self._uses[prefix] -= 1
        if not self._uses[prefix]:
            del self._uses[prefix]
            if (event := self._unused.pop(prefix, None)) is not None:
                event.set()

    async def wait_unused(self, prefix: str) -> None:
        """Return when no request uses the data below a prefix any more."""
        while prefix in self._uses:
            await self._unused.setdefault(prefix, trio.Event()).wait()

    def _leave_former(self, entry: MountEntry) -> None:
        if entry.upgrade_from:
            self._left.add(entry.former_prefix)
            self._move_begun.set()

    @contextmanager
    def _unless_unknown(self) -> Iterator[None]:
        try:
            yield
        except StorageError as exc:
            if exc.outcome == "unknown":
                self.is_stale = True
                self._changes += 1
            raise


def _same_engine(a: MountEntry, b: MountEntry) -> bool:
    return _engine_key(a) == _engine_key(b)


def _engine_key(entry: MountEntry) -> tuple[object, ...]:
    return (entry.uuid, entry.options, entry.config, entry.folder, entry.upgrade_from)


async def _read_table(transaction: BarrierTransaction, table: str) -> list[MountEntry]:
    prefix = TABLE_PREFIXES[Table(table)]
    found = []
    for name in await transaction.list(prefix):
        blob = await transaction.get(prefix + name)
        # One by one, as they come: thousands at once would hold up everybody else.
        if blob is not None:
            found.append(MountEntry.from_bytes(blob))
    return found


async def _delete_below(barrier: Barrier, prefix: str) -> None:
    folders = [prefix]
    keys: list[str] = []
    while folders:
        folder = folders.pop()
        for child in await barrier.list(folder):
            (folders if child.endswith("/") else keys).append(folder + child)
    for start in range(0, len(keys), _DELETE_BATCH):
        async with barrier.transaction() as transaction:
            for key in keys[start : start + _DELETE_BATCH]:
                transaction.delete(key)


def _new_entry(
    table: str, path: str, mount_type: str, random_bytes: Callable[[int], bytes], **fields: Any
) -> MountEntry:
    prefix = "auth_" if table == "auth" else ""
    return MountEntry(
        table=table,
        path=path,
        type=mount_type,
        uuid=str(UUID(bytes=random_bytes(16), version=4)),
        accessor=f"{prefix}{mount_type}_{random_bytes(4).hex()}",
        **fields,
    )


def put_default_mounts(
    transaction: BarrierTransaction, *, random_bytes: Callable[[int], bytes]
) -> None:
    """Buffer the mounts of a new cluster into the transaction of initialisation."""
    system = _new_entry(
        "mounts",
        "sys/",
        "system",
        random_bytes,
        description="system endpoints used for control, policy and debugging",
        options=None,
        config={"passthrough_request_headers": ["Accept"]},
        seal_wrap=True,
    )
    token = _new_entry(
        "auth", "token/", "token", random_bytes, description="token based credentials", options=None
    )
    secret = _new_entry("mounts", "secret/", "kv", random_bytes, options={"version": "2"})
    for entry in (system, token, secret):
        transaction.put(entry.storage_key, entry.to_bytes())


def _describe(entry: MountEntry, *, shows_status: bool) -> dict[str, Any]:
    config: dict[str, Any] = {"default_lease_ttl": 0, "force_no_cache": False, "max_lease_ttl": 0}
    if entry.table == "auth":
        config |= {"token_type": "default-service"}
    described: dict[str, Any] = {
        "accessor": entry.accessor,
        "config": config | entry.config,
        "description": entry.description,
        "external_entropy_access": False,
        "local": entry.local,
        "options": entry.options,
        "plugin_version": "",
        # Clients read the engine's version here: the release whose engine API it speaks.
        "running_plugin_version": f"v{names.API_VERSION}+builtin.bao",
        "running_sha256": "",
        "seal_wrap": entry.seal_wrap,
        "type": entry.type,
        "uuid": entry.uuid,
    }
    if shows_status:
        described["deprecation_status"] = "supported"
    return described
