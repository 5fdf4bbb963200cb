"""A store whose n-th call fails, before or after its effect: for "fail everywhere" sweeps."""

from __future__ import annotations

from collections.abc import Callable

from baoha.errors import StorageUnavailable
from baoha.storage.base import Backend, Batch, Keys


class FailingBackend(Backend):
    """
    Passes calls on to another store; the call with number ``fail_at`` (from 0) fails.

    Args:
        after: the call takes effect and its reply is lost; else it has no effect.
    """

    def __init__(self, inner: Backend) -> None:
        self.name = inner.name
        self.capabilities = inner.capabilities
        self.inner = inner
        self.calls = 0
        self.fail_at: int | None = None
        self.after = False

    def arm(self, fail_at: int | None, *, after: bool = False) -> None:
        """Count from zero again, and fail at this number."""
        self.calls, self.fail_at, self.after = 0, fail_at, after

    def _is_turn(self) -> bool:
        self.calls += 1
        return self.calls - 1 == self.fail_at

    async def get(self, key: str) -> bytes | None:
        if self._is_turn():
            raise StorageUnavailable("no answer")
        return await self.inner.get(key)

    async def list(self, prefix: str) -> Keys:
        if self._is_turn():
            raise StorageUnavailable("no answer")
        return await self.inner.list(prefix)

    async def list_page(self, prefix: str, after: str, limit: int) -> Keys:
        if self._is_turn():
            raise StorageUnavailable("no answer")
        return await self.inner.list_page(prefix, after, limit)

    async def apply(self, batch: Batch) -> None:
        if self._is_turn():
            if self.after:
                await self.inner.apply(batch)
            raise StorageUnavailable(
                "no answer", outcome="unknown" if self.after else "not_applied"
            )
        await self.inner.apply(batch)


class ToldOfListings(FailingBackend):
    """Says what was listed before the caller goes on."""

    told: Callable[[str], None] | None = None

    async def list(self, prefix: str) -> Keys:
        found = await super().list(prefix)
        if self.told is not None:
            self.told(prefix)
        return found
