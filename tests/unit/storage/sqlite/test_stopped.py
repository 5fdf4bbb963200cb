"""
A process that does not run and holds SQLite's write lock: named, woken, or killed when allowed.

What is tried: every reason not to run, at every place of a write; and that nobody else is touched.
"""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, closing, nullcontext
from pathlib import Path

import pytest
import trio

from baoha.errors import StorageUnavailable
from baoha.storage.sqlite import SqliteBackend, open_backend
from baoha.storage.sqlite import stopped as sqlite_stopped
from baoha.storage.sqlite.host import mount_of
from baoha.storage.sqlite.lock import SqliteLock
from baoha.storage.sqlite.obstacle import GRACE_S, SHOWN_S
from baoha.storage.sqlite.stopped import Holder, _write_lock_holder, find_holder, kill_node, wake
from baoha.timing import boot_time_s
from tests.support.not_running import (
    CHECKPOINT,
    NOTHING,
    RECOVERY,
    WRITE,
    Stop,
    holding,
    let_go,
    state,
    stopped_by_signal,
    stopped_by_tracer,
    traced,
    wait_state,
    waiting_for_disk,
)

TTL_S = 6.0
NOT_WOKEN = [(stopped_by_tracer, "t"), (waiting_for_disk, "D")]


class Clock:
    """The boot-time clock of a store, moved by hand."""

    def __init__(self) -> None:
        self.now_s = boot_time_s()

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def opened(
    folder: Path, clock: Clock | None = None, **settings: object
) -> AsyncIterator[tuple[SqliteBackend, SqliteLock]]:
    """Open a store that gives up soon, and a contender's handle."""
    block = {"path": str(folder / "data.db"), "busy_timeout": "100ms", **settings}
    async with aclosing(await open_backend(block, boot_clock=clock or boot_time_s)) as backend:
        await backend.get("key")  # from now on the -shm file is there
        yield backend, await backend.open_lock("core/lock", "node")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    """Lend a database in WAL mode whose -shm file is there, and a folder of signs of life."""
    path = tmp_path / "data.db"
    (tmp_path / "data.db.ha").mkdir(mode=0o700)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (a)")
        yield path


def signs_of_life(database: Path) -> Path:
    return Path(f"{database}.ha")


# --- the kernel's word --------------------------------------------------------------------------


def test_stopped_writer_is_woken_and_gives_the_write_lock_back(
    database: Path, tmp_path: Path
) -> None:
    with holding(database, WRITE) as process, stopped_by_signal(process, tmp_path):
        holder = find_holder(database)
        assert holder is not None
        assert holder.described == f"pid {process.pid} (state T, stopped)"
        assert wake(database, holder)
        let_go(process)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")


@pytest.mark.parametrize(("stop", "letter"), NOT_WOKEN)
def test_writer_that_no_signal_stopped_is_named_and_not_woken(
    stop: Stop, letter: str, database: Path, tmp_path: Path
) -> None:
    with holding(database, WRITE) as process, stop(process, tmp_path):
        holder = find_holder(database)
        assert holder is not None
        assert (holder.pid, holder.state, holder.is_running) == (process.pid, letter, False)
        assert not wake(database, holder)


def test_writer_of_which_one_thread_is_stopped_is_seen_as_stopped(database: Path) -> None:
    """The main thread of a node may run while the one that writes does not."""
    with holding(database, WRITE, has_threads=True) as process:
        threads = sorted(map(int, os.listdir(f"/proc/{process.pid}/task")))
        with traced(process.pid, threads=threads[1:]):
            wait_state(process.pid, "S")
            holder = find_holder(database)
            assert holder is not None
            assert (holder.pid, holder.state) == (process.pid, "t")


def test_stopped_process_without_the_write_lock_stays_stopped(
    database: Path, tmp_path: Path
) -> None:
    with holding(database, WRITE) as process:
        before = find_holder(database)
        assert before is not None
        let_go(process)
        with stopped_by_signal(process, tmp_path):
            assert find_holder(database) is None
            # What was seen earlier is asked again before anything is sent.
            assert not wake(database, Holder(before.pid, before.started, "T"))
            assert state(process.pid) == "T"


def test_process_with_the_pid_of_the_holder_and_another_start_is_left_alone(
    database: Path, tmp_path: Path
) -> None:
    with holding(database, WRITE, sign_of_life="node") as process:
        with stopped_by_signal(process, tmp_path):
            holder = find_holder(database)
            assert holder is not None
            former = Holder(holder.pid, holder.started - 1, "T")
            assert not wake(database, former)
            assert not kill_node(database, former, signs_of_life(database))
            assert state(process.pid) == "T"


def test_running_writer_is_named_as_running_and_left_alone(database: Path) -> None:
    with holding(database, WRITE) as process:
        holder = find_holder(database)
        assert holder is not None
        assert holder.is_running
        assert not wake(database, holder)
        assert process.poll() is None


@pytest.mark.parametrize("sign_of_life", ["", "node"])
def test_only_a_process_with_a_sign_of_life_is_killed(sign_of_life: str, database: Path) -> None:
    with holding(database, WRITE, sign_of_life=sign_of_life) as process:
        holder = find_holder(database)
        assert holder is not None
        assert kill_node(database, holder, signs_of_life(database)) == bool(sign_of_life)
        if sign_of_life:
            assert process.wait(20) == -signal.SIGKILL
        else:
            let_go(process)


def test_own_write_lock_and_missing_file_are_nobody(database: Path, tmp_path: Path) -> None:
    assert find_holder(tmp_path / "no such file") is None
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert find_holder(database) is None
        # And it is still ours: looking has not given it up.
        with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as other:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")


def test_holder_is_found_through_a_symbolic_link(database: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(database)
    with holding(database, WRITE) as process:
        holder = find_holder(link)
        assert holder is not None
        assert holder.pid == process.pid


@pytest.mark.parametrize(
    ("line", "holder_pid"),
    [
        ("1: POSIX  ADVISORY  WRITE 77 08:01:1234 120 120", 77),
        ("1: POSIX  ADVISORY  WRITE 77 08:01:1234 0 EOF", 77),
        ("1: POSIX  ADVISORY  READ  77 08:01:1234 120 120", 0),
        ("1: POSIX  ADVISORY  WRITE 77 08:01:1234 123 123", 0),
        ("1: POSIX  ADVISORY  WRITE 77 08:01:1234 0 119", 0),
        ("1: POSIX  ADVISORY  WRITE 77 08:01:9999 120 120", 0),
        ("1: POSIX  ADVISORY  WRITE 77 08:02:1234 120 120", 0),
        ("1: POSIX  ADVISORY  WRITE -1 08:01:1234 120 120", 0),
        ("1: FLOCK  ADVISORY  WRITE 77 08:01:1234 0 EOF", 0),
        ("1: -> POSIX  ADVISORY  WRITE 77 08:01:1234 120 120", 0),
        ("", 0),
    ],
)
def test_table_of_locks_names_the_holder_of_the_write_lock(line: str, holder_pid: int) -> None:
    other = "7: FLOCK  ADVISORY  WRITE 5 00:16:77 0 EOF"
    assert _write_lock_holder(f"{other}\n{line}\n", "08:01:1234") == holder_pid


def test_device_of_a_file_is_the_one_that_the_table_of_locks_shows(database: Path) -> None:
    with holding(database, WRITE) as process:
        line = next(
            line
            for line in Path("/proc/locks").read_text().splitlines()
            if f" {process.pid} " in line
        )
    assert f" {mount_of(database.parent).device}:" in line


@pytest.mark.parametrize(
    ("cgroup", "file", "content", "is_frozen"),
    [
        ("7:freezer:/docker/1", "freezer/docker/1/freezer.state", "FROZEN\n", True),
        ("7:freezer:/docker/1", "freezer/docker/1/freezer.state", "THAWED\n", False),
        ("0::/docker/1", "docker/1/cgroup.events", "populated 1\nfrozen 1\n", True),
        ("0::/docker/1", "docker/1/cgroup.events", "populated 1\nfrozen 0\n", False),
        ("0::/docker/1", "unified/docker/1/cgroup.events", "frozen 1\n", True),
        ("3:cpu,cpuacct:/docker/1", "docker/1/cgroup.events", "frozen 1\n", False),
        ("0::/", "elsewhere", "frozen 1\n", False),
    ],
)
def test_cgroup_that_is_frozen_is_recognised_in_both_versions(
    cgroup: str, file: str, content: str, is_frozen: bool, tmp_path: Path
) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(content)
    assert sqlite_stopped.is_frozen(f"1:name=systemd:/x\n{cgroup}\n", tmp_path) == is_frozen


# --- a contender behind it ----------------------------------------------------------------------


async def test_free_lock_behind_a_stopped_writer_is_acquired_at_the_second_attempt(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as (_, lock):
        with holding(tmp_path / "data.db", WRITE) as process, stopped_by_signal(process, tmp_path):
            with pytest.raises(StorageUnavailable):
                await lock.acquire("tenure", ttl_s=TTL_S)
            let_go(process)  # it was woken
            assert await lock.acquire("tenure", ttl_s=TTL_S) is not None
            assert lock.problems() == []


@pytest.mark.parametrize("place", [NOTHING, CHECKPOINT])
@pytest.mark.parametrize("stop", [stopped_by_signal, *(stop for stop, _ in NOT_WOKEN)])
async def test_process_that_is_frozen_outside_a_write_is_in_nobodys_way(
    stop: Stop, place: tuple[int, int], tmp_path: Path
) -> None:
    async with opened(tmp_path) as (backend, lock):
        with holding(tmp_path / "data.db", place) as process, stop(process, tmp_path):
            fence = await lock.acquire("tenure", ttl_s=TTL_S)
            await backend.put("key", b"1", fence=fence)
            assert await backend.get("key") == b"1"


@pytest.mark.parametrize("place", [WRITE, RECOVERY])
@pytest.mark.parametrize(("stop", "letter"), NOT_WOKEN)
async def test_process_that_is_frozen_inside_a_write_is_named_until_it_goes_on(
    stop: Stop,
    letter: str,
    place: tuple[int, int],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "baoha.storage")
    async with opened(tmp_path) as (_, lock):
        with holding(tmp_path / "data.db", place) as process:
            with stop(process, tmp_path):
                for _ in range(2):
                    with pytest.raises(StorageUnavailable):
                        await lock.acquire("tenure", ttl_s=TTL_S)
                (problem,) = lock.problems()
                assert problem.startswith(f"BH-921 pid {process.pid} (state {letter}, ")
                # Everybody may read it in sys/health.
                assert str(tmp_path) not in problem
        with trio.fail_after(20):
            while await lock.acquire("tenure", ttl_s=TTL_S) is None:
                pass
        assert lock.problems() == []
    told = [record.getMessage() for record in caplog.records]
    assert sum("BH-921" in text for text in told) == 1
    assert sum("is free again" in text for text in told) == 1


async def test_running_process_that_blocks_a_renewal_is_named(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, lock):
        fence = await lock.acquire("tenure", ttl_s=TTL_S)
        assert fence is not None
        with holding(tmp_path / "data.db", WRITE) as process:
            with pytest.raises(StorageUnavailable):
                await lock.renew(fence, ttl_s=TTL_S)
            assert f"pid {process.pid} (state " in lock.problems()[0]
            assert "not stopped) holds the write lock" in lock.problems()[0]
            let_go(process)
        await lock.renew(fence, ttl_s=TTL_S)
        assert lock.problems() == []


async def test_problem_is_over_for_a_node_that_sees_another_take_the_lock(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, lock), opened(tmp_path) as (other_store, _):
        other = await other_store.open_lock("core/lock", "other")
        with holding(tmp_path / "data.db", WRITE) as process:
            with pytest.raises(StorageUnavailable):
                await lock.acquire("tenure", ttl_s=TTL_S)
            await lock.read()
            assert lock.problems() != []
            let_go(process)
        assert await other.acquire("tenure", ttl_s=TTL_S) is not None
        await lock.read()
        assert lock.problems() == []


@pytest.mark.parametrize(("stop", "letter"), NOT_WOKEN)
async def test_frozen_node_is_killed_once_the_clock_has_deposed_it(
    stop: Stop, letter: str, tmp_path: Path
) -> None:
    clock = Clock()
    async with opened(tmp_path, clock, fence_by_kill=True) as (backend, lock):
        former = await backend.open_lock("core/lock", "former")
        assert await former.acquire("tenure", ttl_s=TTL_S) is not None
        path = tmp_path / "data.db"
        with holding(path, WRITE, sign_of_life="other") as process, stop(process, tmp_path):
            assert await lock.acquire("next", ttl_s=TTL_S) is None
            for pause_s in (TTL_S + 0.1, GRACE_S - 0.2):
                clock.now_s += pause_s
                with pytest.raises(StorageUnavailable):
                    await lock.acquire("next", ttl_s=TTL_S)
                assert state(process.pid) == letter
            clock.now_s += GRACE_S
            with pytest.raises(StorageUnavailable):
                await lock.acquire("next", ttl_s=TTL_S)
            wait_state(process.pid, "Z")
            fence = await lock.acquire("next", ttl_s=TTL_S)
            assert fence is not None
            await backend.put("key", b"1", fence=fence)


@pytest.mark.parametrize(
    ("may_kill", "sign_of_life", "stop"),
    [
        (False, "other", stopped_by_tracer),
        (True, "", stopped_by_tracer),
        (True, "other", None),
    ],
    ids=["not allowed", "no node", "running"],
)
async def test_process_that_may_not_be_killed_stays(
    may_kill: bool, sign_of_life: str, stop: Stop | None, tmp_path: Path
) -> None:
    clock = Clock()
    async with opened(tmp_path, clock, fence_by_kill=may_kill) as (_, lock):
        with holding(tmp_path / "data.db", WRITE, sign_of_life=sign_of_life) as process:
            with nullcontext() if stop is None else stop(process, tmp_path):
                before = "S" if stop is None else "t"
                wait_state(process.pid, before)
                for _ in range(3):
                    clock.now_s += 10 * TTL_S
                    with pytest.raises(StorageUnavailable):
                        await lock.acquire("next", ttl_s=TTL_S)
                assert state(process.pid) == before
                assert lock.problems() != []
                # A handle that tries no more does not say for ever what it saw last.
                clock.now_s += SHOWN_S
                assert lock.problems() == []
