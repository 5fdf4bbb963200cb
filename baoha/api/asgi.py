"""
ASGI on one side, ``HTTPRequest`` and ``HTTPResponse`` on the other.

Rules of this file:

1. A body is whole and bounded before anybody else sees the request; a stalled upload holds nothing.
2. Every answer gets the common headers, except the two that OpenBao gives before its own handler:
   413, and 400 for an unprintable path.

Source: ASGI 3.0; header facts from
tests/conformance/recordings/generic-http.json.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from typing import Final
from urllib.parse import quote

import trio

from baoha import names, offload
from baoha.api.answers import TEXT_TYPE, TOO_LARGE_TEXT, error_answer
from baoha.api.local import body_bytes_max
from baoha.api.paths import API_PREFIX, decoded_path
from baoha.api.uploads import SMALL_BYTES, Upload
from baoha.asgi import LISTENER_EXTENSION, TLS_EXTENSION, Receive, Scope, Send
from baoha.errors import PayloadTooLarge
from baoha.sansio.wire.messages import (
    Headers,
    HTTPRequest,
    HTTPResponse,
    ListenerPolicy,
    end_to_end,
)

_DEFAULT_POLICY: Final = ListenerPolicy()
# What a client writes that takes us for a proxy. Source: RFC 9112 section 3.2.2
_ABSOLUTE_FORM: Final = re.compile("https?://[^/]*", re.IGNORECASE)
# Answers with these codes have no body. Source: RFC 9110 sections 15.3.5 and 15.4.5
_BODYLESS: Final = frozenset({204, 304})


class ClientGone(Exception):
    """The client has closed the connection before its request was complete."""


class UnreadablePath(Exception):
    """
    A path that cannot be read, or not be shown.

    Attributes:
        answer: the bare answer to it.
    """

    def __init__(self, answer: HTTPResponse) -> None:
        super().__init__(answer.status)
        self.answer = answer


def too_large() -> HTTPResponse:
    """Return the bare 413."""
    return error_answer(413, TOO_LARGE_TEXT)


async def read_request(scope: Scope, receive: Receive, upload: Upload) -> HTTPRequest:
    """
    Return the whole request.

    Args:
        upload: takes the room for its body.

    Raises:
        PayloadTooLarge: the body is over the listener's limit, or over what its endpoint can need.
        NoRoomError: too many large bodies at once.
        Overloaded: too many are put together at once.
        trio.TooSlowError: it took longer than the listener's limit.
        ClientGone: the client left.
        UnreadablePath: nothing else was looked at.
    """
    extensions = scope.get("extensions") or {}
    policy = extensions.get(LISTENER_EXTENSION, _DEFAULT_POLICY)
    assert isinstance(policy, ListenerPolicy)
    raw_path = _raw_path(scope)
    path = decoded_path(raw_path) if "%" in raw_path else raw_path
    if path is None or not (raw_path.startswith("/") or raw_path == "*"):
        bare = HTTPResponse(status=400, headers=(TEXT_TYPE,), body=b"400 Bad Request")
        raise UnreadablePath(bare)
    if not path.isprintable():
        raise UnreadablePath(HTTPResponse(status=400))
    headers = end_to_end(scope["headers"])
    remote_addr = ""
    if client := scope.get("client"):
        host, port = client[0], client[1]
        remote_addr = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    tls = extensions.get(TLS_EXTENSION) or {}
    request = partial(
        HTTPRequest,
        method=scope["method"],
        path=path or "/",
        raw_path=raw_path,
        query=scope.get("query_string", b"").decode("latin-1"),
        headers=headers,
        remote_addr=remote_addr,
        client_certificates=tuple(tls.get("client_cert_chain") or ()),
        listener=policy,
    )
    bytes_max = min(policy.max_request_bytes, body_bytes_max(path.removeprefix(API_PREFIX)))
    declared = dict(headers).get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > bytes_max:
        raise PayloadTooLarge(TOO_LARGE_TEXT)
    with upload.reading(policy.max_request_s):
        body = await _read_body(receive, bytes_max, upload, request)
    return request(body=body)


async def wait_disconnect(receive: Receive) -> None:
    """Return when the client has left. Only after the whole body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def finished(
    request: HTTPRequest, response: HTTPResponse, common: Mapping[str, str]
) -> HTTPResponse:
    """Return the response with the headers that every answer has."""
    headers: Headers = tuple(common.items())
    if not common.keys().isdisjoint(own := dict(response.headers)):
        headers = tuple((name, value) for name, value in headers if name not in own)
    namespaces = [pair for pair in request.headers if pair[0] == names.NAMESPACE_HEADER]
    if namespaces and namespaces[0][1]:
        headers += (namespaces[0],)
    return HTTPResponse(
        status=response.status, headers=(*headers, *response.headers), body=response.body
    )


async def send_response(response: HTTPResponse, send: Send, *, method: str) -> None:
    """
    Send a response.

    For HEAD the body is counted, not sent. Nothing is said about the length of a redirect, and of
    what has no body where GET has one: no length is better than a wrong one (RFC 9110, 8.6).
    Source: measured
    """
    headers = [
        (name.encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in response.headers
        if name != "content-length"
    ]
    body = response.body
    is_head = method == "HEAD"
    if response.status in _BODYLESS:
        body = b""
    elif not is_head or (body and not 300 <= response.status < 400):
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if is_head else body})


async def run_lifespan(receive: Receive, send: Send) -> None:
    """Take part in the lifespan protocol; there is nothing to start or to stop."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def refuse_websocket(receive: Receive, send: Send) -> None:
    """Close a WebSocket before it is accepted: the API has none."""
    await receive()
    await send({"type": "websocket.close", "code": 1008})


def _raw_path(scope: Scope) -> str:
    raw = scope.get("raw_path")
    if raw is None:
        return quote(scope["path"])
    target = bytes(raw).partition(b"?")[0].decode("latin-1")
    if (absolute := _ABSOLUTE_FORM.match(target)) is not None:
        return target[absolute.end() :] or "/"
    return target


async def _read_body(
    receive: Receive, bytes_max: float, upload: Upload, request: Callable[[], HTTPRequest]
) -> bytes:
    """Return the whole body of ``request()``, which is as yet without it."""
    # A small one grows in place and is given away without a copy. A large one is put together by a
    # worker: 32 MiB would be 20 ms in the event loop.
    last, full = BytesIO(), list[bytes]()
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        size += last.write(message.get("body", b""))
        if size > bytes_max:
            raise PayloadTooLarge(TOO_LARGE_TEXT)
        if size > SMALL_BYTES:
            await upload.grow(size, request())
        if not message.get("more_body", False):
            if size > SMALL_BYTES:  # else it has taken no room
                upload.complete(size)
            if not full:
                return last.getvalue()
            full.append(last.getvalue())
            return await offload.run_if_large(lambda: b"".join(full), size)
        if last.tell() >= SMALL_BYTES:
            full.append(last.getvalue())
            last = BytesIO()
        # A client that sends byte by byte gives way to the others.
        await trio.lowlevel.checkpoint()
