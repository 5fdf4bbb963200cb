"""
A listener whose places are all taken by strangers, and a client that wants one.

Goal: in whatever phase a stranger stops, it makes room at once, on every kind of listener; whoever
is being answered is never cut; and of several addresses the one with most connections gives way.
"""

from __future__ import annotations

import os
import resource
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing
import trustme

from baoha.asgi import Receive, Scope, Send
from baoha.config.model import ListenerConfig, TLSConfig
from baoha.server.http.limits import ListenerLimits
from baoha.server.http.listener import APIListener

PLACES = 12
# No time limit of a stranger helps whoever waits for a place.
PATIENT = ListenerLimits(handshake_s=600, write_stall_s=600, body_grace_s=600)
PATIENT_KEYS = {
    "http_read_header_timeout_s": 600,
    "http_read_timeout_s": 600,
    "http_idle_timeout_s": 600,
}
LARGE = b"x" * 16_000_000
CA = trustme.CA()
HEALTH = b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /v1/x HTTP/1.1\r\nHost: a\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, then answer: much on /v1/large, else little."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
    body = LARGE if scope["path"] == "/v1/large" else b"well"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Place:
    """One listener and the ways to it."""

    def __init__(self, listener: APIListener, *, tls: bool) -> None:
        self.listener = listener
        self.tls = tls

    async def dial(self, *, source: str = "127.0.0.1") -> trio.SocketStream:
        address = self.listener.address
        if address.startswith("unix:"):
            return await trio.open_unix_socket(address.removeprefix("unix:"))
        port = int(address.rpartition(":")[2])
        return await trio.open_tcp_stream("127.0.0.1", port, local_address=source)

    async def connect(self, *, source: str = "127.0.0.1") -> trio.abc.Stream:
        stream = await self.dial(source=source)
        if not self.tls:
            return stream
        context = ssl.create_default_context()
        CA.configure_trust(context)
        secured = trio.SSLStream(
            stream, context, server_hostname="127.0.0.1", https_compatible=True
        )
        await secured.do_handshake()
        return secured

    async def is_well(self, *, source: str = "127.0.0.1") -> bool:
        stream = await self.connect(source=source)
        try:
            await stream.send_all(HEALTH)
            return (await stream.receive_some(4096)).startswith(b"HTTP/1.1 200")
        finally:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def listening(
    kind: str, folder: Path, *, places: int = PLACES, limits: ListenerLimits | None = None
) -> AsyncIterator[Place]:
    tls = None
    if kind == "tls":
        issued = CA.issue_cert("127.0.0.1")
        cert, key = folder / "server.pem", folder / "server.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        tls = TLSConfig(cert_file=str(cert), key_file=str(key))
    config = ListenerConfig(
        type="unix" if kind == "unix" else "tcp",
        host="127.0.0.1",
        socket_path=str(folder / "api.sock"),
        tls=tls,
        connections_max=places,
        **(PATIENT_KEYS if limits is None else {"http_read_timeout_s": 600}),
    )
    listener = APIListener(app, config, limits=limits or PATIENT, graceful_s=0.1)
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.serve)
        yield Place(listener, tls=tls is not None)
        listener.stop()


# --- where a stranger may stop ------------------------------------------------------------------

Stop = Callable[[Place], Awaitable[trio.abc.Stream]]


async def silent(place: Place) -> trio.abc.Stream:
    return await place.dial()


async def half_handshake(place: Place) -> trio.abc.Stream:
    stream = await place.dial()
    await stream.send_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 50)
    return stream


async def handshake_only(place: Place) -> trio.abc.Stream:
    return await place.connect()


def after(data: bytes) -> Stop:
    async def stop(place: Place) -> trio.abc.Stream:
        stream = await place.connect()
        await stream.send_all(data)
        return stream

    return stop


async def idle(place: Place) -> trio.abc.Stream:
    stream = await place.connect()
    await stream.send_all(HEALTH)
    assert (await stream.receive_some(4096)).endswith(b"well")
    return stream


async def second_body(place: Place) -> trio.abc.Stream:
    stream = await idle(place)
    await stream.send_all(POST + b"Content-Length: 1000\r\n\r\nx")
    return stream


PHASES: dict[str, Stop] = {
    "silent": silent,
    "handshake_only": handshake_only,
    "half_head": after(b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\nX-"),
    "body_without_a_byte": after(POST + b"Content-Length: 1000\r\n\r\n"),
    "body_with_length": after(POST + b"Content-Length: 1000\r\n\r\n1"),
    "body_with_large_length": after(POST + b"Content-Length: 33554432\r\n\r\n" + b"x" * 70_000),
    "body_in_chunks": after(POST + b"Transfer-Encoding: chunked\r\n\r\n11170\r\n" + b"x" * 70_000),
    "body_between_chunks": after(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"),
    "body_expected": after(POST + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n"),
    "body_of_form": after(
        POST + b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\na="
    ),
    "body_of_second_request": second_body,
    "answer_not_read": after(b"GET /v1/large HTTP/1.1\r\nHost: a\r\n\r\n"),
    "answers_not_read": after(b"GET /v1/large HTTP/1.1\r\nHost: a\r\n\r\n" * 3),
    "idle": idle,
}
PHASES_OF_TLS = PHASES | {"half_handshake": half_handshake}
CASES = [(kind, name) for kind in ("tcp", "unix") for name in PHASES]
CASES += [("tls", name) for name in PHASES_OF_TLS]


@pytest.mark.parametrize(("kind", "name"), CASES)
async def test_listener_full_of_strangers_answers_health_at_once(
    kind: str, name: str, tmp_path: Path
) -> None:
    async with listening(kind, tmp_path) as place:
        strangers = [await PHASES_OF_TLS[name](place) for _ in range(PLACES + 4)]
        await trio.sleep(0.1)  # until the server has read it all
        with trio.fail_after(60):
            for _ in range(8):
                assert await place.is_well()
        assert place.listener.open_connections <= PLACES + 1
        for stream in strangers:
            await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("kind", ["tcp", "tls"])
async def test_listener_full_unfinished_body_is_told_408(kind: str, tmp_path: Path) -> None:
    async with listening(kind, tmp_path) as place:
        strangers = [await PHASES["body_with_length"](place) for _ in range(PLACES)]
        await trio.sleep(0.1)
        assert await place.is_well()
        with trio.fail_after(60):
            assert (await strangers[0].receive_some(4096)).startswith(b"HTTP/1.1 408")
        for stream in strangers:
            await trio.aclose_forcefully(stream)


async def test_listener_full_body_that_comes_in_outlives_those_that_stand_still(
    tmp_path: Path,
) -> None:
    async with listening("tcp", tmp_path) as place:
        moving = await after(POST + b"Content-Length: 400000\r\n\r\n")(place)
        strangers = [await PHASES["body_with_length"](place) for _ in range(PLACES - 1)]
        await trio.sleep(0.1)
        for _ in range(4):
            await moving.send_all(b"x" * 100_000)
            await trio.sleep(0.05)
            for _ in range(PLACES // 4):
                assert await place.is_well()
        assert (await moving.receive_some(4096)).startswith(b"HTTP/1.1 200")
        for stream in (moving, *strangers):
            await trio.aclose_forcefully(stream)


async def test_listener_full_heaviest_address_gives_way(tmp_path: Path) -> None:
    async with listening("tcp", tmp_path) as place:
        client = await place.connect(source="127.0.0.2")  # the oldest of all
        strangers = [await silent(place) for _ in range(PLACES + 10)]
        with trio.fail_after(60):
            for _ in range(PLACES):
                assert await place.is_well()
            await client.send_all(HEALTH)
            assert (await client.receive_some(4096)).startswith(b"HTTP/1.1 200")
        for stream in (client, *strangers):
            await trio.aclose_forcefully(stream)


async def test_listener_body_without_progress_ends_long_before_its_deadline(
    tmp_path: Path,
) -> None:
    limits = ListenerLimits(body_grace_s=0.2, body_bytes_per_s=10_000)
    async with listening("tcp", tmp_path, limits=limits) as place:
        stream = await after(POST + b"Content-Length: 1000\r\n\r\n1")(place)
        with trio.fail_after(60):
            assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 408")
        await trio.aclose_forcefully(stream)


async def test_listener_body_with_progress_outlives_the_grace(tmp_path: Path) -> None:
    limits = ListenerLimits(body_grace_s=0.2, body_bytes_per_s=10_000)
    async with listening("tcp", tmp_path, limits=limits) as place:
        stream = await after(POST + b"Content-Length: 80000\r\n\r\n")(place)
        for _ in range(8):
            await stream.send_all(b"x" * 10_000)
            await trio.sleep(0.1)
        with trio.fail_after(60):
            assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 200")
        await trio.aclose_forcefully(stream)


async def test_listener_full_of_four_thousand_half_bodies_answers_health(tmp_path: Path) -> None:
    head = POST + b"Content-Length: 1000\r\n\r\n1"
    places = ListenerConfig(type="tcp").connections_max
    strangers = []
    async with listening("tcp", tmp_path, places=places) as place:
        for number in range(places + 204):
            stranger = await place.dial()
            # A reset at the end: thousands of sockets shall not linger.
            reset = struct.pack("ii", 1, 0)
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            await stranger.send_all(head)
            strangers.append(stranger)
            if number < places:
                assert place.listener.open_connections <= places
        with trio.fail_after(60):
            for _ in range(20):
                assert await place.is_well()
        for stranger in strangers:
            stranger.socket.close()


async def test_listener_backlog_is_taken_in_batches(tmp_path: Path) -> None:
    """Connections that wait are not taken one per turn of the event loop."""
    async with listening("tcp", tmp_path, places=500) as place:
        address = ("127.0.0.1", int(place.listener.address.rpartition(":")[2]))
        clients = [socket.create_connection(address) for _ in range(96)]
        turns = 0
        while place.listener.open_connections < 96:
            await trio.lowlevel.checkpoint()
            turns += 1
        assert turns <= 96 // 8
        for client in clients:
            client.close()


async def test_listener_without_descriptors_accepts_again_when_there_are_some(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening("tcp", tmp_path) as place:
        address = ("127.0.0.1", int(place.listener.address.rpartition(":")[2]))
        client = socket.create_connection(address)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            await trio.sleep(0.3)
            assert place.listener.open_connections == 0
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert await place.is_well()
        client.close()
    assert [r.levelname for r in caplog.records if "Too many open files" in r.message] == [
        "WARNING"
    ]


async def test_listener_strangers_that_run_out_of_time_together_end_one_by_one(
    tmp_path: Path,
) -> None:
    """Thousands of ends in one turn of the event loop would stop the clock of the node."""
    limits = ListenerLimits(body_grace_s=0.5)
    async with listening("tcp", tmp_path, places=200, limits=limits) as place:
        strangers = [await PHASES["body_with_length"](place) for _ in range(100)]
        most, before = 0, place.listener.open_connections
        while place.listener.open_connections:
            await trio.lowlevel.checkpoint()
            now = place.listener.open_connections
            most, before = max(most, before - now), now
        assert 0 < most <= 25
        for stream in strangers:
            await trio.aclose_forcefully(stream)
