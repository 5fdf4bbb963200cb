"""
Whole clusters in one process, on a virtual clock, replayable from a seed.

Rules of this file: the nodes are the real ``Node`` with the real API application, the real cluster
channel (TLS included) and the in-memory store behind its fault wrapper; only network, clock and
randomness are ours. A node's tasks carry its incarnation's name, so that a crash or a pause stops
every one of them between two steps, as a signal would.
"""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import trio

from baoha.api.app import build_app
from baoha.node import Node
from baoha.storage.faulty import Faults, FaultyStore
from baoha.storage.inmem import World
from baoha.timing import HATiming
from tests.support.busy_store import BusyStore
from tests.support.checkers import DataChecker, NodeChecker, StoreChecker, Verdict
from tests.support.memory_network import MemoryHub
from tests.support.node_settings import memory_settings
from tests.support.seeded import GROUP, Freezer

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
CALL_TIMEOUT_S = 20.0


class CallFailed(Exception):
    """A client's request got no answer. ``sent``: it may have been executed."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


@dataclass
class Answer:
    """What a client got."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass
class _Call:
    scope: dict[str, Any]
    body: bytes
    reply: trio.MemorySendChannel[Answer | CallFailed]


@dataclass
class SimNode:
    """One node's place in the world; each start is a new incarnation."""

    name: str
    faults: Faults = field(default_factory=Faults)
    drift: float = 0.0  # its boot clock runs faster by this share
    incarnation: int = 0
    node: Node | None = None
    paused: bool = False
    data: BusyStore | None = None
    calls: trio.MemorySendChannel[_Call] | None = None
    waiting: set[trio.MemorySendChannel[Answer | CallFailed]] = field(default_factory=set)

    @property
    def group(self) -> str:
        """The name its tasks carry."""
        return f"{self.name}#{self.incarnation}"

    @property
    def alive(self) -> bool:
        """Whether its process exists (it may be paused)."""
        return self.node is not None


class Simulation:
    """A cluster of nodes over one store, with verbs for what can happen to it."""

    def __init__(
        self, freezer: Freezer, nursery: trio.Nursery, *, seed: int, nodes: int, timing: HATiming
    ) -> None:
        self.random = random.Random(seed)
        self.timing = timing
        self.world = World()
        self.hub = MemoryHub()
        self.verdict = Verdict()
        self.store_checker = StoreChecker(self.verdict)
        self.world.observers.append(self.store_checker)
        self.node_checker = NodeChecker(self.verdict)
        self.data = DataChecker()
        self.nodes = [SimNode(name=f"n{index}") for index in range(nodes)]
        self.trace: list[str] = []
        self.token = ""
        self.shares: list[str] = []
        self._freezer = freezer
        self._nursery = nursery
        freezer.after_step = self._check_nodes

    # --- verbs -----------------------------------------------------------------------------------

    async def start(self, place: SimNode) -> None:
        """Start a process for this place."""
        place.incarnation += 1
        place.paused = False
        self.note(f"start {place.group}")
        await self._nursery.start(self._process, place)

    async def start_cluster(self) -> None:
        """Start all, initialise, unseal."""
        for place in self.nodes:
            await self.start(place)
        answer = await self.call(
            self.nodes[0], "POST", "/v1/sys/init", {"secret_shares": 1, "secret_threshold": 1}
        )
        assert answer.status == 200, answer
        self.token = answer.body["root_token"]
        self.shares = answer.body["keys"]
        for place in self.nodes:
            await self.unseal(place)

    async def unseal(self, place: SimNode) -> None:
        """Unseal one node."""
        answer = await self.call(place, "POST", "/v1/sys/unseal", {"key": self.shares[0]})
        assert answer.status == 200, answer
        assert not answer.body["sealed"]

    def crash(self, place: SimNode) -> None:
        """Kill -9: not one more step, its sockets are reset, its store session is gone."""
        assert place.node is not None
        self.note(f"crash {place.group}")
        identity = place.node.status().node_id
        self._freezer.freeze(place.group)
        place.node = None
        place.calls = None
        place.faults.unavailable = True  # what it still does while the run is torn down fails
        place.faults = Faults()
        self.store_checker.dead.add(identity)
        self.world.process_died(identity)
        self.hub.kill(place.name)
        for reply in list(place.waiting):
            reply.send_nowait(CallFailed("connection reset", sent=True))
        place.waiting.clear()

    async def restart(self, place: SimNode) -> None:
        """Start a crashed node again, and unseal it."""
        self.hub.revive(place.name)
        await self.start(place)
        try:
            with trio.fail_after(CALL_TIMEOUT_S):
                while place.node is not None and not place.node.status().initialized:
                    await place.node.wait_change(place.node.status())
            await self.unseal(place)
        except (CallFailed, trio.TooSlowError, AssertionError) as exc:
            self.note(f"{place.group} stays sealed: {exc}")

    def pause(self, place: SimNode) -> None:
        """SIGSTOP."""
        self.note(f"pause {place.group}")
        place.paused = True
        self._freezer.freeze(place.group)

    def resume(self, place: SimNode) -> None:
        """SIGCONT."""
        self.note(f"resume {place.group}")
        place.paused = False
        self._freezer.thaw(place.group)

    def suspend(self, place: SimNode, seconds: float) -> None:
        """Suspend the host: stopped as by SIGSTOP, and trio's clock stands still meanwhile."""
        self.pause(place)
        self._freezer.stop_clock(place.group, seconds)

    def note(self, line: str) -> None:
        """Add a line to the trace that a failing seed prints."""
        self.trace.append(f"{trio.current_time():9.3f} {line}")

    def heal(self) -> None:
        """End every fault but crashes."""
        self.note("heal")
        self.hub.heal()
        for place in self.nodes:
            place.faults.heal()
            if place.paused:
                self.resume(place)

    # --- clients ---------------------------------------------------------------------------------

    async def call(
        self,
        place: SimNode,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        client: str = "10.0.0.1",
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> Answer:
        """
        Make one HTTP request, with no retries and no redirects.

        Raises:
            CallFailed: no answer.
        """
        if place.calls is None:
            raise CallFailed("connection refused", sent=False)
        all_headers = {"x-vault-token": self.token, **(headers or {})}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(k.encode(), v.encode()) for k, v in all_headers.items()],
            "client": (client, 4000),
            "server": (place.name, 8200),
            "extensions": {},
            "state": {},
        }
        send, receive = trio.open_memory_channel[Answer | CallFailed](2)
        call = _Call(scope, b"" if body is None else json.dumps(body).encode(), send)
        place.waiting.add(send)
        try:
            with trio.move_on_after(timeout_s):
                await place.calls.send(call)
                result = await receive.receive()
                if isinstance(result, CallFailed):
                    raise result
                return result
        finally:
            place.waiting.discard(send)
        raise CallFailed("timed out", sent=True)

    # --- inside ----------------------------------------------------------------------------------

    async def _process(
        self, place: SimNode, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        GROUP.set(place.group)
        bytes_of = random.Random(f"{self.random.random()} {place.group}")
        backend = FaultyStore(self.world.open(place.group), place.faults)
        place.data = BusyStore(backend)
        node = Node(
            memory_settings(place.name, timing=self.timing),
            backend=place.data,
            ha_backend=backend,
            network=self.hub.network(place.name),
            boot_clock=lambda: trio.current_time() * (1 + place.drift),
            now=lambda: EPOCH + timedelta(seconds=trio.current_time()),
            random_bytes=bytes_of.randbytes,
        )
        app = build_app(node, park_s=self.timing.park_s)
        send, receive = trio.open_memory_channel[_Call](1000)
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            place.node = node
            place.calls = send
            task_status.started()
            async for call in receive:
                nursery.start_soon(self._serve, app, call)

    async def _serve(self, app: Callable[..., Awaitable[None]], call: _Call) -> None:
        body_sent = False
        start: dict[str, Any] = {}
        chunks: list[bytes] = []

        async def receive() -> dict[str, Any]:
            nonlocal body_sent
            if body_sent:
                await trio.sleep_forever()
            body_sent = True
            return {"type": "http.request", "body": call.body, "more_body": False}

        async def send(message: Any) -> None:
            await trio.lowlevel.checkpoint()
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                chunks.append(bytes(message.get("body", b"")))

        await app(call.scope, receive, send)
        text = b"".join(chunks)
        headers = {k.decode().lower(): v.decode() for k, v in start["headers"]}
        answer = Answer(start["status"], headers, json.loads(text) if text.strip() else None)
        try:
            call.reply.send_nowait(answer)
        except (trio.BrokenResourceError, trio.WouldBlock):
            self.note("an answer came after its client had gone")

    def _check_nodes(self) -> None:
        self.node_checker.check(
            (place.group, place.node) for place in self.nodes if place.node is not None
        )

    def describe(self) -> str:
        """Return the trace and where every node stands."""
        lines = list(self.trace)
        for place in self.nodes:
            state = "dead" if place.node is None else repr(place.node.status())
            lines.append(f"{place.group}: paused={place.paused} {state}")
        lines.append(f"epochs: {self.store_checker.epochs}")
        return "\n".join(lines)
