"""
An API listener: a TCP address or a unix socket that serves the ASGI app.

Rules of this file:

1. Accepting is the only thing that stops at once. What is being answered is answered; idle
   connections are closed; after ``graceful_s`` the rest is cut.
2. A listener never takes more connections than ``connections_max``: the file descriptors that the
   store and the cluster channel need are not for strangers to use up.

Theory of operation. The shape is that of hypercorn's ``worker_serve``: a nursery of connections
around the accepting task, so that ending the inner one begins the graceful part. The worker itself
is not used, because it has no place for a guard (see connection.py), runs a lifespan protocol that
the app does not have, and takes its connection class from a module global. At the limit a
connection that waits for its client makes room for a new one: of the address with most connections
the one that has made no progress for the longest time. Whatever a stranger begins and does not end
(a handshake, a head, a body, the reading of an answer) therefore keeps nobody waiting. Connections
are accepted many at a time: one per turn of a busy event loop would let the backlog starve.

Source: ours; hypercorn 0.18.0 ``trio/run.py``; listener options of OpenBao 2.7.2.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import shutil
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import trio

from baoha.api.door import Door
from baoha.asgi import LISTENER_EXTENSION, ASGIApp
from baoha.config.model import ListenerConfig
from baoha.errors import ConfigError
from baoha.sansio.shares import Claim, client_address
from baoha.sansio.wire.messages import ListenerPolicy
from baoha.server.http.connection import Connection, serve_connection
from baoha.server.http.forwarded_for import with_forwarded_for
from baoha.server.http.intake import CROWD_PAUSE_S, NOTHING_YET, Opening
from baoha.server.http.limits import ListenerLimits
from baoha.server.http.listener_shared import ListenerShared, listener_shared
from baoha.server.http.response_headers import CustomHeaders
from baoha.server.http.tls import ServerTLS

logger = logging.getLogger("baoha.server.listener")

BACKLOG = 1024
# How long answers may take once the listener stops.
GRACEFUL_S = 3.0
# A full listener may turn away thousands of clients per second; its log line comes this often.
FULL_REPORT_S = 10.0
# As many of those that wait are taken before everybody else runs once.
# Each costs up to a millisecond until it waits for its client, a tenth if it is turned away.
TAKEN_PER_TURN = 16
ACCEPTS_PER_TURN = 128
# When descriptors or memory have run out. Source: trio, ``serve_listeners``.
DESCRIPTORS_PAUSE_S = 0.1
_NOBODY_WAITS = frozenset({errno.EAGAIN, errno.EWOULDBLOCK})
_NOTHING_LEFT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_LISTENER_IS_BROKEN = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EFAULT})
_NOBODY = Claim("")


class APIListener:
    """One listener: ``serve`` it in a nursery, ``stop`` it; ``tls`` reloads its certificate."""

    def __init__(
        self,
        app: ASGIApp,
        config: ListenerConfig,
        *,
        policy: ListenerPolicy | None = None,
        door: Door | None = None,
        limits: ListenerLimits | None = None,
        http2: bool = False,
        graceful_s: float = GRACEFUL_S,
    ) -> None:
        """
        Prepare a listener; nothing is bound yet.

        Args:
            policy: travels with every request, see ``ListenerPolicy``.
            door: refuses, in a crowd, before the app sees a request.
            limits: of a connection, beyond the configured ones.
            http2: speak HTTP/2 too. Off: it is slower here than HTTP/1.1, and more to attack.
            graceful_s: how long answers may take once the listener stops.

        Raises:
            ConfigError: its certificate cannot be loaded.
        """
        self.config = config
        self._graceful_s = graceful_s
        self.address = ""  # what it is bound to, once it serves
        self.tls = ServerTLS(config.tls) if config.tls is not None else None
        self.headers = CustomHeaders(app, config.custom_response_headers)
        app = self.headers
        if config.forwarded_for.is_on:
            app = with_forwarded_for(app, config.forwarded_for)
        self._shared = listener_shared(
            app,
            {LISTENER_EXTENSION: policy or ListenerPolicy()},
            config,
            limits or ListenerLimits(),
            http2=http2,
            # Behind a proxy the address of the connection says nothing about the client.
            door=None if config.forwarded_for.is_on else door,
            headers=self.headers,
        )
        self._accepting = trio.CancelScope()
        self._full_reported_at = -math.inf  # on trio's clock
        self.stopped = trio.Event()  # set when ``serve`` is over

    async def serve(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """
        Serve until ``stop``, then until the last answer is out or ``graceful_s`` has passed.

        Reports the bound address ("127.0.0.1:8200", "[::1]:8200" or "unix:/path").

        Raises:
            ConfigError: the address cannot be bound.

        Cancellation: the sockets are closed at once, answers in flight are lost.
        Owns: the listening socket and all connections; the file of a unix socket.
        """
        listener, self.address = await _bind(self.config)
        try:
            async with _running(self._shared), trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    if self.tls is not None:
                        accepting.start_soon(self.tls.run_auto_reload)
                    with self._accepting:
                        task_status.started(self.address)
                        await self._accept(listener, connections)
                    _close(listener)
                    accepting.cancel_scope.cancel()
                await self._shared.context.terminated.set()
                for connection in list(self._shared.open):
                    connection.finish()
                connections.cancel_scope.deadline = trio.current_time() + self._graceful_s
        finally:
            self.stopped.set()
            _close(listener)
            if self.config.type == "unix":
                Path(self.config.socket_path).unlink(missing_ok=True)  # noqa: ASYNC240 - one call

    @property
    def open_connections(self) -> int:
        """The number of connections that are open now."""
        return len(self._shared.open)

    def stop(self) -> None:
        """Stop accepting; ``serve`` returns when what is in flight has been answered."""
        self._accepting.cancel()

    async def _accept(self, listener: socket.socket, connections: trio.Nursery) -> None:
        is_pause_due = False
        while True:
            if is_pause_due:
                # Then somebody has nearly always come: no need to have trio ask.
                await trio.sleep(CROWD_PAUSE_S)
            else:
                await trio.lowlevel.wait_readable(listener)
            is_pause_due = await self._accept_batch(listener, connections)

    async def _accept_batch(self, listener: socket.socket, connections: trio.Nursery) -> bool:
        """Take some of those who wait; return whether a pause is due before the next batch."""
        is_crowded = self._shared.intake.is_crowded
        taken = seen = 0
        while seen < ACCEPTS_PER_TURN and taken < TAKEN_PER_TURN:
            cause = 0
            try:
                accepted, peer = listener.accept()
            except OSError as error:
                cause = error.errno or 0
                if cause in _LISTENER_IS_BROKEN:
                    raise
            if cause in _NOBODY_WAITS:
                break
            if cause in _NOTHING_LEFT:
                await self._wait_for_descriptors(os.strerror(cause))
                break
            seen += 1
            if cause:
                continue  # a client that is gone already
            claim = _claim(peer)
            opening = self._open(accepted, claim.address)
            if opening is None:
                continue
            taken += 1
            connection, is_placed = self._connection(accepted, claim.address, opening), False
            try:
                await self._find_place(connection, claim)
                is_placed = True
            finally:
                if not is_placed:
                    accepted.close()
            connections.start_soon(serve_connection, connection)
        return is_crowded and seen > 0 and taken < TAKEN_PER_TURN

    def _open(self, accepted: socket.socket, address: str) -> Opening | None:
        if self.tls is not None:
            return NOTHING_YET
        return self._shared.intake.open(accepted, address)

    async def _find_place(self, connection: Connection, claim: Claim) -> None:
        """Take a place, somebody else's if need be; wait only while all are being answered."""
        shared = self._shared
        while True:
            giving = shared.places.who_gives_way(connection, claim)
            busy = [other for other in giving or () if not other.is_expendable]
            if giving is not None and not busy:
                break
            for other in busy:
                shared.places.firm(other)
            if not busy:
                self._report(f"listener is full: connections_max={shared.places.capacity}")
                shared.changed = trio.Event()
                await shared.changed.wait()
        self._displace(giving)
        shared.places.enter(connection, claim)

    def _displace(self, giving: list[Connection]) -> None:
        for other in giving:
            self._shared.places.leave(other)
            other.make_room()

    async def _wait_for_descriptors(self, cause: str) -> None:
        """Let one connection go for the sake of the process, and leave it some time."""
        self._report(f"cannot accept connections: cause={cause!r}")
        waiting = (other for other in self._shared.open if other.is_expendable)
        self._displace(list(islice(waiting, 1)))
        await trio.sleep(DESCRIPTORS_PAUSE_S)

    def _report(self, what: str) -> None:
        now = trio.current_time()
        if now >= self._full_reported_at + FULL_REPORT_S:
            self._full_reported_at = now
            logger.warning("%s", what)

    def _connection(self, accepted: socket.socket, address: str, opening: Opening) -> Connection:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
        if self.tls is None:
            return Connection(stream, self._shared, address, opening)
        # https_compatible: clients close without a TLS goodbye, and may.
        secured = trio.SSLStream(stream, self.tls.context, server_side=True, https_compatible=True)
        return Connection(secured, self._shared, address)


async def serve_listener(
    app: ASGIApp,
    config: ListenerConfig,
    *,
    shutdown: Callable[[], Awaitable[object]],
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Serve the app until ``shutdown()`` returns, then gracefully end. Reports the bound address.

    Raises:
        ConfigError: the certificate cannot be loaded or the address cannot be bound.
    """
    listener = APIListener(app, config)
    async with trio.open_nursery() as nursery:
        task_status.started(await nursery.start(listener.serve))
        await shutdown()
        listener.stop()


@asynccontextmanager
async def _running(shared: ListenerShared) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shared.intake.turns.run)
        nursery.start_soon(shared.arrivals.run)
        yield
        nursery.cancel_scope.cancel()


def _close(listener: socket.socket) -> None:
    """Close a listening socket; once more does no harm."""
    if listener.fileno() >= 0:
        trio.lowlevel.notify_closing(listener)
        listener.close()


def _claim(peer: object) -> Claim:
    """Return the account of a client; all clients of a unix socket are one."""
    if not isinstance(peer, tuple):
        return _NOBODY
    host, port = peer[0], peer[1]
    return Claim(client_address(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"))


async def _bind(config: ListenerConfig) -> tuple[socket.socket, str]:
    if config.type == "unix":
        return _bind_unix(config), f"unix:{config.socket_path}"
    where = f"{config.host}:{config.port}"
    try:
        # One address, one socket: the name of a host with several addresses binds the first.
        found = await trio.socket.getaddrinfo(
            config.host or None,
            config.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
        family, kind, protocol, _, address = found[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"listen tcp {where}: {error.strerror or error}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and config.host in ("", "::"):
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ConfigError(f"listen tcp {where}: bind: {error.strerror}") from error
    bound = sock.getsockname()
    host = f"[{bound[0]}]" if family == socket.AF_INET6 else bound[0]
    return sock, f"{host}:{bound[1]}"


def _bind_unix(config: ListenerConfig) -> socket.socket:
    path = config.socket_path
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale_socket(path)
        sock.bind(path)
        # Permissions come first: nobody can connect before listen().
        user, group = (
            int(owner) if owner.isdecimal() else owner
            for owner in (config.socket_user, config.socket_group)
        )
        if user != "":
            shutil.chown(path, user=user)
        if group != "":
            shutil.chown(path, group=group)
        if config.socket_mode is not None:
            os.chmod(path, config.socket_mode)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except (OSError, LookupError) as error:
        if sock.getsockname():
            Path(path).unlink(missing_ok=True)
        sock.close()
        # "AF_UNIX path too long" comes without a number of the kernel's.
        cause = (error.strerror if isinstance(error, OSError) else None) or error
        raise ConfigError(f"listen unix {path}: {cause}") from error
    return sock


def _remove_stale_socket(path: str) -> None:
    """Remove the socket file of a process that is gone. One that answers is not touched."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
