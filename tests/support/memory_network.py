"""
A network of named hosts in memory: ``Network`` for simulations and tests on a virtual clock.

Rules of this file: no thread, no socket, no randomness, no real time; and a fault does what the
same fault does to TCP. What was sent but cannot arrive waits and arrives when the path heals; a
process that dies resets its connections, as far as the news can travel.

``MemoryHub.network(name)`` is the ``Network`` of one host. A path is blocked in one direction
(``block``): bytes, resets and connection attempts that need it hang. ``kill`` is the death of a
host's process: its ports refuse, its peers see a reset; ``revive`` lets a new process listen there.
A host that lost its power is ``isolate`` and nothing else: nobody tells the others.

Accepted streams are handled in the context of the task that listens, as a real process would: a
simulation that stops all tasks of a node finds them all.

Source: ours; stands in for ``baoha.cluster.network.TCPNetwork``.
"""

from __future__ import annotations

import errno
import operator
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass

import trio

from baoha.cluster.network import StreamHandler

# What one direction of a connection holds before the sender has to wait, as socket buffers do.
_WINDOW_BYTES = 262_144

# Linux gives up a connection attempt after about this long (tcp_syn_retries = 6).
_CONNECT_TIMEOUT_S = 127.0

_FIRST_FREE_PORT = 40_000


@dataclass(slots=True)
class _Listener:
    handler: StreamHandler
    nursery: trio.Nursery
    context: Context


class MemoryHub:
    """
    All hosts and the paths between them.

    Args:
        latency_s: how long every byte takes from host to host.

    Attributes:
        handler_errors: what handlers of accepted streams raised. A test asserts that it is empty.
    """

    def __init__(self, *, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self.handler_errors: list[Exception] = []
        self._hosts: dict[str, MemoryNetwork] = {}
        self._listeners: dict[tuple[str, int], _Listener] = {}
        self._pipes: list[_Pipe] = []
        self._blocked: dict[tuple[str, str], None] = {}
        self._dead: dict[str, None] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self._next_port = _FIRST_FREE_PORT

    def network(self, name: str) -> MemoryNetwork:
        """Return the network of one host, the same for the same name."""
        if name not in self._hosts:
            self._hosts[name] = MemoryNetwork(self, name)
        return self._hosts[name]

    def block(self, source: str, target: str) -> None:
        """Let nothing travel from ``source`` to ``target``. What has arrived stays arrived."""
        for pipe in self._pipes:
            pipe.deliver()
        self._blocked[source, target] = None

    def unblock(self, source: str, target: str) -> None:
        """Undo ``block``: what waited on the way arrives now."""
        self._blocked.pop((source, target), None)
        self._wake()

    def partition(self, left: set[str], right: set[str]) -> None:
        """Block both directions between two groups of hosts."""
        for one in sorted(left):
            for other in sorted(right):
                self.block(one, other)
                self.block(other, one)

    def isolate(self, name: str) -> None:
        """Block everything between one host and all others that exist now."""
        self.partition({name}, set(self._hosts) - {name})

    def heal(self) -> None:
        """Undo every ``block``."""
        self._blocked.clear()
        self._wake()

    def kill(self, name: str) -> None:
        """End a host's process: ports refuse from now on, connections are reset."""
        self._dead[name] = None
        for address in [address for address in self._listeners if address[0] == name]:
            del self._listeners[address]
        for pipe in list(self._pipes):
            if pipe.source == name:
                pipe.reset()
            elif pipe.target == name:
                pipe.stop_reading()
        self._wake()

    def revive(self, name: str) -> None:
        """Let a new process of this host listen."""
        self._dead.pop(name, None)

    def is_listening(self, name: str, port: int) -> bool:
        """Return whether somebody listens on a port."""
        return (name, port) in self._listeners

    def streams(self) -> int:
        """Return how many ends of connections are open, for tests that look for leaks."""
        return sum(not pipe.sender_closed for pipe in self._pipes)

    # --- for the streams and networks of this file ----------------------------------------------

    def is_blocked(self, source: str, target: str) -> bool:
        """Return whether nothing travels from ``source`` to ``target``."""
        return (source, target) in self._blocked

    async def dial(self, source: str, target: str, port: int) -> MemoryStream:
        """Connect as TCP would: hang, refuse or succeed."""
        await trio.lowlevel.checkpoint()
        if target not in self._hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        with trio.move_on_after(_CONNECT_TIMEOUT_S) as attempt:
            await self._wait_open(source, target)
            await trio.sleep(self.latency_s)
            await self._wait_open(target, source)
            await trio.sleep(self.latency_s)
        if attempt.cancelled_caught:
            raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")
        listener = self._listeners.get((target, port))
        if listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        there, back = _Pipe(self, source, target), _Pipe(self, target, source)
        self._pipes += [there, back]
        accepted = MemoryStream(back, there, peer_name=source)
        # A new task takes its context from whoever starts it, which must not be the dialler.
        listener.context.copy().run(
            listener.nursery.start_soon, self._handle, listener.handler, accepted
        )
        return MemoryStream(there, back, peer_name=f"{target}:{port}")

    async def listen(
        self,
        name: str,
        port: int,
        handler: StreamHandler,
        task_status: trio.TaskStatus[tuple[str, int]],
    ) -> None:
        """Accept connections until cancelled."""
        await trio.lowlevel.checkpoint()
        if port == 0:
            self._next_port += 1
            port = self._next_port
        if name in self._dead:
            raise OSError(errno.EADDRNOTAVAIL, "the process of this host was killed")
        if (name, port) in self._listeners:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        async with trio.open_nursery() as nursery:
            listener = _Listener(handler, nursery, copy_context())
            self._listeners[name, port] = listener
            try:
                task_status.started((name, port))
                await trio.sleep_forever()
            finally:
                if self._listeners.get((name, port)) is listener:
                    del self._listeners[name, port]

    def forget(self, pipe: _Pipe) -> None:
        """Drop a direction that both ends have closed."""
        if pipe.sender_closed and pipe.reader_closed and pipe in self._pipes:
            self._pipes.remove(pipe)

    async def _handle(self, handler: StreamHandler, stream: MemoryStream) -> None:
        try:
            await handler(stream)
        except Exception as exc:
            # As the contract says, one handler's error ends that stream only; tests look here.
            self.handler_errors.append(exc)
        finally:
            await trio.aclose_forcefully(stream)

    async def _wait_open(self, source: str, target: str) -> None:
        while self.is_blocked(source, target):
            await self._changed.park()

    def _wake(self) -> None:
        self._changed.unpark_all()
        for pipe in self._pipes:
            pipe.changed.unpark_all()


class MemoryNetwork:
    """The ``Network`` of one host."""

    def __init__(self, hub: MemoryHub, name: str) -> None:
        self.hub = hub
        self.name = name

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        """Open a stream to a port of a host, by its name."""
        return await self.hub.dial(self.name, host, port)

    async def check(self, host: str, port: int) -> None:
        """Return if a port of this host is free; ``host`` does not matter."""
        await trio.lowlevel.checkpoint()
        if self.hub.is_listening(self.name, port):
            raise OSError(errno.EADDRINUSE, "Address already in use")

    async def serve(
        self,
        handler: StreamHandler,
        host: str,
        port: int,
        *,
        task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept streams on a port of this host until cancelled; ``host`` does not matter."""
        await self.hub.listen(self.name, port, handler, task_status)


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection."""

    def __init__(self, outgoing: _Pipe, incoming: _Pipe, *, peer_name: str) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._closed = False
        self._busy: set[str] = set()
        self.peer_name = peer_name

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``; waits while the window is full."""
        with self._alone("sending"):
            await trio.lowlevel.checkpoint()
            view = memoryview(data)
            while True:
                self._check_open()
                view = self._outgoing.put(view)
                if not view:
                    return
                await self._outgoing.changed.park()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room in the window."""
        with self._alone("sending"):
            await trio.lowlevel.checkpoint()
            self._check_open()
            while self._outgoing.is_full():
                await self._outgoing.changed.park()
                self._check_open()

    async def send_eof(self) -> None:
        """Say that no more will be sent."""
        with self._alone("sending"):
            await trio.lowlevel.checkpoint()
            self._check_open()
            self._outgoing.end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive some bytes; b"" at the end."""
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be positive")
        with self._alone("receiving"):
            await trio.lowlevel.checkpoint()
            while True:
                self._check_open()
                data = self._incoming.get(max_bytes)
                if data is not None:
                    return data
                with trio.move_on_at(self._incoming.next_arrival_at()):
                    await self._incoming.changed.park()

    async def aclose(self) -> None:
        """Close both directions; the peer sees an end, and its sending breaks."""
        if not self._closed:
            self._closed = True
            self._outgoing.end()
            self._outgoing.sender_closed = True
            self._incoming.stop_reading()
            self._outgoing.hub.forget(self._outgoing)
            self._outgoing.hub.forget(self._incoming)
        await trio.lowlevel.checkpoint()

    @contextmanager
    def _alone(self, doing: str) -> Iterator[None]:
        if doing in self._busy:
            raise trio.BusyResourceError(f"another task is {doing} on this stream")
        self._busy.add(doing)
        try:
            yield
        finally:
            self._busy.remove(doing)

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this end was closed")


_END = b""  # in a pipe's queue: no more data


class _Pipe:
    """One direction of a connection."""

    def __init__(self, hub: MemoryHub, source: str, target: str) -> None:
        self.hub = hub
        self.source = source
        self.target = target
        self.changed = trio.lowlevel.ParkingLot()
        self.sender_closed = False
        self.reader_closed = False
        self._way: deque[tuple[float, bytes]] = deque()  # (arrives at, data)
        self._way_bytes = 0
        self._arrived = bytearray()
        self._ended = False  # the end was sent
        self._end_arrived = False
        self._was_reset = False

    def is_full(self) -> bool:
        """Return whether the sender has to wait."""
        return not self._is_broken() and self._way_bytes + len(self._arrived) >= _WINDOW_BYTES

    def put(self, data: memoryview) -> memoryview:
        """Take as much as the window allows; returns the rest."""
        if self._is_broken() or self._was_reset:
            raise trio.BrokenResourceError("connection reset by peer")
        if self._ended:
            raise trio.ClosedResourceError("the end was sent")
        room = _WINDOW_BYTES - self._way_bytes - len(self._arrived)
        taken = bytes(data[:room]) if room > 0 else b""
        if taken:
            self._way.append((trio.current_time() + self.hub.latency_s, taken))
            self._way_bytes += len(taken)
            self.changed.unpark_all()
        return data[len(taken) :]

    def end(self) -> None:
        """Send the end."""
        if not self._ended:
            self._ended = True
            self._way.append((trio.current_time() + self.hub.latency_s, _END))
            self.changed.unpark_all()

    def reset(self) -> None:
        """The sending process died: what it sent still arrives, then a reset."""
        self._was_reset = True
        self.sender_closed = True
        self.end()

    def stop_reading(self) -> None:
        """The reading end was closed: what is on the way is lost, and sending breaks."""
        self.reader_closed = True
        self.changed.unpark_all()

    def deliver(self) -> None:
        """Let everything arrive whose time has come, if the path is open."""
        if self.hub.is_blocked(self.source, self.target):
            return
        now = trio.current_time()
        while self._way and self._way[0][0] <= now:
            _at, data = self._way.popleft()
            if data:
                self._way_bytes -= len(data)
                self._arrived += data
            else:
                self._end_arrived = True

    def get(self, max_bytes: int | None) -> bytes | None:
        """Return what has arrived, b"" at the end, None when there is nothing yet."""
        self.deliver()
        if self._arrived:
            count = len(self._arrived) if max_bytes is None else max_bytes
            data = bytes(self._arrived[:count])
            del self._arrived[:count]
            self.changed.unpark_all()
            return data
        if not self._end_arrived:
            return None
        if self._was_reset:
            raise trio.BrokenResourceError("connection reset by peer") from ConnectionResetError(
                errno.ECONNRESET, "Connection reset by peer"
            )
        return b""

    def next_arrival_at(self) -> float:
        """Return when to look again, if nothing changes before."""
        if self._way and not self.hub.is_blocked(self.source, self.target):
            return self._way[0][0]
        return float("inf")

    def _is_broken(self) -> bool:
        # The news that the reader has closed travels the other way.
        return self.reader_closed and not self.hub.is_blocked(self.target, self.source)
