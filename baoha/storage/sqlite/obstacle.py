"""
What keeps a contender from SQLite's write lock: looked up after a failure, said, and removed.

Rules of this file:

1. It looks only after an attempt has failed, or before one on a lock that ran out; a store that
   works costs nothing.
2. A problem is said once in the log, and stands in ``sentence`` until something proves it is over,
   or nobody has met it for ``SHOWN_S``: a sealed node tries no more.
3. A node is killed only when the clock has deposed it: ``GRACE_S`` after the HA lock ran out, and
   after the same process was in the way for as long.

Theory of operation. ``stopped`` knows the kernel; this knows the HA lock's row and what was
seen before. One object stands for one contender's handle.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from baoha.diagnostics.codes.health import WRITE_LOCK_HELD
from baoha.storage.lock_rules import LockRow
from baoha.storage.sqlite.stopped import Holder, find_holder, kill_node, wake
from baoha.timing import BootClock

log: Final = logging.getLogger("baoha.storage")

# Beyond the HA lock's own time: the owner of an expired lock may only be slow.
GRACE_S: Final = 2.0
# Longer than the pauses between two attempts.
SHOWN_S: Final = 30.0


class Obstacle:
    """
    The process that is in the way, if any.

    Args:
        database: the file.
        signs_of_life: the folder of the nodes' flocks.
        may_kill: the operator's ``fence_by_kill``.
        boot_clock: seconds, counting suspends too.
    """

    def __init__(
        self, database: Path, signs_of_life: Path, *, may_kill: bool, boot_clock: BootClock
    ) -> None:
        self._sentence = ""
        self._told_at_s = 0.0
        self._database = database
        self._signs_of_life = signs_of_life
        self._may_kill = may_kill
        self._boot_clock = boot_clock
        self._holder: Holder | None = None
        self._seen_since_s = 0.0
        self._killed: Holder | None = None
        self._expires_at_s: float | None = None

    @property
    def sentence(self) -> str:
        """What to tell an operator, with a diagnostic code; "" when nothing is in the way."""
        return self._sentence if self._boot_clock() < self._told_at_s + SHOWN_S else ""

    def wake_stopped(self) -> None:
        """Wake the holder if a signal has stopped it."""
        if (holder := find_holder(self._database)) is not None:
            self._wake(holder)

    def examine(self, row: LockRow | None) -> None:
        """
        Find out who is in the way of an attempt that has just failed; wake it, or kill it.

        Args:
            row: the HA lock as it was read last; None: it cannot be read.
        """
        holder = find_holder(self._database)
        now_s = self._boot_clock()
        if holder is None:
            self.clear()
            return
        if not holder.is_same(self._holder):
            self._seen_since_s = now_s
        self._holder = holder
        self._expires_at_s = None if row is None else row.expires_at_s
        sentence = WRITE_LOCK_HELD.sentence(
            f"{holder.described} holds the write lock of the sqlite store: until it lets go, no "
            "node can write or become active"
        )
        self._told_at_s = now_s
        if sentence != self._sentence:
            self._sentence = sentence
            log.error("%s: path=%s", sentence, self._database)
        if not self._wake(holder) and self._is_deposed(row, now_s):
            self._kill(holder)

    def row_changed(self, row: LockRow) -> None:
        """Take note of the HA lock as it is read now: whoever wrote it had the write lock."""
        if self._expires_at_s is not None and row.expires_at_s != self._expires_at_s:
            self.clear()

    def clear(self) -> None:
        """Forget the problem: an attempt has succeeded, or nobody is in the way."""
        if self._sentence:
            log.info("the write lock of the sqlite store is free again: path=%s", self._database)
        self._sentence = ""
        self._holder = self._expires_at_s = None

    def _wake(self, holder: Holder) -> bool:
        woken = wake(self._database, holder)
        if woken:
            log.warning("woke a stopped process that held the write lock: pid=%d", holder.pid)
        return woken

    def _is_deposed(self, row: LockRow | None, now_s: float) -> bool:
        if row is None or now_s < row.expires_at_s + GRACE_S:
            return False
        return now_s >= self._seen_since_s + GRACE_S

    def _kill(self, holder: Holder) -> None:
        if not self._may_kill or holder.is_running or holder.is_same(self._killed):
            return
        if kill_node(self._database, holder, self._signs_of_life):
            self._killed = holder
            log.error("killed a node that held the write lock and did not run: pid=%d", holder.pid)
