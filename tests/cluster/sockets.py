"""
Clients that behave badly: raw connections that send a part of something and then nothing.

Rule of this file: every connection is closed by whoever opened it, with the block it belongs to.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial

import trio

# The beginning of a TLS record that carries a ClientHello of 512 bytes, and no more of it.
HALF_CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@asynccontextmanager
async def raw(port: int) -> AsyncIterator[trio.SocketStream]:
    """Open one connection."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    try:
        yield stream
    finally:
        stream.socket.close()


class Crowd:
    """Keeps connections to some ports open, each having sent a beginning; opens lost ones anew."""

    def __init__(self, ports: list[int], *, beginning: bytes, count: int) -> None:
        self._beginning = beginning
        self._wanted = dict.fromkeys(ports, count)
        self._open: dict[int, list[socket.socket]] = {port: [] for port in ports}

    def size(self, port: int) -> int:
        """Return how many connections are open."""
        return len(self._open[port])

    async def run(self) -> None:
        """Keep them open until cancelled."""
        try:
            while True:
                for port, sockets in self._open.items():
                    self._drop_closed(sockets)
                    with suppress(OSError):  # nobody listens there now
                        while len(sockets) < self._wanted[port]:
                            sockets.append(self._connect(port))
                await trio.sleep(0.02)
        finally:
            for sockets in self._open.values():
                for each in sockets:
                    each.close()

    def _connect(self, port: int) -> socket.socket:
        each = socket.create_connection(("127.0.0.1", port), timeout=1.0)
        each.setblocking(False)
        if self._beginning:
            each.send(self._beginning)
        return each

    def _drop_closed(self, sockets: list[socket.socket]) -> None:
        for each in list(sockets):
            try:
                closed = each.recv(64) == b""
            except BlockingIOError:
                continue
            except OSError:
                closed = True
            if closed:
                each.close()
                sockets.remove(each)


@contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """Take a port; what connects to it is never answered."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen(64)
        yield taken


@asynccontextmanager
async def serving(port: int, answer: Callable[[bytes], bytes]) -> AsyncIterator[None]:
    """Run a server that answers the first bytes of every connection, and then closes it."""

    async def handle(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            received = bytes(await stream.receive_some(65_536))
            await stream.send_all(answer(received))
        await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_tcp, handle, port, host="127.0.0.1"))
        yield
        nursery.cancel_scope.cancel()
