"""
The requests of one connected standby, on the active node.

Rule of this file: every request that was begun is answered or reported as of unknown outcome.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Final

import trio

from baoha.cluster.channel import Execute
from baoha.cluster.transport import Transport
from baoha.errors import BaohaError, LeadershipLost, NotActive, type_and_place
from baoha.sansio.wire.assembly import Assembly
from baoha.sansio.wire.frames import (
    ChannelLimits,
    Frame,
    FrameError,
    FrameKind,
    decode_request,
    encode_credit,
    encode_head,
    parse_message_start,
)
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse
from baoha.sansio.wire.outbox import OutMessage

_logger: Final = logging.getLogger("baoha.cluster")
_BUSY: Final = b"busy: too many requests are in flight"
_CUT_OFF: Final = b"the active node ended its duty, or the client left, while the request ran"


def _failure(effect: str) -> HTTPResponse:
    return _error(f"internal error on the active node; {effect}")


def _error(text: str) -> HTTPResponse:
    return HTTPResponse(
        status=500,
        headers=(("content-type", "application/json"),),
        body=json.dumps({"errors": [text]}).encode() + b"\n",
    )


_FAILED_UNKNOWN: Final = _failure("whether the request took effect is unknown")
_FAILED_UNAPPLIED: Final = _failure("the request took no effect")


class ActiveRequests:
    """
    The requests of one peer: being received, executed, answered.

    Args:
        stuck: called when the peer does not read what it is told; the connection must end.
    """

    def __init__(
        self,
        transport: Transport,
        execute: Execute,
        limits: ChannelLimits,
        *,
        stuck: Callable[[], None],
    ) -> None:
        self._stuck = stuck
        self._outbox = transport.outbox
        self._handle = execute
        self._limits = limits
        self._nursery: trio.Nursery | None = None  # None: nothing is accepted
        self._sizes: dict[int, int] = {}  # id -> bytes in memory beside the assembly's
        self._bytes = 0  # the sum of those
        self._scopes: dict[int, trio.CancelScope] = {}  # executing
        self._answers: dict[int, OutMessage] = {}  # leaving
        self._assembly: Assembly[bytes] = Assembly(
            budget_bytes=limits.in_flight_bytes_max, grant=self._grant
        )
        self._outbox.taken = self._answer_taken

    def open(self, nursery: trio.Nursery) -> None:
        """Start accepting requests, which run in ``nursery``: it ends with the listener."""
        self._nursery = nursery

    def close(self) -> None:
        """Accept no request any more; parts of requests that are under way are dropped."""
        self._nursery = None

    def handle(self, frame: Frame) -> None:
        """
        Take a frame that belongs to a request.

        Raises:
            FrameError: the peer broke the protocol.
        """
        if self._nursery is None:
            return
        if frame.kind == FrameKind.REQUEST:
            self._begin(frame, self._nursery)
        elif frame.kind == FrameKind.BODY:
            complete = self._assembly.add(frame.id, frame.payload)
            if complete is not None:
                head, body = complete
                request = decode_request(head, body)
                self._nursery.start_soon(self._execute, frame.id, request)
        elif frame.kind == FrameKind.CANCEL:
            self._cancel(frame.id)

    def _begin(self, frame: Frame, nursery: trio.Nursery) -> None:
        start = parse_message_start(frame.payload, self._limits)
        if frame.id in self._sizes:
            raise FrameError("request id is in use")
        size = len(frame.payload)
        # What large answers hold does not keep small requests out at once.
        is_small = len(start.first) == start.body_bytes
        bytes_max = self._limits.in_flight_bytes_max * (2 if is_small else 1)
        if len(self._sizes) >= self._limits.in_flight_max or self._bytes + size > bytes_max:
            self._outbox.control(FrameKind.NOT_EXECUTED, frame.id, _BUSY)
            return
        self._sizes[frame.id] = size
        self._bytes += size
        body = self._assembly.begin(frame.id, start.head, start.body_bytes, start.first)
        if body is not None:
            nursery.start_soon(self._execute, frame.id, decode_request(start.head, body))

    def _cancel(self, request_id: int) -> None:
        scope = self._scopes.get(request_id)
        if scope is not None:
            scope.cancel()
            return
        answer = self._answers.pop(request_id, None)
        if answer is not None:
            self._outbox.drop(answer)
        self._release(request_id)

    async def _execute(self, request_id: int, request: HTTPRequest) -> None:
        with trio.CancelScope() as scope:
            self._scopes[request_id] = scope
            try:
                self._answer(request_id, await self._handle(request))
            except NotActive as exc:
                self._refuse(request_id, FrameKind.NOT_EXECUTED, str(exc) or "not active")
            except trio.Cancelled:
                self._refuse(request_id, FrameKind.UNKNOWN_OUTCOME, _CUT_OFF.decode())
                raise
            except LeadershipLost as exc:
                self._refuse(
                    request_id, FrameKind.UNKNOWN_OUTCOME, str(exc) or "leadership was lost"
                )
            except BaohaError as exc:
                _logger.error(
                    "forwarded request failed path=%.200r kind=%s cause=%r",
                    request.path,
                    type(exc).__name__,
                    str(exc),
                )
                unapplied = exc.outcome == "not_applied"
                self._answer(request_id, _FAILED_UNAPPLIED if unapplied else _FAILED_UNKNOWN)
            except Exception as exc:
                # One request's unknown error ends that request and nothing else.
                _logger.error(
                    "forwarded request failed path=%.200r error=%s",
                    request.path,
                    type_and_place(exc),
                )
                self._answer(request_id, _FAILED_UNKNOWN)
            finally:
                del self._scopes[request_id]

    def _answer(self, request_id: int, response: HTTPResponse) -> None:
        self._release(request_id)
        try:
            answer = self._queue(request_id, response)
        except FrameError as exc:
            # A definite answer: whoever asked again would be told the same after the same work.
            response = _error(f"the request was executed, but its answer cannot be sent: {exc}")
            answer = self._queue(request_id, response)
        self._answers[request_id] = answer
        self._sizes[request_id] = len(response.body)
        self._bytes += len(response.body)

    def _queue(self, request_id: int, response: HTTPResponse) -> OutMessage:
        return self._outbox.message(
            FrameKind.RESPONSE, request_id, encode_head(response), response.body
        )

    def _refuse(self, request_id: int, kind: FrameKind, reason: str) -> None:
        self._release(request_id)
        self._tell(kind, request_id, reason.encode(errors="replace"))

    def _tell(self, kind: FrameKind, request_id: int, payload: bytes) -> None:
        """Queue what the peer has to know; if that cannot be, there is no use in going on."""
        try:
            self._outbox.control(kind, request_id, payload)
        except FrameError as exc:
            _logger.warning("forwarded request: the peer cannot be told cause=%s", exc)
            self._stuck()

    def _answer_taken(self, answer: OutMessage) -> None:
        self._answers.pop(answer.id, None)
        self._release(answer.id)

    def _release(self, request_id: int) -> None:
        self._bytes -= self._sizes.pop(request_id, 0)
        self._assembly.release(request_id)

    def _grant(self, request_id: int, count_bytes: int) -> None:
        # Not an error of the request that has just made the room for this one.
        self._tell(FrameKind.CREDIT, request_id, encode_credit(count_bytes))
