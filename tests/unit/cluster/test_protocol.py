"""Peers with the right certificate that break the protocol, on either end."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio_websocket
from trio.testing import MockClock

from baoha.cluster.channel import Hello, Welcome
from baoha.cluster.standby_link import StandbyLink
from baoha.cluster.tls import accept_tls, client_context, connect_tls, server_context
from baoha.cluster.transport import ChannelBroken, Transport, open_transport
from baoha.core.view import LinkState
from baoha.errors import ForwardingInterrupted, PayloadTooLarge
from baoha.sansio.wire.frames import (
    PROTOCOL,
    ChannelLimits,
    Frame,
    FrameKind,
    decode_response,
    encode_credit,
    encode_head,
    encode_message_start,
    pack,
    parse_message_start,
)
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse
from baoha.timing import HATiming
from tests.support.channel import (
    ACTIVE_PORT,
    IDENTITY,
    Channel,
    RecordingActive,
    RecordingStandby,
    advertise,
    node_info,
    open_channel,
    request,
    send_raw,
    wait_until,
)
from tests.support.memory_network import MemoryHub


@asynccontextmanager
async def raw_peer(channel: Channel, *, hello: bool = True) -> AsyncIterator[Transport]:
    """Connect to the listener with the tenure's certificate and no manners."""
    stream = await channel.hub.network("rogue").connect("active", ACTIVE_PORT)
    secure = await connect_tls(stream, client_context(IDENTITY), IDENTITY)
    limits = ChannelLimits(head_bytes_max=50_000_000, body_bytes_max=10**12)
    async with open_transport(secure, host=IDENTITY.name, limits=limits) as transport:
        if hello:
            transport.outbox.control(
                FrameKind.HELLO, 0, pack(Hello(protocols=(PROTOCOL,), node=node_info("rogue")))
            )
            (frame,) = await transport.receive()
            assert frame.kind == FrameKind.WELCOME
        yield transport


async def frames_until_end(transport: Transport) -> list[Frame]:
    frames: list[Frame] = []
    try:
        while True:
            frames += await transport.receive()
    except ChannelBroken:
        return frames


async def goodbye_of(transport: Transport) -> str:
    """Read until the goodbye, hang up, and return its text."""
    while True:
        for frame in await transport.receive():
            if frame.kind == FrameKind.GOODBYE:
                return frame.payload.decode()


def start(path: str = "/x", body_bytes: int = 0, first: bytes = b"") -> bytes:
    return encode_message_start(encode_head(request(path)), body_bytes, first)


def big_head() -> bytes:
    return encode_message_start(b"h" * 1_048_577, 0, b"")


@pytest.mark.parametrize(
    ("kind", "payload", "text"),
    [
        (FrameKind.REQUEST, b"", "message header is cut off"),
        (FrameKind.REQUEST, struct.pack("!IQ", 99, 0), "message head is cut off"),
        (
            FrameKind.REQUEST,
            encode_message_start(b"\xc1", 0, b""),
            "request head cannot be decoded",
        ),
        (FrameKind.REQUEST, encode_message_start(b"", 0, b"more"), "more body than it announces"),
        (FrameKind.REQUEST, encode_message_start(b"h", 67_108_865, b""), "body of 67108865 bytes"),
        (FrameKind.REQUEST, big_head(), "message head of 1048577 bytes is above"),
        (FrameKind.HEARTBEAT, b"nonsense", "cannot decode NodeInfo"),
        (FrameKind.CREDIT, b"1234567", "credit frame has the wrong length"),
        (FrameKind.PREPARED, b"\xff", "cannot decode PrepareReply"),
    ],
)
async def test_peer_sends_bad_frame_is_told_and_let_go(
    autojump_clock: MockClock, kind: FrameKind, payload: bytes, text: str
) -> None:
    async with open_channel() as channel:
        async with raw_peer(channel) as transport:
            transport.outbox.control(kind, 5, payload)
            assert text in await goodbye_of(transport)
        assert any("protocol error" in cause and text in cause for _who, cause in channel.problems)
        # Others are not touched.
        assert (await channel.link.forward(request())).status == 200


async def test_peer_sends_garbage_instead_of_envelopes_is_told_and_let_go(
    autojump_clock: MockClock,
) -> None:
    async with open_channel() as channel:
        async with raw_peer(channel) as transport:
            await send_raw(transport, b"\x00\x00")
            assert await goodbye_of(transport) == "frame header is cut off"
        async with raw_peer(channel) as transport:
            await send_raw(transport, "text")
            assert await goodbye_of(transport) == "text message on the cluster channel"
        async with raw_peer(channel) as transport:
            with suppress(trio_websocket.ConnectionClosed):
                await send_raw(transport, b"x" * 20_000_000)
            assert await frames_until_end(transport) == []
        assert "Exceeded maximum message size" in channel.problems[-1][1]


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ([(FrameKind.HEARTBEAT, b"")], "the first frame is not a hello"),
        ([(FrameKind.HELLO, b"junk")], "cannot decode Hello"),
        (
            [(FrameKind.HELLO, pack(Hello(protocols=(2, 3), node=node_info())))],
            "none of the protocols [2, 3] is known here",
        ),
        (
            [
                (FrameKind.HELLO, pack(Hello(protocols=(1,), node=node_info()))),
                (FrameKind.REQUEST, start()),
            ],
            "frames before the welcome",
        ),
    ],
)
async def test_peer_says_a_bad_hello_is_told_and_never_joins(
    autojump_clock: MockClock, frames: list[tuple[FrameKind, bytes]], text: str
) -> None:
    async with open_channel() as channel:
        async with raw_peer(channel, hello=False) as transport:
            for kind, payload in frames:
                transport.outbox.control(kind, 1, payload)
            assert await goodbye_of(transport) == text
        assert len(channel.active.peers) == 1
        assert channel.active.called == []


async def test_peer_says_nothing_is_let_go_after_the_deadline(autojump_clock: MockClock) -> None:
    async with open_channel() as channel:
        async with raw_peer(channel, hello=False) as transport:
            started = trio.current_time()
            assert await frames_until_end(transport) == []
            assert trio.current_time() - started == pytest.approx(12)
        async with raw_peer(channel) as transport:
            started = trio.current_time()
            assert await frames_until_end(transport) == []
            assert trio.current_time() - started == pytest.approx(10)
        assert channel.problems == [
            ("rogue", "handshake timed out after 12 s"),
            ("rogue", "no heartbeat for 10 s"),
        ]


async def test_peer_breaks_protocol_with_requests_running_their_fate_is_told(
    autojump_clock: MockClock,
) -> None:
    async def answer(received: HTTPRequest) -> HTTPResponse:
        await trio.sleep_forever()
        raise AssertionError

    async with open_channel(active=RecordingActive(answer)) as channel:
        async with raw_peer(channel) as transport:
            transport.outbox.control(FrameKind.REQUEST, 1, start())
            await wait_until(lambda: channel.active.running == 1)
            # The same id again.
            transport.outbox.control(FrameKind.REQUEST, 1, start())
            frames: list[Frame] = []
            while not frames or frames[-1].kind != FrameKind.GOODBYE:
                frames += await transport.receive()
            assert [(frame.kind, frame.id) for frame in frames] == [
                (FrameKind.UNKNOWN_OUTCOME, 1),
                (FrameKind.GOODBYE, 0),
            ]
            assert frames[-1].payload == b"request id is in use"
        assert channel.active.running == 0


async def test_peer_sends_body_that_was_not_granted_is_let_go(autojump_clock: MockClock) -> None:
    limits = ChannelLimits(in_flight_bytes_max=100_000)
    async with open_channel(active_limits=limits) as channel:
        async with raw_peer(channel) as transport:
            transport.outbox.control(FrameKind.REQUEST, 1, start("/a", 90_000))
            (frame,) = await transport.receive()
            assert (frame.kind, frame.id, frame.payload) == (
                FrameKind.CREDIT,
                1,
                encode_credit(90_000),
            )
            # A second body does not fit beside the first: no credit, so nothing may be sent.
            transport.outbox.control(FrameKind.REQUEST, 2, start("/b", 90_000))
            transport.outbox.control(FrameKind.BODY, 2, b"b" * 100)
            assert await goodbye_of(transport) == "body chunk was not granted"
        assert channel.active.called == []


async def test_peer_sends_unknown_kinds_and_late_frames_they_are_ignored(
    autojump_clock: MockClock,
) -> None:
    async with open_channel() as channel:
        async with raw_peer(channel) as transport:
            for kind in (FrameKind.BODY, FrameKind.CANCEL, FrameKind.NOTICE, FrameKind.WELCOME):
                transport.outbox.control(kind, 77, b"whatever")
            transport.outbox.control(FrameKind.CREDIT, 77, encode_credit(5))
            transport.outbox.control(FrameKind.PREPARED, 77, pack(RecordingStandby().reply))
            await send_raw(transport, struct.pack("!IBQ", 2, 200, 1) + b"??")
            transport.outbox.control(FrameKind.REQUEST, 78, start("/after"))
            (frame,) = await transport.receive()
            assert (frame.kind, frame.id) == (FrameKind.RESPONSE, 78)
            answer = parse_message_start(frame.payload, ChannelLimits())
            assert decode_response(answer.head, answer.first).header("x-path") == "/after"


async def test_peer_has_too_many_requests_in_flight_gets_busy(autojump_clock: MockClock) -> None:
    async def answer(received: HTTPRequest) -> HTTPResponse:
        await trio.sleep_forever()
        raise AssertionError

    limits = ChannelLimits(in_flight_max=3)
    async with open_channel(active=RecordingActive(answer), active_limits=limits) as channel:
        async with raw_peer(channel) as transport:
            for number in range(1, 5):
                transport.outbox.control(FrameKind.REQUEST, number, start())
            (frame,) = await transport.receive()
            assert (frame.kind, frame.id) == (FrameKind.NOT_EXECUTED, 4)
            assert b"busy" in frame.payload
        assert len(channel.active.called) == 3


# --- a bad active node ----------------------------------------------------------------------------


@asynccontextmanager
async def raw_active(hub: MemoryHub, behave: Callable[[Transport], object]) -> AsyncIterator[None]:
    """Listen with the tenure's certificate and run ``behave`` for each connection."""

    async def handle(stream: trio.abc.Stream) -> None:
        secure = await accept_tls(stream, server_context(IDENTITY), IDENTITY)
        async with open_transport(secure, host=None, limits=ChannelLimits()) as transport:
            await transport.receive()
            result = behave(transport)
            if result is not None:
                await result  # type: ignore[misc]
            await frames_until_end(transport)

    async with trio.open_nursery() as nursery:
        await nursery.start(hub.network("active").serve, handle, "active", ACTIVE_PORT)
        yield
        nursery.cancel_scope.cancel()


def welcome(protocol: int = PROTOCOL, in_flight_max: int = 5) -> bytes:
    return pack(
        Welcome(
            protocol=protocol,
            head_bytes_max=10_000,
            body_bytes_max=20_000,
            in_flight_max=in_flight_max,
        )
    )


@pytest.mark.parametrize(
    ("kind", "payload", "cause"),
    [
        (FrameKind.WELCOME, welcome(protocol=9), "the active node chose protocol 9"),
        (FrameKind.WELCOME, b"junk", "cannot decode Welcome"),
        (FrameKind.ECHO, b"", "the active node's first frame is not a welcome"),
        (FrameKind.GOODBYE, b"too old", "the active node closed the channel: too old"),
    ],
)
async def test_active_node_says_a_bad_welcome_link_fails_and_says_why(
    autojump_clock: MockClock, kind: FrameKind, payload: bytes, cause: str
) -> None:
    hub, handler = MemoryHub(), RecordingStandby()
    link = StandbyLink(hub.network("standby"), advertise(), handler, timing=HATiming())
    async with raw_active(hub, lambda transport: transport.outbox.control(kind, 0, payload)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run)
            await handler.wait_until(lambda: link.state is LinkState.FAILED)
            assert link.last_error == cause
            nursery.cancel_scope.cancel()
    assert hub.handler_errors == []


async def test_active_node_breaks_protocol_pending_request_is_interrupted(
    autojump_clock: MockClock,
) -> None:
    async def behave(transport: Transport) -> None:
        transport.outbox.control(FrameKind.WELCOME, 0, welcome())
        await transport.receive()
        transport.outbox.control(FrameKind.RESPONSE, 1, encode_message_start(b"\xc1", 0, b""))

    hub, handler = MemoryHub(), RecordingStandby()
    link = StandbyLink(hub.network("standby"), advertise(), handler, timing=HATiming())
    async with raw_active(hub, behave), trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        await handler.wait_until(lambda: link.state is LinkState.UP)
        with pytest.raises(PayloadTooLarge, match="above the cluster channel's limit of 20000"):
            await link.forward(request(body=b"x" * 20_001))
        with pytest.raises(ForwardingInterrupted, match="response head cannot be decoded"):
            await link.forward(request())
        nursery.cancel_scope.cancel()
    assert hub.handler_errors == []
