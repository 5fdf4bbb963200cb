"""
Asking the active node to leave: the desk between whoever wants it and the duty that does it.

Rule of this file: every request gets an answer, also when the tenure ends for another reason.
"""

from __future__ import annotations

from collections import deque

import trio

from baoha.errors import BaohaError, NotActive


class LeaveRequest:
    """
    One wish that active duty be handed over.

    Attributes:
        to: the wanted successor (see ``peers.choose_successor``), None for any.
        force: leave even if nobody is ready to take over.
        wait_s: how long to wait for a ready standby before refusing.
    """

    def __init__(self, *, reason: str, to: str | None, force: bool, wait_s: float) -> None:
        self.reason = reason
        self.to = to
        self.force = force
        self.wait_s = wait_s
        self._done = trio.Event()
        self._error: BaohaError | None = None

    def answer(self, error: BaohaError | None = None) -> None:
        """End the request: done, or not as wished (``error``). The first answer counts."""
        if not self._done.is_set():
            self._error = error
            self._done.set()

    async def wait_answer(self) -> None:
        """
        Wait for the answer.

        Raises:
            StepDownRefused: refused; nothing has changed.
            NotActive: the tenure ended for another reason meanwhile.
            StorageUnavailable: it left, and cannot tell who has the lock.
        """
        await self._done.wait()
        if self._error is not None:
            raise self._error


class LeaveDesk:
    """Takes requests while this node is active; one duty serves them in order."""

    def __init__(self) -> None:
        self._waiting: deque[LeaveRequest] = deque()
        self._current: LeaveRequest | None = None
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
                ended the tenure in that moment, and must not be repeated elsewhere.
        """
        self._open = False
        current, self._current = self._current, None
        if current is not None and is_left:
            current.answer()
        for request in [*([current] if current else []), *self._waiting]:
            request.answer(NotActive(f"active duty ended: {cause}"))
        self._waiting.clear()

    async def ask(self, request: LeaveRequest) -> None:
        """
        Hand in a request and wait for its answer.

        Raises:
            NotActive, StepDownRefused, StorageUnavailable: as ``LeaveRequest.wait_answer``.
        """
        if not self._open:
            raise NotActive("this node is not active")
        self._waiting.append(request)
        self._arrived.set()
        await request.wait_answer()

    async def next(self) -> LeaveRequest:
        """Return the next request, waiting for it. For the duty alone."""
        while not self._waiting:
            self._arrived = trio.Event()
            await self._arrived.wait()
        self._current = self._waiting.popleft()
        return self._current
