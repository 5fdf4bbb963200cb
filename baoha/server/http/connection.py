"""
One client connection: hypercorn's protocol code, made safe to show to strangers.

Rules of this file:

1. Nothing that happens on one connection may end another connection, or the process. Stock
   hypercorn 0.18 lets any exception that is not an OSError leave its connection handler, which
   cancels the whole server; five kinds of HTTP/2 input do that without any credentials.
2. Every wait has an end: each read has a deadline, each write a stall limit, each queue a bound.
   And it may end sooner: wherever it is the client's turn, its place may be taken (``make_room``).
3. Private names of hypercorn are used here, in app_tasks.py and in http1.py, and nowhere else.
   That is why pyproject.toml pins ``hypercorn==0.18.*``; a newer version is taken only with these
   three files read against it. (One private name of trio's is used too, in ``_shake_hands``.)

Theory of operation. hypercorn keeps the protocol work (h11, h2, the ASGI stream). Replaced are the
parts around it: ``Connection`` stands for ``TCPServer`` (TLS handshake, reading, writing, closing),
``AppTasks`` for its ``TaskGroup`` (it runs the app), ``HTTP1`` for ``H11Protocol`` (it decides what
is not spoken here). Nothing in hypercorn is patched. In particular:

- HTTP/2 is refused unless the listener says otherwise: prior knowledge is answered with 505,
  ``Upgrade: h2c`` and ``Upgrade: websocket`` are ignored, as RFC 9110 section 7.8 allows.
- The idle timer is the deadline of the read, not a task that is restarted with every request, and
  the head of a response leaves in one piece with the first part of its body.
- The app hears ``http.disconnect`` when the client has closed its side, and may still answer: a
  client that half-closes gets its reply. An app that has answered never blocks the connection.
- A connection that is closed with unread input lingers for a moment, so that a kernel reset does
  not destroy the answer on its way (RFC 9112 section 9.6).

Source: ours; hypercorn 0.18.0 ``trio/tcp_server.py``.
"""

from __future__ import annotations

import logging
import math
import ssl
from typing import Any, Protocol, cast

import h11
import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from baoha.api.door import Look, Urgency
from baoha.asgi import TLS_EXTENSION
from baoha.server.http.app_tasks import AppTasks
from baoha.server.http.arrivals import Refused, Seat
from baoha.server.http.http1 import HTTP1
from baoha.server.http.intake import NOTHING_YET, Opening
from baoha.server.http.limits import NO_LIMIT_S
from baoha.server.http.listener_shared import ListenerShared
from baoha.server.http.refusals import PLAIN_HTTP_ON_TLS
from baoha.server.http.sending import SEND_BYTES, send_at_once
from baoha.server.http.tls import client_certificates

logger = logging.getLogger("baoha.server.listener")

RECEIVE_BYTES = 65_536
# A request that grows by so much has made progress: it counts as the youngest of its client.
PROGRESS_BYTES = 16_384
# How long unread input is discarded before the socket is closed. Source: Go net/http, 500 ms.
LINGER_S = 0.5


async def serve_connection(connection: Connection) -> None:
    """
    Serve one connection to its end. This is the guard: no error of a connection leaves it.

    Cancellation: the connection is closed at once, without an answer.
    Owns: its stream, and the place that it has.
    """
    shared = connection.shared
    shared.open.add(connection)
    try:
        await connection.run()
    except trio.Cancelled:
        raise
    except BaseExceptionGroup as group:
        ours, others = group.split(Exception)
        if ours is not None:
            _report(ours)
        if others is not None:
            raise others from None
    except Exception as error:
        # The one place where any error of one stranger's connection ends just that connection.
        _report(error)
    finally:
        shared.open.discard(connection)
        shared.places.leave(connection)
        shared.changed.set()
        await trio.aclose_forcefully(connection.stream)


def _report(error: BaseException) -> None:
    leaf = error
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    if isinstance(leaf, OSError | trio.BrokenResourceError | trio.ClosedResourceError):
        logger.debug("connection lost: error=%s", type(leaf).__name__)
        return
    where = leaf.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where is not None else "?"
    # The text of the error may quote what the client sent: only its type and place are logged.
    logger.error("connection ended by an error: error=%s place=%s", type(leaf).__name__, place)


class _Protocol(Protocol):
    async def initiate(self) -> None: ...
    async def handle(self, event: Event) -> None: ...


class Connection(TCPServer):
    """One connection. ``run`` returns when it is closed and its last request has ended."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        shared: ListenerShared,
        address: str,
        opening: Opening = NOTHING_YET,
    ) -> None:
        """Take a connection; ``address`` is what counts as its client (``shares``)."""
        super().__init__(
            cast(Any, shared.app), shared.config, shared.context, cast(Any, {}), cast(Any, stream)
        )
        self.shared = shared
        listener = shared.listener
        self._header_s = listener.http_read_header_timeout_s or NO_LIMIT_S
        self._read_s = listener.http_read_timeout_s or NO_LIMIT_S
        self._idle_s = listener.http_idle_timeout_s or NO_LIMIT_S
        self._write_stall_s = listener.http_write_timeout_s or shared.limits.write_stall_s
        # Ends the reader, wherever it waits; what follows it closes the connection.
        self._reading = trio.CancelScope()
        self._shaking = trio.CancelScope()
        self._sending: trio.CancelScope | None = None  # while bytes wait for the client
        self._read_deadline = math.inf
        self._read_scope: trio.CancelScope | None = None
        # When the request that is being received began, on trio's clock; None between requests.
        self._request_at: float | None = None
        self._request_bytes = 0  # of it so far
        self._look = Look(urgency=Urgency.OTHER)  # what its first bytes said
        self._address = address
        self._touched_bytes = 0  # of it when it last counted as progress
        self._waited_s = 0.0  # for the client, within its body
        self._has_request = False  # a whole head, and no end of an answer
        self._is_displaced = self._idle = self._broken = self._seen_eof = False
        self._refused_at = -math.inf  # the last request, on trio's clock
        self._seat: Seat | None = None  # without TLS
        if isinstance(stream, trio.SocketStream):
            self._seat = Seat(shared.arrivals, stream.socket.fileno(), self, address, opening)
        self._tasks: AppTasks
        self._http1: HTTP1 | None = None  # if nothing else can be spoken

    async def run(self) -> None:
        """Shake hands, serve requests, close."""
        tls = isinstance(self.stream, trio.SSLStream)
        extensions = dict(self.shared.extensions)
        if tls:
            if not await self._shake_hands():
                return
            extensions[TLS_EXTENSION] = {"client_cert_chain": client_certificates(self.stream)}
        self._task_group = self._tasks = AppTasks(self.shared.app, extensions)
        async with self._tasks:
            self.protocol = cast(Any, self._open_protocol(tls=tls))
            with self._reading:
                await self.protocol.initiate()
                self._read_deadline = trio.current_time() + self._header_s
                await self._read_data()
            was_unfinished = self._is_displaced and await self._give_way()
            await self.protocol.handle(Closed())
            await self._close()
            if was_unfinished:
                self._tasks.end_within(0)  # the app has not seen the whole request
            elif self._h11() is None:
                # Tasks of hypercorn's HTTP/2 may wait for flow control of a client that is gone.
                self._tasks.end_within(self._write_stall_s)

    def finish(self) -> None:
        """Close the connection now if no request is being served on it."""
        if self._idle or self._request_at is None:
            self._reading.cancel()

    @property
    def is_expendable(self) -> bool:
        """Whether it waits for its client: no work of ours is lost with it."""
        if not self._has_request:
            return True
        if (protocol := self._http1 or self._h11()) is None:
            return False  # HTTP/2: other requests of the connection may be on their way
        return self._sending is not None or protocol.connection.their_state is h11.SEND_BODY

    def make_room(self) -> None:
        """Close the connection now; only for an expendable one."""
        self._is_displaced = True
        # A half body is told so, an answer that is not read is cut, silence is met with silence.
        if self._sending is not None or not self._has_request:
            self._broken = True
        self._shaking.cancel()
        self._reading.cancel()
        if self._sending is not None:
            self._sending.cancel()

    async def _give_way(self) -> bool:
        """Say 408 to a half request, without waiting for anybody. False: there is none."""
        protocol = self._h11()
        if protocol is None or self._broken or not self._has_request:
            return False
        if protocol.is_answering:
            # It was completed in the very moment: it is answered like any other.
            with trio.CancelScope() as self._reading:
                await trio.sleep_forever()
            return False
        with trio.move_on_after(LINGER_S):
            await protocol.time_out()
        self._broken = True  # no lingering: the place has been given away
        return True

    def _weigh(self) -> None:
        """Return whether its place may be taken; calling it is progress."""
        if self.is_expendable:
            self.shared.places.loosen(self)
            self.shared.changed.set()
        else:
            self.shared.places.firm(self)

    def _open_protocol(self, *, tls: bool) -> _Protocol:
        transport = self.stream.transport_stream if tls else self.stream
        sock = cast(trio.SocketStream, transport).socket
        arguments = (
            cast(Any, self.shared.app),
            self.config,
            self.context,
            self._tasks,
            ConnectionState(cast(Any, {})),
            tls,
            parse_socket_addr(sock.family, sock.getpeername()),
            parse_socket_addr(sock.family, sock.getsockname()),
            self.protocol_send,
        )
        own = HTTP1(*arguments)
        if not self.shared.http2:
            self._http1 = own
            return own
        alpn = self.stream.selected_alpn_protocol() if tls else "http/1.1"
        both = ProtocolWrapper(*arguments, alpn)
        if alpn != "h2":
            own.http2 = True
            both.protocol = own
        return both

    async def _shake_hands(self) -> bool:
        await self.shared.intake.turns.take(Urgency.OTHER, self._address)
        try:
            with self._shaking, trio.fail_after(self.shared.limits.handshake_s):
                await self.stream.do_handshake()
        except trio.TooSlowError:
            logger.debug("TLS handshake too slow")
            return False
        except trio.BrokenResourceError as error:
            cause = error.__cause__
            reason = cause.reason if isinstance(cause, ssl.SSLError) else type(cause).__name__
            logger.debug("TLS handshake failed: reason=%s", reason)
            # trio keeps what OpenSSL has to say about a handshake that failed: without the alert
            # a client sees a reset, and nobody learns that a certificate is missing.
            alert = self.stream._outgoing.read()
            await self._say_last(PLAIN_HTTP_ON_TLS if reason == "HTTP_REQUEST" else alert)
            return False
        return not self._shaking.cancelled_caught

    async def _say_last(self, data: bytes) -> None:
        transport = self.stream.transport_stream
        with trio.move_on_after(LINGER_S):
            await transport.send_all(data)
            await transport.send_eof()
            while await transport.receive_some(RECEIVE_BYTES):
                pass

    # --- reading ---------------------------------------------------------------------------------

    async def _read_data(self) -> None:
        while True:
            asked_at = trio.current_time()
            with trio.CancelScope(deadline=self._read_deadline) as self._read_scope:
                try:
                    data = await self._receive()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self._broken = True
                    return
            is_late, self._read_scope = self._read_scope.cancelled_caught, None
            if is_late:
                if self._was_refused_lately():
                    continue
                # Strangers that came together run out of time together: one after the other.
                async with self.shared.endings:
                    await trio.lowlevel.checkpoint()
                await self._time_out()
                return
            if not data:
                self._seen_eof = True
                await self._half_close()
                return
            if self._has_request:
                self._waited_s += trio.current_time() - asked_at
            has_turn = self._seat is not None and self._seat.has_turn
            if not has_turn and not await self._is_taken(data):
                continue
            await self.protocol.handle(RawData(data))
            if self._has_request and not self.is_expendable:
                self._touched_bytes = self._request_bytes
                self.shared.places.firm(self)
            elif self._request_bytes - self._touched_bytes >= PROGRESS_BYTES and self._has_request:
                self._touched_bytes = self._request_bytes
                self._weigh()
            self._set_read_deadline()

    async def _receive(self) -> bytes:
        if self._seat is None:
            return bytes(await self.stream.receive_some(RECEIVE_BYTES))
        try:
            return await self._seat.receive()
        except Refused as refused:
            await self._end_refusal(refused.answer, refused.sent)
            return await self._seat.receive()

    async def _is_taken(self, data: bytes) -> bool:
        """Wait for a turn to take bytes in; False: they were answered with a refusal."""
        intake = self.shared.intake
        is_first = self.is_between_requests
        if is_first:
            self.begin(intake.look(data), len(data))
        else:
            self._request_bytes += len(data)
        if await intake.takes(self._look, self._address, self._request_bytes, is_first=is_first):
            return True
        answer = intake.refusal(keeps_alive=self._look.keeps_alive and self.keeps_alive)
        await self._end_refusal(answer, 0)
        return False

    async def _end_refusal(self, answer: bytes, sent: int) -> None:
        """Send what is left of a refusal, and close the connection if that is its end."""
        if sent == 0:
            await self._send_bytes(answer)
        self._broken = self._broken or 0 < sent < len(answer)  # it does not read: no use to go on
        keeps_alive = self._look.keeps_alive and self.keeps_alive
        self.was_refused()
        if self._broken or not keeps_alive:
            self._reading.cancel()

    @property
    def is_between_requests(self) -> bool:
        """Whether nothing of a next request has come, and none is being answered."""
        return self._request_at is None

    @property
    def keeps_alive(self) -> bool:
        """Whether connections are kept at all by now."""
        return not self.shared.stopping

    def begin(self, look: Look, size_bytes: int) -> None:
        """Take note of the first bytes of a request."""
        self._request_at = now = trio.current_time()
        # It may have to wait for a turn, and is lost if the time to read it ends meanwhile.
        if self._read_deadline < now + self._header_s / 2:
            self._set_deadline(now + max(self._header_s, self._idle_s))
        self._request_bytes, self._touched_bytes = size_bytes, 0
        self._waited_s = 0.0
        self._look = look

    def was_refused(self) -> None:
        """Take note that a request was answered before anything was done for it."""
        self._request_at = None
        self._refused_at = trio.current_time()
        self._weigh()

    def _was_refused_lately(self) -> bool:
        """Whether a read that has run out of time may go on: a refusal does not set the timer."""
        deadline = self._refused_at + self._idle_s
        if self._request_at is not None or deadline <= trio.current_time():
            return False
        self._read_deadline = deadline
        return True

    async def _half_close(self) -> None:
        await self.protocol.handle(RawData(b""))
        if (protocol := self._h11()) is None or not protocol.is_answering:
            return
        self._tasks.disconnect()
        # The answer, when it is complete, ends this wait through protocol_send(Closed).
        await trio.sleep_forever()

    async def _time_out(self) -> None:
        protocol = self._h11()
        if protocol is not None and self._request_at is not None and not self._idle:
            await protocol.time_out()

    def _h11(self) -> HTTP1 | None:
        protocol = self.protocol
        inner = protocol.protocol if isinstance(protocol, ProtocolWrapper) else protocol
        return inner if isinstance(inner, HTTP1) else None

    def _set_read_deadline(self) -> None:
        """Say how long the next bytes may take, by what has been received so far."""
        limits, protocol = self.shared.limits, self._http1 or self._h11()
        now = trio.current_time()
        if protocol is None:  # HTTP/2: requests overlap, so only idleness is timed
            deadline = now + self._idle_s if self._idle else math.inf
        elif (state := protocol.connection.their_state) is h11.SEND_BODY:
            grace_s = limits.body_grace_s + self._request_bytes / limits.body_bytes_per_s
            ends_at = (self._request_at or now) + self._read_s
            deadline = min(ends_at, now + grace_s - self._waited_s)
        elif state is not h11.IDLE:  # complete: the app has the word, and its own time limit
            deadline = math.inf
        elif protocol.connection.trailing_data[0]:  # a part of a head, and no more
            self._request_at = self._request_at or now
            deadline = self._request_at + self._header_s
        else:
            self._request_at = None
            deadline = now + self._idle_s
        self._set_deadline(deadline)

    def _set_deadline(self, deadline: float) -> None:
        if deadline == self._read_deadline:
            return
        self._read_deadline = deadline
        if self._read_scope is not None:
            self._read_scope.deadline = deadline

    # --- writing ---------------------------------------------------------------------------------

    async def protocol_send(self, event: Event) -> None:
        """Take an event of the protocol: bytes for the client, the end, idle or busy."""
        if isinstance(event, RawData):
            await self._send_bytes(event.data)
        elif isinstance(event, Closed):
            await self._end()
        elif isinstance(event, Updated):
            self._set_idle(event.idle)

    async def _send_bytes(self, data: bytes) -> None:
        is_free = self._seat is not None and not self._broken and not self.send_lock.locked()
        sent = send_at_once(cast(trio.SocketStream, self.stream), data) if is_free else 0
        if sent == len(data):
            return
        async with self.send_lock:
            if self._broken:
                return
            # Until all of it is out, the connection is unusable: a cancelled or failed write must
            # never be followed by other bytes.
            self._broken = True
            try:
                view = memoryview(data)
                with trio.CancelScope() as self._sending:
                    for start in range(sent, len(data), SEND_BYTES):
                        self._weigh()
                        # One scope for all pieces: its deadline moves on with each of them.
                        stalls_at = trio.current_time() + self._write_stall_s
                        self._sending.deadline = stalls_at
                        await self.stream.send_all(view[start : start + SEND_BYTES])
                    self._broken = False
                if self._broken:
                    logger.debug("response could not be sent: it was not read in time")
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                logger.debug("response could not be sent: error=%s", type(error).__name__)
            finally:
                self._sending = None
        if self._broken:
            await self._end()

    async def _end(self) -> None:
        await self.protocol.handle(Closed())
        self._reading.cancel()

    def _set_idle(self, idle: bool) -> None:
        self._idle = idle
        self._has_request = not idle
        if idle:
            self._request_at = None
        self._set_read_deadline()
        self._weigh()
        if idle and self.shared.stopping:
            self._reading.cancel()

    async def _close(self) -> None:
        transport = getattr(self.stream, "transport_stream", self.stream)
        if not self._broken and not self._seen_eof:
            try:
                with trio.move_on_after(LINGER_S):
                    await transport.send_eof()
                    while await transport.receive_some(RECEIVE_BYTES):
                        pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the client was faster: there is nothing left to close gently
        await trio.aclose_forcefully(self.stream)
