"""
The store in one SQLite file, shared by the nodes of a host or of a file system with locks.

Read `backend` first; `writer` is its one way to write, `lock` and `presence` make it an HA store.
"""

from __future__ import annotations

from baoha.storage.sqlite.backend import STORE, SqliteBackend, open_backend

__all__ = [
    "STORE",
    "SqliteBackend",
    "open_backend",
]
