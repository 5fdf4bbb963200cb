"""
A process that does not run and holds SQLite's write lock: found through the kernel, named, woken.

Rules of this file:

1. Nothing here opens the files of the database: closing any descriptor of a file gives up all POSIX
   locks that this process has on it, SQLite's own included. The kernel's table is read instead.
2. A process is one pid *and* one start time, a file is one device *and* one inode. A signal is sent
   through a pidfd that was opened before the evidence was gathered, so it cannot meet a successor.
3. What is done to another process unasked is SIGCONT: it can end nothing and lose nothing. SIGKILL
   is sent only where the operator allows it (``fence_by_kill``), only to a node of this store.

Theory of operation. A process that does not run between BEGIN and COMMIT keeps SQLite's write lock,
and then nobody can take its HA lock over, however long ago that ran out. One that was stopped
(SIGSTOP, Ctrl-Z) is woken: it commits or rolls back what it had begun, which is before any newer
tenure, finds its own deadline passed, and answers nothing any more. One that is held by a tracer, a
frozen cgroup or a disk cannot be woken by us; it is named, and may be killed: the clock has deposed
it, so only a commit that was never acknowledged is lost. Where the kernel does not tell (no
``/proc``, a process of another container) nothing is done, and the contender waits as for any busy
store.

Source: ours; proc(5) ``/proc/locks``; https://www.sqlite.org/walformat.html: WAL_WRITE_LOCK is byte
120 of the ``-shm`` file.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from baoha.storage.sqlite.host import mount_of

_WRITE_LOCK_BYTE: Final = 120
_LOCKS: Final = Path("/proc/locks")
_CGROUPS: Final = Path("/sys/fs/cgroup")
# Letters of proc(5), the most telling first: one thread decides what the process is doing.
_STATES: Final = {
    "t": "stopped by a tracer",
    "T": "stopped",
    "D": "waiting for a disk, or its cgroup is frozen",
    "Z": "ended, not yet reaped",
}


@dataclass(frozen=True, slots=True)
class Holder:
    """
    Another process that holds the write lock.

    Attributes:
        started: clock ticks from boot to its start.
        state: the letter of proc(5), such as "T"; its words are in ``described``.
        is_frozen: its cgroup is frozen (version 2: such a process looks asleep).
    """

    pid: int
    started: int
    state: str
    is_frozen: bool = False

    def is_same(self, other: Holder | None) -> bool:
        """Return whether it is the same process, whatever it is doing."""
        return other is not None and (self.pid, self.started) == (other.pid, other.started)

    @property
    def is_running(self) -> bool:
        """Whether it goes on by itself, as far as the kernel shows."""
        return not self.is_frozen and self.state not in _STATES

    @property
    def described(self) -> str:
        """Such as "pid 7 (state T, stopped)"."""
        words = "its cgroup is frozen" if self.is_frozen else _STATES.get(self.state, "not stopped")
        return f"pid {self.pid} (state {self.state}, {words})"


def find_holder(database: Path) -> Holder | None:
    """Return the other process that holds the file's write lock; None: nobody, or unknown."""
    try:
        shm = Path(os.path.realpath(database) + "-shm")
        pid = _write_lock_holder(_read_locks(), _file_key(shm))
        return None if pid in (0, os.getpid()) else _examine(pid)
    except (OSError, ValueError, IndexError):
        # Gone meanwhile, or not ours to see: the store is busy, and says so.
        return None


def wake(database: Path, holder: Holder) -> bool:
    """Send SIGCONT to a holder that was stopped by a signal; False: it was not, or not any more."""
    return holder.state == "T" and _signal(database, holder, signal.SIGCONT, lambda: True)


def kill_node(database: Path, holder: Holder, signs_of_life: Path) -> bool:
    """
    Send SIGKILL to a holder that is proven to be a node of this store.

    Args:
        signs_of_life: the folder in which each node has a flock on a file of its own.

    Returns:
        False: it is not proven, or it is the holder no more. Nothing was done.
    """
    return _signal(database, holder, signal.SIGKILL, lambda: _is_node(holder.pid, signs_of_life))


def _signal(
    database: Path, holder: Holder, number: signal.Signals, is_allowed: Callable[[], bool]
) -> bool:
    try:
        fd = os.pidfd_open(holder.pid)
    except OSError:
        return False
    try:
        # Asked after the pidfd was opened: what is true of the pid now is true of the pidfd.
        if not (holder.is_same(find_holder(database)) and is_allowed()):
            return False
        signal.pidfd_send_signal(fd, number)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _is_node(pid: int, signs_of_life: Path) -> bool:
    """Return whether a process is of our user and holds a sign of life in the folder."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    uids = next(line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
    if uids != [str(os.geteuid())] * len(uids):
        return False
    held = {key for holder, key in _flocks(_read_locks()) if holder == pid}
    return any(_file_key(path) in held for path in signs_of_life.glob("*.lock"))


# --- what the kernel says -----------------------------------------------------------------------


def _read_locks() -> str:
    return _LOCKS.read_text(encoding="ascii")


def _file_key(path: Path) -> str:
    """Return how ``/proc/locks`` names a file."""
    return f"{mount_of(path.parent).device}:{os.stat(path).st_ino}"


def _locks(table: str) -> Iterator[tuple[str, str, int, str, str, str]]:
    """Yield (kind, mode, pid, file, first, last) for each lock that is held."""
    for line in table.splitlines():
        fields = line.split()
        # Whoever waits for a lock stands behind its holder, with an arrow.
        if len(fields) == 8 and fields[1] != "->":
            _, kind, _, mode, pid, key, first, last = fields
            yield kind, mode, int(pid), key, first, last


def _write_lock_holder(table: str, key: str) -> int:
    """Return who holds the write lock according to ``/proc/locks``; 0: nobody."""
    for kind, mode, pid, file, first, last in _locks(table):
        if (kind, mode, file) != ("POSIX", "WRITE", key) or int(first) > _WRITE_LOCK_BYTE:
            continue
        if last == "EOF" or int(last) >= _WRITE_LOCK_BYTE:
            return max(pid, 0)
    return 0


def _flocks(table: str) -> Iterator[tuple[int, str]]:
    for kind, _, pid, file, _, _ in _locks(table):
        if kind == "FLOCK":
            yield pid, file


def _examine(pid: int) -> Holder:
    own = _stat(Path(f"/proc/{pid}/stat"))
    threads = {_stat(path)[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")}
    state = next((letter for letter in _STATES if letter in threads), own[0])
    cgroups = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace")
    return Holder(pid, int(own[19]), state, is_frozen(cgroups))


def _stat(path: Path) -> list[str]:
    # The command's name, in parentheses, may contain anything.
    return path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def is_frozen(cgroups: str, tree: Path = _CGROUPS) -> bool:
    """
    Return whether a process is in a frozen cgroup, version 1 or 2.

    Args:
        cgroups: the text of its ``/proc/PID/cgroup``.
        tree: where the cgroups are mounted.
    """
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        if "freezer" in controllers.split(","):
            wanted = [(tree / "freezer" / path[1:] / "freezer.state", "FROZEN")]
        elif not controllers:
            events = Path(path[1:]) / "cgroup.events"
            wanted = [(tree / root / events, "frozen 1") for root in ("", "unified")]
        else:
            continue
        for file, word in wanted:
            try:
                if word in file.read_text(encoding="ascii").splitlines():
                    return True
            except OSError:
                continue  # not mounted here, or the root of the tree, which cannot be frozen
    return False
