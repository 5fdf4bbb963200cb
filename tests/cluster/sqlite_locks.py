"""
Who holds SQLite's write lock, and whether a process has stopped, asked from the kernel.

Source: the WAL-index format of SQLite (https://sqlite.org/walformat.html, "locks"): the write lock
is byte 120 of the ``-shm`` file, a POSIX record lock; fcntl(2) F_GETLK names its holder.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

import trio

_WRITE_LOCK_BYTE = 120
# struct flock on 64-bit Linux: l_type, l_whence, (padding), l_start, l_len, l_pid.
_FLOCK = struct.Struct("hhqqi4x")


def write_lock_holder(database: Path) -> int:
    """Return the process id of whoever holds the write lock, 0 for nobody."""
    fd = os.open(f"{database}-shm", os.O_RDWR)
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _WRITE_LOCK_BYTE, 1, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    finally:
        os.close(fd)
    return 0 if kind == fcntl.F_UNLCK else pid


async def wait_stopped(pid: int) -> None:
    """Return when every thread of a process is stopped: SIGSTOP waits for a system call to end."""
    while True:
        if _is_stopped(pid):
            return
        await trio.sleep(0.001)


def _is_stopped(pid: int) -> bool:
    stats = [task.joinpath("stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return all(stat.rpartition(")")[2].split()[0] in "Tt" for stat in stats)
