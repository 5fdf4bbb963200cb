"""
The requests of a standby on one connection to the active node.

Rules of this file: a call is settled exactly once, and how it is settled follows from two facts
only: what the active node said, and whether the last byte of the request was handed to the
connection (``OutMessage.complete``).

Source: ours; docs/decisions/005-park-and-never-repeat-writes.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

import trio

from baoha.cluster.transport import Transport
from baoha.errors import CannotForward, ForwardingError, ForwardingInterrupted, PayloadTooLarge
from baoha.sansio.patience import PeerPatience
from baoha.sansio.wire.assembly import MEDIUM_PART, Assembly
from baoha.sansio.wire.frames import (
    ChannelLimits,
    Frame,
    FrameError,
    FrameKind,
    check_size,
    decode_response,
    encode_credit,
    encode_head,
    parse_credit,
    parse_message_start,
)
from baoha.sansio.wire.lanes import Lane, Lanes
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse
from baoha.sansio.wire.outbox import OutMessage


class StandbyCalls:
    """
    One connection's calls.

    Attributes:
        outbox: what is to be sent.
        parted: the active node has said goodbye.
        preparing: this node is preparing to take over.
        pulse: whether the active node speaks.
    """

    def __init__(self, transport: Transport, limits: ChannelLimits) -> None:
        self.outbox = transport.outbox
        self.parted = False
        self.preparing = False
        self.pulse = ActivePulse()
        self._limits = limits
        self._room = InFlightLimit(limits, self._send)
        self._calls: dict[int, _Call] = {}
        self._idle = trio.Event()
        self._next_id = 1
        self._assembly: Assembly[bytes] = Assembly(
            budget_bytes=limits.in_flight_bytes_max, grant=self._grant
        )

    async def exchange(self, request: HTTPRequest) -> HTTPResponse:
        """Send a request and return its answer: see ``StandbyLink.forward``."""
        try:
            head = encode_head(request)
        except FrameError as exc:
            raise CannotForward(str(exc)) from exc
        try:
            check_size(len(head), len(request.body), self._limits)
        except FrameError as exc:
            raise PayloadTooLarge(str(exc)) from exc  # waiting would not make it smaller
        call = _Call(head, request.body)
        self._room.enter_or_wait(call)
        try:
            await call.settled.wait()
        finally:
            self._abandon(call)
            self._room.leave(call)
            if not self._room:
                self._idle.set()
        return call.outcome()

    async def wait_idle(self) -> None:
        """Wait until no call is under way."""
        while self.in_flight:
            self._idle = trio.Event()
            await self._idle.wait()

    @property
    def in_flight(self) -> int:
        """How many callers wait for an answer, or for their turn to send."""
        return len(self._room)

    def handle(self, frame: Frame) -> None:
        """
        Take a frame that belongs to a call. Never waits. Kinds that nobody knows are ignored: a
        newer active node may send them.

        Raises:
            FrameError: the peer broke the protocol; the connection must end.
        """
        if frame.kind == FrameKind.CREDIT:
            self.outbox.credit(frame.id, parse_credit(frame.payload))
            return
        call = self._calls.get(frame.id)
        if call is None:
            # Its caller has left; a body of it is not granted any more.
            return
        if frame.kind == FrameKind.RESPONSE:
            start = parse_message_start(frame.payload, self._limits)
            body = self._assembly.begin(frame.id, start.head, start.body_bytes, start.first)
            if body is not None:
                self._settle(call, decode_response(start.head, body))
        elif frame.kind == FrameKind.BODY:
            complete = self._assembly.add(frame.id, frame.payload)
            if complete is not None:
                self._settle(call, decode_response(*complete))
        elif frame.kind == FrameKind.NOT_EXECUTED:
            self._settle(call, CannotForward(_said("did not execute the request", frame)))
        elif frame.kind == FrameKind.UNKNOWN_OUTCOME:
            self._settle(
                call, ForwardingInterrupted(_said("cannot tell the request's outcome", frame))
            )

    def part(self, reason: str) -> None:
        """Settle all calls after a goodbye: what is unanswered was not executed and will not be."""
        self.parted = True
        left = f"the active node has left: {reason}"
        for call in list(self._calls.values()):
            if self._assembly.is_known(call.message_id):
                self._settle(call, ForwardingInterrupted(f"the answer was cut off: {reason}"))
            else:
                self._settle(call, CannotForward(left))
        self._room.close(left)

    def end(self, cause: str) -> None:
        """Settle all calls: the connection is gone."""
        for call in list(self._calls.values()):
            if call.may_be_executed:
                self._settle(call, ForwardingInterrupted(f"no answer came: {cause}"))
            else:
                self._settle(call, CannotForward(f"the request was not sent: {cause}"))
        self._room.close(cause)

    def _send(self, call: _Call) -> None:
        call.message = self.outbox.message(FrameKind.REQUEST, self._next_id, call.head, call.body)
        self._calls[self._next_id] = call
        self._next_id += 1

    def _settle(self, call: _Call, result: HTTPResponse | ForwardingError) -> None:
        self._forget(call)
        call.settle(result)

    def _abandon(self, call: _Call) -> None:
        """Forget a call whose caller leaves before it is settled."""
        message = call.message
        if message is None or message.id not in self._calls:
            return
        begun = message.begun
        self._forget(call)
        if begun:
            # Best effort: a peer that does not read will not cancel either.
            with suppress(FrameError):
                self.outbox.control(FrameKind.CANCEL, message.id)

    def _forget(self, call: _Call) -> None:
        message = call.message
        assert message is not None  # only what was sent is among the calls
        del self._calls[message.id]
        self._assembly.release(message.id)
        if not message.complete:
            self.outbox.drop(message)

    def _grant(self, message_id: int, count_bytes: int) -> None:
        self.outbox.control(FrameKind.CREDIT, message_id, encode_credit(count_bytes))


class ActivePulse:
    """
    When the active node last spoke on a connection, and how long its echoes take.

    Echoes come in the order of the heartbeats, so the oldest one without is what each answers.

    Attributes:
        heard_at: when the last frames came (trio's clock).
        patience: how long echoes took, and how late this process's own heartbeats were.
    """

    def __init__(self) -> None:
        self.heard_at = trio.current_time()
        self.patience = PeerPatience()
        self._heard = trio.Event()
        self._beaten_at: deque[float] = deque(maxlen=64)

    def hear(self, now: float) -> None:
        """Take note that the active node lives."""
        self.heard_at = now
        self._heard.set()

    async def wait_heard(self) -> None:
        """Wait until the active node speaks again."""
        self._heard = trio.Event()
        await self._heard.wait()

    def beat(self, now: float) -> None:
        """Take note of a heartbeat that was queued."""
        self._beaten_at.append(now)

    def take_echo(self, now: float) -> None:
        """Take note of the answer to the oldest heartbeat that has none."""
        if self._beaten_at:
            self.patience.observe(now - self._beaten_at.popleft())


class _Call:
    """One request: in the line, then sent, then settled."""

    __slots__ = ("body", "head", "message", "result", "settled")

    def __init__(self, head: bytes, body: bytes) -> None:
        self.head = head
        self.body = body
        self.message: OutMessage | None = None
        self.settled = trio.Event()
        self.result: HTTPResponse | ForwardingError | None = None

    @property
    def message_id(self) -> int:
        """Its id on the wire; 0 before it is sent."""
        return 0 if self.message is None else self.message.id

    @property
    def may_be_executed(self) -> bool:
        """Its last byte was handed to the connection."""
        return self.message is not None and self.message.complete

    def settle(self, result: HTTPResponse | ForwardingError) -> None:
        """Decide the call and wake its caller."""
        self.result = result
        self.settled.set()

    def outcome(self) -> HTTPResponse:
        """Return the response or raise the error. Only once the call is settled."""
        assert self.result is not None
        if isinstance(self.result, ForwardingError):
            raise self.result
        return self.result


class InFlightLimit(Lanes[_Call]):
    """
    Bounds the requests in flight by count and bytes; small ones do not wait for large ones.

    Args:
        enter: called with each call that gets in.
    """

    def __init__(self, limits: ChannelLimits, enter: Callable[[_Call], None]) -> None:
        count, size = limits.in_flight_max, limits.in_flight_bytes_max
        # What fits into one frame; what is decoded in a moment; the rest.
        super().__init__(
            (
                Lane(limits.chunk_bytes, size // 4, count),
                Lane(size // MEDIUM_PART, size // 4, max(1, count // 4)),
                Lane(size, size // 2, max(1, count // 8)),
            ),
            count_max=count,
            enter=enter,
        )
        self._closed_because: str | None = None

    def enter_or_wait(self, call: _Call) -> None:
        """Let a call in, now or when its turn comes. Every call that asked must leave."""
        self.ask(call, len(call.head) + len(call.body))
        if self._closed_because is not None:
            call.settle(CannotForward(self._closed_because))

    def close(self, cause: str) -> None:
        """Let nobody in any more; those in the line learn it at once."""
        if self._closed_because is None:
            self._closed_because = cause
            self.is_closed = True
            for call in self.waiting():
                call.settle(CannotForward(cause))


def _said(what: str, frame: Frame) -> str:
    return f"the active node {what}: {frame.payload.decode(errors='replace')}"
