"""One machine, one clock, one local disk: each way in which that is untrue is refused by name."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, closing
from functools import partial
from pathlib import Path

import pytest

from baoha.errors import ConfigError, LockLost, StorageUnavailable
from baoha.storage.base import Fence
from baoha.storage.sqlite import SqliteBackend, open_backend
from baoha.storage.sqlite import file as sqlite_file
from baoha.storage.sqlite import host as sqlite_host
from baoha.storage.sqlite.host import (
    FileSystemMount,
    check_clock,
    check_file_system,
    find_mount,
    mount_of,
)

MOUNTINFO = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 22 0:27 / /home/a\\040b rw,nosuid shared:5 master:1 - {kind} server:/export rw,vers=4.2
"""


@asynccontextmanager
async def opened(folder: Path, **settings: object) -> AsyncIterator[SqliteBackend]:
    path = str(folder / "data.db")
    async with aclosing(await open_backend({"path": path, **settings})) as backend:
        yield backend


def see_as(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    """Have the kernel's table of mounts say that the folder's file system is of this kind."""
    real = sqlite_host.MOUNTS.read_text()
    here = mount_of(tmp_path)
    table = tmp_path / "mountinfo"
    table.write_text(real.replace(f" - {here.kind} ", f" - {kind} "))
    monkeypatch.setattr(sqlite_host, "MOUNTS", table)


# --- the disk -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        *("nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "fuse", "fuse.sshfs", "fuseblk"),
        *("fuse.glusterfs", "ceph", "gfs2", "ocfs2", "lustre", "gpfs", "vboxsf", "fuse.s3fs"),
    ],
)
async def test_file_system_that_others_share_is_refused_by_its_name(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_as(monkeypatch, tmp_path, kind)
    with pytest.raises(ConfigError, match=f"BH-923 .* is on a {kind} file system") as caught:
        async with opened(tmp_path):
            pytest.fail("opened")
    assert caught.value.code == "BH-923"
    assert not (tmp_path / "data.db").exists()
    async with opened(tmp_path, allow_network_filesystem=True) as backend:
        await backend.put("key", b"")


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "f2fs"])
def test_local_file_system_is_accepted(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_as(monkeypatch, tmp_path, kind)
    check_file_system(tmp_path)


async def test_file_system_behind_a_symbolic_link_is_the_one_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link.db").symlink_to("/proc/data.db")
    seen: list[Path] = []
    monkeypatch.setattr("baoha.storage.sqlite.backend.check_file_system", seen.append)
    with pytest.raises(StorageUnavailable):
        await open_backend({"path": str(tmp_path / "link.db")})
    assert seen == [Path("/proc")]


def test_mount_of_a_folder_is_found_with_device_and_place() -> None:
    assert find_mount(MOUNTINFO.format(kind="nfs4"), "30") == FileSystemMount(
        "00:1b", "nfs4", "/home/a b"
    )
    assert find_mount(MOUNTINFO.format(kind="nfs4"), "22") == FileSystemMount("fe:00", "ext4", "/")
    assert find_mount(MOUNTINFO.format(kind="nfs4"), "2") is None


def test_file_system_that_cannot_be_found_out_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_host, "MOUNTS", tmp_path / "hidden")
    with pytest.raises(ConfigError, match="cannot find out on which file system"):
        check_file_system(tmp_path)


@pytest.mark.parametrize("answer", ["delete", "truncate", "memory"])
def test_journal_mode_that_sqlite_does_not_take_is_refused(answer: str, tmp_path: Path) -> None:
    """SQLite raises nothing: it goes on in the mode it can."""

    class Stubborn(sqlite3.Connection):
        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            return super().execute(f"SELECT '{answer}'" if "journal_mode" in sql else sql)

    def opened() -> closing[Stubborn]:
        return closing(sqlite3.connect(":memory:", factory=Stubborn))

    with pytest.raises(ConfigError, match=f"BH-926 .*'{answer}'") as caught:
        sqlite_file.create(tmp_path / "data.db", 1.0, opened)
    assert caught.value.code == "BH-926"


def test_database_that_cannot_have_a_wal_is_refused_by_the_real_sqlite(tmp_path: Path) -> None:
    def opened() -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(":memory:"))

    with pytest.raises(ConfigError, match="BH-926 SQLite keeps journal mode 'memory'"):
        sqlite_file.create(tmp_path / "data.db", 1.0, opened)


async def test_connection_that_does_not_wait_for_the_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hasty(sqlite3.Connection):
        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            return super().execute(sql.replace("synchronous = FULL", "synchronous = NORMAL"))

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Hasty))
    with pytest.raises(StorageUnavailable, match="cannot open sqlite storage"):
        async with opened(tmp_path):
            pytest.fail("opened")


# --- the clock ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offsets", "is_refused"),
    [
        ("monotonic           0         0\nboottime            0         0\n", False),
        ("monotonic      100000         0\nboottime            0         0\n", False),
        ("monotonic           0         0\nboottime       100000         0\n", True),
        ("monotonic           0         0\nboottime           -1 500000000\n", True),
        ("monotonic           0         0\nboottime            0         1\n", True),
        ("1 0 0\n7 5 0\n", True),
        ("", False),
    ],
)
def test_boot_clock_that_is_shifted_is_refused(
    offsets: str, is_refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "offsets").write_text(offsets)
    monkeypatch.setattr(sqlite_host, "CLOCK_OFFSETS", tmp_path / "offsets")
    if not is_refused:
        check_clock()
        return
    with pytest.raises(ConfigError, match="BH-924 the boot-time clock") as caught:
        check_clock()
    assert caught.value.code == "BH-924"


def test_kernel_without_time_namespaces_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_host, "CLOCK_OFFSETS", tmp_path / "missing")
    check_clock()


def in_namespace(options: Sequence[str], source: str, *arguments: str) -> str:
    """Run Python in namespaces of its own; a user who is not root gets one for users, too."""
    command = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), *options]
    done = subprocess.run(
        [*command, sys.executable, "-c", source, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return f"{done.stdout}{done.stderr}"


OPEN = """
import sys, trio
from contextlib import aclosing
from baoha.errors import BaohaError
from baoha.storage.sqlite import open_backend
async def main():
    try:
        async with aclosing(await open_backend({"path": sys.argv[1]})) as backend:
            lock = await backend.open_lock("core/lock", "stranger")
            print("fence:", await lock.acquire("v", ttl_s=60))
    except BaohaError as exc:
        print("refused:", exc)
trio.run(main)
"""


async def test_node_in_a_time_namespace_is_refused(tmp_path: Path) -> None:
    options = ["--fork", "--time", "--boottime", "100000"]
    said = in_namespace(options, OPEN, str(tmp_path / "data.db"))
    assert said.startswith("refused: BH-924 "), said
    assert "fence: Fence" in in_namespace(["--fork"], OPEN, str(tmp_path / "data.db"))


# --- the boot -----------------------------------------------------------------------------------


async def test_node_that_sees_another_boot_id_is_refused_while_the_holder_lives(
    tmp_path: Path,
) -> None:
    """As systemd-nspawn does: a mount namespace with a boot id of its own."""
    (tmp_path / "boot_id").write_text("11111111-2222-3333-4444-555555555555\n")
    shift = (
        "import subprocess; subprocess.run(['mount', '--bind', "
        f"'{tmp_path}/boot_id', '{sqlite_file.BOOT_ID}'], check=True)\n"
    )
    async with opened(tmp_path) as backend:
        lock = await backend.open_lock("core/lock", "holder")
        fence = await lock.acquire("v", ttl_s=60)
        assert fence is not None
        said = in_namespace(["--mount"], shift + OPEN, str(tmp_path / "data.db"))
        assert said.startswith("refused: BH-925 the HA lock is held by node holder"), said
        await lock.renew(fence, ttl_s=60)
        await lock.release(fence)
        # Who let go is no obstacle: what was written is of another boot, and free.
        said = in_namespace(["--mount"], shift + OPEN, str(tmp_path / "data.db"))
        assert said == f"fence: {Fence('core/lock', 'stranger', fence.epoch + 1)}\n"


async def test_row_of_another_boot_is_refused_in_every_call_and_free_when_its_holder_is_gone(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as backend:
        holder = await backend.open_lock("core/lock", "holder")
        other = await backend.open_lock("core/lock", "other")
        fence = await holder.acquire("v", ttl_s=60)
        assert fence is not None
        with closing(sqlite3.connect(backend.path, isolation_level=None)) as connection:
            connection.execute("UPDATE ha_lock SET boot_id = 'another'")
        with pytest.raises(StorageUnavailable, match="BH-925"):
            await other.read()
        with pytest.raises(StorageUnavailable, match="BH-925"):
            await other.acquire("v", ttl_s=60)
        assert other.problems()[0].startswith("BH-925 the HA lock is held by node holder")
        with pytest.raises(LockLost):
            await holder.renew(fence, ttl_s=60)
        await holder.aclose()
        assert await other.read() is None
        assert other.problems() == []
        assert await other.acquire("v", ttl_s=60) == Fence("core/lock", "other", fence.epoch + 1)


# --- the row ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM ha_lock",
        "UPDATE ha_lock SET epoch = 1, expires_at_s = 0",
        "UPDATE ha_lock SET epoch = 1, identity = ''",
        "UPDATE ha_lock SET epoch = 1, identity = 'two', expires_at_s = 1e12",
        "UPDATE ha_lock SET epoch = 0, identity = 'foreign', expires_at_s = 0",
    ],
)
async def test_epoch_of_a_lock_row_that_was_removed_or_set_back_never_comes_again(
    damage: str, tmp_path: Path
) -> None:
    async with opened(tmp_path) as backend:
        one = await backend.open_lock("core/lock", "one")
        two = await backend.open_lock("core/lock", "two")
        fence = None
        for _ in range(3):
            fence = await one.acquire("v", ttl_s=60)
        assert fence is not None
        await two.read()
        with closing(sqlite3.connect(backend.path, isolation_level=None)) as connection:
            connection.execute(damage)
        with pytest.raises(LockLost):
            await one.renew(fence, ttl_s=60)
        found = await two.acquire("v", ttl_s=60)
        assert found is not None
        assert found.epoch > fence.epoch
        await two.release(found)
        again = await one.acquire("v", ttl_s=60)
        assert again is not None
        assert again.epoch > found.epoch


async def test_holder_whose_row_was_removed_gets_a_higher_epoch_itself(tmp_path: Path) -> None:
    """A fence is identity and epoch: with the same epoch again, an old one would hold."""
    async with opened(tmp_path) as backend:
        lock = await backend.open_lock("core/lock", "one")
        fence = await lock.acquire("v", ttl_s=60)
        assert fence is not None
        with closing(sqlite3.connect(backend.path, isolation_level=None)) as connection:
            connection.execute("DELETE FROM ha_lock")
        assert await lock.acquire("v", ttl_s=60) == Fence("core/lock", "one", fence.epoch + 1)
