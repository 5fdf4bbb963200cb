"""
Admission: what a node takes on, and what it refuses before any work is done.

Rules of this file:

1. A refusal means that nothing was executed. Who was let in is never refused for the crowd.
2. Strangers never take a place that somebody with a valid token waits for.
3. Control never waits for data. What is answered from memory does not come here at all; what needs
   the active node (``paths.is_control``) has a lane of its own.

| lane      | who                                     | places at a time           |
| --------- | --------------------------------------- | -------------------------- |
| reads     | a valid token, or no contention         | measured, 12 to 64         |
| writes    | the same                                | measured, 4 to 64          |
| heavy     | a body above 64 KiB                     | 2 to 8                     |
| control   | step-down, sys/ha-status                | 16                         |
| strangers | no valid token, while a lane is crowded | 2                          |

Theory of operation. The queues and the numbers are ``sansio.admission``; here are the tasks that
wait. A place is held while a request is executed or forwarded, not while it is parked. Whose token
is valid is asked (``NodeView.vouches_for``) only when somebody has to wait.

Source: ours. OpenBao has no such bound: it queues.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final, TypeVar

import trio

from baoha.sansio.admission import AdmissionLane, AdmissionLimits

log = logging.getLogger("baoha.api")
T = TypeVar("T")

# Bodies above this are work for worker threads, and for the channel's slow lane.
HEAVY_BYTES: Final = 64 * 1024


# A crowd is a line of the log this often.
_REPORT_S: Final = 10.0
# An address counts as pressing for so long after somebody there was refused.
_PRESSED_S: Final = 1.0
_PRESSED_MAX: Final = 1024
# Who waits in a lane that stands still looks this often whether it still does.
_LOOK_S: Final = 0.1


class RequestKind(Enum):
    """The lane of a request."""

    READ = "reads"
    WRITE = "writes"
    HEAVY = "heavy"
    CONTROL = "control"
    STRANGER = "strangers"


_LIMITS: Final = {
    RequestKind.READ: AdmissionLimits(),
    RequestKind.WRITE: AdmissionLimits(),
    RequestKind.HEAVY: AdmissionLimits(
        places_min=2, places_max=8, waiting_max=64, answer_s=5.0, wait_max_s=5.0, long_s=10.0
    ),
    RequestKind.CONTROL: AdmissionLimits(places_min=16, places_max=16, waiting_max=64, long_max=16),
    RequestKind.STRANGER: AdmissionLimits(places_min=2, places_max=2, waiting_max=256, long_max=16),
}


class NotLetIn(Exception):
    """The request was not let in; nothing was executed."""


def _go_on() -> None:
    return


class _Waiter:
    """One request before its place, or in it."""

    wake: trio.Event  # from when it has to wait
    is_in = False
    is_displaced = False


class Admission:
    """
    The lanes of one node.

    Attributes:
        lanes: one of each kind; to look at and to announce in, not to enter.
    """

    def __init__(self) -> None:
        self.lanes: dict[RequestKind, AdmissionLane[_Waiter]] = {
            kind: AdmissionLane(limits) for kind, limits in _LIMITS.items()
        }
        self._where = ""  # the node that executes
        self._pressed: OrderedDict[str, float] = OrderedDict()  # when somebody was refused
        self._reported_at = -math.inf  # on trio's clock
        self._reported: dict[RequestKind, int] = {}

    def refuses(self, kind: RequestKind, address: str, *, is_here: bool = True) -> bool:
        """
        Whether a newcomer is refused now. Without looking at the request.

        Args:
            is_here: it is the next; else it comes after those who were announced.
        """
        now = trio.current_time()
        lane = self.lanes[kind]
        if lane.parked and self._is_too_much_parked(lane, address):
            lane.refused += 1
        elif not lane.refuses(address, now, is_here=is_here):
            return False
        self._note_refusal(address, now)
        return True

    def _is_too_much_parked(self, lane: AdmissionLane[_Waiter], address: str) -> bool:
        """
        Whether no more is to wait for an active node from an address that asked for too much
        already. What the next one will take for each cannot be known: so it goes by number, and by
        that of a lane that knows nothing yet, for what a node executed itself it forwards then.
        """
        return lane.backlog >= lane.limits.places_min and self._is_pressed(address)

    def _note_refusal(self, address: str, now: float) -> None:
        self.press(address)
        self._report(now)

    def press(self, address: str) -> None:
        """Take note that somebody at an address was refused, here or by whoever accepts."""
        self._pressed.pop(address, None)
        self._pressed[address] = trio.current_time()
        if len(self._pressed) > _PRESSED_MAX:
            self._pressed.popitem(last=False)

    def _is_pressed(self, address: str) -> bool:
        return trio.current_time() < self._pressed.get(address, -math.inf) + _PRESSED_S

    def executes(self, where: str) -> None:
        """Take note of which node executes requests now; another one is asked for little first."""
        if where != self._where:
            self._where = where
            for lane in self.lanes.values():
                lane.limit.restart(trio.current_time())

    @contextmanager
    def parked(self, kind: RequestKind, address: str, *, is_new: bool) -> Iterator[None]:
        """
        Count a request that waits for an active node: it will come back, ahead of newcomers.

        Raises:
            Overloaded: it is new, and more than can be done was asked before the node was lost.
        """
        lane = self.lanes[kind]
        if is_new and self._is_too_much_parked(lane, address):
            lane.refused += 1
            raise NotLetIn
        lane.parked += 1
        try:
            yield
        finally:
            lane.parked -= 1

    async def run(
        self,
        kind: RequestKind,
        address: str,
        work: Callable[[], Awaitable[T]],
        *,
        returning_until: float | None = None,
        waited: Callable[[], None] = _go_on,
    ) -> T:
        """
        Do some work in a place of a lane.

        Args:
            address: of the client; those of one address wait for each other first.
            work: returns None if it came to nothing: what that took says nothing of the next.
            returning_until: a time of trio's clock; the request was let in before, and waits ahead
                of those who were not, until then.
            waited: called before the work if it could not be begun at once.

        Raises:
            Overloaded: not let in.

        Cancellation: while it waits nothing was done; then it is the work's.
        """
        lane = self.lanes[kind]
        now = trio.current_time()
        waiter = _Waiter()
        if returning_until is None:
            lane.arrive()
            if lane.refuses(address, now):
                self._note_refusal(address, now)
                raise NotLetIn
        if lane.enter(waiter, address, now, returning=returning_until is not None):
            waiter.is_in = True
        else:
            await self._wait(lane, waiter, address, returning_until)
            waited()
        result = None
        try:
            result = await work()
            return result
        finally:
            # What came to nothing (the node was lost) tells how long a change takes, not the work.
            counts = kind is not RequestKind.HEAVY and result is not None
            if served := lane.leave(waiter, trio.current_time(), counts=counts):
                _wake(served)

    def _report(self, now: float) -> None:
        if now < self._reported_at + _REPORT_S:
            return
        for kind, lane in self.lanes.items():
            refused = lane.refused - self._reported.get(kind, 0)
            self._reported[kind] = lane.refused
            if refused:
                log.warning(
                    "more is asked than this node can do: refused=%d lane=%s places=%d waiting=%d",
                    refused, kind.value, lane.limit.places, lane.waiting,
                )  # fmt: skip
        self._reported_at = now

    async def _wait(
        self,
        lane: AdmissionLane[_Waiter],
        waiter: _Waiter,
        address: str,
        returning_until: float | None,
    ) -> None:
        began = trio.current_time()
        waiter.wake = trio.Event()
        latest = returning_until or began + lane.limits.stall_max_s
        until = returning_until or began + lane.limits.wait_max_s
        displaced = lane.displaced()
        if displaced is not None:
            displaced.is_displaced = True
            displaced.wake.set()
        try:
            while not waiter.wake.is_set() and trio.current_time() < latest:
                with trio.move_on_at(until):
                    await waiter.wake.wait()
                now = trio.current_time()
                _wake(lane.reclaim(now))  # those that run may have become long ones
                if not waiter.wake.is_set() and not lane.is_stalled(now):
                    break
                until = min(now + _LOOK_S, latest)
        except trio.Cancelled:
            self._abandon(lane, waiter, address)
            raise
        if not waiter.is_in:
            self._abandon(lane, waiter, address)
            lane.refused += not waiter.is_displaced  # who was displaced is counted already
            self.press(address)
            raise NotLetIn

    def _abandon(self, lane: AdmissionLane[_Waiter], waiter: _Waiter, address: str) -> None:
        now = trio.current_time()
        if waiter.is_in:
            _wake(lane.leave(waiter, now, counts=False))
        else:
            _wake(lane.withdraw(waiter, address, now))


def _wake(waiters: list[_Waiter]) -> None:
    for waiter in waiters:
        waiter.is_in = True
        waiter.wake.set()
