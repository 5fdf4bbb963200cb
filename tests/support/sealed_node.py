"""
One node's barrier and seal over a store, without HA: for tests of the seal and of the keys.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime

from baoha.core.keys.barrier import Barrier, BarrierTransaction
from baoha.core.keys.seal import Seal
from baoha.core.view import InitParameters, InitResult
from baoha.sansio.crypto.seal_format import StaticSealKey
from baoha.storage.base import Backend, Batch, Fence
from baoha.storage.inmem import Observer, World

THREE_OF_FIVE = InitParameters(secret_shares=5, secret_threshold=3)
RECOVERY = InitParameters(
    secret_shares=0, secret_threshold=0, recovery_shares=3, recovery_threshold=2
)
STATIC = StaticSealKey("k1", b"K" * 32)


class Clock:
    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment


class SealedNode:
    """A barrier and a seal over a store, with seeded randomness."""

    def __init__(
        self,
        store: World | Backend,
        *,
        static_key: StaticSealKey | None = None,
        seed: int = 0,
        clock: Clock | None = None,
    ) -> None:
        backend = store.open() if isinstance(store, World) else store
        clock = clock or Clock()
        draw = random.Random(seed).randbytes
        self.barrier = Barrier(backend, random_bytes=draw, now=clock)
        self.seal = Seal(backend, self.barrier, static_key=static_key, random_bytes=draw, now=clock)

    async def initialize(
        self, parameters: InitParameters = THREE_OF_FIVE, *, fence: Fence | None = None
    ) -> InitResult:
        return await self.seal.initialize(parameters, populate=populate, fence=fence)

    async def unseal(self, shares: tuple[bytes, ...]) -> bool:
        opened = False
        for share in shares:
            opened = await self.seal.unseal(share)
        return opened


def populate(transaction: BarrierTransaction) -> str:
    transaction.put("core/mounts/x", b"mount")
    return "s.root"


async def opened_node(
    world: World, parameters: InitParameters = THREE_OF_FIVE
) -> tuple[SealedNode, InitResult]:
    node = SealedNode(world)
    result = await node.initialize(parameters)
    assert await node.unseal(result.shares[: parameters.secret_threshold])
    node.barrier.begin_writes(None)
    return node, result


class Watcher(Observer):
    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def applied(self, batch: Batch, fence: Fence | None) -> None:
        self.batches.append(batch)
