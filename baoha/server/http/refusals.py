"""
The door's refusal as bytes, ready to be sent.

Rule of this file: they are made once a second, not once a request.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import trio
from hypercorn.config import Config

from baoha.sansio.wire.messages import HTTPResponse
from baoha.server.http.response_headers import CustomHeaders

# To who speaks plain HTTP to a listener with TLS. Source: the words of Go's net/http.
PLAIN_HTTP_ON_TLS: Final = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Connection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
)


class Refusals:
    """What a listener answers to a request that its door refuses."""

    def __init__(self, answer: HTTPResponse, headers: CustomHeaders, config: Config) -> None:
        """Take the operator's ``headers``, and the ``config`` that knows the date."""
        self._answer = answer
        self._headers = headers
        self._config = config
        self._second = -1
        self._made: dict[bool, bytes] = {}

    def current(self, *, keeps_alive: bool) -> bytes:
        """Return the whole answer, head and body."""
        second = int(trio.current_time())
        if self._second != second:
            self._second = second
            self._made = {keeps: self._make(keeps_alive=keeps) for keeps in (True, False)}
        return self._made[keeps_alive]

    def _make(self, *, keeps_alive: bool) -> bytes:
        status, body = self._answer.status, self._answer.body
        headers = [(name.encode(), value.encode()) for name, value in self._answer.headers]
        headers = self._headers.merged(status, headers)
        headers += self._config.response_headers("h11")
        headers.append((b"content-length", b"%d" % len(body)))
        if not keeps_alive:
            headers.append((b"connection", b"close"))
        head = b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())
        return head + b"".join(b"%s: %s\r\n" % pair for pair in headers) + b"\r\n" + body
