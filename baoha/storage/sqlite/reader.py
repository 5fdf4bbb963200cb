"""
Connections to the database file that are kept open, and the one that reads in trio's thread.

Rules of this file:

1. A file that was removed, moved away or replaced while we have it open is neither answered from
   nor written to any more; it would swallow acknowledged writes. Nobody opens it again.
2. Reading never sleeps in the thread. While SQLite says busy the task sleeps, until the time of the
   operation is over.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import trio

from baoha.errors import StorageUnavailable
from baoha.storage.sqlite import file as sqlite_file
from baoha.storage.sqlite.companions import Companions, Removed

T = TypeVar("T")

BUSY_RETRY_S: Final = 0.005


class FileConnection:
    """
    The connection of one thread, opened when it is needed.

    Args:
        open_file: opens one; raises as ``Companions.open``.

    Attributes:
        held: what is open now, whatever has become of its file; None: nothing.

    Owns: the connection, until ``drop``.
    """

    def __init__(
        self, path: Path, companions: Companions, open_file: Callable[[], sqlite3.Connection]
    ) -> None:
        self.held: sqlite3.Connection | None = None
        self._path = path
        self._companions = companions
        self._open_file = open_file
        self._inode: tuple[int, int] | None = None

    def get(self) -> sqlite3.Connection:
        """
        Return a connection to the file that has the name now.

        Raises:
            OSError: there is none.
            sqlite3.Error, StorageUnavailable: it cannot be opened.
        """
        status = os.stat(self._path)
        inode = (status.st_dev, status.st_ino)
        if inode != self._inode:
            self.drop()
        if self.held is None:
            self.held = self._open_file()
            self._inode = inode
        return self.held

    def drop(self) -> None:
        """Close what is open; the next ``get`` opens anew."""
        connection, self.held = self.held, None
        if connection is not None:
            self._companions.close(connection)


class Reader:
    """
    Runs queries on the one reading connection.

    Attributes:
        op_timeout_s: how long a query waits for others.
        is_closed: nothing is read any more.

    Owns: the connection, until ``close``.
    """

    def __init__(self, path: Path, companions: Companions, *, op_timeout_s: float) -> None:
        self.op_timeout_s = op_timeout_s
        self.is_closed = False
        self._companions = companions
        # No busy handler: it would sleep in trio's thread.
        self._file = FileConnection(path, companions, partial(companions.open, 0.0))

    async def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """
        Run a query here and now; wait, asleep, while SQLite says busy.

        Raises:
            StorageUnavailable: the store is closed, or cannot be read in time.
            StorageCorrupt: the file is damaged.
        """
        await trio.lowlevel.checkpoint()
        deadline = trio.current_time() + self.op_timeout_s
        while True:
            self.require_open()
            try:
                connection = self._file.get()
                self._companions.ensure()
                return query(connection)
            except Removed as exc:
                if trio.current_time() >= deadline:
                    raise StorageUnavailable(f"cannot read sqlite storage: {exc}") from exc
            except OSError as exc:
                self._file.drop()
                raise StorageUnavailable(f"cannot read sqlite storage: {exc.strerror}") from exc
            except sqlite3.Error as exc:
                if sqlite_file.must_reopen(exc):
                    self._file.drop()
                if not sqlite_file.is_busy(exc) or trio.current_time() >= deadline:
                    raise sqlite_file.map_error(exc, "read") from exc
            await trio.sleep(BUSY_RETRY_S)

    def require_open(self) -> None:
        """
        Refuse to go on once the store is closed.

        Raises:
            StorageUnavailable: it is.
        """
        if self.is_closed:
            raise StorageUnavailable("cannot use sqlite storage: the store is closed")

    def close(self) -> None:
        """Let go of the file. Safe to call twice."""
        self.is_closed = True
        self._file.drop()
