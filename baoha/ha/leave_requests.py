"""
Asking the active node to leave: from whoever wants it to the duty that does it.

Rules of this file:

1. Every request gets an answer, also when the tenure ends for another reason.
2. Requests that meet are one: what was carried out, or refused, for the first of them answers all
   that wished the same.
3. A node that has to go waits for nobody who may ask in vain: its own wish is served first.
4. Who waits for a successor to appear stands in nobody's way: its turn comes when there is one, or
   when its time is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from baoha.errors import BaohaError, NotActive, NotTakenUp
from baoha.ha.passing import Passed


class LeaveRequest:
    """
    One wish that active duty be handed over.

    Attributes:
        to: the wanted successor (see ``successor``), None for any.
        force: leave even if nobody is ready to take over.
        wait_s: how long to wait for a ready standby before refusing.
        is_final: the node itself has to go (it ends, or is being sealed); never refused.
        has_waited: it has its turn: there is a ready standby, or its time to wait is over. One that
            is final has its turn at once, and waits in it.
        passed: what was done about the lock; None before anything was, or without a lock.
    """

    def __init__(
        self, *, reason: str, to: str | None, force: bool, wait_s: float, is_final: bool = False
    ) -> None:
        self.reason = reason
        self.to = to
        self.force = force
        self.wait_s = wait_s
        self.is_final = is_final
        self.has_waited = False
        self.passed: Passed | None = None
        self._done = trio.Event()
        self._error: BaohaError | None = None

    def answer(self, error: BaohaError | None = None) -> None:
        """End the request: done, or not as wished (``error``). The first answer counts."""
        if not self._done.is_set():
            self._error = error
            self._done.set()

    def answer_as(self, other: LeaveRequest) -> None:
        """End the request as another one has ended."""
        self.passed = other.passed
        self.answer(other._error)

    def wishes_the_same(self, other: LeaveRequest) -> bool:
        """Return whether a refusal of the other one is a refusal of this one."""
        return (self.to, self.force) == (other.to, other.force) and self.wait_s <= other.wait_s

    async def wait_answer(self) -> Passed | None:
        """
        Wait for the answer.

        Returns:
            What was done about the lock.

        Raises:
            StepDownRefused: refused; nothing has changed.
            NotActive: the tenure ended for another reason meanwhile.
            StorageUnavailable: it left, and cannot tell who has the lock.
        """
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self.passed


class LeaveRequests:
    """
    Takes requests while this node is active; one duty serves them, final ones first, the others in
    the order in which their turns come.
    """

    def __init__(self) -> None:
        self._unseen: deque[LeaveRequest] = deque()  # nobody waits for their successors yet
        self._waiting: deque[LeaveRequest] = deque()
        self._current: LeaveRequest | None = None
        self._searching: trio.CancelScope | None = None
        self._arrived = trio.Event()
        self._open = False

    def open(self) -> None:
        """Take requests from now on."""
        self._open = True

    def close(self, cause: str, *, is_left: bool) -> None:
        """
        Answer everybody: the tenure is over.

        Args:
            is_left: the current request was being carried out. Then it has come true, whatever
                ended the tenure in that moment, and must not be repeated elsewhere; and so have the
                others that named no successor.
        """
        self._open = False
        current, self._current = self._current, None
        if current is not None and is_left:
            current.answer(
                None if current.passed else NotTakenUp(f"active duty ended on the way out: {cause}")
            )
            for request in self._waiting:
                if request.to is None:
                    request.answer_as(current)
        for request in [*([current] if current else []), *self._waiting]:
            request.answer(NotActive(f"active duty ended: {cause}"))
        self._waiting.clear()
        self._unseen.clear()

    def refuse(self, error: BaohaError) -> None:
        """Answer the current request, and all that wish the same: nothing has changed."""
        current = self._current
        assert current is not None
        current.answer(error)
        for request in [each for each in self._waiting if each.wishes_the_same(current)]:
            self._waiting.remove(request)
            request.answer(error)

    async def submit(self, request: LeaveRequest) -> Passed | None:
        """
        Hand in a request and wait for its answer.

        Raises:
            NotActive, StepDownRefused, StorageUnavailable: as ``LeaveRequest.wait_answer``.
        """
        if not self._open:
            raise NotActive("this node is not active")
        if request.is_final:
            self._waiting.appendleft(request)
            if self._searching is not None:
                self._searching.cancel()
        else:
            self._waiting.append(request)
            self._unseen.append(request)
        self._arrived.set()
        return await request.wait_answer()

    @contextmanager
    def searching(self) -> Iterator[trio.CancelScope]:
        """
        Look for a successor of the current request, inside this block. For the duty alone.

        A final request that arrives meanwhile ends the block: it is next, and the current request
        waits again. Nothing has changed by then.
        """
        current = self._current
        assert current is not None
        with trio.CancelScope() as scope:
            if not current.is_final:
                self._searching = scope
            try:
                yield scope
            finally:
                self._searching = None
        if scope.cancelled_caught:
            self._current = None
            self._waiting.append(current)

    async def take(self, begin_waiting: Callable[[LeaveRequest], None]) -> LeaveRequest:
        """
        Return the next request that has its turn, waiting for it. For the duty alone.

        Args:
            begin_waiting: called once for each request that is not final; sees to it that
                ``give_turn`` is called for it.
        """
        while True:
            while self._unseen:
                begin_waiting(self._unseen.popleft())
            for request in self._waiting:
                if request.is_final or request.has_waited:
                    self._waiting.remove(request)
                    self._current = request
                    return request
            self._arrived = trio.Event()
            await self._arrived.wait()

    def give_turn(self, request: LeaveRequest) -> None:
        """Let a request be served: it need not wait for its successor any more."""
        request.has_waited = True
        # Behind those whose turn came earlier.
        if request in self._waiting:
            self._waiting.remove(request)
            self._waiting.append(request)
        self._arrived.set()
