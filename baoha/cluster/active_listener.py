"""
The cluster listener: what the active node opens for its standbys.

Rules of this file:

1. A stranger can delay nobody: handshakes run side by side, each with a deadline, and their number
   is bounded.
2. Who belongs to the cluster cannot take all either: sessions are bounded, of each node and in all.
3. A request is executed only while the listener lives.

Each connection has two tasks. The *owner* is cancelled with the listener and holds the nursery of
the requests. The *carrier* does the handshake and then shields itself, because what was already
answered still has to leave; it never outlives its owner by more than ``cleanup_s``, because the
owner sets that deadline on its way out. The last frame is a GOODBYE: everything that is unanswered
by then was not executed and never will be, so a standby may send it elsewhere.

Source: ours; OpenBao's listener makes one handshake after the other (docs/spec/openbao-ha.md
section 11.22).
"""

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from baoha.cluster.active_session import ActiveSession
from baoha.cluster.certificates import TenureIdentity
from baoha.cluster.channel import Execute, Hello, Standbys, Welcome
from baoha.cluster.network import Network
from baoha.cluster.refused_log import RefusedLog, peer_address
from baoha.cluster.tls import TLSRefused, accept_tls, server_context
from baoha.cluster.transport import CLOSED_BY_PEER, ChannelBroken, Transport, open_transport
from baoha.sansio.wire.frames import PROTOCOL, ChannelLimits, FrameError, FrameKind, pack, unpack
from baoha.timing import PATIENCE_MAX, HATiming

# A standby that has been silent for so many heartbeat timeouts is let go; it will dial again.
SILENCE_FACTOR: Final = 4

_LEAVING: Final = "the active node stops its active duty"
_NODE_FULL: Final = "the node has too many sessions, this one was silent for the longest time"
_FULL: Final = "there are too many sessions"


async def serve_cluster(
    network: Network,
    host: str,
    port: int,
    identity: TenureIdentity,
    *,
    execute: Execute,
    standbys: Standbys,
    timing: HATiming,
    limits: ChannelLimits | None = None,
    wall_clock: Callable[[], float] = time.time,
    on_problem: Callable[[str, str], None] | None = None,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Serve standbys until cancelled; report the bound address.

    Args:
        execute: answers a request, in a task of its own.
        standbys: told who comes and goes.
        timing: uses handshake_s, heartbeat_s, heartbeat_timeout_s and cleanup_s (seconds).
        wall_clock: seconds since 1970, for the display of the last heartbeat only.
        on_problem: called with (address, cause) for every connection that was refused or broke.

    Raises:
        OSError: the address cannot be bound. Nothing was served.

    Cancellation: running requests are cancelled and reported as of unknown outcome, what was
        answered is sent, and every connection ends within ``cleanup_s``.
    Owns: the listening socket and every connection.
    """
    bounds = limits or ChannelLimits()
    service = _Service(
        identity=identity,
        context=server_context(identity),
        execute=execute,
        standbys=standbys,
        timing=timing,
        limits=bounds,
        pending=_Pending(bounds.pending_max, standbys.pending),
        sessions=_Sessions(bounds, timing),
        problems=RefusedLog(on_problem),
        wall_clock=wall_clock,
    )

    async def serve_stream(stream: trio.abc.Stream) -> None:
        await _Connection(stream, service).run()

    await network.serve(serve_stream, host, port, task_status=task_status)


class _Pending:
    """The connections that have not said hello. When there are too many, the oldest has to go."""

    def __init__(self, count_max: int, on_change: Callable[[int], None]) -> None:
        self._count_max = count_max
        self._on_change = on_change
        self._scopes: dict[trio.CancelScope, None] = {}

    def enter(self, scope: trio.CancelScope) -> None:
        """Take a place; the oldest connection loses its own when there is none left."""
        if len(self._scopes) >= self._count_max:
            oldest = next(iter(self._scopes))
            del self._scopes[oldest]
            oldest.cancel()
        self._scopes[scope] = None
        self._on_change(len(self._scopes))

    def leave(self, scope: trio.CancelScope) -> None:
        """Give the place back."""
        self._scopes.pop(scope, None)
        self._on_change(len(self._scopes))


class _Sessions:
    """
    The connections that have said hello, by the node that they say they come from.

    All standbys have the same certificate, so a node's name is a claim. One node makes room for
    itself: a standby that dials anew after a cut must get in, and its dead session, without
    heartbeats, is what goes. In all, who is heard stays and the newcomer is refused: else whoever
    makes up names would push out the standbys.
    """

    def __init__(self, limits: ChannelLimits, timing: HATiming) -> None:
        self._limits = limits
        self._timing = timing
        self._open: dict[_Connection, ActiveSession] = {}

    def make_room(self, node_id: str) -> bool:
        """Make room for one more session of a node. False: there is none."""
        own = [each for each, session in self._open.items() if session.info.node_id == node_id]
        if len(own) >= self._limits.node_sessions_max:
            self._dismiss(own, _NODE_FULL)
        elif len(self._open) >= self._limits.sessions_max:
            silent = [each for each, session in self._open.items() if self._is_silent(session)]
            if not silent:
                return False
            self._dismiss(silent, _FULL)
        return True

    def enter(self, connection: _Connection, session: ActiveSession) -> None:
        """Count a session; ``make_room`` has just said that it may come."""
        self._open[connection] = session

    def leave(self, connection: _Connection) -> None:
        """Count it no more, if it was counted."""
        self._open.pop(connection, None)

    def _is_silent(self, session: ActiveSession) -> bool:
        return session.echoed_s_ago >= session.patience.allow(self._timing.heartbeat_timeout_s)

    def _dismiss(self, candidates: list[_Connection], reason: str) -> None:
        longest = max(candidates, key=lambda each: self._open[each].echoed_s_ago)
        del self._open[longest]
        longest.dismiss(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Service:
    """What all connections of one listener share."""

    identity: TenureIdentity
    context: ssl.SSLContext
    execute: Execute
    standbys: Standbys
    timing: HATiming
    limits: ChannelLimits
    pending: _Pending
    sessions: _Sessions
    problems: RefusedLog
    wall_clock: Callable[[], float]

    @property
    def handshake_max_s(self) -> float:
        """
        The longest that a standby may want to wait for its handshake: whoever dials decides. On a
        machine without spare CPU time it takes long on both sides.
        """
        return PATIENCE_MAX * self.timing.handshake_s


class _Connection:
    """One accepted stream, from the first byte to the last."""

    def __init__(self, stream: trio.abc.Stream, service: _Service) -> None:
        self._stream = stream
        self._service = service
        self._address = peer_address(stream)
        self._carrier = trio.CancelScope()
        self._greeted = trio.Event()  # there is a session, or there will be none
        self._session: ActiveSession | None = None
        self._farewell = _LEAVING
        self._owner_left = False

    async def run(self) -> None:
        """Be the owner: run the requests of the session, if there comes to be one."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._carry)
            try:
                await self._greeted.wait()
                if self._session is not None:
                    await self._session.run_requests()
            finally:
                self._leave()

    def dismiss(self, reason: str) -> None:
        """End the session: its requests are cancelled, what was answered still leaves."""
        assert self._session is not None
        self._service.problems.report(self._address, f"closed: {reason}")
        self._farewell = reason
        self._session.end()

    def _leave(self) -> None:
        self._owner_left = True
        if self._session is None or self._session.is_stuck:
            self._carrier.cancel()
        else:
            self._session.finish(self._farewell)
            self._carrier.deadline = trio.current_time() + self._service.timing.cleanup_s

    async def _carry(self) -> None:
        """Be the carrier: handshake, then frames, until the connection or its owner ends."""
        self._carrier.deadline = trio.current_time() + self._service.handshake_max_s
        self._service.pending.enter(self._carrier)
        cause = ""
        try:
            with self._carrier:
                await self._carry_frames()
        except (TLSRefused, ChannelBroken) as exc:
            cause = str(exc)
        finally:
            self._service.pending.leave(self._carrier)
            self._service.sessions.leave(self)
            self._greeted.set()
            if self._session is not None:
                self._session.end()
        if self._carrier.cancelled_caught and not self._owner_left:
            cause = self._cancelled_cause()
        if cause == CLOSED_BY_PEER and self._session is not None:
            cause = ""  # a standby has left, which is told elsewhere
        if cause and not self._owner_left:
            self._service.problems.report(self._address, cause)

    def _cancelled_cause(self) -> str:
        if trio.current_time() < self._carrier.deadline:
            return "closed: too many connections are waiting for their handshake"
        return f"handshake timed out after {self._service.handshake_max_s:g} s"

    async def _carry_frames(self) -> None:
        service = self._service
        stream = await accept_tls(self._stream, service.context, service.identity)
        async with open_transport(stream, host=None, limits=service.limits) as transport:
            try:
                hello = await _receive_hello(transport)
            except FrameError as exc:
                await self._refuse(transport, f"protocol error: {exc}", str(exc))
                return
            if self._owner_left:
                return
            if not service.sessions.make_room(hello.node.node_id):
                await self._refuse(transport, f"refused: {_FULL}", _FULL)
                return
            transport.outbox.control(FrameKind.WELCOME, 0, pack(_welcome(service.limits)))
            # From here on the owner's end is what sets the deadline, see _leave.
            service.pending.leave(self._carrier)
            self._carrier.deadline = math.inf
            self._carrier.shield = True
            self._session = ActiveSession(
                transport,
                hello.node,
                service.execute,
                service.standbys,
                service.limits,
                service.wall_clock,
                heartbeat_s=service.timing.heartbeat_s,
            )
            service.sessions.enter(self, self._session)
            self._greeted.set()
            await self._session.accepting.wait()
            try:
                await self._read(transport, self._session)
            except FrameError as exc:
                # The owner cancels what runs, says what became of it, and then goodbye.
                service.problems.report(self._address, f"protocol error: {exc}")
                self._farewell = str(exc)
                self._session.end()
                await self._linger(transport)

    async def _read(self, transport: Transport, session: ActiveSession) -> None:
        while True:
            allowed_s = session.patience.allow(self._service.timing.heartbeat_timeout_s)
            silence_max_s = SILENCE_FACTOR * allowed_s
            with trio.move_on_after(silence_max_s) as silence:
                session.handle(await transport.receive())
            if silence.cancelled_caught:
                raise ChannelBroken(f"no heartbeat for {silence_max_s:g} s")

    async def _refuse(self, transport: Transport, cause: str, farewell: str) -> None:
        """Tell both sides why there is no session."""
        self._service.problems.report(self._address, cause)
        transport.outbox.finish(farewell.encode(errors="replace"))
        await self._linger(transport)

    async def _linger(self, transport: Transport) -> None:
        """Wait until the peer hangs up: closing with unread bytes would cut off our last words."""
        while True:
            try:
                await transport.receive()
            except FrameError:
                continue
            except ChannelBroken:
                return


def _welcome(limits: ChannelLimits) -> Welcome:
    return Welcome(
        protocol=PROTOCOL,
        head_bytes_max=limits.head_bytes_max,
        body_bytes_max=limits.body_bytes_max,
        in_flight_max=limits.in_flight_max,
    )


async def _receive_hello(transport: Transport) -> Hello:
    frames = await transport.receive()
    if not frames or frames[0].kind != FrameKind.HELLO:
        raise FrameError("the first frame is not a hello")
    if len(frames) > 1:
        raise FrameError("frames before the welcome")
    hello = unpack(frames[0].payload, Hello)
    if PROTOCOL not in hello.protocols:
        raise FrameError(f"none of the protocols {list(hello.protocols)} is known here")
    return hello
