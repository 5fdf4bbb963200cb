"""
A small HTTP/1.1 client for measuring: one connection, keep-alive, one request at a time.

Rules of this file:

1. No retry, no redirect: what the server did is what the caller sees. Every way to fail has a name.
2. A connection that the server closed while it was idle is not used again: as in every pool, this
   is looked at before a request is sent, not after.

Theory of operation. Answers carry ``Content-Length`` or chunks, or have no body by their status;
anything else is a protocol error. Parsed by hand because a full parser costs more per request than
a fast server does, and the measuring process shares the machine with the servers.

Source: RFC 9112.
"""

from __future__ import annotations

import errno
import json
import select
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import trio

RECEIVE_BYTES = 65_536
HEAD_BYTES_MAX = 65_536
# A failure has one of these kinds, or "status NNN".
REFUSED = "refused"
RESET = "reset"
TIMEOUT = "timeout"
MALFORMED = "malformed"
REDIRECT = "redirect"


class RequestFailed(Exception):
    """
    There is no answer.

    Attributes:
        kind: ``refused`` (no connection, so it was not executed), ``reset`` (closed before the
            answer), ``timeout``, ``malformed`` (not HTTP).
    """

    def __init__(self, kind: str, cause: str = "") -> None:
        super().__init__(f"{kind}: {cause}" if cause else kind)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON; an empty one is an empty object."""
        return json.loads(self.body) if self.body else {}

    @property
    def outcome(self) -> str:
        """``ok`` for 2xx, ``redirect`` for 3xx, else ``status NNN``, or that it says "unknown"."""
        if self.status < 300:
            return "ok"
        if self.status < 400:
            return REDIRECT
        # An error that admits that the write may have been executed; a client must not repeat it.
        is_unknown = b"outcome is unknown" in self.body
        return f"status {self.status} outcome unknown" if is_unknown else f"status {self.status}"


class Connection:
    """
    One connection to one address, opened when it is first needed.

    Owns: the socket; closed by ``close``, by the end of the ``with`` block, and by every failure.
    """

    def __init__(self, host: str, port: int, *, token: str = "") -> None:
        self._host = host
        self._port = port
        self._head = f"Host: {host}:{port}\r\n" + (f"X-Vault-Token: {token}\r\n" if token else "")
        self._stream: trio.SocketStream | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, object] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> Response:
        """
        Send one request and return its answer, whatever the status.

        Raises:
            RequestFailed: no answer within ``timeout_s``, or none at all. It may have been
                executed unless the kind is ``refused``.

        Cancellation: the connection is closed; the request may have been executed.
        """
        content = json.dumps(body).encode() if isinstance(body, Mapping) else body
        head = [f"{method} {path} HTTP/1.1\r\n", self._head]
        if content is not None:
            head.append(f"Content-Length: {len(content)}\r\n")
        head.extend(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        message = "".join([*head, "\r\n"]).encode() + (content or b"")
        keep = False
        try:
            with trio.fail_after(timeout_s):
                stream = await self._open()
                await _send(stream, message)
                response, keep = await _receive(stream, method)
        except trio.TooSlowError as error:
            raise RequestFailed(TIMEOUT) from error
        finally:
            if not keep:
                self.close()
        return response

    async def open(self) -> None:
        """
        Connect now, so that the first request needs not.

        Raises:
            RequestFailed: ``refused``.
        """
        await self._open()

    def close(self) -> None:
        """Close the socket, at once."""
        if self._stream is not None:
            self._stream.socket.close()
            self._stream = None

    @property
    def is_usable(self) -> bool:
        """Return whether a kept connection is there and the server has not closed it."""
        if self._stream is None:
            return False
        poll = select.poll()
        poll.register(self._stream.socket.fileno(), select.POLLIN)
        return not poll.poll(0)

    async def _open(self) -> trio.SocketStream:
        if self._stream is not None and self.is_usable:
            return self._stream
        self.close()
        try:
            connected = trio.socket.socket()
            try:
                await connected.connect((self._host, self._port))
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except BaseException:
                connected.close()
                raise
        except OSError as error:
            # No port or descriptor left is the lab's fault; it must not look like the server's.
            if error.errno in (errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE):
                raise
            raise RequestFailed(REFUSED, str(error)) from error
        self._stream = trio.SocketStream(connected)
        return self._stream


async def _send(stream: trio.SocketStream, message: bytes) -> None:
    try:
        await stream.send_all(message)
    except trio.BrokenResourceError as error:
        raise RequestFailed(RESET, "while sending") from error


async def _receive(stream: trio.SocketStream, method: str) -> tuple[Response, bool]:
    """Return the answer, and whether the connection may be used again."""
    data = b""
    while True:
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            head, rest = data[:end], data[end + 4 :]
            status, headers = _parse_head(head)
            if status >= 200:
                break
            data = rest  # 1xx
            continue
        if len(data) > HEAD_BYTES_MAX:
            raise RequestFailed(MALFORMED, "head too long")
        data += await _more(stream)
    keep = headers.get("connection", "").lower() != "close"
    if method == "HEAD" or status in (204, 304):
        return Response(status, headers, b""), keep
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return Response(status, headers, await _chunks(stream, rest)), keep
    if "content-length" not in headers:
        raise RequestFailed(MALFORMED, "neither length nor chunks")
    length = int(headers["content-length"])
    parts, have = [rest], len(rest)
    while have < length:
        parts.append(await _more(stream))
        have += len(parts[-1])
    if have > length:
        raise RequestFailed(MALFORMED, "more than the length says")
    return Response(status, headers, b"".join(parts)), keep


async def _more(stream: trio.SocketStream) -> bytes:
    try:
        part = bytes(await stream.receive_some(RECEIVE_BYTES))
    except trio.BrokenResourceError as error:
        raise RequestFailed(RESET, "before the answer") from error
    if not part:
        raise RequestFailed(RESET, "closed before the answer")
    return part


async def _chunks(stream: trio.SocketStream, data: bytes) -> bytes:
    parts: list[bytes] = []
    while True:
        while b"\r\n" not in data:
            data += await _more(stream)
        line, _, data = data.partition(b"\r\n")
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError as error:
            raise RequestFailed(MALFORMED, "chunk size") from error
        while len(data) < size + 2:
            data += await _more(stream)
        if size == 0:
            if data != b"\r\n":
                raise RequestFailed(MALFORMED, "trailers are not supported")
            return b"".join(parts)
        parts.append(data[:size])
        data = data[size + 2 :]


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    if not first.startswith("HTTP/1.1 ") or not first[9:12].isdigit():
        raise RequestFailed(MALFORMED, "status line")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise RequestFailed(MALFORMED, "header line")
        headers[name.lower()] = value.strip()
    return int(first[9:12]), headers
