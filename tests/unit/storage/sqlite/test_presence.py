"""What somebody removes from the folder of the signs of life, while nodes are running."""

from __future__ import annotations

import os
import shutil
from contextlib import aclosing
from pathlib import Path

import pytest
import trio

from baoha.storage.base import HALock
from baoha.storage.sqlite import SqliteBackend, open_backend
from baoha.storage.sqlite.presence import PresenceFolder

FOLDER = "baoha.db.ha"


async def open_at(folder: Path) -> SqliteBackend:
    return await open_backend({"path": str(folder / "baoha.db")})


def remove_files(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def put_another(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir(mode=0o700)


def put_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.touch()


async def is_gone(watcher: HALock) -> bool:
    record = await watcher.read()
    assert record is not None
    return await watcher.holder_is_gone(record)


@pytest.mark.parametrize("remove", [remove_files, shutil.rmtree, put_another])
async def test_what_was_removed_is_put_back_and_nobody_alive_looks_dead(
    remove: object, tmp_path: Path
) -> None:
    assert callable(remove)
    folder = tmp_path / FOLDER
    async with (
        aclosing(await open_at(tmp_path)) as one,
        aclosing(await open_at(tmp_path)) as two,
    ):
        holder = await one.open_lock("core/lock", "holder")
        watcher = await two.open_lock("core/lock", "watcher")
        fence = await holder.acquire("v", ttl_s=60)
        assert fence is not None
        remove(folder)
        await holder.renew(fence, ttl_s=60)
        assert not await is_gone(watcher)
        assert {"holder.lock", "watcher.lock", "reserve"} <= set(os.listdir(folder))
        # And a process that starts now meets the others there.
        async with aclosing(await open_at(tmp_path)) as three:
            late = await three.open_lock("core/lock", "late")
            assert not await is_gone(late)
            await holder.read()
            await holder.release(fence, successor="late", ttl_s=60)
            with trio.fail_after(5):
                await late.wait_change()
                await watcher.wait_change()


@pytest.mark.parametrize("remove", [shutil.rmtree, put_a_file])
async def test_folder_that_is_gone_is_no_evidence_of_death(remove: object, tmp_path: Path) -> None:
    assert callable(remove)
    folder = PresenceFolder(tmp_path / FOLDER)
    try:
        assert folder.is_gone("nobody")
        remove(folder.path)
        assert not folder.is_gone("nobody")
    finally:
        folder.close()


async def test_contender_shows_life_before_it_holds_the_lock(tmp_path: Path) -> None:
    """A lock without a sign of life is taken from its holder before its first renewal."""
    async with aclosing(await open_at(tmp_path)) as backend:
        holder = await backend.open_lock("core/lock", "holder")
        watcher = await backend.open_lock("core/lock", "watcher")
        (tmp_path / FOLDER / "holder.lock").unlink()
        await holder.acquire("v", ttl_s=60)
        assert not await is_gone(watcher)


async def test_folder_is_not_made_where_the_store_was_moved_away(tmp_path: Path) -> None:
    store = tmp_path / "store"
    async with aclosing(await open_at(store)) as backend:
        lock = await backend.open_lock("core/lock", "node")
        fence = await lock.acquire("v", ttl_s=60)
        assert fence is not None
        store.rename(tmp_path / "aside")
        store.mkdir()
        with pytest.raises(Exception, match="sqlite storage"):
            await lock.renew(fence, ttl_s=60)
        assert os.listdir(store) == []
        store.rmdir()
        (tmp_path / "aside").rename(store)
        await lock.renew(fence, ttl_s=60)


async def test_folder_that_others_can_write_to_is_not_followed(tmp_path: Path) -> None:
    folder = PresenceFolder(tmp_path / FOLDER)
    try:
        shutil.rmtree(folder.path)
        folder.path.mkdir()
        folder.path.chmod(0o777)
        assert not folder.follow()
        assert not folder.is_gone("nobody")
    finally:
        folder.close()
