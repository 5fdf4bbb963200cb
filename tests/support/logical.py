"""A logical server over an in-memory store: no node, no HTTP, a clock that is set by hand."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from baoha.core.access.policies import PolicyStore
from baoha.core.access.tokens import TokenStore
from baoha.core.dispatch import Core
from baoha.core.engines.registry import engine_types
from baoha.core.framework.engine_type import EngineType
from baoha.core.framework.ttl import SYSTEM_TTLS, TTLs
from baoha.core.keys.barrier import Barrier
from baoha.core.mounts import MountStore
from baoha.core.request import Operation, Request, Response
from baoha.core.view import Member
from baoha.sansio.crypto.keyring import create_keyring
from baoha.storage.base import Backend
from baoha.storage.inmem import World

METHODS = {
    "GET": Operation.READ,
    "POST": Operation.UPDATE,
    "PUT": Operation.UPDATE,
    "PATCH": Operation.PATCH,
    "DELETE": Operation.DELETE,
    "LIST": Operation.LIST,
    "SCAN": Operation.SCAN,
}


class Clock:
    """A wall clock that moves only when told, and the boot clock beside it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)
        self.boot_s = 1000.0

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.boot_s += seconds
        self.jump(seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock alone."""
        self.now += timedelta(seconds=seconds)

    def boot(self) -> float:
        return self.boot_s


class FixedMembers:
    """What ``sys/`` needs of the node."""

    def __init__(self) -> None:
        self.rows: list[Member] = []

    def members(self) -> Sequence[Member]:
        return self.rows


class Logical:
    """An initialised, writable core and its root token."""

    def __init__(self, core: Core, barrier: Barrier, clock: Clock, hooks: FixedMembers) -> None:
        self.core = core
        self.barrier = barrier
        self.clock = clock
        self.hooks = hooks
        self.root = ""

    @property
    def mounts(self) -> MountStore:
        """The mounts of the core."""
        return self.core._mounts

    @property
    def tokens(self) -> TokenStore:
        """The tokens of the core."""
        return self.core._tokens

    @property
    def policies(self) -> PolicyStore:
        """The policies of the core."""
        return self.core._policies

    async def call(
        self,
        method: str,
        path: str,
        data: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
    ) -> Response:
        """Carry out one request; ``path`` may have a query."""
        path, _, query = path.partition("?")
        return await self.core.handle(
            Request(
                id="request",
                operation=METHODS[method],
                path=path,
                data=data or {},
                query=dict(part.split("=", 1) for part in query.split("&") if part),
                token=self.root if token is None else token,
            )
        )

    async def data(self, method: str, path: str, data: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Carry out one request and return its data."""
        response = await self.call(method, path, data, **kwargs)
        assert response.data is not None
        return response.data

    async def token(self, *policies: str, by: str | None = None, **fields: Any) -> str:
        """Make a token and return it."""
        asked = {"policies": list(policies), **fields}
        response = await self.call("POST", "auth/token/create", asked, token=by)
        assert response.auth is not None
        return response.auth.client_token


async def open_logical(
    backend: Backend | None = None,
    *,
    installed: Sequence[EngineType] = (),
    ttl: TTLs = SYSTEM_TTLS,
) -> Logical:
    """Return a new cluster's core."""
    clock, hooks = Clock(), FixedMembers()
    barrier = Barrier(backend or World().open(), now=clock)
    barrier.open(create_keyring(os.urandom(32), os.urandom(32), clock()))
    barrier.begin_writes(None)
    core = Core(
        barrier,
        engine_types=lambda services: (*engine_types(services), *installed),
        ttl=ttl,
        now=clock,
        boot_clock=clock.boot,
        sys_hooks=hooks,
    )
    logical = Logical(core, barrier, clock, hooks)
    async with barrier.transaction() as transaction:
        logical.root = await logical.core.populate(transaction)
    await logical.core.load()
    return logical


async def open_sibling(logical: Logical, backend: Backend) -> Logical:
    """Return a second core of the same cluster: another node, unsealed with the same keys."""
    barrier = Barrier(backend, now=logical.clock)
    barrier.open(logical.barrier.keyring)
    barrier.begin_writes(None)
    clock = logical.clock
    core = Core(
        barrier,
        engine_types=engine_types,
        now=clock,
        boot_clock=clock.boot,
        sys_hooks=logical.hooks,
    )
    sibling = Logical(core, barrier, logical.clock, logical.hooks)
    sibling.root = logical.root
    await core.load()
    return sibling
