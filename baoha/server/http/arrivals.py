"""
What arrives on the plain connections of a listener: read here, and mostly refused here in a crowd.

Rules of this file:

1. A refusal wakes no task. It costs a look and two calls of the kernel, or it would be no help.
2. Only so many connections are read at a time (``_BATCH``), however many have something to say, and
   in a crowd then none for ``CROWD_PAUSE_S``: refusing has a bounded share of the node's time, and
   what came meanwhile shares the cost of waking up. It waits in the kernel, in the order in which
   it came.
3. Bytes are read once and reach their connection in order; a connection waits for one thing at a
   time.

Theory of operation. Every plain connection that waits for bytes is armed in an ``epoll`` of the
listener's own, which is itself one descriptor to trio. Reading through trio wakes a task for each
connection, all that are ready in the same round, before anything is known of what they want: in a
crowd that alone takes longer than the requests that can be answered. Here the first bytes of a
request are looked at (``Door``), and a request that would be refused is answered in place. All
others get a turn (``Turns``), at once where nobody waits, and only then is their task woken. Bytes
that go on with a request, or that come while it is answered, are handed on as they are.

Source: ours.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import Any, Final, Protocol

import outcome
import trio

from baoha.api.door import Look
from baoha.server.http.intake import CROWD_PAUSE_S, NOTHING_YET, Intake, Opening
from baoha.server.http.turns import Turn

# Connections that are read in one round.
_BATCH: Final = 128
_RECEIVE_BYTES: Final = 65_536
_ARMED: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT


class Guest(Protocol):
    """A connection, as it is seen from here."""

    @property
    def is_between_requests(self) -> bool:
        """Whether what comes next is the begin of a request."""

    @property
    def keeps_alive(self) -> bool:
        """Whether connections are kept at all by now."""

    def begin(self, look: Look, size_bytes: int) -> None:
        """Take note of the first bytes of a request."""

    def was_refused(self) -> None:
        """Take note that the request was answered; the connection is between requests again."""


class Seat:
    """The place of one connection here; ``receive`` is its only use."""

    __slots__ = (
        "_arrivals",
        "address",
        "data",
        "fileno",
        "guest",
        "has_turn",
        "is_known",
        "opening",
        "task",
        "turn",
    )

    def __init__(
        self,
        arrivals: Arrivals,
        fileno: int,
        guest: Guest,
        address: str,
        opening: Opening = NOTHING_YET,
    ) -> None:
        """Take the descriptor of a socket that ``guest`` reads, a client at ``address``."""
        self._arrivals = arrivals
        self.fileno = fileno
        self.guest = guest
        self.address = address
        self.data = b""
        self.opening = opening
        self.is_known = False  # to the kernel's list; it forgets a descriptor that is closed
        self.has_turn = False  # the bytes that were returned last may be parsed
        self.task: trio.lowlevel.Task | None = None
        self.turn: _Arrived | None = None

    async def receive(self) -> bytes:
        """
        Return what has come, b"" at the end.

        Raises:
            trio.BrokenResourceError: the connection is lost.
            Refused: the request was answered, but the connection does not go on.

        Cancellation: what has been read and not returned is lost: the connection cannot go on.
        """
        return await self._arrivals._receive(self)


class Refused(Exception):
    """A request was refused, and ``sent`` bytes of ``answer`` are out."""

    def __init__(self, answer: bytes, sent: int) -> None:
        super().__init__(sent)
        self.answer = answer
        self.sent = sent


class _Arrived(Turn):
    """The turn of a request whose first bytes were read."""

    __slots__ = ("_arrivals", "_look", "_seat")

    def __init__(self, arrivals: Arrivals, seat: Seat, look: Look, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self._arrivals = arrivals
        self._seat = seat
        self._look = look

    def come(self) -> bool:
        return self._arrivals._turn_came(self._seat, self._look)

    def expire(self) -> None:
        self._arrivals._turn_expired(self._seat, self._look)


class Arrivals:
    """The reader of one listener; ``run`` must be running, and so must ``intake.turns.run``."""

    def __init__(self, intake: Intake) -> None:
        """Read for connections whose requests are admitted by ``intake``."""
        self._intake = intake
        self._poll = select.epoll()
        self._armed: dict[int, Seat] = {}

    async def run(self) -> None:
        """Read what arrives. Never returns; closes the descriptor when it is cancelled."""
        try:
            is_pause_due = False
            while True:
                if is_pause_due:
                    # Then somebody has nearly always something to say: no need to have trio ask.
                    await trio.sleep(CROWD_PAUSE_S)
                else:
                    await trio.lowlevel.wait_readable(self._poll.fileno())
                is_pause_due = self._read_batch()
        finally:
            trio.lowlevel.notify_closing(self._poll.fileno())
            self._poll.close()

    def _read_batch(self) -> bool:
        """Attend to some of those who have something to say; return whether a pause is due."""
        is_crowded = self._intake.is_crowded
        ready = self._poll.poll(0, _BATCH)
        for fileno, _ in ready:
            # Whoever left since has taken its seat along.
            if (seat := self._armed.pop(fileno, None)) is not None:
                self._attend(seat)
        return is_crowded and bool(ready)

    async def _receive(self, seat: Seat) -> bytes:
        seat.task = trio.lowlevel.current_task()
        seat.has_turn = False
        if seat.opening.data:
            opening, seat.opening = seat.opening, NOTHING_YET
            if self._has_turn_for(seat, opening.data, opening.look):
                seat.has_turn = True
                seat.task = None
                return opening.data
        else:
            self._arm(seat)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._forget(seat)
            return trio.lowlevel.Abort.SUCCEEDED

        data: bytes = await trio.lowlevel.wait_task_rescheduled(abort)
        return data

    def _arm(self, seat: Seat) -> None:
        self._armed[seat.fileno] = seat
        if seat.is_known:
            self._poll.modify(seat.fileno, _ARMED)
        else:
            self._poll.register(seat.fileno, _ARMED)
            seat.is_known = True

    def _forget(self, seat: Seat) -> None:
        seat.task = None
        self._armed.pop(seat.fileno, None)
        if seat.turn is not None:
            self._intake.turns.withdraw(seat.turn)
            seat.turn = None

    def _attend(self, seat: Seat) -> None:
        try:
            data = os.read(seat.fileno, _RECEIVE_BYTES)
        except BlockingIOError:
            self._arm(seat)
            return
        except OSError as error:
            lost = trio.BrokenResourceError("the connection is lost")
            lost.__cause__ = error
            self._resume(seat, outcome.Error(lost))
            return
        if not data or not seat.guest.is_between_requests:
            self._resume(seat, outcome.Value(data))
            return
        look = self._intake.look(data)
        if not self._intake.lets_in(look, seat.address):
            seat.guest.begin(look, len(data))
            self._refuse(seat, look)
        elif self._has_turn_for(seat, data, look):
            self._resume(seat, outcome.Value(data), has_turn=True)

    def _has_turn_for(self, seat: Seat, data: bytes, look: Look) -> bool:
        """Whether a request that was let in may be parsed at once; if not, its turn comes."""
        seat.guest.begin(look, len(data))
        turns = self._intake.turns
        if turns.claim(len(data)):
            return True
        seat.data, seat.turn = data, _Arrived(self, seat, look, len(data))
        turns.queue(seat.turn, look.urgency, seat.address, expires=look.is_refusable)
        return False

    def _turn_came(self, seat: Seat, look: Look) -> bool:
        """Wake the task, or refuse after all; return whether it was woken."""
        seat.turn = None
        data, seat.data = seat.data, b""
        if not self._intake.still_lets_in(look, seat.address):
            self._refuse(seat, look)
            return False
        self._resume(seat, outcome.Value(data), has_turn=True)
        return True

    def _turn_expired(self, seat: Seat, look: Look) -> None:
        seat.turn, seat.data = None, b""
        self._intake.press(look, seat.address)
        self._refuse(seat, look)

    def _refuse(self, seat: Seat, look: Look) -> None:
        keeps_alive = look.keeps_alive and seat.guest.keeps_alive
        answer = self._intake.refusal(keeps_alive=keeps_alive)
        sent = 0
        with contextlib.suppress(OSError):  # whoever sends next finds out why
            sent = os.write(seat.fileno, answer)
        if keeps_alive and sent == len(answer):
            seat.guest.was_refused()
            self._arm(seat)
        else:
            self._resume(seat, outcome.Error(Refused(answer, sent)))

    def _resume(self, seat: Seat, result: outcome.Outcome[Any], *, has_turn: bool = False) -> None:
        assert seat.task is not None
        seat.has_turn = has_turn
        task, seat.task = seat.task, None
        trio.lowlevel.reschedule(task, result)
