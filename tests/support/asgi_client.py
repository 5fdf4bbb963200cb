"""Call an ASGI application in-process: one request, one whole response, no sockets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import trio

from baoha.asgi import ASGIApp
from baoha.sansio.wire.messages import HTTPResponse, ListenerPolicy


def http_scope(
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]] = (),
    *,
    policy: ListenerPolicy | None = None,
    certificates: Sequence[bytes] = (),
) -> dict[str, Any]:
    """Return the scope of one request; ``target`` is path and query as they are sent."""
    raw_path, _, query = target.partition("?")
    extensions: dict[str, Any] = {"tls": {"client_cert_chain": tuple(certificates)}}
    if policy is not None:
        extensions["baoha.listener"] = policy
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": raw_path,
        "raw_path": raw_path.encode(),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [
            (name.lower().encode(), value.strip().encode("latin-1")) for name, value in headers
        ],
        "client": ("10.0.0.1", 4000),
        "server": ("127.0.0.1", 8200),
        "extensions": extensions,
    }


async def call(
    app: ASGIApp,
    method: str,
    target: str,
    body: bytes = b"",
    headers: Iterable[tuple[str, str]] = (),
    *,
    policy: ListenerPolicy | None = None,
    certificates: Sequence[bytes] = (),
    leaves: trio.Event | None = None,
) -> HTTPResponse | None:
    """
    Make one request. None: the application sent nothing.

    Args:
        leaves: set it to make the client close its connection after the request was sent.
    """
    scope = http_scope(method, target, headers, policy=policy, certificates=certificates)
    body_sent = False
    started: dict[str, Any] = {}
    chunks: list[bytes] = []

    async def receive() -> dict[str, Any]:
        nonlocal body_sent
        if not body_sent:
            body_sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        if leaves is None:
            await trio.sleep_forever()
        else:
            await leaves.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            assert not started, "two responses to one request"
            started.update(message)
        else:
            chunks.append(bytes(message.get("body", b"")))

    await app(scope, receive, send)
    if not started:
        return None
    return HTTPResponse(
        status=started["status"],
        headers=tuple((k.decode().lower(), v.decode("latin-1")) for k, v in started["headers"]),
        body=b"".join(chunks),
    )
