"""A listener with a door: requests that are refused before a parser or the app has seen them."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h11
import pytest
import trio
import trustme

from baoha.api.admission import Admission, RequestKind
from baoha.api.door import Door
from baoha.config.model import ForwardedForConfig, TLSConfig
from baoha.server.http.limits import ListenerLimits
from baoha.server.http.listener import APIListener
from tests.support.fake_node import ACTIVE, FakeNodeView
from tests.support.listener_configs import tcp_config
from tests.unit.server.http.test_listener import echo

PLAIN = b"GET /v1/secret/data/x HTTP/1.1\r\nHost: a\r\nX-Vault-Token: s.known\r\n\r\n"
WITH_BODY = (
    b"PUT /v1/secret/data/x HTTP/1.1\r\nHost: a\r\nX-Vault-Token: s.known\r\n"
    b"Content-Length: 5\r\n\r\n12345"
)
CLOSING = PLAIN.replace(b"Host: a", b"Host: a\r\nConnection: close")
HEALTH = b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\n\r\n"


class ClosedDoor(Door):
    """A door in a crowd that does not end."""

    def __init__(self) -> None:
        node = FakeNodeView(ACTIVE)
        node.known_tokens.add("s.known")
        super().__init__(node, Admission())
        self.is_closed = True
        self.asked: list[tuple[RequestKind, str]] = []

    def refuses(self, kind: RequestKind, address: str, *, is_here: bool) -> bool:
        self.asked.append((kind, address))
        return self.is_closed


@asynccontextmanager
async def listening(
    door: Door, *, limits: ListenerLimits | None = None, **keys: Any
) -> AsyncIterator[APIListener]:
    listener = APIListener(echo, tcp_config(**keys), door=door, limits=limits)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.serve)
            yield listener
            listener.stop()


class Client:
    """One connection, read by a parser that is not the server's own code."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.parser = h11.Connection(h11.CLIENT)

    async def ask(self, request: bytes) -> tuple[h11.Response, bytes]:
        method, target, _ = request.split(b" ", 2)
        self.parser.send(h11.Request(method=method, target=target, headers=[("host", "a")]))
        self.parser.send(h11.EndOfMessage())
        await self.stream.send_all(request)
        body = b""
        response: h11.Response | None = None
        while True:
            event = self.parser.next_event()
            if event is h11.NEED_DATA:
                self.parser.receive_data(await self.stream.receive_some(65536))
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert response is not None
                if self.parser.our_state is h11.DONE and self.parser.their_state is h11.DONE:
                    self.parser.start_next_cycle()
                return response, body

    async def is_at_end(self) -> bool:
        return await self.stream.receive_some(1) == b""


@asynccontextmanager
async def client_of(listener: APIListener) -> AsyncIterator[Client]:
    port = int(listener.address.rpartition(":")[2])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield Client(stream)


async def test_closed_door_answers_whole_requests_and_keeps_the_connection() -> None:
    door = ClosedDoor()
    async with listening(door) as listener, client_of(listener) as client:
        for request in (PLAIN, WITH_BODY, PLAIN):
            response, body = await client.ask(request)
            assert response.status_code == 503
            assert "not executed" in json.loads(body)["errors"][0]
            fields = dict(response.headers)
            assert fields[b"retry-after"] == b"1"
            assert fields[b"cache-control"] == b"no-store"
            assert b"date" in fields
        assert door.asked == [
            (kind, "127.0.0.1") for kind in (RequestKind.READ, RequestKind.WRITE, RequestKind.READ)
        ]  # fmt: skip
        door.is_closed = False
        response, body = await client.ask(WITH_BODY)
        assert response.status_code == 200
        assert json.loads(body)["size"] == 5


async def test_closed_door_lets_control_in() -> None:
    async with listening(ClosedDoor()) as listener, client_of(listener) as client:
        response, body = await client.ask(HEALTH)
        assert response.status_code == 200
        assert json.loads(body)["path"] == "/v1/sys/health"


async def test_closed_door_closes_where_the_client_wants_it() -> None:
    async with listening(ClosedDoor()) as listener, client_of(listener) as client:
        response, _ = await client.ask(CLOSING)
        assert response.status_code == 503
        assert await client.is_at_end()


async def test_closed_door_leaves_half_a_request_to_the_app() -> None:
    async with listening(ClosedDoor()) as listener, client_of(listener) as client:
        await client.stream.send_all(WITH_BODY[:40])
        await trio.sleep(0.05)
        client.parser.send(h11.Request(method="PUT", target="/v1/x", headers=[("host", "a")]))
        await client.stream.send_all(WITH_BODY[40:])
        assert b" 200 " in await client.stream.receive_some(100)


async def test_closed_door_answer_has_the_operators_headers() -> None:
    headers = {"default": {"X-Site": ("one",)}, "503": {"Retry-After": ("30",)}}
    async with (
        listening(ClosedDoor(), custom_response_headers=headers) as listener,
        client_of(listener) as client,
    ):
        fields = dict((await client.ask(PLAIN))[0].headers)
        assert fields[b"x-site"] == b"one"
        assert fields[b"retry-after"] == b"30"


async def test_door_behind_a_proxy_stays_open() -> None:
    door = ClosedDoor()
    settings = ForwardedForConfig(authorized_addrs=("127.0.0.1",), reject_not_present=False)
    async with listening(door, forwarded_for=settings) as listener, client_of(listener) as client:
        response, _ = await client.ask(PLAIN)
        assert response.status_code == 200
        assert door.asked == []


@pytest.mark.parametrize("requests", [1, 3])
async def test_closed_door_behind_tls_answers_too(tmp_path: Path, requests: int) -> None:
    authority = trustme.CA()
    pair = authority.issue_cert("127.0.0.1")
    pair.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    pair.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    tls = TLSConfig(cert_file=str(tmp_path / "cert.pem"), key_file=str(tmp_path / "key.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with listening(ClosedDoor(), tls=tls) as listener:
        port = int(listener.address.rpartition(":")[2])
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context)
        client = Client(stream)
        for _ in range(requests):
            assert (await client.ask(PLAIN))[0].status_code == 503
        await trio.aclose_forcefully(stream)


async def test_crowd_new_connection_is_turned_away_without_a_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a request that is there when the connection is accepted; a silent one is let in."""
    monkeypatch.setattr(ClosedDoor, "is_crowded", True)
    door = ClosedDoor()
    async with listening(door) as listener:
        async with client_of(listener) as silent:
            await trio.sleep(0.05)
            assert listener.open_connections == 1
            response, _ = await silent.ask(HEALTH)
            assert response.status_code == 200
        for request in (PLAIN, WITH_BODY):
            port = int(listener.address.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.sendall(request)  # before the listener runs again
                sock.setblocking(False)
                async with trio.SocketStream(trio.socket.from_stdlib_socket(sock.dup())) as stream:
                    answer = b"".join([part async for part in stream])
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"connection: close" in answer
    assert door.asked[-2:] == [(RequestKind.READ, "127.0.0.1"), (RequestKind.WRITE, "127.0.0.1")]
