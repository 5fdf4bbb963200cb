"""A full disk stops writes, never reads or the HA lock: the space that is kept for it."""

from __future__ import annotations

import logging
import os
import resource
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    closing,
    contextmanager,
    suppress,
)
from pathlib import Path

import pytest
import trio

from baoha import names
from baoha.errors import StorageUnavailable
from baoha.storage.base import Fence
from baoha.storage.sqlite import SqliteBackend, open_backend
from baoha.storage.sqlite import file as sqlite_file
from baoha.storage.sqlite import reserve as sqlite_reserve
from baoha.storage.sqlite.lock import SqliteLock
from baoha.storage.sqlite.presence import PresenceFolder
from baoha.storage.sqlite.reserve import HEADROOM, SIZE, Reserve
from baoha.storage.sqlite.writer import Writer
from tests.support.channel import wait_until
from tests.support.small_disk import fill_disk, free_bytes, small_disk

TTL_S = 60.0
ADVERTISEMENT = f"{names.LEADER_PREFIX}uuid"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as folder:
        yield folder


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[SqliteBackend]:
    async with aclosing(await open_backend({"path": str(folder / "data.db")})) as backend:
        yield backend


async def acquired(lock: SqliteLock) -> Fence:
    fence = await lock.acquire("v", ttl_s=TTL_S)
    assert fence is not None
    return fence


async def fill_with_secrets(backend: SqliteBackend, fence: Fence, *, size: int) -> int:
    """Write until the store refuses; return how many were acknowledged."""
    count = 0
    with pytest.raises(StorageUnavailable, match="disk is full") as caught:
        while True:
            await backend.put(f"secret/{size}/{count}", os.urandom(size), fence=fence)
            count += 1
    assert caught.value.outcome == "not_applied"
    return count


def reserve_of(folder: Path) -> Path:
    return folder / "data.db.ha" / sqlite_reserve.NAME


@pytest.mark.parametrize("size", [2_000, 300_000])
async def test_disk_filled_with_secrets_keeps_reads_and_renewals(size: int, disk: Path) -> None:
    async with opened(disk) as backend:
        lock = await backend.open_lock("core/lock", "node")
        fence = await acquired(lock)
        written = await fill_with_secrets(backend, fence, size=size)
        assert written > 0
        for round_ in range(2_000):
            await lock.renew(fence, ttl_s=TTL_S)
            if round_ % 100 == 0:
                # What a tenant goes on trying takes nothing from the lock.
                with suppress(StorageUnavailable):
                    await backend.put("more", os.urandom(size), fence=fence)
                assert len(await backend.get(f"secret/{size}/0") or b"") == size


async def test_disk_filled_by_another_program_is_said_and_left_to_the_lock(
    disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "baoha.storage")
    async with opened(disk) as backend, opened(disk) as other_store, AsyncExitStack() as reader:
        lock = await backend.open_lock("core/lock", "node")
        fence = await acquired(lock)
        await backend.put("key", b"1", fence=fence)
        # A backup that takes long: while it reads, the WAL cannot begin anew.
        long_read = reader.enter_context(closing(sqlite3.connect(disk / "data.db")))
        long_read.execute("BEGIN")
        long_read.execute("SELECT * FROM entry").fetchone()
        assert reserve_of(disk).stat().st_size == SIZE
        filler = fill_disk(disk)
        await fill_with_secrets(backend, fence, size=100_000)
        for _ in range(20):
            await lock.renew(fence, ttl_s=TTL_S)
        assert not reserve_of(disk).exists()
        (problem,) = lock.problems()
        assert problem.startswith("BH-922 the disk of the sqlite store is full")
        before = free_bytes(disk)
        for _ in range(50):
            with pytest.raises(StorageUnavailable, match="BH-922"):
                await backend.put("more", bytes(100_000), fence=fence)
        assert free_bytes(disk) == before
        # Another node takes over: its lock and its advertisement land, its data does not.
        other = await other_store.open_lock("core/lock", "other")
        await lock.release(fence, successor="other", ttl_s=TTL_S)
        fence = await acquired(other)
        await other_store.put(ADVERTISEMENT, b"here", fence=fence)
        with pytest.raises(StorageUnavailable, match="BH-922"):
            await other_store.put("key", b"2", fence=fence)
        assert await other_store.get("key") == b"1"
        assert other.problems() == [problem]
        filler.unlink()
        await other_store.put("key", b"2", fence=fence)
        assert other.problems() == []
        # The former holder has nothing to write, and notices all the same.
        with trio.fail_after(20):
            await wait_until(lambda: not lock.problems())
        assert reserve_of(disk).stat().st_size == SIZE
    told = [record.getMessage() for record in caplog.records]
    assert sum("BH-922" in text for text in told) == 2  # once for each of the two stores
    assert sum("has space again" in text for text in told) == 2


async def test_store_that_is_opened_on_a_full_disk_reads_and_holds_the_lock(disk: Path) -> None:
    async with opened(disk) as backend:
        lock = await backend.open_lock("core/lock", "former")
        fence = await acquired(lock)
        await backend.put("key", b"1", fence=fence)
        await lock.release(fence)
    reserve_of(disk).unlink()
    # What a node makes when it starts is small, and not in the reserve.
    fill_disk(disk, leave=200_000)
    async with opened(disk) as backend:
        lock = await backend.open_lock("core/lock", "node")
        fence = await acquired(lock)
        assert await backend.get("key") == b"1"
        assert lock.problems()[0].startswith("BH-922")
        with pytest.raises(StorageUnavailable, match="BH-922"):
            await backend.put("key", b"2", fence=fence)


@pytest.mark.parametrize("leave", [0, 20_000, 45_000])
async def test_store_whose_last_process_has_ended_is_opened_on_a_full_disk(
    leave: int, disk: Path
) -> None:
    """The files of the WAL went with the last process, and have to be made again."""
    async with opened(disk) as backend:
        lock = await backend.open_lock("core/lock", "former")
        fence = await acquired(lock)
        await backend.put("key", b"1", fence=fence)
        await lock.release(fence)
    assert not (disk / "data.db-wal").exists()
    fill_disk(disk, leave=leave)
    async with opened(disk) as backend:
        assert await backend.get("key") == b"1"
        lock = await backend.open_lock("core/lock", "node")
        fence = await acquired(lock)
        for _ in range(100):
            await lock.renew(fence, ttl_s=TTL_S)
        assert await backend.get("key") == b"1"


async def test_disk_without_inodes_keeps_everything_that_runs(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", options="size=40m,nr_inodes=40") as disk:
        async with opened(disk) as backend, opened(disk) as other_store:
            lock = await backend.open_lock("core/lock", "node")
            other = await other_store.open_lock("core/lock", "other")
            fence = await acquired(lock)
            with pytest.raises(OSError, match="No space"):
                for index in range(100):
                    (disk / f"file{index}").touch()
            await lock.renew(fence, ttl_s=TTL_S)
            await backend.put("key", b"1", fence=fence)
            await lock.release(fence, successor="other", ttl_s=TTL_S)
            fence = await acquired(other)
            await other_store.put("key", b"2", fence=fence)
            assert await backend.get("key") == b"2"


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes, as a quota would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_file_that_may_not_grow_keeps_reads_and_renewals(tmp_path: Path) -> None:
    """Another limit than the disk's: the checkpoint alone must make room for the lock."""
    async with opened(tmp_path) as backend:
        lock = await backend.open_lock("core/lock", "node")
        fence = await acquired(lock)
        for index in range(20):
            await backend.put(f"key/{index}", bytes(4000), fence=fence)
        with file_size_limit((tmp_path / "data.db-wal").stat().st_size):
            with pytest.raises(StorageUnavailable, match="SQLITE_IOERR_WRITE"):
                while True:
                    await backend.put("big", bytes(200_000), fence=fence)
            for _ in range(200):
                await lock.renew(fence, ttl_s=TTL_S)
            assert await backend.get("key/0") == bytes(4000)


# --- the reserve --------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [SIZE // 2, SIZE + HEADROOM // 2])
def test_reserve_that_does_not_fit_with_headroom_is_not_made(left: int, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        folder = PresenceFolder(disk / "ha")
        try:
            fill_disk(disk, leave=left)
            assert not Reserve(folder).ensure()
            assert os.listdir(disk / "ha") == []
        finally:
            folder.close()


def test_reserve_takes_its_space_is_private_and_is_made_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        folder = PresenceFolder(disk / "ha")
        try:
            reserve = Reserve(folder)
            before = free_bytes(disk)
            assert reserve.ensure()
            assert before - free_bytes(disk) >= SIZE
            assert (disk / "ha" / "reserve").stat().st_mode & 0o777 == 0o600
            assert reserve.give_up()
            assert not reserve.give_up()
            assert free_bytes(disk) == before
            (disk / "ha" / "reserve").write_bytes(b"cut short")
            assert reserve.ensure()
            assert (disk / "ha" / "reserve").stat().st_size == SIZE
        finally:
            folder.close()


def test_folder_that_cannot_hold_a_reserve_for_another_reason_is_no_full_disk(
    tmp_path: Path,
) -> None:
    folder = PresenceFolder(tmp_path / "ha")
    try:
        (tmp_path / "ha" / "reserve").symlink_to(tmp_path / "elsewhere")
        assert Reserve(folder).ensure()
        assert not (tmp_path / "elsewhere").exists()
    finally:
        folder.close()


async def test_group_without_space_fails_only_where_there_is_none(tmp_path: Path) -> None:
    """A lock job and small writes do not share the fate of a big one."""
    sqlite_file.create(tmp_path / "data.db", 1)
    async with aclosing(Writer(tmp_path / "data.db", busy_timeout_s=1, op_timeout_s=5)) as writer:

        def insert(size: int) -> Callable[[sqlite3.Connection], None]:
            def run(connection: sqlite3.Connection) -> None:
                connection.execute("PRAGMA max_page_count = 20")
                connection.execute("INSERT INTO entry VALUES (?, zeroblob(?))", (f"{size}", size))

            return run

        with pytest.raises(StorageUnavailable, match="disk is full"):
            await writer.submit(insert(1_000_000))
        await writer.submit(insert(1_000))
