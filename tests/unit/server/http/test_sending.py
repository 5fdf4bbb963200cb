"""What is sent without waiting: what fits, and never to a descriptor that was closed."""

from __future__ import annotations

import socket

import trio

from baoha.server.http.sending import SEND_BYTES, send_at_once


async def test_send_at_once_room_in_the_buffer_all_is_taken() -> None:
    near, far = trio.socket.socketpair()
    with far:
        assert send_at_once(trio.SocketStream(near), b"answer") == len(b"answer")
        assert await far.recv(100) == b"answer"
    near.close()


async def test_send_at_once_long_answer_no_more_than_a_piece_is_taken() -> None:
    near, far = trio.socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * SEND_BYTES)
    with near, far:
        assert 0 < send_at_once(trio.SocketStream(near), bytes(4 * SEND_BYTES)) <= SEND_BYTES


async def test_send_at_once_full_buffer_nothing_is_taken() -> None:
    near, far = trio.socket.socketpair()
    with near, far:
        stream = trio.SocketStream(near)
        while send_at_once(stream, bytes(SEND_BYTES)):
            pass
        assert send_at_once(stream, b"answer") == 0


async def test_send_at_once_closed_stream_whoever_has_its_descriptor_now_gets_nothing() -> None:
    near, far = trio.socket.socketpair()
    stream = trio.SocketStream(near)
    number = near.fileno()
    await stream.aclose()
    others = socket.socketpair()
    with far, others[0], others[1]:
        assert number in {other.fileno() for other in others}
        assert send_at_once(stream, b"answer") == 0
