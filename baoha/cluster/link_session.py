"""
The requests of a standby on one connection to the active node.

Rules of this file: a call is settled exactly once, and how it is settled follows from two facts
only: what the active node said, and whether the last byte of the request was handed to the
connection (``OutMessage.complete``).

Source: ours (DESIGN.md section 5).
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress

import trio

from baoha.cluster.transport import Transport
from baoha.errors import CannotForward, ForwardingError, ForwardingInterrupted
from baoha.sansio.assembly import Assembly
from baoha.sansio.frames import (
    ChannelLimits,
    Frame,
    FrameError,
    Kind,
    check_size,
    decode_response,
    encode_credit,
    encode_head,
    parse_credit,
    parse_message_start,
)
from baoha.sansio.messages import HTTPRequest, HTTPResponse
from baoha.sansio.outbox import OutMessage


class LinkSession:
    """
    One connection's calls.

    Attributes:
        outbox: what is to be sent.
        parted: the active node has said goodbye.
        heard_at: when the last frames came (trio's clock).
        preparing: this node is preparing to take over.
    """

    def __init__(self, transport: Transport, limits: ChannelLimits) -> None:
        self.outbox = transport.outbox
        self.parted = False
        self.preparing = False
        self.heard_at = trio.current_time()
        self._heard = trio.Event()
        self._limits = limits
        self._room = _Room(limits)
        self._calls: dict[int, _Call] = {}
        self._idle = trio.Event()
        self._next_id = 1
        self._assembly: Assembly[bytes] = Assembly(
            budget_bytes=limits.in_flight_bytes_max, grant=self._grant
        )

    async def exchange(self, request: HTTPRequest) -> HTTPResponse:
        """Send a request and return its answer: see ``ClusterLink.forward``."""
        try:
            head = encode_head(request)
            check_size(len(head), len(request.body), self._limits)
        except FrameError as exc:
            raise CannotForward(str(exc)) from exc
        place = self._room.ask(len(head) + len(request.body))
        call: _Call | None = None
        try:
            await place.settled.wait()
            if self._room.closed_because is not None:
                raise CannotForward(self._room.closed_because)
            call = self._send(head, request.body)
            await call.settled.wait()
        finally:
            self._room.leave(place)
            if call is not None:
                self._abandon(call)
        return call.outcome()

    def hear(self, now: float) -> None:
        """Take note that the active node lives."""
        self.heard_at = now
        self._heard.set()

    async def wait_heard(self) -> None:
        """Wait until the active node speaks again."""
        self._heard = trio.Event()
        await self._heard.wait()

    def handle(self, frame: Frame) -> None:
        """
        Take a frame that belongs to a call. Never waits. Kinds that nobody knows are ignored: a
        newer active node may send them.

        Raises:
            FrameError: the peer broke the protocol; the connection must end.
        """
        if frame.kind == Kind.CREDIT:
            self.outbox.credit(frame.id, parse_credit(frame.payload))
            return
        call = self._calls.get(frame.id)
        if call is None:
            # Its caller has left; a body of it is not granted any more.
            return
        if frame.kind == Kind.RESPONSE:
            start = parse_message_start(frame.payload, self._limits)
            body = self._assembly.begin(frame.id, start.head, start.body_bytes, start.first)
            if body is not None:
                self._settle(call, decode_response(start.head, body))
        elif frame.kind == Kind.BODY:
            complete = self._assembly.add(frame.id, frame.payload)
            if complete is not None:
                self._settle(call, decode_response(*complete))
        elif frame.kind == Kind.NOT_EXECUTED:
            self._settle(call, CannotForward(_said("did not execute the request", frame)))
        elif frame.kind == Kind.UNKNOWN_OUTCOME:
            self._settle(
                call, ForwardingInterrupted(_said("cannot tell the request's outcome", frame))
            )

    def part(self, reason: str) -> None:
        """Settle all calls after a goodbye: what is unanswered was not executed and will not be."""
        self.parted = True
        for call in list(self._calls.values()):
            if self._assembly.is_known(call.message.id):
                self._settle(call, ForwardingInterrupted(f"the answer was cut off: {reason}"))
            else:
                self._settle(call, CannotForward(f"the active node has left: {reason}"))
        self._room.close(f"the active node has left: {reason}")

    def end(self, cause: str) -> None:
        """Settle all calls: the connection is gone."""
        for call in list(self._calls.values()):
            if call.message.complete:
                self._settle(call, ForwardingInterrupted(f"no answer came: {cause}"))
            else:
                self._settle(call, CannotForward(f"the request was not sent: {cause}"))
        self._room.close(cause)

    def _send(self, head: bytes, body: bytes) -> _Call:
        message_id = self._next_id
        self._next_id += 1
        call = _Call(self.outbox.message(Kind.REQUEST, message_id, head, body))
        self._calls[message_id] = call
        return call

    async def wait_idle(self) -> None:
        """Wait until no call is under way."""
        while self._calls:
            self._idle = trio.Event()
            await self._idle.wait()

    def _settle(self, call: _Call, result: HTTPResponse | ForwardingError) -> None:
        del self._calls[call.message.id]
        self._idle.set()
        self._assembly.release(call.message.id)
        if not call.message.complete:
            self.outbox.drop(call.message)
        call.result = result
        call.settled.set()

    def _abandon(self, call: _Call) -> None:
        """Forget a call whose caller leaves before it is settled."""
        message = call.message
        if self._calls.pop(message.id, None) is None:
            return
        self._idle.set()
        self._assembly.release(message.id)
        if not message.complete:
            self.outbox.drop(message)
        if message.begun:
            # Best effort: a peer that does not read will not cancel either.
            with suppress(FrameError):
                self.outbox.control(Kind.CANCEL, message.id)

    def _grant(self, message_id: int, count_bytes: int) -> None:
        self.outbox.control(Kind.CREDIT, message_id, encode_credit(count_bytes))


class _Call:
    """One request that waits for its answer."""

    __slots__ = ("message", "result", "settled")

    def __init__(self, message: OutMessage) -> None:
        self.message = message
        self.settled = trio.Event()
        self.result: HTTPResponse | ForwardingError | None = None

    def outcome(self) -> HTTPResponse:
        """Return the response or raise the error. Only once the call is settled."""
        assert self.result is not None
        if isinstance(self.result, ForwardingError):
            raise self.result
        return self.result


class _Place:
    """A caller's place in the room, or in the line before it."""

    __slots__ = ("inside", "settled", "size_bytes")

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.inside = False
        self.settled = trio.Event()  # inside, or the room is closed


class _Room:
    """Bounds the requests in flight by count and bytes; who comes first gets in first."""

    def __init__(self, limits: ChannelLimits) -> None:
        self._count_max = limits.in_flight_max
        self._bytes_left = limits.in_flight_bytes_max
        self._line: deque[_Place] = deque()
        self._count = 0
        self.closed_because: str | None = None

    def ask(self, size_bytes: int) -> _Place:
        """Queue for a place. Every place that was asked for must leave."""
        place = _Place(size_bytes)
        self._line.append(place)
        self._admit()
        return place

    def leave(self, place: _Place) -> None:
        """Give a place back, wherever it is."""
        if place.inside:
            self._count -= 1
            self._bytes_left += place.size_bytes
        else:
            self._line.remove(place)
        self._admit()

    def close(self, cause: str) -> None:
        """Let nobody in any more; those in the line learn it at once."""
        if self.closed_because is None:
            self.closed_because = cause
        for place in self._line:
            place.settled.set()

    def _admit(self) -> None:
        while self._line and self.closed_because is None:
            place = self._line[0]
            if self._count >= self._count_max:
                return
            # A request alone always gets in, however large.
            if self._count and place.size_bytes > self._bytes_left:
                return
            self._line.popleft()
            self._count += 1
            self._bytes_left -= place.size_bytes
            place.inside = True
            place.settled.set()


def _said(what: str, frame: Frame) -> str:
    return f"the active node {what}: {frame.payload.decode(errors='replace')}"
