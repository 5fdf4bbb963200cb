"""
A process that was stopped inside a write: found through the kernel, and woken.

Rules of this file:

1. Nothing here opens the files of the database: closing any descriptor of a file gives up all POSIX
   locks that this process has on it, SQLite's own included. The kernel's table is read instead.
2. The only thing done to another process is SIGCONT: it can end nothing and lose nothing.

Theory of operation. A process that is stopped (SIGSTOP, Ctrl-Z) between BEGIN and COMMIT keeps
SQLite's write lock, and then nobody can take its HA lock over, however long ago that ran out. Once
it is woken it commits or rolls back what it had begun, which is before any newer tenure, finds its
own deadline passed, and answers nothing any more. Where the kernel does not tell (no ``/proc``, a
process of another container) nothing is done, and the contender waits as for any busy store.

Source: ours; proc(5) ``/proc/locks``; https://www.sqlite.org/walformat.html: WAL_WRITE_LOCK is byte
120 of the ``-shm`` file.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

_WRITE_LOCK_BYTE = 120
_STOPPED = "T"


def wake_stopped_writer(database: Path) -> int:
    """Wake the process that is stopped while it holds the file's write lock; return its id or 0."""
    try:
        inode = os.stat(f"{database}-shm").st_ino
        pid = _write_lock_holder(Path("/proc/locks").read_text(encoding="ascii"), inode)
        if pid <= 0 or pid == os.getpid() or _state(pid) != _STOPPED:
            return 0
        os.kill(pid, signal.SIGCONT)
    except OSError:
        # Gone meanwhile, or not ours to see or to wake: the store is busy, and says so.
        return 0
    return pid


def _write_lock_holder(table: str, inode: int) -> int:
    """Return who holds the write lock according to ``/proc/locks``; 0: nobody."""
    for line in table.splitlines():
        fields = line.split()
        # Whoever waits for a lock stands behind its holder, with an arrow.
        if len(fields) != 8 or fields[1] != "POSIX" or fields[3] != "WRITE":
            continue
        _, _, _, _, pid, place, first, last = fields
        if int(place.rpartition(":")[2]) != inode or int(first) > _WRITE_LOCK_BYTE:
            continue
        if last == "EOF" or int(last) >= _WRITE_LOCK_BYTE:
            return int(pid)
    return 0


def _state(pid: int) -> str:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    # The command's name, in parentheses, may contain anything.
    return stat.rpartition(")")[2].split()[0]
