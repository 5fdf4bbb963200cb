"""The -wal and -shm files lose their names: they get them back, and no process misses anything."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from baoha.errors import StorageUnavailable
from baoha.storage.base import Batch
from baoha.storage.sqlite import SqliteBackend, open_backend
from baoha.storage.sqlite import file as sqlite_file
from baoha.storage.sqlite.writer import Writer

BOTH = ("-wal", "-shm")
REMOVED = [("-wal",), ("-shm",), BOTH]
# Other processes: within one, SQLite shares what it has open.
READ = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print([path for (path,) in connection.execute("SELECT path FROM entry ORDER BY path")])
"""
WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("INSERT INTO entry (path, value) VALUES ('foreign', x'00')")
connection.close()
"""
LOOK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("SELECT * FROM entry").fetchall()
print("open", flush=True)
sys.stdin.read()
"""
# A node: what is put is acknowledged, and the process ends without closing anything.
NODE = """
import os, sys, trio
from baoha.storage.sqlite import open_backend
async def main():
    backend = await open_backend({"path": sys.argv[1]})
    print(await backend.list(""))
    for key in sys.argv[2:]:
        await backend.put(key, b"1")
    sys.stdout.flush()
    os._exit(0)
trio.run(main)
"""


async def open_at(folder: Path, **settings: str) -> SqliteBackend:
    return await open_backend({"path": str(folder / "baoha.db"), **settings})


@asynccontextmanager
async def store_at(folder: Path) -> AsyncIterator[SqliteBackend]:
    """Open a store with one acknowledged write, read once."""
    async with aclosing(await open_at(folder)) as backend:
        await backend.put("before", b"1")
        assert await backend.get("before") == b"1"
        yield backend


def run(folder: Path, program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, str(folder / "baoha.db"), *arguments]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=30)
    return done.stdout.strip()


@contextmanager
def looking(folder: Path) -> Iterator[None]:
    """Have another program that has the database open, and writes nothing."""
    command = [sys.executable, "-c", LOOK, str(folder / "baoha.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield
        process.communicate()


def remove(folder: Path, suffixes: tuple[str, ...]) -> None:
    for suffix in suffixes:
        (folder / f"baoha.db{suffix}").unlink()


def move(folder: Path, suffixes: tuple[str, ...]) -> None:
    for suffix in suffixes:
        (folder / f"baoha.db{suffix}").rename(folder / f"aside{suffix}")


def files(folder: Path) -> list[int]:
    return [(folder / f"baoha.db{suffix}").stat().st_ino for suffix in BOTH]


def second_names(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder / "baoha.db.ha") if name.endswith(BOTH)]


@pytest.mark.parametrize("suffixes", REMOVED)
@pytest.mark.parametrize("lose", [remove, move])
@pytest.mark.parametrize("next_use", ["get", "put"])
async def test_names_that_are_lost_lead_to_the_same_files_after_the_next_use(
    next_use: str, lose: object, suffixes: tuple[str, ...], tmp_path: Path
) -> None:
    async with store_at(tmp_path) as backend:
        before = files(tmp_path)
        (remove if lose is remove else move)(tmp_path, suffixes)
        if next_use == "get":
            assert await backend.get("before") == b"1"
            assert run(tmp_path, READ) == "['before']"
        await backend.put("later", b"2")
        assert files(tmp_path) == before
        assert await backend.get("later") == b"2"
        assert run(tmp_path, READ) == "['before', 'later']"


@pytest.mark.parametrize("suffixes", REMOVED)
async def test_node_that_starts_after_the_removal_opens_the_files_of_the_others(
    suffixes: tuple[str, ...], tmp_path: Path
) -> None:
    async with store_at(tmp_path) as backend:
        before = files(tmp_path)
        remove(tmp_path, suffixes)
        assert run(tmp_path, NODE, "others") == "['before']"
        assert files(tmp_path) == before
        assert await backend.list("") == ["before", "others"]


async def test_files_that_are_removed_before_the_end_are_saved_by_it(tmp_path: Path) -> None:
    async with store_at(tmp_path):
        assert len(second_names(tmp_path)) == 2
        remove(tmp_path, BOTH)
    assert second_names(tmp_path) == []
    assert run(tmp_path, READ) == "['before']"


def interfere(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]) -> None:
    """Have something done in the transaction of each batch, before its commit."""
    apply = sqlite_file.apply

    def apply_and_interfere(connection: sqlite3.Connection, batch: Batch, **known: Any) -> None:
        apply(connection, batch, **known)
        meanwhile()

    monkeypatch.setattr(sqlite_file, "apply", apply_and_interfere)


async def test_files_that_are_removed_inside_a_transaction_are_back_when_it_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removals: list[None] = []
    async with store_at(tmp_path) as backend:
        before = files(tmp_path)
        interfere(monkeypatch, lambda: removals.append(remove(tmp_path, BOTH)))
        await backend.put("key", b"")
        assert len(removals) == 1
        assert files(tmp_path) == before


@pytest.mark.parametrize("suffixes", REMOVED)
async def test_second_names_that_are_removed_are_made_anew(
    suffixes: tuple[str, ...], tmp_path: Path
) -> None:
    async with store_at(tmp_path) as backend:
        before = files(tmp_path)
        shutil.rmtree(tmp_path / "baoha.db.ha")
        await trio.sleep(1.1)
        await backend.put("later", b"2")
        remove(tmp_path, suffixes)
        await backend.put("last", b"3")
        assert files(tmp_path) == before


# --- nobody has them open ---------------------------------------------------------------------


@pytest.mark.parametrize("suffixes", REMOVED)
async def test_commits_of_killed_nodes_whose_files_are_removed_are_found(
    suffixes: tuple[str, ...], tmp_path: Path
) -> None:
    run(tmp_path, NODE, "a", "b")
    remove(tmp_path, suffixes)
    async with aclosing(await open_at(tmp_path)) as backend:
        assert await backend.list("") == ["a", "b"]
        assert await backend.list("") == ["a", "b"]
    assert second_names(tmp_path) == []


async def test_left_overs_of_killed_nodes_are_not_put_over_a_database_that_moved_on(
    tmp_path: Path,
) -> None:
    run(tmp_path, NODE, "a")
    # This one closes the database as the last, and knows nothing of second names.
    run(tmp_path, WRITE)
    assert len(second_names(tmp_path)) == 2
    async with aclosing(await open_at(tmp_path)) as backend:
        assert await backend.list("") == ["a", "foreign"]


@pytest.mark.parametrize("same_file", [True, False])
async def test_left_overs_of_killed_nodes_are_not_put_beside_a_backup(
    same_file: bool, tmp_path: Path
) -> None:
    async with store_at(tmp_path):
        pass
    database, backup = tmp_path / "baoha.db", tmp_path / "backup.db"
    shutil.copy2(database, backup)
    run(tmp_path, NODE, *(f"a{number}" for number in range(50)))
    remove(tmp_path, BOTH)
    if same_file:
        shutil.copy2(backup, database)
    else:
        os.replace(backup, database)
    async with aclosing(await open_at(tmp_path)) as backend:
        assert await backend.list("") == ["before"]
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# --- something else took a name ---------------------------------------------------------------


async def test_empty_files_that_took_the_names_give_way(tmp_path: Path) -> None:
    async with store_at(tmp_path) as backend:
        before = files(tmp_path)
        remove(tmp_path, BOTH)
        with looking(tmp_path):
            assert files(tmp_path) != before
            # They are in use: it may be about to write.
            with pytest.raises(StorageUnavailable, match="SIGTERM"):
                await backend.put("refused", b"")
        await backend.put("later", b"2")
        assert files(tmp_path) == before
        assert run(tmp_path, READ) == "['before', 'later']"


async def test_other_commits_under_the_names_end_all_use_and_an_orderly_end_saves_ours(
    tmp_path: Path,
) -> None:
    async with store_at(tmp_path) as backend:
        remove(tmp_path, BOTH)
        run(tmp_path, WRITE)
        with pytest.raises(StorageUnavailable, match="SIGTERM") as caught:
            await backend.put("refused", b"")
        assert caught.value.outcome == "not_applied"
        with pytest.raises(StorageUnavailable, match="SIGTERM"):
            await backend.get("before")
        with pytest.raises(StorageUnavailable, match="SIGTERM"):
            await open_at(tmp_path)
    async with aclosing(await open_at(tmp_path)) as backend:
        assert await backend.list("") == ["before"]


async def test_write_whose_files_were_replaced_before_its_commit_is_of_unknown_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace() -> None:
        remove(tmp_path, BOTH)
        (tmp_path / "baoha.db-wal").write_bytes(bytes(100))

    async with store_at(tmp_path) as backend:
        interfere(monkeypatch, replace)
        with pytest.raises(StorageUnavailable, match="SIGTERM") as caught:
            await backend.put("key", b"")
        assert caught.value.outcome == "unknown"


@pytest.mark.parametrize("suffixes", REMOVED)
async def test_removal_without_second_names_is_refused_and_an_orderly_end_saves_all(
    suffixes: tuple[str, ...], tmp_path: Path
) -> None:
    """As on a file system that has no hard links."""
    path = tmp_path / "baoha.db"
    sqlite_file.create(path, 1)

    def insert(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO entry (path, value) VALUES ('before', x'00')")

    async with aclosing(Writer(path, busy_timeout_s=1, op_timeout_s=5)) as writer:
        await writer.submit(insert)
        remove(tmp_path, suffixes)
        with pytest.raises(StorageUnavailable, match="no second name"):
            await writer.submit(insert)
    assert run(tmp_path, READ) == "['before']"
