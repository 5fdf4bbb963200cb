"""
Reading the database file in trio's thread.

Rule of this file: nothing here sleeps in the thread. While SQLite says busy the task sleeps, until
the time of the operation is over.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import trio

from baoha.errors import StorageUnavailable
from baoha.storage.sqlite import file as sqlite_file
from baoha.storage.sqlite.companions import Companions, Removed
from baoha.storage.sqlite.connection import FileConnection

T = TypeVar("T")

BUSY_RETRY_S: Final = 0.005


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
