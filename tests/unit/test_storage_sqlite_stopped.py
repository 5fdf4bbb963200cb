"""A process that is stopped while it holds SQLite's write lock is woken, nobody else is touched."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from baoha.errors import StorageUnavailable
from baoha.storage.sqlite import open_backend
from baoha.storage.sqlite_stopped import _write_lock_holder, wake_stopped_writer

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("CREATE TABLE IF NOT EXISTS t (a)")
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
print("free", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "data.db"


@contextmanager
def holding(database: Path) -> Iterator[subprocess.Popen[str]]:
    """Lend a process that has begun to write."""
    command = [sys.executable, "-c", HOLDER, str(database)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def holder(database: Path) -> Iterator[subprocess.Popen[str]]:
    with holding(database) as process:
        yield process


def _wait_state(process: subprocess.Popen[str], *, stopped: bool) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        if (state == "T") == stopped:
            return
        time.sleep(0.001)
    pytest.fail(f"the process is not {'stopped' if stopped else 'running'}")


def test_stopped_writer_is_woken_and_gives_the_write_lock_back(
    database: Path, holder: subprocess.Popen[str]
) -> None:
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.send_signal(signal.SIGSTOP)
    _wait_state(holder, stopped=True)
    assert wake_stopped_writer(database) == holder.pid
    _wait_state(holder, stopped=False)
    print("go on", file=holder.stdin, flush=True)
    assert holder.stdout.readline() == "free\n"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")


def test_stopped_process_without_the_write_lock_stays_stopped(
    database: Path, holder: subprocess.Popen[str]
) -> None:
    assert holder.stdin is not None
    assert holder.stdout is not None
    print("go on", file=holder.stdin, flush=True)
    assert holder.stdout.readline() == "free\n"
    holder.send_signal(signal.SIGSTOP)
    _wait_state(holder, stopped=True)
    assert wake_stopped_writer(database) == 0
    _wait_state(holder, stopped=True)


def test_running_writer_is_left_alone(database: Path, holder: subprocess.Popen[str]) -> None:
    assert wake_stopped_writer(database) == 0
    assert holder.poll() is None


def test_own_write_lock_and_missing_file_are_nobody(database: Path, tmp_path: Path) -> None:
    assert wake_stopped_writer(tmp_path / "no such file") == 0
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (a)")
        connection.execute("BEGIN IMMEDIATE")
        assert wake_stopped_writer(database) == 0
        # And it is still ours: looking has not given it up.
        with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as other:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")


async def test_free_lock_behind_a_stopped_writer_is_acquired_at_the_second_attempt(
    tmp_path: Path,
) -> None:
    backend = await open_backend({"path": str(tmp_path / "data.db"), "busy_timeout": "100ms"})
    lock = await backend.open_lock("core/lock", "node")
    with holding(tmp_path / "data.db") as process:
        process.send_signal(signal.SIGSTOP)
        _wait_state(process, stopped=True)
        assert process.stdin is not None
        print("go on", file=process.stdin, flush=True)
        with pytest.raises(StorageUnavailable):
            await lock.acquire("tenure", ttl_s=6)
        _wait_state(process, stopped=True)
        fence = await lock.acquire("tenure", ttl_s=6)
    assert fence is not None
    await lock.aclose()
    await backend.aclose()


@pytest.mark.parametrize(
    ("line", "holder_pid"),
    [
        ("1: POSIX  ADVISORY  WRITE 77 08:01:1234 120 120", 77),
        ("1: POSIX  ADVISORY  WRITE 77 08:01:1234 0 EOF", 77),
        ("1: POSIX  ADVISORY  READ  77 08:01:1234 120 120", 0),
        ("1: POSIX  ADVISORY  WRITE 77 08:01:1234 123 123", 0),
        ("1: POSIX  ADVISORY  WRITE 77 08:01:1234 0 119", 0),
        ("1: POSIX  ADVISORY  WRITE 77 08:01:9999 120 120", 0),
        ("1: FLOCK  ADVISORY  WRITE 77 08:01:1234 0 EOF", 0),
        ("1: -> POSIX  ADVISORY  WRITE 77 08:01:1234 120 120", 0),
        ("", 0),
    ],
)
def test_table_of_locks_names_the_holder_of_the_write_lock(line: str, holder_pid: int) -> None:
    other = "7: FLOCK  ADVISORY  WRITE 5 00:16:77 0 EOF"
    assert _write_lock_holder(f"{other}\n{line}\n", 1234) == holder_pid
