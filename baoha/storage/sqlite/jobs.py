"""
What waits for the writing thread: jobs, and the queue between trio's thread and that one.

Rules of this file:

1. A job waits in the queue, or it was taken. Only who withdraws a waiting one knows that it will
   not be run.
2. Jobs of the HA lock ("urgent") go first, and are never taken together with others.
3. A closed queue lets nothing in. What waited before is still taken, or broken off and told so.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import trio

from baoha.errors import BaohaError, StorageUnavailable

T = TypeVar("T")

# One group's transaction stays short, so that a renewal behind it does not wait for long.
_GROUP_JOBS_MAX: Final = 512
# Callers are bounded above this (the request gate); here it only keeps memory bounded.
_QUEUE_JOBS_MAX: Final = 16_384


class WriteJob(Generic[T]):
    """One unit of work; ``run`` is called inside the transaction, ``after`` once it is durable."""

    def __init__(
        self,
        run: Callable[[sqlite3.Connection], T],
        after: Callable[[T], None] | None,
        *,
        urgent: bool,
    ) -> None:
        self._run = run
        self._after = after
        self.urgent = urgent
        self.done = trio.Event()
        self.error: BaseException | None = None
        self._result: list[T] = []

    def execute(self, connection: sqlite3.Connection) -> None:
        """Run it inside the transaction, possibly once more; a refusal is kept."""
        self._result.clear()
        self.error = None
        try:
            self._result.append(self._run(connection))
        except BaohaError as exc:
            self.error = exc

    def committed(self) -> None:
        """Do what follows, now that it is durable."""
        if self._after is not None and self._result:
            self._after(self._result[0])

    def result(self) -> T:
        """Return or raise what came of it. Only once it is done."""
        if self.error is not None:
            raise self.error
        return self._result[0]


class JobQueue:
    """
    The jobs that wait. ``take`` belongs to the writing thread, the rest to any.
    """

    def __init__(self) -> None:
        self._wake = threading.Condition()
        # A job's type only matters to the caller who gets its result.
        self._urgent: deque[WriteJob[Any]] = deque()
        self._others: deque[WriteJob[Any]] = deque()
        self._is_closed = False

    def put(self, job: WriteJob[T]) -> None:
        """
        Let a job wait.

        Raises:
            StorageUnavailable: the queue is closed or full.
        """
        with self._wake:
            if self._is_closed:
                raise StorageUnavailable("cannot write sqlite storage: the store is closed")
            if len(self._others) >= _QUEUE_JOBS_MAX:
                raise StorageUnavailable("cannot write sqlite storage: too many writes are waiting")
            (self._urgent if job.urgent else self._others).append(job)
            self._wake.notify()

    def withdraw(self, job: WriteJob[T]) -> bool:
        """Return whether a job still waited, and does not any more; else it was taken."""
        with self._wake:
            for jobs in (self._urgent, self._others):
                if job in jobs:
                    jobs.remove(job)
                    return True
        return False

    def take(self, patience_s: float | None) -> list[WriteJob[Any]] | None:
        """
        Wait for work, and take what belongs into one transaction.

        Args:
            patience_s: for how long to wait at most; None: for ever.

        Returns:
            None: the queue is closed, and nothing is left. Empty: nothing came in that time.
        """
        with self._wake:
            while not (self._urgent or self._others or self._is_closed):
                if not self._wake.wait(patience_s):
                    return []
            # Of one kind: a lock job that shared a transaction would share its fate, too.
            jobs = self._urgent or self._others
            return [jobs.popleft() for _ in range(min(len(jobs), _GROUP_JOBS_MAX))] or None

    def close(self) -> None:
        """Let nothing in any more; what waits is still taken."""
        with self._wake:
            self._is_closed = True
            self._wake.notify()

    def break_off(self) -> list[WriteJob[Any]]:
        """Let nothing in any more, and return what nobody will take."""
        with self._wake:
            self._is_closed = True
            left = [*self._urgent, *self._others]
            self._urgent.clear()
            self._others.clear()
        return left
