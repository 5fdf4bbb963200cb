"""
How bytes get from node to node: the seam between the cluster channel and the world.

Production uses TCP; simulations give each node a ``Network`` over memory streams.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

import trio

from baoha.errors import type_and_place

_logger: Final = logging.getLogger("baoha.cluster")

StreamHandler = Callable[[trio.abc.Stream], Awaitable[None]]


class Network(Protocol):
    """Connect and serve byte streams. Addresses are (host, port)."""

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        """
        Open a stream.

        Raises:
            OSError: refused, unreachable, no such name (ConnectionRefusedError is kept apart:
                it is evidence that nobody listens).
        """

    async def check(self, host: str, port: int) -> None:
        """
        Return if an address could be bound now. Nobody can connect meanwhile.

        Raises:
            OSError: it cannot be bound.
        """

    async def serve(
        self,
        handler: StreamHandler,
        host: str,
        port: int,
        *,
        task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """
        Accept streams until cancelled, each in a task of its own; report the bound address.

        An exception of one handler never ends the listener or another handler.

        Raises:
            OSError: the address cannot be bound.
        """


class TCPNetwork:
    """The real network."""

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        """Open a TCP connection (all addresses of the name are tried, RFC 8305)."""
        try:
            return await trio.open_tcp_stream(host, port)
        except UnicodeError as exc:
            raise _no_name(exc) from exc
        except OSError as exc:
            # trio wraps the errors of all attempts into one that does not say "refused".
            attempts = exc.__cause__
            if isinstance(attempts, ExceptionGroup) and all(
                isinstance(attempt, ConnectionRefusedError) for attempt in attempts.exceptions
            ):
                raise attempts.exceptions[0] from None
            raise

    async def check(self, host: str, port: int) -> None:
        """
        Bind every address of the name, without listening.

        Linux lets a socket with SO_REUSEADDR share a port with any that does not listen.
        """
        try:
            found = await trio.socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except UnicodeError as exc:
            raise _no_name(exc) from exc
        for family, kind, protocol, _, address in found:
            try:
                bound = trio.socket.socket(family, kind, protocol)
            except OSError as exc:
                if exc.errno == errno.EAFNOSUPPORT:
                    continue  # a kernel without IPv6, for example
                raise
            with bound:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                await bound.bind(address)

    async def serve(
        self,
        handler: StreamHandler,
        host: str,
        port: int,
        *,
        task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen on one address."""
        try:
            listeners = await trio.open_tcp_listeners(port, host=host, backlog=1024)
        except UnicodeError as exc:
            raise _no_name(exc) from exc
        bound = listeners[0].socket.getsockname()
        task_status.started((bound[0], bound[1]))
        await trio.serve_listeners(partial(_handle, handler), listeners)


def _no_name(exc: UnicodeError) -> OSError:
    # What cannot be a host name (an empty or over-long label) never reaches the resolver.
    return socket.gaierror(socket.EAI_NONAME, f"not a host name: {exc}")


async def _handle(handler: StreamHandler, stream: trio.abc.Stream) -> None:
    try:
        await handler(stream)
    except Exception as exc:
        # A defect met by one connection must not end the node: a peer chose its bytes.
        _logger.error(
            "cluster connection ended by an unexpected error: error=%s", type_and_place(exc)
        )
