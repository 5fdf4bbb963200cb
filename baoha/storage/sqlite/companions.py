"""
The files beside the database, ``-wal`` and ``-shm``: a part of it, and not of its name.

Rules of this file:

1. Nobody reads or writes through files that have lost their names: another process would open new
   ones, and see neither the commits nor the locks of the old ones.
2. Before new ones are opened, everything that was committed is moved into the database, while the
   locks of the old ones are held; and every connection of this process is closed.
3. They belong together: where one was removed, the other one loses its name as well.

Theory of operation. A commit goes into the WAL, and its writers take turns by locks in the shared
memory. Whoever removes both from a running store (they look like left-overs) leaves them open and
nameless: all goes on as if nothing had happened, until a process opens the store anew and finds
an empty WAL, and the commits since the last checkpoint are lost. SQLite does not notice. So it is
looked whether the names still lead to the files that were opened: at every use, and once more
inside each transaction, so that a rescue by another process has waited for it.

Source: ours; https://www.sqlite.org/howtocorrupt.html ("unlinking or renaming a database file while
in use"); https://www.sqlite.org/pragma.html#pragma_wal_checkpoint.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from baoha.errors import StorageUnavailable

_SUFFIXES = ("-wal", "-shm")
_Identity = tuple[int, int]


class Companions:
    """
    The companions that the connections of this process were opened with.

    Args:
        path: the database.

    Attributes:
        reader: the reading connection of this process, if it has one.
    """

    def __init__(self, path: Path) -> None:
        self.reader: sqlite3.Connection | None = None
        # As SQLite names them: beside the file that a symbolic link leads to.
        self._path = os.path.realpath(path)
        self._opened: list[_Identity] = []

    def note(self) -> None:
        """Remember what has the names now: a connection has just used it."""
        if not self._opened:
            self._opened = [found for found in self._look() if found is not None]
            if len(self._opened) != len(_SUFFIXES):
                self._opened = []  # not all is there yet

    def are_removed(self) -> bool:
        """Say whether the names lead to other files than those that were opened, or nowhere."""
        return bool(self._opened) and self._look() != self._opened

    def rescue(self, connection: sqlite3.Connection | None) -> None:
        """
        Move what was committed into the database, and remove the names that are left.

        Args:
            connection: the writing one; None: there is none, and the reading one does it.

        Raises:
            StorageUnavailable: another process is in the middle of a transaction.
            sqlite3.Error, OSError: it cannot be done.
        """
        connection = connection or self.reader
        if connection is None:
            return
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StorageUnavailable(
                "its -wal or -shm file was removed, and another process is in the middle of a "
                "transaction"
            )
        # Never those that another process has made since.
        for suffix, opened in zip(_SUFFIXES, self._opened, strict=True):
            if _identity(name := f"{self._path}{suffix}") == opened:
                os.unlink(name)

    def drop_reader(self) -> None:
        """Close the reading connection. For trio's thread."""
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.close()

    def forget(self) -> None:
        """Remember nothing: every connection of this process is closed."""
        self._opened = []

    def _look(self) -> list[_Identity | None]:
        return [_identity(f"{self._path}{suffix}") for suffix in _SUFFIXES]


def _identity(name: str) -> _Identity | None:
    try:
        status = os.stat(name)
    except OSError:
        return None
    return status.st_dev, status.st_ino
