"""
The request gate: the only way to execute a request on the active node.

Rules of this file:

1. An open gate implies a tenure; admission and reply both ask the boot-time clock whether it is
   still valid, because a process that was suspended wakes up in the middle of either.
2. Nothing here waits except ``drain``. A long request delays nobody but itself.

Requests run in the listener's tasks, outside the duty's cancel scope. So the gate owns one cancel
scope for each, and whoever ends the tenure ends them too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from baoha.core.keys.landed_writes import CountedWrites
from baoha.errors import (
    FencedWrite,
    LeadershipLost,
    NotActive,
    ReadOnly,
    RequestError,
    Sealed,
    StorageError,
    StorageUnavailable,
)
from baoha.ha.tenure import Tenure

UNWIND_S = 0.1  # cancelled requests unwind in microseconds, unless a store write is under way


class Admitted:
    """One admitted request: a cancel scope and the tenure that admitted it."""

    def __init__(self, tenure: Tenure) -> None:
        self._tenure = tenure
        self.scope = trio.CancelScope()

    def require_valid(self) -> None:
        """
        Raise unless the reply may still leave.

        Raises:
            LeadershipLost: the tenure has ended meanwhile.
        """
        if not self._tenure.is_valid():
            self._tenure.end_if_overdue()
            raise LeadershipLost("active duty ended while the request was executed")


class RequestGate:
    """
    Admits requests during a tenure; counts, drains and cancels those inside.

    Attributes:
        tenure: what the gate is open for (its validity is asked at each admission); set by ``open``
            and ``close`` alone.
    """

    def __init__(self) -> None:
        self.tenure: Tenure | None = None
        self._inside: set[Admitted] = set()
        self._empty = trio.Event()
        self._empty.set()

    def open(self, tenure: Tenure) -> None:
        """Admit requests from now on, for this tenure."""
        self.tenure = tenure

    def close(self) -> None:
        """Admit nobody any more; those inside go on."""
        self.tenure = None

    @contextmanager
    def admit(self) -> Iterator[Admitted]:
        """
        Enter the gate for the time of one execution.

        Raises:
            NotActive: closed, or the tenure is not valid any more; nothing was executed.
                Raised out of the block instead of a refusal (RequestError) that came too late.
            LeadershipLost: the request was cancelled because the tenure ended.
            StorageUnavailable: the outcome is unknown, also where the store failed half-way.
        """
        tenure = self.tenure
        if tenure is None or not tenure.is_valid():
            if tenure is not None:
                tenure.end_if_overdue()
            raise NotActive("this node is not active")
        admission = Admitted(tenure)
        self._inside.add(admission)
        if len(self._inside) == 1:
            self._empty = trio.Event()
        try:
            with CountedWrites() as landed, admission.scope:
                yield admission
        except (FencedWrite, ReadOnly, Sealed) as exc:
            if isinstance(exc, FencedWrite):
                # The store knows better than our clock: somebody else holds the lock.
                tenure.end(f"a write was fenced off: {exc}")
            if landed:
                raise LeadershipLost("active duty ended in the middle of the request") from exc
            raise
        except StorageError as exc:
            if landed and exc.outcome == "not_applied":
                # True of the last step; but what came before it has landed.
                raise StorageUnavailable(str(exc), outcome="unknown") from exc
            raise
        except RequestError as exc:
            # A refusal is an answer too, and it may come from a state of the past. If nothing was
            # applied, the request may go to whoever is active now.
            if not tenure.is_valid():
                tenure.end_if_overdue()
                if landed:
                    raise LeadershipLost("active duty ended before the refusal") from exc
                raise NotActive("this node is not active any more") from exc
            raise
        finally:
            self._inside.discard(admission)
            if not self._inside:
                self._empty.set()
        if admission.scope.cancelled_caught:
            raise LeadershipLost("active duty ended while the request was executed")

    async def drain(self, grace_s: float) -> None:
        """
        Wait until nobody is inside; after ``grace_s`` seconds cancel those who still are.

        Cancellation: safe; whoever is inside stays inside.
        """
        with trio.move_on_after(grace_s):
            await self._empty.wait()
            return
        self.cancel_inside()
        # A store write that is already queued is not cancelled. It is not worth waiting for either:
        # its fence keeps it out once the lock has been passed on.
        with trio.move_on_after(UNWIND_S):
            await self._empty.wait()

    def cancel_inside(self) -> None:
        """Cancel everybody inside: they end as LeadershipLost."""
        for admission in self._inside:
            admission.scope.cancel()
