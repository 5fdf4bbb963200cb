"""
The mount table: what is mounted where, stored and in memory.

Rules of this file:

1. The table in memory is replaced as a whole, in one step; a request sees the old or the new one.
2. Every change reads all entries in the transaction that writes one, so that two changes at once
   cannot both take a path.
3. An entry names the folder of its data. An upgrade gives the mount a new folder, in the same write
   as its new version; nobody enters the former one any more, and ``core/engines/kv2/upgrade.py``
   empties it.

Source: OpenBao 2.7.2: one entry per mount below ``core/mounts/`` and ``core/auth/``; data below
``logical/<uuid>/``. Texts as recorded (tests/conformance/recordings/mounts-auth-audit.json) and
measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID

import trio

from baoha import names
from baoha.core.framework.engine import Engine
from baoha.core.keys.barrier import Barrier, BarrierTransaction, BarrierView
from baoha.errors import InvalidRequest, StorageCorrupt, StorageError
from baoha.sansio.routing import Match, MountTable

AUTH_PATH: Final = "auth/"
_TABLES: Final = {"mounts": names.MOUNTS_PREFIX, "auth": names.AUTH_PREFIX}
# Nothing else is mounted at or below these. Source: OpenBao's protected mounts.
RESERVED_PATHS: Final = ("auth/", "sys/", "cubbyhole/", "identity/", "audit/")
# Secret engines that may have versions: "generic" is the old name of "kv" without them.
VERSIONED_TYPES: Final = frozenset({"kv", "generic"})
UPGRADING: Final = (
    "Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief "
    "period and will resume service shortly."
)
# Mounts without an engine that could be enabled by a client.
_BUILT_IN_TYPES: Final = frozenset({"system", "token", "cubbyhole", "identity"})
# "generic" was there before plug-ins had versions.
_TYPES_WITHOUT_STATUS: Final = _BUILT_IN_TYPES | {"generic"}
_PATH_CHARS_MAX: Final = 1024  # of a new mount: every request looks so far into its own path
_DELETE_BATCH: Final = 200  # keys of an unmounted engine that are deleted in one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class MountEntry:
    """
    One mount as stored.

    Attributes:
        table: "mounts" for secret engines, "auth" for auth methods.
        path: inside its table, with a trailing slash.
        options: of the engine; None where it has none by nature.
        folder: where its data is, below ``logical/``; "" means its uuid.
        upgrade_from: the folder of its former version, while data is moved from there; "" else.
        config: ``default_lease_ttl`` and ``max_lease_ttl`` in seconds (0: the system's),
            ``force_no_cache``, and what else was tuned.
        revision: counts the changes of this entry.
    """

    table: str
    path: str
    type: str
    uuid: str
    accessor: str
    description: str = ""
    options: dict[str, str] | None = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    local: bool = False
    seal_wrap: bool = False
    revision: int = 1
    folder: str = ""
    upgrade_from: str = ""

    def to_bytes(self) -> bytes:
        """Return the stored form."""
        # By hand: dataclasses.asdict copies every value of the lists in it.
        return json.dumps({name: getattr(self, name) for name in self.__slots__}).encode()

    @classmethod
    def from_bytes(cls, blob: bytes) -> MountEntry:
        """Return the entry of a stored form. Raises StorageCorrupt: it is none of ours."""
        try:
            return cls(**json.loads(blob))
        except (ValueError, TypeError) as exc:
            raise StorageCorrupt("a mount entry is malformed, or of a newer version") from exc

    @property
    def full_path(self) -> str:
        """The path that requests are routed by."""
        return AUTH_PATH + self.path if self.table == "auth" else self.path

    @property
    def storage_key(self) -> str:
        """Where the entry is stored."""
        return _TABLES[self.table] + self.uuid

    @property
    def data_prefix(self) -> str:
        """Where its data is stored."""
        return f"{names.LOGICAL_PREFIX}{self.folder or self.uuid}/"

    @property
    def former_prefix(self) -> str:
        """Where the data is stored that an upgrade has still to move."""
        assert self.upgrade_from
        return f"{names.LOGICAL_PREFIX}{self.upgrade_from}/"

    @property
    def is_built_in(self) -> bool:
        """Whether the server itself made it; it is never removed."""
        return self.type in _BUILT_IN_TYPES


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount in use: its entry, its engine, its storage."""

    entry: MountEntry
    engine: Engine
    storage: BarrierView


EngineFactory = Callable[[MountEntry], Engine]


class MountStore:
    """The mounts of this cluster. Safe for concurrent use by many tasks."""

    def __init__(
        self,
        barrier: Barrier,
        factories: Mapping[tuple[str, str], EngineFactory],
        *,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._barrier = barrier
        self._factories = factories
        self._random_bytes = random_bytes
        self._table: MountTable[Mount] = MountTable()
        # Counts what has happened to the table in memory, so that a reading notices it is outdated.
        self._changes = 0
        # A change whose outcome is unknown was sent: the table is read anew before it is used.
        self._is_stale = False
        # How many requests use which data (by prefix), and who waits until none does any more.
        self._uses: dict[str, int] = {}
        self._unused: dict[str, trio.Event] = {}
        # Prefixes whose data an upgrade moves away: no request enters them any more.
        self._left: set[str] = set()
        self._upgrade_begun = trio.Event()

    # --- reading ----------------------------------------------------------------------------

    def match(self, path: str) -> Match[Mount] | None:
        """Return where a full path leads."""
        return self._table.match(path)

    def entries(self, table: str) -> list[MountEntry]:
        """Return the entries of one table, sorted by path."""
        return [mount.entry for _, mount in self._table if mount.entry.table == table]

    def entry(self, table: str, path: str) -> MountEntry | None:
        """Return the entry mounted exactly at a path of a table."""
        mount = self._table.get(AUTH_PATH + path if table == "auth" else path)
        return mount.entry if mount is not None and mount.entry.table == table else None

    async def ensure_fresh(self) -> None:
        """Read the table anew if a change of unknown outcome was sent."""
        if self._is_stale:
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
        self._is_stale = False
        self._changes += 1
        for _, mount in table:
            self._leave_former(mount.entry)

    async def _read(self) -> MountTable[Mount]:
        found: list[MountEntry] = []
        for prefix in _TABLES.values():
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
            return Mount(entry, known.engine, known.storage)
        make_engine = self._factories.get((entry.table, entry.type))
        if make_engine is None:
            raise StorageCorrupt(f"this version has no engine {entry.type!r} for {entry.path!r}")
        engine = make_engine(entry)
        return Mount(entry, engine, self._barrier.view(entry.data_prefix))

    # --- changing ---------------------------------------------------------------------------

    def new_entry(self, table: str, path: str, mount_type: str, **fields: Any) -> MountEntry:
        """
        Return an entry with a new uuid and accessor; nothing is stored.

        Raises:
            InvalidRequest: no such engine, or it cannot be enabled.
        """
        if mount_type in _BUILT_IN_TYPES:
            raise InvalidRequest(f'mount type of "{mount_type}" is not mountable')
        if (table, mount_type) not in self._factories:
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

    # --- an upgrade -------------------------------------------------------------------------

    def with_options(self, entry: MountEntry, options: dict[str, str]) -> MountEntry:
        """Return an entry with other options; a KV engine that gets versions begins an upgrade."""
        changed = replace(entry, options=options)
        if has_versions(entry) or not has_versions(changed):
            return changed
        folder = str(UUID(bytes=self._random_bytes(16), version=4))
        return replace(changed, folder=folder, upgrade_from=entry.folder or entry.uuid)

    async def wait_upgrade(self) -> MountEntry:
        """Return a mount whose data has to be moved, as soon as there is one."""
        while True:
            for _, mount in self._table:
                if mount.entry.upgrade_from:
                    return mount.entry
            self._upgrade_begun = trio.Event()
            await self._upgrade_begun.wait()

    def use(self, mount: Mount) -> None:
        """
        Use a mount's data from now until ``end_use``, for one request.

        Raises:
            InvalidRequest: an upgrade has begun to move it since the request was routed.
        """
        prefix = mount.storage.prefix
        if prefix in self._left:
            raise InvalidRequest(UPGRADING)
        self._uses[prefix] = self._uses.get(prefix, 0) + 1

    def end_use(self, mount: Mount) -> None:
        """Take note that the request is over."""
        prefix = mount.storage.prefix
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
            self._upgrade_begun.set()

    @contextmanager
    def _unless_unknown(self) -> Iterator[None]:
        try:
            yield
        except StorageError as exc:
            if exc.outcome == "unknown":
                self._is_stale = True
                self._changes += 1
            raise


def has_versions(entry: MountEntry) -> bool:
    """Say whether a mount of a KV engine keeps versions (KV v2)."""
    return entry.type in VERSIONED_TYPES and (entry.options or {}).get("version") == "2"


def _same_engine(a: MountEntry, b: MountEntry) -> bool:
    return _engine_key(a) == _engine_key(b)


def _engine_key(entry: MountEntry) -> tuple[object, ...]:
    return (entry.uuid, entry.options, entry.config, entry.folder, entry.upgrade_from)


async def _read_table(transaction: BarrierTransaction, table: str) -> list[MountEntry]:
    prefix = _TABLES[table]
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


def describe_mount(entry: MountEntry) -> dict[str, Any]:
    """Return the object that ``sys/mounts`` shows for a mount."""
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
    if entry.type not in _TYPES_WITHOUT_STATUS:
        described["deprecation_status"] = "supported"
    return described
