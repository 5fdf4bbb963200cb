"""
The files beside the database, ``-wal`` and ``-shm``: who removes their names removes no file.

Rules of this file:

1. Whoever writes has second names for the files that it writes to, in the ``<db>.ha`` folder. So a
   name that is gone is put back with the same file, and all processes go on with the same ones.
2. Put back is only what a connection has open, or what holds commits that the database has not.
   A connection keeps SQLite's last close, which removes the names, from happening meanwhile.
3. A file that took a name meanwhile gives way only where it holds no commit and nobody has it
   open. Two histories are never merged: nothing is acknowledged, and the text says what to do.
4. A ``-shm`` file is opened here only while this process has it open nowhere, and no thread of it
   opens a database: closing a descriptor gives up all POSIX locks that the process has on the file,
   SQLite's own included.

Theory of operation. SQLite opens both files by name, and does not look at the names again. A
process that opens the store after their removal makes new ones and misses what is in the old ones.
So the names are looked at before a connection is opened, before it is used for the first time, at
every use, inside each transaction, and after its COMMIT before anybody is told. A connection that
has opened other files than the rest is closed again, unused. Every connection has a shared lock on
one byte of the ``-shm`` file ("dead man's switch"), which tells files in use from left-overs. Of
left-overs only a WAL that is younger than the last change of the database can hold more than it.

Source: ours; https://www.sqlite.org/howtocorrupt.html ("unlinking or renaming a database file while
in use"); SQLite's os_unix.c (UNIX_SHM_DMS) and wal.c (sqlite3WalClose).
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import sqlite3
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from baoha.errors import StorageUnavailable
from baoha.storage.sqlite import file as sqlite_file
from baoha.storage.sqlite.presence import PresenceFolder

log: Final = logging.getLogger("baoha.storage")

_SUFFIXES: Final = ("-wal", "-shm")
_WAL_HEADER: Final = 32  # bytes; a file that is no longer has no frame, so no commit
_DEAD_MANS_SWITCH: Final = 128  # UNIX_SHM_DMS, a byte of the -shm file
_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock of fcntl(2)
_OWN_FILES: Final = "/proc/self/fd"
# Whoever opened the wrong file in this moment closes it within milliseconds.
_TRIES: Final = 40
_RETRY_S: Final = 0.005
# The second names are looked at no more often than this; the names at every use.
_SECOND_NAMES_S: Final = 1.0
_REMEDY: Final = (
    "nothing is acknowledged until then: stop all nodes in an orderly way (SIGTERM, not SIGKILL), "
    "so that the last one moves its commits into the database, and start them again"
)

_Identity = tuple[int, int]
_Pair = tuple[_Identity | None, _Identity | None]  # of -wal and -shm
_OwnFile = tuple[str, int, _Identity]  # suffix, descriptor, file
_NONE: Final[_Pair] = (None, None)
# Of the process: whoever opens a database, or a file of shared memory to look at its lock.
_opening: Final = threading.RLock()


class Removed(StorageUnavailable):
    """The files under the names are not those in use, or that cannot be told; try again soon."""


class Companions:
    """
    The companions of a database, and the connections of one store to it.

    Args:
        path: the database.
        folder: where the second names are; None: there are none, removal is noticed only.

    Threads: any, at the same time.
    """

    def __init__(self, path: Path, folder: PresenceFolder | None) -> None:
        self._database = path
        # As SQLite names them: beside the file that a symbolic link leads to.
        self._path = os.path.realpath(path)
        self._folder = folder
        self._lock = threading.Lock()
        self._connections = 0
        self._opened: _Pair = _NONE
        self._stem = ""  # of the second names: they belong to one database file
        self._look_again_at = 0.0

    # --- connections ----------------------------------------------------------------------------

    def open(self, busy_timeout_s: float) -> sqlite3.Connection:
        """
        Open a connection with the files that everybody has.

        Raises:
            Removed: it did not get them; it may the next time.
            sqlite3.Error, OSError: it cannot be opened.

        Owns: the caller closes it with ``close``.
        """
        with _exclusively_opening():
            return self._open(busy_timeout_s)

    def _open(self, busy_timeout_s: float) -> sqlite3.Connection:
        with self._lock:
            self._stem = f"{os.stat(self._path).st_ino:x}"
            self._prepare()
        before = self._own_files()
        try:
            connection = sqlite_file.connect(self._database, busy_timeout_s)
        except sqlite3.Error as exc:
            if self._second() not in (_NONE, self._names()):
                raise Removed(str(exc)) from exc
            raise
        try:
            with self._lock:
                if after := self._own_files():  # a new database has no WAL yet
                    self._adopt(_pair(before, after))
                self._connections += 1
        except BaseException:
            connection.close()
            raise
        return connection

    def open_patiently(self, busy_timeout_s: float) -> sqlite3.Connection:
        """Do what ``open`` does, and try again for a while, asleep. For a thread of its own."""
        for _ in range(_TRIES):
            with suppress(Removed):
                return self.open(busy_timeout_s)
            time.sleep(_RETRY_S)
        return self.open(busy_timeout_s)

    @contextmanager
    def opened(self, busy_timeout_s: float) -> Iterator[sqlite3.Connection]:
        """Do what ``open_patiently`` does, for a ``with`` block."""
        connection = self.open_patiently(busy_timeout_s)
        try:
            yield connection
        finally:
            self.close(connection)

    def close(self, connection: sqlite3.Connection) -> None:
        """Close a connection; left-overs of the last one of all processes are removed."""
        with self._lock:
            # First: SQLite may remove the names now, and they must stay removed.
            self._connections -= 1
            is_last = not self._connections
            if is_last:
                self._opened = _NONE
        connection.close()
        if is_last:
            self._tidy()

    # --- the names ------------------------------------------------------------------------------

    def ensure(self) -> None:
        """
        Look whether the names lead to the files that are open; put them back where they do not.

        Raises:
            Removed: they cannot be put back, now or at all.
        """
        with self._lock:
            if self._opened == _NONE:
                return  # no connection, or of a database that has no WAL yet
            if self._names() != self._opened:
                self._put_back(self._opened)
            if time.monotonic() >= self._look_again_at:
                self._keep()

    def ensure_patiently(self) -> None:
        """Do what ``ensure`` does, and try again for a while, asleep. For a thread of its own."""
        for _ in range(_TRIES):
            with suppress(Removed):
                return self.ensure()
            time.sleep(_RETRY_S)
        return self.ensure()

    def _prepare(self) -> None:
        """Make the names lead to the files that others have open, before they are opened."""
        second, names = self._second(), self._names()
        if second in (_NONE, names):
            return
        wal, shm = second
        if self._is_open(self._second_name("-shm"), in_folder=True) or (
            shm is None and self._is_open(f"{self._path}-shm")
        ):
            self._put_back(second)
            return
        if wal is not None and wal != names[0] and not self._is_left_over():
            # All processes ended before one of them could put it back.
            if not self._gives_way("-wal"):
                raise Removed(
                    f"there are two -wal files with commits, {self._path}-wal and "
                    f"{self._second_path('-wal')}, and no node has either open: move one of them "
                    "away; the second is the nodes' own, to be copied to the first's name"
                )
            self._link("-wal", wal)
            log.error("put back the -wal file of the sqlite store: path=%s", self._database)
        elif wal != names[0]:
            self._forget("-wal", wal)
        # Nobody has it open: it would be made anew by whoever opens it.
        self._forget("-shm", shm)

    def _adopt(self, ours: _Pair) -> None:
        """Accept what a new connection has opened, if it is what everybody has."""
        if self._opened not in (_NONE, ours):
            raise Removed("its -wal or -shm file was removed while it was opened")
        if None in ours or ours != self._names():
            if None in ours or ours != self._second():
                raise Removed("its -wal or -shm file was removed while it was opened")
            self._put_back(ours)
        self._opened = ours
        try:
            self._keep()
            if ours != self._names():
                raise Removed("its -wal or -shm file was removed while it was opened")
        except BaseException:
            if not self._connections:
                self._opened = _NONE
            raise

    def _keep(self) -> None:
        """See to the second names of what is open; without them removal is noticed only."""
        if self._folder is None:
            return
        if self._second() != self._opened:
            self._folder.ensure()
            for suffix, file in zip(_SUFFIXES, self._opened, strict=True):
                self._keep_one(suffix, file)
        self._look_again_at = time.monotonic() + _SECOND_NAMES_S

    def _keep_one(self, suffix: str, file: _Identity | None) -> None:
        assert self._folder is not None
        second = self._second_name(suffix)
        with suppress(OSError):  # it is there, or there can be none
            # Never over one that is there: of two processes with other files one must give way.
            os.link(f"{self._path}{suffix}", second, dst_dir_fd=self._folder.fd)
        found = _identity(second, self._folder.fd)
        if found not in (None, file):
            raise Removed(
                f"its {suffix} file is another one than other nodes have open ({_REMEDY})"
            )

    def _put_back(self, files: _Pair) -> None:
        """Give files their names again. The caller or another process has them open."""
        if f"{os.stat(self._path).st_ino:x}" != self._stem:
            raise Removed("the database was replaced while it was in use")
        for suffix, file in zip(_SUFFIXES, files, strict=True):
            name = f"{self._path}{suffix}"
            if file is None or _identity(name) == file:
                continue
            if (
                self._folder is None
                or _identity(self._second_name(suffix), self._folder.fd) != file
            ):
                raise Removed(
                    f"its {suffix} file was removed or replaced while it was in use, and there is "
                    f"no second name to put it back from; {_REMEDY}"
                )
            if not self._gives_way(suffix):
                raise Removed(
                    f"its {suffix} file was replaced while it was in use, and the new one is in "
                    f"use or holds commits; {_REMEDY}"
                )
            self._link(suffix, file)
            log.error(
                "the %s file of the sqlite store was removed while it was in use, and was put "
                "back; leave these files alone: path=%s",
                suffix,
                self._database,
            )

    def _gives_way(self, suffix: str) -> bool:
        """Return whether what has the name, if anything has, is empty and in nobody's use."""
        if _identity(f"{self._path}{suffix}") is None:
            return True
        try:
            if suffix == "-wal" and os.stat(f"{self._path}-wal").st_size > _WAL_HEADER:
                return False
        except FileNotFoundError:
            return True
        shm = _identity(f"{self._path}-shm")
        # One that everybody has says nothing about who has the other file.
        return shm in (None, self._second()[1]) or not self._is_open(f"{self._path}-shm")

    def _link(self, suffix: str, file: _Identity) -> None:
        """Put a name back, over whatever gives way."""
        assert self._folder is not None
        name, second, folder = f"{self._path}{suffix}", self._second_name(suffix), self._folder.fd
        try:
            if _identity(name) is None:
                # Fails where another one was made meanwhile.
                os.link(second, name, src_dir_fd=folder)
            else:
                spare = f"{second}.{secrets.token_hex(4)}"
                os.link(second, spare, src_dir_fd=folder, dst_dir_fd=folder)
                try:
                    os.rename(spare, name, src_dir_fd=folder)
                finally:
                    self._folder.remove(spare)  # still there where both were the same file
        except OSError as exc:
            if _identity(name) != file:
                raise Removed(
                    f"its {suffix} file cannot be put back ({exc.strerror}); {_REMEDY}"
                ) from exc

    # --- left-overs -----------------------------------------------------------------------------

    def _tidy(self) -> None:
        """Remove the second names when SQLite's last close has removed the names."""
        with self._lock, suppress(OSError, Removed):
            second = self._second()
            if self._connections or second == _NONE or self._names() != _NONE:
                return
            if self._is_open(self._second_name("-shm"), in_folder=True):
                return
            if self._is_left_over(closing=True):
                for suffix, file in zip(_SUFFIXES, second, strict=True):
                    self._forget(suffix, file)

    def _is_left_over(self, *, closing: bool = False) -> bool:
        """Return whether the database changed after the last commit in a WAL that nobody holds."""
        assert self._folder is not None
        try:
            wal = os.stat(self._second_name("-wal"), dir_fd=self._folder.fd)
        except FileNotFoundError:
            return True
        # The change, not the modification: a copy that was put in its place counts, too.
        changed_ns = os.stat(self._path).st_ctime_ns
        if wal.st_size <= _WAL_HEADER or changed_ns > wal.st_mtime_ns:
            return True
        # The kernel's ticks are long; who has just closed it knows the order of both.
        return closing and changed_ns == wal.st_mtime_ns

    def _forget(self, suffix: str, file: _Identity | None) -> None:
        """Remove a second name, if it is still the same file's."""
        assert self._folder is not None
        second = self._second_name(suffix)
        if file is not None and _identity(second, self._folder.fd) == file:
            self._folder.remove(second)

    # --- what is there --------------------------------------------------------------------------

    def _own_files(self) -> set[_OwnFile]:
        """Return all companions that this process has open, whatever their names are now."""
        by_file = {
            file: suffix
            for pair in (self._names(), self._second(), self._opened)
            for suffix, file in zip(_SUFFIXES, pair, strict=True)
        }
        by_name = {f"{self._path}{suffix}": suffix for suffix in _SUFFIXES}
        found = set()
        for number in os.listdir(_OWN_FILES):
            fd = int(number)
            try:
                target = os.readlink(f"{_OWN_FILES}/{number}").removesuffix(" (deleted)")
                status = os.fstat(fd)
            except OSError:
                continue  # closed meanwhile
            file = status.st_dev, status.st_ino
            suffix = by_file.get(file) or by_name.get(target)
            if suffix is not None:
                found.add((suffix, fd, file))
        return found

    def _names(self) -> _Pair:
        wal, shm = _identities((f"{self._path}-wal", f"{self._path}-shm"))
        return wal, shm

    def _second(self) -> _Pair:
        if self._folder is None:
            return _NONE
        wal, shm = _identities(map(self._second_name, _SUFFIXES), self._folder.fd)
        return wal, shm

    def _second_name(self, suffix: str) -> str:
        return f"{self._stem}{suffix}"

    def _second_path(self, suffix: str) -> Path:
        assert self._folder is not None
        return self._folder.path / self._second_name(suffix)

    def _is_open(self, shm: str, *, in_folder: bool = False) -> bool:
        """Return whether any connection, of any process, has a ``-shm`` file open."""
        folder = self._folder.fd if in_folder and self._folder is not None else None
        file = _identity(shm, folder)
        if file is None:
            return False
        with _exclusively_opening():
            if file in _files(self._own_files(), "-shm"):
                return True
            try:
                fd = os.open(shm, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)
            except FileNotFoundError as exc:
                raise Removed("its -shm file was removed in this moment") from exc
            try:
                asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _DEAD_MANS_SWITCH, 1, 0)
                (kind, *_) = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
            finally:
                os.close(fd)
        return bool(kind != fcntl.F_UNLCK)


@contextmanager
def _exclusively_opening() -> Iterator[None]:
    # Without waiting: the other thread may be waiting for other processes, and one of us is trio's.
    if not _opening.acquire(blocking=False):
        raise Removed("another thread is opening the database")
    try:
        yield
    finally:
        _opening.release()


def _identity(name: str, folder: int | None = None) -> _Identity | None:
    return _identities((name,), folder)[0]


def _identities(names: Iterable[str], folder: int | None = None) -> list[_Identity | None]:
    found: list[_Identity | None] = []
    for name in names:
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_dev, status.st_ino))
    return found


def _pair(before: set[_OwnFile], after: set[_OwnFile]) -> _Pair:
    """
    Return what a connection has opened between two looks; None: not to be told.

    It has a descriptor of its own on the WAL, and shares the shared memory with its process.
    """
    wals = _files(after - before, "-wal") or _files(after, "-wal")
    shms = _files(after, "-shm")
    return (
        wals.pop() if len(wals) == 1 else None,
        shms.pop() if len(shms) == 1 else None,
    )


def _files(found: set[_OwnFile], wanted: str) -> set[_Identity]:
    return {file for suffix, _, file in found if suffix == wanted}
