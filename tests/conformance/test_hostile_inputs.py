"""
What one stranger without credentials may send, and every other client is still answered.

Goal: no input on one connection ends another connection, or the listener, or leaks. Method: each
input goes to a real listener with an app that answers 307 before it reads anything (a standby);
then a normal request on a new connection must be answered, and the hostile connection must be
gone, and the event loop must not have stood still. Stock hypercorn 0.18.0 on trio dies of the first
five, with prior knowledge as well as after an upgrade. Every input runs twice: with HTTP/2 refused
(the default), and with HTTP/2 allowed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import hpack
import pytest
import trio
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from baoha.asgi import Receive, Scope, Send
from baoha.server.http.listener import APIListener
from tests.support.listener_configs import tcp_config
from tests.support.loop_watch import watched_loop

Attack = Callable[[trio.SocketStream], Awaitable[None]]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
H2C_UPGRADE = (
    b"GET /v1/x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
)
WEBSOCKET = (
    b"GET /v1/x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def redirect_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 307 without reading the body, as a careless standby would."""
    headers = [(b"location", b"http://127.0.0.1:1/v1/x"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 307, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


# --- HTTP/2 material ------------------------------------------------------------------------------


def encode(headers: list[tuple[bytes, bytes]]) -> bytes:
    return hpack.Encoder().encode(headers)


def request_headers(
    method: bytes = b"POST", path: bytes | None = b"/v1/x"
) -> list[tuple[bytes, bytes]]:
    headers = [(b":method", method), (b":scheme", b"http"), (b":authority", b"a")]
    return headers if path is None else [*headers, (b":path", path)]


def headers_frame(
    stream: int, headers: list[tuple[bytes, bytes]], *, end_stream: bool = False
) -> Frame:
    flags = ["END_HEADERS", "END_STREAM"] if end_stream else ["END_HEADERS"]
    return HeadersFrame(stream, data=encode(headers), flags=flags)


def frames(*parts: Frame) -> bytes:
    return b"".join(part.serialize() for part in (SettingsFrame(0), *parts))


def data_frames(stream: int, count: int) -> list[Frame]:
    return [DataFrame(stream, data=b"x" * 16_000) for _ in range(count)]


PRIORITIES = [PriorityFrame(1 + 2 * i, stream_weight=15, depends_on=0) for i in range(1200)]

# The five that end a stock server, and other HTTP/2 oddities.
H2_INPUTS: dict[str, list[Frame]] = {
    "non_ascii_path": [headers_frame(3, request_headers(path=b"/v1/\xff\xfe"), end_stream=True)],
    "non_ascii_method": [headers_frame(3, request_headers(method=b"G\xc3\x84T"), end_stream=True)],
    "connect_without_path": [
        headers_frame(3, [(b":method", b"CONNECT"), (b":authority", b"a")], end_stream=True)
    ],
    "priority_flood": list(PRIORITIES),
    "connect_with_protocol": [
        headers_frame(
            3, [*request_headers(method=b"CONNECT"), (b":protocol", b"websocket")], end_stream=True
        )
    ],
    "missing_pseudo_headers": [headers_frame(3, [(b"x", b"y")], end_stream=True)],
    "rapid_reset": [
        frame
        for i in range(300)
        for frame in (
            headers_frame(3 + 2 * i, request_headers(), end_stream=True),
            RstStreamFrame(3 + 2 * i, error_code=8),
        )
    ],
    "data_on_idle_stream": [DataFrame(7, data=b"x")],
    "bad_hpack": [HeadersFrame(3, data=b"\xff\xff\xff\xff\xff", flags=["END_HEADERS"])],
    "window_overflow": [WindowUpdateFrame(0, window_increment=2**31 - 1) for _ in range(3)],
    "continuation_flood": [
        HeadersFrame(3, data=encode(request_headers())),
        *[ContinuationFrame(3, data=b"\x00\x01a\x01b" * 500) for _ in range(100)],
    ],
    "ping_flood": [PingFrame(0, opaque_data=b"12345678") for _ in range(500)],
    "goaway": [GoAwayFrame(0, last_stream_id=0, error_code=0)],
    "even_stream": [headers_frame(2, request_headers(), end_stream=True)],
}


def raw(data: bytes) -> Attack:
    async def send(stream: trio.SocketStream) -> None:
        await push(stream, data)
        await read_until_end(stream)

    return send


async def push(stream: trio.SocketStream, data: bytes) -> None:
    """Send; the other side may hang up meanwhile, which is its right."""
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        return


async def read_until_end(stream: trio.SocketStream, *, seconds: float = 0.3) -> bytes:
    """Read what comes, until the other side closes or is silent for a while."""
    received = b""
    try:
        while True:
            with trio.move_on_after(seconds) as silence:
                part = await stream.receive_some(65_536)
            if silence.cancelled_caught or not part:
                return received
            received += part
    except trio.BrokenResourceError:
        return received


# --- inputs that need more than bytes -------------------------------------------------------------


async def h2_data_after_answer(stream: trio.SocketStream) -> None:
    await push(stream, PREFACE + frames(headers_frame(1, request_headers())))
    await read_until_end(stream)
    await push(stream, b"".join(frame.serialize() for frame in data_frames(1, 3)))
    await read_until_end(stream)


async def h2c_data_after_answer(stream: trio.SocketStream) -> None:
    await push(stream, H2C_UPGRADE)
    await read_until_end(stream)
    await push(stream, PREFACE + frames(*data_frames(1, 3)))
    await read_until_end(stream)


async def h2_two_megabytes(stream: trio.SocketStream) -> None:
    await push(stream, PREFACE + frames(headers_frame(1, request_headers()), *data_frames(1, 130)))
    await read_until_end(stream)


async def reset_in_body(stream: trio.SocketStream) -> None:
    await push(stream, b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
    # SO_LINGER 0: closing sends a reset.
    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


async def reset_in_head(stream: trio.SocketStream) -> None:
    await push(stream, b"POST /v1/x HT")
    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


async def two_megabytes_to_early_answer(stream: trio.SocketStream) -> None:
    head = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(push, stream, head + b"x" * 2_000_000)
        answer = await read_until_end(stream)
    assert answer.startswith(b"HTTP/1.1 307"), "the early answer must arrive"


async def half_closed_request(stream: trio.SocketStream) -> None:
    await push(stream, b"GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n")
    await stream.send_eof()
    answer = await read_until_end(stream)
    assert answer.startswith(b"HTTP/1.1 307"), "a client that half-closes gets its answer"


async def half_closed_head(stream: trio.SocketStream) -> None:
    await push(stream, b"GET /v1/x HTTP/1.1\r\nHost")
    await stream.send_eof()
    await read_until_end(stream)


async def slow_head(stream: trio.SocketStream) -> None:
    await push(stream, b"GET /v1/x HTTP/1.1\r\n")
    for _ in range(8):
        await trio.sleep(0.1)
        await push(stream, b"X-Slow: 1\r\n")
    answer = await read_until_end(stream)
    assert answer.startswith(b"HTTP/1.1 408")


async def slow_body(stream: trio.SocketStream) -> None:
    # The app has answered long ago: the connection must not wait for the rest of the body.
    await push(stream, b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx")
    answer = await read_until_end(stream)
    assert answer.startswith(b"HTTP/1.1 307")


async def silent_connection(stream: trio.SocketStream) -> None:
    assert await read_until_end(stream, seconds=2.0) == b""


async def pipelined(stream: trio.SocketStream) -> None:
    await push(stream, b"GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
    answer = await read_until_end(stream)
    assert answer.count(b"HTTP/1.1 307") == 20


async def pipelined_after_close(stream: trio.SocketStream) -> None:
    request = b"GET /v1/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    await push(stream, request * 5)
    await read_until_end(stream)


async def websocket_with_trailing_bytes(stream: trio.SocketStream) -> None:
    await push(stream, WEBSOCKET + b"\x81\x85\x00\x00\x00\x00hello\xff\xff")
    answer = await read_until_end(stream)
    assert b" 101 " not in answer


async def never_reads(stream: trio.SocketStream) -> None:
    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 2048)
    with trio.move_on_after(0.5):
        while True:
            await push(stream, b"GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n" * 200)
            await trio.lowlevel.checkpoint()


INPUTS: dict[str, Attack] = {
    "h2_data_after_answer": h2_data_after_answer,
    "h2_two_megabytes": h2_two_megabytes,
    **{f"h2_{name}": raw(PREFACE + frames(*sent)) for name, sent in H2_INPUTS.items()},
    "h2_preface_only": raw(PREFACE),
    "h2_half_preface": raw(PREFACE[:20]),
    "h2_garbage_after_preface": raw(PREFACE + b"\xff" * 500),
    "h2c_data_after_answer": h2c_data_after_answer,
    **{
        f"h2c_{name}": raw(H2C_UPGRADE + PREFACE + frames(*sent))
        for name, sent in H2_INPUTS.items()
    },
    "h2c_bad_settings": raw(H2C_UPGRADE.replace(b"AAMAAABkAAQAAP__", b"!!")),
    "h2c_with_body": raw(H2C_UPGRADE.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc")),
    "websocket_with_trailing_bytes": websocket_with_trailing_bytes,
    "websocket_without_key": raw(WEBSOCKET.replace(b"Sec-WebSocket-Key", b"X-Other")),
    "websocket_bad_version": raw(WEBSOCKET.replace(b"Version: 13", b"Version: \xff")),
    "garbage": raw(bytes(range(256)) * 20),
    "nul_bytes": raw(b"\x00" * 4096),
    "tls_hello_on_plain_port": raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 500),
    "length_and_chunked": raw(
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    ),
    "two_lengths": raw(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde"
    ),
    "negative_length": raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
    "huge_length": raw(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 400 + b"\r\n\r\n"
    ),
    "bad_chunk_size": raw(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n"
    ),
    "endless_chunk_size": raw(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 100_000
    ),
    "unknown_transfer_encoding": raw(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    ),
    "huge_header": raw(b"GET / HTTP/1.1\r\nHost: a\r\nX-Big: " + b"x" * 2_000_000 + b"\r\n\r\n"),
    "many_headers": raw(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n"),
    "long_target": raw(b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "nul_in_path": raw(b"GET /v1/a\x00b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "escaped_nul_in_path": raw(b"GET /v1/a%00b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "non_ascii_target": raw(b"GET /v1/\xff\xc3 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "non_ascii_header": raw(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: \xff\xfe\r\n\r\n"),
    "non_ascii_method": raw(b"G\xc4T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "no_host": raw(b"GET / HTTP/1.1\r\n\r\n"),
    "http_0_9": raw(b"GET /\r\n"),
    "http_9_9": raw(b"GET / HTTP/9.9\r\nHost: a\r\n\r\n"),
    "connect": raw(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\nxxxx"),
    "bare_line_feeds": raw(b"GET / HTTP/1.1\nHost: a\n\nGET / HTTP/1.1\nHost: a\n\n"),
    "expect_and_no_body": raw(
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n"
    ),
    "reset_in_body": reset_in_body,
    "reset_in_head": reset_in_head,
    "two_megabytes_to_early_answer": two_megabytes_to_early_answer,
    "half_closed_request": half_closed_request,
    "half_closed_head": half_closed_head,
    "slow_head": slow_head,
    "slow_body": slow_body,
    "silent_connection": silent_connection,
    "pipelined": pipelined,
    "pipelined_after_close": pipelined_after_close,
    "never_reads": never_reads,
}


@pytest.mark.parametrize("http2", [False, True], ids=["http1_only", "http2_allowed"])
@pytest.mark.parametrize("name", INPUTS)
async def test_listener_hostile_input_others_are_answered(name: str, http2: bool) -> None:
    config = tcp_config(
        http_read_header_timeout_s=0.6,
        http_read_timeout_s=1.0,
        http_idle_timeout_s=1.0,
        http_write_timeout_s=0.6,
    )
    listener = APIListener(redirect_at_once, config, http2=http2)
    async with watched_loop(), trio.open_nursery() as nursery:
        address = await nursery.start(listener.serve)
        port = int(address.rpartition(":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await INPUTS[name](stream)
        await ask_normally(port)
        with trio.fail_after(5):
            await no_connection_is_open(listener)
        listener.stop()


async def no_connection_is_open(listener: APIListener) -> None:
    while listener.open_connections:  # noqa: ASYNC110 - what a real socket does has no event
        await trio.sleep(0.01)


async def ask_normally(port: int) -> None:
    with trio.fail_after(5):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(
                b"GET /v1/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            )
            answer = b"".join([part async for part in stream])
    assert answer.startswith(b"HTTP/1.1 307")


async def test_listener_http2_refused_preface_is_answered_505() -> None:
    config = tcp_config(http_read_header_timeout_s=0.6, http_idle_timeout_s=1.0)
    listener = APIListener(redirect_at_once, config)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(listener.serve)
        port = int(address.rpartition(":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await push(stream, PREFACE + frames())
            answer = await read_until_end(stream)
        assert answer.startswith(b"HTTP/1.1 505 ")
        listener.stop()
