"""
The ASGI application: one callable for every listener.

Rules of this file:

1. A failure harms one request. Here everything is caught and logged (and where a forwarded request
   is executed, ``requests.serve_forwarded``).
2. A read ends with its client. A write that has begun is finished.

Source: ours; the rings of tasks are those of ARCHITECTURE.md, "Rings of nurseries".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Protocol

import trio

from baoha.api.admission import Admission
from baoha.api.answers import (
    DEFAULT_RESPONSE_HEADERS,
    common_headers,
    error_answer,
    failure_answer,
    unforeseen,
    unknown_outcome,
)
from baoha.api.asgi import (
    ClientGone,
    UnreadablePath,
    finished,
    read_request,
    refuse_websocket,
    run_lifespan,
    send_response,
    too_large,
    wait_disconnect,
)
from baoha.api.claims import claim_of
from baoha.api.logical import is_read
from baoha.api.requests import DEFAULT_PARK_S, serve_request
from baoha.api.standby_policy import RETRY_AFTER_S
from baoha.api.uploads import ROOM_BYTES, NoRoomError, UploadRoom
from baoha.asgi import DEPARTURE, ASGIApp, Departure, Receive, Scope, Send
from baoha.core.view import NodeView
from baoha.errors import Overloaded, PayloadTooLarge
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse

log = logging.getLogger("baoha.api")

_NO_ROOM_TEXT: Final = "too many large requests at once"
_UPLOAD_TIMEOUT_TEXT: Final = "the request body did not arrive in time"
_TIMEOUT_TEXT: Final = "the request took too long"


class ServeRequest(Protocol):
    """``serve_request`` of one node."""

    async def __call__(self, request: HTTPRequest, *, departure: Departure) -> HTTPResponse: ...


def build_app(
    view: NodeView,
    *,
    admission: Admission | None = None,
    response_headers: Mapping[str, str] = DEFAULT_RESPONSE_HEADERS,
    park_s: float = DEFAULT_PARK_S,
    upload_bytes: int = ROOM_BYTES,
) -> ASGIApp:
    """
    Return the ASGI application of a node. Its only state is the room that request bodies take.

    Args:
        admission: shared with whoever accepts connections; None makes one of the app's own.
        response_headers: sent with every answer, beside ``Cache-Control: no-store``.
        park_s: seconds that a request waits for an active node (``HATiming.park_s``).
        upload_bytes: memory for the bodies of all requests that are not small.
    """
    common = common_headers(response_headers)
    room = UploadRoom(partial(claim_of, view), upload_bytes)
    serve = partial(serve_request, view, admission=admission or Admission(), park_s=park_s)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await run_lifespan(receive, send)
        elif scope["type"] == "websocket":
            await refuse_websocket(receive, send)
        else:
            await _serve_http(serve, scope, receive, send, room=room, common=common)

    return app


async def _serve_http(
    serve: ServeRequest,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    room: UploadRoom,
    common: Mapping[str, str],
) -> None:
    method = scope["method"]
    with room.visit() as upload:
        request = None
        answer: HTTPResponse | None = None
        try:
            request = await read_request(scope, receive, upload)
        except UnreadablePath as exc:
            answer = exc.answer
        except PayloadTooLarge:
            answer = too_large()
        except NoRoomError:
            answer = error_answer(503, _NO_ROOM_TEXT, retry_after_s=RETRY_AFTER_S)
        except Overloaded as exc:
            answer = failure_answer(exc)
        except trio.TooSlowError:
            answer = error_answer(408, _UPLOAD_TIMEOUT_TEXT)
        except ClientGone:
            return
        if request is not None:
            departure = scope.get(DEPARTURE)
            if departure is None:
                served = await _serve_watching(serve, request, receive)
            else:
                served = await _serve_attended(serve, request, departure)
            if served is None:
                return
            answer = finished(request, served, common)
        assert answer is not None  # either refused or served
        await send_response(answer, send, method=method)


class _Watched:
    """The departure of a client of a listener that is not ours: found by waiting for it."""

    def __init__(self) -> None:
        self._then: Callable[[], None] | None = None
        self.has_come = False

    def tell(self, then: Callable[[], None]) -> None:
        self._then = then

    async def watch(self, receive: Receive) -> None:
        await wait_disconnect(receive)
        self.has_come = True
        if self._then is not None:
            self._then()


async def _serve_watching(
    serve: ServeRequest, request: HTTPRequest, receive: Receive
) -> HTTPResponse | None:
    """As ``_serve_attended``, with a task that waits for the client's departure."""
    watched = _Watched()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.watch, receive)
        answer = await _serve_attended(serve, request, watched)
        nursery.cancel_scope.cancel()
    return answer


async def _serve_attended(
    serve: ServeRequest, request: HTTPRequest, departure: Departure
) -> HTTPResponse | None:
    """
    Serve a request within the listener's time limit; whatever goes wrong is an answer.

    Returns:
        None: a read whose client has left.
    """
    answer: HTTPResponse | None = None
    may_be_left = is_read(request)
    # One scope ends both: the client has left, or the time is up.
    with trio.CancelScope(deadline=trio.current_time() + request.listener.max_request_s) as scope:
        if may_be_left:
            departure.tell(scope.cancel)
        try:
            answer = await serve(request, departure=departure)
        except Exception as exc:
            answer = unforeseen(request, exc)
    if answer is None and not (departure.has_come and may_be_left):
        answer = _took_too_long(request)
    return answer


def _took_too_long(request: HTTPRequest) -> HTTPResponse:
    log.warning("request took too long: method=%s path=%.200r", request.method, request.path)
    if is_read(request):
        return error_answer(503, _TIMEOUT_TEXT, retry_after_s=RETRY_AFTER_S)
    return unknown_outcome()
