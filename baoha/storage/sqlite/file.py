"""
The database file of the sqlite store: opening it, its tables, every SQL statement, every error.

Rules of this file:

1. It is synchronous and knows no task and no thread: a caller brings a connection.
2. ``entry`` (data) and ``ha_lock`` live in one file, because a fence is proven in the transaction
   of the write it guards. Whoever changes rows here holds ``BEGIN IMMEDIATE``.
3. A row of ``ha_lock`` is never deleted here: its epoch only grows.

Theory of operation. WAL lets readers run beside the one writer; ``synchronous=FULL`` makes every
commit durable before it is acknowledged. Expiry is in seconds of CLOCK_BOOTTIME, which all
processes of a machine share, together with the boot's id: a row of another boot is free, because
no process of that boot is left. Children are listed by the walk of ``keys``, one index range at a
time.

Source: ours; https://www.sqlite.org/wal.html, https://www.sqlite.org/rescode.html.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

from baoha.diagnostics.codes.health import NO_SHARED_MEMORY
from baoha.errors import (
    ConfigError,
    FencedWrite,
    Outcome,
    StorageCorrupt,
    StorageError,
    StorageUnavailable,
    TransactionConflict,
)
from baoha.storage import lock_rules
from baoha.storage.base import Batch, Keys
from baoha.storage.keys import children
from baoha.storage.lock_rules import LockRow
from baoha.timing import BootClock

Opened = Callable[[], AbstractContextManager[sqlite3.Connection]]

# "baoh": marks the file as ours, so that a path to another program's database is not written to.
_APPLICATION_ID = 0x62616F68
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_FORMAT = 1
_MODE_FILE = 0o600
_MODE_FOLDER = 0o700
_SYNCHRONOUS_FULL = 2
_RETRY_S = 0.005  # between two attempts at what SQLite's busy handler does not cover
# The WAL shrinks back to this after a checkpoint, so that one big import does not keep the space.
_WAL_BYTES_MAX = 64 * 1024 * 1024

_PIECE_BYTES = 1024 * 1024  # of a large value: less than a millisecond

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS entry (path TEXT NOT NULL UNIQUE, value BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS ha_lock (key TEXT NOT NULL PRIMARY KEY, identity TEXT NOT NULL,"
    " value TEXT NOT NULL, epoch INTEGER NOT NULL, expires_at_s REAL NOT NULL,"
    " boot_id TEXT NOT NULL) WITHOUT ROWID",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_FORMAT}",
)

_CAUSES = {
    sqlite3.SQLITE_BUSY: "database is locked by another writer",
    sqlite3.SQLITE_LOCKED: "database is locked by another writer",
    sqlite3.SQLITE_FULL: "disk is full",
    sqlite3.SQLITE_IOERR: "disk i/o error",
    sqlite3.SQLITE_READONLY: "database is read-only",
    sqlite3.SQLITE_CANTOPEN: "database file cannot be opened",
    sqlite3.SQLITE_PERM: "access to the database file was refused",
    sqlite3.SQLITE_NOMEM: "out of memory",
}
_CORRUPT = {
    sqlite3.SQLITE_CORRUPT: "database file is damaged",
    sqlite3.SQLITE_NOTADB: "file is not a database",
}
# After these a connection may keep what it saw; a new one starts from the file again.
_REOPEN = {
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
    *_CORRUPT,
}


# What a full disk and a used-up quota look like: a write, or the growth of the shared memory.
_NO_SPACE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
}


# --- errors -------------------------------------------------------------------------------------


class NoSpace(StorageUnavailable):
    """There is no space to open the database: its WAL and shared memory are files."""


def primary_code(exc: sqlite3.Error) -> int:
    """Return SQLite's primary result code, 0 when the driver itself raised."""
    return int(getattr(exc, "sqlite_errorcode", 0)) & 0xFF


def is_busy(exc: sqlite3.Error) -> bool:
    """Return whether another connection was in the way; the same call may succeed soon."""
    return primary_code(exc) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_no_space(exc: sqlite3.Error) -> bool:
    """Return whether there was, or may have been, no space for a write."""
    return getattr(exc, "sqlite_errorcode", 0) in _NO_SPACE


def must_reopen(exc: sqlite3.Error) -> bool:
    """Return whether the connection is better replaced after this error."""
    return primary_code(exc) in _REOPEN


def commit_outcome(exc: sqlite3.Error) -> Outcome:
    """
    Say what a failed COMMIT means.

    A full disk and a busy file leave no commit frame behind. After any other failure (a failed
    fsync) the frame may be found by the next recovery.
    """
    not_applied = is_busy(exc) or primary_code(exc) == sqlite3.SQLITE_FULL
    return "not_applied" if not_applied else "unknown"


def map_error(
    exc: sqlite3.Error, verb: str, outcome: Outcome = "not_applied", *, place: str = ""
) -> StorageError:
    """Return our error for SQLite's: "cannot <verb> sqlite storage<place>: <cause>"."""
    code = primary_code(exc)
    if code in _CORRUPT:
        return StorageCorrupt(f"cannot {verb} sqlite storage{place}: {_CORRUPT[code]}")
    if code == sqlite3.SQLITE_TOOBIG:
        return StorageError(f"cannot {verb} sqlite storage{place}: value is too large")
    name = getattr(exc, "sqlite_errorname", type(exc).__name__)
    cause = _CAUSES.get(code, "unexpected error")
    return StorageUnavailable(
        f"cannot {verb} sqlite storage{place}: {cause} ({name})", outcome=outcome
    )


# --- opening ------------------------------------------------------------------------------------


def create_folder(path: Path) -> None:
    """
    Create the folder of the file (0700) where it is missing.

    Raises:
        StorageUnavailable: it cannot be made.
    """
    try:
        path.parent.mkdir(mode=_MODE_FOLDER, parents=True, exist_ok=True)
    except OSError as exc:
        raise StorageUnavailable(f"cannot open sqlite storage: {path}: {exc.strerror}") from exc


def create(path: Path, busy_timeout_s: float, opened: Opened | None = None) -> None:
    """
    Create the file (0600), its folder (0700) and its tables where they are missing. Blocks.

    Args:
        path: the file.
        busy_timeout_s: how long to wait for other processes.
        opened: makes the connection once there is a file; None: as ``connect`` does.

    Raises:
        ConfigError: BH-926, its file system has no shared memory for the WAL.
        NoSpace: the disk is full.
        StorageUnavailable: the file cannot be made or opened.
        StorageCorrupt: it is no database, another program's, or of a newer format.
    """
    create_folder(path)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE_FILE))
    except OSError as exc:
        raise StorageUnavailable(f"cannot open sqlite storage: {path}: {exc.strerror}") from exc
    try:
        with closing(connect(path, busy_timeout_s)) if opened is None else opened() as connection:
            _switch_to_wal(connection, busy_timeout_s)
            _check_or_create_tables(connection, path)
    except sqlite3.Error as exc:
        error = map_error(exc, "open", place=f" {path}")
        raise NoSpace(str(error)) if is_no_space(exc) else error from exc


def connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """
    Open a connection to a file that exists; a file that was removed is not made anew.

    Raises:
        sqlite3.Error: it cannot be opened.

    Owns: the caller closes the connection.
    """
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        timeout=busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES_MAX}")
        # SQLite answers a setting that it does not take with the one that it keeps.
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        if synchronous != _SYNCHRONOUS_FULL:
            raise sqlite3.NotSupportedError("PRAGMA synchronous = FULL has no effect")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _switch_to_wal(connection: sqlite3.Connection, timeout_s: float) -> None:
    # The busy handler is not asked when two processes switch at once.
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as exc:
            if not is_busy(exc) or time.monotonic() > deadline_s:
                raise
            time.sleep(_RETRY_S)
        else:
            break
    if mode != "wal":
        # No error of SQLite's: it goes on in the mode it can, with other rules for readers, for a
        # commit that failed, and for who holds which lock.
        raise ConfigError(
            NO_SHARED_MEMORY.sentence(
                f"SQLite keeps journal mode {mode!r} instead of WAL: the file system has no "
                "shared memory for it; put the store on a local disk"
            ),
            code=NO_SHARED_MEMORY.id,
        )


def _check_or_create_tables(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if tables == 0:
            for statement in _SCHEMA:
                connection.execute(statement)
        elif application_id != _APPLICATION_ID:
            raise StorageCorrupt(f"cannot open sqlite storage: {path} belongs to another program")
        elif version != _FORMAT:
            raise StorageCorrupt(
                f"cannot open sqlite storage: {path} has format {version}, and this release knows "
                f"only format {_FORMAT}: run the release that wrote it"
            )
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


# --- data ---------------------------------------------------------------------------------------


def get(connection: sqlite3.Connection, path: str) -> bytes | None:
    """Return a value, or None."""
    row = connection.execute("SELECT value FROM entry WHERE path = ?", (path,)).fetchone()
    return None if row is None else row[0]


def get_up_to(connection: sqlite3.Connection, path: str, bytes_max: int) -> bytes | int | None:
    """Return a value, or None; of one that is longer, its length alone, which costs nothing."""
    row = connection.execute(
        "SELECT length(value), CASE WHEN length(value) <= ? THEN value END"
        " FROM entry WHERE path = ?",
        (bytes_max, path),
    ).fetchone()
    if row is None:
        return None
    size, value = row
    found: bytes | int = size if value is None else value
    return found


def get_large(opened: Opened, path: str, pause: Callable[[], None]) -> bytes | None:
    """
    Return a value, or None, piece by piece, over a connection of its own. Blocks.

    While its handle is open a connection sees nothing newer, so no other reader may share it.

    Args:
        opened: makes the connection.
        pause: called before each piece; what it raises ends the reading.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    with opened() as connection:
        connection.execute("BEGIN")  # the row stays what was found
        row = connection.execute("SELECT rowid FROM entry WHERE path = ?", (path,)).fetchone()
        if row is None:
            return None
        value = BytesIO()
        with connection.blobopen("entry", "value", row[0], readonly=True) as blob:
            while True:
                pause()
                piece = blob.read(_PIECE_BYTES)
                if not piece:
                    return value.getvalue()
                value.write(piece)


def list_children(
    connection: sqlite3.Connection, prefix: str, after: str = "", limit: int = -1
) -> Keys:
    """Return the direct children of a prefix, as ``Backend.list_page`` does."""

    def seek(bound: str, prefix: str) -> Iterator[str]:
        return _seek(connection, bound, prefix)

    return children(seek, prefix, after=after, limit=limit)


def _seek(connection: sqlite3.Connection, bound: str, prefix: str) -> Iterator[str]:
    # A cursor that is left open would pin its WAL snapshot, and with it the size of the WAL.
    if prefix:
        cursor = connection.execute(
            "SELECT path FROM entry WHERE path >= ? AND path < ? ORDER BY path",
            (bound, prefix[:-1] + "0"),
        )
    else:
        cursor = connection.execute(
            "SELECT path FROM entry WHERE path >= ? ORDER BY path", (bound,)
        )
    try:
        for row in cursor:
            yield row[0]
    finally:
        cursor.close()


def apply(
    connection: sqlite3.Connection, batch: Batch, boot_id: str, boot_clock: BootClock
) -> None:
    """
    Check a batch's fence and expectations, then write it. Inside the caller's transaction.

    Raises:
        FencedWrite, TransactionConflict: before anything was written.
    """
    if batch.fence is not None:
        lock = read_lock(connection, batch.fence.lock_key, boot_id)
        if not lock_rules.fence_holds(lock, batch.fence, boot_clock()):
            raise FencedWrite
    for path, expected in batch.expected.items():
        if get(connection, path) != expected:
            raise TransactionConflict
    for prefix, names in batch.expected_lists.items():
        if list_children(connection, prefix) != list(names):
            raise TransactionConflict
    for path, value in batch.writes.items():
        if value is None:
            connection.execute("DELETE FROM entry WHERE path = ?", (path,))
        else:
            connection.execute(
                "INSERT INTO entry (path, value) VALUES (?, ?)"
                " ON CONFLICT (path) DO UPDATE SET value = excluded.value",
                (path, value),
            )


# --- the HA lock --------------------------------------------------------------------------------


def read_lock(connection: sqlite3.Connection, key: str, boot_id: str) -> LockRow:
    """Return the lock's row; one of another boot keeps its epoch but is free."""
    row = connection.execute(
        "SELECT identity, value, epoch, expires_at_s, boot_id FROM ha_lock WHERE key = ?", (key,)
    ).fetchone()
    if row is None:
        return lock_rules.FREE
    identity, value, epoch, expires_at_s, row_boot_id = row
    if row_boot_id != boot_id:
        return LockRow(epoch=epoch)
    return LockRow(identity, value, epoch, expires_at_s)


def foreign_holder(connection: sqlite3.Connection, key: str, boot_id: str) -> str:
    """Return who holds the lock according to a row of another boot; "": nobody does."""
    row = connection.execute(
        "SELECT identity FROM ha_lock WHERE key = ? AND boot_id != ?", (key, boot_id)
    ).fetchone()
    return "" if row is None else str(row[0])


def write_lock(connection: sqlite3.Connection, key: str, row: LockRow, boot_id: str) -> None:
    """Store the lock's row. Inside the caller's transaction."""
    connection.execute(
        "INSERT INTO ha_lock (key, identity, value, epoch, expires_at_s, boot_id)"
        " VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (key) DO UPDATE SET identity = excluded.identity, value = excluded.value,"
        " epoch = excluded.epoch, expires_at_s = excluded.expires_at_s,"
        " boot_id = excluded.boot_id",
        (key, row.identity, row.value, row.epoch, row.expires_at_s, boot_id),
    )


def read_boot_id() -> str:
    """
    Return the id of this boot of the machine.

    Without it a lock of before a reboot could look held, and two nodes of which only one can read
    it would each take the other's lock for free. So a hidden one is an error, not a default.

    Raises:
        ConfigError: it cannot be read.

    Source: random(4), /proc/sys/kernel/random/boot_id (Linux).
    """
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError as exc:
        raise ConfigError(
            f"cannot read {BOOT_ID} ({exc.strerror or exc}), which tells a lock of before a reboot "
            "from a current one; a service unit must not hide it (ProcSubset=pid does)"
        ) from exc
