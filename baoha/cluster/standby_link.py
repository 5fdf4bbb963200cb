"""
The standby's end of the cluster channel: one connection to the active node, kept alive.

Rules of this file: ``CannotForward`` is a promise that the active node has not executed the request
and will not, and it is given only when the last byte of the request was never handed to the
connection, or when the active node said so. Everything else is ``ForwardingInterrupted``. And no
caller ever waits for a connection that has ended.

``StandbyLink.run`` dials, says hello, and is UP when the welcome has come (with TLS 1.3 a refused
client learns of it only then). A connection that ends is dialled again at once, then with growing
pauses; so a dead process shows as "refused" within a round trip of its death.

FAILED sends clients elsewhere, so it is said only for reasons that load cannot make: the port
refused, or nothing came of several whole attempts (``dial_attempts``). When handshakes run out of
time the next ones get longer, and only a long one proves anything.

Source: ours; docs/spec/libraries.md section 2 for what TLS says when.
"""

from __future__ import annotations

import logging
import math
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import trio

from baoha.cluster.certificates import TenureIdentity, identity_from_advertisement
from baoha.cluster.channel import Hello, LeaderNotice, PrepareReply, StandbyHandler, Welcome
from baoha.cluster.dial_attempts import DialAttempts
from baoha.cluster.network import Network
from baoha.cluster.standby_calls import StandbyCalls
from baoha.cluster.tls import client_context, connect_tls
from baoha.cluster.transport import ChannelBroken, Transport, open_transport, single_error
from baoha.core.view import LinkState
from baoha.errors import BaohaError, CannotForward, ForwardingError
from baoha.sansio.advertisement import Advertisement, cluster_endpoint
from baoha.sansio.wire.frames import (
    PROTOCOL,
    ChannelLimits,
    Frame,
    FrameError,
    FrameKind,
    pack,
    unpack,
)
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse
from baoha.timing import HATiming

_logger: Final = logging.getLogger("baoha.cluster")

# A connection that has been silent for so many heartbeat timeouts is given up and dialled again.
SILENCE_FACTOR: Final = 2

# So many control frames in the queue mean that the writer is stuck.
_CONTROL_FRAMES_STUCK: Final = 64


def _random_fraction() -> float:
    return secrets.randbelow(1_000_000) / 1_000_000


class StandbyLink:
    """
    A standby's link to one active node. Make a new one for every leader.

    Args:
        jitter: returns numbers in [0, 1), to spread the dialling of many standbys.

    Attributes:
        state: NONE before ``run``; CONNECTING while dialling may yet succeed; UP; SUSPECT while
            connected but silent; FAILED when the active node cannot be reached (still dialling).
        refused_at: when the cluster port last refused a connection (trio's clock), None once it
            accepted one: a sign that the process is gone.
        broken_at: when a connection that was up last ended without a goodbye (trio's clock).
        last_error: why the link is not up, "" while it is.
    """

    def __init__(
        self,
        network: Network,
        advertisement: Advertisement,
        handler: StandbyHandler,
        *,
        timing: HATiming,
        limits: ChannelLimits | None = None,
        jitter: Callable[[], float] = _random_fraction,
    ) -> None:
        self._network = network
        self._advertisement = advertisement
        self._handler = handler
        self._timing = timing
        self._limits = limits or ChannelLimits()
        self._jitter = jitter
        self._session: StandbyCalls | None = None
        self._attempts = DialAttempts(timing.handshake_s)
        self.state = LinkState.NONE
        self.refused_at: float | None = None
        self.broken_at: float | None = None
        self.last_error = ""

    @property
    def in_flight(self) -> int:
        """How many forwarded requests wait for their answer."""
        return 0 if self._session is None else self._session.in_flight

    async def run(self) -> None:
        """
        Keep the link up until cancelled.

        Cancellation: every request under way ends at once with the right error, and the connection
            is cut.
        Owns: the connection.
        """
        try:
            identity = identity_from_advertisement(self._advertisement)
            host, port = cluster_endpoint(self._advertisement)
        except ForwardingError as exc:
            # Dialling could not help; the leader has to advertise anew.
            self._fail(str(exc), LinkState.FAILED)
            await trio.sleep_forever()
        self._change(LinkState.CONNECTING)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._measure_own_delay)
                await self._keep_up(host, port, identity)
        finally:
            self._change(LinkState.NONE)

    async def _keep_up(self, host: str, port: int, identity: TenureIdentity) -> None:
        context: ssl.SSLContext | None = None
        failures = 0
        while True:
            context = context or self._make_context(identity)
            up_since: float | None = None
            if context is not None:
                up_since = await self._dial(host, port, identity, context)
            lasted_s = -math.inf if up_since is None else trio.current_time() - up_since
            if lasted_s >= self._timing.reconnect_max_s:
                # It was good: the next attempt follows at once.
                failures = 0
                continue
            await trio.sleep(self._pause_s(failures))
            failures += 1

    async def _measure_own_delay(self) -> None:
        """Take note of when this process does not run: its peers are not to blame for that."""
        while True:
            late_s = await self._attempts.measure_own(self._timing.heartbeat_s / 2)
            if self._session is not None:
                self._session.pulse.patience.observe_own(late_s)

    async def forward(self, request: HTTPRequest) -> HTTPResponse:
        """
        Send a request to the active node and return its answer.

        Raises:
            CannotForward: it was not executed and will not be.
            PayloadTooLarge: the channel does not take it; nothing was sent.
            ForwardingInterrupted: it may have been executed, or still be running.

        Cancellation: the active node is told to stop working on it, if it can still be reached.
        """
        session = self._session
        if session is None:
            raise CannotForward(
                f"no connection to the active node: {self.last_error or 'dialling'}"
            )
        if self.state is not LinkState.UP:
            raise CannotForward("the active node is silent")
        return await session.exchange(request)

    async def wait_idle(self) -> None:
        """Wait until no request is under way on the current connection."""
        if self._session is not None:
            await self._session.wait_idle()

    def _make_context(self, identity: TenureIdentity) -> ssl.SSLContext | None:
        try:
            return client_context(identity)
        except OSError as exc:
            # It takes a descriptor for a moment, and there may be none.
            # Our own trouble says nothing about the active node.
            self._fail(f"cannot prepare TLS: {exc.strerror or exc}".lower(), self.state)
            return None

    async def _dial(
        self, host: str, port: int, identity: TenureIdentity, context: ssl.SSLContext
    ) -> float | None:
        """Connect and stay connected as long as it lasts; returns since when it was up."""
        up_since: float | None = None
        began, stalled_s = trio.current_time(), self._attempts.stalled_s
        limit_s, doing = self._timing.handshake_s, "connecting"
        proves = True
        try:
            with trio.CancelScope(deadline=began + limit_s) as handshake:
                stream = await self._network.connect(host, port)
                limit_s, doing = self._attempts.handshake_max_s, "handshake"
                handshake.deadline = trio.current_time() + limit_s
                async with _closing(stream):
                    secure = await connect_tls(stream, context, identity)
                    async with open_transport(
                        secure, host=identity.name, limits=self._limits
                    ) as transport:
                        welcome = await self._greet(transport)
                        handshake.deadline = math.inf
                        up_since = trio.current_time()
                        self._attempts.succeeded(up_since - began)
                        await self._stay(transport, self._session_limits(welcome))
        except ConnectionRefusedError:
            self.refused_at = trio.current_time()
            self._fail("connection refused", LinkState.FAILED)
            return None
        except OSError as exc:
            cause = _system_cause(exc, host)
        except ForwardingError as exc:
            cause = str(exc)
        else:
            cause = f"{doing} timed out after {limit_s:.3g} s"
            if doing == "handshake":  # connecting is the kernel's, whatever a process does
                proves = self._attempts.ran_out(limit_s)
        if up_since is not None:
            self._fail(cause, LinkState.CONNECTING)  # the first moment after a good one
            return up_since
        verdict = self._attempts.verdict(began, limit_s=limit_s, stalled_s=stalled_s, proves=proves)
        self._fail(cause, verdict)
        return None

    async def _greet(self, transport: Transport) -> Welcome:
        hello = Hello(protocols=(PROTOCOL,), node=self._handler.node_info())
        transport.outbox.control(FrameKind.HELLO, 0, pack(hello))
        frames = await transport.receive()
        if frames and frames[0].kind == FrameKind.GOODBYE:
            raise ChannelBroken(_goodbye(frames[0]))
        if len(frames) != 1 or frames[0].kind != FrameKind.WELCOME:
            raise FrameError("the active node's first frame is not a welcome")
        welcome = unpack(frames[0].payload, Welcome)
        if welcome.protocol != PROTOCOL:
            raise FrameError(f"the active node chose protocol {welcome.protocol}")
        return welcome

    def _session_limits(self, welcome: Welcome) -> ChannelLimits:
        return replace(
            self._limits,
            head_bytes_max=min(self._limits.head_bytes_max, welcome.head_bytes_max),
            body_bytes_max=min(self._limits.body_bytes_max, welcome.body_bytes_max),
            in_flight_max=min(self._limits.in_flight_max, max(1, welcome.in_flight_max)),
        )

    async def _stay(self, transport: Transport, limits: ChannelLimits) -> None:
        """Be up until the connection ends, which raises."""
        session = StandbyCalls(transport, limits)
        cause = "this node has stopped using the channel"
        try:
            async with trio.open_nursery() as nursery:
                try:
                    self._session = session
                    self.refused_at = self.broken_at = None
                    self.last_error = ""
                    self._change(LinkState.UP)
                    nursery.start_soon(self._beat, session)
                    nursery.start_soon(self._watch_silence, session)
                    await self._read(transport, session, nursery)
                except (ChannelBroken, FrameError) as exc:
                    cause = str(exc)
                    if not session.parted:
                        self.broken_at = trio.current_time()
                    raise
                finally:
                    # Before anything else can wait: nobody may wait for a dead connection.
                    self._session = None
                    session.end(cause)
                    self._change(LinkState.CONNECTING)
        except BaseExceptionGroup as group:
            error = single_error(group)
            raise error from error.__cause__

    async def _read(
        self, transport: Transport, session: StandbyCalls, nursery: trio.Nursery
    ) -> None:
        while True:
            silence_max_s = SILENCE_FACTOR * self._quiet_s(session)
            with trio.move_on_after(silence_max_s) as silence:
                frames = await transport.receive()
            if silence.cancelled_caught:
                if trio.current_time() - silence.deadline > self._timing.heartbeat_s:
                    continue  # it was this process that did not run: listen again first
                raise ChannelBroken(f"the active node was silent for {silence_max_s:g} s")
            session.pulse.hear(trio.current_time())
            if self.state is LinkState.SUSPECT:
                self._change(LinkState.UP)
            for frame in frames:
                if frame.kind == FrameKind.NOTICE:
                    self._handler.leader_notice(unpack(frame.payload, LeaderNotice))
                elif frame.kind == FrameKind.PREPARE:
                    nursery.start_soon(self._prepare, session, frame.id)
                elif frame.kind == FrameKind.ECHO:
                    session.pulse.take_echo(trio.current_time())
                elif frame.kind == FrameKind.GOODBYE:
                    session.part(frame.payload.decode(errors="replace"))
                    raise ChannelBroken(_goodbye(frame))
                else:
                    session.handle(frame)

    async def _prepare(self, session: StandbyCalls, question_id: int) -> None:
        if session.preparing:
            reply = PrepareReply(ready=False, reason="already preparing")
        else:
            session.preparing = True
            try:
                reply = await self._handler.prepare()
            except BaohaError as exc:
                reply = PrepareReply(ready=False, reason=str(exc))
            finally:
                session.preparing = False
        session.outbox.control(FrameKind.PREPARED, question_id, pack(reply))

    async def _beat(self, session: StandbyCalls) -> None:
        while True:
            await trio.sleep(self._timing.heartbeat_s)
            # A peer that does not read needs no second heartbeat in the queue.
            if session.outbox.control_frames < _CONTROL_FRAMES_STUCK:
                session.outbox.control(FrameKind.HEARTBEAT, 0, pack(self._handler.node_info()))
                session.pulse.beat(trio.current_time())

    async def _watch_silence(self, session: StandbyCalls) -> None:
        while True:
            quiet_at = session.pulse.heard_at + self._quiet_s(session)
            await trio.sleep_until(quiet_at)
            now = trio.current_time()
            if now - quiet_at > self._timing.heartbeat_s:
                # It was this process that did not run: no verdict before it has listened again.
                session.pulse.hear(now)
            elif session.pulse.heard_at + self._quiet_s(session) <= now:
                self._change(LinkState.SUSPECT)
                await session.pulse.wait_heard()

    def _pause_s(self, failures: int) -> float:
        doubled_s = self._timing.reconnect_s * 2.0 ** min(failures, 30)
        ceiling_s = min(self._timing.reconnect_max_s, doubled_s)
        return ceiling_s * (0.5 + 0.5 * self._jitter())

    def _quiet_s(self, session: StandbyCalls) -> float:
        """Return for how long the active node may be silent without being suspect."""
        return session.pulse.patience.allow(self._timing.heartbeat_timeout_s)

    def _fail(self, cause: str, state: LinkState) -> None:
        """Note why there is no connection."""
        if cause != self.last_error:
            _logger.info("cluster link down cause=%s", cause)
        self.last_error = cause
        self._change(state)

    def _change(self, state: LinkState) -> None:
        if state is not self.state:
            self.state = state
            self._handler.link_changed()


@asynccontextmanager
async def _closing(stream: trio.abc.AsyncResource) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await trio.aclose_forcefully(stream)


def _goodbye(frame: Frame) -> str:
    return f"the active node closed the channel: {frame.payload.decode(errors='replace')}"


def _system_cause(error: OSError, host: str) -> str:
    if isinstance(error, socket.gaierror):
        return f"cannot resolve {host!r}"
    causes: list[BaseException] = [error]
    if isinstance(error.__cause__, ExceptionGroup):
        # trio: one error for each address of the name.
        causes = list(error.__cause__.exceptions)
    texts = {str(cause.strerror or cause) for cause in causes if isinstance(cause, OSError)}
    return ", ".join(sorted(texts)).lower()
