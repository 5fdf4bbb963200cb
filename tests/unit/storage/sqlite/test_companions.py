"""The -wal and -shm files are removed from a store in use: another process misses nothing."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from baoha.errors import StorageUnavailable
from baoha.storage.sqlite import SqliteBackend, open_backend

# Another process: within one, SQLite shares what it has open.
READ = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print([path for (path,) in connection.execute("SELECT path FROM entry ORDER BY path")])
"""
BOTH = ("-wal", "-shm")
REMOVED = [("-wal",), ("-shm",), BOTH]


async def open_at(folder: Path, **settings: str) -> SqliteBackend:
    return await open_backend({"path": str(folder / "baoha.db"), **settings})


def remove(folder: Path, suffixes: tuple[str, ...]) -> None:
    for suffix in suffixes:
        (folder / f"baoha.db{suffix}").unlink()


def seen_by_another(folder: Path) -> str:
    command = [sys.executable, "-c", READ, str(folder / "baoha.db")]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=30)
    return done.stdout.strip()


@pytest.mark.parametrize("suffixes", REMOVED)
@pytest.mark.parametrize("next_use", ["get", "put"])
async def test_files_beside_the_database_are_made_anew_and_nothing_is_lost(
    next_use: str, suffixes: tuple[str, ...], tmp_path: Path
) -> None:
    async with aclosing(await open_at(tmp_path)) as backend:
        await backend.put("before", b"1")
        assert await backend.get("before") == b"1"
        remove(tmp_path, suffixes)
        if next_use == "get":
            assert await backend.get("before") == b"1"
            assert seen_by_another(tmp_path) == "['before']"
        await backend.put("later", b"2")
        assert await backend.get("later") == b"2"
        assert seen_by_another(tmp_path) == "['before', 'later']"


async def test_files_that_are_removed_before_the_end_are_saved_by_it(tmp_path: Path) -> None:
    async with aclosing(await open_at(tmp_path)) as backend:
        await backend.put("before", b"1")
        remove(tmp_path, BOTH)
    assert seen_by_another(tmp_path) == "['before']"


async def test_rescue_waits_for_a_transaction_that_others_have_begun(tmp_path: Path) -> None:
    path = tmp_path / "baoha.db"
    async with aclosing(await open_at(tmp_path, busy_timeout="10ms")) as backend:
        await backend.put("before", b"1")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            remove(tmp_path, BOTH)
            with pytest.raises(StorageUnavailable, match="removed"):
                await backend.put("refused", b"")
            with pytest.raises(StorageUnavailable, match="removed"):
                await backend.get("before")
            other.execute("ROLLBACK")
        assert await backend.get("before") == b"1"
        await backend.put("later", b"2")
        assert seen_by_another(tmp_path) == "['before', 'later']"
