"""
The one thread of the sqlite store that writes: a queue, group commit, one wake-up per group.

Rules of this file:

1. A job reports nothing before its COMMIT has returned: not success, and not a refusal either,
   because a refusal may rest on what an earlier job of the same transaction wrote.
2. A job refuses before it writes. So a refused job needs no savepoint, and the others commit.
3. The write lock of the file is never held while the thread waits for work.
4. Jobs of the HA lock ("urgent") go first, and do not share the fate of the others: on a full disk
   they get the space that is kept for them (``reserve``), and data jobs are refused.
5. A job waits in the queue, or it was taken: only who withdraws a waiting one knows that it will
   not be run. A closed queue lets nothing in; what waited before is still taken, or broken off.

Theory of operation. ``submit`` appends a job and sleeps. The thread takes everything of one kind
that is queued (lock jobs first), runs it inside one ``BEGIN IMMEDIATE .. COMMIT``, and hands all
answers back with one ``run_sync_soon``. While one group is being made durable the next one gathers,
so the cost of an fsync is shared by all who wait. When SQLite itself refuses a job's statement, or
there is no space for the group, the group is rolled back and its jobs run one by one, so that one
bad job hurts nobody else. A lock job for which there is no space gets a checkpoint first, so that
the WAL can begin anew, and then the reserve.

Source: ours; docs/spec/libraries.md section 4: group commit is worth 12 to 21 times single commits.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import trio

from baoha.diagnostics.codes.health import DISK_FULL
from baoha.errors import BaohaError, Outcome, StorageError, StorageUnavailable
from baoha.storage.sqlite import file as sqlite_file
from baoha.storage.sqlite.companions import Companions
from baoha.storage.sqlite.reader import FileConnection
from baoha.storage.sqlite.reserve import HEADROOM, SIZE, Reserve

T = TypeVar("T")

log: Final = logging.getLogger("baoha.storage")

# One group's transaction stays short, so that a renewal behind it does not wait for long.
_GROUP_JOBS_MAX: Final = 512
# Callers are bounded above this (the request gate); here it only keeps memory bounded.
_QUEUE_JOBS_MAX: Final = 16_384
# A node that has no work for its writer must not go on saying what is over.
_LOOK_S: Final = 2.0
_FULL: Final = DISK_FULL.sentence(
    "the disk of the sqlite store is full: reads go on, writes are refused until "
    f"{(SIZE + HEADROOM) >> 20} MiB are free"
)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a transaction has not committed."""

    cause: sqlite3.Error | OSError | StorageUnavailable
    outcome: Outcome = "not_applied"
    is_of_a_job: bool = False  # a statement was refused, not the transaction as a whole

    @property
    def is_space(self) -> bool:
        return isinstance(self.cause, sqlite3.Error) and sqlite_file.is_no_space(self.cause)

    @property
    def may_be_one_jobs(self) -> bool:
        """Whether the others may succeed without one of them, and nothing has landed."""
        return self.outcome == "not_applied" and (self.is_of_a_job or self.is_space)

    def error(self) -> StorageError:
        if isinstance(self.cause, sqlite3.Error):
            return sqlite_file.map_error(self.cause, "write", self.outcome)
        cause = self.cause.strerror if isinstance(self.cause, OSError) else self.cause
        return StorageUnavailable(f"cannot write sqlite storage: {cause}", outcome=self.outcome)


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


class Writer:
    """
    The writing thread of one database file.

    Args:
        path: the file; it must exist.
        busy_timeout_s: how long to wait for another process's write.
        op_timeout_s: how long a caller waits for its answer.
        reserve: the space that is kept for urgent jobs; None: there is none.
        companions: the files beside the database; None: without second names.

    Attributes:
        problem: what to tell an operator, with a diagnostic code; "" when there is space.

    Owns: its thread and connection, until ``aclose``. Must be made inside ``trio.run``.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_timeout_s: float,
        op_timeout_s: float,
        reserve: Reserve | None = None,
        companions: Companions | None = None,
    ) -> None:
        self.problem = ""
        self._companions = companions or Companions(path, None)
        self._file = FileConnection(
            path, self._companions, partial(self._companions.open_patiently, busy_timeout_s)
        )
        self._path = path
        self._reserve = reserve
        self._op_timeout_s = op_timeout_s
        self._token = trio.lowlevel.current_trio_token()
        self._jobs = JobQueue()
        self._ended = trio.Event()
        # A daemon: a disk that never answers must not keep the process from ending.
        self._thread = threading.Thread(target=self._main, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def submit(
        self,
        run: Callable[[sqlite3.Connection], T],
        *,
        urgent: bool = False,
        after: Callable[[T], None] | None = None,
    ) -> T:
        """
        Run a job in the next transaction, and return what it returned once that is durable.

        Args:
            run: called in the writer thread inside the transaction, possibly more than once; it
                may raise a BaohaError before it writes.
            urgent: ahead of all that is not.
            after: called in the writer thread with the result, when it is durable. Must not raise.

        Raises:
            StorageUnavailable: no answer in time, or SQLite failed; ``outcome`` says what is known.
            BaohaError: what ``run`` raised.

        Cancellation: before the job is queued only. Then it ends with the answer or in time.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        job = WriteJob(run, after, urgent=urgent)
        self._jobs.put(job)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._op_timeout_s):
            await job.done.wait()
        if not job.done.is_set():
            raise self._give_up(job)
        return job.result()

    async def aclose(self) -> None:
        """Finish what is queued, move the WAL into the file, end the thread. Safe to call twice."""
        self._jobs.close()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._op_timeout_s):
            await self._ended.wait()

    # --- the callers' side --------------------------------------------------------------------

    def _give_up(self, job: WriteJob[T]) -> StorageUnavailable:
        outcome: Outcome = "not_applied" if self._jobs.withdraw(job) else "unknown"
        return StorageUnavailable(
            f"cannot write sqlite storage: no answer within {self._op_timeout_s:g}s",
            outcome=outcome,
        )

    # --- the thread's side --------------------------------------------------------------------

    def _main(self) -> None:
        group: list[WriteJob[Any]] | None = None
        try:
            while (group := self._jobs.take(_LOOK_S if self.problem else None)) is not None:
                if group:
                    self._run_group(group)
                    self._hand_back(group)
                else:
                    self._look_for_space()
        except trio.RunFinishedError:
            # Nobody is left to be told. What was committed stays committed.
            return
        except Exception as exc:
            # A bug. It is raised where the job is awaited, and the thread ends: a writer in an
            # unknown state must not go on.
            self._end_broken(exc, group or [])
        finally:
            if self._file.held is not None:
                self._checkpoint()
            self._file.drop()
            self._finish()

    def _run_group(self, group: list[WriteJob[Any]]) -> None:
        if not self._has_space(group):
            for job in group:
                job.error = StorageUnavailable(f"cannot write sqlite storage: {_FULL}")
            return
        failure = self._transact(group)
        if failure is not None and failure.is_space and group[0].urgent:
            failure = self._transact_with_reserve(group)
        if failure is None:
            for job in group:
                job.committed()
        elif len(group) > 1 and failure.may_be_one_jobs:
            for job in group:
                self._run_group([job])
        else:
            for job in group:
                job.error = failure.error()
                job.error.__cause__ = failure.cause

    def _has_space(self, group: list[WriteJob[Any]]) -> bool:
        """Return whether a group may be tried; another process may have used the reserve up."""
        if self.problem or group[0].urgent:
            self._look_for_space()
        return group[0].urgent or not self.problem

    def _look_for_space(self) -> None:
        if self._reserve is not None:
            self._report("" if self._reserve.ensure() else _FULL)

    def _transact(self, group: list[WriteJob[Any]]) -> _Failure | None:
        """Run jobs in one transaction; None: it has committed."""
        step = "begin"
        try:
            connection = self._file.get()
            connection.execute("BEGIN IMMEDIATE")
            self._companions.ensure_patiently()
            step = "jobs"
            for job in group:
                job.execute(connection)
            step = "commit"
            connection.execute("COMMIT")
            step = "acknowledge"
            # Files that have lost their names meanwhile would be missed by who opens the store.
            self._companions.ensure_patiently()
        except sqlite3.Error as exc:
            self._roll_back()
            if sqlite_file.must_reopen(exc):
                self._file.drop()
            outcome: Outcome = "not_applied"
            if step == "commit":
                outcome = sqlite_file.commit_outcome(exc)
            return _Failure(exc, outcome, is_of_a_job=step == "jobs")
        except OSError as exc:
            self._file.drop()
            return _Failure(exc, "unknown" if step == "acknowledge" else "not_applied")
        except StorageUnavailable as exc:
            self._roll_back()
            return _Failure(exc, "unknown" if step == "acknowledge" else "not_applied")
        return None

    def _transact_with_reserve(self, group: list[WriteJob[Any]]) -> _Failure | None:
        """
        Run lock jobs again for which there was no space: first with the WAL begun anew.

        A lock job may run twice, also after a commit of unknown outcome: it decides by the row.
        """
        self._checkpoint()
        again = self._transact(group)
        if again is None or not again.is_space:
            return again
        if self._reserve is None or not self._reserve.give_up():
            return again
        self._report(_FULL)
        log.warning("using the space that is kept for the HA lock: path=%s", self._path)
        self._checkpoint()
        return self._transact(group)

    def _report(self, problem: str) -> None:
        before, self.problem = self.problem, problem
        if problem and not before:
            log.error("%s: path=%s", problem, self._path)
        elif before and not problem:
            log.info("the disk of the sqlite store has space again: path=%s", self._path)

    def _roll_back(self) -> None:
        # SQLite has rolled back by itself after some errors; then there is nothing left to do.
        connection = self._file.held
        try:
            if connection is not None and connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._file.drop()

    def _checkpoint(self) -> None:
        """Move the WAL into the file as far as that goes without waiting for anybody."""
        try:
            connection = self._file.held or self._file.get()
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except (sqlite3.Error, OSError, StorageUnavailable):
            # The WAL keeps everything; the next one moves it.
            return

    def _hand_back(self, group: list[WriteJob[Any]]) -> None:
        def deliver() -> None:
            for job in group:
                job.done.set()

        self._token.run_sync_soon(deliver)

    def _end_broken(self, exc: BaseException, group: list[WriteJob[Any]]) -> None:
        left = self._jobs.break_off()
        for job in group:
            job.error = exc
        for job in left:
            job.error = StorageUnavailable("cannot write sqlite storage: the writer has ended")
        self._hand_back([*group, *left])

    def _finish(self) -> None:
        try:
            self._token.run_sync_soon(self._ended.set)
        except trio.RunFinishedError:
            return
