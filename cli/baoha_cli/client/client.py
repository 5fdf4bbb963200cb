"""
The HTTP client: HTTP/1.1 with h11 over trio streams, TLS, time-outs, bounded answers.

Rules of this file. A request goes to the address it was given and to nowhere else: a redirect is
an answer, proxies of the environment are ignored, and nothing is sent twice unless it is a read on
a kept connection that turned out to be closed. Every way to fail is a RequestFailed with a kind.

Theory of operation. `Client.request` opens (or, for reads, reuses) one connection, writes the
request, reads one answer. The connect phase has its own short limit, since a host that drops
packets would otherwise use up the whole time; `RequestFailed.sent` tells the caller whether the
server can have seen the request.

Source: RFC 9110/9112 through h11; error texts as `bao` prints them.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

import h11
import trio

from baoha import __version__
from baoha_cli.client.address import Endpoint
from baoha_cli.client.answer import Answer, TLSPeer
from baoha_cli.client.tls import client_context, describe_tls_error
from baoha_cli.client.token import Token
from baoha_cli.client.transport import ConnectionSettings
from baoha_cli.failures import ErrorKind, RequestFailed, UsageFailed
from baoha_cli.text import one_line, wire_bytes

_HEAD_BYTES_MAX: Final = 64 * 1024
_READ_BYTES: Final = 64 * 1024
_REPEATABLE: Final = frozenset({"GET", "HEAD", "LIST"})
# Go's URL printer leaves these alone in a path; a caller's "%" is data, not an escape.
_PATH_SAFE: Final = "/-_.~!$&'()*+,;=:@"


@dataclass
class _Link:
    """One open connection. Owns its socket."""

    socket: trio.socket.SocketType
    stream: trio.abc.Stream
    http: h11.Connection
    peer: TLSPeer

    def close(self) -> None:
        """Close without a checkpoint, so that a cancelled task closes all it holds."""
        self.socket.close()


@dataclass
class _Progress:
    """How far a request got, for the error text."""

    connected: bool = False
    sent: bool = False


class Client:
    """
    Ask servers over HTTP/1.1; safe for many tasks at once.

    Owns:
        Kept connections; ``close`` (or leaving the ``async with``) closes them.
    """

    def __init__(self, transport: ConnectionSettings) -> None:
        self.transport = transport
        self._context: ssl.SSLContext | None = None
        self._idle: dict[str, list[_Link]] = {}

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept connections."""
        for kept in self._idle.values():
            for link in kept:
                link.close()
        self._idle.clear()

    async def request(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        token: Token | None = None,
        headers: Sequence[tuple[str, str]] = (),
        timeout_s: float | None = None,
        quoted: bool = False,
    ) -> Answer:
        """
        Send one request and read its answer; any status is an answer.

        Args:
            endpoint: where to; its prefix is put in front of ``path``.
            method: HTTP method.
            path: starts with "/".
            query: pairs for the query string.
            body: sent as application/json when given.
            token: sent to this endpoint; never anywhere else.
            headers: extra ones.
            timeout_s: instead of the transport's.
            quoted: the path is already percent-encoded (a Location).

        Raises:
            RequestFailed: no usable answer; ``sent`` says whether it may have happened.
            UsageFailed: a header holds characters that HTTP does not allow; nothing was sent.

        Cancellation:
            The connection is closed; the server may have acted.
        """
        target = endpoint.prefix + (path if quoted else quote(wire_bytes(path), safe=_PATH_SAFE))
        if query:
            target += "?" + urlencode([(wire_bytes(n), wire_bytes(v)) for n, v in query])
        url = endpoint.origin + target
        request = self._head(endpoint, method, target, body, token, headers)
        limit_s = self.transport.timeout_s if timeout_s is None else timeout_s
        progress = _Progress()
        began = trio.current_time()
        try:
            with trio.move_on_after(limit_s) as scope:
                raw, content, peer = await self._exchange(endpoint, request, body, progress)
        except RequestFailed as failure:
            raise RequestFailed(
                failure.kind, failure.detail, method=method, url=url, sent=progress.sent
            ) from failure
        if scope.cancelled_caught:
            detail = _timeout_text(endpoint, progress, limit_s)
            raise RequestFailed(
                ErrorKind.TIMEOUT, detail, method=method, url=url, sent=progress.sent
            )
        pairs = tuple(
            (name.decode("latin-1"), text.decode("latin-1")) for name, text in raw.headers
        )
        took_s = trio.current_time() - began
        return Answer(endpoint, method, url, raw.status_code, pairs, content, took_s, peer)

    def _head(
        self,
        endpoint: Endpoint,
        method: str,
        target: str,
        body: bytes | None,
        token: Token | None,
        headers: Sequence[tuple[str, str]],
    ) -> h11.Request:
        fields = [
            ("Host", endpoint.netloc),
            ("User-Agent", f"baoha/{__version__}"),
            ("Accept-Encoding", "identity"),
            ("X-Vault-Request", "true"),
        ]
        if self.transport.namespace:
            fields.append(("X-Vault-Namespace", self.transport.namespace))
        if token is not None:
            fields.append(("X-Vault-Token", token.value))
        if body is not None and not any(name.lower() == "content-type" for name, _ in headers):
            fields.append(("Content-Type", "application/json"))
        if body is not None or method in ("PUT", "POST", "PATCH"):
            fields.append(("Content-Length", str(len(body or b""))))
        # The operator's own headers may be secrets, as a token is one.
        fields += [*(() if endpoint.is_named_by_server else self.transport.headers), *headers]
        try:
            encoded = [(name.encode("ascii"), text.encode("latin-1")) for name, text in fields]
            return h11.Request(method=method, target=target, headers=encoded)
        except (h11.LocalProtocolError, UnicodeEncodeError):
            # The library's text quotes the header, which may be a secret: say less, chain nothing.
            raise UsageFailed(
                "a header, the namespace or the host holds characters that HTTP does not allow"
            ) from None

    async def _exchange(
        self, endpoint: Endpoint, request: h11.Request, body: bytes | None, progress: _Progress
    ) -> tuple[h11.Response, bytes, TLSPeer]:
        repeatable = request.method.decode("ascii") in _REPEATABLE and not body
        kept = self._idle.get(endpoint.origin, []) if repeatable else []
        while kept:
            link = kept.pop()
            try:
                return await self._converse(endpoint, link, request, body, progress)
            except RequestFailed as failure:
                # The server may have closed a kept connection at any time; a read may be repeated.
                if failure.kind is not ErrorKind.PROTOCOL:
                    raise
        link = await self._open(endpoint, progress)
        return await self._converse(endpoint, link, request, body, progress)

    async def _converse(
        self,
        endpoint: Endpoint,
        link: _Link,
        request: h11.Request,
        body: bytes | None,
        progress: _Progress,
    ) -> tuple[h11.Response, bytes, TLSPeer]:
        keep = False
        progress.connected = True
        try:
            await self._write(link, request, body, progress)
            response, content = await self._read(link)
            if link.http.our_state is h11.DONE and link.http.their_state is h11.DONE:
                link.http.start_next_cycle()
                keep = True
        except h11.RemoteProtocolError as exc:
            raise RequestFailed(ErrorKind.PROTOCOL, _protocol_text(exc)) from exc
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise _broken(exc) from exc
        finally:
            if keep:
                self._idle.setdefault(endpoint.origin, []).append(link)
            else:
                link.close()
        return response, content, link.peer

    async def _write(
        self, link: _Link, request: h11.Request, body: bytes | None, progress: _Progress
    ) -> None:
        data = link.http.send(request) or b""
        if body:
            data += link.http.send(h11.Data(data=body)) or b""
        data += link.http.send(h11.EndOfMessage()) or b""
        progress.sent = True
        try:
            await link.stream.send_all(data)
        except trio.BrokenResourceError:
            # The server may have answered before reading everything ("400 to HTTPS port"): look.
            if isinstance(link.stream, trio.SSLStream):
                raise

    async def _read(self, link: _Link) -> tuple[h11.Response, bytes]:
        response: h11.Response | None = None
        chunks: list[bytes] = []
        size = 0
        while True:
            event = link.http.next_event()
            if event is h11.NEED_DATA:
                data = await link.stream.receive_some(_READ_BYTES)
                link.http.receive_data(bytes(data))
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > self.transport.body_bytes_max:
                    raise RequestFailed(
                        ErrorKind.PROTOCOL,
                        f"the answer is larger than {self.transport.body_bytes_max} bytes",
                    )
                chunks.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage) and response is not None:
                return response, b"".join(chunks)
            elif isinstance(event, (h11.ConnectionClosed, h11.EndOfMessage)) or event is h11.PAUSED:
                raise RequestFailed(ErrorKind.PROTOCOL, "the server closed without an answer")

    async def _open(self, endpoint: Endpoint, progress: _Progress) -> _Link:
        first = self.transport.proxy or endpoint
        plain = await self._dial(first)
        stream: trio.abc.Stream = plain
        progress.connected = True
        peer = TLSPeer()
        limit_s = self.transport.handshake_timeout_s
        try:
            with trio.fail_after(limit_s):
                if self.transport.proxy is not None:
                    await self._tunnel(stream, endpoint)
                if endpoint.scheme == "https":
                    stream, peer = await self._secure(stream, endpoint)
        except trio.TooSlowError as exc:
            plain.socket.close()
            raise RequestFailed(ErrorKind.TIMEOUT, _handshake_text(limit_s)) from exc
        except BaseException:
            plain.socket.close()
            raise
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES_MAX)
        return _Link(plain.socket, stream, http, peer)

    async def _dial(self, endpoint: Endpoint) -> trio.SocketStream:
        stream: trio.SocketStream | None = None
        try:
            with trio.move_on_after(self.transport.connect_timeout_s):
                stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)
        except (socket.gaierror, UnicodeError) as exc:
            raise RequestFailed(
                ErrorKind.DNS, f"dial tcp: lookup {one_line(endpoint.host)}: no such host"
            ) from exc
        except OSError as exc:
            kind, words = connect_error(exc)
            raise RequestFailed(kind, f"dial tcp {endpoint.netloc}: connect: {words}") from exc
        if stream is None:
            raise RequestFailed(ErrorKind.TIMEOUT, f"dial tcp {endpoint.netloc}: i/o timeout")
        return stream

    async def _tunnel(self, stream: trio.abc.Stream, endpoint: Endpoint) -> None:
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES_MAX)
        target = endpoint.netloc
        request = h11.Request(method="CONNECT", target=target, headers=[("Host", target)])
        try:
            await stream.send_all(http.send(request) or b"")
            await stream.send_all(http.send(h11.EndOfMessage()) or b"")
            event = http.next_event()
            while event is h11.NEED_DATA or isinstance(event, h11.InformationalResponse):
                if event is h11.NEED_DATA:
                    http.receive_data(bytes(await stream.receive_some(_READ_BYTES)))
                event = http.next_event()
        except (h11.RemoteProtocolError, trio.BrokenResourceError) as exc:
            raise RequestFailed(ErrorKind.PROTOCOL, "proxy: not a proper HTTP answer") from exc
        if not isinstance(event, h11.Response) or event.status_code != 200:
            status = event.status_code if isinstance(event, h11.Response) else "no"
            detail = f"proxy: {status} answer to CONNECT {target}"
            raise RequestFailed(ErrorKind.UNREACHABLE, detail)

    async def _secure(
        self, stream: trio.abc.Stream, endpoint: Endpoint
    ) -> tuple[trio.abc.Stream, TLSPeer]:
        if self._context is None:
            self._context = client_context(self.transport.tls)
        name = self.transport.tls.server_name or endpoint.name or endpoint.host
        try:
            secured = trio.SSLStream(
                stream, self._context, server_hostname=name, https_compatible=True
            )
            await secured.do_handshake()
        except trio.BrokenResourceError as exc:
            cause = exc.__cause__
            kind, text = describe_tls_error(cause if isinstance(cause, OSError) else None)
            raise RequestFailed(kind, text) from exc
        except ValueError as exc:  # a name that TLS cannot carry
            raise RequestFailed(ErrorKind.TLS, "tls: the server name is not valid") from exc
        der = secured.getpeercert(binary_form=True) or b""
        return secured, TLSPeer(tls_version=secured.version() or "", certificate_der=der)


def connect_error(exc: OSError) -> tuple[ErrorKind, str]:
    """Say why no connection came about; trio wraps the attempts' errors."""
    numbers = _error_numbers(exc)
    if errno.ECONNREFUSED in numbers:
        return ErrorKind.REFUSED, "connection refused"
    if errno.ETIMEDOUT in numbers:
        return ErrorKind.TIMEOUT, "connection timed out"
    for number in sorted(numbers):
        return ErrorKind.UNREACHABLE, (socket_error_text(number)).lower()
    return ErrorKind.UNREACHABLE, "cannot connect"


def socket_error_text(number: int) -> str:
    """Return the system's words for an error number."""
    return OSError(number, "").strerror or errno.errorcode.get(number, str(number))


def _error_numbers(exc: BaseException | None) -> set[int]:
    found: set[int] = set()
    pending = [exc]
    while pending:
        current = pending.pop()
        if isinstance(current, BaseExceptionGroup):
            pending.extend(current.exceptions)
        elif isinstance(current, OSError):
            if current.errno:
                found.add(current.errno)
            pending.append(current.__cause__)
    return found


def _broken(exc: BaseException) -> RequestFailed:
    cause = exc.__cause__
    if isinstance(cause, ssl.SSLError):
        kind, text = describe_tls_error(cause)
        return RequestFailed(kind, text)
    return RequestFailed(ErrorKind.PROTOCOL, "EOF: the server closed the connection")


def _protocol_text(exc: h11.RemoteProtocolError) -> str:
    text = str(exc)
    if "without sending complete" in text or "closed connection" in text:
        return "EOF: the server closed the connection"
    return f"net/http: malformed HTTP response ({one_line(text, chars_max=120)})"


def _timeout_text(endpoint: Endpoint, progress: _Progress, limit_s: float) -> str:
    if progress.sent:
        return f"no answer within {limit_s:g}s (the server may have acted on the request)"
    if progress.connected:
        return _handshake_text(limit_s)
    return f"dial tcp {endpoint.netloc}: i/o timeout"


def _handshake_text(limit_s: float) -> str:
    return f"net/http: TLS handshake timeout: nothing within {limit_s:g}s"
