"""
HTTP/1.1, and nothing that a client may want to switch to.

Rule of this file: what is not spoken here is refused by an answer, never by an exception that
leaves the protocol.

Theory of operation. A subclass of hypercorn's ``H11Protocol`` (private parts: see connection.py).
HTTP/2 with prior knowledge is answered with 505; ``Upgrade`` is ignored, as RFC 9110 section 7.8
allows; the head of a response leaves together with the first part of its body, its names spelled as
in OpenBao (``Location``): case has no meaning, but some clients see one.

Source: ours; hypercorn 0.18.0 ``protocol/h11.py``.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import h11
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Request, Response
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream

# "HTTP/1.1 200 " ends where the reason phrase belongs; hypercorn gives none.
_REASON_AT = 13
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


# h11 takes any number that fits; each one costs the app microseconds. Source: Go has no such limit.
HEADERS_MAX = 1000


class _RefusedError(Exception):
    """What the client speaks is not spoken here, or too much."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class HTTP1(H11Protocol):
    """HTTP/1.1, and nothing that a client may want to switch to."""

    http2 = False
    _held = b""  # the head of a response, until the first part of its body follows
    # Two statements about where the request ends: h11 believes the right one, a proxy in front may
    # believe the other, so nothing that follows is read. Source: RFC 9112 section 6.1
    _is_ambiguous = False
    _is_head = False  # the request's method is HEAD

    @property
    def is_answering(self) -> bool:
        """Return whether a complete request waits for the end of its answer."""
        return self.stream is not None and self.connection.their_state not in (
            h11.IDLE,
            h11.SEND_BODY,
            h11.ERROR,
        )

    async def handle(self, event: Event) -> None:
        """Take bytes or the end of the connection."""
        try:
            await super().handle(event)
        except _RefusedError as error:
            await self._send_error_response(error.status)
            await self.send(Closed())

    async def time_out(self) -> None:
        """Answer 408 to a request that did not arrive in time, if nothing was answered yet."""
        if self.connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._send_error_response(408)

    async def stream_send(self, event: StreamEvent) -> None:
        """Take an event of the request's stream; a response while stopping says "close"."""
        if isinstance(event, Response) and (self._is_ambiguous or self.context.terminated.is_set()):
            event.headers.append((b"connection", b"close"))
        await super().stream_send(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        if len(event.headers) > HEADERS_MAX:
            raise _RefusedError(431)
        if self.http2:
            await super()._check_protocol(event)
        elif event.http_version not in (b"1.1", b"1.0"):
            raise _RefusedError(505)

    async def _create_stream(self, request: h11.Request) -> None:
        """Hand a request to the app: its method as it was written, and never as a WebSocket."""
        self._is_head = request.method == b"HEAD"
        names = dict(request.headers).keys()
        self._is_ambiguous = {b"transfer-encoding", b"content-length"} <= names
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                # Methods are case-sensitive (RFC 9110 section 9.1), and h11 frames by this one.
                method=request.method.decode("ascii"),
                raw_path=request.target,
                state=self.connection_state,
            )
        )

    async def _send_h11_event(self, event: Any) -> None:
        try:
            data = self.connection.send(event)
        except h11.LocalProtocolError:
            # As in hypercorn: after a protocol error of theirs there is nobody to answer.
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response):
            self._held = _written(data or b"", event.status_code, is_head=self._is_head)
        elif data or self._held:
            data, self._held = self._held + (data or b""), b""
            await self.send(RawData(data=data))


def _written(head: bytes, status: int, *, is_head: bool) -> bytes:
    """
    Return the head of a response as OpenBao writes it: with a reason, names in its spelling.

    An answer to HEAD may leave its length open. h11 then announces chunks, which do not come.
    """
    first, *fields = head.split(b"\r\n")
    lines = [first[:_REASON_AT] + _REASONS.get(status, b"") + first[_REASON_AT:]]
    for field in fields:
        name, colon, value = field.partition(b":")
        spelled = name.title()
        if not (is_head and spelled == b"Transfer-Encoding"):
            lines.append(spelled + colon + value)
    return b"\r\n".join(lines)
