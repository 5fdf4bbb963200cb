"""
A small cluster for API tests: real nodes over one in-memory store, called without sockets.

Rule of this file: it brings nodes into the states that the recordings name, and nothing more.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import trio

from baoha.api.app import build_app
from baoha.asgi import ASGIApp
from baoha.core.framework.engine_type import EngineType
from baoha.core.keys.barrier import Barrier
from baoha.core.view import LinkState, Role
from baoha.node import Node
from baoha.sansio.wire.messages import HTTPResponse
from baoha.storage.inmem import World
from tests.support.asgi_client import call
from tests.support.memory_network import MemoryHub
from tests.support.node_settings import memory_settings

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
SHARES = 5
THRESHOLD = 3


@dataclass
class APINode:
    """One node and its application."""

    name: str
    node: Node
    app: ASGIApp

    @property
    def barrier(self) -> Barrier:
        """What the node stores, decrypted."""
        return self.node._barrier

    async def call(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
    ) -> HTTPResponse:
        answer = await call(self.app, method, target, body, headers)
        assert answer is not None, "no answer"
        return answer


@dataclass
class APICluster:
    """
    The nodes, and what was learned from them: shares and tokens by the recordings' names.

    Attributes:
        engines: the rows of installed engines.
    """

    nursery: trio.Nursery
    world: World = field(default_factory=World)
    hub: MemoryHub = field(default_factory=MemoryHub)
    nodes: list[APINode] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)
    engines: Sequence[EngineType] = ()

    async def add_node(self) -> APINode:
        """Start one more node."""
        name = f"n{len(self.nodes)}"
        backend = self.world.open(name)
        node = Node(
            replace(memory_settings(name), engines=self.engines),
            backend=backend,
            ha_backend=backend,
            network=self.hub.network(name),
            boot_clock=trio.current_time,
            now=lambda: EPOCH + timedelta(seconds=trio.current_time()),
            random_bytes=random.Random(name).randbytes,
        )
        await self.nursery.start(node.run)
        self.nodes.append(APINode(name, node, build_app(node)))
        return self.nodes[-1]

    async def initialize(self) -> None:
        """Initialise through the first node; it stays sealed."""
        body = {"secret_shares": SHARES, "secret_threshold": THRESHOLD}
        answer = await self.nodes[0].call("PUT", "/v1/sys/init", json.dumps(body).encode())
        assert answer.status == 200, answer.body
        self.learn(json.loads(answer.body))

    def learn(self, init: Mapping[str, Any]) -> None:
        """Remember what an initialisation has answered."""
        self.secrets["root"] = init["root_token"]
        for number, (hexadecimal, base64) in enumerate(
            zip(init["keys"], init["keys_base64"], strict=True), start=1
        ):
            self.secrets[f"key{number}"] = base64
            self.secrets[f"key{number}_hex"] = hexadecimal

    async def unseal(self, place: APINode) -> None:
        """Unseal one node."""
        await self.wait_initialized(place)
        for number in range(1, THRESHOLD + 1):
            body = json.dumps({"key": self.secrets[f"key{number}"]}).encode()
            answer = await place.call("PUT", "/v1/sys/unseal", body)
            assert answer.status == 200, answer.body

    async def wait_initialized(self, place: APINode) -> None:
        """Wait until a sealed node has noticed that the store is initialised."""
        with trio.fail_after(30):
            while not (status := place.node.status()).initialized:
                await place.node.wait_change(status)

    async def wait_role(self, place: APINode, role: Role) -> None:
        """Wait until a node is active, or a standby that forwards."""
        with trio.fail_after(60):
            while True:
                status = place.node.status()
                if status.role is role and (role is Role.ACTIVE or status.link is LinkState.UP):
                    return
                await place.node.wait_change(status)

    async def start(self, nodes: int) -> None:
        """Start, initialise and unseal; the first node becomes active, the others forward to it."""
        for _ in range(nodes):
            await self.add_node()
        await self.initialize()
        for index, place in enumerate(self.nodes):
            await self.unseal(place)
            await self.wait_role(place, Role.ACTIVE if index == 0 else Role.STANDBY)

    async def write(self, path: str, **fields: Any) -> dict[str, Any]:
        """Write through the active node with the root token."""
        answer = await self.nodes[0].call(
            "POST",
            f"/v1/{path}",
            json.dumps(fields).encode(),
            [("X-Vault-Token", self.secrets["root"])],
        )
        assert answer.status in (200, 204), (path, answer)
        return dict(json.loads(answer.body)) if answer.body else {}
