"""
Real nodes over one store in memory, on a virtual clock: what single moments are tested with.

Rule of this file: the nodes are the real ``Node``; data and locks may be given apart, each behind a
fault of its own.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import trio

from baoha.api.app import build_app
from baoha.core.view import InitParameters, Role
from baoha.errors import StorageUnavailable
from baoha.node import Node
from baoha.storage.base import (
    Backend,
    Batch,
    HABackend,
    Keys,
    LockRecord,
)
from baoha.storage.faulty import Faults, FaultyBackend
from baoha.storage.inmem import Observer, World
from tests.support.asgi_client import call
from tests.support.memory_network import MemoryHub
from tests.support.node_settings import memory_settings

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class LockLog(Observer):
    """Remembers when the HA lock was acquired, and by whom."""

    def __init__(self) -> None:
        self.acquired: list[tuple[float, str]] = []
        self.record: LockRecord | None = None
        self._epoch = 0

    def lock_changed(self, key: str, record: LockRecord | None, epoch: int) -> None:
        if epoch > self._epoch and record is not None:
            self.acquired.append((trio.current_time(), record.identity))
        self._epoch, self.record = epoch, record


class Lab:
    """Nodes over one store in memory, data and locks apart, on a virtual clock."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.world = World()
        self.hub = MemoryHub()
        self.locks = LockLog()
        self.world.observers.append(self.locks)
        self.shares: tuple[bytes, ...] = ()
        self.token = ""
        self.wall_jump_s = 0.0

    async def start(
        self,
        name: str,
        *,
        data: Backend | None = None,
        locks: HABackend | None = None,
        ha: bool = True,
    ) -> Node:
        store = self.world.open(name)
        node = Node(
            memory_settings(name),
            backend=data or store,
            ha_backend=(locks or store) if ha else None,
            network=self.hub.network(name),
            boot_clock=trio.current_time,
            now=lambda: EPOCH + timedelta(seconds=trio.current_time() + self.wall_jump_s),
            random_bytes=random.Random(name).randbytes,
        )
        await self.nursery.start(node.run)
        if not self.shares:
            result = await node.initialize(InitParameters(secret_shares=1, secret_threshold=1))
            self.shares, self.token = result.shares, result.root_token
        return node

    async def unseal(self, node: Node) -> None:
        await node.unseal(self.shares[0])

    async def active(self, name: str, *, ha: bool = True) -> Node:
        node = await self.start(name, ha=ha)
        await self.unseal(node)
        await until(node, Role.ACTIVE)
        return node

    async def call(
        self, node: Node, method: str, path: str, body: object = None, *, token: str = ""
    ) -> tuple[int, str]:
        """Make a request; returns status and body."""
        content = json.dumps(body).encode() if body is not None else b""
        headers = [("x-vault-token", token or self.token)]
        answer = await call(build_app(node), method, f"/v1/{path}", content, headers)
        assert answer is not None
        return answer.status, answer.body.decode()


async def until(node: Node, role: Role, limit_s: float = 30) -> None:
    with trio.fail_after(limit_s):
        while node.status().role is not role:
            await node.wait_change(node.status())


@asynccontextmanager
async def lab() -> AsyncIterator[Lab]:
    async with trio.open_nursery() as nursery:
        yield Lab(nursery)
        nursery.cancel_scope.cancel()


class MutinousBackend(FaultyBackend):
    """A data store whose reads below one prefix can be made to fail for one node."""

    prefix = ""
    writes_fail = False

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner, Faults())

    async def get(self, key: str) -> bytes | None:
        await self._check(key)
        return await super().get(key)

    async def list(self, prefix: str) -> Keys:
        await self._check(prefix)
        return await super().list(prefix)

    async def apply(self, batch: Batch) -> None:
        if self.writes_fail:
            await trio.lowlevel.checkpoint()
            raise StorageUnavailable("disk is full")
        await super().apply(batch)

    async def _check(self, key: str) -> None:
        if self.prefix and key.startswith(self.prefix):
            await trio.lowlevel.checkpoint()
            raise StorageUnavailable("no answer")


async def step_down(here: Lab, node: Node) -> int:
    status, _ = await here.call(node, "PUT", "sys/step-down")
    return status
