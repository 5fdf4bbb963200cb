"""
One connection of the cluster channel: batches of frames in WebSocket messages over TLS.

Rules of this file: it is the only importer of trio-websocket, and only the writer task sends. A
send that is cancelled half-way leaves half a TLS record behind, so nobody else may be in it;
everybody else puts frames into the outbox and waits on an event of their own.

trio-websocket runs a reader of its own. It blocks when we do not take messages off, so the loop
that calls ``receive`` must never wait for anything else. Whatever goes wrong inside that reader
ends this one connection and arrives as ``ChannelBroken``: a parser's bug must not end a node.

A connection is never closed politely at the WebSocket level: the last frame is a GOODBYE with a
promise in it, and after it the standby hangs up. So there is no close handshake that could hang.

Source: docs/spec/libraries.md section 2; trio-websocket 0.12.2.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, cast

import trio
import trio_websocket
import wsproto.utilities

from baoha.cluster.channel import RESOURCE
from baoha.cluster.tls import describe_failure
from baoha.errors import ForwardingError, type_and_place
from baoha.sansio.wire.frames import ChannelLimits, Frame, FrameError, parse_envelopes
from baoha.sansio.wire.outbox import Outbox

_logger: Final = logging.getLogger("baoha.cluster")

# With trio-websocket's default of 4 KiB large bodies are a fifth slower.
# Source: docs/spec/libraries.md section 2.
_RECEIVE_BYTES: Final = 65_536
# Batches that trio-websocket may hold before its reader waits for ours.
_MESSAGES_QUEUED_MAX: Final = 16

_EXPECTED_ERRORS: Final = (
    trio_websocket.ConnectionClosed,
    trio_websocket.HandshakeError,
    wsproto.utilities.ProtocolError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)


CLOSED_BY_PEER: Final = "connection closed by the peer"


class ChannelBroken(ForwardingError):
    """The connection has ended; the text says why."""


class Transport:
    """
    An established connection. ``open_transport`` makes it and ends it.

    Attributes:
        outbox: what is to be sent.
    """

    def __init__(
        self,
        connection: trio_websocket.WebSocketConnection,
        stream: _RecordingStream,
        reader: _ReaderSlot,
        limits: ChannelLimits,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._reader = reader
        self._limits = limits
        self._idle = trio.lowlevel.ParkingLot()  # where the writer waits for work
        self.outbox: Final = Outbox(limits, wake=self._idle.unpark_all)

    async def receive(self) -> list[Frame]:
        """
        Return the frames of the next batch.

        Raises:
            ChannelBroken: the connection has ended.
            FrameError: what came is not a batch of frames.
        """
        try:
            data = await self._connection.get_message()
        except trio_websocket.ConnectionClosed as exc:
            raise ChannelBroken(self._cause()) from exc
        if isinstance(data, str):
            raise FrameError("text message on the cluster channel")
        return parse_envelopes(bytes(data), self._limits)

    async def run_writer(self) -> None:
        """Send what is in the outbox until it is closed, the connection ends or it is cancelled."""
        try:
            while not self.outbox.is_closed:
                batch = self.outbox.take()
                if batch:
                    await self._connection.send_message(batch)
                else:
                    # Since the take nothing else ran, so no wake-up can have been missed.
                    await self._idle.park()
        except _EXPECTED_ERRORS as exc:
            self._reader.fail(exc)

    def _cause(self) -> str:
        return self._reader.cause(self._stream, self._connection.closed)


@asynccontextmanager
async def open_transport(
    stream: trio.abc.Stream, *, host: str | None, limits: ChannelLimits
) -> AsyncIterator[Transport]:
    """
    Do the WebSocket handshake and lend the connection to the block.

    Args:
        host: what a standby puts into the Host header; None on the active node's side.

    Raises:
        ChannelBroken: the handshake failed.

    Cancellation: the connection is cut at once, whatever is half sent. Owns: ``stream``, which is
    closed in every case.
    """
    recording = _RecordingStream(stream)
    try:
        async with trio.open_nursery() as nursery:
            reader = _ReaderSlot(nursery)
            connection = await _shake_hands(recording, reader, host, limits)
            transport = Transport(connection, recording, reader, limits)
            nursery.start_soon(transport.run_writer)
            yield transport
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error = single_error(group)
        raise error from error.__cause__
    finally:
        await trio.aclose_forcefully(stream)


def single_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """
    Return the one error that a group is about, or the group when there are several.

    Cancellations beside a real error are its consequence and are left out.
    """
    _cancelled, others = group.split(trio.Cancelled)
    error: BaseException = group if others is None else others
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _shake_hands(
    stream: _RecordingStream, reader: _ReaderSlot, host: str | None, limits: ChannelLimits
) -> trio_websocket.WebSocketConnection:
    connection: trio_websocket.WebSocketConnection | None = None
    # trio-websocket waits for ever when its reader ends during the handshake; our slot tells us.
    with reader.handshake:
        # Annotated for sockets and trio's own nursery; any stream and any ``start_soon`` will do.
        nursery = cast(trio.Nursery, reader)
        if host is not None:
            connection = await trio_websocket.wrap_client_stream(
                nursery,
                cast("trio.SSLStream[trio.SocketStream]", stream),
                host,
                RESOURCE,
                message_queue_size=_MESSAGES_QUEUED_MAX,
                max_message_size=limits.carrier_bytes_max,
                receive_buffer_size=_RECEIVE_BYTES,
            )
        else:
            connection = await _accept(nursery, stream, limits)
    if connection is None:
        raise ChannelBroken(reader.cause(stream, None))
    return connection


async def _accept(
    nursery: trio.Nursery, stream: _RecordingStream, limits: ChannelLimits
) -> trio_websocket.WebSocketConnection:
    request = await trio_websocket.wrap_server_stream(
        nursery,
        stream,
        message_queue_size=_MESSAGES_QUEUED_MAX,
        max_message_size=limits.carrier_bytes_max,
        receive_buffer_size=_RECEIVE_BYTES,
    )
    try:
        if request.path != RESOURCE:
            await request.reject(404)
            raise ChannelBroken("the peer asked for something that is not the cluster channel")
        return await request.accept()
    except _EXPECTED_ERRORS as exc:
        raise ChannelBroken(describe_failure(exc)) from exc


class _ReaderSlot:
    """
    Stands in for the nursery in which trio-websocket starts its reader, to notice the reader's end.

    An exception of the reader ends here: it breaks this connection and nothing else.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._scope = trio.CancelScope()
        self._failure: BaseException | None = None
        self.handshake: Final = trio.CancelScope()

    def start_soon(self, reader: Callable[[], Awaitable[None]]) -> None:
        """Start trio-websocket's reader."""
        self._nursery.start_soon(self._run, reader)

    def fail(self, error: BaseException) -> None:
        """End the reader, so that whoever waits in ``receive`` learns that sending has failed."""
        if self._failure is None:
            self._failure = error
        self._scope.cancel()

    def cause(self, stream: _RecordingStream, reason: trio_websocket.CloseReason | None) -> str:
        """Say why the connection has ended."""
        if reason is not None and reason.reason:
            return f"connection closed: {reason.reason}"
        if stream.failure is not None:
            return describe_failure(stream.failure)
        if isinstance(self._failure, trio_websocket.ConnectionRejected):
            return f"the peer answered the WebSocket handshake with {self._failure.status_code}"
        if stream.ended:
            return CLOSED_BY_PEER
        return describe_failure(self._failure)

    async def _run(self, reader: Callable[[], Awaitable[None]]) -> None:
        try:
            with self._scope:
                await reader()
        except _EXPECTED_ERRORS as exc:
            self.fail(exc)
        except Exception as exc:
            # Not one of ours: a peer's bytes must not end the node, see the rules above.
            _logger.error(
                "cluster channel: unexpected error in the WebSocket reader: error=%s",
                type_and_place(exc),
            )
            self.fail(exc)
        finally:
            self.handshake.cancel()


class _RecordingStream(trio.abc.Stream):
    """Passes everything through and remembers why reading ended, which trio-websocket forgets."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._inner = stream
        self.failure: BaseException | None = None
        self.ended = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``."""
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until sending might not block."""
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive some bytes; b"" at the end."""
        try:
            data = await self._inner.receive_some(max_bytes)
        except trio.BrokenResourceError as exc:
            self.failure = exc
            raise
        self.ended = not data
        return data

    async def aclose(self) -> None:
        """Close the stream."""
        await self._inner.aclose()
