"""The sqlite store: files, errors, recovery and group commit (its contract: tests/conformance)."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing, contextmanager, suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from baoha.errors import (
    ConfigError,
    FencedWrite,
    StorageCorrupt,
    StorageError,
    StorageUnavailable,
)
from baoha.storage.base import Fence
from baoha.storage.registry import load_type, open_backend, store_names
from baoha.storage.sqlite import SqliteBackend
from baoha.storage.sqlite import file as sqlite_file
from baoha.storage.sqlite import open_backend as open_sqlite
from baoha.storage.sqlite import presence as sqlite_presence
from baoha.storage.sqlite.writer import Writer
from tests.support.loop_watch import step_clock


async def open_at(path: Path, **settings: object) -> SqliteBackend:
    return await open_sqlite({"path": str(path / "baoha.db"), **settings})


@contextmanager
def other_process(path: Path) -> Iterator[None]:
    """Hold open somebody else's write transaction on the same file."""
    with closing(sqlite3.connect(path / "baoha.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


# --- opening ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "path is required"),
        ({"path": ""}, "path must be"),
        ({"path": 7}, "path must be"),
        ({"path": "x", "pth": "y"}, "unknown key: pth"),
        ({"path": "x\0y"}, "path must not contain control characters"),
        ({"path": "x", "busy_timeout": "soon"}, "busy_timeout must be a duration"),
        ({"path": "x", "op_timeout": 0}, "op_timeout must be a duration"),
        ({"path": "x", "op_timeout": True}, "op_timeout must be a duration"),
        ({"path": "x", "op_timeout": float("nan")}, "op_timeout must be a duration"),
    ],
)
async def test_open_with_wrong_settings_is_refused(settings: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        await open_sqlite(settings)


async def test_registry_opens_a_store_by_name(tmp_path: Path) -> None:
    assert {"inmem", "sqlite"} <= set(store_names())
    settings = {"path": str(tmp_path / "baoha.db"), "busy_timeout": "500ms"}
    async with aclosing(await open_backend("sqlite", settings)) as backend:
        assert backend.name == "sqlite"
    with pytest.raises(ConfigError, match="unknown storage type 'abacus'; installed are: inmem"):
        load_type("abacus")


async def test_files_are_private_and_folders_are_made(tmp_path: Path) -> None:
    folder = tmp_path / "one" / "two"
    async with aclosing(await open_at(folder)) as backend:
        async with aclosing(await backend.open_lock("core/lock", "node")):
            await backend.put("key", b"")
            for name in ("baoha.db", "baoha.db-wal", "baoha.db-shm", "baoha.db.ha/node.lock"):
                assert stat.S_IMODE(os.stat(folder / name).st_mode) == 0o600, name
            for name in ("", "baoha.db.ha"):
                assert stat.S_IMODE(os.stat(folder / name).st_mode) == 0o700, name


async def test_data_survives_closing_and_opening(tmp_path: Path) -> None:
    async with aclosing(await open_at(tmp_path)) as backend:
        await backend.put("key", b"value")
    async with aclosing(await open_at(tmp_path)) as backend:
        assert await backend.get("key") == b"value"


async def test_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnavailable, match="cannot open sqlite storage"):
        await open_at(tmp_path / "file")


async def test_evidence_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "baoha.db.ha"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(StorageUnavailable, match="everybody can write to it; chmod it to 700"):
        await open_at(tmp_path)
    folder.chmod(0o700)
    await (await open_at(tmp_path)).aclose()


def test_evidence_folder_of_another_user_is_refused() -> None:
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        with pytest.raises(StorageUnavailable, match="belongs to another user"):
            sqlite_presence.PresenceFolder(Path("/usr"))
    finally:
        if was_root:
            os.seteuid(0)


async def test_evidence_behind_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (tmp_path / "baoha.db.ha").symlink_to(elsewhere)
    with pytest.raises(StorageUnavailable, match=r"cannot open .*baoha\.db\.ha"):
        await open_at(tmp_path)


async def test_session_file_that_is_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    async with aclosing(await open_at(tmp_path)) as backend:
        (tmp_path / "baoha.db.ha" / "node.lock").symlink_to(target)
        with pytest.raises(StorageUnavailable, match="session file cannot be made or locked"):
            await backend.open_lock("core/lock", "node")
        assert not target.exists()


def no_database(path: Path) -> None:
    path.write_bytes(b"not a database" * 500)


def foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (x)")


def newer_format(path: Path) -> None:
    sqlite_file.create(path, 1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("prepare", "text"),
    [
        (no_database, "file is not a database"),
        (foreign_database, "belongs to another program"),
        (newer_format, "has format 99"),
    ],
)
async def test_file_that_is_not_ours_is_refused_and_not_touched(
    prepare: Callable[[Path], None], text: str, tmp_path: Path
) -> None:
    path = tmp_path / "baoha.db"
    prepare(path)
    before = path.read_bytes()
    with pytest.raises(StorageCorrupt, match=text):
        await open_at(tmp_path)
    if prepare is no_database:
        assert path.read_bytes() == before


async def test_closed_store_is_unavailable(tmp_path: Path) -> None:
    backend = await open_at(tmp_path)
    await backend.aclose()
    await backend.aclose()
    with pytest.raises(StorageUnavailable, match="closed"):
        await backend.get("key")
    with pytest.raises(StorageUnavailable, match="closed"):
        await backend.put("key", b"")


@pytest.mark.parametrize("key", ["", "/a", "a/", "a\ud800"])
async def test_malformed_key_is_refused(key: str, tmp_path: Path) -> None:
    async with aclosing(await open_at(tmp_path)) as backend:
        with pytest.raises(StorageError):
            await backend.put(key, b"")
        with pytest.raises(StorageError):
            await backend.get(key)


# --- errors and recovery ------------------------------------------------------------------------


async def test_locked_database_is_unavailable_and_recovers(tmp_path: Path) -> None:
    async with aclosing(await open_at(tmp_path, busy_timeout="50ms")) as backend:
        await backend.put("key", b"old")
        with other_process(tmp_path):
            with pytest.raises(StorageUnavailable, match="database is locked") as caught:
                await backend.put("key", b"new")
            assert caught.value.outcome == "not_applied"
            assert await backend.get("key") == b"old"
        await backend.put("key", b"new")
        assert await backend.get("key") == b"new"


async def test_write_without_answer_in_time_says_what_is_known(tmp_path: Path) -> None:
    sqlite_file.create(tmp_path / "baoha.db", 1)
    landed: list[str] = []
    async with aclosing(
        Writer(tmp_path / "baoha.db", busy_timeout_s=20, op_timeout_s=0.1)
    ) as writer:

        async def submit(name: str) -> None:
            await writer.submit(lambda connection: landed.append(name))

        with other_process(tmp_path):
            with pytest.raises(StorageUnavailable, match=r"no answer within 0\.1s") as begun:
                await submit("begun")
            with pytest.raises(StorageUnavailable, match=r"no answer within 0\.1s") as queued:
                await submit("queued")
        assert (begun.value.outcome, queued.value.outcome) == ("unknown", "not_applied")
        with trio.fail_after(10):
            while "after" not in landed:
                with suppress(StorageUnavailable):
                    await submit("after")
        assert landed[:2] == ["begun", "after"]


async def test_full_disk_is_unavailable_and_recovers(tmp_path: Path) -> None:
    sqlite_file.create(tmp_path / "full.db", 1)
    async with aclosing(Writer(tmp_path / "full.db", busy_timeout_s=1, op_timeout_s=5)) as writer:

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO entry VALUES ('key', zeroblob(1000000))")

        # The limit is the connection's: a new connection after the error has the space again.
        await writer.submit(lambda connection: connection.execute("PRAGMA max_page_count = 20"))
        with pytest.raises(StorageUnavailable, match="disk is full") as caught:
            await writer.submit(insert)
        assert caught.value.outcome == "not_applied"
        await writer.submit(insert)


async def test_removed_file_is_unavailable_and_not_made_anew(tmp_path: Path) -> None:
    async with aclosing(await open_at(tmp_path)) as backend:
        await backend.put("key", b"kept")
        path, away = tmp_path / "baoha.db", tmp_path / "away.db"
        os.rename(path, away)
        with pytest.raises(StorageUnavailable, match="No such file"):
            await backend.put("key", b"lost")
        with pytest.raises(StorageUnavailable, match="No such file"):
            await backend.get("key")
        assert "baoha.db" not in os.listdir(tmp_path)
        os.rename(away, path)
        await backend.put("other", b"")
        assert await backend.get("key") == b"kept"


async def test_damaged_file_is_corrupt(tmp_path: Path) -> None:
    async with aclosing(await open_at(tmp_path)) as backend:
        for index in range(40):
            await backend.put(f"key/{index}", bytes(4000))
    path = tmp_path / "baoha.db"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    async with aclosing(await open_at(tmp_path)) as backend:
        with pytest.raises(StorageCorrupt, match="damaged"):
            await backend.get("key/1")


# --- group commit -------------------------------------------------------------------------------


async def test_queued_writes_share_commits_and_a_bad_one_hurts_only_itself(
    tmp_path: Path,
) -> None:
    sqlite_file.create(tmp_path / "baoha.db", 1)
    async with aclosing(Writer(tmp_path / "baoha.db", busy_timeout_s=5, op_timeout_s=10)) as writer:
        errors: list[BaseException] = []
        statements: list[str] = []

        async def insert(index: int) -> None:
            def run(connection: sqlite3.Connection) -> None:
                connection.execute("INSERT INTO entry VALUES (?, '')", (f"{index:03}",))

            await writer.submit(run)

        async def fail(job: Callable[[sqlite3.Connection], object]) -> None:
            try:
                await writer.submit(job)
            except StorageError as exc:
                errors.append(exc)

        def refuse(connection: sqlite3.Connection) -> None:
            raise FencedWrite

        await writer.submit(lambda connection: connection.set_trace_callback(statements.append))
        async with trio.open_nursery() as nursery:
            with other_process(tmp_path):
                for index in range(100):
                    nursery.start_soon(insert, index)
                nursery.start_soon(fail, refuse)
                await trio.testing.wait_all_tasks_blocked()
        assert [type(error) for error in errors] == [FencedWrite]
        # The one that traces, the one that was begun with whoever came first, and all the others.
        assert statements.count("COMMIT") <= 3
        async with trio.open_nursery() as nursery:
            with other_process(tmp_path):
                for index in range(100, 110):
                    nursery.start_soon(insert, index)
                nursery.start_soon(fail, lambda connection: connection.execute("SELECT nonsense"))
                await trio.testing.wait_all_tasks_blocked()
        assert [type(error) for error in errors] == [FencedWrite, StorageUnavailable]
        count = await writer.submit(
            lambda connection: connection.execute("SELECT count(*) FROM entry").fetchone()
        )
        assert count == (110,)


async def test_lock_jobs_go_ahead_of_queued_writes(tmp_path: Path) -> None:
    sqlite_file.create(tmp_path / "baoha.db", 1)
    async with aclosing(Writer(tmp_path / "baoha.db", busy_timeout_s=5, op_timeout_s=10)) as writer:
        order: list[str] = []

        async def submit(name: str, *, urgent: bool) -> None:
            await writer.submit(lambda connection: order.append(name), urgent=urgent)

        async with trio.open_nursery() as nursery:
            with other_process(tmp_path):
                nursery.start_soon(lambda: submit("begun", urgent=False))
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(lambda: submit("write", urgent=False))
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(lambda: submit("renewal", urgent=True))
                await trio.testing.wait_all_tasks_blocked()
        assert order.index("renewal") < order.index("write")


async def test_closing_finishes_queued_writes(tmp_path: Path) -> None:
    async with aclosing(await open_at(tmp_path)) as backend:
        async with trio.open_nursery() as nursery:
            for index in range(20):
                nursery.start_soon(backend.put, f"key/{index}", b"")
            await trio.testing.wait_all_tasks_blocked()
            await backend.aclose()
    async with aclosing(await open_at(tmp_path)) as backend:
        assert len(await backend.list("key/")) == 20


async def test_write_cancelled_before_it_is_queued_does_not_land(tmp_path: Path) -> None:
    async with aclosing(await open_at(tmp_path)) as backend:
        with trio.CancelScope() as scope:
            scope.cancel()
            await backend.put("key", b"")
        assert scope.cancelled_caught
        await backend.put("other", b"")
        assert await backend.list("") == ["other"]


async def test_bug_in_a_job_is_raised_and_ends_the_writer(tmp_path: Path) -> None:
    sqlite_file.create(tmp_path / "baoha.db", 1)
    async with aclosing(Writer(tmp_path / "baoha.db", busy_timeout_s=1, op_timeout_s=5)) as writer:
        with pytest.raises(ZeroDivisionError):
            await writer.submit(lambda connection: 1 / 0)
        with pytest.raises(StorageUnavailable, match="closed"):
            await writer.submit(lambda connection: None)
        with trio.fail_after(4):
            await writer.aclose()


# --- lock, session, announcements ---------------------------------------------------------------


async def test_lock_of_another_boot_is_free_and_keeps_its_epoch(tmp_path: Path) -> None:
    async with aclosing(await open_at(tmp_path)) as backend:
        lock = await backend.open_lock("core/lock", "node")
        other = await backend.open_lock("core/lock", "other")
        fence = await lock.acquire("v", ttl_s=60)
        assert fence is not None
        with closing(sqlite3.connect(tmp_path / "baoha.db", isolation_level=None)) as connection:
            connection.execute("UPDATE ha_lock SET boot_id = 'earlier'")
        await lock.aclose()
        assert await other.read() is None
        with pytest.raises(FencedWrite):
            await backend.put("key", b"", fence=fence)
        assert await other.acquire("v", ttl_s=60) == Fence("core/lock", "other", fence.epoch + 1)


async def test_handles_of_one_identity_share_a_sign_of_life(tmp_path: Path) -> None:
    async with (
        aclosing(await open_at(tmp_path)) as backend,
        aclosing(await open_at(tmp_path)) as observer,
    ):
        one = await backend.open_lock("core/lock", "node")
        two = await backend.open_lock("core/lock", "node")
        watcher = await observer.open_lock("core/lock", "watcher")
        await one.acquire("v", ttl_s=60)
        record = await watcher.read()
        assert record is not None
        await one.aclose()
        assert not await watcher.holder_is_gone(record)
        await two.aclose()
        assert await watcher.holder_is_gone(record)


async def test_removed_sign_of_life_is_put_back_by_the_next_renewal(tmp_path: Path) -> None:
    async with aclosing(await open_at(tmp_path)) as backend:
        lock = await backend.open_lock("core/lock", "node")
        watcher = await backend.open_lock("core/lock", "watcher")
        fence = await lock.acquire("v", ttl_s=60)
        record = await watcher.read()
        assert fence is not None
        assert record is not None
        os.unlink(tmp_path / "baoha.db.ha" / "node.lock")
        assert await watcher.holder_is_gone(record)
        await lock.renew(fence, ttl_s=60)
        assert not await watcher.holder_is_gone(record)


async def test_files_of_dead_processes_are_removed_and_those_of_the_living_stay(
    tmp_path: Path,
) -> None:
    async with aclosing(await open_at(tmp_path)) as backend:
        folder = tmp_path / "baoha.db.ha"
        one = await backend.open_lock("core/lock", "one")
        (folder / "dead.lock").touch()
        (folder / "dead.0.sock").touch()
        two = await backend.open_lock("core/lock", "two")
        await one.acquire("v", ttl_s=60)
        left = sorted(os.listdir(folder))
        assert [name for name in left if name.endswith(".lock")] == ["one.lock", "two.lock"]
        assert [name.split(".")[0] for name in left if name.endswith(".sock")] == ["one", "two"]
        await one.aclose()
        await two.aclose()
        # The second names of the files beside the database stay while it is open.
        assert {name for name in os.listdir(folder) if name[-4:] not in ("-wal", "-shm")} == {
            "reserve"
        }
    assert os.listdir(folder) == ["reserve"]


@pytest.mark.parametrize("identity", ["", ".", "../x", "a/b", "x" * 65])
async def test_identity_that_is_no_file_name_is_refused(identity: str, tmp_path: Path) -> None:
    async with aclosing(await open_at(tmp_path)) as backend:
        with pytest.raises(StorageUnavailable, match="identity"):
            await backend.open_lock("core/lock", identity)


async def test_announcements_work_below_a_very_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 50)
    async with aclosing(await open_at(folder)) as backend:
        assert backend.capabilities.watch
        lock = await backend.open_lock("core/lock", "x" * 64)
        other = await backend.open_lock("core/lock", "other")
        await lock.acquire("v", ttl_s=60)
        with trio.fail_after(5):
            await other.wait_change()


async def test_closing_a_handle_ends_its_wait(tmp_path: Path) -> None:
    async with aclosing(await open_at(tmp_path)) as backend:
        lock = await backend.open_lock("core/lock", "node")
        with trio.fail_after(5), pytest.RaisesGroup(trio.ClosedResourceError):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lock.wait_change)
                await trio.testing.wait_all_tasks_blocked()
                await lock.aclose()


def test_boot_id_that_is_hidden_is_an_error_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BOOT_ID", tmp_path / "hidden")
    with pytest.raises(ConfigError, match="ProcSubset"):
        sqlite_file.read_boot_id()


async def test_large_value_is_read_whole_and_in_no_long_step(tmp_path: Path) -> None:
    """Goal: a value as large as a body may be holds up nobody, and is what was written last."""
    backend = await open_sqlite({"path": str(tmp_path / "baoha.db")})
    value = bytes(range(256)) * (32 * 4096)  # 32 MiB
    for stored in (value, value[:-1], value[: 1024 * 1024 + 1]):
        await backend.put("a", stored)
        with step_clock() as clock:
            found = await backend.get("a")
        assert found == stored
        assert clock.longest_s < 0.01
    await backend.delete("a")
    assert await backend.get("a") is None
    await backend.aclose()


async def test_large_value_after_the_removal_of_the_companions_is_the_latest(
    tmp_path: Path,
) -> None:
    path = tmp_path / "baoha.db"
    backend = await open_sqlite({"path": str(path)})
    await backend.put("a", b"x" * 2_000_000)
    assert await backend.get("a") == b"x" * 2_000_000
    await backend.put("a", b"y" * 3_000_000)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()
    assert await backend.get("a") == b"y" * 3_000_000
    await backend.aclose()
