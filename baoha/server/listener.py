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
the app does not have, and takes its connection class from a module global. At the limit the
connection that has been without a request longest makes room for a new one: also one that has not
said anything yet, or only half of it, so that silence does not keep others waiting.

Source: ours; hypercorn 0.18.0 ``trio/run.py``; listener options of OpenBao 2.7.2.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import socket
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from baoha.errors import ConfigError
from baoha.sansio.messages import ListenerPolicy
from baoha.server.asgi import LISTENER_EXTENSION, ASGIApp
from baoha.server.connection import Limits, serve_connection, surroundings
from baoha.server.forwarded_for import ForwardedForSettings, with_forwarded_for
from baoha.server.response_headers import CustomHeaders, HeadersByStatus
from baoha.server.tls import ServerTLS, TLSSettings

logger = logging.getLogger("baoha.server.listener")

BACKLOG = 1024
# A full listener may turn away thousands of clients per second; its log line comes this often.
FULL_REPORT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """
    One ``listener`` block.

    Attributes:
        host, port: where a TCP listener binds; port 0 takes a free one.
        unix_path: the path of a unix socket; then host and port do not count.
        unix_mode: permission bits of the socket file; None leaves the umask's.
        unix_owner: user and group of the socket file, "" leaves them.
        response_headers: the operator's, by status.
        policy: travels with every request, see ``ListenerPolicy``.
        http2: speak HTTP/2 too. Off: it is slower here than HTTP/1.1, and more to attack.
        connections_max: open connections at one time.
        graceful_s: how long answers may take once the listener stops.
    """

    host: str = "127.0.0.1"
    port: int = 8200
    unix_path: str = ""
    unix_mode: int | None = None
    unix_owner: tuple[str, str] = ("", "")
    policy: ListenerPolicy = field(default_factory=ListenerPolicy)
    tls: TLSSettings | None = None
    forwarded_for: ForwardedForSettings | None = None
    limits: Limits = field(default_factory=Limits)
    response_headers: HeadersByStatus = field(default_factory=dict)
    http2: bool = False
    connections_max: int = 4096
    graceful_s: float = 3.0


class APIListener:
    """One listener: ``serve`` it in a nursery, ``stop`` it; ``tls`` reloads its certificate."""

    def __init__(self, app: ASGIApp, settings: ListenerSettings) -> None:
        """
        Prepare a listener; nothing is bound yet.

        Raises:
            ConfigError: its certificate cannot be loaded.
        """
        self.settings = settings
        self.address = ""  # what it is bound to, once it serves
        self.tls = ServerTLS(settings.tls) if settings.tls is not None else None
        self.headers = CustomHeaders(app, settings.response_headers)
        app = self.headers
        if settings.forwarded_for is not None:
            app = with_forwarded_for(app, settings.forwarded_for)
        self._around = surroundings(
            app, {LISTENER_EXTENSION: settings.policy}, settings.limits, http2=settings.http2
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
        listener, self.address = await _bind(self.settings)
        bounded = _BoundedListener(listener, self.settings.connections_max, self._crowd)
        try:
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    if self.tls is not None:
                        accepting.start_soon(self.tls.run_auto_reload)
                    with self._accepting:
                        task_status.started(self.address)
                        await trio.serve_listeners(
                            bounded.serving(self._serve_one),
                            [bounded],
                            handler_nursery=connections,
                        )
                    accepting.cancel_scope.cancel()
                await self._around.context.terminated.set()
                for connection in list(self._around.open):
                    connection.finish()
                connections.cancel_scope.deadline = trio.current_time() + self.settings.graceful_s
        finally:
            self.stopped.set()
            await trio.aclose_forcefully(listener)
            if self.settings.unix_path:
                Path(self.settings.unix_path).unlink(missing_ok=True)  # noqa: ASYNC240 - one call

    @property
    def open_connections(self) -> int:
        """The number of connections that are open now."""
        return len(self._around.open)

    def stop(self) -> None:
        """Stop accepting; ``serve`` returns when what is in flight has been answered."""
        self._accepting.cancel()

    async def _serve_one(self, stream: trio.SocketStream) -> None:
        if self.tls is None:
            await serve_connection(stream, self._around)
        else:
            # https_compatible: clients close without a TLS goodbye, and may.
            secured = trio.SSLStream(
                stream, self.tls.context, server_side=True, https_compatible=True
            )
            await serve_connection(secured, self._around)

    def _crowd(self, crowded: bool) -> None:
        """Make room for a client that waits: now if somebody is idle, else as soon as one is."""
        self._around.crowded = crowded
        oldest = next(iter(self._around.expendable), None)
        if crowded and oldest is not None:
            oldest.make_room()
        elif crowded and trio.current_time() >= self._full_reported_at + FULL_REPORT_S:
            self._full_reported_at = trio.current_time()
            logger.warning("listener is full: connections_max=%d", self.settings.connections_max)


async def serve_listener(
    app: ASGIApp,
    settings: ListenerSettings,
    *,
    shutdown: Callable[[], Awaitable[object]],
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Serve the app until ``shutdown()`` returns, then gracefully end. Reports the bound address.

    Raises:
        ConfigError: the certificate cannot be loaded or the address cannot be bound.
    """
    listener = APIListener(app, settings)
    async with trio.open_nursery() as nursery:
        task_status.started(await nursery.start(listener.serve))
        await shutdown()
        listener.stop()


class _BoundedListener(trio.abc.Listener[trio.SocketStream]):
    """Accepts only while fewer than ``connections_max`` are open."""

    def __init__(
        self, inner: trio.SocketListener, connections_max: int, crowd: Callable[[bool], None]
    ) -> None:
        self._inner = inner
        self._places = trio.Semaphore(connections_max)
        self._crowd = crowd

    async def accept(self) -> trio.SocketStream:
        """Wait for a client, then for a place."""
        # A client first: only if there is one, somebody else has to make room.
        await trio.lowlevel.wait_readable(self._inner.socket)
        if self._places.value == 0:
            self._crowd(True)
        await self._places.acquire()
        self._crowd(False)
        accepted = False
        try:
            stream = await self._inner.accept()
            accepted = True
            return stream
        finally:
            if not accepted:
                self._places.release()

    def serving(
        self, handler: Callable[[trio.SocketStream], Awaitable[None]]
    ) -> Callable[[trio.SocketStream], Awaitable[None]]:
        """Return the handler, giving the place back when it ends."""

        async def handle(stream: trio.SocketStream) -> None:
            try:
                await handler(stream)
            finally:
                self._places.release()

        return handle

    async def aclose(self) -> None:
        """Close the listening socket."""
        await self._inner.aclose()


async def _bind(settings: ListenerSettings) -> tuple[trio.SocketListener, str]:
    if settings.unix_path:
        return _bind_unix(settings), f"unix:{settings.unix_path}"
    where = f"{settings.host}:{settings.port}"
    try:
        # One address, one socket: the name of a host with several addresses binds the first.
        found = await trio.socket.getaddrinfo(
            settings.host or None,
            settings.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
        family, kind, protocol, _, address = found[0]
        sock = trio.socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"listen tcp {where}: {error.strerror or error}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and settings.host in ("", "::"):
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        await sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigError(f"listen tcp {where}: bind: {error.strerror}") from error
    bound = sock.getsockname()
    host = f"[{bound[0]}]" if family == socket.AF_INET6 else bound[0]
    return trio.SocketListener(sock), f"{host}:{bound[1]}"


def _bind_unix(settings: ListenerSettings) -> trio.SocketListener:
    path = settings.unix_path
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale_socket(path)
        sock.bind(path)
        # Permissions come first: nobody can connect before listen().
        user, group = settings.unix_owner
        if user:
            shutil.chown(path, user=user)
        if group:
            shutil.chown(path, group=group)
        if settings.unix_mode is not None:
            os.chmod(path, settings.unix_mode)
        sock.listen(BACKLOG)
    except (OSError, LookupError) as error:
        sock.close()
        cause = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"listen unix {path}: {cause}") from error
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


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
