"""
Conformance suites for engines: what a secret engine or auth method promises, as code to run.

Rules of this file:

1. The suites know a row and what clients can do, and nothing of any engine.
2. Everything happens in a server in memory, that has a second node to go on with.

It is shipped, as the suites for stores are: whoever writes an engine runs these, under ``trio.run``
or in a test. A failure is an ``AssertionError`` that says what was expected.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from baoha import names
from baoha.core.dispatch import Core
from baoha.core.engines.registry import engine_types
from baoha.core.framework.engine import Engine, EngineContext
from baoha.core.framework.engine_type import EngineType
from baoha.core.framework.mount_entry import AUTH_PATH, MountEntry, Table
from baoha.core.keys.barrier import Barrier
from baoha.core.request import Auth, Operation, Request, Response
from baoha.core.view import Member
from baoha.errors import RequestError
from baoha.sansio.crypto.keyring import create_keyring
from baoha.storage.inmem import World

_MOUNT: Final = "exercise/"
_LOOKUP: Final = "auth/token/lookup-self"


@dataclass(frozen=True, slots=True)
class Write:
    """A write below the mount."""

    path: str
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)


class _Clock:
    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.passed_s)

    def boot_s(self) -> float:
        return self.passed_s


class _Alone:
    def members(self) -> Sequence[Member]:
        return ()


class _Server:
    """The logical server of one node of a cluster in memory."""

    def __init__(self, row: EngineType, world: World, clock: _Clock) -> None:
        self.row = row
        self.world = world
        self.clock = clock
        self.store = world.open("exercise")
        self.barrier = Barrier(self.store, now=clock.now)
        self.core = Core(
            self.barrier,
            engine_types=lambda services: (
                *engine_types(services),
                replace(row, make=self._make),
            ),
            now=clock.now,
            boot_clock=clock.boot_s,
            sys_hooks=_Alone(),
        )
        self.root = ""
        self.uuid = ""
        self.engine: Engine | None = None
        self.table = "sys/auth" if row.table is Table.AUTH else "sys/mounts"
        self.place = f"{self.table}/{_MOUNT}".rstrip("/")
        self.mount = (AUTH_PATH if row.table is Table.AUTH else "") + _MOUNT

    def _make(self, entry: MountEntry, context: EngineContext) -> Engine:
        self.engine = self.row.make(entry, context)
        return self.engine

    @classmethod
    async def create(cls, row: EngineType) -> _Server:
        """Return the active node of a new cluster."""
        clock = _Clock()
        server = cls(row, World(), clock)
        server.barrier.open(create_keyring(os.urandom(32), os.urandom(32), clock.now()))
        server.barrier.begin_writes(None)
        async with server.barrier.transaction() as transaction:
            server.root = await server.core.populate(transaction)
        await server.core.load()
        return server

    async def next_node(self) -> _Server:
        """Return the node that becomes active after this one."""
        other = _Server(self.row, self.world, self.clock)
        other.barrier.open(self.barrier.keyring)
        other.barrier.begin_writes(None)
        other.root, other.uuid = self.root, self.uuid
        await other.core.load()
        return other

    async def call(
        self, operation: Operation, path: str, data: Any = None, *, token: str | None = None
    ) -> Response:
        return await self.core.handle(
            Request(
                id="exercise",
                operation=operation,
                path=path,
                data=data or {},
                token=self.root if token is None else token,
            )
        )

    async def write(self, path: str, data: Any = None, *, token: str | None = None) -> Response:
        return await self.call(Operation.UPDATE, path, data, token=token)

    async def is_refused(
        self, operation: Operation, path: str, data: Any = None, *, token: str | None = None
    ) -> bool:
        """Return whether a request is refused."""
        try:
            await self.call(operation, path, data, token=token)
        except RequestError:
            return True
        return False

    async def look_up(self, token: str) -> dict[str, Any]:
        """Return what a token says of itself; {} if it is none."""
        try:
            return (await self.call(Operation.READ, _LOOKUP, token=token)).data or {}
        except RequestError:
            return {}

    async def enable(self) -> None:
        """Enable the engine, and find it listed."""
        await self.write(self.place, {"type": self.row.name})
        listed = (await self.call(Operation.READ, self.table)).data or {}
        _expect(_MOUNT in listed, f"{self.table} does not list the mount")
        shown = listed[_MOUNT]["type"]
        _expect(shown == self.row.name, f"the mount is listed as {shown!r}, not {self.row.name!r}")
        self.uuid = listed[_MOUNT]["uuid"]

    async def disable(self) -> None:
        """Disable it, and find nothing left."""
        await self.call(Operation.DELETE, self.place)
        listed = (await self.call(Operation.READ, self.table)).data or {}
        _expect(_MOUNT not in listed, "a disabled mount is still listed")
        left = await self.barrier.list(f"{names.LOGICAL_PREFIX}{self.uuid}/")
        _expect(not left, f"a disabled mount leaves data: {left}")

    async def tick(self) -> None:
        """Let the engine tick; here its errors are not held back."""
        _expect(self.engine is not None, "no engine was made for the mount")
        assert self.engine is not None
        await self.engine.tick()


def _expect(is_so: bool, what: str) -> None:
    if not is_so:
        raise AssertionError(what)


async def exercise_secret_engine(
    row: EngineType, *, writes: Sequence[Write] = (), reads: Sequence[str] = ()
) -> None:
    """
    Prove that a secret engine is enabled, listed, ticks, goes on on another node, and is disabled.

    Args:
        writes: are carried out in their order, with the root token.
        reads: paths that can be read after the writes, with the same answer on any node.

    Raises:
        AssertionError: it does not.
    """
    first = await _Server.create(row)
    await first.enable()
    for one in writes:
        await first.write(first.mount + one.path, one.data)
    answers = [(await first.call(Operation.READ, first.mount + path)).data for path in reads]
    await first.tick()
    await first.tick()
    second = await first.next_node()
    await second.tick()
    for path, answer in zip(reads, answers, strict=True):
        found = (await second.call(Operation.READ, second.mount + path)).data
        _expect(found == answer, f"{path} is answered otherwise by the next active node")
    await second.disable()
    for path in reads:
        is_gone = await second.is_refused(Operation.READ, second.mount + path)
        _expect(is_gone, f"{path} is answered after the disabling")


async def exercise_auth_method(
    row: EngineType,
    *,
    login: Write,
    writes: Sequence[Write] = (),
    learn: Mapping[str, str] | None = None,
    refused: Write | None = None,
) -> None:
    """
    Prove that a client can log in, that its token works on any node, is renewed and revoked.

    Args:
        login: what the client sends, without a token.
        writes: are carried out before, with the root token.
        learn: fields of the login that stand in the answer of the last of these writes: the name
            there to the name here.
        refused: a login that is none.

    Raises:
        AssertionError: it cannot.
    """
    first = await _Server.create(row)
    await first.enable()
    known: dict[str, Any] = {}
    for one in writes:
        answer = (await first.write(first.mount + one.path, one.data)).data or {}
        known = {here: answer[there] for there, here in (learn or {}).items() if there in answer}
    sent = {**login.data, **known}
    if refused is not None:
        path = first.mount + refused.path
        is_refused = await first.is_refused(Operation.UPDATE, path, refused.data, token="")
        _expect(is_refused, "a login that should be refused is none")
    auth = await _log_in(first, login.path, sent)
    for server in (first, await first.next_node()):
        await _expect_usable(server, auth)
    second = await first.next_node()
    other = await _log_in(second, login.path, sent)
    await second.write("auth/token/revoke-self", token=auth.client_token)
    _expect(not await second.look_up(auth.client_token), "a revoked token can still be used")
    await second.tick()
    await second.disable()
    is_known = bool(await second.look_up(other.client_token))
    _expect(not is_known, "a token can be used after its auth method was disabled")


async def _log_in(server: _Server, path: str, data: Mapping[str, Any]) -> Auth:
    response = await server.write(server.mount + path, data, token="")
    _expect(response.auth is not None, f"{path} logs nobody in")
    assert response.auth is not None
    policies = response.auth.policies
    _expect("default" in policies, f"the token has no default policy, but {policies}")
    _expect(response.auth.lease_duration > 0, "the token has no end")
    return response.auth


async def _expect_usable(server: _Server, auth: Auth) -> None:
    path = (await server.look_up(auth.client_token)).get("path", "")
    _expect(path.startswith(server.mount), f"the token's path is {path}, not below {server.mount}")
    server.clock.passed_s += 1
    renewed = (await server.write("auth/token/renew-self", token=auth.client_token)).auth
    _expect(renewed is not None, "the token is not renewed")
    _expect(renewed is not None and renewed.lease_duration > 0, "the renewed token has ended")
