"""A data store that does one thing at a time: where a virtual clock has no CPU to be short of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from baoha.storage.base import Backend, Batch, Keys

T = TypeVar("T")


class BusyStore(Backend):
    """
    A store in front of another.

    Attributes:
        work_s: how long each call takes, one after the other. 0: as the other does.
    """

    def __init__(self, inner: Backend) -> None:
        self.name = inner.name
        self.capabilities = inner.capabilities
        self.work_s = 0.0
        self._inner = inner
        self._worker = trio.CapacityLimiter(1)

    async def get(self, key: str) -> bytes | None:
        return await self._in_turn(lambda: self._inner.get(key))

    async def list(self, prefix: str) -> Keys:
        return await self._in_turn(lambda: self._inner.list(prefix))

    async def list_page(self, prefix: str, after: str, limit: int) -> Keys:
        return await self._in_turn(lambda: self._inner.list_page(prefix, after, limit))

    async def apply(self, batch: Batch) -> None:
        await self._in_turn(lambda: self._inner.apply(batch))

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _in_turn(self, call: Callable[[], Awaitable[T]]) -> T:
        if not self.work_s:
            return await call()
        async with self._worker:
            await trio.sleep(self.work_s)
            return await call()
