"""
A connection to the database file that is kept open as long as it leads to that file.

Rule of this file: a file that was removed, moved away or replaced while we have it open is neither
answered from nor written to any more; it would swallow acknowledged writes. Nobody opens it again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from baoha.storage.sqlite.companions import Companions


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
